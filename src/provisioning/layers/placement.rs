//! Which cell the tenant is on. All that is made in a cell stands on this.

use async_trait::async_trait;
use serde_json::{Map, json};

use super::super::{Ensured, Layer, Probed, Removed, Site, Verdict};
use crate::{
    cells::{Cells, residency},
    error::{Error, Kind, Result},
};

/// Chooses a cell, once; a tenant stays where it is until it is moved.
#[derive(Debug)]
pub struct PlacementLayer {
    cells: Cells,
}

impl PlacementLayer {
    pub fn new(cells: Cells) -> Self {
        Self { cells }
    }
}

#[async_trait]
impl Layer for PlacementLayer {
    fn name(&self) -> &'static str {
        "placement"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        if site.placement.is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![format!("put the tenant on cell {}", self.cells.preview(&site.tenant, &site.extensions).await?.reason)])
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let (placement, is_new) = self.cells.place(&site.tenant, site.names.stem(), &site.extensions).await?;
        let mut facts = Map::new();
        facts.insert("region".to_owned(), json!(placement.region));
        facts.insert("reason".to_owned(), json!(placement.reason));
        let changes = if is_new { vec![format!("put on cell {}", placement.reason)] } else { Vec::new() };
        Ok(Ensured { changes, facts })
    }

    /// A place in a region that is no longer allowed is no drift that could be mended here: the tenant must be moved.
    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let Some(placement) = &site.placement else {
            return Ok(Verdict::Drifted(vec!["the tenant has no place on a cell".to_owned()]));
        };
        let allowed = residency(&site.tenant);
        if allowed.contains(&placement.region) {
            return Ok(Verdict::InPlace);
        }
        let rule = format!("the tenant is in {}, and may be in {} only; move it", placement.region, allowed.join(", "));
        Err(Error::new(Kind::ResidencyViolation, rule))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        let was_there = self.cells.unplace(site.tenant.id).await?;
        Ok(Removed::of([("placements", u64::from(was_there))]))
    }

    fn probed(&self) -> Probed {
        Probed::Not("nothing of it is within reach of a tenant's service")
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        Ok(self
            .cells
            .find_placement(site.tenant.id)
            .await?
            .map(|_| "a place on a cell".to_owned())
            .into_iter()
            .collect())
    }
}
