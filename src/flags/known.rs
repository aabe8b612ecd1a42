//! What is kept in memory: all definitions of the platform, and of each tenant its own values.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{flag::Flag, segment::Segment, setting::Setting, store};
use crate::{
    error::Result,
    platform::{db::Tx, ids::TenantId},
    tenancy::{Part, TenantPart},
};

/// Flags and segments, each in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// Those that are evaluated.
    pub flags: Vec<Flag>,
    pub archived: Vec<Flag>,
    pub segments: Vec<Segment>,
    bytes: usize,
}

/// A tenant's own values, in the order of their flags' keys.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    settings: Vec<Setting>,
    /// When one begins or ends, in order.
    turns: Vec<DateTime<Utc>>,
}

impl Definitions {
    pub fn new(flags: Vec<Flag>, mut segments: Vec<Segment>) -> Self {
        let bytes = flags.iter().map(flag_bytes).sum::<usize>() + segments.iter().map(segment_bytes).sum::<usize>();
        let (mut archived, mut flags): (Vec<_>, Vec<_>) =
            flags.into_iter().partition(|flag| flag.archived_at.is_some());
        flags.sort_by(|a, b| a.key.cmp(&b.key));
        archived.sort_by(|a, b| a.key.cmp(&b.key));
        segments.sort_by(|a, b| a.key.cmp(&b.key));
        Self { flags, archived, segments, bytes }
    }

    /// The place of a flag that is not archived.
    pub fn place(&self, key: &str) -> Option<usize> {
        self.flags.binary_search_by(|flag| flag.key.as_str().cmp(key)).ok()
    }

    pub fn find(&self, key: &str) -> Option<&Flag> {
        self.place(key).map(|place| &self.flags[place])
    }

    pub fn segment(&self, key: &str) -> Option<&Segment> {
        let place = self.segments.binary_search_by(|segment| segment.key.as_str().cmp(key)).ok();
        place.map(|place| &self.segments[place])
    }
}

impl Settings {
    pub fn new(mut settings: Vec<Setting>) -> Self {
        settings.sort_by(|a, b| a.flag_key.cmp(&b.flag_key));
        let mut turns: Vec<_> =
            settings.iter().flat_map(|setting| [setting.starts_at, setting.ends_at]).flatten().collect();
        turns.sort_unstable();
        Self { settings, turns }
    }

    pub fn find(&self, flag: &str) -> Option<&Setting> {
        let place = self.settings.binary_search_by(|setting| setting.flag_key.as_str().cmp(flag)).ok();
        place.map(|place| &self.settings[place])
    }

    pub fn value(&self, flag: &str, now: DateTime<Utc>) -> Option<&Value> {
        self.find(flag)?.value_at(now)
    }

    /// How many beginnings and ends have passed: between two of them nothing changes by itself.
    pub fn turns_before(&self, now: DateTime<Utc>) -> usize {
        self.turns.partition_point(|turn| *turn <= now)
    }
}

impl Part for Definitions {
    async fn load(tx: &Tx, _: TenantId) -> Result<Self> {
        Ok(Self::new(store::all_flags(tx).await?, store::all_segments(tx).await?))
    }

    fn weight(&self) -> usize {
        self.bytes
    }
}

impl Part for Settings {
    async fn load(tx: &Tx, owner: TenantId) -> Result<Self> {
        Ok(Self::new(store::settings(tx, owner).await?))
    }

    fn weight(&self) -> usize {
        let value = |setting: &Setting| setting.value.as_ref().map_or(0, bytes);
        let bytes = |setting: &Setting| 256 + setting.flag_key.len() + setting.reason.len() + value(setting);
        self.settings.iter().map(bytes).sum()
    }
}

impl TenantPart for Settings {
    async fn load_several(tx: &Tx, owners: &[TenantId]) -> Result<HashMap<TenantId, Self>> {
        let several = store::settings_of_several(tx, owners).await?;
        Ok(several.into_iter().map(|(owner, settings)| (owner, Self::new(settings))).collect())
    }
}

fn flag_bytes(flag: &Flag) -> usize {
    serde_json::to_vec(flag).map_or(1024, |json| 512 + json.len() * 2)
}

fn segment_bytes(segment: &Segment) -> usize {
    serde_json::to_vec(segment).map_or(1024, |json| 256 + json.len() * 2)
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(_) | Value::Object(_) => value.to_string().len() * 2,
        _ => 0,
    }
}
