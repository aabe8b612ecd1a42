//! Answers: what a flag is for a tenant, the tenant's own value, and changes that wait for a second person.

use std::sync::Arc;

use async_graphql::{Enum, ID, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::{
    error::Error,
    flags::{ChangeRequest, ChangeStatus, Flag, Kind, Reason, Setting, Source, Verdict, View},
};

/// Which step decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "FlagSource")]
pub enum SourceKind {
    /// The flag is switched off for everyone.
    KillSwitch,
    /// The tenant's plan does not include the flag's feature.
    PlanCeiling,
    /// A prerequisite is not met.
    Prerequisite,
    /// The tenant's own value.
    Tenant,
    /// A targeting rule.
    Rule,
    /// The value of the tenant's plan.
    Plan,
    /// Nothing else applied.
    Default,
}

/// What a flag is for a tenant.
#[derive(Clone, Debug)]
pub struct FlagEvaluation {
    pub view: Arc<View>,
    pub found: Found,
}

#[derive(Clone, Debug)]
pub enum Found {
    /// A flag by its place, and the verdict about it.
    Flag(usize, Verdict),
    Unknown(String),
}

impl FlagEvaluation {
    fn flag(&self) -> Result<Option<(&Flag, Verdict)>, Error> {
        match &self.found {
            Found::Flag(place, verdict) => Ok(Some((&self.view.definitions()?.flags[*place], *verdict))),
            Found::Unknown(_) => Ok(None),
        }
    }

    /// What is there of a flag that is there.
    fn of<'a, T>(&'a self, tell: impl FnOnce(&'a Flag, Verdict) -> Result<Option<T>, Error>) -> Result<Option<T>> {
        match self.flag()? {
            Some((flag, verdict)) => Ok(tell(flag, verdict)?),
            None => Ok(None),
        }
    }
}

/// What a flag is for a tenant, and why.
#[Object(name = "FlagEvaluation", serial)]
impl FlagEvaluation {
    async fn key(&self) -> Result<&str> {
        Ok(match &self.found {
            Found::Unknown(key) => key,
            Found::Flag(place, _) => &self.view.definitions()?.flags[*place].key,
        })
    }

    /// Null where there is no such flag.
    #[graphql(name = "type")]
    async fn kind(&self) -> Result<Option<Kind>> {
        self.of(|flag, _| Ok(Some(flag.kind)))
    }

    /// Of a BOOLEAN its value; of others, whether the flag is not switched off.
    async fn enabled(&self) -> Result<bool> {
        let enabled =
            self.of(|flag, verdict| Ok(Some(self.view.value(flag, verdict)?.as_bool().unwrap_or(flag.enabled))))?;
        Ok(enabled.unwrap_or(false))
    }

    /// Null where there is no such flag.
    async fn value(&self) -> Result<Option<Json<&Value>>> {
        self.of(|flag, verdict| Ok(Some(Json(self.view.value(flag, verdict)?))))
    }

    /// Name of the value, where it has one; `on` and `off` of a BOOLEAN.
    async fn variant(&self) -> Result<Option<&str>> {
        self.of(|flag, verdict| Ok(flag.variant(self.view.value(flag, verdict)?)))
    }

    /// Why, in OpenFeature's words.
    async fn reason(&self) -> Result<Reason> {
        Ok(self.flag()?.map_or(Reason::Error, |(_, verdict)| verdict.reason))
    }

    /// Which step decided; null where there is no such flag.
    async fn source(&self) -> Result<Option<SourceKind>> {
        self.of(|_, verdict| Ok(SourceKind::of(verdict.source)))
    }

    /// The targeting rule that matched.
    async fn rule(&self) -> Result<Option<&str>> {
        self.of(|flag, verdict| Ok(rule_name(flag, verdict)))
    }

    /// The segment through which the rule matched.
    async fn segment(&self) -> Result<Option<&str>> {
        self.of(|flag, verdict| Ok(segment_name(flag, verdict)))
    }

    /// The flag that should have another value first, where `source` is PREREQUISITE.
    async fn prerequisite(&self) -> Result<Option<&str>> {
        self.of(|flag, verdict| match verdict.source {
            Source::Prerequisite(place) => Ok(flag.prerequisites.0.get(place).map(|wanted| wanted.flag.as_str())),
            _ => Ok(None),
        })
    }

    /// OpenFeature's error code, FLAG_NOT_FOUND, where `reason` is ERROR.
    async fn error_code(&self) -> Result<Option<&'static str>> {
        Ok(self.flag()?.is_none().then_some("FLAG_NOT_FOUND"))
    }

    /// The tenant's own value, whether it counts now, later, or no more.
    async fn setting(&self) -> Result<Option<FlagSetting>> {
        self.of(|flag, _| Ok(self.view.setting(flag)?.cloned().map(FlagSetting::from)))
    }

    /// What it was decided on, as `<tenant>.<platform>`: how far the two journals were.
    async fn version(&self) -> String {
        self.view.version()
    }
}

