//! Work that comes to its end, whoever waits for it.

use std::future::Future;

use crate::error::{Error, Result};

/// Runs `work` in a task of its own. Streams are dropped without notice when their client leaves: a transaction under way then still ends.
pub async fn in_task<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(work).await.map_err(Error::internal)?
}
