//! One GraphQL operation: admitted, permitted, executed in a task of its own, its errors made presentable.

use std::{sync::Arc, time::Instant};

use async_graphql::{Request, Response, ServerError, parser::types::OperationType};
use futures::{StreamExt as _, stream::BoxStream};
use tracing::Instrument as _;

use super::{
    admission::{Admission, Admitted, catalogue::Catalogue},
    errors,
    schema::TenantrySchema,
};
use crate::{
    access::{self, Caller, Effect, Permission},
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
    admission: Admission,
    /// By field of the catalogue: what it asks of a caller.
    permissions: Vec<Rule>,
    limits: config::GraphQl,
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
    pub fn new(app: App) -> Self {
        let mut builder = super::schema::builder()
            .data(app.tenancy.clone())
            .data(app.audit.clone())
            .data(app.oauth.clone())
            .data(app.health.clone())
            .data(app.quotas.clone())
            .data(app.flags.clone())
            .data(app.tenant_keys.clone())
            .data(app.rates.clone())
            .data(app.entitlements.clone())
            .data(app.cells.clone())
            .data(app.templates.clone())
            .data(app.provisioning.clone())
            .data(app.isolation.clone())
            .data(LargestPage(app.config.graphql.page_size));
        if !app.config.graphql.introspection {
            builder = builder.disable_introspection();
        }
        let schema = builder.finish();
        let limits = app.config.graphql.clone();
        let admission = Admission::new(&schema.sdl(), super::admission_limits(&limits));
        let permissions = rules(admission.catalogue());
        let rates = &app.config.rates;
        let exhausted = "the tenant's own operations take its whole share of the server; try again when they are done";
        let work = Budgets::new(rates.operations_at_once, rates.operation_patience, exhausted);
        Self { app, schema, admission, permissions, limits, work }
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    /// Checks the document, the caller's permissions for every field of it, and the state of the caller's tenant.
    pub async fn admit(&self, caller: &Caller, request: &Request) -> Result<Admitted> {
        let admitted = self.admission.admit(&request.query, request.operation_name.as_deref(), &request.variables)?;
        let operation = admitted.operation();
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
        let kind = kind_name(admitted.operation().kind);
        let (engine, prepared) = (self.clone(), Self::prepare(caller.clone(), request, &admitted));
        let work = async move {
            match engine.work.take(&caller).await {
                Ok(_slot) => engine.schema.execute(prepared).await,
                Err(error) => failed(error),
            }
        };
        let task = tokio::spawn(work.in_current_span());
        let mut response = match tokio::time::timeout(self.app.config.server.request_timeout, task).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => failed(Error::internal(panic)),
            Err(_elapsed) => failed(Error::unavailable("the operation took longer than server.request_timeout")),
        };
        errors::present(&mut response.errors, request_id, self.limits.errors);
        let outcome = if response.errors.is_empty() { "ok" } else { "error" };
        metrics::counter!("tenantry_graphql_operations_total", "kind" => kind, "outcome" => outcome).increment(1);
        metrics::histogram!("tenantry_graphql_operation_seconds", "kind" => kind).record(began.elapsed());
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

fn kind_name(kind: OperationType) -> &'static str {
    match kind {
        OperationType::Query => "query",
        OperationType::Mutation => "mutation",
        OperationType::Subscription => "subscription",
    }
}
