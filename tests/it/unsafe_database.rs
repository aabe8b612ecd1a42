//! The server does not start on a database that would not keep tenants apart: it says what is wrong, and what to do.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use sea_orm::ConnectionTrait as _;

use crate::{
    binary::Binary,
    support::{Database, database},
};

/// A debug build on a busy machine.
const SECONDS: Duration = Duration::from_secs(15);

/// One way to break a database.
struct Case {
    name: &'static str,
    /// Run as superuser in a database that was fine. `LOGIN` is a login role of this case alone: roles belong to the whole
    /// server, and other tests are running on it.
    sql: &'static str,
    /// What the error output must name: what is wrong, and what to do.
    named: &'static [&'static str],
}

/// A role as `migrate` makes it, with more than that. CREATEROLE where it has too much: the other databases of the server
/// leave such roles out, as administrators.
macro_rules! login {
    ($attributes:literal $(, $more:literal)*) => {
        concat!("create role LOGIN login noinherit ", $attributes, "; grant tenantry_tenant, tenantry_operator to LOGIN;" $(, $more)*)
    };
}

const CASES: &[Case] = &[
    Case {
        name: "a superuser logs in",
        sql: login!("superuser"),
        named: &["LOGIN: is a superuser", "alter role \"LOGIN\" nosuperuser;"],
    },
    Case {
        name: "the login passes by policies",
        sql: login!("bypassrls"),
        named: &["LOGIN: has BYPASSRLS", "alter role \"LOGIN\" nobypassrls;"],
    },
    Case {
        name: "the login owns a table",
        sql: login!("", "alter table tenantry.tenants owner to LOGIN;"),
        named: &["tenantry.tenants: belongs to LOGIN", "alter table tenantry.tenants owner to tenantry_owner;"],
    },
    Case {
        name: "the login can become the owner",
        sql: login!("createrole", "grant tenantry_owner to LOGIN;"),
        named: &["LOGIN: is a member of tenantry_owner", "revoke \"tenantry_owner\" from \"LOGIN\";"],
    },
    Case {
        name: "the login has grants of its own",
        sql: login!("", "grant select on tenantry.tenants to LOGIN;"),
        named: &["tenantry.tenants: LOGIN has SELECT", "revoke"],
    },
    Case {
        name: "the login has rights without a session",
        sql: "create role LOGIN login inherit createrole; grant tenantry_tenant, tenantry_operator to LOGIN;",
        named: &["LOGIN: has the rights of tenantry_tenant without a session", "alter role \"LOGIN\" noinherit;"],
    },
    Case {
        name: "row-level security is off",
        sql: "alter table tenantry.journal disable row level security",
        named: &[
            "tenantry.journal: has no row-level security",
            "alter table tenantry.journal enable row level security;",
        ],
    },
    Case {
        name: "row-level security is not forced",
        sql: "alter table tenantry.tenants no force row level security",
        named: &[
            "tenantry.tenants: does not force row-level security",
            "alter table tenantry.tenants force row level security;",
        ],
    },
    Case {
        name: "a policy lets more through",
        sql: "drop policy tenant_isolation on tenantry.tenants;
            create policy tenant_isolation on tenantry.tenants to tenantry_tenant
            using (tenant_id = current_setting('tenantry.tenant_id')::uuid or status = 'ACTIVE')
            with check (tenant_id = current_setting('tenantry.tenant_id')::uuid)",
        named: &["tenant_isolation", "ACTIVE", "policy"],
    },
    Case {
        name: "a policy is for everybody",
        sql: "create policy everybody on tenantry.tenants for select to public using (true)",
        named: &["everybody", "drop policy everybody on tenantry.tenants;"],
    },
    Case {
        name: "a table has no policy for tenants",
        sql: "drop policy tenant_isolation on tenantry.journal",
        named: &["tenantry.journal", "tenantry_tenant", "create policy"],
    },
    Case {
        name: "a grant passes by the policies",
        sql: "grant truncate on tenantry.tenants to tenantry_tenant",
        named: &["tenantry.tenants", "TRUNCATE", "revoke TRUNCATE on tenantry.tenants"],
    },
    Case {
        name: "the journal can be changed",
        sql: "grant update on tenantry.journal to tenantry_operator",
        named: &["tenantry.journal", "UPDATE", "revoke UPDATE on tenantry.journal"],
    },
    Case {
        name: "everybody has a grant",
        sql: "grant select on tenantry.tenants to public",
        named: &["tenantry.tenants", "PUBLIC has SELECT", "revoke"],
    },
    Case {
        name: "a guarding trigger is missing",
        sql: "drop trigger journal_append_only on tenantry.journal",
        named: &["tenantry.journal: nothing calls refuse_change before update or delete", "create trigger"],
    },
    Case {
        name: "a guarding trigger is off",
        sql: "alter table tenantry.tenants disable trigger tenants_guard",
        named: &["tenantry.tenants: nothing calls tenants_guard", "enable trigger tenants_guard;"],
    },
    Case {
        name: "a function runs as its owner",
        sql: "create function tenantry.peep() returns bigint language sql security definer set search_path = tenantry as 'select count(*) from tenants'",
        named: &["tenantry.peep()", "security invoker"],
    },
    Case {
        name: "a view reads as its owner",
        sql: "set role tenantry_owner; create view tenantry.all_tenants as select slug from tenantry.tenants; reset role",
        named: &[
            "tenantry.all_tenants: reads as its owner",
            "alter view tenantry.all_tenants set (security_invoker = true);",
        ],
    },
    Case {
        name: "a materialised view copies tenants",
        sql: "set role tenantry_owner; create materialized view tenantry.copies as select slug from tenantry.tenants; reset role",
        named: &["tenantry.copies", "drop materialized view tenantry.copies;"],
    },
    Case {
        name: "a new table was forgotten",
        sql: "set role tenantry_owner; create table tenantry.notes (tenant_id uuid, note text); reset role",
        named: &[
            "tenantry.notes: has no row-level security",
            "tenantry.notes: tenant_id may be null",
            "tenantry.notes: does not say what erasing",
        ],
    },
    Case { name: "there is no schema", sql: "drop schema tenantry cascade", named: &["tenantry migrate"] },
    Case {
        name: "the schema is an older one",
        sql: "comment on schema tenantry is 'schema=m20250101_000001_older'",
        named: &["tenantry migrate"],
    },
];

