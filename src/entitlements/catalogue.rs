//! What can be allowed: kinds of resources, their items, and what plans allow of them. The platform's own, in memory.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use sea_orm::{EntityTrait as _, FromJsonQueryResult, IntoActiveModel as _, entity::prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    platform::{db::Tx, ids::TenantId},
    tenancy::Part,
};

/// Kinds that there may be; items of all kinds together.
pub(super) const MOST_KINDS: usize = 100;
pub(super) const MOST_RESOURCES: usize = 5_000;

/// What a tenant may use of a kind of which its plan says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "ResourceAccess")]
pub enum DefaultAccess {
    Allowed,
    Denied,
}

/// Keys of items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Items(pub Vec<String>);

/// One row of `resource_kinds`.
pub mod kind {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
    #[sea_orm(schema_name = "tenantry", table_name = "resource_kinds")]
    #[serde(rename_all = "camelCase")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub name: String,
        pub description: String,
        pub default_access: DefaultAccess,
        pub version: i64,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row of `resources`.
pub mod resource {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
    #[sea_orm(schema_name = "tenantry", table_name = "resources")]
    #[serde(rename_all = "camelCase")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub name: String,
        pub description: String,
        /// Nobody may use it any more.
        pub retired: bool,
        pub version: i64,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// One row of `plan_allow_lists`.
pub mod plan_list {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
    #[sea_orm(schema_name = "tenantry", table_name = "plan_allow_lists")]
    #[serde(rename_all = "camelCase")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub plan: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        /// All of the kind, those that come later as well.
        pub everything: bool,
        #[sea_orm(column_type = "JsonBinary")]
        pub resources: Items,
        pub version: i64,
        pub created_at: DateTime<Utc>,
        pub updated_at: DateTime<Utc>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub type ResourceKind = kind::Model;
pub type Resource = resource::Model;
pub type PlanList = plan_list::Model;

/// All of it, each part in the order of its keys.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub kinds: Vec<ResourceKind>,
    pub resources: Vec<Resource>,
    pub plan_lists: Vec<PlanList>,
}

impl Resources {
    pub fn kind(&self, key: &str) -> Option<&ResourceKind> {
        self.kinds.binary_search_by(|kind| kind.key.as_str().cmp(key)).ok().map(|place| &self.kinds[place])
    }

    pub fn find(&self, kind: &str, key: &str) -> Option<&Resource> {
        let place =
            self.resources.binary_search_by(|found| (found.kind.as_str(), found.key.as_str()).cmp(&(kind, key)));
        place.ok().map(|place| &self.resources[place])
    }

    pub fn plan_list(&self, plan: &str, kind: &str) -> Option<&PlanList> {
        let place =
            self.plan_lists.binary_search_by(|list| (list.plan.as_str(), list.kind.as_str()).cmp(&(plan, kind)));
        place.ok().map(|place| &self.plan_lists[place])
    }

    pub(super) async fn read(tx: &Tx) -> Result<Self> {
        let (mut kinds, mut resources, mut plan_lists) = (
            kind::Entity::find().all(tx).await?,
            resource::Entity::find().all(tx).await?,
            plan_list::Entity::find().all(tx).await?,
        );
        // PostgreSQL may sort by another language's rules.
        kinds.sort_by(|a, b| a.key.cmp(&b.key));
        resources.sort_by(|a, b| (&a.kind, &a.key).cmp(&(&b.kind, &b.key)));
        plan_lists.sort_by(|a, b| (&a.plan, &a.kind).cmp(&(&b.plan, &b.kind)));
        for list in &mut plan_lists {
            list.resources.0.sort_unstable();
        }
        Ok(Self { kinds, resources, plan_lists })
    }
}

impl Items {
    /// Whether it is named: in a list that is sorted.
    pub fn names(&self, key: &str) -> bool {
        self.0.binary_search_by(|item| item.as_str().cmp(key)).is_ok()
    }
}

impl Part for Resources {
    async fn load(tx: &Tx, _: TenantId) -> Result<Self> {
        Self::read(tx).await
    }

    fn weight(&self) -> usize {
        let items = |items: &Items| items.0.iter().map(|item| item.len() + 32).sum::<usize>();
        self.kinds.iter().map(|kind| 256 + kind.name.len() + kind.description.len()).sum::<usize>()
            + self.resources.iter().map(|item| 256 + item.name.len() + item.description.len()).sum::<usize>()
            + self.plan_lists.iter().map(|list| 256 + items(&list.resources)).sum::<usize>()
    }
}

/// Writers of the catalogue go one after the other: what one checks of the rest still holds when it commits.
pub(super) async fn lock(tx: &Tx) -> Result<Resources> {
    tx.row("select pg_advisory_xact_lock(hashtextextended('tenantry.resources', 0))::text", []).await?;
    Resources::read(tx).await
}

/// Makes the row, or puts `row` in the place of the version before.
pub(super) async fn put_kind(tx: &Tx, row: &ResourceKind) -> Result<()> {
    let (version, row) = (row.version, row.clone().into_active_model().reset_all());
    match version {
        1 => kind::Entity::insert(row).exec_without_returning(tx).await.map(drop)?,
        _ => kind::Entity::update(row).exec(tx).await.map(drop)?,
    }
    Ok(())
}

pub(super) async fn put_resource(tx: &Tx, row: &Resource) -> Result<()> {
    let (version, row) = (row.version, row.clone().into_active_model().reset_all());
    match version {
        1 => resource::Entity::insert(row).exec_without_returning(tx).await.map(drop)?,
        _ => resource::Entity::update(row).exec(tx).await.map(drop)?,
    }
    Ok(())
}

pub(super) async fn put_plan_list(tx: &Tx, row: &PlanList) -> Result<()> {
    let (version, row) = (row.version, row.clone().into_active_model().reset_all());
    match version {
        1 => plan_list::Entity::insert(row).exec_without_returning(tx).await.map(drop)?,
        _ => plan_list::Entity::update(row).exec(tx).await.map(drop)?,
    }
    Ok(())
}

/// `<kind>/<key>`, as entitlements and grants name an item.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(kind, key)| !kind.is_empty() && !key.is_empty())
}

pub(super) fn check_kind_key(field: &str, key: &str) -> Result<()> {
    let mut letters = key.chars();
    let well_formed = letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && key.len() <= 63
        && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if well_formed {
        return Ok(());
    }
    Err(Error::invalid(field, "has 1 to 63 small letters, digits or '_', and begins with a letter"))
}

pub(super) fn check_key(field: &str, key: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    let well_formed = (1..=128).contains(&key.len())
        && key.bytes().all(allowed)
        && key.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if well_formed {
        return Ok(());
    }
    Err(Error::invalid(field, "has 1 to 128 letters, digits or '._:/@-', and begins with a letter or digit"))
}

/// Text for people.
pub(super) fn check_text(field: &str, text: &str, least: usize, most: usize) -> Result<()> {
    if !(least..=most).contains(&text.chars().count()) || (least > 0 && text.trim().is_empty()) {
        return Err(Error::invalid(field.to_owned(), format!("must have {least} to {most} characters")));
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(Error::invalid(field.to_owned(), "must not hold control characters"));
    }
    Ok(())
}
