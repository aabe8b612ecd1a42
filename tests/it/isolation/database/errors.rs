//! PostgreSQL's own words never leave: its details show the keys of rows.

use serde_json::json;
use tenantry::edge::admission::catalogue::Argument;

use crate::{
    isolation::{
        neighbours::Neighbours,
        operation::{Schema, Verb, anything},
    },
    support::Answer,
};

/// What PostgreSQL, sqlx and SeaORM say, and names that only the database has.
const WORDS: [&str; 22] = [
    "duplicate key",
    "violates",
    "constraint",
    "DETAIL",
    "Key (",
    "relation \"",
    "column \"",
    "syntax error at",
    "invalid byte sequence",
    "SQLSTATE",
    "sqlx",
    "sea_orm",
    "DbErr",
    "RuntimeErr",
    "Execution Error",
    "Query Error",
    "_key\"",
    "_pkey",
    "_check\"",
    "tenantry.tenants",
    "tenantry_tenant",
    "search_text",
];

fn nothing_of_postgresql_in(answer: &Answer, what: &str) {
    let errors = answer.body["errors"].as_array().into_iter().flatten();
    let errors: String = errors
        .map(|error| format!("{} {} ", error["message"].as_str().unwrap_or_default(), error["extensions"]))
        .collect();
    for word in WORDS {
        assert!(!errors.contains(word), "{what}: the answer speaks PostgreSQL ({word:?}): {errors}");
    }
}

#[tokio::test]
async fn a_broken_constraint_is_told_in_our_own_words() {
    let neighbours = Neighbours::start().await;
    let create = "mutation($input: CreateTenantInput!) { createTenant(input: $input) { tenant { id } } }";
    let update = "mutation($input: UpdateTenantInput!) { updateTenant(input: $input) { tenant { id } } }";
    let plan = "mutation($input: CreatePlanInput!) { createPlan(input: $input) { plan { key } } }";
    let (a, b) = (&neighbours.a, &neighbours.b);
    let response = json!({ "critical": "1h", "high": "1h", "normal": "1h" });
    let sla = json!({ "uptime": "99.5", "supportHours": "8x5", "supportResponse": response });
    for (query, input, field) in [
        (create, json!({ "slug": a.slug, "name": "x" }), "slug"),
        (create, json!({ "slug": "another", "name": "x", "externalId": "annexed-text-2" }), "externalId"),
        (update, json!({ "id": b.id, "slug": a.slug }), "slug"),
        (update, json!({ "id": b.id, "externalId": "annexed-text-2" }), "externalId"),
        (plan, json!({ "key": "starter", "name": "x", "isolationTier": "STANDARD", "sla": sla }), "key"),
    ] {
        let answer = neighbours.admin.graphql(query, json!({ "input": input })).await;
        nothing_of_postgresql_in(&answer, query);
        assert_eq!(answer.code(), "conflict", "{}", answer.text);
        assert_eq!(answer.body["errors"][0]["extensions"]["field"], json!(field), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_text_in_any_argument_makes_the_database_speak() {
    let (neighbours, schema) = (Neighbours::start().await, Schema::published());
    let texts = [
        "\0",
        "'; select 1 --",
        "\u{feff}\u{202e}",
        "\\",
        &"x".repeat(20_000),
        "%",
        "{}",
        "eyJzIjotMX0",
        "eyJjIjpbOTIyMzM3MjAzNjg1NDc3NTgwNywiMDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwIl19",
    ];
    let (mut count, mut internal) = (0, Vec::new());
    for client in [&neighbours.admin, &neighbours.service] {
        let own = neighbours.b.id;
        let choose = |place: &str, argument: &Argument| {
            if &*argument.named == "ID" { json!(own) } else { anything(place, argument) }
        };
        for route in schema.routes().into_iter().filter(|route| route.verb != Verb::Subscription) {
            // The end of B would be the end of the test.
            if ["deleteTenant", "archiveTenant", "rotateSigningKey"].contains(&&*schema.end(&route).name) {
                continue;
            }
            for position in schema.positions(schema.end(&route)) {
                for text in texts {
                    let operation = schema.operation(&route, &choose, Some((&position, text)), 0);
                    let answer = client.graphql(&operation.query, operation.variables).await;
                    let what = format!(
                        "{} at `{position}` of {:?}",
                        schema.name(&route),
                        text.chars().take(12).collect::<String>()
                    );
                    nothing_of_postgresql_in(&answer, &what);
                    if ["internal", "unavailable"].contains(&answer.code()) {
                        internal.push(what);
                    }
                    count += 1;
                }
            }
        }
    }
    println!("texts: {count}");
    assert!(internal.is_empty(), "texts that only the database refuses: {internal:#?}");
    assert!(count >= 1_000, "{count}");
}
