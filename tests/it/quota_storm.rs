//! Many clients of one tenant on two servers, while one of these and then PostgreSQL are killed: never is more admitted than
//! the limit, nothing that was promised is lost, nothing leaks, and who asks again gets the same answer. Half of the clients ask with
//! idempotency keys, so that the database decides each request; the other half without, so that servers promise out of leases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use tenantry::platform::db::embedded;
use tokio::{sync::RwLock, task::JoinSet, time::sleep};

use crate::{
    binary::{Binary, Server},
    support::Client,
};

const CLIENTS: u64 = 64;
const KEYED: Kind = Kind { quota: "max_instances", limit: 100, holds: 0, is_keyed: true };
const LEASED: Kind = Kind { quota: "max_cpu_cores", limit: 700, holds: 8, is_keyed: false };
const RESERVE: &str = "mutation($input: ReserveQuotaInput!) { reserveQuota(input: $input) { reservation { id } quotas { used reserved } } }";
const COMMIT: &str =
    "mutation($input: CommitReservationInput!) { commitReservation(input: $input) { reservation { state } } }";
const RELEASE: &str =
    "mutation($input: ReleaseReservationInput!) { releaseReservation(input: $input) { reservation { state } } }";
const STANDING: &str = "query($id: ID, $key: String!) { quotas(tenantId: $id, keys: [$key]) { used reserved } }";

/// What the clients know: never more than what the server has admitted, for it is counted down before something is given
/// back and counted up after it was granted.
#[derive(Default)]
struct Account {
    admitted: AtomicI64,
    most: AtomicI64,
    /// Units whose commit was acknowledged.
    committed: AtomicI64,
    /// Units whose commit had no answer: they may be used or not.
    unknown: AtomicI64,
    granted: AtomicUsize,
    refused: AtomicUsize,
    replayed: AtomicUsize,
    /// Granted from the memory of a server.
    leased: AtomicUsize,
    lost: AtomicUsize,
    over: AtomicBool,
}

/// What a client asks for, and how.
#[derive(Clone, Copy)]
struct Kind {
    quota: &'static str,
    limit: i64,
    /// How many reservations a client keeps before it gives one back.
    holds: usize,
    is_keyed: bool,
}

struct Storm {
    kind: Kind,
    tenant: Value,
    servers: Arc<[RwLock<Client>; 2]>,
    account: Account,
}

enum Sent {
    Done(Value),
    Refused(String),
    /// No answer, or one that says nothing of the outcome.
    Unknown,
}

impl Storm {
    async fn send(&self, server: usize, key: Option<&str>, query: &str, input: Value) -> Sent {
        let client = self.servers[server].read().await.clone();
        let mut request = client.post("/graphql").json(&json!({ "query": query, "variables": { "input": input } }));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let Ok(response) = request.timeout(Duration::from_secs(10)).send().await else { return Sent::Unknown };
        let Ok(answer) = response.json::<Value>().await else { return Sent::Unknown };
        match answer["errors"][0]["extensions"]["code"].as_str() {
            None => Sent::Done(answer["data"].clone()),
            Some("unavailable" | "internal") => Sent::Unknown,
            Some(code) => Sent::Refused(code.to_owned()),
        }
    }

    async fn client(&self, number: u64) {
        let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let (mut round, mut kept) = (0, Vec::new());
        while !self.account.over.load(Ordering::Relaxed) {
            round += 1;
            let (server, amount) = ((next(2)) as usize, (next(4) + 1) as i64);
            let key = format!("{number}-{round}");
            let lines = json!([{ "key": self.kind.quota, "amount": amount }]);
            let mut input = json!({ "tenantId": self.tenant, "lines": lines });
            if self.kind.is_keyed {
                input["expiresInSeconds"] = json!(30);
            }
            match self.reserve(server, &key, input, next(4) == 0).await {
                Some(id) => {
                    let admitted = self.account.admitted.fetch_add(amount, Ordering::SeqCst) + amount;
                    self.account.most.fetch_max(admitted, Ordering::SeqCst);
                    kept.push((id, amount));
                }
                None => sleep(Duration::from_millis(20)).await,
            }
            if kept.len() <= self.kind.holds {
                continue;
            }
            let (id, amount) = kept.swap_remove(next(kept.len() as u64) as usize);
            match next(30) {
                // Left to expire: it stays admitted until the end.
                0 => {}
                1 => self.commit((next(2)) as usize, &id, amount, (next(2)) as i64).await,
                _ => self.release((next(2)) as usize, &id, amount).await,
            }
        }
    }

