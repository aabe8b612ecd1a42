//! What grants add to a tenant's limits, from memory.
//!
//! Of a level, a grant counts whole while it lasts. Of what is counted in periods, it is used up by what is used above the limit
//! without grants: so long as it is known how much of it is (the quota is *settled*), it counts with what is left, and with
//! what the present period has had of it. From a turn on (a period ends, a grant begins or ends) until that is settled, only the
//! latter counts: nothing is let in on a grant of which others may have had their part.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sea_orm::FromQueryResult;

use super::{
    key::{QuotaKey, QuotaKeys},
    window::Window,
};
use crate::{
    error::Result,
    grants::{self, Grant},
    platform::{
        db::Tx,
        ids::{GrantId, TenantId},
    },
};

/// Up to when it is known how much of a quota's grants is burnt. One row of `quota_settlements`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(super) struct Settlement {
    pub(super) quota_key: String,
    /// The period that it was.
    pub(super) quota_window: String,
    pub(super) settled_at: DateTime<Utc>,
    /// When it has to be found out again; `None`: never.
    pub(super) next_turn: Option<DateTime<Utc>>,
}

/// What a period has had of a grant. One row of `quota_burns`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(super) struct Burn {
    pub(super) quota_key: String,
    pub(super) quota_window: String,
    pub(super) grant_id: GrantId,
    pub(super) amount: i64,
}

/// Grants of quotas of one tenant.
#[derive(Clone, Debug, Default)]
pub struct Granted {
    /// In burn order.
    pub(super) grants: Vec<Grant>,
    pub(super) settlements: Vec<Settlement>,
    pub(super) burns: Vec<Burn>,
    /// The tenant's time zone.
    zone: Tz,
}

const SETTLEMENTS: &str = "
    select quota_key, quota_window, settled_at, next_turn from tenantry.quota_settlements where tenant_id = $1";
const BURNS: &str = "
    select quota_key, quota_window, grant_id, amount from tenantry.quota_burns where tenant_id = $1 order by quota_window";
const SETTLEMENTS_OF_SEVERAL: &str = "
    select s.tenant_id, s.quota_key, s.quota_window, s.settled_at, s.next_turn, t.profile ->> 'timeZone' as zone
    from tenantry.quota_settlements s join tenantry.tenants t using (tenant_id) where s.tenant_id = any($1::uuid[])";
const BURNS_OF_SEVERAL: &str = "
    select tenant_id, quota_key, quota_window, grant_id, amount from tenantry.quota_burns
    where tenant_id = any($1::uuid[]) order by tenant_id, quota_window";
const ZONE: &str = "select profile ->> 'timeZone' as zone from tenantry.tenants where tenant_id = $1";

impl Granted {
    /// One query for a tenant that was never given anything: with its first grant of a quota there is a settlement of it.
    pub(super) async fn load(tx: &Tx, tenant: TenantId) -> Result<Self> {
        let rows = tx.rows(SETTLEMENTS, [tenant.into()]).await?;
        if rows.is_empty() {
            return Ok(Self::default());
        }
        let settlements = rows.iter().map(|row| Settlement::from_query_result(row, "")).collect::<Result<_, _>>()?;
        let rows = tx.rows(BURNS, [tenant.into()]).await?;
        let burns = rows.iter().map(|row| Burn::from_query_result(row, "")).collect::<Result<Vec<_>, _>>()?;
        let held: Vec<_> = burns.iter().map(|burn| burn.grant_id).collect();
        let grants = grants::of_quotas(tx, tenant, &held).await?;
        let zone =
            tx.row(ZONE, [tenant.into()]).await?.map(|row| row.try_get::<Option<String>>("", "zone")).transpose()?;
        let zone = zone.flatten().and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
        Ok(Self { grants, settlements, burns, zone })
    }

