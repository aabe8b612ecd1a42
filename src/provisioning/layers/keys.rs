//! The tenant's data keys: what its secrets are sealed with. Taken away, they are destroyed, and nothing that they sealed opens
//! again; so they are made once in a tenant's life.

use async_trait::async_trait;
use serde_json::{Map, json};

use super::super::{Ensured, Layer, Probe, ProbeTenant, Probed, Removed, Site, Verdict};
use crate::{
    error::{Error, Kind, Result},
    isolation::Attempt,
    tenant_keys::{KeyProblem, TenantKeys},
};

#[derive(Debug)]
pub struct KeysLayer {
    keys: TenantKeys,
}

impl KeysLayer {
    pub fn new(keys: TenantKeys) -> Self {
        Self { keys }
    }

    async fn is_made(&self, site: &Site) -> Result<bool> {
        let standing = self.keys.standing_of(site.tenant.id).await?;
        Ok(standing.is_some_and(|standing| standing.version > 0 && standing.shredded_at.is_none()))
    }
}

#[async_trait]
impl Layer for KeysLayer {
    fn name(&self) -> &'static str {
        "keys"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        Ok(if self.is_made(site).await? { Vec::new() } else { vec!["make the tenant's data key".to_owned()] })
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let was_made = self.is_made(site).await?;
        self.keys.ensure(site.tenant.id).await?;
        let changes = if was_made { Vec::new() } else { vec!["made the tenant's data key".to_owned()] };
        let mut facts = Map::new();
        if let Some(standing) = self.keys.standing_of(site.tenant.id).await? {
            facts.insert("wrappedBy".to_owned(), json!(standing.provider));
        }
        Ok(Ensured { changes, facts })
    }

    /// Every version is opened by who wrapped it. What a rotation has not come to yet is told: the schedule goes on with it.
    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let (mut missing, mut told) = (Vec::new(), Vec::new());
        for problem in self.keys.verify(site.tenant.id).await? {
            match problem {
                KeyProblem::Missing => missing.push("make the tenant's data key".to_owned()),
                KeyProblem::OtherProvider { .. } | KeyProblem::Behind { .. } => told.push(problem.to_string()),
                KeyProblem::Destroyed => return Err(Error::new(Kind::NotFound, problem.to_string())),
                KeyProblem::NotOpened { .. } => return Err(Error::new(Kind::Unavailable, problem.to_string())),
            }
        }
        Ok(if missing.is_empty() && !told.is_empty() { Verdict::Told(told) } else { Verdict::of(missing) })
    }

    /// Crypto-shredding. What has been destroyed before is not counted again.
    async fn remove(&self, site: &Site) -> Result<Removed> {
        let is_news = self.is_made(site).await?;
        if self.keys.standing_of(site.tenant.id).await?.is_none() {
            return Ok(Removed::default());
        }
        let shredded = self.keys.shred(site.tenant.id).await?;
        let counts = [("data keys", shredded.data_keys as u64), ("wrapping keys", shredded.wrapping_keys as u64)];
        Ok(if is_news { Removed::of(counts) } else { Removed::default() })
    }

    fn probed(&self) -> Probed {
        Probed::Unmade
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        Ok(self.keys.try_across(intruder.site.tenant.id, victim.site.tenant.id).await)
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let opens = self.is_made(site).await?;
        Ok(opens.then(|| "data keys that open".to_owned()).into_iter().collect())
    }

    /// One of the providers that fails is enough: it holds back tenants of some tier.
    async fn probe(&self) -> Result<Probe> {
        let failing: Vec<_> = self
            .keys
            .providers()
            .into_iter()
            .filter_map(|(provider, outage)| outage.map(|outage| format!("{}: {}", provider.name(), outage.reason)))
            .collect();
        if failing.is_empty() {
            return Ok(Probe::Alive { mark: String::new() });
        }
        Err(Error::new(Kind::Unavailable, format!("keys of tenants cannot be opened at {}", failing.join("; "))))
    }
}
