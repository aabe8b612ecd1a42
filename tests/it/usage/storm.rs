//! Many clients on two servers, events that repeat and come out of order, while a server and PostgreSQL are killed: what was
//! acknowledged is counted once, and nothing is counted twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use tenantry::platform::{clock::Clock, db::embedded, random};
use tokio::{sync::RwLock, task::JoinSet, time::sleep};

use super::USAGE;
use crate::{binary::Binary, moves::soak, quota_storm::postmaster, support::Client};

const CLIENTS: u64 = 8;
const EVENTS: u64 = 50;

/// Batches of each client, and kills among all of them: two million events in the long form.
fn size() -> (u64, u64) {
    if soak() { (5_000, 30) } else { (60, 3) }
}

struct Storm {
    servers: [RwLock<Client>; 2],
    tenants: Vec<Value>,
    /// Noon of a day of which all events are near.
    noon: DateTime<Utc>,
    sent: AtomicUsize,
    lost: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// What one client knows of what it had counted: by tenant and day, how many events and how much.
type Account = BTreeMap<(usize, String), (i64, i64)>;

impl Storm {
    /// Sends until somebody says what became of each event.
    async fn send(&self, mut server: usize, body: &str) {
        for _ in 0..600 {
            let client = self.servers[server].read().await.clone();
            let request = client.post("/api/v1/usage/events").header("content-type", "application/x-ndjson");
            let answer = request.body(body.to_owned()).timeout(Duration::from_secs(10)).send().await;
            self.sent.fetch_add(1, Ordering::Relaxed);
            if let Ok(answer) = answer
                && answer.status() == 200
                && let Ok(answer) = answer.json::<Value>().await
            {
                assert_eq!(answer["refused"], 0, "{answer}");
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.lost.fetch_add(1, Ordering::Relaxed);
            server = 1 - server;
            sleep(Duration::from_millis(50)).await;
        }
        panic!("no server takes events any more");
    }

    async fn client(&self, number: u64) -> Account {
        let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut account, mut made) = (Account::new(), Vec::<String>::new());
        for _ in 0..size().0 {
            let mut lines = Vec::new();
            for _ in 0..EVENTS {
                // A fifth was sent before, in this request or an earlier one.
                if !made.is_empty() && next(5) == 0 {
                    lines.push(made[next(made.len() as u64) as usize].clone());
                    continue;
                }
                let (tenant, quantity) = (next(self.tenants.len() as u64) as usize, next(1000) as i64);
                let at = self.noon - TimeDelta::seconds(next(3 * 86_400) as i64);
                let line = json!({
                    "tenant_id": self.tenants[tenant], "dimension": "llm_tokens", "quantity": quantity,
                    "timestamp": at.to_rfc3339(), "idempotency_key": format!("{number}-{}", made.len()),
                });
                made.push(line.to_string());
                lines.push(line.to_string());
                let sum = account.entry((tenant, at.format("%Y-%m-%d").to_string())).or_default();
                *sum = (sum.0 + 1, sum.1 + quantity);
            }
            self.send(next(2) as usize, &lines.join("\n")).await;
        }
        account
    }

    async fn until(&self, batches: u64) {
        while (self.acknowledged.load(Ordering::Relaxed) as u64) < batches {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_no_acknowledged_event_and_count_none_twice() {
    let binary = Binary::private().set("WORKER__INTERVAL", "100ms");
    let first = binary.serve().await;
    let token = binary.run(&["token", "--role", "admin"]).await.ok().trim().to_owned();
    let url = embedded::url_of_running(&binary.path("data/postgres"), "tenantry", "tenantry_login").unwrap();
    let other = Binary::as_login(&url)
        .set("WORKER__INTERVAL", "100ms")
        .set("KEYS__MASTER_KEY_FILE", binary.path("data/master.key").display().to_string());
    let mut second = other.serve().await;
    let admin = first.with_token(&token);
    let make = "mutation($slug: String!) { createTenant(input: {slug: $slug, name: $slug}) { tenant { id } } }";
    let mut tenants = Vec::new();
    for slug in ["one", "two", "three"] {
        tenants.push(admin.ok(make, json!({ "slug": slug })).await["createTenant"]["tenant"]["id"].clone());
    }
    let noon = (Clock::default().now() - TimeDelta::days(1)).date_naive().and_hms_opt(12, 0, 0).unwrap().and_utc();
    let servers = [RwLock::new(first.with_token(&token)), RwLock::new(second.with_token(&token))];
    let counts = || AtomicUsize::new(0);
    let storm = Arc::new(Storm { servers, tenants, noon, sent: counts(), lost: counts(), acknowledged: counts() });
    let mut clients = JoinSet::new();
    for number in 1..=CLIENTS {
        let storm = storm.clone();
        clients.spawn(async move { storm.client(number).await });
    }
    let (batches, kills) = size();
    let part = CLIENTS * batches / (kills + 1);
    for number in 1..=kills {
        // Not always as far from the one before.
        storm.until(part * number - u64::from(random::bytes::<1>()[0]) * part / 512).await;
        if number % 2 == 0 {
            kill(postmaster(&first), Signal::SIGKILL).unwrap();
        } else {
            second.kill().await;
            second = other.serve().await;
            *storm.servers[1].write().await = second.with_token(&token);
        }
    }
    let mut expected = Account::new();
    while let Some(ended) = clients.join_next().await {
        for (of, (events, quantity)) in ended.unwrap() {
            let sum = expected.entry(of).or_default();
            *sum = (sum.0 + events, sum.1 + quantity);
        }
    }
    println!(
        "{} events, {} requests, {} of them without an answer, {kills} kills",
        CLIENTS * batches * EVENTS,
        storm.sent.load(Ordering::Relaxed),
        storm.lost.load(Ordering::Relaxed)
    );
    assert!(storm.lost.load(Ordering::Relaxed) > 0, "no kill was noticed");
    for server in [&first, &second] {
        let client = server.with_token(&token);
        let mut found = Account::new();
        for (place, tenant) in storm.tenants.iter().enumerate() {
            let variables = json!({ "tenantId": tenant, "dimension": "llm_tokens", "window": "DAY",
                "from": (noon - TimeDelta::days(4)).to_rfc3339(), "to": (noon + TimeDelta::days(1)).to_rfc3339() });
            for total in client.ok(USAGE, json!({ "input": variables })).await["usage"].as_array().unwrap() {
                let day = total["begin"].as_str().unwrap()[..10].to_owned();
                let quantity = total["quantity"].as_str().unwrap().parse().unwrap();
                found.insert((place, day), (total["events"].as_i64().unwrap(), quantity));
            }
        }
        assert_eq!(found, expected);
    }
}
