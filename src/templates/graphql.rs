//! Schema templates' part of the schema.

use async_graphql::{ComplexObject, Context, ID, InputObject, Object, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _};

use super::{
    File, NewRollout, NewTemplate, Progress, Rollout, RolloutState, Rules, SchemaState, Template, Templates, Trouble,
};
use crate::{
    error::Error,
    isolation::OperatorScope,
    platform::ids::RolloutId,
    tenancy::{
        TenantView,
        graphql::{conditions, enter, enter_platform},
    },
};

/// Rollouts and troubles that one answer has at most.
const LONGEST: u32 = 100;

/// What tenants' schemas are made of: SQL migrations, in order, which never change once they are registered.
#[derive(Clone, Debug)]
pub struct SchemaTemplateObject {
    template: Template,
    scope: OperatorScope,
}

/// One migration of a template.
#[derive(Clone, Debug, SimpleObject)]
pub struct SchemaMigration {
    /// Its number: the version that a schema has behind it.
    version: i32,
    /// The file's name.
    name: String,
    /// SHA-256 of the file.
    checksum: String,
}

/// How many tenants are at a version.
#[derive(Clone, Debug, SimpleObject)]
pub struct SchemaVersionCount {
    version: i32,
    tenants: i64,
}

/// What a tenant's schema is made of.
#[derive(Clone, Debug, SimpleObject)]
pub struct SchemaStateObject {
    tenant_id: ID,
    template: String,
    /// The last migration that was applied; 0 before any.
    version: i32,
    /// SHA-256 over all that PostgreSQL's catalogue says of the schema; null until it was verified in this version.
    schema_hash: Option<String>,
    /// What is not as the template has it, one sentence each. It is told, and not changed.
    drift: Vec<String>,
    migrated_at: DateTime<Utc>,
    verified_at: Option<DateTime<Utc>>,
}

impl From<SchemaState> for SchemaStateObject {
    fn from(state: SchemaState) -> Self {
        Self {
            tenant_id: state.tenant_id.into(),
            template: state.template,
            version: state.version,
            schema_hash: state.schema_hash,
            drift: state.drift.0,
            migrated_at: state.migrated_at,
            verified_at: state.verified_at,
        }
    }
}

#[Object(name = "SchemaTemplate")]
impl SchemaTemplateObject {
    async fn name(&self) -> &str {
        &self.template.name
    }

    /// The newest version that is registered.
    async fn version(&self) -> i32 {
        self.template.version
    }

    /// The version that new tenants get: the newest that a rollout has brought to all.
    async fn released(&self) -> i32 {
        self.template.released
    }

    /// Plans whose tenants have it.
    async fn plans(&self) -> &[String] {
        &self.template.plans.0
    }

    /// Whether tenants of all other plans have it.
    async fn is_default(&self) -> bool {
        self.template.is_default
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.template.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.template.updated_at
    }

    async fn migrations(&self, ctx: &Context<'_>) -> Result<Vec<SchemaMigration>> {
        let migrations = handle(ctx)?.migrations(&self.scope, &self.template).await?;
        let shown =
            |one: super::Migration| SchemaMigration { version: one.version, name: one.name, checksum: one.checksum };
        Ok(migrations.into_iter().map(shown).collect())
    }

    /// How many tenants are at which version, as far as was seen.
    async fn tenants(&self, ctx: &Context<'_>) -> Result<Vec<SchemaVersionCount>> {
        let versions = handle(ctx)?.versions(&self.scope, &self.template.name).await?;
        Ok(versions.into_iter().map(|(version, tenants)| SchemaVersionCount { version, tenants }).collect())
    }

    /// Up to a hundred tenants whose schema is not as the template has it.
    async fn drift(&self, ctx: &Context<'_>) -> Result<Vec<SchemaStateObject>> {
        let drifted = handle(ctx)?.drifted(&self.scope, &self.template.name, LONGEST).await?;
        Ok(drifted.into_iter().map(Into::into).collect())
    }

    /// The newest first.
    async fn rollouts(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1, validator(minimum = 1, maximum = 10))] first: u32,
    ) -> Result<Vec<RolloutObject>> {
        let rollouts = handle(ctx)?.rollouts(&self.scope, &self.template.name, first).await?;
        let mut shown = Vec::with_capacity(rollouts.len());
        for rollout in rollouts {
            shown.push(RolloutObject::read(ctx, self.scope.clone(), rollout.rollout_id).await?);
        }
        Ok(shown)
    }
}

/// Tenants of a wave, or of all of them, by what became of them.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct RolloutCounts {
    all: i64,
    /// Not tried yet, or to be tried again.
    pending: i64,
    applied: i64,
    failed: i64,
    /// Without a schema that could be migrated.
    skipped: i64,
}

