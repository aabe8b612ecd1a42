//! Services that read and write while their tenant is moved, and remember what was acknowledged.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use tenantry::platform::ids::TenantId;
use tokio::{sync::watch, task::JoinSet};

use super::scene::address;
use crate::{
    provisioning::clusters::{connect, texts},
    support::Client,
};

/// What one service knows.
#[derive(Debug, Default)]
struct Known {
    /// What each of its rows must be: none, where it was deleted.
    rows: BTreeMap<i64, Option<i64>>,
    /// A change that nobody answered: the row may be so as well.
    doubtful: BTreeMap<i64, Option<i64>>,
    acknowledged: u64,
    reads: u64,
    /// The longest time without an acknowledged write.
    pause: Duration,
}

pub(super) struct Clients {
    stop: watch::Sender<bool>,
    tasks: JoinSet<(usize, Known)>,
}

/// What all of them saw.
pub(super) struct Seen {
    pub(super) acknowledged: u64,
    pub(super) reads: u64,
    pub(super) pause: Duration,
}

impl Clients {
    /// Each writes and reads rows of its own in `written`, as fast as it can; where it is refused it asks where to go.
    pub(super) fn start(count: usize, admin: &Client, tenant: TenantId) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for client in 0..count {
            let (admin, stopped) = (admin.with_token(admin.token().unwrap()), stopped.clone());
            tasks.spawn(async move { (client, work(client, &admin, tenant, stopped).await) });
        }
        Self { stop, tasks }
    }

    /// Ends them, and looks at `db` for every write that was acknowledged.
    pub(super) async fn stop(self, db: &DatabaseConnection) -> Seen {
        self.stop.send_replace(true);
        let mut seen = Seen { acknowledged: 0, reads: 0, pause: Duration::ZERO };
        for (client, known) in self.tasks.join_all().await {
            let rows = texts(db, &format!("select n || ' ' || value from written where client = {client}")).await;
            let rows: BTreeMap<i64, i64> = rows
                .iter()
                .map(|row| row.split_once(' ').unwrap())
                .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
                .collect();
            for (n, wanted) in &known.rows {
                let there = rows.get(n).copied();
                let may_be = known.doubtful.get(n).is_some_and(|doubtful| *doubtful == there);
                assert!(
                    there == *wanted || may_be,
                    "client {client}, row {n}: {there:?} is there, {wanted:?} was acknowledged"
                );
            }
            let unknown: Vec<_> =
                rows.keys().filter(|n| !known.rows.contains_key(n) && !known.doubtful.contains_key(n)).collect();
            assert!(unknown.is_empty(), "client {client}: nobody wrote {unknown:?}");
            seen.acknowledged += known.acknowledged;
            seen.reads += known.reads;
            seen.pause = seen.pause.max(known.pause);
        }
        seen
    }
}

async fn work(client: usize, admin: &Client, tenant: TenantId, stopped: watch::Receiver<bool>) -> Known {
    let mut known = Known::default();
    let mut db = None;
    let mut last = Instant::now();
    let mut n = 0;
    while !*stopped.borrow() {
        let Some(open) = &db else {
            if let Some(address) = address(admin, tenant).await {
                db = connect(&address).await.ok();
            }
            if db.is_none() {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            continue;
        };
        n += 1;
        if step(open, client, n, &mut known).await.is_some() {
            if known.acknowledged > 1 {
                known.pause = known.pause.max(last.elapsed());
            }
            last = Instant::now();
        } else {
            db = None; // whatever it is: where to go is asked anew
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    known
}

/// Writes a row, changes or deletes one of before, and reads what it wrote; none as soon as something is refused.
async fn step(db: &DatabaseConnection, client: usize, n: i64, known: &mut Known) -> Option<()> {
    change(db, known, n, Some(n), &format!("insert into written values ({client}, {n}, {n})")).await?;
    let old = n - n % 7;
    if known.rows.get(&old).is_some_and(Option::is_some) && !known.doubtful.contains_key(&old) {
        match n % 4 {
            0 => {
                change(db, known, old, None, &format!("delete from written where (client, n) = ({client}, {old})"))
                    .await?
            }
            _ => {
                let set = format!("update written set value = {n} where (client, n) = ({client}, {old})");
                change(db, known, old, Some(n), &set).await?;
            }
        }
    }
    let read = sea_orm::Statement::from_string(
        sea_orm::DbBackend::Postgres,
        format!("select value from written where (client, n) = ({client}, {n})"),
    );
    let row = db.query_one_raw(read).await.ok()?;
    let value = row.map(|row| row.try_get_by_index::<i64>(0).unwrap());
    assert_eq!(value, known.rows[&n], "what was acknowledged is read");
    known.reads += 1;
    Some(())
}

async fn change(db: &DatabaseConnection, known: &mut Known, n: i64, to: Option<i64>, statement: &str) -> Option<()> {
    match db.execute_unprepared(statement).await {
        Ok(_) => {
            known.rows.insert(n, to);
            known.acknowledged += 1;
            Some(())
        }
        Err(_) => {
            known.doubtful.insert(n, to);
            None
        }
    }
}
