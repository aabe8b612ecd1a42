//! One synchronisation from its beginning to its end, beside requests.

use tokio::time::timeout;

use super::{
    super::{Directory, Live, configure, ldap::Trouble, store as directories},
    BREATH, Mode, Outcome, Phase, State, Sync, Trigger,
    plan::{Plan, plan},
    read, store,
};
use crate::{
    error::{Error, Result},
    isolation::{Conditions, TenantScope},
    journal::Entry,
    members::Source,
    platform::{
        ids::{DirectorySyncId, TenantId},
        page::{Page, PageRequest},
    },
};

/// In the journal: who changes members.
pub(super) const TASK: &str = "directory-sync";
/// Bytes of all answers of a synchronisation.
const MOST_BYTES: usize = 512 << 20;

/// Why one came to no good end.
#[derive(Debug)]
pub(super) enum Failure {
    Trouble(Trouble),
    Error(Error),
    Late,
    /// Somebody else says that it has stopped.
    GivenUp,
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// How one ended.
struct Ended {
    state: State,
    outcome: Option<Outcome>,
    reason: Option<String>,
}

impl Directory {
    /// Starts a synchronisation, which goes on by itself; `conflict` where one of the tenant's runs.
    pub async fn sync(&self, scope: &TenantScope, mode: Mode, conditions: &Conditions) -> Result<Sync> {
        self.tenancy.get(scope).await?;
        let tx = self.isolation.begin(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            tx.commit_unrecorded("a read").await?;
            return Ok(answered);
        }
        directories::find(&tx).await?.ok_or_else(configure::none)?;
        let sync = store::begin(&tx, mode, Trigger::Request).await?;
        tx.keep_answer(conditions, &sync).await?;
        tx.commit([started(&sync, mode)?]).await?;
        self.go_on(scope.tenant(), &sync, mode);
        Ok(sync)
    }

    /// The tenant's synchronisations, the latest first.
    pub async fn syncs(&self, scope: &TenantScope, request: &PageRequest) -> Result<Page<Sync>> {
        let tx = self.isolation.begin(scope).await?;
        let page = store::list(&tx, request).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(page)
    }

    pub(super) fn go_on(&self, tenant: TenantId, sync: &Sync, mode: Mode) {
        let (directory, id) = (self.clone(), sync.id);
        tokio::spawn(async move { directory.run(TenantScope::system(TASK, tenant), id, mode).await });
    }

    async fn run(&self, scope: TenantScope, id: DirectorySyncId, mode: Mode) {
        let work = async { timeout(self.limits.sync_deadline, self.work(&scope, id, mode)).await };
        let done = tokio::select! {
            done = work => done.unwrap_or(Err(Failure::Late)),
            () = self.breathe(&scope, id) => Err(Failure::GivenUp),
        };
        let ended = match done {
            Ok(ended) => ended,
            Err(failure) => match failed(failure, &scope) {
                Some(ended) => ended,
                None => return,
            },
        };
        let outcome = ended.state;
        metrics::counter!("tenantry_directory_syncs_total", "outcome" => super::name_of(outcome).to_lowercase())
            .increment(1);
        if let Err(error) = self.end(&scope, id, mode, ended).await {
            tracing::warn!(%error, tenant = %scope.tenant(), cause = error.cause().map(tracing::field::display), "the end of a directory's synchronisation cannot be written");
        }
    }

    /// Says again and again that it runs, until somebody says that it does not.
    async fn breathe(&self, scope: &TenantScope, id: DirectorySyncId) {
        loop {
            tokio::time::sleep(BREATH).await;
            let said = async {
                let tx = self.isolation.begin(scope).await?;
                let runs = store::breathe(&tx, id).await?;
                tx.commit_unrecorded("a sign of life").await.map(|()| runs)
            };
            if matches!(said.await, Ok(false)) {
                return;
            }
        }
    }