impl From<super::Count> for RolloutCounts {
    fn from(count: super::Count) -> Self {
        let super::Count { pending, applied, failed, skipped, .. } = count;
        Self { all: count.all(), pending, applied, failed, skipped }
    }
}

/// What a rollout is held to.
#[derive(Clone, Debug, SimpleObject)]
pub struct RolloutRules {
    waves: Vec<f64>,
    concurrency: i32,
    per_cell: i32,
    lock_timeout_ms: i64,
    statement_timeout_ms: i64,
    attempts: i32,
    failure_rate: f64,
}

/// A tenant that waits for another try, or has failed.
#[derive(Clone, Debug, SimpleObject)]
pub struct RolloutTrouble {
    tenant_id: ID,
    /// False: it is tried again.
    has_failed: bool,
    attempts: i32,
    /// What is wrong, with file and line where they are known.
    problem: String,
    next_attempt_at: Option<DateTime<Utc>>,
}

impl From<Trouble> for RolloutTrouble {
    fn from(trouble: Trouble) -> Self {
        let Trouble { tenant_id, has_failed, attempts, problem, next_attempt_at } = trouble;
        Self { tenant_id: tenant_id.into(), has_failed, attempts, problem, next_attempt_at }
    }
}

/// A version of a template on its way to all tenants.
#[derive(Debug, SimpleObject)]
#[graphql(complex, name = "Rollout")]
pub struct RolloutObject {
    /// UUIDv7.
    id: ID,
    template: String,
    /// The version that it brings tenants to.
    to: i32,
    state: RolloutState,
    /// Why it is not running; empty where it is, or is done.
    reason: String,
    /// The wave that is rolled out now, from 1 on.
    wave: i32,
    rules: RolloutRules,
    tenants: RolloutCounts,
    waves: Vec<RolloutCounts>,
    /// Tenants per second, over the last 20 seconds; of one that has ended, over all of it.
    rate: f64,
    /// When the last tenant is done, at this rate.
    ends_at: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    #[graphql(skip)]
    key: RolloutId,
    #[graphql(skip)]
    scope: Option<OperatorScope>,
}

#[ComplexObject]
impl RolloutObject {
    /// Up to a hundred tenants that failed, or wait for another try.
    async fn troubles(&self, ctx: &Context<'_>) -> Result<Vec<RolloutTrouble>> {
        let scope = self.scope.as_ref().ok_or_else(|| Error::internal("a rollout was read by an operator"))?;
        Ok(handle(ctx)?.troubles(scope, self.key, LONGEST).await?.into_iter().map(Into::into).collect())
    }
}

impl RolloutObject {
    async fn read(ctx: &Context<'_>, scope: OperatorScope, id: RolloutId) -> Result<Self> {
        Ok(Self::of(handle(ctx)?.progress(&scope, id).await?, scope))
    }

    fn of(progress: Progress, scope: OperatorScope) -> Self {
        Self { scope: Some(scope), ..progress.into() }
    }
}

impl From<Progress> for RolloutObject {
    fn from(progress: Progress) -> Self {
        let tenants = progress.total().into();
        let Progress { rollout, waves, rate, ends_at } = progress;
        let Rollout { rollout_id, template, target, state, reason, wave, rules, started_at, finished_at } = rollout;
        Self {
            id: rollout_id.to_string().into(),
            template,
            to: target,
            state,
            reason,
            wave: i32::from(wave) + 1,
            rules: RolloutRules {
                waves: rules.waves,
                concurrency: rules.concurrency.into(),
                per_cell: rules.per_cell.into(),
                lock_timeout_ms: rules.lock_timeout_ms.into(),
                statement_timeout_ms: rules.statement_timeout_ms.into(),
                attempts: rules.attempts.into(),
                failure_rate: rules.failure_rate,
            },
            tenants,
            waves: waves.into_iter().map(Into::into).collect(),
            rate,
            ends_at,
            started_at,
            finished_at,
            key: rollout_id,
            scope: None,
        }
    }
}

/// One SQL file.
#[derive(Debug, InputObject)]
pub struct SchemaMigrationInput {
    /// `V0001__items.sql` or `0001_items.sql`: numbers go from 1 on, each once.
    name: String,
    sql: String,
}

#[derive(Debug, InputObject)]
pub struct RegisterSchemaTemplateInput {
    /// 1 to 63 small letters, digits or '-', from a letter on.
    name: String,
    /// All of its files, those that are registered already included.
    files: Vec<SchemaMigrationInput>,
    /// Plans whose tenants have it; without it, as before.
    plans: Option<Vec<String>>,
    /// Whether tenants of all other plans have it; without it, as before, and the first template has.
    is_default: Option<bool>,
}