impl SourceKind {
    fn of(source: Source) -> Option<Self> {
        match source {
            Source::KillSwitch => Some(Self::KillSwitch),
            Source::PlanCeiling => Some(Self::PlanCeiling),
            Source::Prerequisite(_) => Some(Self::Prerequisite),
            Source::Tenant => Some(Self::Tenant),
            Source::Rule { .. } => Some(Self::Rule),
            Source::Plan => Some(Self::Plan),
            Source::Default => Some(Self::Default),
            Source::Unresolved => None,
        }
    }
}

/// The rule that decided.
pub(in crate::flags) fn rule_name(flag: &Flag, verdict: Verdict) -> Option<&str> {
    let Source::Rule { rule, .. } = verdict.source else { return None };
    flag.rules.0.get(rule).map(|rule| rule.key.as_str())
}

/// The segment through which it did.
pub(in crate::flags) fn segment_name(flag: &Flag, verdict: Verdict) -> Option<&str> {
    let Source::Rule { rule, segment } = verdict.source else { return None };
    flag.rules.0.get(rule)?.segments.get(segment?).map(String::as_str)
}

/// Answers of one moment.
#[derive(Debug, SimpleObject)]
pub struct FlagEvaluations {
    /// What they were decided on, as `<tenant>.<platform>`: how far the two journals were.
    pub version: String,
    pub flags: Vec<FlagEvaluation>,
}

/// A tenant's own value of a flag.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagSetting {
    /// Null where it was taken back.
    value: Option<Json<Value>>,
    /// From when it counts; at once where null.
    starts_at: Option<DateTime<Utc>>,
    /// Until when it counts.
    ends_at: Option<DateTime<Utc>>,
    reason: String,
    set_by: String,
    set_at: DateTime<Utc>,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
}

impl From<Setting> for FlagSetting {
    fn from(setting: Setting) -> Self {
        Self {
            value: setting.value.map(Json),
            starts_at: setting.starts_at,
            ends_at: setting.ends_at,
            reason: setting.reason,
            set_by: setting.set_by,
            set_at: setting.set_at,
            version: setting.version,
        }
    }
}

/// A tenant's value that somebody wants set, and what another person said to it.
#[derive(Clone, Debug, SimpleObject)]
pub struct FlagChangeRequest {
    id: ID,
    tenant_id: ID,
    key: String,
    /// Null where the tenant's value is to be taken back.
    value: Option<Json<Value>>,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    reason: String,
    status: ChangeStatus,
    requested_by: String,
    requested_at: DateTime<Utc>,
    decided_by: Option<String>,
    decided_at: Option<DateTime<Utc>>,
    /// What the second person said.
    note: String,
    /// Grows by one with every change; what `expectedVersion` is compared with.
    version: i64,
}

impl From<ChangeRequest> for FlagChangeRequest {
    fn from(request: ChangeRequest) -> Self {
        Self {
            id: request.request_id.into(),
            tenant_id: request.tenant_id.into(),
            key: request.flag_key,
            value: request.value.map(Json),
            starts_at: request.starts_at,
            ends_at: request.ends_at,
            reason: request.reason,
            status: request.status,
            requested_by: request.requested_by,
            requested_at: request.requested_at,
            decided_by: request.decided_by,
            decided_at: request.decided_at,
            note: request.note,
            version: request.version,
        }
    }
}
