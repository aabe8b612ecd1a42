use std::time::Duration;

use async_graphql::{EmptyMutation, EmptySubscription, Object, Request, Schema, SimpleObject, Variables};

use super::{Admission, Limits};

#[path = "../../../../tests/it/support/bombs.rs"]
mod bombs;

/// For one document in a debug build; release builds take a tenth.
const ALLOWED: Duration = Duration::from_millis(50);

#[derive(SimpleObject)]
struct Leaf {
    a: i32,
}

/// Time that this thread has been on a processor; other tests and builds do not count.
fn busy() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

struct Query;

#[Object]
impl Query {
    /// One "quoted" thing; \ included.
    async fn leaf(&self, #[graphql(default = 25)] first: i32, text: Option<String>) -> Leaf {
        Leaf { a: first + i32::from(text.is_some()) }
    }
}

/// Admission alone must be quick, and so must async-graphql with what is let through.
#[tokio::test]
async fn no_bomb_takes_long_to_refuse_or_to_run() {
    let schema = Schema::new(Query, EmptyMutation, EmptySubscription);
    let admission = Admission::new(&schema.sdl(), Limits::default());
    let bombs = bombs::bombs(7);
    assert!(bombs.len() >= 150);
    let mut worst = Vec::new();
    for (name, document) in &bombs {
        let (start, mut admitted) = (busy(), admission.admit(document, None, &Variables::default()));
        let mut admitting = busy() - start;
        // A loaded machine slows the processor itself down: what was slow may try again.
        for _ in 0..3 {
            if admitting > ALLOWED {
                admission.admitted.invalidate_all();
                let again = busy();
                admitted = admission.admit(document, None, &Variables::default());
                admitting = busy() - again;
            }
        }
        let running = busy();
        let verdict = match admitted {
            Ok(admitted) => {
                let mut request = Request::new(document);
                request.set_parsed_query(admitted.executable());
                let errors = schema.execute(request).await.errors.len();
                format!("admitted; {errors} errors")
            }
            Err(error) => error.to_string(),
        };
        assert!(verdict.len() < 200, "{name}: {verdict}");
        worst.push((admitting, busy() - running, name, verdict));
    }
    worst.sort_unstable_by(|a, b| b.cmp(a));
    #[expect(clippy::disallowed_methods, reason = "asks this test for its figures")]
    if std::env::var_os("BOMBS").is_some() {
        for (admitting, running, name, verdict) in &worst {
            println!("{:8.2} {:8.2} ms {name}: {verdict}", admitting.as_secs_f64() * 1e3, running.as_secs_f64() * 1e3);
        }
    }
    let (slowest, _, name, _) = &worst[0];
    assert!(*slowest <= ALLOWED, "{name}: {slowest:?}");
    let (_, longest, name, _) = worst.iter().max_by_key(|(_, running, _, _)| *running).unwrap();
    assert!(*longest <= ALLOWED, "{name}: {longest:?} to run");
}
