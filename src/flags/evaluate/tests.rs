use std::collections::BTreeMap;

use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::flags::{
    bucket::BUCKETS,
    condition::{Condition, Operator},
    flag::{Approval, Kind, Lifecycle, PlanValues, Prerequisite, Prerequisites, Rules, Variants},
    segment::{Conditions, Segment},
    setting::Setting,
};

fn flag(key: &str) -> Flag {
    Flag {
        key: key.to_owned(),
        kind: Kind::String,
        default_value: json!("default"),
        off_value: None,
        description: String::new(),
        owner: String::new(),
        lifecycle: Lifecycle::Permanent,
        stale_after: None,
        feature: None,
        enabled: true,
        operator_only: true,
        approval: Approval::None,
        variants: Variants::default(),
        plan_values: PlanValues::default(),
        rules: Rules::default(),
        prerequisites: Prerequisites::default(),
        salt: String::new(),
        archived_at: None,
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    }
}

fn rule(key: &str, conditions: Vec<Condition>) -> Rule {
    Rule { key: key.to_owned(), segments: vec![], conditions, value: json!(format!("rule {key}")), rollout: None }
}

fn when(attribute: &str, operator: Operator, values: Value) -> Condition {
    let values = values.as_array().unwrap().clone();
    Condition { attribute: attribute.parse().unwrap(), operator, values }
}

fn rollout(buckets: u32, bucket_by: &str) -> Option<Rollout> {
    Some(Rollout { buckets, bucket_by: bucket_by.parse().unwrap() })
}

fn setting(flag: &str, value: Value) -> Setting {
    Setting {
        flag_key: flag.to_owned(),
        value: Some(value),
        starts_at: None,
        ends_at: None,
        reason: String::new(),
        set_by: "test".to_owned(),
        set_at: DateTime::UNIX_EPOCH,
        version: 1,
    }
}

/// The house of the tests: one tenant, and what is defined.
#[derive(Clone)]
struct House {
    id: String,
    features: Vec<String>,
    labels: BTreeMap<String, String>,
    context: Map<String, Value>,
    settings: Vec<Setting>,
    segments: Vec<Segment>,
    now: DateTime<Utc>,
}

impl House {
    fn new() -> Self {
        Self {
            id: "7b2c1a9e-1111-4222-8333-444455556666".to_owned(),
            features: vec!["webhooks".to_owned()],
            labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned()), ("seats".to_owned(), "40".to_owned())]),
            context: Map::new(),
            settings: Vec::new(),
            segments: Vec::new(),
            now: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            id: &self.id,
            slug: "acme",
            plan: "pro",
            region: "eu-central-1",
            isolation_tier: "STANDARD",
            status: "ACTIVE",
            labels: &self.labels,
            features: &self.features,
        }
    }

    /// Value, reason and source of the first flag.
    fn ask(&self, flags: &[Flag]) -> (Value, Reason, Source) {
        let definitions = Definitions::new(flags.to_vec(), self.segments.clone());
        let settings = Settings::new(self.settings.clone());
        let subject = Subject { facts: self.facts(), context: &self.context, now: self.now };
        let evaluator = Evaluator::new(&definitions, &settings, subject);
        let flag = definitions.find(&flags[0].key).unwrap();
        let verdict = evaluator.evaluate(flag);
        (evaluator.value(flag, verdict).clone(), verdict.reason, verdict.source)
    }

    fn holds(&self, condition: Condition) -> bool {
        condition.holds(&self.facts(), &self.context)
    }
}

#[test]
fn each_step_decides_before_the_next() {
    let mut house = House::new();
    let mut whole = Flag {
        enabled: false,
        off_value: Some(json!("off")),
        feature: Some("single_sign_on".to_owned()),
        prerequisites: Prerequisites(vec![Prerequisite { flag: "needed".to_owned(), value: json!("ready") }]),
        rules: Rules(vec![rule("all", vec![])]),
        plan_values: PlanValues(BTreeMap::from([("pro".to_owned(), json!("plan"))])),
        ..flag("whole")
    };
    house.settings = vec![setting("whole", json!("tenant"))];
    let ask = |house: &House, whole: &Flag| house.ask(&[whole.clone(), flag("needed")]);
    assert_eq!(ask(&house, &whole), (json!("off"), Reason::Disabled, Source::KillSwitch));
    whole.enabled = true;
    assert_eq!(ask(&house, &whole), (json!("default"), Reason::Default, Source::PlanCeiling));
    whole.feature = Some("webhooks".to_owned());
    assert_eq!(ask(&house, &whole), (json!("default"), Reason::Default, Source::Prerequisite(0)));
    whole.prerequisites.0[0].value = json!("default");
    assert_eq!(ask(&house, &whole), (json!("tenant"), Reason::TargetingMatch, Source::Tenant));
    house.settings.clear();
    let all = Source::Rule { rule: 0, segment: None };
    assert_eq!(ask(&house, &whole), (json!("rule all"), Reason::TargetingMatch, all));
    whole.rules.0[0].rollout = rollout(BUCKETS, "tenant.id");
    assert_eq!(ask(&house, &whole), (json!("rule all"), Reason::Split, all));
    whole.rules.0[0].rollout = rollout(0, "tenant.id");
    assert_eq!(ask(&house, &whole), (json!("plan"), Reason::TargetingMatch, Source::Plan));
    whole.plan_values.0.clear();
    assert_eq!(ask(&house, &whole), (json!("default"), Reason::Default, Source::Default));
    assert_eq!(house.ask(&[flag("plain")]), (json!("default"), Reason::Static, Source::Default));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let gold = |key| rule(key, vec![when("tenant.label.tier", Operator::Eq, json!(["gold"]))]);
    let iron = rule("iron", vec![when("tenant.label.tier", Operator::Eq, json!(["iron"]))]);
    let rules = Rules(vec![iron, gold("first"), gold("second"), rule("all", vec![])]);
    let (value, _, source) = House::new().ask(&[Flag { rules, ..flag("f") }]);
    assert_eq!((value, source), (json!("rule first"), Source::Rule { rule: 1, segment: None }));
}

