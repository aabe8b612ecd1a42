//! The list of tenants: by filter, in order, page by page along an index.

use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait as _, DbBackend, DerivePartialModel, EntityTrait as _, FromQueryResult as _, Order,
    PartialModelTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _, Select,
    sea_query::{Expr, ExprTrait as _, SimpleExpr},
};
use serde::{Deserialize, Serialize};

use super::tenant::{Column, Entity, IsolationTier, Status, Tenant};
use crate::{
    error::{Error, Result},
    platform::{
        db::Tx,
        ids::TenantId,
        page::{self, Page, PageRequest},
    },
};

/// Which tenants are wanted: all conditions hold at once.
#[derive(Clone, Debug, Default, InputObject)]
pub struct TenantFilter {
    /// One of these states.
    pub status: Option<Vec<Status>>,
    pub plan: Option<String>,
    pub isolation_tier: Option<IsolationTier>,
    pub region: Option<String>,
    /// The children of this tenant.
    pub parent_id: Option<ID>,
    /// All of these labels.
    #[graphql(default)]
    pub labels: Vec<LabelInput>,
    /// Part of slug, name or external id, whatever the case; at least 3 characters.
    pub text: Option<String>,
}

/// One label.
#[derive(Clone, Debug, InputObject)]
pub struct LabelInput {
    pub key: String,
    pub value: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum)]
pub enum TenantOrder {
    /// Oldest first.
    #[default]
    CreatedAtAsc,
    /// Newest first.
    CreatedAtDesc,
    NameAsc,
    NameDesc,
}

/// Sort key of a cursor. Each order has its own form, so that a cursor of one is refused by another.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Key {
    #[serde(rename = "c")]
    Created(i64, TenantId),
    #[serde(rename = "n")]
    Name(String, TenantId),
}

/// What lists show of a tenant: the columns that are small and mostly wanted. A page of whole rows costs three times as much.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "Entity")]
pub struct Summary {
    pub id: TenantId,
    pub slug: String,
    pub external_id: Option<String>,
    pub name: String,
    pub plan: String,
    pub isolation_tier: IsolationTier,
    pub region: String,
    pub status: Status,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl From<&Tenant> for Summary {
    fn from(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id,
            slug: tenant.slug.clone(),
            external_id: tenant.external_id.clone(),
            name: tenant.name.clone(),
            plan: tenant.plan.clone(),
            isolation_tier: tenant.isolation_tier,
            region: tenant.region.clone(),
            status: tenant.status,
            version: tenant.version,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        }
    }
}

pub(super) async fn list(
    tx: &Tx,
    filter: &TenantFilter,
    order: TenantOrder,
    request: &PageRequest,
) -> Result<Page<Summary>> {
    let query = ordered(filtered(Entity::find(), filter)?, order, request.key()?)?;
    let query = Summary::select_cols(query.select_only());
    let mut statement = query.build(DbBackend::Postgres);
    // Not bound: PostgreSQL takes an unknown limit for a tenth of the table, finds its plan for any limit too dear, and
    // plans every call anew.
    statement.sql.push_str(&format!(" LIMIT {}", request.first + 1));
    let rows = Summary::find_by_statement(statement).all(tx).await?;
    Ok(request.page(rows))
}

/// The cursor of `tenant` in a list of this order.
pub fn cursor(tenant: &Summary, order: TenantOrder) -> String {
    page::encode(&match order {
        TenantOrder::CreatedAtAsc | TenantOrder::CreatedAtDesc => {
            Key::Created(tenant.created_at.timestamp_micros(), tenant.id)
        }
        TenantOrder::NameAsc | TenantOrder::NameDesc => Key::Name(tenant.name.clone(), tenant.id),
    })
}

fn filtered(mut query: Select<Entity>, filter: &TenantFilter) -> Result<Select<Entity>> {
    match filter.status.as_deref() {
        None => {}
        Some([]) => return Err(Error::invalid("filter.status", "must name a state, or be left out")),
        Some([status]) => query = query.filter(Column::Status.eq(*status)),
        Some(several) => query = query.filter(Column::Status.is_in(several.iter().copied())),
    }
    if let Some(plan) = &filter.plan {
        query = query.filter(Column::Plan.eq(plan));
    }
    if let Some(tier) = filter.isolation_tier {
        query = query.filter(Column::IsolationTier.eq(tier));
    }
    if let Some(region) = &filter.region {
        query = query.filter(Column::Region.eq(region));
    }
    if let Some(parent) = &filter.parent_id {
        let parent = TenantId::parse(parent)?;
        let children = "tenant_id in (select tenant_id from tenantry.tenant_parents where parent_id = $1)";
        query = query.filter(Expr::cust_with_values(children, [parent]));
    }
    if !filter.labels.is_empty() {
        let wanted: serde_json::Map<_, _> =
            filter.labels.iter().map(|label| (label.key.clone(), label.value.clone().into())).collect();
        let wanted = serde_json::Value::Object(wanted).to_string();
        query = query.filter(Expr::cust_with_values("labels @> $1::jsonb", [wanted]));
    }
    if let Some(text) = &filter.text {
        if text.chars().count() < 3 || text.contains('\0') {
            return Err(Error::invalid("filter.text", "must have at least 3 characters"));
        }
        let pattern = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        query = query.filter(Expr::cust_with_values("search_text like $1", [format!("%{pattern}%")]));
    }
    Ok(query)
}

fn ordered(query: Select<Entity>, order: TenantOrder, after: Option<Key>) -> Result<Select<Entity>> {
    let (column, direction) = match order {
        TenantOrder::CreatedAtAsc => (Column::CreatedAt, Order::Asc),
        TenantOrder::CreatedAtDesc => (Column::CreatedAt, Order::Desc),
        TenantOrder::NameAsc => (Column::Name, Order::Asc),
        TenantOrder::NameDesc => (Column::Name, Order::Desc),
    };
    let after: Option<[SimpleExpr; 2]> = match (after, column) {
        (None, _) => None,
        (Some(Key::Created(micros, id)), Column::CreatedAt) => {
            let at: DateTime<Utc> = DateTime::from_timestamp_micros(micros)
                .ok_or_else(|| Error::invalid("after", "is no cursor of this list"))?;
            Some([Expr::value(at), Expr::value(id)])
        }
        (Some(Key::Name(name, id)), Column::Name) => Some([Expr::value(name), Expr::value(id)]),
        _ => return Err(Error::invalid("after", "is a cursor of a list in another order")),
    };
    let ascending = direction == Order::Asc;
    let query = query.order_by(column, direction.clone()).order_by(Column::Id, direction);
    Ok(match after {
        None => query,
        Some(after) => {
            let key = Expr::tuple([Expr::col(column), Expr::col(Column::Id)]);
            let after = Expr::tuple(after);
            query.filter(if ascending { key.gt(after) } else { key.lt(after) })
        }
    })
}
