//! One moment of one tenant, as it stands in memory: what answers are decided on.

use std::{borrow::Cow, sync::Arc};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{
    Flags,
    condition::Facts,
    evaluate::{Evaluator, Subject, Verdict, value_of},
    flag::Flag,
    known::{Definitions, Settings},
    setting::Setting,
};
use crate::{
    error::{Error, Result},
    grants::{Held, Kind},
    platform::ids::TenantId,
    tenancy::{Catalogue, Snapshot},
};

/// Grows when the same definitions could be decided differently: a client must not take an answer of an older release for
/// a present one.
const EVALUATOR: u32 = 2;

/// What is known of the tenant and of the platform, now. Asks no database while both are in memory.
#[derive(Clone, Debug)]
pub struct View {
    tenant: Arc<Snapshot>,
    platform: Arc<Catalogue>,
    now: DateTime<Utc>,
}

impl Flags {
    pub async fn view(&self, tenant: TenantId) -> Result<View> {
        let snapshots = self.tenancy.snapshots();
        let tenant = snapshots.get(tenant).await?.ok_or_else(Error::not_found)?;
        self.view_of(tenant).await
    }

    /// The same of a tenant that is known already.
    pub async fn view_of(&self, tenant: Arc<Snapshot>) -> Result<View> {
        let snapshots = self.tenancy.snapshots();
        let mut platform = snapshots.catalogue().await?;
        if platform.plan(&tenant.tenant.plan).is_none() {
            // Made by another replica a moment ago: the tenant's change was heard first.
            snapshots.refresh(TenantId::PLATFORM).await;
            platform = snapshots.catalogue().await?;
        }
        Ok(View { tenant, platform, now: self.isolation.clock().now() })
    }

    /// All definitions, from memory.
    pub async fn definitions(&self) -> Result<Arc<Catalogue>> {
        self.tenancy.snapshots().catalogue().await
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.isolation.clock().now()
    }
}

impl View {
    pub fn definitions(&self) -> Result<&Definitions> {
        self.platform.part()
    }

    /// The tenant's own value, whether it counts now or not.
    pub fn setting(&self, flag: &Flag) -> Result<Option<&Setting>> {
        Ok(self.tenant.part::<Settings>()?.find(&flag.key))
    }

    /// `<tenant>.<platform>`: how far the two journals were.
    pub fn version(&self) -> String {
        format!("{}.{}", self.tenant.version, self.platform.version)
    }

    /// The flag's place and the verdict about it; `None` where there is no such flag.
    pub fn evaluate(&self, key: &str, context: &Map<String, Value>) -> Result<Option<(usize, Verdict)>> {
        let Some(place) = self.definitions()?.place(key) else { return Ok(None) };
        self.decide(context, [place]).map(|decided| decided.first().copied())
    }

    /// All flags, in the order of their keys.
    pub fn evaluate_all(&self, context: &Map<String, Value>) -> Result<Vec<(usize, Verdict)>> {
        self.decide(context, 0..self.definitions()?.flags.len())
    }

    /// The value that a verdict of this view stands for.
    pub fn value<'a>(&'a self, flag: &'a Flag, verdict: Verdict) -> Result<&'a Value> {
        Ok(value_of(flag, verdict, self.tenant.part()?, &self.tenant.tenant.plan))
    }

    /// What is equal for two requests only if all their answers are, `request` being what else they depend on. Everything that an
    /// answer is made of is in a version; what changes by itself is in the count of turns.
    pub fn fingerprint(&self, request: &[u8]) -> Result<String> {
        use aws_lc_rs::digest::{Context, SHA256};
        let tenant = &self.tenant.tenant;
        let turns = self.tenant.part::<Settings>()?.turns_before(self.now);
        let given = self.tenant.part::<Held>()?.turns_before(self.now);
        let versions = [self.tenant.version, tenant.version, self.platform.version, turns as i64, given as i64];
        let mut hash = Context::new(&SHA256);
        hash.update(tenant.id.uuid().as_bytes());
        hash.update(&EVALUATOR.to_be_bytes());
        for version in versions {
            hash.update(&version.to_be_bytes());
        }
        hash.update(request);
        let mut half = [0; 16];
        half.copy_from_slice(&hash.finish().as_ref()[..16]);
        Ok(format!("{:032x}", u128::from_be_bytes(half)))
    }

    /// In which of the 100,000 buckets the rollout of a rule, by its place, puts the tenant or the context; `None` where the
    /// rule has none, or the context does not name what is put into buckets.
    pub fn bucket(&self, flag: &Flag, rule: usize, context: &Map<String, Value>) -> Result<Option<u32>> {
        let Some(rollout) = flag.rules.0.get(rule).and_then(|rule| rule.rollout.as_ref()) else { return Ok(None) };
        self.with_evaluator(context, |evaluator, _| evaluator.bucket(flag, rollout))
    }

    fn decide(
        &self,
        context: &Map<String, Value>,
        places: impl IntoIterator<Item = usize>,
    ) -> Result<Vec<(usize, Verdict)>> {
        self.with_evaluator(context, |evaluator, definitions| {
            places.into_iter().map(|place| (place, evaluator.evaluate(&definitions.flags[place]))).collect()
        })
    }

    fn with_evaluator<T>(
        &self,
        context: &Map<String, Value>,
        ask: impl for<'a> FnOnce(&Evaluator<'a>, &'a Definitions) -> T,
    ) -> Result<T> {
        let (tenant, features) = (&self.tenant.tenant, self.features()?);
        let (id, tier, status) = (tenant.id.to_string(), tier_name(tenant), tenant.status.name());
        let facts = Facts {
            id: &id,
            slug: &tenant.slug,
            plan: &tenant.plan,
            region: &tenant.region,
            isolation_tier: &tier,
            status: &status,
            labels: &tenant.labels.0,
            features: &features,
        };
        let subject = Subject { facts, context, now: self.now };
        let definitions = self.definitions()?;
        Ok(ask(&Evaluator::new(definitions, self.tenant.part()?, subject), definitions))
    }

    /// Those of the plan, and those that the tenant was given.
    fn features(&self) -> Result<Cow<'_, [String]>> {
        let of_plan = self.platform.plan(&self.tenant.tenant.plan).map_or(&[][..], |plan| &plan.features.0);
        let mut given =
            self.tenant.part::<Held>()?.active(Kind::Feature, self.now).map(|grant| grant.key.clone()).peekable();
        Ok(match given.peek() {
            None => Cow::Borrowed(of_plan),
            Some(_) => Cow::Owned(of_plan.iter().cloned().chain(given).collect()),
        })
    }
}

fn tier_name(tenant: &crate::tenancy::Tenant) -> String {
    use sea_orm::ActiveEnum as _;
    tenant.isolation_tier.to_value()
}
