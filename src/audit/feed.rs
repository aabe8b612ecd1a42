//! Readers that go on from where they stood, and never pass by a transaction that is still open.

use super::{
    Audit, Chain, Cursor, Filter, Order, Reach, Row,
    list::{self, Wanted},
    reach::Reading,
    record::foreign_cursor,
};
use crate::error::{Context as _, Result};

/// Entries that are read at once.
const PAGE: usize = 100;

/// A place in the journal that moves forward. It keeps nothing but the place.
#[derive(Clone, Debug)]
pub struct Feed {
    audit: Audit,
    reach: Reach,
    place: Cursor,
    /// Where it began with what happens next: the moment of that, until all that was under way then has been passed.
    beginning: Option<Snapshot>,
}

/// Entries in the order of their list, and what comes behind them.
#[derive(Clone, Debug)]
pub struct Batch {
    pub rows: Vec<Row>,
    pub ahead: Ahead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// More can be read at once.
    More,
    /// Entries that wait for an older transaction to end: worth another look soon. Nobody tells when it does.
    Held,
    /// Nothing yet.
    Nothing,
}

/// `xmin:xmax:…` of PostgreSQL (`pg_snapshot`).
#[derive(Clone, Debug)]
struct Snapshot {
    text: String,
    /// Every transaction before this one had ended.
    xmin: u64,
    /// No transaction from this one on had begun.
    xmax: u64,
}

impl Snapshot {
    fn parse(text: String) -> Result<Self> {
        let mut parts = text.split(':').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(xmin)), Some(Ok(xmax))) => Ok(Self { xmin, xmax, text }),
            _ => Err(format!("{text:?} is no snapshot")).context("read a snapshot"),
        }
    }
}

impl Audit {
    /// A reader that goes on behind `after` or, without it, begins with what is committed after this call.
    pub async fn feed(&self, reach: Reach, after: Option<Cursor>) -> Result<Feed> {
        let tx = self.read(&reach).await?;
        let (place, beginning) = match &reach {
            Reach::Chain(chain) => (place_in(&tx, chain, after).await?, None),
            Reach::All(_) => place_over_all(&tx, after).await?,
        };
        tx.end().await?;
        Ok(Feed { audit: self.clone(), reach, place, beginning })
    }
}

async fn place_in(tx: &Reading, chain: &Chain, after: Option<Cursor>) -> Result<Cursor> {
    let head = list::head(tx, chain.tenant()).await?;
    if head.is_none() {
        chain.nothing_there()?;
    }
    let head = head.unwrap_or(0);
    match after {
        None => Ok(Cursor::Sequence(head)),
        Some(Cursor::Sequence(sequence)) if sequence <= head => Ok(Cursor::Sequence(sequence)),
        Some(_) => Err(foreign_cursor()),
    }
}

/// A cursor from beyond `xmax` is of another database, or of this one before it was set back. `xmax` itself is where a
/// reader begins while nothing is under way.
async fn place_over_all(tx: &Reading, after: Option<Cursor>) -> Result<(Cursor, Option<Snapshot>)> {
    let row = tx.row("select pg_current_snapshot()::text as snapshot", []).await?.context("take a snapshot")?;
    let now = Snapshot::parse(row.try_get("", "snapshot")?)?;
    match after {
        None => Ok((Cursor::Place(now.xmin, 0), Some(now))),
        Some(Cursor::Place(transaction, position)) if transaction <= now.xmax => {
            Ok((Cursor::Place(transaction, position), None))
        }
        Some(_) => Err(foreign_cursor()),
    }
}

impl Feed {
    /// The next page, in a transaction of its own; the reader then stands behind it.
    pub async fn next(&mut self) -> Result<Batch> {
        let tx = self.audit.read(&self.reach).await?;
        let rows = list::rows(&tx, self.wanted(PAGE, &Filter::default())).await?;
        let place = rows.last().map_or(self.place, |row| row.cursor);
        let ahead = match (rows.len(), place) {
            (PAGE, _) => Ahead::More,
            (_, Cursor::Place(transaction, position)) if self.is_held(&tx, transaction, position).await? => Ahead::Held,
            _ => Ahead::Nothing,
        };
        tx.end().await?;
        self.place = place;
        self.beginning
            .take_if(|beginning| matches!(place, Cursor::Place(transaction, _) if transaction >= beginning.xmax));
        Ok(Batch { rows, ahead })
    }

    /// Behind what was read last.
    pub fn place(&self) -> Cursor {
        self.place
    }

    /// Whether anything is committed beyond the place. It is asked after the page was read, so what came between counts, too:
    /// that one can be read at once.
    async fn is_held(&self, tx: &Reading, transaction: u64, position: i64) -> Result<bool> {
        const BEYOND: &str = "
            select exists (select from tenantry.journal where (transaction, position) > ($1::xid8, $2)
              and ($3::text is null or not pg_visible_in_snapshot(transaction, $3::pg_snapshot))) as beyond";
        let unseen = self.beginning.as_ref().map(|beginning| beginning.text.clone());
        let row = tx
            .row(BEYOND, [transaction.to_string().into(), position.into(), unseen.into()])
            .await?
            .context("look ahead")?;
        Ok(row.try_get("", "beyond")?)
    }

    fn wanted<'a>(&'a self, limit: usize, filter: &'a Filter) -> Wanted<'a> {
        let unseen = self.beginning.as_ref().map(|beginning| beginning.text.as_str());
        Wanted {
            tenant: self.reach.tenant(),
            filter,
            order: Order::OldestFirst,
            after: Some(self.place),
            unseen,
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_from_postgresqls_text() {
        let snapshot = Snapshot::parse("10:20:10,14,15".to_owned()).expect("a snapshot");
        assert_eq!((snapshot.xmin, snapshot.xmax), (10, 20));
        assert!(Snapshot::parse("10".to_owned()).is_err());
        assert!(Snapshot::parse(":1:".to_owned()).is_err());
    }
}
