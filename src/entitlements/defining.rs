//! Operations on the catalogue: kinds of resources, their items, and what plans allow. Each makes or replaces.

use std::collections::BTreeSet;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Entitlements,
    catalogue::{
        self, DefaultAccess, Items, MOST_KINDS, MOST_RESOURCES, PlanList, Resource, ResourceKind, Resources, check_key,
        check_kind_key, check_text,
    },
};
use crate::{
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope, OperatorTx},
    journal::Entry,
    platform::ids::TenantId,
};

/// A kind of resources as it was asked for.
#[derive(Clone, Debug)]
pub struct NewResourceKind {
    pub key: String,
    pub name: String,
    pub description: String,
    pub default_access: DefaultAccess,
}

/// An item as it was asked for.
#[derive(Clone, Debug)]
pub struct NewResource {
    pub kind: String,
    pub key: String,
    pub name: String,
    pub description: String,
    pub retired: bool,
}

/// What a plan allows of a kind, as it was asked for.
#[derive(Clone, Debug)]
pub struct NewPlanList {
    pub plan: String,
    pub kind: String,
    pub everything: bool,
    pub resources: Vec<String>,
}

impl Entitlements {
    pub async fn define_kind(
        &self,
        scope: &OperatorScope,
        new: NewResourceKind,
        conditions: &Conditions,
    ) -> Result<ResourceKind> {
        check_kind_key("key", &new.key)?;
        check_text("name", &new.name, 1, 200)?;
        check_text("description", &new.description, 0, 2_000)?;
        let (tx, known) = match self.begin(scope, conditions).await? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Open(open) => *open,
        };
        let before = known.kind(&new.key);
        conditions.check_version(before.map_or(0, |before| before.version))?;
        if before.is_none() {
            check_count(known.kinds.len(), MOST_KINDS, "kinds of resources")?;
        }
        let now = tx.stamp().at;
        let kind = ResourceKind {
            key: new.key,
            name: new.name,
            description: new.description,
            default_access: new.default_access,
            version: before.map_or(1, |before| before.version + 1),
            created_at: before.map_or(now, |before| before.created_at),
            updated_at: now,
        };
        catalogue::put_kind(&tx, &kind).await?;
        let entry = Entry::new("ResourceKindDefined", "resource_kind", &kind.key).change(before, Some(&kind))?;
        self.keep(tx, conditions, entry, kind).await
    }

    pub async fn define_resource(
        &self,
        scope: &OperatorScope,
        new: NewResource,
        conditions: &Conditions,
    ) -> Result<Resource> {
        check_key("key", &new.key)?;
        check_text("name", &new.name, 1, 200)?;
        check_text("description", &new.description, 0, 2_000)?;
        let (tx, known) = match self.begin(scope, conditions).await? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Open(open) => *open,
        };
        check_kind("resourceKind", &known, &new.kind)?;
        let before = known.find(&new.kind, &new.key);
        conditions.check_version(before.map_or(0, |before| before.version))?;
        if before.is_none() {
            check_count(known.resources.len(), MOST_RESOURCES, "resources")?;
        }
        let now = tx.stamp().at;
        let resource = Resource {
            kind: new.kind,
            key: new.key,
            name: new.name,
            description: new.description,
            retired: new.retired,
            version: before.map_or(1, |before| before.version + 1),
            created_at: before.map_or(now, |before| before.created_at),
            updated_at: now,
        };
        catalogue::put_resource(&tx, &resource).await?;
        let subject = format!("{}/{}", resource.kind, resource.key);
        let entry = Entry::new("ResourceDefined", "resource", subject).change(before, Some(&resource))?;
        self.keep(tx, conditions, entry, resource).await
    }

    /// Says what tenants of a plan may use of a kind, from now on.
    pub async fn set_plan_list(
        &self,
        scope: &OperatorScope,
        new: NewPlanList,
        conditions: &Conditions,
    ) -> Result<PlanList> {
        if new.everything && !new.resources.is_empty() {
            return Err(Error::invalid("resources", "go not with `everything`"));
        }
        if self.tenancy.plans().await?.iter().all(|plan| plan.key != new.plan) {
            return Err(Error::invalid("plan", "names no plan of the catalogue"));
        }
        let (tx, known) = match self.begin(scope, conditions).await? {
            Begun::Answered(answer) => return Ok(answer),
            Begun::Open(open) => *open,
        };
        check_kind("resourceKind", &known, &new.kind)?;
        let resources = check_items("resources", &known, &new.kind, new.resources)?;
        let before = known.plan_list(&new.plan, &new.kind);
        conditions.check_version(before.map_or(0, |before| before.version))?;
        let now = tx.stamp().at;
        let list = PlanList {
            plan: new.plan,
            kind: new.kind,
            everything: new.everything,
            resources,
            version: before.map_or(1, |before| before.version + 1),
            created_at: before.map_or(now, |before| before.created_at),
            updated_at: now,
        };
        catalogue::put_plan_list(&tx, &list).await?;
        let subject = format!("{}/{}", list.plan, list.kind);
        let entry = Entry::new("PlanAllowListSet", "plan_allow_list", subject).change(before, Some(&list))?;
        self.keep(tx, conditions, entry, list).await
    }

    async fn begin<T: DeserializeOwned>(&self, scope: &OperatorScope, conditions: &Conditions) -> Result<Begun<T>> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(Begun::Answered(answered));
        }
        let known = catalogue::lock(&tx).await?;
        Ok(Begun::Open(Box::new((tx, known))))
    }

    /// Records and commits; this replica's next answer has it.
    async fn keep<T: Serialize>(&self, tx: OperatorTx, conditions: &Conditions, entry: Entry, answer: T) -> Result<T> {
        tx.keep_answer(conditions, &answer).await?;
        tx.commit([entry]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(answer)
    }
}

/// A change of the catalogue, or what its first request was answered.
enum Begun<T> {
    Answered(T),
    /// All of it as it is, with nobody else changing it.
    Open(Box<(OperatorTx, Resources)>),
}

pub(super) fn check_kind<'a>(field: &str, known: &'a Resources, kind: &str) -> Result<&'a ResourceKind> {
    known.kind(kind).ok_or_else(|| Error::invalid(field, "names no kind of resources"))
}

/// Items that are there, each once, in order.
pub(super) fn check_items(field: &str, known: &Resources, kind: &str, items: Vec<String>) -> Result<Items> {
    let mut named = BTreeSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let field = format!("{field}[{index}]");
        if known.find(kind, &item).is_none() {
            return Err(Error::invalid(field, format!("names no resource of the kind `{kind}`")));
        }
        if !named.insert(item) {
            return Err(Error::invalid(field, "is named twice"));
        }
    }
    Ok(Items(named.into_iter().collect()))
}

fn check_count(count: usize, most: usize, what: &str) -> Result<()> {
    if count >= most {
        return Err(Error::new(Kind::QuotaExceeded, format!("there are {count} {what}, which is as many as are kept")));
    }
    Ok(())
}
