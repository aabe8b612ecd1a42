//! What one tenant may use of a kind beside its plan, and what it may not use although its plan has it. One row of
//! `tenant_allow_lists`; and the decision that plan, list and grants lead to.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    EntityTrait as _, IntoActiveModel as _, QueryFilter as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::{ExprTrait, extension::postgres::PgFunc},
};
use serde::{Deserialize, Serialize};

use super::catalogue::{DefaultAccess, Items, PlanList, Resource, ResourceKind, Resources};
use crate::{
    error::Result,
    grants::{Grant, Held, Kind},
    platform::{db::Tx, ids::TenantId},
    tenancy::{Part, TenantPart},
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "tenant_allow_lists")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub added: Items,
    #[sea_orm(column_type = "JsonBinary")]
    pub removed: Items,
    pub reason: String,
    pub set_by: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type TenantList = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A tenant's lists, in memory.
#[derive(Clone, Debug, Default)]
pub struct AllowLists(Vec<TenantList>);

impl AllowLists {
    pub fn of(&self, kind: &str) -> Option<&TenantList> {
        self.0.iter().find(|list| list.kind == kind)
    }
}

impl Part for AllowLists {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        let lists = Entity::find().filter(Column::TenantId.eq(owner)).all(tx).await?;
        Ok(Self(lists.into_iter().map(sorted).collect()))
    }

    fn weight(&self) -> usize {
        let items = |items: &Items| items.0.iter().map(|item| item.len() + 32).sum::<usize>();
        self.0.iter().map(|list| 256 + list.reason.len() + items(&list.added) + items(&list.removed)).sum()
    }
}

impl TenantPart for AllowLists {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let owners: Vec<_> = owners.iter().map(|owner| owner.uuid()).collect();
        let of_owners = ExprTrait::eq(Expr::col(Column::TenantId), PgFunc::any(owners));
        let mut several: HashMap<TenantId, Self> = HashMap::new();
        for list in Entity::find().filter(of_owners).all(tx).await? {
            several.entry(list.tenant_id).or_default().0.push(sorted(list));
        }
        Ok(several)
    }
}

fn sorted(mut list: TenantList) -> TenantList {
    list.added.0.sort_unstable();
    list.removed.0.sort_unstable();
    list
}

/// The tenant's list, held until the transaction ends.
pub(super) async fn lock(tx: &Tx, tenant: TenantId, kind: &str) -> Result<Option<TenantList>> {
    Ok(Entity::find_by_id((tenant, kind.to_owned())).lock_exclusive().one(tx).await?)
}

pub(super) async fn put(tx: &Tx, wanted: &TenantList, before: Option<&TenantList>) -> Result<()> {
    let row = wanted.clone().into_active_model().reset_all();
    match before {
        None => Entity::insert(row).exec_without_returning(tx).await.map(drop)?,
        Some(_) => Entity::update(row).exec(tx).await.map(drop)?,
    }
    Ok(())
}

/// Why a resource may be used, or not: the first that applies decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Nobody may use it any more.
    Retired(&'a Resource),
    /// It was taken from this tenant, whatever else gives it.
    Removed(&'a TenantList),
    Granted(&'a Grant),
    /// It was added for this tenant.
    Added(&'a TenantList),
    /// The plan has a list for the kind: whether it is on it.
    Plan(&'a PlanList, bool),
    /// The plan says nothing of the kind.
    Default(&'a ResourceKind),
}

impl Decision<'_> {
    pub fn allows(&self) -> bool {
        match self {
            Self::Retired(_) | Self::Removed(_) => false,
            Self::Granted(_) | Self::Added(_) => true,
            Self::Plan(_, listed) => *listed,
            Self::Default(kind) => kind.default_access == DefaultAccess::Allowed,
        }
    }
}

/// What a decision is made on.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    pub resources: &'a Resources,
    pub lists: &'a AllowLists,
    pub held: &'a Held,
    pub plan: &'a str,
    pub now: DateTime<Utc>,
}

impl<'a> Basis<'a> {
    /// Everything that says something of the resource, in the order in which it is asked; the first decides.
    pub fn all(&self, resource: &'a Resource) -> Vec<Decision<'a>> {
        let (kind, key) = (resource.kind.as_str(), resource.key.as_str());
        let list = self.lists.of(kind);
        let name = format!("{kind}/{key}");
        let of_plan = self.resources.plan_list(self.plan, kind);
        [
            resource.retired.then_some(Decision::Retired(resource)),
            list.filter(|list| list.removed.names(key)).map(Decision::Removed),
            self.held.find(Kind::Resource, &name, self.now).map(Decision::Granted),
            list.filter(|list| list.added.names(key)).map(Decision::Added),
            of_plan.map(|list| Decision::Plan(list, list.everything || list.resources.names(key))),
            self.resources.kind(kind).map(Decision::Default),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// What decides.
    pub fn decide(&self, resource: &'a Resource) -> Option<Decision<'a>> {
        self.all(resource).first().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn items(named: bool) -> Items {
        Items(if named { vec!["gpt-5".to_owned()] } else { Vec::new() })
    }

    fn resources(retired: bool, plan: Option<(bool, bool)>, default_access: DefaultAccess) -> Resources {
        let (created_at, updated_at, version) = (at(), at(), 1);
        let text = String::new;
        let kind = ResourceKind {
            key: "models".into(),
            name: text(),
            description: text(),
            default_access,
            version,
            created_at,
            updated_at,
        };
        let resource = Resource {
            kind: "models".into(),
            key: "gpt-5".into(),
            name: text(),
            description: text(),
            retired,
            version,
            created_at,
            updated_at,
        };
        let plan = plan.map(|(everything, named)| PlanList {
            plan: "pro".into(),
            kind: "models".into(),
            everything,
            resources: items(named),
            version,
            created_at,
            updated_at,
        });
        Resources { kinds: vec![kind], resources: vec![resource], plan_lists: plan.into_iter().collect() }
    }

    fn list(added: bool, removed: bool) -> AllowLists {
        AllowLists(vec![TenantList {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
            kind: "models".into(),
            added: items(added),
            removed: items(removed),
            reason: String::new(),
            set_by: String::new(),
            version: 1,
            created_at: at(),
            updated_at: at(),
        }])
    }

    proptest! {
        #[test]
        fn what_is_retired_or_removed_nothing_gives_and_else_the_tenants_list_goes_before_the_plan(
            retired: bool, added: bool, removed: bool, plan in any::<Option<(bool, bool)>>(), open: bool,
        ) {
            let default = if open { DefaultAccess::Allowed } else { DefaultAccess::Denied };
            let (resources, lists, held) = (resources(retired, plan, default), list(added, removed), Held::default());
            let basis = Basis { resources: &resources, lists: &lists, held: &held, plan: "pro", now: at() };
            let allowed = basis.decide(&resources.resources[0]).unwrap().allows();
            let by_plan = plan.map_or(open, |(everything, named)| everything || named);
            prop_assert_eq!(allowed, !retired && !removed && (added || by_plan));
        }
    }
}
