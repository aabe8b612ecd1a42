//! One GraphQL operation: admitted, permitted, executed to its end, its errors made presentable.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_graphql::{Request, Response, ServerError, ValidationMode, parser::types::OperationType};
use futures::{StreamExt as _, stream::BoxStream};
use metrics::{Counter, Histogram};
use tracing::Instrument as _;

use super::{
    admission::{Admission, Admitted, Operation, catalogue::Catalogue},
    errors, request_log,
    schema::TenantrySchema,
    to_its_end::ToItsEnd,
};
use crate::{
    access::{self, Audience, Caller, Effect, Permission},
    app::App,
    config,
    error::{Error, Result},
    isolation::Budgets,
    platform::page::LargestPage,
};

/// The schema with everything that is checked before it is asked.
pub struct Engine {
    app: App,
    schema: TenantrySchema,
    /// The same for requests that it has found valid before: it does not look at that again.
    schema_of_known: TenantrySchema,
    admission: Admission,
    /// By field of the catalogue: what it asks of a caller.
    permissions: Vec<Rule>,
    limits: config::GraphQl,
    meters: [Meters; KINDS.len()],
    /// What each tenant may have in progress.
    work: Budgets,
}

#[derive(Clone, Copy)]
enum Rule {
    /// Nothing beyond what the fields above it asked.
    Inherited,
    Listed(&'static Permission),
    /// A root field that the table of permissions does not have.
    Missing,
}

impl Engine {
    /// After the recorder of metrics is there: what is counted before goes nowhere.
    pub fn new(app: App) -> Self {
        let (schema, schema_of_known) = (schema(&app, ValidationMode::Strict), schema(&app, ValidationMode::Fast));
        let limits = app.config.graphql.clone();
        let admission = Admission::new(&schema.sdl(), super::admission_limits(&limits));
        let permissions = rules(admission.catalogue());
        let rates = &app.config.rates;
        let exhausted = "the tenant's own operations take its whole share of the server; try again when they are done";
        let work = Budgets::new(rates.operations_at_once, rates.operation_patience, exhausted);
        Self { app, schema, schema_of_known, admission, permissions, limits, meters: KINDS.map(Meters::of), work }
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Checks the document, the caller's permissions for every field of it, and the state of the caller's tenant.
    pub async fn admit(&self, caller: &Caller, request: &Request) -> Result<Admitted> {
        let admitted = self.admission.admit(&request.query, request.operation_name.as_deref(), &request.variables)?;
        self.permit(caller, admitted).await
    }

    /// The second half of [`admit`](Self::admit), for what was valid before: permissions and state change.
    pub async fn permit(&self, caller: &Caller, admitted: Admitted) -> Result<Admitted> {
        let operation = admitted.operation();
        request_log::note_operation(&operation.label);
        if caller.is_anonymous() && !is_for_everyone(operation) {
            return Err(Error::unauthenticated());
        }
        let effect = if operation.kind == OperationType::Mutation { Effect::Write } else { Effect::Read };
        self.app.tenancy.admit(caller, effect).await?;
        if operation.uses_introspection && !self.limits.introspection {
            return Err(Error::forbidden("introspection is switched off; the schema is published as a file"));
        }
        for field in &operation.fields {
            match self.permissions[field.index()] {
                Rule::Inherited => {}
                Rule::Listed(permission) => caller.require(permission).map_err(|error| {
                    let name = permission.field.split_once('.').map_or(permission.field, |(_, name)| name);
                    error.at(name)
                })?,
                Rule::Missing => {
                    return Err(Error::forbidden("nobody may use this field").at(&*self
                        .admission
                        .catalogue()
                        .field(*field)
                        .name));
                }
            }
        }
        Ok(admitted)
    }

    /// Runs a query or mutation that was admitted. It runs to its end even if the client leaves: a change is either
    /// committed with its record, or not made.
    pub async fn execute(
        self: &Arc<Self>,
        caller: Arc<Caller>,
        request: Request,
        admitted: Admitted,
        request_id: &str,
    ) -> Response {
        let began = Instant::now();
        let meters = &self.meters[kind(admitted.operation().kind)];
        let (engine, prepared) = (self.clone(), Self::prepare(caller.clone(), request, &admitted));
        let is_known = admitted.is_known;
        let work = async move {
            let schema = if is_known { &engine.schema_of_known } else { &engine.schema };
            match engine.work.take(&caller).await {
                Ok(_slot) => schema.execute(prepared).await,
                Err(error) => failed(error),
            }
        };
        let work = ToItsEnd::new(work.in_current_span());
        let mut response = match tokio::time::timeout(self.app.config.server.request_timeout, work).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => failed(error),
            Err(_elapsed) => failed(Error::unavailable("the operation took longer than server.request_timeout")),
        };
        errors::present(&mut response.errors, request_id, self.limits.errors);
        meters.count(response.errors.is_empty(), began.elapsed());
        response
    }