/// The template after a change.
#[derive(Debug, SimpleObject)]
pub struct SchemaTemplatePayload {
    template: SchemaTemplateObject,
}

#[derive(Debug, InputObject)]
pub struct RolloutTemplateInput {
    template: String,
    /// The version to bring all tenants to; without it, the newest.
    to: Option<i32>,
    /// Per cent of the tenants that have been tried by the end of each wave: first the canaries' share, last 100.
    #[graphql(default_with = "Rules::default().waves")]
    waves: Vec<f64>,
    /// Tenants at once, over all servers and cells.
    #[graphql(default = 4)]
    concurrency: u16,
    /// Tenants at once on one cell.
    #[graphql(default = 4)]
    per_cell: u16,
    /// How long a migration waits for a lock; whoever waits behind it for the same table waits no longer. Then it is tried again later.
    #[graphql(default = 250)]
    lock_timeout_ms: u32,
    #[graphql(default = 60000)]
    statement_timeout_ms: u32,
    /// How often a tenant whose tables are in use is tried before it counts as failed.
    #[graphql(default = 10)]
    attempts: u16,
    /// Per cent of the tenants of the waves so far that may fail; one more stops the rollout.
    #[graphql(default_with = "Rules::default().failure_rate")]
    failure_rate: f64,
    /// Only tell what would be done.
    #[graphql(default = false)]
    dry_run: bool,
}

/// What a rollout would do.
#[derive(Debug, SimpleObject)]
pub struct RolloutPlan {
    to: i32,
    /// Tenants of each wave.
    waves: Vec<i64>,
    /// How many tenants are at which version now.
    tenants: Vec<SchemaVersionCount>,
}

/// The rollout that was begun or, of a dry run, what it would do.
#[derive(Debug, SimpleObject)]
pub struct RolloutTemplatePayload {
    rollout: Option<RolloutObject>,
    plan: Option<RolloutPlan>,
}

#[derive(Debug, InputObject)]
pub struct RolloutActionInput {
    id: ID,
}

/// The rollout after a change.
#[derive(Debug, SimpleObject)]
pub struct RolloutPayload {
    rollout: RolloutObject,
}

#[derive(Debug, Default)]
pub struct TemplateQuery;

#[Object]
impl TemplateQuery {
    /// Schema templates, by name, with how far their rollouts are, and where schemas have drifted.
    ///
    /// Scope: `auth:template:read`, operators only.
    async fn schema_templates(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Only the one of this name.")] name: Option<String>,
    ) -> Result<Vec<SchemaTemplateObject>> {
        let scope = enter_platform(ctx, "Query")?;
        let all = handle(ctx)?.list(&scope).await?;
        let wanted = all.into_iter().filter(|template| name.as_ref().is_none_or(|name| template.name == *name));
        Ok(wanted.map(|template| SchemaTemplateObject { template, scope: scope.clone() }).collect())
    }
}

#[derive(Debug, Default)]
pub struct TemplateMutation;

