//! Following the source: what it has written is read from its slot and carried over, transaction by transaction.

use super::{
    apply::{self, Touched},
    decode::{self, Relations, Transaction},
    ends::{Ends, run},
    position::{Snapshot, lsn, parse_lsn},
    target,
};
use crate::{
    error::{Error, Kind, Result},
    platform::db::CellSession,
};

/// Changes that are left for the next time where there are no more of them.
const FEW: usize = 500;

/// Both connections, and where the target is in the source's stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) source: CellSession,
    pub(super) mover: CellSession,
    /// Transactions that end up to here are at the target.
    at: u64,
    /// What the copy had already.
    copied: Snapshot,
    /// What was carried over and not compared yet.
    pub(super) touched: Touched,
    /// Changes that were carried over.
    pub(super) applied: i64,
    batch: u32,
}

impl Stream {
    /// None where nothing was copied yet.
    pub(super) async fn open(ends: &Ends, batch: u32) -> Result<Option<Self>> {
        let (source, mut mover) = (ends.source_session().await?, ends.mover_session().await?);
        let progress = target::progress(&mut mover, ends).await?;
        let Some((at, snapshot)) = progress.and_then(|progress| progress.lsn.zip(progress.snapshot)) else {
            return Ok(None);
        };
        let (at, copied) = (parse_lsn(&at)?, Snapshot::parse(&snapshot)?);
        Ok(Some(Self { source, mover, at, copied, touched: Touched::default(), applied: 0, batch }))
    }

    /// Carries over until little is left.
    pub(super) async fn follow(&mut self, ends: &Ends) -> Result<()> {
        loop {
            let flushed: String =
                self.source.json("select to_jsonb(pg_current_wal_flush_lsn()::text)::text", &[]).await?;
            let (relations, transactions) = self.peek(ends, &self.batch.to_string()).await?;
            let changes: usize = transactions.iter().map(|transaction| transaction.changes.len()).sum();
            self.carry(ends, &relations, &transactions).await?;
            // The source need not keep what is over, with changes of the tenant's or without.
            let over = if transactions.is_empty() { flushed } else { lsn(self.at) };
            self.forget_up_to(ends, &over).await?;
            if changes <= FEW {
                return Ok(());
            }
        }
    }

    /// All that is committed at the source by now, put on disk first: only that is told.
    pub(super) async fn peek_all(&mut self, ends: &Ends) -> Result<(Relations, Vec<Transaction>)> {
        run(&mut self.source, "SELECT pg_logical_emit_message(true, 'tenantry', '')").await?;
        self.peek(ends, "NULL").await
    }

    async fn peek(&mut self, ends: &Ends, most: &str) -> Result<(Relations, Vec<Transaction>)> {
        let query = format!(
            "select coalesce(json_agg(encode(data, 'hex')), '[]')::text
             from pg_logical_slot_peek_binary_changes($1, NULL, {most}, 'proto_version', '1', 'publication_names', $1)"
        );
        let messages: Vec<String> = self.source.json(&query, &[&ends.own()]).await?;
        let messages = messages.iter().map(|message| bytes(message)).collect::<Result<Vec<_>>>()?;
        let (mut relations, mut transactions) = decode::read(&messages)?;
        for label in relations.values_mut().filter(|relation| relation.place.schema == ends.graph) {
            label.tell_apart_by("id");
        }
        transactions.retain(|transaction| transaction.end > self.at);
        Ok((relations, transactions))
    }

    /// Carries these over, which are the next ones of the stream.
    pub(super) async fn carry(&mut self, ends: &Ends, relations: &Relations, next: &[Transaction]) -> Result<()> {
        let Some(last) = next.last() else { return Ok(()) };
        let missing: Vec<_> = next.iter().filter(|transaction| !self.copied.has(transaction.xid)).cloned().collect();
        let statements = apply::statements(relations, &missing, &mut self.touched)?;
        let (from, to) = (lsn(self.at), lsn(last.end));
        target::carry_over(&mut self.mover, ends, (&from, &to), &statements).await?;
        self.at = last.end;
        self.applied += i64::try_from(statements.len()).unwrap_or(i64::MAX);
        Ok(())
    }

    async fn forget_up_to(&mut self, ends: &Ends, over: &str) -> Result<()> {
        let query = "select to_jsonb(end_lsn::text)::text from pg_replication_slot_advance($1, $2::text::pg_lsn)";
        let _: String = self.source.json(query, &[&ends.own(), over]).await?;
        Ok(())
    }

    /// A snapshot of the source in `beside`, and the target exactly there: what of both is compared must be the same.
    pub(super) async fn meet(&mut self, ends: &Ends, beside: &mut CellSession) -> Result<()> {
        for _ in 0..50 {
            self.follow(ends).await?;
            run(beside, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            let text: String = beside.json("select to_jsonb(pg_current_snapshot()::text)::text", &[]).await?;
            let snapshot = Snapshot::parse(&text)?;
            let (relations, transactions) = self.peek_all(ends).await?;
            let seen =
                transactions.iter().rposition(|transaction| snapshot.has(transaction.xid)).map_or(0, |last| last + 1);
            let meets = transactions[..seen].iter().all(|transaction| snapshot.has(transaction.xid));
            self.carry(ends, &relations, &transactions[..seen]).await?;
            if meets {
                return Ok(());
            }
            // One that the snapshot has not ended in the log before one that it has.
            run(beside, "COMMIT").await?;
        }
        Err(Error::new(
            Kind::Unavailable,
            "the source writes faster than both sides can be compared; it is tried again",
        ))
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    let read: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    read.ok_or_else(|| Error::internal("the source's stream of changes is no hexadecimal text"))
}
