//! One link of a chain: what it says, and the journal entry behind it.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    audit::{Record, Sought},
    platform::ids::EntryId,
};

/// What a link is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "AccessStep")]
pub enum Step {
    /// The tenant's state.
    Lifecycle,
    /// The tenant's access epoch: tokens of an earlier one are worth nothing.
    AccessEpoch,
    /// The region that the tenant is at home in.
    HomeRegion,
    /// What a token may be good for.
    Scope,
    /// The definition in the catalogue: a quota, a kind of resources, a resource, a flag.
    Catalogue,
    /// Which plan the tenant is on.
    Plan,
    /// What the plan says.
    PlanValue,
    /// The override of a limit.
    Override,
    /// A boost of a limit.
    Boost,
    /// A grant.
    Grant,
    /// What was added for the tenant, or taken from it.
    AllowList,
    /// What is used and held.
    Usage,
    /// Whether the flag is switched on.
    KillSwitch,
    /// Whether the tenant has the feature that the flag needs.
    PlanCeiling,
    /// A flag that must have a value first.
    Prerequisite,
    /// The tenant's own value of a flag.
    TenantValue,
    /// A targeting rule.
    Rule,
    /// A group that the rule is for.
    Segment,
    /// The bucket that the rollout of a rule puts the tenant into.
    Rollout,
    /// The flag's value where nothing else applies.
    Default,
}

/// Where the record of a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trail {
    Tenant(Sought),
    Platform(Sought),
    /// Nobody set it: it was counted, or computed.
    Computed,
}

/// A link before its entry was looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub step: Step,
    /// One sentence for people.
    pub text: String,
    pub value: Value,
    /// Whether the answer follows from it.
    pub decides: bool,
    pub trail: Trail,
}

/// Where a link comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "AccessOrigin")]
pub enum Origin {
    /// An entry of the tenant's journal.
    TenantJournal,
    /// An entry of the platform's journal.
    PlatformJournal,
    /// It shipped with the product: nobody has changed it, and there is no entry.
    Shipped,
    /// It was counted or computed for this answer: there is no entry.
    Computed,
}

/// Who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub kind: String,
    /// Withheld from services where it is an operator's.
    pub name: Option<String>,
}

/// The entry that set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub id: EntryId,
    pub sequence: i64,
    pub event: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub step: Step,
    pub text: String,
    pub value: Value,
    pub decides: bool,
    pub origin: Origin,
    pub at: Option<DateTime<Utc>>,
    pub actor: Option<Actor>,
    pub entry: Option<Proof>,
}

/// What the reader may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Operator,
    /// A service: names of operators, and entries of the platform's journal, are not for it.
    Service,
}

impl Draft {
    pub fn new(step: Step, text: impl Into<String>, value: impl Into<Value>, trail: Trail) -> Self {
        Self { step, text: text.into(), value: value.into(), decides: false, trail }
    }

    pub fn deciding(self) -> Self {
        Self { decides: true, ..self }
    }

    pub fn deciding_if(self, decides: bool) -> Self {
        Self { decides, ..self }
    }

    /// With the entry that was found, as far as the reader may know it.
    pub fn with(self, record: Option<&Record>, reader: Reader) -> Link {
        let (of_platform, origin) = match (&self.trail, record) {
            (Trail::Computed, _) => (false, Origin::Computed),
            (_, None) => (false, Origin::Shipped),
            (Trail::Tenant(_), Some(_)) => (false, Origin::TenantJournal),
            (Trail::Platform(_), Some(_)) => (true, Origin::PlatformJournal),
        };
        let service = reader == Reader::Service;
        let actor = |record: &Record| Actor {
            kind: record.actor_kind.clone(),
            name: (!service || record.actor_kind == "SERVICE").then(|| record.actor.clone()),
        };
        let proof =
            |record: &Record| Proof { id: record.entry_id, sequence: record.sequence, event: record.event.clone() };
        Link {
            step: self.step,
            text: self.text,
            value: self.value,
            decides: self.decides,
            origin,
            at: record.map(|record| record.at),
            actor: record.map(actor),
            entry: record.filter(|_| !(service && of_platform)).map(proof),
        }
    }
}

/// Marks the last link as the one that the answer follows from.
pub fn last_decides(drafts: &mut [Draft]) {
    if drafts.iter().all(|draft| !draft.decides)
        && let Some(last) = drafts.last_mut()
    {
        last.decides = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::ids::TenantId;

    fn record(actor_kind: &str) -> Record {
        Record {
            tenant_id: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
            sequence: 3,
            entry_id: EntryId::from_uuid(uuid::Uuid::from_u128(9)),
            at: DateTime::UNIX_EPOCH,
            event: "QuotaSet".into(),
            actor_kind: actor_kind.into(),
            actor: "somebody".into(),
            subject_kind: "quota".into(),
            subject_id: "max_users".into(),
            before: None,
            after: None,
            request_id: None,
            address: None,
            previous_hash: Vec::new(),
            hash: Vec::new(),
        }
    }

    fn link(trail: Trail, actor_kind: &str, reader: Reader) -> Link {
        Draft::new(Step::Override, "", 1, trail).with(Some(&record(actor_kind)), reader)
    }

    #[test]
    fn a_service_is_shown_its_own_services_and_entries_and_of_the_platform_only_when() {
        let (tenant, platform) = (Trail::Tenant(Sought::new("quota", "x")), Trail::Platform(Sought::new("plan", "x")));
        let name = |link: &Link| link.actor.as_ref().unwrap().name.clone();
        let by_service = link(tenant.clone(), "SERVICE", Reader::Service);
        assert_eq!((name(&by_service).as_deref(), by_service.entry.is_some()), (Some("somebody"), true));
        let by_operator = link(tenant, "OPERATOR", Reader::Service);
        assert_eq!((name(&by_operator), by_operator.entry.is_some()), (None, true));
        let of_platform = link(platform.clone(), "OPERATOR", Reader::Service);
        assert_eq!((name(&of_platform), &of_platform.entry, of_platform.at.is_some()), (None, &None, true));
        let for_operator = link(platform, "OPERATOR", Reader::Operator);
        assert_eq!((name(&for_operator).as_deref(), for_operator.entry.is_some()), (Some("somebody"), true));
    }
}
