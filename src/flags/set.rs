//! Operations on a tenant's values: set, take back, ask for, approve, reject.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Flags,
    change_request::{ChangeRequest, ChangeStatus, Decision},
    check,
    flag::Approval,
    setting::Setting,
    store::{self, Terms},
};
use crate::{
    error::{Error, Kind, Result},
    grants::{Held, Kind as Given},
    isolation::{Conditions, OperatorScope, TenantScope},
    journal::Entry,
    platform::{
        db::Tx,
        ids::{FlagChangeId, TenantId},
    },
    tenancy::{Status, Tenant},
};

/// Requests that a list shows; the newest.
const MAX_LISTED: i64 = 200;

/// A tenant's value as it was asked for.
#[derive(Clone, Debug)]
pub struct NewSetting {
    pub flag_key: String,
    /// `None` takes it back.
    pub value: Option<Value>,
    pub starts_at: Option<DateTime<Utc>>,
    pub ends_at: Option<DateTime<Utc>>,
    pub reason: String,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    Set(Setting),
    /// The flag needs a second person.
    Requested(ChangeRequest),
}

/// What a second person says to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub request: FlagChangeId,
    pub status: ChangeStatus,
    pub note: String,
}

impl Flags {
    /// Sets a tenant's value, or takes it back; where the flag needs a second person, asks for one.
    pub async fn set(&self, scope: &TenantScope, new: NewSetting, conditions: &Conditions) -> Result<Outcome> {
        let tenant = self.tenancy.get(scope).await?;
        new.check(self.now())?;
        let in_plan = self.features_of(&tenant).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let terms = terms(&tx, &tenant, &new, &in_plan).await?;
        if terms.operator_only && !scope.caller().is_platform() {
            return Err(Error::forbidden("this flag is set by operators of the platform").at("key"));
        }
        let before = store::lock_setting(&tx, tenant.id, &new.flag_key).await?;
        let version = before.as_ref().map_or(0, |setting| setting.version);
        conditions.check_version(version)?;
        let (by, at) = (tx.stamp().actor.name.clone(), tx.stamp().at);
        let (outcome, entry) = match terms.approval {
            Approval::None => {
                let setting = new.into_setting(version + 1, by, at);
                store::set(&tx, tenant.id, &setting).await?;
                let entry = setting_entry(before.as_ref(), &setting)?;
                (Outcome::Set(setting), entry)
            }
            Approval::Required => {
                let request = new.into_request(tenant.id, version, by, at);
                store::request(&tx, &request).await?;
                let entry = Entry::new("FlagChangeRequested", "flag_change", request.request_id);
                let entry = entry.change(None, Some(&request))?;
                (Outcome::Requested(request), entry)
            }
        };
        tx.keep_answer(conditions, &outcome).await?;
        tx.commit([entry]).await?;
        self.tenancy.snapshots().refresh(tenant.id).await;
        Ok(outcome)
    }

    /// Approves or rejects a request; approved, it is set in the same transaction, held to the definition as it is now.
    pub async fn answer(
        &self,
        scope: &OperatorScope,
        answer: Answer,
        conditions: &Conditions,
    ) -> Result<(ChangeRequest, Option<Setting>)> {
        check::text("note", &answer.note, 2_000)?;
        let tenant = self.tenant_of(scope, answer.request).await?;
        let in_plan = self.features_of(&tenant).await?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let before = store::lock_request(&tx, answer.request).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        let mut request = before.clone();
        let (by, at) = (tx.stamp().actor.name.clone(), tx.stamp().at);
        request.decide(Decision { status: answer.status, by, at, note: answer.note })?;
        store::decide(&tx, &request).await?;
        let event = if request.status == ChangeStatus::Approved { "FlagChangeApproved" } else { "FlagChangeRejected" };
        let entry = Entry::new(event, "flag_change", request.request_id).change(Some(&before), Some(&request))?;
        let mut entries = vec![entry];
        let setting = match request.status {
            ChangeStatus::Approved => {
                let (setting, entry) = carry_out(&tx, &request, &tenant, &in_plan).await?;
                entries.push(entry);
                Some(setting)
            }
            ChangeStatus::Pending | ChangeStatus::Rejected => None,
        };
        tx.keep_answer(conditions, &(&request, &setting)).await?;
        tx.commit_for(tenant.id, entries).await?;
        self.tenancy.snapshots().refresh(tenant.id).await;
        Ok((request, setting))
    }

    /// A tenant's change requests, the newest first.
    pub async fn requests(&self, scope: &TenantScope, status: Option<ChangeStatus>) -> Result<Vec<ChangeRequest>> {
        let tx = self.isolation.begin(scope).await?;
        let found = store::requests(&tx, Some(scope.tenant()), status.map(ChangeStatus::name), MAX_LISTED).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    /// The same of all tenants.
    pub async fn all_requests(
        &self,
        scope: &OperatorScope,
        status: Option<ChangeStatus>,
    ) -> Result<Vec<ChangeRequest>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let found = store::requests(&tx, None, status.map(ChangeStatus::name), MAX_LISTED).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(found)
    }

