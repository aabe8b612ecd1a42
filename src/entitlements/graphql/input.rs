//! What the operations on entitlements take.

use async_graphql::{ID, InputObject, Json};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    entitlements::{DefaultAccess, NewGrant, NewPlanList, NewResource, NewResourceKind, Subject},
    grants::Kind,
};

#[derive(Clone, Debug, InputObject)]
pub struct EntitlementInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    pub(super) kind: Kind,
    /// Key of the quota, name of the feature, or `<kind>/<key>` of a resource, such as `models/gpt-5`.
    pub(super) key: String,
    /// Of a QUOTA: how much more is wanted; 1 where not given.
    pub(super) amount: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct ExplainAccessInput {
    /// The tenant that the token is bound to where none is named.
    pub(super) tenant_id: Option<ID>,
    pub(super) subject: Subject,
    /// Key of the quota or flag, name of the feature or region, `<kind>/<key>` of a resource; for SIGN_IN a scope such as
    /// `auth:tenant:read`.
    pub(super) key: String,
    /// For a FLAG: OpenFeature's evaluation context, such as {"targetingKey": "user-1"}.
    pub(super) context: Option<Json<Value>>,
}

#[derive(Clone, Debug, InputObject)]
pub struct GrantEntitlementInput {
    pub(super) tenant_id: ID,
    pub(super) kind: Kind,
    /// Key of the quota, name of the feature, or `<kind>/<key>` of a resource.
    pub(super) key: String,
    /// Of a QUOTA, and of nothing else: whole units, 1 to 10^15.
    pub(super) amount: Option<i64>,
    /// 0 to 255; the lowest burns first.
    #[graphql(default_with = "crate::entitlements::granting::DEFAULT_PRIORITY")]
    pub(super) priority: i32,
    /// At once where not given.
    pub(super) effective_at: Option<DateTime<Utc>>,
    /// From then on it counts for nothing; never where not given.
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// For people; 1 to 2,000 characters.
    pub(super) reason: String,
}

#[derive(Clone, Debug, InputObject)]
pub struct RevokeGrantInput {
    pub(super) tenant_id: ID,
    pub(super) grant_id: ID,
    /// The version that you saw last: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct SetAllowListInput {
    pub(super) tenant_id: ID,
    /// Such as `models`.
    pub(super) resource_kind: String,
    /// Keys of resources that it may use beside those of its plan.
    #[graphql(default)]
    pub(super) add: Vec<String>,
    /// Keys of resources that it may not use, whatever else gives them.
    #[graphql(default)]
    pub(super) remove: Vec<String>,
    /// For people; 1 to 2,000 characters.
    pub(super) reason: String,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct SetPlanAllowListInput {
    /// Key of the plan.
    pub(super) plan: String,
    /// Such as `models`.
    pub(super) resource_kind: String,
    /// All of the kind, those that come later as well. Goes with no `resources`.
    #[graphql(default)]
    pub(super) everything: bool,
    /// Keys of resources.
    #[graphql(default)]
    pub(super) resources: Vec<String>,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct DefineResourceKindInput {
    /// 1 to 63 small letters, digits or '_'; never changes.
    pub(super) key: String,
    pub(super) name: String,
    #[graphql(default)]
    pub(super) description: String,
    /// For plans that have no list of the kind.
    #[graphql(default_with = "DefaultAccess::Denied")]
    pub(super) default_access: DefaultAccess,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct DefineResourceInput {
    pub(super) resource_kind: String,
    /// 1 to 128 letters, digits or '._:/@-'; never changes.
    pub(super) key: String,
    pub(super) name: String,
    #[graphql(default)]
    pub(super) description: String,
    /// Nobody may use it any more.
    #[graphql(default)]
    pub(super) retired: bool,
    /// The version that you saw last, 0 for none: `conflict` if there is another.
    pub(super) expected_version: Option<i64>,
}

impl From<GrantEntitlementInput> for NewGrant {
    fn from(input: GrantEntitlementInput) -> Self {
        let GrantEntitlementInput { tenant_id: _, kind, key, amount, priority, effective_at, expires_at, reason } =
            input;
        Self { kind, key, amount, priority, effective_at, expires_at, reason }
    }
}

impl From<SetPlanAllowListInput> for NewPlanList {
    fn from(input: SetPlanAllowListInput) -> Self {
        let SetPlanAllowListInput { plan, resource_kind: kind, everything, resources, expected_version: _ } = input;
        Self { plan, kind, everything, resources }
    }
}

impl From<DefineResourceKindInput> for NewResourceKind {
    fn from(input: DefineResourceKindInput) -> Self {
        let DefineResourceKindInput { key, name, description, default_access, expected_version: _ } = input;
        Self { key, name, description, default_access }
    }
}

impl From<DefineResourceInput> for NewResource {
    fn from(input: DefineResourceInput) -> Self {
        let DefineResourceInput { resource_kind: kind, key, name, description, retired, expected_version: _ } = input;
        Self { kind, key, name, description, retired }
    }
}