#[test]
fn a_rule_wants_one_of_its_segments_and_all_of_its_conditions() {
    let mut house = House::new();
    let segment = |key: &str, conditions| Segment {
        key: key.to_owned(),
        description: String::new(),
        conditions: Conditions(conditions),
        version: 1,
        created_at: DateTime::UNIX_EPOCH,
        updated_at: DateTime::UNIX_EPOCH,
    };
    let (here, gone) = (json!(["eu-central-1"]), json!(["us-east-1"]));
    house.segments = vec![
        segment("there", vec![when("tenant.region", Operator::Eq, gone)]),
        segment(
            "here",
            vec![when("tenant.region", Operator::In, here), when("tenant.plan", Operator::Exists, json!([]))],
        ),
    ];
    let with = |segments: &[&str], conditions| {
        let segments = segments.iter().map(|key| (*key).to_owned()).collect();
        Flag { rules: Rules(vec![Rule { segments, ..rule("r", conditions) }]), ..flag("f") }
    };
    let yes = |operator| vec![when("tenant.slug", operator, json!(["acme"]))];
    let source = |flag| house.ask(&[flag]).2;
    assert_eq!(source(with(&["there", "here"], yes(Operator::Eq))), Source::Rule { rule: 0, segment: Some(1) });
    assert_eq!(source(with(&["there", "here"], yes(Operator::NotEq))), Source::Default);
    assert_eq!(source(with(&["there"], yes(Operator::Eq))), Source::Default);
    assert_eq!(source(with(&["nowhere"], vec![])), Source::Default);
}

#[test]
fn operators_compare_what_they_say() {
    use Operator::*;
    let mut house = House::new();
    let context = json!({ "age": 40, "app": "1.10.0", "pre": "2.0.0-rc.1+build", "mail": "a@acme.com", "groups": ["a", 7], "vip": true,
        "none": null, "user": { "country": "AT" }, "user.city": "Wien", "tenant.plan": "enterprise" });
    house.context = context.as_object().unwrap().clone();
    let cases = [
        ("tenant.plan", Eq, json!(["pro"]), true), // a context cannot say otherwise
        ("tenant.id", Eq, json!([house.id]), true),
        ("tenant.isolationTier", In, json!(["PREMIUM", "STANDARD"]), true),
        ("tenant.status", NotIn, json!(["ACTIVE"]), false),
        ("tenant.label.seats", Gt, json!([39.5]), true),
        ("tenant.label.tier", Gt, json!([1]), false),
        ("tenant.label.none", NotEq, json!(["x"]), true),
        ("age", Eq, json!([40.0]), true),
        ("age", Eq, json!(["40"]), false),
        ("age", Gte, json!([40]), true),
        ("age", Lt, json!([40]), false),
        ("age", Lte, json!([40]), true),
        ("vip", Eq, json!([true]), true),
        ("mail", EndsWith, json!(["@acme.com", "@acme.at"]), true),
        ("mail", StartsWith, json!(["b@"]), false),
        ("mail", Contains, json!(["@acme."]), true),
        ("groups", Contains, json!([7]), true),
        ("groups", Contains, json!(["b"]), false),
        ("user.country", Eq, json!(["AT"]), true),
        ("user.city", Eq, json!(["Wien"]), true),
        ("user.none", Exists, json!([]), false),
        ("none", Exists, json!([]), false),
        ("none", NotExists, json!([]), true),
        ("absent", Eq, json!(["x"]), false),
        ("absent", NotIn, json!(["x"]), true),
        ("absent", Lt, json!([1]), false),
        ("app", SemverGt, json!(["1.9.9"]), true),
        ("app", SemverLte, json!(["1.10.0"]), true),
        ("app", SemverLt, json!(["1.10.0"]), false),
        ("pre", SemverLt, json!(["2.0.0"]), true),
        ("pre", SemverEq, json!(["2.0.0-rc.1"]), true),
        ("mail", SemverGte, json!(["0.0.0"]), false),
    ];
    for (attribute, operator, values, expected) in cases {
        assert_eq!(
            house.holds(when(attribute, operator, values.clone())),
            expected,
            "{attribute} {operator:?} {values}"
        );
    }
}

