//! Seats: each invited or active member counts in the quota `max_users`.
//!
//! A seat is reserved before the member is written, so that there are never more members than seats, however many are written at once.
//! The row that says so is written with the member, and gone once the quota has counted it. A crash in between leaves either a
//! reservation, which ends by itself, or the row, which the schedule counts: each once, by its id. Seats that are given back count
//! until then, never too early.

use chrono::TimeDelta;
use sea_orm::QueryResult;
use uuid::Uuid;

use super::Members;
use crate::{
    error::{Kind, Result},
    isolation::{OperatorScope, TenantScope, TenantTx},
    platform::{
        ids::{ReservationId, TenantId},
        random,
    },
    quotas::Line,
};

pub const QUOTA: &str = "max_users";
/// What is reserved and not written by then is free again; what was written is counted long before.
const RESERVED_FOR: TimeDelta = TimeDelta::hours(1);
/// Younger rows are being counted by who wrote them.
const PATIENCE: TimeDelta = TimeDelta::seconds(5);

const NOTE: &str = "
    insert into tenantry.member_seats (tenant_id, change_id, reservation_id, amount, created_at) values ($1, $2, $3, $4, $5)";
const NOTED: &str = "select change_id, reservation_id, amount from tenantry.member_seats where tenant_id = $1 order by created_at limit 1000";
const COUNTED: &str = "delete from tenantry.member_seats where tenant_id = $1 and change_id = any($2)";
const LEFT: &str = "select distinct tenant_id from tenantry.member_seats where created_at < $1 limit 100";

/// Seats that are held for members who are about to be written.
#[derive(Debug)]
#[must_use = "seats that nobody takes are given up"]
pub struct Seats {
    reservation: Option<ReservationId>,
    amount: i64,
}

impl Seats {
    pub fn reservation(&self) -> Option<ReservationId> {
        self.reservation
    }

    pub fn amount(&self) -> i64 {
        self.amount
    }
}

/// What was noted beside members.
struct Noted {
    change: Uuid,
    reservation: Option<ReservationId>,
    amount: i64,
}

fn noted(row: &QueryResult) -> Result<Noted> {
    Ok(Noted {
        change: row.try_get("", "change_id")?,
        reservation: row.try_get("", "reservation_id")?,
        amount: row.try_get("", "amount")?,
    })
}

impl Members {
    /// Holds so many seats, or refuses with `quota_exceeded`.
    pub async fn take_seats(&self, scope: &TenantScope, amount: i64) -> Result<Seats> {
        // Operators take no seats.
        if amount <= 0 || scope.tenant().is_platform() {
            return Ok(Seats { reservation: None, amount: 0 });
        }
        let line = Line { key: QUOTA.to_owned(), amount };
        let held = self.quotas.reserve(scope, &[line], Some(RESERVED_FOR), None).await;
        // The caller knows of no `lines`.
        let held = held.map_err(|error| match error.kind() {
            Kind::QuotaExceeded => {
                let details = error.details().cloned().unwrap_or_default();
                crate::error::Error::new(Kind::QuotaExceeded, "the tenant has no seat left").with(details)
            }
            _ => error,
        })?;
        Ok(Seats { reservation: held.reservation.map(|reservation| reservation.id), amount })
    }

    /// Frees seats that were not taken. Where that fails, they are free when their time is over.
    pub async fn give_up_seats(&self, scope: &TenantScope, seats: Seats) {
        let Some(reservation) = seats.reservation else { return };
        if let Err(error) = self.quotas.release(scope, &reservation.to_string()).await {
            tracing::warn!(%error, tenant = %scope.tenant(), "seats that were not taken stay held until their time is over");
        }
    }

    /// After a commit that changed members: counts what was noted of the tenant's seats. Where that fails, the schedule does it.
    pub async fn settle_seats(&self, tenant: TenantId) {
        if let Err(error) = self.count_seats(tenant).await {
            tracing::warn!(%error, %tenant, cause = error.cause().map(tracing::field::display), "seats are counted later");
        }
    }

    /// Counts what crashed servers have left.
    pub async fn settle_left_seats(&self) -> Result<()> {
        let before = self.isolation.clock().now() - PATIENCE;
        let tx = self.isolation.begin_operator(&OperatorScope::reading("seats")).await?;
        let rows = tx.rows(LEFT, [before.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        for row in rows {
            self.count_seats(row.try_get("", "tenant_id")?).await?;
        }
        Ok(())
    }

    async fn count_seats(&self, tenant: TenantId) -> Result<()> {
        let scope = TenantScope::system("seats", tenant);
        let tx = self.isolation.begin(&scope).await?;
        let rows = tx.rows(NOTED, [tenant.into()]).await?;
        tx.commit_unrecorded("a read").await?;
        let mut counted = Vec::with_capacity(rows.len());
        for row in &rows {
            let noted = noted(row)?;
            self.count(&scope, &noted).await?;
            counted.push(noted.change);
        }
        if counted.is_empty() {
            return Ok(());
        }
        let tx = self.isolation.begin(&scope).await?;
        tx.execute(COUNTED, [tenant.into(), counted.into()]).await?;
        tx.commit_unrecorded("what is counted in the quota is recorded with the members").await
    }

    /// Each once, whoever else does it at the same time.
    async fn count(&self, scope: &TenantScope, noted: &Noted) -> Result<()> {
        if let Some(reservation) = noted.reservation {
            let line = Line { key: QUOTA.to_owned(), amount: noted.amount };
            match self.quotas.commit(scope, &reservation.to_string(), &[line]).await {
                Ok(_) => return Ok(()),
                // It was held too long: nobody was there to count it for an hour. The members are there, so they count.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.quotas.count(scope, ReservationId::from_uuid(noted.change), QUOTA, noted.amount).await.map(drop)
    }
}

/// Notes that `amount` of the seats that are held are taken by members of this transaction.
pub(super) async fn note_taken(tx: &TenantTx, seats: &Seats, amount: i64) -> Result<()> {
    note(tx, seats.reservation, amount).await
}

/// Notes that seats were given back.
pub(super) async fn note_given_back(tx: &TenantTx, amount: i64) -> Result<()> {
    note(tx, None, -amount).await
}

async fn note(tx: &TenantTx, reservation: Option<ReservationId>, amount: i64) -> Result<()> {
    if amount == 0 || tx.tenant().is_platform() {
        return Ok(());
    }
    let values = [
        tx.tenant().into(),
        random::uuid_v7().into(),
        reservation.map(ReservationId::uuid).into(),
        amount.into(),
        tx.stamp().at.into(),
    ];
    tx.execute(NOTE, values).await?;
    Ok(())
}
