//! From events as they were sent to an answer for each.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::{
    Patience, Usage,
    dimension::Dimensions,
    event::{Event, RawEvent},
};
use crate::{
    access::{Caller, Permission},
    error::{Error, Kind, Result},
    platform::ids::TenantId,
};

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    /// Its key was counted before: it is not counted again.
    Duplicate,
    Refused(Refusal),
}

/// Why an event is not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: Kind,
    pub field: Option<String>,
    pub message: String,
}

/// What became of the events of one request, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded(pub Vec<Outcome>);

impl Recorded {
    pub fn accepted(&self) -> usize {
        self.0.iter().filter(|outcome| **outcome == Outcome::Accepted).count()
    }

    pub fn duplicates(&self) -> usize {
        self.0.iter().filter(|outcome| **outcome == Outcome::Duplicate).count()
    }

    pub fn refused(&self) -> usize {
        self.0.len() - self.accepted() - self.duplicates()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { kind: error.kind(), field: error.field().map(str::to_owned), message: error.message().to_owned() }
    }
}

/// Who has events counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sender<'a> {
    Caller(&'a Arc<Caller>, &'a Permission),
    /// A source that operators have set up: it may name every tenant, and names one.
    Platform,
}

impl Sender<'_> {
    fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Caller(caller, _) => caller.tenant(),
            Self::Platform => None,
        }
    }
}

impl Usage {
    /// Counts what `caller` may have counted. A bad event is refused by itself; an error is of all, and then nothing is known to be
    /// counted: the same may be sent again.
    pub async fn record(
        &self,
        caller: &Arc<Caller>,
        permission: &Permission,
        sent: &[RawEvent],
        patience: Patience,
    ) -> Result<Recorded> {
        caller.require(permission)?;
        self.record_all(Sender::Caller(caller, permission), sent, patience).await
    }

    async fn record_all(&self, sender: Sender<'_>, sent: &[RawEvent], patience: Patience) -> Result<Recorded> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let (dimensions, now) = (catalogue.part::<Dimensions>()?, self.isolation.clock().now());
        let mut tenants: HashMap<Option<&str>, Result<TenantId, Refusal>> = HashMap::new();
        let (mut events, mut outcomes): (Vec<Event>, Vec<Option<Refusal>>) = (Vec::new(), Vec::new());
        for raw in sent {
            let tenant = match tenants.entry(raw.tenant.as_deref()) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(self.enter(sender, raw).await?).clone(),
            };
            let checked = tenant.and_then(|tenant| Ok(raw.check(tenant, dimensions, &self.rules, now)?));
            outcomes.push(match checked {
                Ok(event) => {
                    events.push(event);
                    None
                }
                Err(refusal) => Some(refusal),
            });
        }
        let mut is_new = self.intake.submit(events, patience).await?.into_iter();
        let outcome = |refused: Option<Refusal>| match refused {
            Some(refusal) => Outcome::Refused(refusal),
            None if is_new.next().unwrap_or_default() => Outcome::Accepted,
            None => Outcome::Duplicate,
        };
        let recorded = Recorded(outcomes.into_iter().map(outcome).collect());
        count("accepted", recorded.accepted());
        count("duplicate", recorded.duplicates());
        count("refused", recorded.refused());
        Ok(recorded)
    }

    /// The same of what was read one by one: what is no event is refused in its place.
    pub(super) async fn record_each(
        &self,
        sender: Sender<'_>,
        sent: Vec<Result<RawEvent>>,
        patience: Patience,
    ) -> Result<Recorded> {
        let (mut good, mut bad) = (Vec::with_capacity(sent.len()), Vec::new());
        for (place, event) in sent.into_iter().enumerate() {
            match event {
                Ok(event) => good.push(event),
                Err(error) => bad.push((place, error)),
            }
        }
        let mut outcomes = self.record_all(sender, &good, patience).await?.0;
        count("refused", bad.len());
        for (place, error) in bad {
            outcomes.insert(place, Outcome::Refused(error.into()));
        }
        Ok(Recorded(outcomes))
    }

    /// The tenant of an event, if the caller may write its usage. The outer error is not the event's.
    async fn enter(&self, sender: Sender<'_>, raw: &RawEvent) -> Result<Result<TenantId, Refusal>> {
        let named = raw.tenant.as_deref().map(TenantId::parse).transpose();
        let entered = match named.map(|named| named.or(sender.tenant())) {
            Err(error) => Err(error),
            Ok(None) => Err(Error::invalid("tenantId", "is needed: the sender is bound to no tenant")),
            Ok(Some(tenant)) => self.enter_known(sender, tenant).await,
        };
        match entered {
            Ok(tenant) => Ok(Ok(tenant)),
            Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Internal | Kind::Unauthenticated) => {
                Err(error)
            }
            Err(error) if error.kind() == Kind::NotFound => Ok(Err(Refusal::from(error.at("tenantId")))),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn enter_known(&self, sender: Sender<'_>, tenant: TenantId) -> Result<TenantId> {
        if let Sender::Caller(caller, permission) = sender {
            self.tenancy.enter(caller, tenant, permission).await?;
        }
        // An operator is let in to what there is not, too.
        let known = self.tenancy.snapshots().get(tenant).await?;
        known.map(|_| tenant).ok_or_else(Error::not_found)
    }
}

fn count(outcome: &'static str, events: usize) {
    metrics::counter!("tenantry_usage_events_total", "outcome" => outcome).increment(events as u64);
}
