//! What a tenant has beside its plan: overrides of its contract, and boosts for a while.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait as _, EntityTrait as _, FromQueryResult, IntoActiveModel as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::{ExprTrait, extension::postgres::PgFunc},
};
use serde::{Deserialize, Serialize};

use super::{granted::Granted, key::Enforcement};
use crate::{
    error::Result,
    platform::{
        db::Tx,
        ids::{BoostId, TenantId},
    },
    tenancy::{Part, TenantPart},
};

/// One row of `quota_overrides`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Serialize, Deserialize)]
#[sea_orm(schema_name = "tenantry", table_name = "quota_overrides")]
#[serde(rename_all = "camelCase")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    #[sea_orm(primary_key, auto_increment = false, column_name = "quota_key")]
    pub key: String,
    /// None is unlimited.
    #[sea_orm(column_name = "quota_limit")]
    pub limit: Option<i64>,
    pub enforcement: Option<Enforcement>,
    pub grace_percent: Option<i32>,
    pub expires_at: Option<DateTime<Utc>>,
    pub reason: String,
    pub set_by: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

pub type Override = Model;

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// One row of `quota_boosts`: so much more, until then.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Boost {
    pub boost_id: BoostId,
    #[sea_orm(from_alias = "quota_key")]
    pub key: String,
    pub amount: i64,
    pub expires_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    pub approved_by: String,
    pub reason: String,
    pub created_at: DateTime<Utc>,
}

/// Overrides, boosts and grants of one tenant, in memory. Expired ones may be among them: their time is compared when they are used.
#[derive(Clone, Debug, Default)]
pub struct Allowances {
    pub overrides: Vec<Override>,
    pub boosts: Vec<Boost>,
    pub granted: Granted,
}

impl Allowances {
    pub fn of<'a>(
        &'a self,
        key: &'a str,
        now: DateTime<Utc>,
    ) -> (Option<&'a Override>, impl Iterator<Item = &'a Boost>) {
        let stands =
            move |allowance: &&Override| allowance.key == key && allowance.expires_at.is_none_or(|end| now < end);
        let boosts = self.boosts.iter().filter(move |boost| boost.key == key && now < boost.expires_at);
        (self.overrides.iter().find(stands), boosts)
    }
}

const BOOSTS: &str = "
    select boost_id, quota_key, amount, expires_at, ended_at, approved_by, reason, created_at from tenantry.quota_boosts
    where tenant_id = $1 and ended_at is null order by expires_at, boost_id";

impl Part for Allowances {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        let overrides = Entity::find().filter(Column::TenantId.eq(owner)).order_by_asc(Column::Key).all(tx).await?;
        let rows = tx.rows(BOOSTS, [owner.into()]).await?;
        let boosts = rows.iter().map(|row| Boost::from_query_result(row, "")).collect::<Result<_, _>>()?;
        Ok(Self { overrides, boosts, granted: Granted::load(tx, owner).await? })
    }

    fn weight(&self) -> usize {
        let overrides = self.overrides.iter().map(|found| 200 + found.reason.len());
        let boosts = self.boosts.iter().map(|boost| 200 + boost.reason.len());
        overrides.chain(boosts).sum::<usize>() + self.granted.weight()
    }
}

const BOOSTS_OF_SEVERAL: &str = "
    select tenant_id, boost_id, quota_key, amount, expires_at, ended_at, approved_by, reason, created_at
    from tenantry.quota_boosts where tenant_id = any($1) and ended_at is null order by tenant_id, expires_at, boost_id";

impl TenantPart for Allowances {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let mut found: HashMap<TenantId, Self> = HashMap::new();
        for (owner, granted) in Granted::load_several(tx, owners).await? {
            found.entry(owner).or_default().granted = granted;
        }
        let owners: Vec<_> = owners.iter().map(|owner| owner.uuid()).collect();
        let overrides = Entity::find().filter(ExprTrait::eq(Expr::col(Column::TenantId), PgFunc::any(owners.clone())));
        for allowance in overrides.order_by_asc(Column::Key).all(tx).await? {
            found.entry(allowance.tenant_id).or_default().overrides.push(allowance);
        }
        for row in tx.rows(BOOSTS_OF_SEVERAL, [owners.into()]).await? {
            let boost = Boost::from_query_result(&row, "")?;
            found.entry(row.try_get("", "tenant_id")?).or_default().boosts.push(boost);
        }
        Ok(found)
    }
}

/// The tenant's override of one key, held until the transaction ends.
pub(super) async fn lock(tx: &Tx, tenant: TenantId, key: &str) -> Result<Option<Override>> {
    Ok(Entity::find_by_id((tenant, key.to_owned())).lock_exclusive().one(tx).await?)
}

pub(super) async fn put(tx: &Tx, wanted: &Override, before: Option<&Override>) -> Result<()> {
    let row = wanted.clone().into_active_model().reset_all();
    match before {
        None => Entity::insert(row).exec_without_returning(tx).await.map(drop)?,
        Some(_) => Entity::update(row).exec(tx).await.map(drop)?,
    }
    Ok(())
}

pub(super) async fn remove(tx: &Tx, found: &Override) -> Result<()> {
    Entity::delete_by_id((found.tenant_id, found.key.clone())).exec(tx).await?;
    Ok(())
}

pub(super) async fn insert_boost(tx: &Tx, tenant: TenantId, boost: &Boost) -> Result<()> {
    let insert = "insert into tenantry.quota_boosts
        (tenant_id, boost_id, quota_key, amount, expires_at, approved_by, reason, created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)";
    let values = [
        tenant.into(),
        boost.boost_id.into(),
        boost.key.as_str().into(),
        boost.amount.into(),
        boost.expires_at.into(),
        boost.approved_by.as_str().into(),
        boost.reason.as_str().into(),
        boost.created_at.into(),
    ];
    tx.execute(insert, values).await?;
    Ok(())
}

/// Marks a boost as ended and answers it; `None` where there is none that runs.
pub(super) async fn end_boost(tx: &Tx, tenant: TenantId, boost: BoostId, now: DateTime<Utc>) -> Result<Option<Boost>> {
    let end =
        "update tenantry.quota_boosts set ended_at = $3 where tenant_id = $1 and boost_id = $2 and ended_at is null
        returning boost_id, quota_key, amount, expires_at, ended_at, approved_by, reason, created_at";
    let row = tx.row(end, [tenant.into(), boost.into(), now.into()]).await?;
    Ok(row.map(|row| Boost::from_query_result(&row, "")).transpose()?)
}
