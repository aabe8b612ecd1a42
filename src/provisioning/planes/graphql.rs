//! Application planes' part of the schema: operators register them, each hears of its own jobs and answers them.

use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject, Subscription};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt as _};
use serde_json::{Map, Value};

use super::{
    super::Provisioning, ApplicationPlane, Change, Interest, Job, JobKind, JobState, NewPlane, Outcome, Report,
    duration, layer_of, list::cursor,
};
use crate::{
    error::Error,
    platform::{
        ids::{ClientId, TenantId},
        page::{LargestPage, PageInfo, PageRequest},
    },
    tenancy::{
        IsolationTier, Tenant,
        graphql::{conditions, enter_platform},
    },
};

/// A program of yours that makes a part of tenants' environments, and says when it is done.
#[derive(Clone, Debug)]
pub struct ApplicationPlaneObject(ApplicationPlane);

#[Object(name = "ApplicationPlane")]
impl ApplicationPlaneObject {
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// What it is called among a tenant's layers.
    async fn layer(&self) -> String {
        layer_of(&self.0.name)
    }

    /// The client of the platform that answers for it.
    async fn client_id(&self) -> ID {
        self.0.client_id.into()
    }

    /// Whether a new tenant that it serves becomes ACTIVE only after it.
    async fn essential(&self) -> bool {
        self.0.is_essential
    }

    /// How long it has to answer, from being asked or from its last PROGRESS; a duration of ISO 8601.
    async fn deadline(&self) -> String {
        duration::write(self.0.deadline)
    }

    /// How long a job may take in all, however often its deadline is put off.
    async fn longest(&self) -> String {
        duration::write(self.0.longest)
    }

    /// Planes of a lower position are asked first, those of one position together.
    async fn position(&self) -> i32 {
        self.0.position.into()
    }

    /// The tiers of tenants that it serves; none: all.
    async fn tiers(&self) -> &[IsolationTier] {
        &self.0.tiers
    }

    /// The plans of tenants that it serves; none: all.
    async fn plans(&self) -> &[String] {
        &self.0.plans
    }

    /// What it is told of tenants that it has, besides that they come and go.
    async fn follows(&self) -> &[Interest] {
        &self.0.follows
    }

    /// What `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Since when it is only asked to take away what it has made.
    async fn retired_at(&self) -> Option<DateTime<Utc>> {
        self.0.retired_at
    }
}

/// Something that an application plane was asked for a tenant.
#[derive(Clone, Debug)]
pub struct ProvisioningJobObject {
    job: Job,
    tenant: Option<Arc<Tenant>>,
}

impl From<Job> for ProvisioningJobObject {
    fn from(job: Job) -> Self {
        Self { job, tenant: None }
    }
}

#[Object(name = "ProvisioningJob")]
impl ProvisioningJobObject {
    /// UUIDv7. Every attempt has another.
    async fn id(&self) -> ID {
        self.job.job_id.into()
    }

    /// The plane's name.
    async fn plane(&self) -> &str {
        &self.job.plane
    }

    async fn tenant_id(&self) -> ID {
        self.job.tenant_id.into()
    }

    /// What the plane needs to know of the tenant; null but in `provisioningJobs`.
    async fn tenant(&self) -> Option<ProvisionedTenant> {
        self.tenant.as_deref().map(ProvisionedTenant::from)
    }

    /// What is to be done. It may have been asked for before: make what is missing, take away what is there.
    async fn kind(&self) -> JobKind {
        self.job.kind
    }

    async fn state(&self) -> JobState {
        self.job.state
    }

    /// How often it was asked for, this time included.
    async fn attempt(&self) -> i32 {
        self.job.attempt
    }

    async fn issued_at(&self) -> DateTime<Utc> {
        self.job.issued_at
    }

    /// An answer after that is refused, and the same is asked for again as another job. PROGRESS puts it off.
    async fn deadline(&self) -> DateTime<Utc> {
        self.job.deadline
    }

    /// The deadline is put off no further.
    async fn latest(&self) -> DateTime<Utc> {
        self.job.latest
    }

    /// How far it is, as the plane said last.
    async fn percent(&self) -> Option<i16> {
        self.job.percent
    }

    /// What the plane said last.
    async fn message(&self) -> &str {
        &self.job.message
    }

    /// Where the tenant's data is: what the plane knows with this job, or knew before; null where nothing is known.
    async fn data_region(&self) -> Option<&str> {
        self.job.told.place.as_ref().map(|place| place.region.as_str())
    }

    /// Whether the tenant is in use, neither suspended nor archived nor deleted: what the plane knows with this job, or knew before.
    async fn in_use(&self) -> Option<bool> {
        self.job.told.in_use
    }

    /// When it was answered, given up or withdrawn.
    async fn closed_at(&self) -> Option<DateTime<Utc>> {
        self.job.closed_at
    }
}

/// A tenant, as far as an application plane has to know it.
#[derive(Clone, Debug, SimpleObject)]
pub struct ProvisionedTenant {
    id: ID,
    slug: String,
    name: String,
    plan: String,
    isolation_tier: IsolationTier,
    region: String,
}

