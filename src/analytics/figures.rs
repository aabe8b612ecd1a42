//! What was asked in each window, and how it went.

use std::collections::BTreeMap;

use super::{
    Analytics,
    latencies::Latencies,
    requests::OK,
    store::{self, Found},
};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    usage::Bounds,
};

/// Figures of one answer: more are nobody's.
pub(super) const MOST: usize = 20_000;

/// Requests of one window and, where it was asked for, one operation.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestFigures {
    pub window: Bounds,
    /// None: all of them.
    pub operation: Option<String>,
    pub count: i64,
    /// Those that failed, by code.
    pub errors: BTreeMap<String, i64>,
    /// Of all of them, whatever came of them.
    pub latencies: Latencies,
}

impl RequestFigures {
    pub fn failed(&self) -> i64 {
        self.errors.values().sum()
    }

    /// The share of those that failed, from 0 to 1.
    pub fn error_rate(&self) -> f64 {
        self.failed() as f64 / self.count.max(1) as f64
    }
}

/// How many there were in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callers {
    pub window: Bounds,
    pub count: i64,
}

/// Whether operations are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    Together,
    ByOperation,
}

impl Analytics {
    /// Windows in which nothing was asked are not told. A quarter of an hour belongs to the window that it begins in.
    pub async fn request_figures(
        &self,
        scope: &TenantScope,
        windows: &[Bounds],
        grouping: Grouping,
    ) -> Result<Vec<RequestFigures>> {
        let tx = self.isolation.begin(scope).await?;
        let most = i64::try_from(MOST).map_err(Error::internal)? + 1;
        let found = store::figures(&tx, windows, grouping, most).await?;
        tx.commit_unrecorded("a read").await?;
        if found.len() > MOST {
            return Err(too_much());
        }
        found.into_iter().map(|found| figures(found, windows, grouping)).collect()
    }

    /// How many different callers asked in each window, by `sub` of their tokens.
    pub async fn callers(&self, scope: &TenantScope, windows: &[Bounds]) -> Result<Vec<Callers>> {
        let tx = self.isolation.begin(scope).await?;
        let found = store::callers(&tx, windows).await?;
        tx.commit_unrecorded("a read").await?;
        found.into_iter().map(|(place, count)| Ok(Callers { window: at(windows, place)?, count })).collect()
    }
}

pub(super) fn too_much() -> Error {
    Error::invalid("from", format!("asks for more than {MOST} figures; ask for less at a time"))
}

pub(super) fn at(windows: &[Bounds], place: usize) -> Result<Bounds> {
    windows.get(place).copied().ok_or_else(|| Error::internal("a window that was not asked for"))
}

fn figures(found: Found, windows: &[Bounds], grouping: Grouping) -> Result<RequestFigures> {
    let count = found.outcomes.values().sum();
    let mut errors = found.outcomes;
    errors.remove(OK);
    let operation = (grouping == Grouping::ByOperation).then_some(found.operation);
    Ok(RequestFigures { window: at(windows, found.window)?, operation, count, errors, latencies: found.latencies })
}
