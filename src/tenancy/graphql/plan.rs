//! Plans and what the mutations of plans take.

use std::collections::BTreeMap;

use async_graphql::{InputObject, Object, SimpleObject};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::sla::{SlaInput, SlaTerms};
use crate::{
    error::{Error, Result},
    tenancy::{
        IsolationTier, Plan, Sla, SlaOverrides,
        plan::{Features, QuotaDefaults, RequiredLayers},
    },
};

/// What is sold.
#[derive(Clone, Debug)]
pub struct PlanObject(pub Plan);

#[Object(name = "Plan")]
impl PlanObject {
    async fn key(&self) -> &str {
        &self.0.key
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn description(&self) -> &str {
        &self.0.description
    }

    /// Isolation of tenants that ask for none.
    async fn isolation_tier(&self) -> IsolationTier {
        self.0.isolation_tier
    }

    /// Features that it includes.
    async fn features(&self) -> &[String] {
        &self.0.features.0
    }

    /// Limits of tenants without an override.
    async fn quotas(&self) -> Vec<QuotaDefault<'_>> {
        self.0.quotas.0.iter().map(|(key, limit)| QuotaDefault { key, limit: *limit }).collect()
    }

    /// Layers that its tenants cannot do without: `vectors`, `graph`. They are placed only where there is what these need.
    async fn required_layers(&self) -> &[String] {
        &self.0.required_layers.0
    }

    async fn sla(&self) -> SlaTerms {
        self.0.sla.clone().into()
    }

    async fn version(&self) -> i64 {
        self.0.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }
}

/// The limit that a plan gives for one quota key.
#[derive(Clone, Debug, SimpleObject)]
pub struct QuotaDefault<'a> {
    key: &'a str,
    /// Null is unlimited.
    limit: Option<i64>,
}

#[derive(Clone, Debug, InputObject)]
pub struct CreatePlanInput {
    pub key: String,
    pub name: String,
    #[graphql(default)]
    pub description: String,
    pub isolation_tier: IsolationTier,
    #[graphql(default)]
    pub features: Vec<String>,
    #[graphql(default)]
    pub quotas: Vec<QuotaDefaultInput>,
    /// Layers that its tenants cannot do without: `vectors`, `graph`.
    #[graphql(default)]
    pub required_layers: Vec<String>,
    pub sla: SlaInput,
}

/// What is left out stays as it is.
#[derive(Clone, Debug, InputObject)]
pub struct UpdatePlanInput {
    pub key: String,
    /// The version that you saw last: `conflict` if there is another.
    pub expected_version: Option<i64>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub isolation_tier: Option<IsolationTier>,
    pub features: Option<Vec<String>>,
    pub quotas: Option<Vec<QuotaDefaultInput>>,
    pub required_layers: Option<Vec<String>>,
    pub sla: Option<SlaInput>,
}

#[derive(Clone, Debug, InputObject)]
pub struct QuotaDefaultInput {
    pub key: String,
    /// Null is unlimited.
    pub limit: Option<i64>,
}

impl TryFrom<CreatePlanInput> for Plan {
    type Error = Error;

    /// Version and times are set when it is kept.
    fn try_from(input: CreatePlanInput) -> Result<Self> {
        let need = |field: &'static str| move || Error::invalid(format!("sla.{field}"), "is needed for a plan");
        let sla = SlaOverrides::from(input.sla);
        Ok(Self {
            key: input.key,
            name: input.name,
            description: input.description,
            isolation_tier: input.isolation_tier,
            features: Features(input.features),
            quotas: quotas(input.quotas)?,
            required_layers: RequiredLayers(input.required_layers),
            sla: Sla {
                uptime: sla.uptime.ok_or_else(need("uptime"))?,
                support_hours: sla.support_hours.ok_or_else(need("supportHours"))?,
                support_response: sla.support_response.ok_or_else(need("supportResponse"))?,
                credits: sla.credits.unwrap_or_default(),
            },
            prices: Value::Array(Vec::new()),
            version: 1,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        })
    }
}

impl UpdatePlanInput {
    /// Sets what is named.
    pub fn apply(self, plan: &mut Plan) -> Result<()> {
        plan.name = self.name.unwrap_or_else(|| std::mem::take(&mut plan.name));
        plan.description = self.description.unwrap_or_else(|| std::mem::take(&mut plan.description));
        plan.isolation_tier = self.isolation_tier.unwrap_or(plan.isolation_tier);
        if let Some(features) = self.features {
            plan.features = Features(features);
        }
        if let Some(limits) = self.quotas {
            plan.quotas = quotas(limits)?;
        }
        if let Some(layers) = self.required_layers {
            plan.required_layers = RequiredLayers(layers);
        }
        if let Some(sla) = self.sla {
            plan.sla = plan.sla.with(&sla.into());
        }
        Ok(())
    }
}

fn quotas(limits: Vec<QuotaDefaultInput>) -> Result<QuotaDefaults> {
    let count = limits.len();
    let map: BTreeMap<_, _> = limits.into_iter().map(|limit| (limit.key, limit.limit)).collect();
    if map.len() < count { Err(Error::invalid("quotas", "names a key twice")) } else { Ok(QuotaDefaults(map)) }
}
