//! What is done in each phase. Every step may be repeated from its beginning, whatever became of it before.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Moves, compare, copy, dump,
    ends::{Ends, run},
    graph, journal,
    order::{Move, Phase},
    source::{self, Identity, Table},
    stream::Stream,
    target,
};
use crate::{
    error::{Context as _, Error, Kind, Result},
    platform::db::CellSession,
};

/// What a step came to.
#[derive(Debug)]
pub(super) enum Next {
    /// It goes on with the phase that the move has by now.
    Go(Box<Move>),
    /// The tenant's schema is not what was copied: from the beginning.
    Restart,
    /// There is nothing to do until something is asked for.
    Rest,
}

impl Moves {
    /// Everything at the target that comes before rows, and the slot at the source.
    pub(super) async fn prepare(&self, order: &Move) -> Result<Next> {
        let ends = self.ends(order).await?;
        let checked = self.check(&ends).await?;
        let tables = checked.tables;
        // What an attempt before has left was made for what the schema was like then.
        self.take_back(order, &ends).await?;
        self.0.provisioning.ensure_at(&ends.target, &checked.uses).await?;
        target::shut(&mut ends.target_session().await?, &ends).await?;
        let mut session = ends.source_session().await?;
        let fingerprint = source::fingerprint(&mut session, &ends).await?;
        let labels = graph::labels(&mut session, &ends, &checked.uses).await?;
        let before_rows =
            timed(dump::before_rows(&ends.source_db, &ends.source_database, &ends.own_schemas(), ends.version()?))
                .await?;
        let (mut mover, mut owner) = (ends.mover_session().await?, ends.target_session().await?);
        target::keep_progress(&mut owner, &ends).await?;
        target::define(&mut mover, &ends, &(graph::make(&ends, &labels) + &before_rows)).await?;
        if has_graph(&ends, &tables)
            && let Err(error) = graph::check_alike(&ends, &mut session, &mut owner).await
        {
            // A label that has come in between is no fault of the graph's.
            let is_changed = source::fingerprint(&mut session, &ends).await? != fingerprint;
            return if is_changed { Ok(Next::Restart) } else { Err(error) };
        }
        let identities = source::identities(&tables);
        let order = Move {
            identities: serde_json::to_value(&identities).context("write what tells rows apart")?,
            ..order.clone()
        };
        self.write(&order, []).await?; // before it is changed: whoever goes on must know what to set back
        source::widen_identities(&mut session, &identities).await?;
        source::listen(&mut session, &ends, &tables).await?;
        if source::fingerprint(&mut session, &ends).await? != fingerprint {
            return Ok(Next::Restart);
        }
        let order = Move { phase: Phase::Copying, fingerprint, ..order };
        self.write(&order, []).await?;
        Ok(Next::Go(Box::new(order)))
    }

    /// All rows of one moment, and then what stands on them.
    pub(super) async fn copy(&self, order: &Move) -> Result<Next> {
        let ends = self.ends(order).await?;
        let mut session = ends.source_session().await?;
        if !self.is_as_it_was(order, &ends, &mut session).await? {
            return Ok(Next::Restart);
        }
        let tables = source::tables(&mut session, &ends).await?;
        let mut mover = ends.mover_session().await?;
        let Some(progress) = target::progress(&mut mover, &ends).await? else { return Ok(Next::Restart) };
        let mut order = order.clone();
        if progress.snapshot.is_none() {
            let from = source::listen(&mut session, &ends, &tables).await?;
            let rows = copy::copy(&ends, &tables, from).await?;
            order.rows_copied = i64::try_from(rows).unwrap_or(i64::MAX);
        }
        if !progress.built {
            let after_rows = after_rows(&ends, &tables, &mut mover).await?;
            if source::fingerprint(&mut session, &ends).await? != order.fingerprint {
                return Ok(Next::Restart);
            }
            target::build(&mut mover, &ends, &(after_rows + &graph::help(&ends, &tables))).await?;
        }
        let analyse: Vec<_> = tables.iter().map(|table| format!("ANALYZE {}", table.place)).collect();
        for statement in analyse {
            run(&mut mover, &statement).await?;
        }
        let order = Move { phase: Phase::CatchingUp, ..order };
        self.write(&order, [journal::copied(&order)]).await?;
        Ok(Next::Go(Box::new(order)))
    }

    /// Follows what is written, compares both sides while it is written, and then switches.
    pub(super) async fn catch_up(&self, order: &Move) -> Result<Next> {
        let ends = self.ends(order).await?;
        let mut session = ends.source_session().await?;
        if !self.is_as_it_was(order, &ends, &mut session).await? {
            return Ok(Next::Restart);
        }
        let tables = source::tables(&mut session, &ends).await?;
        let Some(mut stream) = Stream::open(&ends, self.0.rules.batch).await? else { return Ok(Next::Restart) };
        target::unprotect(&mut stream.mover, &tables).await?;
        stream.follow(&ends).await?;
        self.fill_views(&ends, &mut session, &mut stream).await?;
        self.compare(&ends, &tables, (&mut session, &mut stream)).await?;
        if source::fingerprint(&mut session, &ends).await? != order.fingerprint {
            return Ok(Next::Restart);
        }
        self.switch(order, &ends, &tables, stream).await
    }

