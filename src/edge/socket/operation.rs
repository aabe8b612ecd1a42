//! The operations of one socket: which run, and how one runs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_graphql::{Request, ServerError};
use futures::{FutureExt, StreamExt};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::Host;
use super::message::{OperationId, ServerMessage, graphql_error, is_refusal, refused_request};
use super::outgoing::{Counted, Outgoing};
use crate::error::{Error, Kind};

/// One operation from `subscribe` to its end.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) id: OperationId,
    pub(super) request_id: String,
    stop: CancellationToken,
}

impl Operation {
    /// Whether the client completed it or the socket ended. Nothing of it is sent from then on.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Why an operation cannot begin.
pub(super) enum Refusal {
    Duplicate,
    Full,
}

/// Those that run. When this is dropped, so are they.
pub(super) struct Operations {
    running: Mutex<HashMap<OperationId, Arc<Operation>>>,
    most: usize,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Drop for Operations {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Operations {
    pub(super) fn new(most: usize) -> Self {
        Self { running: Mutex::default(), most, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Reserves the id. The caller starts the operation.
    pub(super) fn begin(&self, id: &OperationId, request_id: &str) -> Result<Arc<Operation>, Refusal> {
        let mut running = self.running();
        let count = running.len();
        match running.entry(id.clone()) {
            Entry::Occupied(_) => Err(Refusal::Duplicate),
            Entry::Vacant(_) if count >= self.most => Err(Refusal::Full),
            Entry::Vacant(slot) => {
                let stop = self.stop.child_token();
                let operation = Operation { id: id.clone(), request_id: request_id.to_owned(), stop };
                Ok(slot.insert(Arc::new(operation)).clone())
            }
        }
    }

    pub(super) fn spawn<H: Host>(&self, runner: Arc<Runner<H>>, operation: Arc<Operation>, request: Request) {
        self.tasks.spawn(async move { runner.run(operation, request).await }.in_current_span());
    }

    /// The client wants no more of it. An id that does not run is no mistake: the two `complete` may have crossed.
    pub(super) fn stop(&self, id: &OperationId) {
        if let Some(operation) = self.running().remove(id) {
            operation.stop.cancel();
        }
    }

    /// Frees the id, and says whether the operation still had it. Its successor under the same id is left alone.
    pub(super) fn finish(&self, operation: &Arc<Operation>) -> bool {
        let mut running = self.running();
        let still = running.get(&operation.id).is_some_and(|current| Arc::ptr_eq(current, operation));
        if still {
            running.remove(&operation.id);
        }
        still
    }

    /// Stops all, and tells which ran.
    pub(super) fn stop_all(&self) -> Vec<Arc<Operation>> {
        let stopped: Vec<_> = self.running().drain().map(|(_, operation)| operation).collect();
        stopped.iter().for_each(|operation| operation.stop.cancel());
        stopped
    }

    /// Returns when the last stream is dropped.
    pub(super) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn running(&self) -> MutexGuard<'_, HashMap<OperationId, Arc<Operation>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the operations of one session.
pub(super) struct Runner<H: Host> {
    pub(super) host: H,
    pub(super) session: Arc<H::Session>,
    pub(super) queue: mpsc::Sender<Outgoing>,
    /// Tells the socket that the session may not go on.
    pub(super) revoke: mpsc::Sender<Error>,
}

/// How an operation ended early.
enum Stop {
    Refused(Error),
    Rejected(Vec<ServerError>),
    Revoked(Error),
    Disconnected,
}

impl<H: Host> Runner<H> {
    async fn run(&self, operation: Arc<Operation>, request: Request) {
        let whole = async {
            let forwarded = AssertUnwindSafe(self.forward(&operation, request)).catch_unwind().await;
            if let Some(text) = self.last_word(&operation, forwarded) {
                // Refused only when the socket is gone.
                self.queue.send(Outgoing::Last(operation.clone(), text)).await.ok();
            }
        };
        operation.stop.run_until_cancelled(whole).await;
    }

    async fn forward(&self, operation: &Arc<Operation>, request: Request) -> Result<(), Stop> {
        self.host.check(&self.session).map_err(Stop::Revoked)?;
        let _permit = self.host.admit(&self.session).map_err(Stop::Refused)?;
        let _counted = Counted::operation();
        let started = self.host.start(&self.session, request, operation.request_id.clone());
        let mut responses = started.await.map_err(Stop::Refused)?;
        while let Some(response) = responses.next().await {
            // The check comes after the wait for a place, which may take as long as a reader is slow.
            let place = self.queue.reserve().await.map_err(|_| Stop::Disconnected)?;
            self.host.check(&self.session).map_err(Stop::Revoked)?;
            if is_refusal(&response) {
                return Err(Stop::Rejected(response.errors));
            }
            let text = ServerMessage::Next { id: &operation.id, payload: &response }.text();
            place.send(Outgoing::Event(operation.clone(), text));
        }
        Ok(())
    }

    /// `None` if the socket says it: a revoked session ends all its operations at once.
    fn last_word(&self, operation: &Operation, end: std::thread::Result<Result<(), Stop>>) -> Option<String> {
        match end {
            Ok(Ok(())) => Some(ServerMessage::Complete { id: &operation.id }.text()),
            Ok(Err(Stop::Refused(error))) => Some(refused(operation, &error)),
            Ok(Err(Stop::Rejected(errors))) => {
                let errors = errors.iter().map(|error| refused_request(error, &operation.request_id));
                Some(failed(operation, errors.collect()))
            }
            Ok(Err(Stop::Revoked(error))) => {
                // One reason is enough: a full channel means that another operation gave it.
                self.revoke.try_send(error).ok();
                None
            }
            Ok(Err(Stop::Disconnected)) => None,
            Err(_) => Some(refused(operation, &Error::internal("an operation panicked"))),
        }
    }
}

/// The `error` message that ends an operation, and its line in the log.
pub(super) fn refused(operation: &Operation, error: &Error) -> String {
    let request_id = operation.request_id.as_str();
    if error.kind() == Kind::Internal {
        tracing::error!(request_id, cause = ?error.cause(), "operation on a socket failed");
    } else {
        tracing::debug!(request_id, code = error.kind().code(), "operation on a socket refused");
    }
    failed(operation, vec![graphql_error(error, request_id)])
}

fn failed(operation: &Operation, errors: Vec<Value>) -> String {
    ServerMessage::Error { id: &operation.id, payload: errors }.text()
}
