//! The switch: services are kept out, the last changes follow, both sides are compared, and one transaction of the registry says where
//! the tenant is.

use std::time::Instant;

use chrono::TimeDelta;

use super::{
    Moves, compare,
    ends::{Ends, run},
    journal,
    order::{Move, Phase, Wanted},
    source::{self, Identity, Table},
    steps::Next,
    store,
    stream::Stream,
    target,
};
use crate::{
    error::{Error, Kind, Result},
    journal::Entry,
    platform::db::CellSession,
};

/// What the last step before the registry's transaction found.
enum Found {
    Same,
    /// Somebody has defined something since.
    OtherDefinitions,
}

impl Moves {
    pub(super) async fn switch(&self, order: &Move, ends: &Ends, tables: &[Table], mut stream: Stream) -> Result<Next> {
        let order =
            Move { phase: Phase::Switching, changes_applied: order.changes_applied + stream.applied, ..order.clone() };
        self.hold_alone(&order).await?;
        stream.applied = 0;
        // Before the pause: all connections, whoever has a credential, and what there is to follow by now.
        let (mut guard, mut owner) = (ends.source_session().await?, ends.target_session().await?);
        self.0.provisioning.let_in_at(&ends.target).await?;
        stream.follow(ends).await?;
        let begun = Instant::now();
        let last = self.last_changes(&order, ends, tables, (&mut guard, &mut owner, &mut stream));
        let found = tokio::time::timeout(self.0.rules.longest_pause, last).await.unwrap_or_else(|_| {
            Err(Error::new(
                Kind::Unavailable,
                "the switch took longer than moves.longest_pause; services were let in again",
            ))
        });
        match found {
            Ok(Found::Same) => {}
            Ok(Found::OtherDefinitions) => return Ok(Next::Restart), // which lets services in first
            Err(error) => {
                drop(guard);
                self.open_source(&order).await?;
                return Err(error);
            }
        }
        let order = Move { changes_applied: order.changes_applied + stream.applied, ..order };
        // Should this fail, nobody knows here what became of it: the registry does.
        let order = self.change_place(&order, begun).await?;
        source::let_in(&mut owner, ends).await?;
        let pause = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        // Who was just coming in as services were kept out waits for the lock, and must not get it.
        source::end_sessions(&mut guard, ends).await?;
        run(&mut guard, "COMMIT").await?;
        let order = Move { pause_ms: Some(pause), ..order };
        self.write(&order, []).await?;
        metrics::histogram!("tenantry_move_pause_seconds").record(begun.elapsed().as_secs_f64());
        tracing::info!(tenant = %order.tenant, pause, "a tenant was moved");
        Ok(Next::Go(Box::new(order)))
    }

    /// From its return on, nothing is at the source that is not at the target, and nothing can come to be.
    async fn last_changes(
        &self,
        order: &Move,
        ends: &Ends,
        tables: &[Table],
        (guard, owner, stream): (&mut CellSession, &mut CellSession, &mut Stream),
    ) -> Result<Found> {
        source::keep_out(guard, ends, tables).await?;
        if source::fingerprint(guard, ends).await? != order.fingerprint {
            return Ok(Found::OtherDefinitions);
        }
        let (relations, transactions) = stream.peek_all(ends).await?;
        stream.carry(ends, &relations, &transactions).await?;
        let touched = std::mem::take(&mut stream.touched);
        compare::touched(&touched, (&mut *guard, &mut stream.mover)).await?;
        let sequences = source::sequences(guard, ends).await?;
        let identities: Vec<Identity> = serde_json::from_value(order.identities.clone()).unwrap_or_default();
        target::finish(&mut stream.mover, ends, (tables, &sequences, &identities)).await?;
        let comment = source::comment(guard, ends).await?;
        target::comment(owner, ends, comment.as_deref()).await?;
        Ok(Found::Same)
    }

    /// From here on nobody else works on the environment: what is shut at the source stays shut.
    async fn hold_alone(&self, order: &Move) -> Result<()> {
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let known = store::hold(&tx, order, now + self.lease()).await?;
        let known = known.ok_or_else(lost)?;
        if known.wanted != Wanted::Switch {
            return Err(Error::new(Kind::Unavailable, "something else is wanted by now"));
        }
        if !store::hold_alone(&tx, order.tenant, now).await? {
            tx.rollback().await?;
            return Err(Error::new(
                Kind::Unavailable,
                "the tenant's environment is being worked on; it is tried again",
            ));
        }
        // From now on nobody makes any.
        self.0.provisioning.check_nothing_is_left_behind(&tx, order.tenant).await?;
        store::save(&tx, order).await?;
        tx.commit_unrecorded("a step of a move; what it comes to is recorded").await
    }

    /// The one transaction that moves the tenant.
    async fn change_place(&self, order: &Move, begun: Instant) -> Result<Move> {
        let cell = self.0.cells.get(order.target_cell).await?;
        let plan = self.0.tenancy.plan(&self.tenant(order.tenant).await?.plan).await?;
        let tx = self.begin().await?;
        let now = tx.stamp().at;
        let known = store::hold(&tx, order, now + self.lease()).await?.ok_or_else(lost)?;
        if known.phase != Phase::Switching || known.wanted != Wanted::Switch {
            tx.rollback().await?;
            return Err(Error::new(Kind::Unavailable, "something else is wanted by now"));
        }
        let keep = TimeDelta::from_std(self.0.rules.keep_source).unwrap_or(TimeDelta::MAX);
        let order = Move {
            phase: Phase::Switched,
            problem: String::new(),
            attempts: 0,
            switched_at: Some(now),
            keep_until: now.checked_add_signed(keep),
            pause_ms: Some(i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX)),
            ..order.clone()
        };
        let placement = crate::cells::Placement { placed_at: now, ..order.target() };
        self.0.cells.replace(&tx, &placement).await?;
        let tier = self.0.tenancy.set_tier_of_moved(&tx, order.tenant, order.target_tier, now).await?;
        self.0.provisioning.follow(&tx, (&placement, &plan), &cell, now).await?;
        store::save(&tx, &order).await?;
        let entries: Vec<Entry> = [journal::switched(&order)].into_iter().chain(tier).collect();
        tx.commit_for(order.tenant, entries).await?;
        self.0.tenancy.snapshots().refresh(order.tenant).await;
        Ok(order)
    }
}

pub(super) fn lost() -> Error {
    Error::new(Kind::Unavailable, "another server works on the move by now")
}
