//! What is signed about one tenant's isolation, and when it is not.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{
    Probes,
    report::{LayerProbe, ProbesReport, REGISTRY},
};
use crate::{
    cells::{Cell, Placement},
    error::{Error, Kind, Result},
    isolation::{Outcome, TenantScope, rules},
    platform::ids::TenantId,
    provisioning::{Layer, Observed, Probed, Record},
    tenancy::IsolationTier,
};

/// The `typ` of the signed statement: no verifier of access tokens takes it.
const TYPE: &str = "isolation-attestation+jwt";

/// What is known of a tenant when a statement about it is asked for.
struct Known {
    tenant: TenantId,
    tier: IsolationTier,
    home: Option<(Placement, Arc<Cell>)>,
    records: Vec<Record>,
    report: ProbesReport,
}

impl Probes {
    /// A statement about the tenant, signed with the key that signs tokens.
    ///
    /// Errors: `unavailable` with what is missing.
    pub async fn attest(&self, scope: &TenantScope) -> Result<String> {
        let known = self.know(scope).await?;
        self.check(&known)?;
        // Of the time of what it stands on, so that asking again makes nothing younger.
        let since = known.report.ran_at.unwrap_or_else(|| self.0.isolation.clock().now());
        let life = TimeDelta::from_std(self.0.rules.attestation_ttl).unwrap_or(TimeDelta::MAX);
        let statement = known.statement(self.0.keyring.issuer(), (since, since + life));
        self.0.keyring.sign_statement(TYPE, &statement)
    }

    async fn know(&self, scope: &TenantScope) -> Result<Known> {
        let tenant = scope.tenant();
        let site = self.0.provisioning.site_of(tenant).await?;
        Ok(Known {
            tenant,
            tier: site.tenant.isolation_tier,
            home: site.placement.zip(site.cell),
            records: self.0.provisioning.records(scope).await?,
            report: self.last().await?,
        })
    }

    fn check(&self, known: &Known) -> Result<()> {
        let missing = |what: String| Err(Error::new(Kind::Unavailable, format!("nothing can be attested now: {what}")));
        let report = &known.report;
        if report.ran_at.is_none() {
            return missing("the probes have not run yet; `verifyIsolation` runs them".to_owned());
        }
        if report.stale {
            return missing("the probes ran too long ago; `verifyIsolation` runs them".to_owned());
        }
        if report.findings > 0 {
            return missing(format!("the registry breaks {} rules; `isolationReport` names them", report.findings));
        }
        if self.0.provisioning.is_on() && known.home.is_none() {
            return missing("the tenant has no place yet".to_owned());
        }
        for (layer, place) in self.needed(known) {
            match known.probe(layer, &place) {
                Some(probe) if probe.outcome == Outcome::Refused => {}
                Some(probe) if probe.outcome == Outcome::LetThrough => {
                    return missing(format!("on the layer {layer} one tenant reached another's things"));
                }
                Some(_) => {
                    return missing(format!("on the layer {layer} it could not be shown; see `isolationReport`"));
                }
                None => return missing(format!("the layer {layer} was not tried where the tenant is")),
            }
        }
        let made = |record: &&Record| self.0.provisioning.layers().iter().any(|layer| layer.name() == record.layer);
        let is_missing = |record: &&Record| record.essential && record.observed != Observed::Present;
        match known.records.iter().filter(made).find(is_missing) {
            Some(record) => missing(format!("the tenant's layer {} is not as it should be", record.layer)),
            None => Ok(()),
        }
    }

    /// What a tenant's separation stands on: layer and place.
    fn needed<'a>(&'a self, known: &'a Known) -> impl Iterator<Item = (&'a str, String)> {
        // A layer of an extension is needed where the tenant has it.
        let has = |layer: &Arc<dyn Layer>| layer.extension().is_none() || known.has(layer.name());
        let layers = self.0.provisioning.layers().iter().filter(move |layer| layer.serves(known.tier) && has(layer));
        let of_layer = |layer: &'a Arc<dyn Layer>| match layer.probed() {
            Probed::InCells => Some((layer.name(), known.home.as_ref().map(|(_, cell)| cell.id.to_string())?)),
            Probed::ByItself | Probed::Unmade => Some((layer.name(), String::new())),
            Probed::With(_) | Probed::Not(_) => None,
        };
        std::iter::once((REGISTRY, REGISTRY.to_owned())).chain(layers.filter_map(of_layer))
    }
}

impl Known {
    fn has(&self, layer: &str) -> bool {
        self.records.iter().any(|record| record.layer == layer && record.observed == Observed::Present)
    }

    fn probe(&self, layer: &str, place: &str) -> Option<&LayerProbe> {
        self.report.layers.iter().find(|probe| probe.layer == layer && probe.place == place)
    }

    fn statement(&self, issuer: &str, (since, end): (DateTime<Utc>, DateTime<Utc>)) -> Value {
        let rules: Vec<_> = rules().iter().map(|rule| rule.id).collect();
        let layers: Vec<_> = self
            .records
            .iter()
            .map(|record| json!({ "layer": record.layer, "observed": record.observed, "verifiedAt": record.verified_at }))
            .collect();
        let home = self.home.as_ref().map(|(_, cell)| cell.id.to_string());
        let here = |probe: &&LayerProbe| {
            probe.place.is_empty() || probe.place == REGISTRY || Some(&probe.place) == home.as_ref()
        };
        let tried = self.report.layers.iter().filter(here).filter(|probe| probe.outcome != Outcome::NotHere);
        let probes = tried.map(|probe| {
            json!({ "layer": probe.layer, "outcome": probe.outcome, "attempts": probe.attempts.0.len(), "at": probe.at })
        });
        let cell = self.home.as_ref().map(|(_, cell)| json!({ "name": cell.name, "region": cell.region }));
        json!({
            "iss": issuer, "sub": self.tenant, "iat": since.timestamp(), "exp": end.timestamp(),
            "tier": self.tier, "cell": cell,
            "catalogue": { "checkedAt": self.report.ran_at, "findings": self.report.findings, "rules": rules },
            "layers": layers, "probes": probes.collect::<Vec<_>>(), "ranAt": self.report.ran_at,
        })
    }
}
