//! The check of one chain, on plain values: links come in by their order, problems come out.

use std::fmt;

use async_graphql::{Enum, SimpleObject};
use serde::Serialize;

use super::{Record, checkpoint::SignedCheckpoint, record::hex};
use crate::{
    access::KeyRing,
    journal::{GENESIS, link_hash},
};

/// Problems that a report lists; it counts all.
const MOST_PROBLEMS: usize = 100;

/// What the check of a chain found.
#[derive(Clone, Debug, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
#[graphql(name = "AuditReport")]
pub struct Report {
    /// Whether every entry is what was written, and none is missing.
    pub valid: bool,
    /// Entries that were checked.
    pub entries: i64,
    /// Signed checkpoints that were checked.
    pub checkpoints: i64,
    /// `sequence` of the last entry; 0 where there is none.
    pub last_sequence: i64,
    /// Hash of the last entry, hexadecimal.
    pub last_hash: Option<String>,
    /// The last entry that a genuine checkpoint vouches for; 0 where none does. Up to here the database alone could not have
    /// forged the chain.
    pub signed_up_to: i64,
    /// How many problems there are.
    pub problem_count: i64,
    /// The first 100 of them.
    pub problems: Vec<Problem>,
}

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, SimpleObject)]
#[serde(rename_all = "camelCase")]
#[graphql(name = "AuditProblem")]
pub struct Problem {
    /// The entry that it is about.
    pub sequence: i64,
    pub kind: ProblemKind,
    /// For a person.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[graphql(name = "AuditProblemKind")]
pub enum ProblemKind {
    /// One or more entries are not there.
    MissingEntry,
    /// The entry is not what its hash was made of.
    ChangedEntry,
    /// The entry does not continue the one before it.
    BrokenLink,
    /// Entries were cut off at the end: the chain's head or a checkpoint knows of later ones.
    Truncated,
    /// The chain's head is not its last entry.
    HeadMismatch,
    /// A checkpoint says another hash than the entry has, or there is no such entry.
    CheckpointMismatch,
    /// The last checkpoint that the chain's head knows of is not there.
    MissingCheckpoint,
    /// None of our keys has made the signature of a checkpoint.
    BadSignature,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.sequence, self.detail)
    }
}

/// The end of a chain by three accounts that ought to agree, read at one moment.
#[derive(Clone, Debug, Default, sea_orm::FromQueryResult)]
pub(super) struct End {
    /// `journal_heads`.
    pub(super) head: Option<i64>,
    pub(super) head_hash: Option<Vec<u8>>,
    pub(super) head_checkpoint: Option<i64>,
    /// `journal`.
    pub(super) last: Option<i64>,
    /// `journal_checkpoints`.
    pub(super) last_checkpoint: Option<i64>,
}

/// A check under way: what the next link has to continue.
#[derive(Debug)]
pub(super) struct Walk {
    sequence: i64,
    hash: Vec<u8>,
    entries: i64,
    checkpoints: i64,
    signed_up_to: i64,
    problem_count: i64,
    problems: Vec<Problem>,
}

impl Walk {
    pub(super) fn new() -> Self {
        let hash = GENESIS.to_vec();
        Self { sequence: 0, hash, entries: 0, checkpoints: 0, signed_up_to: 0, problem_count: 0, problems: Vec::new() }
    }

    /// The next entry.
    pub(super) fn step(&mut self, record: &Record) {
        let sequence = record.sequence;
        self.entries += 1;
        if sequence <= self.sequence {
            self.found(sequence, ProblemKind::BrokenLink, "stands before the beginning of the chain");
            return;
        }
        if sequence != self.sequence + 1 {
            let missing = match (self.sequence + 1, sequence - 1) {
                (first, last) if first == last => format!("entry {first} is missing"),
                (first, last) => format!("entries {first} to {last} are missing"),
            };
            self.found(self.sequence + 1, ProblemKind::MissingEntry, missing);
        } else if record.previous_hash != self.hash {
            self.found(sequence, ProblemKind::BrokenLink, format!("does not continue entry {}", self.sequence));
        }
        if recomputed(record).as_deref() != Some(&record.hash) {
            self.found(sequence, ProblemKind::ChangedEntry, "is not what its hash was made of");
        }
        self.sequence = sequence;
        self.hash.clone_from(&record.hash);
    }

    /// A checkpoint of the part of the chain that was just walked; `entry` is the entry that it names.
    pub(super) fn checkpoint(&mut self, signed: &SignedCheckpoint, entry: Option<&Record>, keyring: &KeyRing) {
        let sequence = signed.checkpoint.sequence;
        self.checkpoints += 1;
        let same = entry.is_some_and(|entry| entry.hash == signed.checkpoint.hash);
        if !same {
            let detail = if entry.is_some() {
                "has another hash than its checkpoint says"
            } else {
                "has a checkpoint and is missing"
            };
            self.found(sequence, ProblemKind::CheckpointMismatch, detail);
        }
        let genuine = signed.is_genuine(keyring);
        if !genuine {
            let detail = format!("no key of ours has signed its checkpoint as {:?}", signed.signature.kid);
            self.found(sequence, ProblemKind::BadSignature, detail);
        }
        if same && genuine {
            self.signed_up_to = self.signed_up_to.max(sequence);
        }
    }

