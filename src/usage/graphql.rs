//! Usage in the schema.

use async_graphql::{
    Context, Enum, ID, InputObject, InputValueError, InputValueResult, Json, MaybeUndefined, Object, Result, Scalar,
    ScalarType, SimpleObject, Value,
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde_json::Map;

use super::{Aggregation, Dimension, Outcome, Patience, RawEvent, Rounding, Total, Usage, Window, dimension::GroupBy};
use crate::{
    access,
    error::Error,
    isolation::TenantScope,
    tenancy::graphql::{conditions, enter_own_or, enter_platform},
};

/// A decimal number, as a number or as text: at most 15 digits before the point and 9 after it, without an exponent. It is counted as
/// it is written.
#[derive(Clone, Debug)]
pub struct Quantity(pub(super) String);

#[Scalar(name = "UsageQuantity")]
impl ScalarType for Quantity {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text)),
            // Whole numbers are exact; others have gone through floating point on their way here.
            Value::Number(number) => Ok(Self(number.to_string())),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

#[derive(Debug, InputObject)]
pub struct UsageEventInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// Makes a second event of the same tenant with the same key a duplicate, which is not counted: 1 to 200 characters.
    key: String,
    /// A key of `usageDimensions`.
    dimension: String,
    /// Not negative, unless `adjustmentReason` is given. 1 where it is not given and the dimension is summed.
    quantity: Option<Quantity>,
    /// Who or what was seen, for dimensions that count each once.
    subject: Option<String>,
    /// Texts by name; totals are kept apart by those that the dimension's `groupBy` names.
    labels: Option<Json<Map<String, serde_json::Value>>>,
    /// When it was used (RFC 3339); now where not given. It decides which windows it counts in, however late it arrives.
    timestamp: Option<String>,
    /// Why it corrects what was counted.
    adjustment_reason: Option<String>,
    /// What happened, of which the dimension's `valuePath` says the quantity. Over HTTP its numbers are read digit by digit; here they
    /// have gone through floating point, unless they are texts.
    data: Option<Json<serde_json::Value>>,
}

#[derive(Debug, InputObject)]
pub struct RecordUsageInput {
    /// At most 1,000.
    events: Vec<UsageEventInput>,
}

#[derive(Debug, InputObject)]
pub struct UsageQueryInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// A key of `usageDimensions`.
    dimension: String,
    window: Window,
    /// The first window is the one that this moment is in.
    from: DateTime<Utc>,
    /// The last window begins before it.
    to: DateTime<Utc>,
    /// A name of the IANA time zone database; UTC where not given.
    time_zone: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum UsageOutcome {
    Accepted,
    /// Its key was counted before.
    Duplicate,
    Refused,
}

/// What became of one event.
#[derive(Debug, SimpleObject)]
pub struct UsageResult {
    /// Place in the input, from 0.
    index: usize,
    outcome: UsageOutcome,
    /// Of a refused one, as in `extensions.code` of errors.
    code: Option<&'static str>,
    /// Of a refused one: what is wrong.
    field: Option<String>,
    message: Option<String>,
}

#[derive(Debug, SimpleObject)]
pub struct RecordUsagePayload {
    accepted: usize,
    duplicates: usize,
    refused: usize,
    /// One for each event, in their order.
    results: Vec<UsageResult>,
}

/// What is measured.
#[derive(Debug)]
pub struct UsageDimension(Dimension);

#[Object]
impl UsageDimension {
    async fn key(&self) -> &str {
        &self.0.key
    }

    async fn unit(&self) -> &str {
        &self.0.unit
    }

    async fn description(&self) -> &str {
        &self.0.description
    }

    async fn aggregation(&self) -> Aggregation {
        self.0.aggregation
    }

    /// How many make one unit that is sold.
    async fn unit_size(&self) -> i64 {
        self.0.unit_size
    }

    /// What becomes of a part of such a unit.
    async fn rounding(&self) -> Rounding {
        self.0.rounding
    }

    /// Labels of events by which totals are kept apart.
    async fn group_by(&self) -> &[String] {
        &self.0.group_by.0
    }

    /// Where the data of an event says its quantity, if the event does not.
    async fn value_path(&self) -> Option<&str> {
        self.0.value_path.as_deref()
    }

