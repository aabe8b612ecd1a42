//! Operations on definitions: flags and segments. Writers go one after the other, so that references and the absence of
//! circles hold when they commit.

use std::collections::BTreeSet;

use super::{
    Flags, check,
    flag::Flag,
    known::Definitions,
    segment::{Conditions as SegmentConditions, Segment},
    store,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::{Conditions, OperatorScope, OperatorTx},
    journal::Entry,
    platform::ids::TenantId,
};

/// A segment as it was asked for.
#[derive(Clone, Debug)]
pub struct NewSegment {
    pub key: String,
    pub description: String,
    pub conditions: SegmentConditions,
}

/// Whether a flag is to be archived or brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    Archive,
    Restore,
}

impl Flags {
    /// Adds a flag. Version and times of `flag` are set here.
    pub async fn define(&self, scope: &OperatorScope, mut flag: Flag, conditions: &Conditions) -> Result<Flag> {
        let plans = self.plans().await?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let others = definitions(&tx).await?;
        check::flag(&flag, &others, &plans)?;
        if others.flags.iter().chain(&others.archived).any(|other| other.key == flag.key) {
            return Err(Error::conflict("there is a flag with this key already, or it is archived").at("key"));
        }
        check_count(others.flags.len(), "flags that are not archived")?;
        flag.version = 1;
        flag.archived_at = None;
        flag.created_at = tx.stamp().at;
        flag.updated_at = flag.created_at;
        store::insert_flag(&tx, flag.clone()).await?;
        let entry = Entry::new("FlagDefined", "flag", &flag.key).change(None, Some(&flag))?;
        self.keep(tx, conditions, entry, flag).await
    }

    /// Changes a definition by `decide`. Every tenant is answered by it at once.
    pub async fn update(
        &self,
        scope: &OperatorScope,
        key: &str,
        conditions: &Conditions,
        decide: impl FnOnce(&mut Flag) -> Result<()> + Send,
    ) -> Result<Flag> {
        self.change(scope, key, conditions, "FlagUpdated", |flag, _, _| decide(flag)).await
    }

    /// Takes a flag out of use, or back into it. Where another flag needs it, it stays.
    pub async fn archive(
        &self,
        scope: &OperatorScope,
        key: &str,
        archive: Archive,
        conditions: &Conditions,
    ) -> Result<Flag> {
        let event = if archive == Archive::Archive { "FlagArchived" } else { "FlagRestored" };
        self.change(scope, key, conditions, event, |flag, others, now| {
            flag.archived_at = (archive == Archive::Archive).then_some(flag.archived_at.unwrap_or(now));
            let needs = |other: &&Flag| other.prerequisites.0.iter().any(|wanted| wanted.flag == flag.key);
            match others.flags.iter().find(needs) {
                Some(other) if archive == Archive::Archive => {
                    Err(Error::conflict(format!("the flag `{}` has it as a prerequisite", other.key)).at("key"))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    /// Makes a segment, or replaces it; rules that name it follow at once.
    pub async fn define_segment(
        &self,
        scope: &OperatorScope,
        new: NewSegment,
        conditions: &Conditions,
    ) -> Result<Segment> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let others = definitions(&tx).await?;
        let before = others.segment(&new.key).cloned();
        conditions.check_version(before.as_ref().map_or(0, |segment| segment.version))?;
        let now = tx.stamp().at;
        let segment = Segment {
            key: new.key,
            description: new.description,
            conditions: new.conditions,
            version: before.as_ref().map_or(1, |segment| segment.version + 1),
            created_at: before.as_ref().map_or(now, |segment| segment.created_at),
            updated_at: now,
        };
        check::segment(&segment)?;
        match &before {
            Some(_) => store::update_segment(&tx, &segment).await?,
            None => {
                check_count(others.segments.len(), "segments")?;
                store::insert_segment(&tx, segment.clone()).await?;
            }
        }
        let event = Entry::new("FlagSegmentDefined", "flag_segment", &segment.key);
        self.keep(tx, conditions, event.change(before.as_ref(), Some(&segment))?, segment).await
    }

    /// Removes a segment that no rule names.
    pub async fn remove_segment(&self, scope: &OperatorScope, key: &str, conditions: &Conditions) -> Result<String> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let others = definitions(&tx).await?;
        let segment = others.segment(key).ok_or_else(Error::not_found)?;
        conditions.check_version(segment.version)?;
        let names = |flag: &&Flag| flag.rules.0.iter().any(|rule| rule.segments.iter().any(|named| named == key));
        if let Some(flag) = others.flags.iter().chain(&others.archived).find(names) {
            return Err(Error::conflict(format!("a rule of the flag `{}` names it", flag.key)).at("key"));
        }
        store::delete_segment(&tx, key).await?;
        let entry = Entry::new("FlagSegmentRemoved", "flag_segment", key).change(Some(segment), None)?;
        self.keep(tx, conditions, entry, key.to_owned()).await
    }

    async fn change(
        &self,
        scope: &OperatorScope,
        key: &str,
        conditions: &Conditions,
        event: &'static str,
        decide: impl FnOnce(&mut Flag, &Definitions, chrono::DateTime<chrono::Utc>) -> Result<()> + Send,
    ) -> Result<Flag> {
        let plans = self.plans().await?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let others = definitions(&tx).await?;
        let before = others.flags.iter().chain(&others.archived).find(|flag| flag.key == key);
        let before = before.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        let mut flag = before.clone();
        decide(&mut flag, &others, tx.stamp().at)?;
        let archiving = flag.archived_at.is_some() && before.archived_at.is_none();
        if !archiving {
            check::flag(&flag, &others, &plans)?;
        }
        flag.version += 1;
        flag.updated_at = tx.stamp().at;
        store::update_flag(&tx, &flag).await?;
        let entry = Entry::new(event, "flag", key).change(Some(before), Some(&flag))?;
        self.keep(tx, conditions, entry, flag).await
    }

    /// Records and commits; this replica's next answer has it.
    async fn keep<T: serde::Serialize>(
        &self,
        tx: OperatorTx,
        conditions: &Conditions,
        entry: Entry,
        answer: T,
    ) -> Result<T> {
        tx.keep_answer(conditions, &answer).await?;
        tx.commit([entry]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(answer)
    }

    async fn plans(&self) -> Result<BTreeSet<String>> {
        Ok(self.tenancy.plans().await?.into_iter().map(|plan| plan.key).collect())
    }
}

/// All definitions as they are, with nobody else changing them until the transaction ends.
async fn definitions(tx: &OperatorTx) -> Result<Definitions> {
    store::lock_definitions(tx).await?;
    Ok(Definitions::new(store::all_flags(tx).await?, store::all_segments(tx).await?))
}

fn check_count(count: usize, what: &str) -> Result<()> {
    if count >= check::MAX_DEFINITIONS {
        return Err(Error::new(Kind::QuotaExceeded, format!("there are {count} {what}; archive or remove some")));
    }
    Ok(())
}