impl From<&Tenant> for ProvisionedTenant {
    fn from(tenant: &Tenant) -> Self {
        Self {
            id: tenant.id.into(),
            slug: tenant.slug.clone(),
            name: tenant.name.clone(),
            plan: tenant.plan.clone(),
            isolation_tier: tenant.isolation_tier,
            region: tenant.region.clone(),
        }
    }
}

/// One page of jobs.
#[derive(Debug, SimpleObject)]
pub struct ProvisioningJobConnection {
    edges: Vec<ProvisioningJobEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct ProvisioningJobEdge {
    cursor: String,
    node: ProvisioningJobObject,
}

#[derive(Debug, InputObject)]
pub struct RegisterApplicationPlaneInput {
    /// 1 to 50 small letters, digits or '-'. It is never given to another plane.
    name: String,
    /// A client of the platform with the role `plane`, which answers for this plane and for no other.
    client_id: ID,
    /// Whether a new tenant that it serves becomes ACTIVE only after it.
    #[graphql(default = true)]
    essential: bool,
    /// How long it has to answer, from being asked or from its last PROGRESS: PT5S to P7D.
    deadline: String,
    /// How long a job may take in all, however often its deadline is put off; without it, ten deadlines.
    longest: Option<String>,
    /// 0 to 99. Planes of a lower position are asked first, those of one position together; all stand on the layers of Tenantry itself.
    #[graphql(default)]
    position: i32,
    /// The tiers of tenants that it serves; none: all.
    #[graphql(default)]
    tiers: Vec<IsolationTier>,
    /// The plans of tenants that it serves; none: all.
    #[graphql(default)]
    plans: Vec<String>,
    /// What it is told of tenants that it has, as jobs that it answers; nothing, where none is given.
    #[graphql(default)]
    follows: Vec<Interest>,
}

#[derive(Debug, InputObject)]
pub struct ChangeApplicationPlaneInput {
    name: String,
    /// Another client, which answers from then on in the place of the one before.
    client_id: Option<ID>,
    essential: Option<bool>,
    deadline: Option<String>,
    longest: Option<String>,
    position: Option<i32>,
    tiers: Option<Vec<IsolationTier>>,
    plans: Option<Vec<String>>,
    follows: Option<Vec<Interest>>,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct RetireApplicationPlaneInput {
    name: String,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

/// An application plane after a change.
#[derive(Debug, SimpleObject)]
pub struct ApplicationPlanePayload {
    plane: ApplicationPlaneObject,
}

#[derive(Debug, InputObject)]
pub struct ReportProvisioningInput {
    /// The job that is answered, of this tenant and plane.
    job: ID,
    tenant_id: ID,
    plane: String,
    outcome: ProvisioningOutcome,
    /// For people, the tenant's among them: 500 characters at most, and nothing secret.
    #[graphql(default)]
    message: String,
    /// With PROGRESS: 0 to 99, never less than before.
    percent: Option<i32>,
    /// With SUCCESS: what the tenant's services find as `Layer.outputs`, 8 KiB of JSON at most, and nothing secret.
    #[graphql(default)]
    outputs: Json<Map<String, Value>>,
}

type ProvisioningOutcome = Outcome;

/// The job after a report.
#[derive(Debug, SimpleObject)]
pub struct ReportProvisioningPayload {
    job: ProvisioningJobObject,
}

#[derive(Debug, Default)]
pub struct PlaneQuery;

#[Object]
impl PlaneQuery {
    /// All application planes, in the order in which they are asked, retired ones among them.
    ///
    /// Scope: `auth:plane:read`, operators only.
    async fn application_planes(&self, ctx: &Context<'_>) -> Result<Vec<ApplicationPlaneObject>> {
        let scope = enter_platform(ctx, "Query")?;
        Ok(handle(ctx)?.planes(&scope).await?.into_iter().map(ApplicationPlaneObject).collect())
    }

    /// What your application plane was asked for and has not answered, the oldest first: all of it, however long it was away.
    ///
    /// Errors: `not_found` where your client does not answer for a plane of this name.
    ///
    /// Scope: `auth:provisioning:report`, operators only.
    async fn provisioning_jobs(
        &self,
        ctx: &Context<'_>,
        plane: String,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last job of the page before.")] after: Option<String>,
    ) -> Result<ProvisioningJobConnection> {
        let scope = enter_platform(ctx, "Query")?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let page = handle(ctx)?.open_jobs(&scope, &plane, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|(job, _)| cursor(job)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(|(job, tenant)| ProvisioningJobObject { job, tenant });
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| ProvisioningJobEdge { cursor, node }).collect();
        Ok(ProvisioningJobConnection { edges, page_info })
    }
}

#[derive(Debug, Default)]
pub struct PlaneSubscription;

#[Subscription]
impl PlaneSubscription {
    /// What your application plane is asked for: first all that is open, the oldest first, then each job as it is issued, at whatever
    /// server. Who comes back gets what is still open, and misses nothing; a job may come twice.
    ///
    /// Errors: `not_found` where your client does not answer for a plane of this name, or does no longer.
    ///
    /// Scope: `auth:provisioning:report`, operators only.
    async fn provisioning_jobs(
        &self,
        ctx: &Context<'_>,
        plane: String,
    ) -> Result<impl Stream<Item = Result<ProvisioningJobObject>> + use<>> {
        let scope = enter_platform(ctx, "Subscription")?;
        let jobs = handle(ctx)?.watch_jobs(scope, plane).await?;
        Ok(jobs.map(|job| job.map(|(job, tenant)| ProvisioningJobObject { job, tenant }).map_err(Into::into)))
    }
}

#[derive(Debug, Default)]
pub struct PlaneMutation;

#[Object]
impl PlaneMutation {
    /// From now on the plane is asked for every tenant that it serves, after all layers of Tenantry itself: for new ones, and for those that are
    /// there, which stay as they are meanwhile.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` for a name or a client that is taken.
    ///
    /// Scope: `auth:plane:write`, operators only.
    async fn register_application_plane(
        &self,
        ctx: &Context<'_>,
        input: RegisterApplicationPlaneInput,
    ) -> Result<ApplicationPlanePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let new = NewPlane {
            name: input.name,
            client_id: client("clientId", &input.client_id)?,
            is_essential: input.essential,
            deadline: duration::parse("deadline", &input.deadline)?,
            longest: input.longest.as_deref().map(|text| duration::parse("longest", text)).transpose()?,
            position: narrow("position", input.position)?,
            tiers: input.tiers,
            plans: input.plans,
            follows: input.follows,
        };
        let plane = handle(ctx)?.register_plane(&scope, new, &conditions(ctx, None)).await?;
        Ok(ApplicationPlanePayload { plane: ApplicationPlaneObject(plane) })
    }

    /// Changes what is given. Tenants that the plane comes to serve are asked for; of those that it serves no more it is asked to take away what
    /// it has. Jobs that are open keep their deadlines.
    ///
    /// Scope: `auth:plane:write`, operators only.
    async fn change_application_plane(
        &self,
        ctx: &Context<'_>,
        input: ChangeApplicationPlaneInput,
    ) -> Result<ApplicationPlanePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let duration = |field: &str, text: Option<String>| text.map(|text| duration::parse(field, &text)).transpose();
        let change = Change {
            client_id: input.client_id.as_ref().map(|id| client("clientId", id)).transpose()?,
            is_essential: input.essential,
            deadline: duration("deadline", input.deadline)?,
            longest: duration("longest", input.longest)?,
            position: input.position.map(|position| narrow("position", position)).transpose()?,
            tiers: input.tiers,
            plans: input.plans,
            follows: input.follows,
        };
        let conditions = conditions(ctx, input.expected_version);
        let plane = handle(ctx)?.change_plane(&scope, &input.name, change, &conditions).await?;
        Ok(ApplicationPlanePayload { plane: ApplicationPlaneObject(plane) })
    }