#[Object]
impl TemplateMutation {
    /// Registers a schema template, or appends migrations to one. New tenants get the first version at once; further ones
    /// reach tenants, old and new, by `rolloutTemplate`.
    ///
    /// A migration is one transaction, with the rights of the tenant's role alone, in the tenant's schema: no transaction control, no
    /// settings, no grants, nothing outside of the schema, no `concurrently`.
    ///
    /// Errors: `invalid_input` with file, line and rule; `conflict` where a registered migration is another or missing.
    ///
    /// Scope: `auth:template:write`, operators only.
    async fn register_schema_template(
        &self,
        ctx: &Context<'_>,
        input: RegisterSchemaTemplateInput,
    ) -> Result<SchemaTemplatePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let files = input.files.into_iter().map(|file| File { name: file.name, sql: file.sql }).collect();
        let new = NewTemplate { name: input.name, files, plans: input.plans, is_default: input.is_default };
        let template = handle(ctx)?.register(&scope, new, &conditions(ctx, None)).await?;
        Ok(SchemaTemplatePayload { template: SchemaTemplateObject { template, scope } })
    }

    /// Brings all tenants of a template to a version, wave by wave. Each tenant gets all of it in one transaction or nothing, and
    /// each migration once, whatever happens meanwhile.
    ///
    /// Errors: `conflict` while another rollout of the template is open.
    ///
    /// Scope: `auth:template:write`, operators only.
    async fn rollout_template(&self, ctx: &Context<'_>, input: RolloutTemplateInput) -> Result<RolloutTemplatePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let rules = Rules {
            waves: input.waves,
            concurrency: input.concurrency,
            per_cell: input.per_cell,
            lock_timeout_ms: input.lock_timeout_ms,
            statement_timeout_ms: input.statement_timeout_ms,
            attempts: input.attempts,
            failure_rate: input.failure_rate,
        };
        let new = NewRollout { template: input.template, target: input.to, rules };
        if input.dry_run {
            let planned = handle(ctx)?.plan_rollout(&scope, &new).await?;
            let tenants = planned.versions.into_iter();
            let tenants = tenants.map(|(version, tenants)| SchemaVersionCount { version, tenants }).collect();
            let plan = RolloutPlan { to: planned.target, waves: planned.waves, tenants };
            return Ok(RolloutTemplatePayload { rollout: None, plan: Some(plan) });
        }
        let rollout = handle(ctx)?.roll_out(&scope, new, &conditions(ctx, None)).await?;
        let rollout = RolloutObject::read(ctx, scope, rollout.rollout_id).await?;
        Ok(RolloutTemplatePayload { rollout: Some(rollout), plan: None })
    }

    /// Lets a rollout take no more tenants; those under way come to their end.
    ///
    /// Scope: `auth:template:write`, operators only.
    async fn pause_rollout(&self, ctx: &Context<'_>, input: RolloutActionInput) -> Result<RolloutPayload> {
        let (scope, id) = (enter_platform(ctx, "Mutation")?, id(&input.id)?);
        let rollout = handle(ctx)?.pause(&scope, id, &conditions(ctx, None)).await?;
        Ok(RolloutPayload { rollout: RolloutObject::read(ctx, scope, rollout.rollout_id).await? })
    }

    /// Lets a rollout go on that was paused, or stopped because of failures: those are tried again.
    ///
    /// Scope: `auth:template:write`, operators only.
    async fn resume_rollout(&self, ctx: &Context<'_>, input: RolloutActionInput) -> Result<RolloutPayload> {
        let (scope, id) = (enter_platform(ctx, "Mutation")?, id(&input.id)?);
        let rollout = handle(ctx)?.resume(&scope, id, &conditions(ctx, None)).await?;
        Ok(RolloutPayload { rollout: RolloutObject::read(ctx, scope, rollout.rollout_id).await? })
    }

    /// Ends a rollout where it is. What was applied stays applied; new tenants get the version of before.
    ///
    /// Scope: `auth:template:write`, operators only.
    async fn cancel_rollout(&self, ctx: &Context<'_>, input: RolloutActionInput) -> Result<RolloutPayload> {
        let (scope, id) = (enter_platform(ctx, "Mutation")?, id(&input.id)?);
        let rollout = handle(ctx)?.cancel(&scope, id, &conditions(ctx, None)).await?;
        Ok(RolloutPayload { rollout: RolloutObject::read(ctx, scope, rollout.rollout_id).await? })
    }
}

#[derive(Debug, Default)]
pub struct TemplateSubscription;

#[Subscription]
impl TemplateSubscription {
    /// How far a rollout is: now, at most once a second whenever that has changed, and at last how it has ended. Each message
    /// says all there is to say: who comes back has missed nothing.
    ///
    /// Scope: `auth:template:read`, operators only.
    async fn rollout_progress(
        &self,
        ctx: &Context<'_>,
        rollout_id: ID,
    ) -> Result<impl Stream<Item = Result<RolloutObject>> + use<>> {
        let scope = enter_platform(ctx, "Subscription")?;
        let watched = handle(ctx)?.watch(scope.clone(), id(&rollout_id)?).await?;
        Ok(watched.map(move |progress| Ok(RolloutObject::of(progress?, scope.clone()))))
    }
}

/// What a tenant's schema is made of.
#[derive(Clone, Debug)]
pub struct TenantSchema(pub TenantView);

#[Object]
impl TenantSchema {
    /// Template and version of the tenant's schema, and how it differs from that; null where it has no template.
    ///
    /// Scope: `auth:tenant:read`.
    async fn schema_state(&self, ctx: &Context<'_>) -> Result<Option<SchemaStateObject>> {
        let scope = enter(ctx, "Tenant", &self.0.id().into()).await?;
        Ok(Box::pin(handle(ctx)?.schema_of(&scope)).await?.map(Into::into))
    }
}

fn id(id: &ID) -> crate::error::Result<RolloutId> {
    id.parse().map_err(|_| Error::not_found())
}

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Templates> {
    ctx.data_opt::<Templates>().ok_or_else(|| Error::internal("the schema has no templates"))
}
