//! The first copy: all rows of one snapshot of the source, in one transaction of the target.

use super::{
    ends::{Ends, run},
    position::lsn,
    source::Table,
    target,
};
use crate::{
    cells::quoted,
    error::{Error, Kind, Result},
};

/// Copies all rows as of now, and notes which snapshot that was; `from` is where the source keeps changes since. Answers the rows.
///
/// Reading a table runs no code of the tenant's; writing into it may, and is done with the tenant's rights.
pub(super) async fn copy(ends: &Ends, tables: &[Table], from: u64) -> Result<u64> {
    let (mut source, mut mover) = (ends.source_session().await?, ends.mover_session().await?);
    run(&mut source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let snapshot: String = source.json("select to_jsonb(pg_current_snapshot()::text)::text", &[]).await?;
    run(&mut mover, "BEGIN").await?;
    let known = target::lock_progress(&mut mover, ends).await?;
    if known.is_none_or(|known| known.snapshot.is_some()) {
        return Err(Error::new(Kind::Unavailable, "another server copies the same rows"));
    }
    let mut rows = 0;
    for table in tables.iter().filter(|table| !table.columns.is_empty()) {
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(column)).collect();
        let place = format!("{} ({})", table.place, columns.join(", "));
        let (out, into) = (format!("COPY {place} TO STDOUT"), format!("COPY {place} FROM STDIN"));
        rows += source.copy_to(&out, &mut mover, &into).await?;
    }
    run(&mut mover, &format!("{}; COMMIT", target::note_copied(ends, &snapshot, &lsn(from)))).await?;
    run(&mut source, "COMMIT").await?;
    Ok(rows)
}
