//! What a tenant's things are called: after its id, which never changes and is never used again.

use aws_lc_rs::digest;

use super::layer::Slot;
pub use crate::cells::{literal, quoted};
use crate::{cells, platform::ids::TenantId};

/// Small letters, digits and '_' alone, at most 36 characters: an identifier of PostgreSQL as it is, and quoted all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    tenant: TenantId,
    stem: String,
}

impl Names {
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant, stem: cells::stem(tenant) }
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Of schema, role and dedicated database: `t_` and the id's 32 digits.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Whose name this is, or begins with: a stem, a login, a key below a stem.
    pub fn owner(name: &str) -> Option<TenantId> {
        let digits = name.strip_prefix("t_")?.get(..32)?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| digits.parse().ok())?
    }

    /// The schema of the tenant's tables with vectors.
    pub fn vectors(&self) -> String {
        format!("{}_vectors", self.stem)
    }

    /// The tenant's graph. What Apache AGE has is listed for all who use it, so the name does not say whose it is; it follows
    /// from the tenant's id, so that it can be found without a record.
    pub fn graph(&self) -> String {
        let digest = digest::digest(&digest::SHA256, format!("tenantry graph of {}", self.tenant).as_bytes());
        let digits: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("g_{digits}")
    }

    /// A login of the tenant's services; there are two, so that one can be renewed while the other is in use.
    pub fn login(&self, slot: Slot) -> String {
        match slot {
            Slot::A => format!("{}_a", self.stem),
            Slot::B => format!("{}_b", self.stem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers() {
        let names = Names::of(TenantId::generate());
        let login = names.login(Slot::B);
        assert!(
            login.len() <= 63
                && login.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        );
        assert_ne!(names.login(Slot::A), login);
        assert_eq!(Names::owner(&login), Some(names.tenant()));
        assert_eq!(Names::owner(&format!("{}:key", names.stem())), Some(names.tenant()));
        assert!(names.vectors().starts_with(names.stem()) && names.vectors().len() <= 63);
        assert!(names.graph().len() == 34 && !names.graph().contains(&names.stem()[2..]));
        assert_ne!(names.graph(), Names::of(TenantId::generate()).graph());
        assert_eq!((Names::owner("t_"), Names::owner("admin")), (None, None));
    }
}
