//! The command line, as a person and as a script use it.

use serde_json::json;

use crate::{
    binary::Binary,
    support::{Database, database},
};

const RETAILER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/files/acme-retail.yaml");
const POLICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/files/northshire-police.yaml");

async fn fresh() -> (Database, Binary) {
    let database = database().await;
    let binary = Binary::on(&database);
    (database, binary)
}

#[tokio::test]
async fn a_token_is_one_line_and_works() {
    let (_database, binary) = fresh().await;
    let server = binary.serve().await;
    let printed = binary.run(&["token", "--role", "admin"]).await;
    assert_eq!(printed.stderr, "");
    let token = printed.ok();
    assert_eq!((token.lines().count(), token.matches('.').count()), (1, 2), "{token}");
    let admin = server.with_token(token.trim());
    assert_eq!(
        admin.ok("{ viewer { roles tenantId } }", json!({})).await["viewer"],
        json!({ "roles": ["admin"], "tenantId": null })
    );

    admin.ok("mutation { createTenant(input: {slug: \"acme\", name: \"Acme\"}) { tenant { id } } }", json!({})).await;
    let own = "{ tenant { slug } viewer { kind scopes } }";
    admin.ok("mutation { createTenant(input: {slug: \"other\", name: \"Other\"}) { tenant { id } } }", json!({})).await;
    let printed = binary.run(&["token", "--tenant", "acme", "--scope", "auth:tenant:read", "--ttl", "5m"]).await.ok();
    let service = server.with_token(printed.trim());
    let seen = service.ok(own, json!({})).await;
    assert_eq!(
        seen,
        json!({ "tenant": { "slug": "acme" }, "viewer": { "kind": "SERVICE", "scopes": ["auth:tenant:read"] } })
    );
    assert_eq!(
        service
            .refused("mutation { createTenant(input: {slug: \"third\", name: \"T\"}) { tenant { id } } }", json!({}))
            .await,
        "forbidden"
    );
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused() {
    let (_database, binary) = fresh().await;
    for (arguments, named) in [
        (&["token", "--role", "king"][..], &["--role", "king is none of admin, support, billing, auditor"][..]),
        (&["token", "--tenant", "nobody", "--scope", "auth:tenant:read"], &["there is no tenant with the slug nobody"]),
        (&["token", "--role", "admin", "--ttl", "2days"], &["ttl: must be between 1s and", "auth.max_token_ttl"]),
    ] {
        let said = binary.run(arguments).await.failed();
        assert!(named.iter().all(|named| said.contains(named)), "{arguments:?}: {said}");
    }
    for arguments in [
        &["token"][..],
        &["token", "--tenant", "acme"],
        &["token", "--role", "admin", "--tenant", "acme"],
        &["token", "--role", "admin", "--ttl", "soon"],
        &["tokens"],
    ] {
        let finished = binary.run(arguments).await;
        assert_eq!(
            (finished.status.code(), finished.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert!(finished.stderr.contains("Usage") || finished.stderr.contains("--help"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn a_tenant_file_is_applied_once_and_exported_as_it_is() {
    let (_database, binary) = fresh().await;
    let shown = binary.run(&["apply", "--dry-run", "-f", RETAILER, "-f", POLICE]).await.ok();
    assert_eq!(shown.matches("a new tenant").count(), 2, "{shown}");
    assert!(binary.run(&["export", "northshire"]).await.failed().contains("there is no tenant"));
    let applied = binary.run(&["apply", "-f", RETAILER, "-f", POLICE]).await.ok();
    assert_eq!(applied.matches("(version 1)").count(), 2, "{applied}");
    let again = binary.run(&["apply", "-f", RETAILER, "-f", POLICE]).await.ok();
    assert_eq!((again.matches("nothing differs").count(), again.matches("(version 1)").count()), (2, 2), "{again}");

    for (slug, format) in
        [("northshire", "yaml"), ("northshire", "toml"), ("tenant-100", "yaml"), ("tenant-100", "toml")]
    {
        let exported = binary.run(&["export", slug, "--format", format]).await.ok();
        let file = binary.file(&format!("{slug}.{format}"), &exported);
        let same = binary.run(&["--json", "apply", "-f", &file]).await.json();
        assert_eq!((&same[0]["created"], &same[0]["differences"]), (&json!(false), &json!([])), "{exported}");
    }

    let police = std::fs::read_to_string(POLICE).unwrap();
    let changed = binary.file(
        "changed.yaml",
        &police.replace("Service desk", "Help desk").replace("max_users: 4500", "max_users: 5000"),
    );
    let seen = binary.run(&["apply", "-f", &changed]).await.ok();
    assert!(
        seen.contains("~ quotas.max_users: 4500 -> 5000") && seen.contains("Help desk") && seen.contains("(version 2)"),
        "{seen}"
    );
    let exported = binary.run(&["--json", "export", "northshire"]).await.json();
    assert!(exported["document"].as_str().unwrap().contains("Help desk"), "{exported}");
    let checked = binary.run(&["--json", "verify-audit", "northshire"]).await.json();
    assert_eq!((&checked["valid"], &checked["entries"]), (&json!(true), &json!(2)));
}

#[tokio::test]
async fn a_bad_tenant_file_names_file_field_and_rule_and_changes_nothing() {
    let (_database, binary) = fresh().await;
    let deep = format!("tenant:\n  slug: deep\n  settings: {}{}\n", "[".repeat(3_000), "]".repeat(3_000));
    let laughs: String = (1..12).map(|n| format!("  l{n}: &l{n} [{}]\n", format!("*l{}, ", n - 1).repeat(9))).collect();
    let laughs = format!("tenant:\n  slug: laughs\n  settings:\n    l0: &l0 [ha]\n{}", laughs.replace("  l", "    l"));
    for (name, content, named) in [
        ("unknown.yaml", "tenant:\n  slug: fine\n  colour: red\n", "tenant.colour: unknown field `colour`"),
        ("nested.yaml", "tenant:\n  slug: fine\n  sla: { uptimes: 99 }\n", "tenant.sla.uptimes: unknown field"),
        ("type.yaml", "tenant:\n  slug: fine\n  labels: [a]\n", "tenant.labels: invalid type"),
        (
            "tier.toml",
            "[tenant]\nslug = \"fine\"\ntier = \"gold\"\n",
            "tenant.tier: unknown variant `gold`, expected one of",
        ),
        ("slug.yaml", "tenant:\n  slug: Not_Fine\n", "tenant.slug: must not have capital letters"),
        ("plan.yaml", "tenant:\n  slug: fine\n  plan: platinum\n", "tenant.plan: "),
        ("unnamed.yaml", "tenant:\n  name: nobody\n", "tenant.id: is needed to find the tenant again"),
        ("broken.yaml", "tenant: [\n", "document: is no YAML"),
        ("broken.toml", "[tenant\n", "document: is no TOML"),
        ("deep.yaml", &deep, "document: is no YAML"),
        ("laughs.yaml", &laughs, "document: is no YAML"),
        ("long.yaml", &format!("tenant:\n  slug: long\n  name: {}\n", "x".repeat(300_000)), "document: has 300"),
    ] {
        let file = binary.file(name, content);
        let said = binary.run(&["apply", "-f", &file]).await.failed();
        assert!(said.contains(name) && said.contains(named), "{name}: {said}");
        assert!(said.len() < 2_000, "{name}: {} bytes", said.len());
    }
    assert!(binary.run(&["apply", "-f", "missing.yaml"]).await.failed().contains("missing.yaml: cannot be read"));
    let platform = binary.run(&["--json", "verify-audit"]).await.json();
    assert_eq!(platform["valid"], json!(true));
    for slug in ["fine", "deep", "laughs", "long"] {
        assert!(binary.run(&["export", slug]).await.failed().contains("there is no tenant"));
    }
}

#[tokio::test]
async fn keys_are_listed_and_rotated() {
    let (_database, binary) = fresh().await;
    let server = binary.serve().await;
    let old = server.admin().await;
    let before = binary.run(&["--json", "key", "list"]).await.json();
    assert_eq!(before["keys"].as_array().unwrap().len(), 1);
    assert!(!before.to_string().contains("\"d\""), "a private key is shown");
    let rotated = binary.run(&["--json", "key", "rotate"]).await.json();
    let after = binary.run(&["key", "list"]).await.json();
    let kids: Vec<_> = after["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
    assert!(kids.len() == 2 && kids.contains(&rotated["kid"]) && kids.contains(&before["keys"][0]["kid"]), "{kids:?}");
    // Tokens of both keys are good, on a server that runs all the while.
    old.ok("{ viewer { subject } }", json!({})).await;
    server.admin().await.ok("{ viewer { subject } }", json!({})).await;
    binary.run(&["key", "rotate", "--revoke-previous"]).await.ok();
    assert_eq!(binary.run(&["key", "list"]).await.json()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_doctor_says_what_is_wrong() {
    let (database, binary) = fresh().await;
    let healthy = binary.run(&["doctor"]).await.ok();
    assert!(
        !healthy.contains("FAIL")
            && healthy.contains("ok   roles and policies")
            && healthy.contains("ok   signing key"),
        "{healthy}"
    );
    let checks = binary.run(&["--json", "doctor"]).await.json();
    assert!(checks.as_array().unwrap().iter().all(|check| check["ok"] == json!(true)), "{checks}");
    let superuser = database.superuser().await;
    sea_orm::ConnectionTrait::execute_unprepared(
        &superuser,
        "alter table tenantry.tenants no force row level security",
    )
    .await
    .unwrap();
    let ill = binary.run(&["doctor"]).await;
    assert_eq!(ill.status.code(), Some(1));
    assert!(
        ill.stdout.contains("FAIL roles and policies")
            && ill.stdout.contains("alter table tenantry.tenants force row level security;"),
        "{}",
        ill.stdout
    );
    let unreachable =
        Binary::as_login("postgres:///none?host=/nonexistent&user=nobody").run(&["--json", "doctor"]).await;
    assert_eq!(unreachable.status.code(), Some(1));
    let checks: serde_json::Value = serde_json::from_str(&unreachable.stdout).unwrap();
    assert!(checks.as_array().unwrap().iter().any(|check| check["ok"] == json!(false)), "{checks}");
}

#[tokio::test]
async fn help_schema_and_settings_need_no_database() {
    let binary = Binary::as_login("postgres:///none?host=/nonexistent&user=nobody");
    let schema = binary.run(&["schema"]).await.ok();
    assert!(schema.contains("type Mutation {") && schema.contains("createTenant("), "{schema}");
    let settings = binary.run(&["config"]).await.ok();
    assert_eq!(settings.trim(), tenantry::config::DEFAULTS.trim());
    for (arguments, named) in [
        (&["--help"][..], &["verify-audit", "apply", "--config"][..]),
        (&["apply", "--help"], &["Example: tenantry apply -f acme.yaml --dry-run"]),
        (&["token", "--help"], &["Examples:", "tenantry token --role admin", "--scope"]),
    ] {
        let help = binary.run(arguments).await.ok();
        assert!(named.iter().all(|named| help.contains(named)), "{arguments:?}: {help}");
    }
    let failed = binary.run(&["--json", "export", "acme"]).await.failed();
    let error: serde_json::Value = serde_json::from_str(failed.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&error["error"]["extensions"]["code"], &error["error"]["extensions"]["retryable"]),
        (&json!("unavailable"), &json!(true)),
        "{failed}"
    );
}

#[tokio::test]
async fn a_running_server_is_found_healthy() {
    let (_database, binary) = fresh().await;
    let server = binary.serve().await;
    let here = binary.clone().set("SERVER__LISTEN", server.address.to_string());
    here.run(&["healthcheck"]).await.ok();
    let second = here.run(&["serve"]).await.failed();
    assert!(second.contains("server.listen") && second.contains("is another server running there?"), "{second}");
    assert!(server.stop().await.success());
    here.run(&["healthcheck"]).await.failed();
}
