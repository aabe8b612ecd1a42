//! What a definition must be to be kept. Each refusal names the member that it is about.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    bucket::BUCKETS,
    condition::Condition,
    evaluate::MAX_DEPTH,
    flag::{Flag, Kind, Lifecycle, Rule},
    known::Definitions,
    segment::Segment,
};
use crate::error::{Error, Result};

/// Bytes of JSON of one value.
const VALUE_BYTES: usize = 16 * 1024;
/// Bytes of JSON of one whole definition, or segment.
const DEFINITION_BYTES: usize = 256 * 1024;
const MAX_RULES: usize = 100;
const MAX_CONDITIONS: usize = 50;
const MAX_SEGMENTS_OF_RULE: usize = 20;
const MAX_PREREQUISITES: usize = 10;
const MAX_VARIANTS: usize = 50;
/// Flags that are not archived; segments.
pub(super) const MAX_DEFINITIONS: usize = 2_000;

/// The definition, against all others and the keys of plans.
pub(super) fn flag(flag: &Flag, others: &Definitions, plans: &BTreeSet<String>) -> Result<()> {
    key("key", &flag.key)?;
    text("description", &flag.description, 2_000)?;
    text("owner", &flag.owner, 200)?;
    text("salt", &flag.salt, 200)?;
    if let Some(feature) = &flag.feature {
        key("feature", feature)?;
    }
    match (flag.lifecycle, flag.stale_after) {
        (Lifecycle::Temporary, None) => return Err(Error::invalid("staleAfter", "is needed for a TEMPORARY flag")),
        (Lifecycle::Permanent, Some(_)) => {
            return Err(Error::invalid("staleAfter", "is for TEMPORARY flags; this one is PERMANENT"));
        }
        _ => {}
    }
    value("defaultValue", flag.kind, &flag.default_value)?;
    if let Some(off) = &flag.off_value {
        value("offValue", flag.kind, off)?;
    }
    variants(flag)?;
    for (plan, of_plan) in &flag.plan_values.0 {
        let field = format!("planValues.{plan}");
        if !plans.contains(plan) {
            return Err(Error::invalid(field, "names no plan of the catalogue"));
        }
        value(&format!("{field}.value"), flag.kind, of_plan)?;
    }
    rules(flag, others)?;
    prerequisites(flag, others)?;
    if serde_json::to_vec(flag).is_ok_and(|json| json.len() > DEFINITION_BYTES) {
        return Err(Error::invalid("rules", format!("the flag has more than {DEFINITION_BYTES} bytes of JSON in all")));
    }
    Ok(())
}

pub(super) fn segment(segment: &Segment) -> Result<()> {
    key("key", &segment.key)?;
    text("description", &segment.description, 2_000)?;
    if segment.conditions.0.is_empty() {
        return Err(Error::invalid("conditions", "must be one at least: a segment without any is everyone"));
    }
    conditions("conditions", &segment.conditions.0)?;
    if serde_json::to_vec(segment).is_ok_and(|json| json.len() > DEFINITION_BYTES) {
        return Err(Error::invalid("conditions", format!("have more than {DEFINITION_BYTES} bytes of JSON in all")));
    }
    Ok(())
}

/// A value of a flag: of its type, not too large, nothing that PostgreSQL cannot hold.
pub(super) fn value(field: &str, kind: Kind, value: &Value) -> Result<()> {
    if !kind.accepts(value) {
        return Err(Error::invalid(field, kind.wants()));
    }
    if value.to_string().len() > VALUE_BYTES {
        return Err(Error::invalid(field, format!("has more than {VALUE_BYTES} bytes of JSON")));
    }
    if holds_nul(value) {
        return Err(Error::invalid(field, "must not hold the character U+0000"));
    }
    Ok(())
}

/// Letters, digits, '.', '_' and '-': what stands in an address as it is.
pub(super) fn key(field: &str, key: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let well_formed = (1..=128).contains(&key.len())
        && key.bytes().all(allowed)
        && key.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if well_formed {
        return Ok(());
    }
    Err(Error::invalid(field, "has 1 to 128 letters, digits, '.', '_' or '-', and begins with a letter or digit"))
}