    async fn version(&self) -> i64 {
        self.0.version
    }
}

/// What was used in one window, of one group of labels.
#[derive(Debug)]
pub struct UsageTotal(Total);

#[Object]
impl UsageTotal {
    async fn begin(&self) -> DateTime<Utc> {
        self.0.begin
    }

    /// The begin of the next window.
    async fn end(&self) -> DateTime<Utc> {
        self.0.end
    }

    /// Those of the dimension's `groupBy` that the events had.
    async fn labels(&self) -> Json<&std::collections::BTreeMap<String, String>> {
        Json(&self.0.labels)
    }

    /// How many events there were.
    async fn events(&self) -> i64 {
        self.0.events
    }

    /// What the dimension's aggregation makes of them, exactly.
    async fn quantity(&self) -> Decimal {
        self.0.figure
    }

    /// The same in units that are sold, by the dimension's unit size and rounding.
    async fn units(&self) -> Decimal {
        self.0.units
    }
}

#[derive(Debug, InputObject)]
pub struct DefineUsageDimensionInput {
    /// 1 to 63 small letters, digits or `_`, a letter first.
    key: String,
    unit: String,
    #[graphql(default)]
    description: String,
    aggregation: Aggregation,
    #[graphql(default = 1)]
    unit_size: i64,
    #[graphql(default_with = "Rounding::None")]
    rounding: Rounding,
    /// At most 4 labels.
    #[graphql(default)]
    group_by: Vec<String>,
    /// Where the data of an event says its quantity, if the event does not: a JSONPath that finds one value (a singular query of RFC 9535).
    value_path: Option<String>,
}

/// What is not given stays.
#[derive(Debug, InputObject)]
pub struct UpdateUsageDimensionInput {
    key: String,
    /// The version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
    unit: Option<String>,
    description: Option<String>,
    /// At most 4 labels, of events from now on; what was counted stays as it was kept apart.
    group_by: Option<Vec<String>>,
    /// Null takes it away.
    value_path: MaybeUndefined<String>,
}

impl UpdateUsageDimensionInput {
    fn apply(self, dimension: &mut Dimension) {
        if let Some(unit) = self.unit {
            dimension.unit = unit;
        }
        if let Some(description) = self.description {
            dimension.description = description;
        }
        if let Some(labels) = self.group_by {
            dimension.group_by = GroupBy(labels);
        }
        match self.value_path {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => dimension.value_path = None,
            MaybeUndefined::Value(path) => dimension.value_path = Some(path),
        }
    }
}

#[derive(Debug, SimpleObject)]
pub struct UsageDimensionPayload {
    dimension: UsageDimension,
}

#[derive(Debug, Default)]
pub struct UsageQuery;

#[Object]
impl UsageQuery {
    /// What was used of a dimension in each window from `from` until before `to`, at most 1,500 windows: whole windows of the time
    /// zone. Exact, and with everything that was accepted before. Windows in which nothing was used are left out.
    ///
    /// Errors: `invalid_input` at `dimension`, `timeZone` (a name of the IANA time zone database), `from` or `to`.
    ///
    /// Scope: `auth:usage:read`.
    async fn usage(&self, ctx: &Context<'_>, input: UsageQueryInput) -> Result<Vec<UsageTotal>> {
        let scope = entered(ctx, "Query", input.tenant_id.as_ref()).await?;
        let zone = input.time_zone.map_or(Ok(Tz::UTC), |name| name.parse());
        let zone = zone.map_err(|_| Error::invalid("timeZone", "must be a name of the IANA time zone database"))?;
        let (windows, span) = ((input.window, zone), (input.from, input.to));
        let totals = handle(ctx)?.totals(&scope, &input.dimension, windows, span).await?;
        Ok(totals.into_iter().map(UsageTotal).collect())
    }

    /// The catalogue of what is measured.
    ///
    /// Scope: `auth:usage:read`.
    async fn usage_dimensions(&self, ctx: &Context<'_>) -> Result<Vec<UsageDimension>> {
        Ok(handle(ctx)?.dimensions().await?.into_iter().map(UsageDimension).collect())
    }
}

#[derive(Debug, Default)]
pub struct UsageMutation;