    async fn tenant_of(&self, scope: &OperatorScope, request: FlagChangeId) -> Result<std::sync::Arc<Tenant>> {
        let tx = self.isolation.begin_operator(scope).await?;
        let found = store::find_request(&tx, request).await?.ok_or_else(Error::not_found)?;
        tx.commit_unrecorded("a read").await?;
        self.tenancy.get(&TenantScope::for_operator(scope, found.tenant_id)).await
    }

    async fn features_of(&self, tenant: &Tenant) -> Result<Vec<String>> {
        if tenant.status == Status::Erased {
            return Err(Error::not_found());
        }
        let mut features = self.tenancy.plan(&tenant.plan).await?.features.0;
        if let Some(snapshot) = self.tenancy.snapshots().get(tenant.id).await? {
            features.extend(snapshot.part::<Held>()?.active(Given::Feature, self.now()).map(|grant| grant.key.clone()));
        }
        Ok(features)
    }
}

impl NewSetting {
    /// What does not depend on the definition.
    fn check(&self, now: DateTime<Utc>) -> Result<()> {
        check::text("reason", &self.reason, 2_000)?;
        if self.starts_at.zip(self.ends_at).is_some_and(|(start, end)| end <= start) {
            return Err(Error::invalid("endsAt", "must be later than startsAt"));
        }
        if self.ends_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("endsAt", "must be later than now"));
        }
        if self.value.is_none() && (self.starts_at.is_some() || self.ends_at.is_some()) {
            return Err(Error::invalid("startsAt", "goes with a value; null takes the value back at once"));
        }
        Ok(())
    }

    fn into_setting(self, version: i64, set_by: String, set_at: DateTime<Utc>) -> Setting {
        let Self { flag_key, value, starts_at, ends_at, reason } = self;
        Setting { flag_key, value, starts_at, ends_at, reason, set_by, set_at, version }
    }

    fn into_request(self, tenant_id: TenantId, value_version: i64, by: String, at: DateTime<Utc>) -> ChangeRequest {
        ChangeRequest {
            tenant_id,
            request_id: FlagChangeId::generate(),
            flag_key: self.flag_key,
            value: self.value,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            reason: self.reason,
            value_version,
            status: ChangeStatus::Pending,
            requested_by: by,
            requested_at: at,
            decided_by: None,
            decided_at: None,
            note: String::new(),
            version: 1,
        }
    }
}

/// Sets what was approved, if nothing has changed since it was asked for.
async fn carry_out(tx: &Tx, request: &ChangeRequest, tenant: &Tenant, in_plan: &[String]) -> Result<(Setting, Entry)> {
    let new = NewSetting {
        flag_key: request.flag_key.clone(),
        value: request.value.clone(),
        starts_at: request.starts_at,
        ends_at: request.ends_at,
        reason: request.reason.clone(),
    };
    terms(tx, tenant, &new, in_plan).await?;
    let before = store::lock_setting(tx, tenant.id, &new.flag_key).await?;
    let version = before.as_ref().map_or(0, |setting| setting.version);
    if version != request.value_version {
        return Err(Error::conflict(
            "the tenant's value has changed since this was asked for; reject it and ask again",
        ));
    }
    let by = request.requested_by.clone();
    let at = request.decided_at.unwrap_or(request.requested_at);
    let setting = new.into_setting(version + 1, by, at);
    store::set(tx, tenant.id, &setting).await?;
    let entry = setting_entry(before.as_ref(), &setting)?;
    Ok((setting, entry))
}

/// The definition, and whether it lets the tenant have this value.
async fn terms(tx: &Tx, tenant: &Tenant, new: &NewSetting, in_plan: &[String]) -> Result<Terms> {
    let terms = store::terms(tx, &new.flag_key).await?;
    let terms = terms.ok_or_else(|| Error::invalid("key", "names no flag, or one that is archived"))?;
    let Some(value) = &new.value else { return Ok(terms) };
    check::value("value", terms.kind, value)?;
    match &terms.feature {
        Some(feature) if !in_plan.contains(feature) => {
            Err(Error::new(Kind::FeatureNotInPlan, format!("the plan `{}` does not include `{feature}`", tenant.plan))
                .at("key")
                .with(json!({ "plan": tenant.plan, "feature": feature })))
        }
        _ => Ok(terms),
    }
}

fn setting_entry(before: Option<&Setting>, setting: &Setting) -> Result<Entry> {
    let event = if setting.value.is_some() { "FlagSet" } else { "FlagCleared" };
    Entry::new(event, "flag", &setting.flag_key).change(before, Some(setting))
}