    async fn release(&self, server: usize, id: &Value, amount: i64) {
        self.account.admitted.fetch_sub(amount, Ordering::SeqCst);
        let input = json!({ "tenantId": self.tenant, "reservationId": id });
        if let Sent::Refused(code) = self.send(server, None, RELEASE, input).await {
            panic!("a reservation that was granted cannot be released: {code}");
        }
    }

    async fn reserve(&self, server: usize, key: &str, input: Value, twice: bool) -> Option<Value> {
        let key = self.kind.is_keyed.then_some(key);
        let first = self.send(server, key, RESERVE, input.clone()).await;
        let answer = match first {
            Sent::Done(answer) => answer,
            Sent::Refused(code) => {
                assert_eq!(code, "quota_exceeded");
                self.account.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            // It may have been granted: asking again tells, where there is a key.
            Sent::Unknown => {
                self.account.lost.fetch_add(1, Ordering::Relaxed);
                key?;
                let Sent::Done(answer) = self.send(1 - server, key, RESERVE, input).await else { return None };
                self.account.granted.fetch_add(1, Ordering::Relaxed);
                return Some(answer["reserveQuota"]["reservation"]["id"].clone());
            }
        };
        self.account.granted.fetch_add(1, Ordering::Relaxed);
        let id = answer["reserveQuota"]["reservation"]["id"].clone();
        if id.as_str().unwrap().len() > 36 {
            self.account.leased.fetch_add(1, Ordering::Relaxed);
        }
        let reserved = answer["reserveQuota"]["quotas"][0].clone();
        let sum = reserved["used"].as_i64().unwrap() + reserved["reserved"].as_i64().unwrap();
        assert!(sum <= self.kind.limit, "{sum} are admitted: {answer}");
        if twice
            && key.is_some()
            && let Sent::Done(again) = self.send(1 - server, key, RESERVE, input).await
        {
            assert_eq!(again, answer, "a repeated request is answered differently");
            self.account.replayed.fetch_add(1, Ordering::Relaxed);
        }
        Some(id)
    }

    async fn commit(&self, server: usize, id: &Value, amount: i64, actual: i64) {
        self.account.admitted.fetch_sub(amount - actual, Ordering::SeqCst);
        let lines = json!([{ "key": self.kind.quota, "amount": actual }]);
        let input = json!({ "tenantId": self.tenant, "reservationId": id, "lines": lines });
        match self.send(server, None, COMMIT, input).await {
            Sent::Done(_) => _ = self.account.committed.fetch_add(actual, Ordering::SeqCst),
            Sent::Unknown => {
                self.account.unknown.fetch_add(actual, Ordering::SeqCst);
                self.account.admitted.fetch_sub(actual, Ordering::SeqCst);
            }
            Sent::Refused(code) => panic!("a reservation that was granted cannot be committed: {code}"),
        }
    }
}

/// The process that the log names last.
pub(crate) fn postmaster(server: &Server) -> nix::unistd::Pid {
    let log = server.log();
    let line = log.lines().rfind(|line| line.contains("private PostgreSQL is ready")).expect("it is logged");
    let line: Value = serde_json::from_str(line).unwrap();
    nix::unistd::Pid::from_raw(line["pid"].as_i64().unwrap().try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_many_clients_admit_nothing_beyond_the_limit_and_leak_nothing() {
    let binary = Binary::private().set("WORKER__INTERVAL", "200ms").set("QUOTAS__RESERVATION", "30s");
    let first = binary.serve().await;
    let token = binary.run(&["token", "--role", "admin"]).await.ok().trim().to_owned();
    let url = embedded::url_of_running(&binary.path("data/postgres"), "tenantry", "tenantry_login").unwrap();
    let other = Binary::as_login(&url)
        .set("WORKER__INTERVAL", "200ms")
        .set("QUOTAS__RESERVATION", "30s")
        .set("KEYS__MASTER_KEY_FILE", binary.path("data/master.key").display().to_string());
    let mut second = other.serve().await;
    let admin = first.with_token(&token);
    let make = "mutation { createTenant(input: {slug: \"acme\", name: \"Acme\"}) { tenant { id } } }";
    let tenant = admin.ok(make, json!({})).await["createTenant"]["tenant"]["id"].clone();
    let set = "mutation($id: ID!, $key: String!, $limit: Int!) { setQuota(input: {tenantId: $id, key: $key, limit: $limit, reason: \"storm\"}) { quota { limit } } }";
    let servers = Arc::new([RwLock::new(first.with_token(&token)), RwLock::new(second.with_token(&token))]);
    let mut storms = Vec::new();
    for kind in [KEYED, LEASED] {
        admin.ok(set, json!({ "id": tenant, "key": kind.quota, "limit": kind.limit })).await;
        let (tenant, servers) = (tenant.clone(), servers.clone());
        storms.push(Arc::new(Storm { kind, tenant, servers, account: Account::default() }));
    }
    let mut clients = JoinSet::new();
    for number in 1..=CLIENTS {
        let storm = storms[number as usize % storms.len()].clone();
        clients.spawn(async move { storm.client(number).await });
    }
    storm_on(&storms).await;
    second.kill().await;
    second = other.serve().await;
    *servers[1].write().await = second.with_token(&token);
    storm_on(&storms).await;
    kill(postmaster(&first), Signal::SIGKILL).unwrap();
    storm_on(&storms).await;
    storms.iter().for_each(|storm| storm.account.over.store(true, Ordering::Relaxed));
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    for storm in &storms {
        check(storm, &first, &second, &token).await;
    }
    assert!(storms[1].account.leased.load(Ordering::Relaxed) > 30, "nothing was promised out of leases");
}

/// Goes on for two seconds, and on a busy machine until each of the storms has been granted thirty more; for eight seconds at most,
/// for all must be over before the first reservation expires.
async fn storm_on(storms: &[Arc<Storm>]) {
    let granted = || storms.iter().map(|storm| storm.account.granted.load(Ordering::Relaxed)).collect::<Vec<_>>();
    let before = granted();
    for tick in 0..80 {
        sleep(Duration::from_millis(100)).await;
        if tick > 20 && granted().iter().zip(&before).all(|(now, before)| *now >= before + 30) {
            return;
        }
    }
}

async fn check(storm: &Storm, first: &Server, second: &Server, token: &str) {
    let account = &storm.account;
    let [most, committed, unknown] =
        [&account.most, &account.committed, &account.unknown].map(|count| count.load(Ordering::SeqCst));
    println!(
        "{}: {} granted ({} from leases), {} refused, {} repeated, {} without an answer; at most {most} of {} admitted",
        storm.kind.quota,
        account.granted.load(Ordering::Relaxed),
        account.leased.load(Ordering::Relaxed),
        account.refused.load(Ordering::Relaxed),
        account.replayed.load(Ordering::Relaxed),
        account.lost.load(Ordering::Relaxed),
        storm.kind.limit
    );
    let limit = storm.kind.limit;
    assert!(most <= limit && account.granted.load(Ordering::Relaxed) > 60);
    let standing = async |server: &Server| {
        server.with_token(token).ok(STANDING, json!({ "id": storm.tenant, "key": storm.kind.quota })).await["quotas"][0]
            .clone()
    };
    // The longest reservation lasts 30 seconds, and a lease as much longer as it is drawn from.
    for _ in 0..450 {
        if standing(first).await["reserved"] == 0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let found = standing(first).await;
    assert_eq!(found, standing(second).await);
    let used = found["used"].as_i64().unwrap();
    assert_eq!(found["reserved"], 0, "something leaks");
    assert!(
        used <= limit && (committed..=committed + unknown).contains(&used),
        "{used} used, {committed} committed, {unknown} unknown"
    );
}