    async fn work(&self, scope: &TenantScope, id: DirectorySyncId, mode: Mode) -> Result<Ended, Failure> {
        let _turn = self.syncs.acquire().await.map_err(|_| Failure::GivenUp)?;
        let live = self.live(scope).await?.ok_or_else(configure::none)?;
        let (plan, active, read) = self.compare(scope, id, &live).await?;
        let refusal = plan.exceeds(live.settings.deactivations, active);
        if let Some(reason) = refusal.filter(|_| mode == Mode::Apply) {
            return Ok(Ended { state: State::Refused, outcome: Some(plan.outcome), reason: Some(reason) });
        }
        let outcome = if mode == Mode::DryRun { plan.outcome } else { self.write(scope, id, plan, read).await? };
        Ok(Ended { state: State::Done, outcome: Some(outcome), reason: None })
    }

    /// What is to be done, of how many members of the directory's, and how many people there are.
    async fn compare(
        &self,
        scope: &TenantScope,
        id: DirectorySyncId,
        live: &Live,
    ) -> Result<(Plan, usize, usize), Failure> {
        let (_, mut session) = self.connect(live, MOST_BYTES).await?;
        self.note(scope, id, Phase::ReadingPeople, (0, 0)).await?;
        let most = self.limits.most_people;
        let mut found = read::people(&mut session, live, most).await?;
        let read = found.people.len() + found.skipped.len();
        self.note(scope, id, Phase::ReadingGroups, (read, 0)).await?;
        read::roles(&mut session, live, &mut found.people, most).await?;
        drop(session);
        self.note(scope, id, Phase::Comparing, (read, 0)).await?;
        let emails: Vec<_> = found.people.iter().map(|person| person.email.clone()).collect();
        let tx = self.isolation.begin(scope).await?;
        let mut known = self.members.of_source(&tx, Source::Directory).await?;
        let others = self.members.find_known(&tx, Source::Directory, &[], &emails).await?;
        tx.commit_unrecorded("a read").await?;
        known.extend(others.into_iter().filter(|member| member.source != Source::Directory));
        let is_active = |member: &&crate::members::Member| {
            member.source == Source::Directory && member.status != crate::members::Status::Deactivated
        };
        let active = known.iter().filter(is_active).count();
        Ok((plan(&found.people, found.skipped, &known), active, read))
    }

    async fn note(
        &self,
        scope: &TenantScope,
        id: DirectorySyncId,
        phase: Phase,
        counts: (usize, usize),
    ) -> Result<(), Failure> {
        let tx = self.isolation.begin(scope).await?;
        let runs = store::progress(&tx, id, phase, counts).await?;
        tx.commit_unrecorded("progress").await?;
        if runs { Ok(()) } else { Err(Failure::GivenUp) }
    }

    async fn end(&self, scope: &TenantScope, id: DirectorySyncId, mode: Mode, ended: Ended) -> Result<()> {
        let Ended { state, outcome, reason } = ended;
        let tx = self.isolation.begin(scope).await?;
        if !store::end(&tx, id, state, outcome.as_ref(), reason.as_deref()).await? {
            return tx.commit_unrecorded("it was given up before").await;
        }
        let outcome = outcome.unwrap_or_default();
        let told = serde_json::json!({
            "state": state, "isDryRun": mode == Mode::DryRun, "reason": reason, "created": outcome.created, "updated": outcome.updated,
            "unchanged": outcome.unchanged, "deactivated": outcome.deactivated, "skipped": outcome.skipped,
        });
        let event = if state == State::Done { "DirectorySynced" } else { "DirectorySyncFailed" };
        tx.commit([Entry::new(event, "directorySync", id).change(None, Some(&told))?]).await
    }
}

pub(super) fn started(sync: &Sync, mode: Mode) -> Result<Entry> {
    let told =
        serde_json::json!({ "isDryRun": sync.is_dry_run, "isForced": mode == Mode::Force, "trigger": sync.trigger });
    Entry::new("DirectorySyncStarted", "directorySync", sync.id).change(None, Some(&told))
}

/// None where there is nothing to write: it is somebody else's.
fn failed(failure: Failure, scope: &TenantScope) -> Option<Ended> {
    let reason = match failure {
        Failure::GivenUp => return None,
        Failure::Late => "it took longer than directory.sync_deadline".to_owned(),
        Failure::Trouble(trouble) => trouble.to_string(),
        Failure::Error(error) => {
            tracing::warn!(%error, tenant = %scope.tenant(), cause = error.cause().map(tracing::field::display), "a directory's synchronisation fails");
            error.to_string()
        }
    };
    Some(Ended { state: State::Failed, outcome: None, reason: Some(reason) })
}
