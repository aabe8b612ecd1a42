//! Clients that leave in the middle of their request (HAZARDS.md, H2): a `begin` that is dropped half-way would leave its
//! connection inside a transaction, and the next borrower's write would be acknowledged and never committed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sea_orm::{ConnectionTrait as _, DbBackend, FromQueryResult, Statement};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    binary::Binary,
    support::{Client, TestApp},
};

const CLIENTS: usize = 50;
/// 10,000 in all.
const ABORTED: usize = 200;
/// After so many requests that it leaves, each client waits for the answer to one.
const PATIENT_AFTER: usize = 10;
const TENANTS: usize = 8;

#[derive(FromQueryResult)]
struct Count {
    count: i64,
}

/// An acknowledged write.
enum Written {
    Created(String),
    Renamed(String),
}

/// Different for each client and the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct Writer {
    client: usize,
    address: SocketAddr,
    patient: Client,
    tenants: Arc<Vec<String>>,
    random: Random,
}

impl Writer {
    /// A write that nobody else makes.
    fn write(&mut self, number: usize) -> (serde_json::Value, Written) {
        let name = format!("w{}-{number}", self.client);
        if self.random.below(4) == 0 {
            let query =
                "mutation($slug: String!) { createTenant(input: {slug: $slug, name: $slug}) { tenant { version } } }";
            (json!({ "query": query, "variables": { "slug": name } }), Written::Created(name))
        } else {
            let tenant = &self.tenants[usize::try_from(self.random.below(TENANTS as u64)).unwrap()];
            let query = "mutation($id: ID!, $name: String!) { updateTenant(input: {id: $id, name: $name}) { tenant { version } } }";
            (json!({ "query": query, "variables": { "id": tenant, "name": name } }), Written::Renamed(name))
        }
    }

    /// Sends a write and leaves within 5 ms, wherever the server is by then; the answer counts where it was there before.
    async fn abort(&mut self, number: usize) -> Option<Written> {
        let (body, written) = self.write(number);
        let (body, token) = (body.to_string(), self.patient.token().unwrap());
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: tenantry.test\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let leave = Instant::now() + Duration::from_micros(self.random.below(5_000));
        // One in eight leaves in the middle of its own words.
        let sent = if self.random.below(8) == 0 {
            usize::try_from(self.random.below(request.len() as u64)).unwrap()
        } else {
            request.len()
        };
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        if self.random.below(2) == 0 {
            stream.set_zero_linger().unwrap(); // a reset instead of a farewell
        }
        stream.write_all(&request.as_bytes()[..sent]).await.ok()?;
        let mut answer = [0; 2048];
        let read = tokio::select! {
            biased;
            read = stream.read(&mut answer) => read.ok()?,
            () = sleep_until(leave) => return None,
        };
        let answer = String::from_utf8_lossy(&answer[..read]);
        (answer.starts_with("HTTP/1.1 200") && answer.contains("\"version\"")).then_some(written)
    }

    /// Sends a write and waits for the answer.
    async fn wait(&mut self, number: usize) -> Option<Written> {
        let (body, written) = self.write(number);
        let answer = self.patient.send(self.patient.post("/graphql").json(&body)).await;
        let acknowledged = answer.status == 200 && answer.body["errors"].is_null();
        assert!(acknowledged || answer.code() == "unavailable", "{}", answer.text);
        acknowledged.then_some(written)
    }

    async fn run(mut self) -> Vec<Written> {
        let mut acknowledged = Vec::new();
        for number in 0..ABORTED {
            acknowledged.extend(self.abort(number).await);
            if number % PATIENT_AFTER == PATIENT_AFTER - 1 {
                acknowledged.extend(self.wait(ABORTED + number).await);
            }
        }
        acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_cost_nobody_an_acknowledged_write() {
    let app = TestApp::start().await;
    let mut tenants = Vec::new();
    for number in 0..TENANTS {
        tenants.push(app.tenant(&format!("tenant-{number}")).await.id.to_string());
    }
    let tenants = Arc::new(tenants);
    let server = Binary::on(&app.database).set("DATABASE__ACQUIRE_TIMEOUT", "20s").serve().await;
    let admin = server.with_token(app.operator_token(tenantry::access::Role::Admin).await);
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let random = Random(0x9e37_79b9_7f4a_7c15 ^ (client as u64 + 1));
        let (patient, tenants) = (admin.clone(), tenants.clone());
        clients.spawn(Writer { client, address: server.address, patient, tenants, random }.run());
    }
    let acknowledged: Vec<Written> = clients.join_all().await.into_iter().flatten().collect();
    println!("{} requests left, {} writes acknowledged, {:?}", CLIENTS * ABORTED, acknowledged.len(), began.elapsed());
    assert!(
        acknowledged.len() >= CLIENTS * ABORTED / PATIENT_AFTER / 2,
        "only {} writes were acknowledged",
        acknowledged.len()
    );

    let database = app.database.superuser().await;
    let count = async |sql: &str| {
        let row = database.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap().unwrap();
        Count::from_query_result(&row, "").unwrap().count
    };
    // Requests whose clients have left run to their end.
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    let quiet = timeout(Duration::from_secs(20), async {
        while count(&format!("{others} and state <> 'idle'")).await > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(quiet.await.is_ok(), "sessions do not come to rest");
    for _ in 0..20 {
        assert_eq!(
            count(&format!(
                "{others} and state like 'idle in transaction%' and state_change < now() - interval '200 milliseconds'"
            ))
            .await,
            0
        );
        sleep(Duration::from_millis(20)).await;
    }
    let (mut slugs, mut names) = (Vec::new(), Vec::new());
    for written in &acknowledged {
        match written {
            Written::Created(slug) => slugs.push(format!("'{slug}'")),
            Written::Renamed(name) => names.push(format!("'{name}'")),
        }
    }
    let made = count(&format!("select count(*) from tenantry.tenants where slug in ({})", slugs.join(","))).await;
    assert_eq!(usize::try_from(made).unwrap(), slugs.len(), "acknowledged tenants are missing");
    let renamed = count(&format!(
        "select count(*) from tenantry.journal where event = 'TenantUpdated' and after ->> 'name' in ({})",
        names.join(",")
    ))
    .await;
    assert_eq!(usize::try_from(renamed).unwrap(), names.len(), "acknowledged changes are missing");
    let torn = "select count(*) from tenantry.tenants t where version <> (select count(*) from tenantry.journal j where j.tenant_id = t.tenant_id)";
    assert_eq!(count(torn).await, 0, "changes without a record");
    for tenant in tenants.iter() {
        let report = admin
            .ok(
                "query($id: ID!) { verifyAudit(tenantId: $id) { valid entries problemCount } }",
                json!({ "id": tenant }),
            )
            .await;
        assert_eq!(report["verifyAudit"]["valid"], json!(true), "{report}");
    }
}