    /// Lets go of a plane: nobody gets it or waits for it any more, and it is asked to take away what each tenant has there. Its client answers
    /// until that is done. There is no way back.
    ///
    /// Scope: `auth:plane:write`, operators only.
    async fn retire_application_plane(
        &self,
        ctx: &Context<'_>,
        input: RetireApplicationPlaneInput,
    ) -> Result<ApplicationPlanePayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let plane = handle(ctx)?.retire_plane(&scope, &input.name, &conditions).await?;
        Ok(ApplicationPlanePayload { plane: ApplicationPlaneObject(plane) })
    }

    /// Answers a job, as the client of its plane, once; the same answer again is answered as the first. PROGRESS is no answer: it puts the deadline off.
    ///
    /// Errors: `not_found` where plane, tenant and job do not belong together or your client does not answer for the plane; `conflict` where the
    /// job is closed, with its `state`: drop what you were about to say, and take what is open from `provisioningJobs`.
    ///
    /// Scope: `auth:provisioning:report`, operators only.
    async fn report_provisioning(
        &self,
        ctx: &Context<'_>,
        input: ReportProvisioningInput,
    ) -> Result<ReportProvisioningPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let tenant = TenantId::parse(&input.tenant_id).map_err(|error| error.at("tenantId"))?;
        let job = input.job.parse().map_err(|_| Error::not_found().at("job"))?;
        let report = Report {
            outcome: input.outcome,
            message: input.message,
            percent: input.percent.map(|percent| narrow("percent", percent)).transpose()?,
            outputs: input.outputs.0,
        };
        let about = (input.plane.as_str(), tenant, job);
        let job = handle(ctx)?.report(&scope, about, &report, &conditions(ctx, None)).await?;
        Ok(ReportProvisioningPayload { job: job.into() })
    }
}

fn client(field: &str, id: &ID) -> crate::error::Result<ClientId> {
    id.parse().map_err(|_| Error::invalid(field, "is no id of a client"))
}

fn narrow(field: &str, number: i32) -> crate::error::Result<i16> {
    i16::try_from(number).map_err(|_| Error::invalid(field, "must be between 0 and 99"))
}

fn handle<'a>(ctx: &Context<'a>) -> crate::error::Result<&'a Provisioning> {
    ctx.data_opt::<Provisioning>().ok_or_else(|| Error::internal("the schema has no provisioning"))
}