/// The error output of a server that was started on a database that is broken like this, and its login role.
async fn start(number: usize, case: &'static Case) -> (&'static Case, String) {
    let broken: Database = database().await;
    let own = case.sql.contains("LOGIN");
    let login = if own { format!("unsafe_login_{number}") } else { "tenantry_login".to_owned() };
    broken.superuser().await.execute_unprepared(&case.sql.replace("LOGIN", &login)).await.unwrap();
    let began = Instant::now();
    let finished = Binary::as_login(&broken.url_of(&login)).set("SERVER__LISTEN", "127.0.0.1:0").run(&["serve"]).await;
    assert!(began.elapsed() < SECONDS, "{}: took {:?}", case.name, began.elapsed());
    (case, finished.failed().replace(&login, "LOGIN"))
}

#[tokio::test]
async fn the_server_refuses_an_unsafe_database_and_names_the_remedy() {
    let refusals = stream::iter(CASES.iter().enumerate()).map(|(number, case)| start(number, case)).buffered(3);
    let refusals: Vec<_> = refusals.collect().await;
    assert!(refusals.len() >= 12);
    let mut missing = Vec::new();
    for (case, said) in &refusals {
        missing.extend(
            case.named
                .iter()
                .filter(|named| !said.contains(**named))
                .map(|named| format!("{}: not named: {named}\n{said}", case.name)),
        );
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[tokio::test]
async fn a_server_does_not_start_without_its_database() {
    let finished = Binary::as_login("postgres:///none?host=/nonexistent&user=nobody")
        .set("SERVER__LISTEN", "127.0.0.1:0")
        .run(&["serve"])
        .await;
    let said = finished.failed();
    assert!(said.contains("database.url: no session can be opened"), "{said}");
}