#[test]
fn a_tenants_value_counts_from_its_beginning_to_before_its_end() {
    let mut house = House::new();
    let (start, end) = (house.now, house.now + TimeDelta::hours(1));
    house.settings = vec![Setting { starts_at: Some(start), ends_at: Some(end), ..setting("f", json!("tenant")) }];
    for (offset, expected) in [(-1, "default"), (0, "tenant"), (3_599, "tenant"), (3_600, "default")] {
        house.now = start + TimeDelta::seconds(offset);
        assert_eq!(house.ask(&[flag("f")]).0, json!(expected), "{offset} s");
    }
    let settings = Settings::new(house.settings);
    let turns = |at| settings.turns_before(at);
    assert_eq!([turns(start - TimeDelta::seconds(1)), turns(start), turns(end)], [0, 1, 2]);
}

#[test]
fn prerequisites_follow_what_the_other_flag_is_for_this_tenant() {
    let mut house = House::new();
    let needs = |key: &str, other: &str, value: &str| Flag {
        prerequisites: Prerequisites(vec![Prerequisite { flag: other.to_owned(), value: json!(value) }]),
        rules: Rules(vec![rule("on", vec![])]),
        ..flag(key)
    };
    let chain = [needs("a", "b", "rule on"), needs("b", "c", "ready"), flag("c")];
    assert_eq!(house.ask(&chain).2, Source::Prerequisite(0));
    house.settings = vec![setting("c", json!("ready"))];
    assert_eq!(house.ask(&chain).0, json!("rule on"));
    let off = Flag { enabled: false, ..flag("c") };
    assert_eq!(house.ask(&[chain[0].clone(), chain[1].clone(), off]).2, Source::Prerequisite(0));
    // The table would not have it; if it had, the answer is an error and not the end of the stack.
    let circle = [needs("a", "b", "rule on"), needs("b", "a", "rule on")];
    let (value, reason, _) = house.ask(&circle);
    assert_eq!((value, reason), (json!("default"), Reason::Default));
}

#[test]
fn who_has_no_unit_is_in_no_rollout() {
    let mut house = House::new();
    let by_user = Flag {
        rules: Rules(vec![Rule { rollout: rollout(BUCKETS, "targetingKey"), ..rule("users", vec![]) }]),
        ..flag("f")
    };
    assert_eq!(house.ask(std::slice::from_ref(&by_user)).2, Source::Default);
    for (unit, inside) in [(json!("u1"), true), (json!(7), true), (json!(""), false), (json!({}), false)] {
        house.context.insert("targetingKey".to_owned(), unit);
        assert_eq!(house.ask(std::slice::from_ref(&by_user)).1 == Reason::Split, inside);
    }
}

proptest! {
    /// Of a rollout that grows, nobody who is in goes out.
    #[test]
    fn nobody_changes_side_while_a_percentage_grows(unit in "[a-z0-9-]{1,40}", less in 0..=BUCKETS, more in 0..=BUCKETS) {
        let (less, more) = (less.min(more), less.max(more));
        let mut house = House::new();
        house.id = unit;
        let inside = |buckets| {
            let rules = Rules(vec![Rule { rollout: rollout(buckets, "tenant.id"), ..rule("r", vec![]) }]);
            house.ask(&[Flag { rules, ..flag("f") }]).1 == Reason::Split
        };
        prop_assert!(!inside(less) || inside(more));
        prop_assert!(!inside(0) && inside(BUCKETS));
    }

    /// Any list of rules: the answer is the first whose condition holds, whatever comes behind.
    #[test]
    fn order_is_all_that_counts(holds in proptest::collection::vec(any::<bool>(), 0..20)) {
        let rules = holds.iter().enumerate().map(|(index, holds)| {
            let operator = if *holds { Operator::Eq } else { Operator::NotEq };
            rule(&format!("r{index}"), vec![when("tenant.plan", operator, json!(["pro"]))])
        });
        let (_, _, source) = House::new().ask(&[Flag { rules: Rules(rules.collect()), ..flag("f") }]);
        let expected = holds.iter().position(|holds| *holds);
        prop_assert_eq!(source, expected.map_or(Source::Default, |rule| Source::Rule { rule, segment: None }));
    }
}
