use super::{KeyProblem, TenantKeys};
use crate::{error::Result, platform::ids::TenantId};

impl TenantKeys {
    /// What is wrong with a tenant's keys: each version is opened by who wrapped it, past the memory. Changes nothing.
    pub async fn verify(&self, tenant: TenantId) -> Result<Vec<KeyProblem>> {
        let wanted = self.wanted_provider(tenant).await?;
        let Some(held) = self.held(tenant).await? else { return Ok(vec![KeyProblem::Missing]) };
        if held.ring.shredded_at.is_some() {
            return Ok(vec![KeyProblem::Destroyed]);
        }
        if held.ring.active_version == 0 {
            return Ok(vec![KeyProblem::Missing]);
        }
        let mut problems = Vec::new();
        let found = held.active()?.provider;
        if found != wanted {
            problems.push(KeyProblem::OtherProvider { wanted, found });
        }
        problems.extend(held.behind().map(|key| KeyProblem::Behind { version: key.version }));
        for key in &held.versions {
            if let Err(error) = self.unwrap(tenant, key.version).await {
                problems.push(KeyProblem::NotOpened { version: key.version, reason: error.to_string() });
            }
        }
        Ok(problems)
    }
}
