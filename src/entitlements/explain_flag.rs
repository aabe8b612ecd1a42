//! The chain of a flag, in the order of `flags/evaluate`: what comes first decides.

use serde_json::{Map, Value, json};

use super::{
    answer::View,
    chain::{Chain, lifecycle, plan},
    link::{Draft, Reader, Step, Trail},
};
use crate::{
    audit::Sought,
    error::{Error, Result},
    flags::{self, Flag, Source, Verdict},
    grants::Kind,
};

/// What is asked, for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) key: &'a str,
    pub(super) context: &'a Map<String, Value>,
    pub(super) reader: Reader,
}

/// Allowed is a flag whose value is true; of others, one that is not switched off.
pub(super) fn of_flag(view: &View, flags: &flags::View, asked: Asked<'_>) -> Result<Chain> {
    let found = flags.evaluate(asked.key, asked.context)?;
    let (place, verdict) = found.ok_or_else(|| Error::invalid("key", "names no flag"))?;
    let flag = &flags.definitions()?.flags[place];
    let value = flags.value(flag, verdict)?;
    let mut drafts = vec![lifecycle(&view.snapshot.tenant)];
    drafts.push(defined(flag, Step::KillSwitch, "enabled", switched(flag), flag.enabled));
    if verdict.source != Source::KillSwitch {
        drafts.extend(ceiling(view, flag)?);
    }
    if !matches!(verdict.source, Source::KillSwitch | Source::PlanCeiling) {
        drafts.extend(prerequisites(flag, verdict));
    }
    match verdict.source {
        Source::KillSwitch | Source::PlanCeiling | Source::Prerequisite(_) | Source::Unresolved => {}
        Source::Tenant => drafts.push(own_value(flag, value)),
        Source::Rule { rule, segment } => {
            drafts.extend(rules(flags, flag, rule, &asked)?);
            drafts.extend(matched(flags, flag, (rule, segment), &asked)?);
        }
        Source::Plan => {
            drafts.extend(rules(flags, flag, flag.rules.0.len(), &asked)?);
            drafts.push(plan(&view.snapshot.tenant));
            drafts.push(defined(
                flag,
                Step::PlanValue,
                "planValues",
                "the flag's value for the plan".into(),
                value.clone(),
            ));
        }
        Source::Default => {
            drafts.extend(rules(flags, flag, flag.rules.0.len(), &asked)?);
            drafts.push(defined(flag, Step::Default, "defaultValue", "the flag's default".into(), value.clone()));
        }
    }
    super::link::last_decides(&mut drafts);
    Ok((value.as_bool().unwrap_or(flag.enabled) && !view.is_closed(), drafts))
}

fn switched(flag: &Flag) -> String {
    format!("the flag `{}` is switched {}", flag.key, if flag.enabled { "on" } else { "off" })
}

/// A link about a member of the definition.
fn defined(flag: &Flag, step: Step, member: &'static str, text: String, value: impl Into<Value>) -> Draft {
    Draft::new(step, text, value, Trail::Platform(Sought::new("flag", &flag.key).changed(member)))
}

/// Whether the plan, or a grant, has the feature that the flag needs.
fn ceiling(view: &View, flag: &Flag) -> Result<Vec<Draft>> {
    let Some(feature) = &flag.feature else { return Ok(Vec::new()) };
    let planned = view.plan()?.features.0.contains(feature);
    let says = if planned { "includes" } else { "does not include" };
    let trail = Trail::Platform(Sought::new("plan", &view.snapshot.tenant.plan).changed("features"));
    let text = format!("the plan {says} the feature `{feature}`, which the flag needs");
    let mut drafts = vec![plan(&view.snapshot.tenant), Draft::new(Step::PlanCeiling, text, planned, trail)];
    if let Some(grant) = view.held()?.find(Kind::Feature, feature, view.now) {
        let trail = Trail::Tenant(Sought::new("grant", grant.grant_id).events(&["EntitlementGranted"]));
        drafts.push(Draft::new(Step::Grant, format!("a grant of the feature `{feature}`"), true, trail));
    }
    Ok(drafts)
}

/// Those that are met, and the first that is not.
fn prerequisites(flag: &Flag, verdict: Verdict) -> impl Iterator<Item = Draft> {
    let unmet = match verdict.source {
        Source::Prerequisite(place) => Some(place),
        _ => None,
    };
    let asked = unmet.map_or(flag.prerequisites.0.len(), |place| place + 1);
    flag.prerequisites.0.iter().take(asked).enumerate().map(move |(place, wanted)| {
        let met = unmet != Some(place);
        let says = if met { "has" } else { "has not" };
        let text = format!("the flag `{}` {says} the value that comes first", wanted.flag);
        defined(flag, Step::Prerequisite, "prerequisites", text, met)
    })
}

fn own_value(flag: &Flag, value: &Value) -> Draft {
    let trail = Trail::Tenant(Sought::new("flag", &flag.key).events(&["FlagSet"]));
    Draft::new(Step::TenantValue, "the tenant's own value", value.clone(), trail)
}

/// Rules before `end`, which did not match: for operators, since they may name other tenants.
fn rules(flags: &flags::View, flag: &Flag, end: usize, asked: &Asked<'_>) -> Result<Vec<Draft>> {
    if asked.reader == Reader::Service {
        return Ok(Vec::new());
    }
    let mut drafts = Vec::new();
    for (place, rule) in flag.rules.0.iter().enumerate().take(end) {
        let bucket = flags.bucket(flag, place, asked.context)?;
        let text = format!("the rule `{}` does not match", rule.key);
        drafts.push(defined(
            flag,
            Step::Rule,
            "rules",
            text,
            json!({ "rule": rule.key, "matches": false, "bucket": bucket }),
        ));
    }
    Ok(drafts)
}

/// The rule that matched, the segment through which it did, and the bucket of its rollout.
fn matched(
    flags: &flags::View,
    flag: &Flag,
    (place, segment): (usize, Option<usize>),
    asked: &Asked<'_>,
) -> Result<Vec<Draft>> {
    let Some(rule) = flag.rules.0.get(place) else { return Ok(Vec::new()) };
    let value = json!({ "rule": rule.key, "matches": true, "value": rule.value });
    let mut drafts =
        vec![defined(flag, Step::Rule, "rules", format!("the rule `{}` matches", rule.key), value).deciding()];
    if let Some(segment) = segment.and_then(|segment| rule.segments.get(segment)) {
        let trail = Trail::Platform(Sought::new("flag_segment", segment));
        drafts.push(Draft::new(Step::Segment, format!("through the segment `{segment}`"), segment.as_str(), trail));
    }
    if let Some(rollout) = &rule.rollout {
        let bucket = flags.bucket(flag, place, asked.context)?;
        let value = match asked.reader {
            Reader::Operator => {
                json!({ "bucket": bucket, "of": flags::BUCKETS, "below": rollout.buckets, "bucketBy": rollout.bucket_by.to_string() })
            }
            Reader::Service => json!({ "bucket": bucket, "of": flags::BUCKETS }),
        };
        drafts.push(Draft::new(Step::Rollout, "the bucket is inside the rollout", value, Trail::Computed));
    }
    Ok(drafts)
}
