//! A tenant's environment at a place that is not, or not any more, its own: what moves are made of.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Provisioning,
    layer::{Availability, Layer, Removed, Site, Slot, Verdict},
    names::Names,
    state::Observed,
    store,
};
use crate::{
    cells::{Cell, Placement},
    error::{Error, Kind, Result},
    platform::{db::Tx, ids::TenantId},
    tenancy::{Plan, Tenant},
};

/// The layers whose things are taken along, or made empty for what is taken along; all others are ensured by the reconciler where
/// the tenant has come to be.
const CARRIED: [&str; 5] = ["role", "database", "schema", "vectors", "graph"];
/// The layers that have a schema beside the tenant's own. Of one that this server does not make, things would be lost with the source: who has
/// some stays where it is.
const BESIDE: [&str; 2] = ["vectors", "graph"];

impl Provisioning {
    /// Where things of the tenant are at `placement`, whatever its own is.
    pub async fn site_at(&self, tenant: TenantId, placement: Placement) -> Result<Site> {
        let found = self.tenant(tenant).await?.ok_or_else(Error::not_found)?;
        let cell = self.cells().get(placement.cell_id).await?;
        let tenant = Arc::new(Tenant { isolation_tier: placement.tier, ..(*found).clone() });
        let names = Names::of(tenant.id);
        let extensions = self.extensions_of(&self.0.tenancy.plan(&tenant.plan).await?);
        let facts = serde_json::Map::new();
        Ok(Site { tenant, names, placement: Some(placement), cell: Some(cell), extensions, facts })
    }

    /// Makes roles, database and schemas at `site`, as empty as they are at first. What the cell has no extension for is left out, but for
    /// those that the tenant `uses`.
    pub async fn ensure_at(&self, site: &Site, uses: &[String]) -> Result<()> {
        for layer in self.carried(site) {
            if !can_be_at(layer, site, uses).await? {
                continue;
            }
            layer.ensure(site).await?;
            match layer.verify(site).await? {
                Verdict::InPlace | Verdict::Told(_) => {}
                Verdict::Drifted(left) => {
                    let rule = format!("it was made, and is not as it should be: {}", left.join("; "));
                    return Err(Error::new(Kind::Internal, rule));
                }
            }
        }
        Ok(())
    }

    /// Whether all that the tenant `uses` can be had at `site`, as far as is known before there is a database.
    ///
    /// Errors: `conflict` at `cell`.
    pub async fn check_can_be_at(&self, site: &Site, uses: &[String]) -> Result<()> {
        for layer in self.carried(site).into_iter().filter(|layer| layer.extension().is_some()) {
            can_be_at(layer, site, uses).await?;
        }
        Ok(())
    }

    /// Takes roles, database and schemas at `site` away, with all that is in them.
    pub async fn remove_at(&self, site: &Site) -> Result<Removed> {
        let mut total = Removed::default();
        for layer in self.carried(site).into_iter().rev() {
            for (kind, count) in layer.remove(site).await?.0 {
                *total.0.entry(kind).or_default() += count;
            }
        }
        Ok(total)
    }

    fn carried(&self, site: &Site) -> Vec<&Arc<dyn Layer>> {
        let serves = |layer: &&Arc<dyn Layer>| layer.serves(site.tenant.isolation_tier);
        self.layers().iter().filter(|layer| CARRIED.contains(&layer.name())).filter(serves).collect()
    }

    /// Refuses a tenant that has, as far as was seen, what a move would leave behind. The cell itself knows for certain: see
    /// [`Provisioning::left_behind`].
    ///
    /// Errors: `conflict` at `tenantId`.
    pub async fn check_nothing_is_left_behind(&self, tx: &Tx, tenant: TenantId) -> Result<()> {
        let records = store::records(tx, tenant).await?;
        let is_there = |observed| matches!(observed, Observed::Present | Observed::Drifted);
        let left = self.left();
        if records.iter().any(|record| left.contains(&record.layer.as_str()) && is_there(record.observed)) {
            return Err(Self::would_be_lost());
        }
        Ok(())
    }

    /// The schemas that are left behind where the tenant has them, whatever was written down of its layers.
    pub fn left_behind(&self, tenant: TenantId) -> Vec<String> {
        let names = Names::of(tenant);
        let schema = |layer| if layer == "vectors" { names.vectors() } else { names.graph() };
        self.left().into_iter().map(schema).collect()
    }

    fn left(&self) -> Vec<&'static str> {
        let is_made = |name: &str| self.layers().iter().any(|layer| layer.name() == name);
        BESIDE.into_iter().filter(|name| !is_made(name)).collect()
    }

    pub fn would_be_lost() -> Error {
        let rule = "the tenant has vectors or a graph in its cell, and `provisioning.layers` of this server has not, so a move would lose them";
        Error::conflict(rule).at("tenantId")
    }

    /// Lets in at `site` whoever has a credential of the tenant's PostgreSQL that is still good.
    pub async fn let_in_at(&self, site: &Site) -> Result<()> {
        for layer in self.layers().iter().filter(|layer| layer.name() == CARRIED[0]) {
            self.reinstate(site, layer).await?;
        }
        Ok(())
    }

    /// The tenant is at `cell` now: credentials name that address, and all layers that its tier has are looked at there.
    pub async fn follow(
        &self,
        tx: &Tx,
        (placement, plan): (&Placement, &Plan),
        cell: &Cell,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let lost: Vec<_> = self
            .layers()
            .iter()
            .filter(|layer| !layer.serves(placement.tier))
            .map(|layer| layer.name().to_owned())
            .collect();
        let carried =
            self.layers().iter().filter(|layer| CARRIED.contains(&layer.name()) && layer.serves(placement.tier));
        for layer in carried {
            let known = (layer.name(), self.is_essential(&**layer, plan));
            store::add_record(tx, placement.tenant_id, known, now).await?;
        }
        store::readdress(tx, placement, cell).await?;
        store::look_anew(tx, placement.tenant_id, &lost, now).await
    }

    /// The login of a slot, for who must name it.
    pub fn logins(tenant: TenantId) -> [String; 2] {
        let names = Names::of(tenant);
        [names.login(Slot::A), names.login(Slot::B)]
    }
}

/// Errors: `conflict` at `cell` where the tenant uses what the cell has not.
async fn can_be_at(layer: &Arc<dyn Layer>, site: &Site, uses: &[String]) -> Result<bool> {
    let Availability::NotHere(why) = layer.availability(site).await? else { return Ok(true) };
    match layer.extension().filter(|extension| uses.iter().any(|used| used == extension)) {
        Some(extension) => Err(Error::conflict(format!("the tenant uses {extension}: {why}")).at("cell")),
        None => Ok(false),
    }
}
