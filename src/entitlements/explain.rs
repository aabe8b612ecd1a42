//! Why: the ordered chain that led to a decision, and the journal entry behind each link.

use async_graphql::Enum;
use serde_json::{Map, Value};

use super::{
    Entitlements, Link,
    chain::{self, Chain},
    explain_flag,
    granting::check_feature,
    link::{Reader, Trail},
};
use crate::{
    audit,
    error::{Error, Result},
    isolation::{OperatorScope, TenantScope},
};

/// What a decision is about. A capability that decides something else adds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "AccessSubject")]
pub enum Subject {
    /// A feature, by the name that plans list it under.
    Feature,
    /// A feature flag, by its key.
    Flag,
    /// A quota, by its key.
    Quota,
    /// A region, by its name: whether the tenant may be there.
    Region,
    /// A resource, as `<kind>/<key>`.
    Resource,
    /// A scope: whether the tenant's services may get tokens for it.
    SignIn,
}

#[derive(Clone, Debug)]
pub struct Explanation {
    pub subject: Subject,
    pub key: String,
    pub allowed: bool,
    /// In the order in which they were looked at.
    pub links: Vec<Link>,
    /// `<tenant>.<platform>`: how far the two journals were.
    pub version: String,
}

impl Entitlements {
    /// `context` is OpenFeature's evaluation context, for a flag.
    pub async fn explain(
        &self,
        scope: &TenantScope,
        subject: Subject,
        key: &str,
        context: &Map<String, Value>,
    ) -> Result<Explanation> {
        let reader = if scope.caller().is_platform() { Reader::Operator } else { Reader::Service };
        if subject != Subject::Flag && !context.is_empty() {
            return Err(Error::invalid("context", "is for a FLAG alone"));
        }
        let view = self.view(scope.tenant()).await?;
        let mut version = view.version();
        let (allowed, drafts): Chain = match subject {
            Subject::Quota => {
                self.known_quota(key).await?;
                let reckoning = self.quotas.reckon(scope, Some(&[key.to_owned()])).await?;
                version = reckoning.version();
                let quota = reckoning.quotas.first().ok_or_else(Error::not_found)?;
                chain::of_quota(&reckoning, quota)?
            }
            Subject::Feature => {
                check_feature("key", key)?;
                chain::of_feature(&view, key)?
            }
            Subject::Resource => chain::of_resource(&view, view.resource("key", key)?)?,
            Subject::Region => chain::of_region(&view, key)?,
            Subject::SignIn => chain::of_sign_in(&view, key)?,
            Subject::Flag => {
                let flags = self.flags.view(scope.tenant()).await?;
                version = flags.version();
                explain_flag::of_flag(&view, &flags, explain_flag::Asked { key, context, reader })?
            }
        };
        let links = self.resolve(scope, drafts, reader).await?;
        Ok(Explanation { subject, key: key.to_owned(), allowed, links, version })
    }

    /// Finds the entry behind each link: one query of the tenant's journal, one of the platform's.
    async fn resolve(&self, scope: &TenantScope, drafts: Vec<super::link::Draft>, reader: Reader) -> Result<Vec<Link>> {
        let of_tenant = drafts.iter().filter_map(|draft| match &draft.trail {
            Trail::Tenant(sought) => Some(sought.clone()),
            _ => None,
        });
        let of_platform = drafts.iter().filter_map(|draft| match &draft.trail {
            Trail::Platform(sought) => Some(sought.clone()),
            _ => None,
        });
        let (of_tenant, of_platform): (Vec<_>, Vec<_>) = (of_tenant.collect(), of_platform.collect());
        let mut found_of_tenant =
            self.audit.origins(&audit::Chain::Tenant(scope.clone()), &of_tenant).await?.into_iter();
        // A service learns of the platform's entries when and by what kind of actor, never which they are.
        let platform = audit::Chain::Platform(OperatorScope::reading("explain-access"));
        let mut found_of_platform = self.audit.origins(&platform, &of_platform).await?.into_iter();
        let link = |draft: super::link::Draft| {
            let record = match draft.trail {
                Trail::Tenant(_) => found_of_tenant.next().flatten(),
                Trail::Platform(_) => found_of_platform.next().flatten(),
                Trail::Computed => None,
            };
            draft.with(record.as_ref(), reader)
        };
        Ok(drafts.into_iter().map(link).collect())
    }
}
