//! May a tenant do that, how much is left, and why: allow lists, grants, chains.

mod allow_lists;
mod bad_input;
mod explain;
mod grants;

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::{Client, Tenant, TestApp};

const ENTITLEMENT: &str = "query($input: EntitlementInput!) { entitlement(input: $input) { kind key allowed source
    planValue { access limit unlimited } overrideValue { access limit } effectiveValue { access limit unlimited }
    used reserved remaining requested grants { id amount burnt remaining grantedBy } version } }";
const GRANT: &str = "mutation($input: GrantEntitlementInput!) { grantEntitlement(input: $input) { grant { id amount burnt version } } }";
const REVOKE: &str = "mutation($input: RevokeGrantInput!) { revokeGrant(input: $input) { grant { endedAt version } } }";
const EXPLAIN: &str = "query($input: ExplainAccessInput!) { explainAccess(input: $input) { allowed version
    links { step text value decides origin at actor { kind name } entry { id sequence event } } } }";
const DEFINE: &str =
    "mutation($input: DefineResourceInput!) { defineResource(input: $input) { resource { key version retired } } }";
const OF_PLAN: &str = "mutation($input: SetPlanAllowListInput!) { setPlanAllowList(input: $input) { allowList { version resources everything } } }";
const OF_TENANT: &str =
    "mutation($input: SetAllowListInput!) { setAllowList(input: $input) { allowList { version added removed } } }";
const RESERVE: &str = "mutation($input: ReserveQuotaInput!) { reserveQuota(input: $input) { reservation { id } quotas { limit remaining } } }";
const RELEASE: &str =
    "mutation($input: ReleaseReservationInput!) { releaseReservation(input: $input) { reservation { state } } }";
const COMMIT: &str =
    "mutation($input: CommitReservationInput!) { commitReservation(input: $input) { reservation { state } } }";
const AUDIT: &str = "query($id: ID, $filter: AuditFilter) { audit(tenantId: $id, filter: $filter) { edges { node { id sequence event } } } }";
const SET_QUOTA: &str = "mutation($input: SetQuotaInput!) { setQuota(input: $input) { quota { limit } } }";

/// What the client's own tenant may do.
async fn entitlement(client: &Client, kind: &str, key: &str) -> Value {
    client.ok(ENTITLEMENT, json!({ "input": { "kind": kind, "key": key } })).await["entitlement"].clone()
}

/// Gives the tenant something; `more` are further members of the input.
async fn grant(admin: &Client, tenant: &Tenant, kind: &str, key: &str, more: Value) -> Value {
    let mut input = json!({ "tenantId": tenant.id, "kind": kind, "key": key, "reason": "trial" });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    admin.ok(GRANT, json!({ "input": input })).await["grantEntitlement"]["grant"].clone()
}

/// Uses so much of a quota, or answers the refusal's code.
async fn take(client: &Client, key: &str, amount: i64) -> Result<(), String> {
    let answer = client.graphql(RESERVE, json!({ "input": { "lines": [{ "key": key, "amount": amount }] } })).await;
    if answer.code() != "none" {
        return Err(answer.code().to_owned());
    }
    let id = &answer.data()["reserveQuota"]["reservation"]["id"];
    client.ok(COMMIT, json!({ "input": { "reservationId": id } })).await;
    Ok(())
}

/// The most of a quota that is let in at once, up to a thousand: found by trying, and given back.
async fn fits(client: &Client, key: &str) -> i64 {
    let (mut least, mut most) = (0, 1_000);
    while least < most {
        let middle = (least + most + 1) / 2;
        let input = json!({ "input": { "lines": [{ "key": key, "amount": middle }] } });
        let answer = client.graphql(RESERVE, input).await;
        match answer.code() {
            "none" => {
                let id = &answer.data()["reserveQuota"]["reservation"]["id"];
                client.ok(RELEASE, json!({ "input": { "reservationId": id } })).await;
                least = middle;
            }
            "quota_exceeded" => most = middle - 1,
            other => panic!("{other}: {}", answer.text),
        }
    }
    least
}

fn later(app: &TestApp, by: TimeDelta) -> Value {
    json!(app.app.clock.now() + by)
}

/// `(amount, burnt)` of the grants that count.
fn burnt(entitlement: &Value) -> Vec<(i64, i64)> {
    let number = |grant: &Value, member: &str| grant[member].as_i64().unwrap();
    let grants = entitlement["grants"].as_array().unwrap().iter();
    grants.map(|grant| (number(grant, "amount"), number(grant, "burnt"))).collect()
}