    /// All rows first; then, twice, what was written in the time that took.
    async fn compare(
        &self,
        ends: &Ends,
        tables: &[Table],
        (session, stream): (&mut CellSession, &mut Stream),
    ) -> Result<()> {
        for pass in 0..3 {
            stream.meet(ends, session).await?;
            let touched = std::mem::take(&mut stream.touched);
            let sides = (&mut *session, &mut stream.mover);
            if pass == 0 {
                compare::all(tables, sides).await?;
            } else {
                compare::touched(&touched, sides).await?;
            }
            run(session, "COMMIT").await?;
        }
        Ok(())
    }

    /// Their rows are no rows of their own: they are made again, in the order in which the views were.
    async fn fill_views(&self, ends: &Ends, session: &mut CellSession, stream: &mut Stream) -> Result<()> {
        for view in source::filled_views(session, ends).await? {
            run(&mut stream.mover, &format!("REFRESH MATERIALIZED VIEW {view}")).await?;
        }
        Ok(())
    }

    /// Services come in at the source again; what is wanted then goes on.
    pub(super) async fn open_source(&self, order: &Move) -> Result<Next> {
        let ends = self.ends(order).await?;
        source::let_in(&mut ends.source_session().await?, &ends).await?;
        let order = Move { phase: Phase::CatchingUp, ..order.clone() };
        self.write(&order, []).await?;
        Ok(Next::Go(Box::new(order)))
    }

    /// After the switch: the target is open, and what the move needed besides is gone from both ends.
    pub(super) async fn tidy(&self, order: &Move) -> Result<Next> {
        let ends = self.ends(order).await?;
        let mut owner = ends.target_session().await?;
        source::let_in(&mut owner, &ends).await?;
        target::clear(&ends).await?;
        self.released(order).await?;
        let mut session = ends.source_session().await?;
        source::stop_listening(&mut session, &ends).await?;
        source::end_sessions(&mut session, &ends).await?;
        Ok(Next::Rest)
    }

    /// What the tenant had at the source goes.
    pub(super) async fn give_up_source(&self, order: &Move) -> Result<Next> {
        self.tidy(order).await?;
        let ends = self.ends(order).await?;
        let removed = self.0.provisioning.remove_at(&ends.source).await?;
        let order = Move { phase: Phase::Confirmed, problem: String::new(), ..order.clone() };
        self.finish(&order, order.source_cell, journal::confirmed(&order, &removed)).await?;
        Ok(Next::Rest)
    }

    /// What was kept at the source is older than what the tenant has by now, so it is made anew: the move back begins with taking it away.
    pub(super) async fn go_back(&self, order: &Move) -> Result<Next> {
        self.tidy(order).await?;
        self.turn_back(order).await?;
        Ok(Next::Rest)
    }

    /// Everything is as it was before the move.
    pub(super) async fn undo(&self, order: &Move) -> Result<Next> {
        let ends = self.ends(order).await?;
        self.take_back(order, &ends).await?;
        let order = if order.wanted == super::order::Wanted::Cancel {
            Move { phase: Phase::Cancelled, problem: String::new(), ..order.clone() }
        } else {
            Move { phase: Phase::Failed, ..order.clone() }
        };
        let entry = if order.phase == Phase::Cancelled { journal::cancelled(&order) } else { journal::failed(&order) };
        self.finish(&order, order.target_cell, entry).await?;
        Ok(Next::Rest)
    }

    /// The source first: there it hurts.
    async fn take_back(&self, order: &Move, ends: &Ends) -> Result<()> {
        let mut session = ends.source_session().await?;
        source::let_in(&mut session, ends).await?;
        source::stop_listening(&mut session, ends).await?;
        let identities: Vec<Identity> = serde_json::from_value(order.identities.clone()).unwrap_or_default();
        source::restore_identities(&mut session, &identities).await?;
        drop(session);
        target::clear(ends).await?;
        self.0.provisioning.remove_at(&ends.target).await?;
        Ok(())
    }

    /// Whether the source has the definitions that the target has, and still keeps what is written.
    async fn is_as_it_was(&self, order: &Move, ends: &Ends, session: &mut CellSession) -> Result<bool> {
        let same = source::fingerprint(session, ends).await? == order.fingerprint;
        Ok(same && source::listens(session, ends).await?)
    }
}

/// Whether the tenant's graph goes along.
fn has_graph(ends: &Ends, tables: &[Table]) -> bool {
    tables.iter().any(|table| table.place.schema == ends.graph)
}

async fn after_rows(ends: &Ends, tables: &[Table], mover: &mut CellSession) -> Result<String> {
    let (mut schemas, mut made) = (ends.own_schemas().to_vec(), BTreeSet::new());
    if has_graph(ends, tables) {
        schemas.push(&ends.graph);
        made = graph::made(mover, ends).await?;
    }
    timed(dump::after_rows(&ends.source_db, &ends.source_database, (&schemas, &made), ends.version()?)).await
}

async fn timed(dumped: impl Future<Output = Result<String>>) -> Result<String> {
    tokio::time::timeout(Duration::from_mins(5), dumped)
        .await
        .map_err(|_| Error::new(Kind::Unavailable, "reading the definitions of the tenant's schema takes too long"))?
}