    /// Runs a subscription that was admitted.
    pub fn stream(
        self: &Arc<Self>,
        caller: Arc<Caller>,
        request: Request,
        admitted: &Admitted,
        request_id: String,
    ) -> BoxStream<'static, Response> {
        let request = Self::prepare(caller, request, admitted);
        let most = self.limits.errors;
        let present = move |mut response: Response| {
            errors::present(&mut response.errors, &request_id, most);
            response
        };
        self.schema.execute_stream(request).map(present).boxed()
    }

    fn prepare(caller: Arc<Caller>, request: Request, admitted: &Admitted) -> Request {
        let mut request = request.data(caller);
        request.set_parsed_query(admitted.executable());
        request
    }
}

fn schema(app: &App, mode: ValidationMode) -> TenantrySchema {
    let mut builder = super::schema::builder()
        .validation_mode(mode)
        .data(app.tenancy.clone())
        .data(app.audit.clone())
        .data(app.oauth.clone())
        .data(app.health.clone())
        .data(app.quotas.clone())
        .data(app.flags.clone())
        .data(app.pki.clone())
        .data(app.tenant_keys.clone())
        .data(app.rates.clone())
        .data(app.usage.clone())
        .data(app.members.clone())
        .data(app.sessions.clone())
        .data(app.impersonations.clone())
        .data(app.analytics.clone())
        .data(app.directory.clone())
        .data(app.entitlements.clone())
        .data(app.cells.clone())
        .data(app.templates.clone())
        .data(app.provisioning.clone())
        .data(app.moves.clone())
        .data(app.probes.clone())
        .data(app.isolation.clone())
        .data(LargestPage(app.config.graphql.page_size));
    if !app.config.graphql.introspection {
        builder = builder.disable_introspection();
    }
    builder.finish()
}

/// Whether each of its root fields may be asked without a token. Not the schema's own description, which is published as a file.
fn is_for_everyone(operation: &Operation) -> bool {
    let root = if operation.kind == OperationType::Mutation { "Mutation" } else { "Query" };
    let is_public = |field: &String| {
        access::permission(root, field).is_some_and(|permission| permission.audience == Audience::Public)
    };
    !operation.uses_introspection && !operation.root_fields.is_empty() && operation.root_fields.iter().all(is_public)
}

fn rules(catalogue: &Catalogue) -> Vec<Rule> {
    let roots = [catalogue.query(), catalogue.mutation(), catalogue.subscription()];
    let rule = |parent: &str, field: &str| match access::permission(parent, field) {
        Some(permission) => Rule::Listed(permission),
        None if roots.contains(&parent) => Rule::Missing,
        None => Rule::Inherited,
    };
    catalogue.fields().iter().map(|field| rule(&field.parent, &field.name)).collect()
}

fn failed(error: Error) -> Response {
    let mut response = Response::new(async_graphql::Value::Null);
    response.errors.push(server_error(error));
    response
}

/// An engine's error that carries ours.
pub(super) fn server_error(error: Error) -> ServerError {
    async_graphql::Error::new_with_source(error).into_server_error(async_graphql::Pos::default())
}

const KINDS: [&str; 3] = ["query", "mutation", "subscription"];

/// The place in [`KINDS`].
fn kind(of: OperationType) -> usize {
    match of {
        OperationType::Query => 0,
        OperationType::Mutation => 1,
        OperationType::Subscription => 2,
    }
}

/// What is counted of operations of one kind; looked up once, not in every request.
struct Meters {
    done: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl Meters {
    fn of(kind: &'static str) -> Self {
        let total = |outcome: &'static str| metrics::counter!("tenantry_graphql_operations_total", "kind" => kind, "outcome" => outcome);
        let seconds = metrics::histogram!("tenantry_graphql_operation_seconds", "kind" => kind);
        Self { done: total("ok"), failed: total("error"), seconds }
    }

    fn count(&self, is_ok: bool, took: Duration) {
        if is_ok { &self.done } else { &self.failed }.increment(1);
        self.seconds.record(took);
    }
}
