//! Operations on own roles.

use super::{
    Members,
    role::{self, MOST_ROLES, NewRole, OwnRole},
    role_store::{self, OwnRoles},
    store,
};
use crate::{
    access::Scope,
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    tenancy::Part as _,
};

impl Members {
    /// The tenant's own roles, by key.
    pub async fn own_roles(&self, scope: &TenantScope) -> Result<Vec<OwnRole>> {
        let tx = self.isolation.begin(scope).await?;
        let roles = OwnRoles::load(&tx, scope.tenant()).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(roles.0)
    }

    /// Sets a role, new or in place of the one with its key. Who has it may do what it allows from the answer on.
    pub async fn set_role(&self, scope: &TenantScope, wanted: NewRole, conditions: &Conditions) -> Result<OwnRole> {
        let scopes = wanted.check()?;
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let (known, now) = (role_store::lock(&tx).await?, tx.stamp().at);
        let before = known.iter().find(|role| role.key == wanted.key);
        conditions.check_version(before.map_or(0, |before| before.version))?;
        let touched = before.map(OwnRole::scopes).unwrap_or_default().union(scopes);
        role::check_reach(scope.caller().scopes, touched)?;
        if before.is_none() && known.len() >= MOST_ROLES {
            return Err(Error::conflict(format!("there are {MOST_ROLES} roles; delete one first")));
        }
        let role = OwnRole {
            key: wanted.key,
            description: wanted.description,
            scopes: scopes.iter().map(|scope| Scope::name(scope).to_owned()).collect(),
            version: before.map_or(1, |before| before.version + 1),
            created_at: before.map_or(now, |before| before.created_at),
            updated_at: now,
        };
        role_store::put(&tx, &role).await?;
        tx.keep_answer(conditions, &role).await?;
        tx.commit([Entry::new("RoleSet", "role", &role.key).change(before, Some(&role))?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(role)
    }

    /// Deletes a role that no member has.
    pub async fn delete_role(&self, scope: &TenantScope, key: &str, conditions: &Conditions) -> Result<OwnRole> {
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        let known = role_store::lock(&tx).await?;
        let role = known.into_iter().find(|role| role.key == key).ok_or_else(|| Error::not_found().at("key"))?;
        conditions.check_version(role.version)?;
        role::check_reach(scope.caller().scopes, role.scopes())?;
        let held = store::holding(&tx, key).await?;
        if held > 0 {
            let rule = "members have this role; give them another one first";
            return Err(Error::conflict(rule).at("key").with(serde_json::json!({ "members": held })));
        }
        role_store::delete(&tx, key).await?;
        tx.keep_answer(conditions, &role).await?;
        tx.commit([Entry::new("RoleDeleted", "role", key).change(Some(&role), None)?]).await?;
        self.tenancy.snapshots().refresh(scope.tenant()).await;
        Ok(role)
    }
}