/// Text for people, which may be empty.
pub(super) fn text(field: &str, text: &str, most: usize) -> Result<()> {
    if text.chars().count() > most {
        return Err(Error::invalid(field, format!("must have at most {most} characters")));
    }
    if text.chars().any(|letter| letter.is_control() && letter != '\n') {
        return Err(Error::invalid(field, "must not hold control characters"));
    }
    Ok(())
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

fn variants(flag: &Flag) -> Result<()> {
    at_most("variants", flag.variants.0.len(), MAX_VARIANTS)?;
    let mut names = BTreeSet::new();
    for (index, variant) in flag.variants.0.iter().enumerate() {
        let field = format!("variants[{index}]");
        key(&format!("{field}.name"), &variant.name)?;
        value(&format!("{field}.value"), flag.kind, &variant.value)?;
        if !names.insert(&variant.name) {
            return Err(Error::invalid(format!("{field}.name"), "is there twice"));
        }
    }
    Ok(())
}

fn rules(flag: &Flag, others: &Definitions) -> Result<()> {
    at_most("rules", flag.rules.0.len(), MAX_RULES)?;
    let mut keys = BTreeSet::new();
    for (index, rule) in flag.rules.0.iter().enumerate() {
        let field = format!("rules[{index}]");
        key(&format!("{field}.key"), &rule.key)?;
        if !keys.insert(&rule.key) {
            return Err(Error::invalid(format!("{field}.key"), "is there twice"));
        }
        value(&format!("{field}.value"), flag.kind, &rule.value)?;
        audience(&field, rule, others)?;
    }
    Ok(())
}

/// Whom a rule is about.
fn audience(field: &str, rule: &Rule, others: &Definitions) -> Result<()> {
    conditions(&format!("{field}.conditions"), &rule.conditions)?;
    at_most(&format!("{field}.segments"), rule.segments.len(), MAX_SEGMENTS_OF_RULE)?;
    for (place, segment) in rule.segments.iter().enumerate() {
        if others.segment(segment).is_none() {
            return Err(Error::invalid(format!("{field}.segments[{place}]"), "names no segment"));
        }
    }
    if rule.rollout.as_ref().is_some_and(|rollout| rollout.buckets > BUCKETS) {
        return Err(Error::invalid(format!("{field}.rollout.percentage"), "must be between 0 and 100"));
    }
    Ok(())
}

fn conditions(field: &str, conditions: &[Condition]) -> Result<()> {
    at_most(field, conditions.len(), MAX_CONDITIONS)?;
    for (index, condition) in conditions.iter().enumerate() {
        let field = format!("{field}[{index}]");
        condition.check(&field)?;
        if condition.values.iter().any(holds_nul) {
            return Err(Error::invalid(format!("{field}.values"), "must not hold the character U+0000"));
        }
    }
    Ok(())
}

fn prerequisites(flag: &Flag, others: &Definitions) -> Result<()> {
    at_most("prerequisites", flag.prerequisites.0.len(), MAX_PREREQUISITES)?;
    for (index, wanted) in flag.prerequisites.0.iter().enumerate() {
        let field = format!("prerequisites[{index}]");
        if wanted.flag == flag.key {
            return Err(Error::invalid(format!("{field}.flag"), "is the flag itself"));
        }
        let other = others.find(&wanted.flag);
        let other = other.ok_or_else(|| Error::invalid(format!("{field}.flag"), "names no flag"))?;
        value(&format!("{field}.value"), other.kind, &wanted.value)?;
    }
    // Those that stand on this flag get deeper with it.
    let (mut known, mut deepest) = (BTreeMap::new(), 0);
    for other in others.flags.iter().chain([flag]) {
        match depth(other, flag, others, &mut Vec::new(), &mut known) {
            None => return Err(Error::invalid("prerequisites", "go round in a circle")),
            Some(depth) => deepest = deepest.max(depth),
        }
    }
    if deepest > MAX_DEPTH {
        return Err(Error::invalid("prerequisites", format!("are {deepest} deep; at most {MAX_DEPTH} are kept")));
    }
    Ok(())
}

/// How many prerequisites are below `flag`, one under the other, with `changed` in the place of what is kept; `None` where
/// they go round in a circle.
fn depth<'a>(
    flag: &'a Flag,
    changed: &'a Flag,
    others: &'a Definitions,
    path: &mut Vec<&'a str>,
    known: &mut BTreeMap<&'a str, usize>,
) -> Option<usize> {
    let flag = if flag.key == changed.key { changed } else { flag };
    if let Some(depth) = known.get(flag.key.as_str()) {
        return Some(*depth);
    }
    if path.contains(&flag.key.as_str()) {
        return None;
    }
    path.push(&flag.key);
    let mut deepest = 0;
    for wanted in &flag.prerequisites.0 {
        let below = if wanted.flag == changed.key { Some(changed) } else { others.find(&wanted.flag) };
        if let Some(below) = below {
            deepest = deepest.max(1 + depth(below, changed, others, path, known)?);
        }
    }
    path.pop();
    known.insert(&flag.key, deepest);
    Some(deepest)
}

fn at_most(field: &str, count: usize, most: usize) -> Result<()> {
    if count > most { Err(Error::invalid(field, format!("are {count}; at most {most} are kept"))) } else { Ok(()) }
}