    /// Compares the last entry with what head and checkpoints know of.
    pub(super) fn finish(mut self, end: &End) -> Report {
        let (last, head) = (self.sequence, end.head.unwrap_or(0));
        if head > last {
            self.found(
                last + 1,
                ProblemKind::Truncated,
                format!("the head of the chain is entry {head}, but entry {last} is the last"),
            );
        } else if head < last || (last > 0 && end.head_hash.as_ref() != Some(&self.hash)) {
            self.found(
                last,
                ProblemKind::HeadMismatch,
                format!("is the last, but the head of the chain is another entry {head}"),
            );
        }
        let last_checkpoint = end.last_checkpoint.unwrap_or(0);
        if last_checkpoint > last {
            let detail = format!("there is a checkpoint of entry {last_checkpoint}, but entry {last} is the last");
            self.found(last + 1, ProblemKind::Truncated, detail);
        }
        let signed = end.head_checkpoint.unwrap_or(0);
        if signed > last_checkpoint {
            self.found(signed, ProblemKind::MissingCheckpoint, "its checkpoint is missing");
        }
        self.report()
    }

    fn report(self) -> Report {
        Report {
            valid: self.problem_count == 0,
            entries: self.entries,
            checkpoints: self.checkpoints,
            last_sequence: self.sequence,
            last_hash: (self.entries > 0).then(|| hex(&self.hash)),
            signed_up_to: self.signed_up_to,
            problem_count: self.problem_count,
            problems: self.problems,
        }
    }

    fn found(&mut self, sequence: i64, kind: ProblemKind, detail: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem { sequence, kind, detail: detail.into() });
        }
    }
}

/// The hash by what the row says stood before it, so that an edit shows where it was made and nowhere else.
fn recomputed(record: &Record) -> Option<Vec<u8>> {
    let previous = record.previous_hash.as_slice().try_into().ok()?;
    Some(link_hash(&previous, &record.link()).to_vec())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::{
        access::Detached,
        audit::Checkpoint,
        platform::ids::{EntryId, TenantId},
    };

    fn chain(length: i64) -> Vec<Record> {
        let mut previous = GENESIS;
        let mut next = |sequence| {
            let mut record = Record {
                tenant_id: TenantId::PLATFORM,
                sequence,
                entry_id: EntryId::from_uuid(uuid::Uuid::nil()),
                at: DateTime::UNIX_EPOCH,
                event: "PlanCreated".to_owned(),
                actor_kind: "SYSTEM".to_owned(),
                actor: "test".to_owned(),
                subject_kind: "plan".to_owned(),
                subject_id: "pro".to_owned(),
                before: None,
                after: Some("{}".to_owned()),
                request_id: None,
                address: None,
                previous_hash: previous.to_vec(),
                hash: Vec::new(),
            };
            previous = link_hash(&previous, &record.link());
            record.hash = previous.to_vec();
            record
        };
        (1..=length).map(&mut next).collect()
    }

    fn end(records: &[Record]) -> End {
        let last = records.last().expect("a chain");
        End {
            head: Some(last.sequence),
            head_hash: Some(last.hash.clone()),
            last: Some(last.sequence),
            ..End::default()
        }
    }

    fn kinds(records: &[Record], end: &End) -> Vec<(i64, ProblemKind)> {
        let mut walk = Walk::new();
        records.iter().for_each(|record| walk.step(record));
        walk.finish(end).problems.into_iter().map(|problem| (problem.sequence, problem.kind)).collect()
    }

    #[test]
    fn an_untouched_chain_is_valid() {
        let records = chain(3);
        assert_eq!(kinds(&records, &end(&records)), []);
        assert_eq!(kinds(&[], &End::default()), []);
    }

    #[test]
    fn an_edit_shows_where_it_was_made() {
        let mut records = chain(3);
        records[1].after = Some("{ }".to_owned());
        assert_eq!(kinds(&records, &end(&records)), [(2, ProblemKind::ChangedEntry)]);
    }

    #[test]
    fn a_chain_made_anew_from_the_middle_shows_where_it_was_joined() {
        let (mut records, other) = (chain(4), chain(3));
        records[1].hash = other[0].hash.clone();
        assert_eq!(kinds(&records, &end(&records)), [(2, ProblemKind::ChangedEntry), (3, ProblemKind::BrokenLink)]);
    }

    #[test]
    fn what_is_missing_shows_at_any_place() {
        let records = chain(5);
        let whole = end(&records);
        assert_eq!(kinds(&records[1..], &whole), [(1, ProblemKind::MissingEntry)]);
        assert_eq!(kinds(&[&records[..2], &records[4..]].concat(), &whole), [(3, ProblemKind::MissingEntry)]);
        assert_eq!(kinds(&records[..3], &whole), [(4, ProblemKind::Truncated)]);
    }

    #[test]
    fn a_checkpoint_that_nobody_signed_vouches_for_nothing() {
        let records = chain(1);
        let checkpoint = Checkpoint {
            tenant_id: TenantId::PLATFORM,
            sequence: 1,
            hash: records[0].hash.clone(),
            at: DateTime::UNIX_EPOCH,
        };
        let signed =
            SignedCheckpoint { checkpoint, signature: Detached { kid: "k".to_owned(), signature: vec![0; 256] } };
        let mut walk = Walk::new();
        walk.step(&records[0]);
        walk.checkpoint(&signed, Some(&records[0]), &KeyRing::new("https://tenantry.example"));
        let report = walk.finish(&End { last_checkpoint: Some(1), head_checkpoint: Some(1), ..end(&records) });
        assert_eq!((report.valid, report.signed_up_to, report.problems[0].kind), (false, 0, ProblemKind::BadSignature));
    }

    #[test]
    fn a_report_lists_some_problems_and_counts_all() {
        let mut records = chain(150);
        records.iter_mut().for_each(|record| record.actor.push('x'));
        let mut walk = Walk::new();
        records.iter().for_each(|record| walk.step(record));
        let report = walk.finish(&end(&records));
        assert_eq!((report.problem_count, report.problems.len()), (150, MOST_PROBLEMS));
    }
}