    /// The same of several tenants, in as many queries. Those that were never given anything are missing.
    pub(super) async fn load_several(tx: &Tx, tenants: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let ids: Vec<_> = tenants.iter().map(|tenant| tenant.uuid()).collect();
        let mut several: HashMap<TenantId, Self> = HashMap::new();
        for row in tx.rows(SETTLEMENTS_OF_SEVERAL, [ids.clone().into()]).await? {
            let zone: Option<String> = row.try_get("", "zone")?;
            let of_tenant = several.entry(row.try_get("", "tenant_id")?).or_default();
            of_tenant.zone = zone.and_then(|zone| zone.parse().ok()).unwrap_or(Tz::UTC);
            of_tenant.settlements.push(Settlement::from_query_result(&row, "")?);
        }
        if several.is_empty() {
            return Ok(several);
        }
        for row in tx.rows(BURNS_OF_SEVERAL, [ids.into()]).await? {
            let of_tenant = several.entry(row.try_get("", "tenant_id")?).or_default();
            of_tenant.burns.push(Burn::from_query_result(&row, "")?);
        }
        for (tenant, grants) in grants::of_quotas_of_several(tx, tenants).await? {
            several.entry(tenant).or_default().grants = grants;
        }
        Ok(several)
    }

    pub(super) fn weight(&self) -> usize {
        let grants =
            self.grants.iter().map(|grant| 256 + grant.key.len() + grant.reason.len() + grant.granted_by.len());
        grants.sum::<usize>() + (self.settlements.len() + self.burns.len()) * 128
    }

    /// The quota's grants and what each adds to its limit now, in burn order.
    pub(super) fn of<'a>(&'a self, key: &'a QuotaKey, now: DateTime<Utc>) -> impl Iterator<Item = (&'a Grant, i64)> {
        let of_key = move |grant: &&Grant| grant.key == key.key;
        // Asked on every request: nothing is computed for who was given nothing.
        let window = if self.grants.iter().any(|grant| of_key(&grant)) { self.window(key, now) } else { None };
        let settled = window.as_ref().is_some_and(|window| self.is_settled(key, &window.name, now));
        self.grants.iter().filter(of_key).filter_map(move |grant| {
            let active = grant.is_active(now);
            let worth = match &window {
                None => {
                    if active {
                        grant.amount.unwrap_or_default()
                    } else {
                        0
                    }
                }
                Some(window) => {
                    let rest = if settled && active { grant.rest() } else { 0 };
                    rest.saturating_add(self.given(&key.key, &window.name, grant.grant_id))
                }
            };
            (worth > 0).then_some((grant, worth))
        })
    }

    /// Quotas of the catalogue that a turn has passed of since they were settled.
    pub(super) fn unsettled<'a>(
        &'a self,
        keys: &'a QuotaKeys,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = &'a QuotaKey> {
        let key = |settlement: &'a Settlement| keys.find(&settlement.quota_key);
        let of_period =
            self.settlements.iter().filter_map(key).filter_map(move |key| Some((key, self.window(key, now)?)));
        of_period.filter(move |(key, window)| !self.is_settled(key, &window.name, now)).map(|(key, _)| key)
    }

    /// The present period of what has periods.
    pub(super) fn window(&self, key: &QuotaKey, now: DateTime<Utc>) -> Option<Window> {
        key.period.map(|period| Window::at(period, now, self.zone))
    }

    /// What a period has had of a grant.
    pub(super) fn given(&self, key: &str, window: &str, grant: GrantId) -> i64 {
        let of_grant = |burn: &&Burn| burn.grant_id == grant && burn.quota_key == key && burn.quota_window == window;
        self.burns.iter().find(of_grant).map_or(0, |burn| burn.amount)
    }

    fn is_settled(&self, key: &QuotaKey, window: &str, now: DateTime<Utc>) -> bool {
        let settlement = self.settlements.iter().find(|settlement| settlement.quota_key == key.key);
        settlement.is_some_and(|settlement| match settlement.next_turn {
            None => true,
            Some(turn) => now < turn && settlement.quota_window == window,
        })
    }

    #[cfg(test)]
    pub(super) fn of_levels(grants: Vec<Grant>) -> Self {
        Self { grants, ..Self::default() }
    }
}