#[Object]
impl UsageMutation {
    /// Counts usage. Each event is counted once, however often it is sent: what is answered as accepted is durable and in the totals.
    /// A bad event is refused by itself, and keeps no other from being counted. After an error of the whole mutation, such as
    /// `unavailable`, send the same events again.
    ///
    /// Scope: `auth:usage:write`.
    async fn record_usage(&self, ctx: &Context<'_>, input: RecordUsageInput) -> Result<RecordUsagePayload> {
        if input.events.len() > EVENTS {
            return Err(Error::invalid("input.events", "has at most 1000 events; send the rest by itself").into());
        }
        let caller = access::graphql::caller(ctx)?;
        let permission = access::graphql::permission_here(ctx, "Mutation")?;
        let events: Vec<_> = input.events.into_iter().map(Into::into).collect();
        let recorded = handle(ctx)?.record(&caller, permission, &events, Patience::None).await?;
        let (accepted, duplicates, refused) = (recorded.accepted(), recorded.duplicates(), recorded.refused());
        let results = recorded.0.into_iter().enumerate().map(result).collect();
        Ok(RecordUsagePayload { accepted, duplicates, refused, results })
    }

    /// Adds a dimension to the catalogue. What it measures stays as it is.
    ///
    /// Errors: `conflict` at `key` where there is one already.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn define_usage_dimension(
        &self,
        ctx: &Context<'_>,
        input: DefineUsageDimensionInput,
    ) -> Result<UsageDimensionPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let wanted = Dimension {
            key: input.key,
            dimension_id: 0,
            unit: input.unit,
            description: input.description,
            aggregation: input.aggregation,
            unit_size: input.unit_size,
            rounding: input.rounding,
            group_by: GroupBy(input.group_by),
            value_path: input.value_path,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let dimension = handle(ctx)?.define(&scope, wanted, &conditions(ctx, None)).await?;
        Ok(UsageDimensionPayload { dimension: UsageDimension(dimension) })
    }

    /// Changes what a dimension says of itself and where events say its quantity and labels, for events from now on. Aggregation, unit size
    /// and rounding stay as they are: past usage was told and billed by them. What is measured otherwise is another dimension.
    ///
    /// Errors: `not_found`; `conflict` where the version is another; `invalid_input` at the field.
    ///
    /// Scope: `auth:plan:write`, operators only.
    async fn update_usage_dimension(
        &self,
        ctx: &Context<'_>,
        input: UpdateUsageDimensionInput,
    ) -> Result<UsageDimensionPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let (key, conditions) = (input.key.clone(), conditions(ctx, input.expected_version));
        let updated = handle(ctx)?.update_dimension(&scope, &key, &conditions, |known| input.apply(known)).await?;
        Ok(UsageDimensionPayload { dimension: UsageDimension(updated) })
    }
}

const EVENTS: usize = 1000;

impl From<UsageEventInput> for RawEvent {
    fn from(input: UsageEventInput) -> Self {
        Self {
            tenant: input.tenant_id.map(|id| id.0),
            key: Some(input.key),
            source: None,
            dimension: input.dimension,
            quantity: input.quantity.map(|quantity| quantity.0),
            subject: input.subject,
            labels: input.labels.map(|labels| labels.0).unwrap_or_default(),
            timestamp: input.timestamp,
            adjustment_reason: input.adjustment_reason,
            data: input.data.and_then(|data| serde_json::value::to_raw_value(&data.0).ok()),
        }
    }
}

fn result((index, outcome): (usize, Outcome)) -> UsageResult {
    let told = |outcome| UsageResult { index, outcome, code: None, field: None, message: None };
    match outcome {
        Outcome::Accepted => told(UsageOutcome::Accepted),
        Outcome::Duplicate => told(UsageOutcome::Duplicate),
        Outcome::Refused(refusal) => UsageResult {
            code: Some(refusal.kind.code()),
            field: refusal.field,
            message: Some(refusal.message),
            ..told(UsageOutcome::Refused)
        },
    }
}

/// Enters the tenant that is named, or the caller's own.
pub(super) async fn entered(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    Ok(scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))?)
}

pub(super) fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Usage> {
    Ok(ctx.data_opt::<Usage>().ok_or_else(|| Error::internal("the schema has no usage"))?)
}
