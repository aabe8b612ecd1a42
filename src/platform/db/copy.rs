//! Rows of one cell streamed into another: `COPY … TO STDOUT` read as `COPY … FROM STDIN` is written.

use futures::TryStreamExt as _;

use super::cell::{CellSession, refused};
use crate::error::Result;

impl CellSession {
    /// Streams what `copy_out` answers here into `copy_in` at `target`; answers the rows.
    pub async fn copy_to(&mut self, copy_out: &str, target: &mut Self, copy_in: &str) -> Result<u64> {
        let mut into = target.connection.copy_in_raw(copy_in).await.map_err(refused)?;
        let sent = async {
            let mut out = self.connection.copy_out_raw(copy_out).await?;
            while let Some(chunk) = out.try_next().await? {
                into.send(chunk).await?;
            }
            Ok::<_, sqlx::Error>(())
        };
        if let Err(error) = sent.await {
            // The error that counts is the one that stopped the stream.
            let _ = into.abort("the source failed").await;
            return Err(refused(error));
        }
        into.finish().await.map_err(refused)
    }
}
