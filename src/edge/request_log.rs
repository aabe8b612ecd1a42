//! What analytics learn of each request that is answered: one layer around all of them. What those further in find out (whose token
//! it is, which operation, what went wrong), they note where the request's own task finds it; nothing is allocated for it. What operators do
//! inside a tenant is logged here.

use std::{cell::RefCell, sync::Arc, time::Instant};

use axum::{extract::MatchedPath, http::StatusCode, response::Response};

use crate::{
    access::Caller,
    analytics::{Analytics, Finished, OK, OTHER, Requests},
    error::Kind,
    platform::clock::Clock,
};

#[derive(Default)]
struct Notes {
    caller: Option<Arc<Caller>>,
    operation: Option<Arc<str>>,
    failed: Option<Kind>,
    is_later: bool,
}

tokio::task_local! {
    static NOTES: RefCell<Notes>;
}

/// Of work that belongs to no request, nothing is kept.
fn note(change: impl FnOnce(&mut Notes)) {
    let _ = NOTES.try_with(|notes| change(&mut notes.borrow_mut()));
}

/// Whose token it is, as soon as it is verified.
pub(super) fn note_caller(caller: &Arc<Caller>) {
    if let Some((operator, _)) = caller.impersonator() {
        tracing::Span::current().record("act", operator);
    }
    note(|notes| notes.caller = Some(caller.clone()));
}

/// Which operation it is, by names of the schema's and nothing of the caller's own.
pub(super) fn note_operation(operation: &Arc<str>) {
    note(|notes| notes.operation = Some(operation.clone()));
}

/// What went wrong; the first of it counts.
pub(super) fn note_error(kind: Kind) {
    note(|notes| notes.failed = notes.failed.or(Some(kind)));
}

/// That it is not done with this: what follows is counted by itself.
pub(super) fn note_later() {
    note(|notes| notes.is_later = true);
}

/// One request on its way. Where it ends in a panic, it has failed; where nobody wants an answer any more, as on a socket, there was none.
struct Following<'a> {
    requests: &'a Requests,
    clock: &'a Clock,
    path: &'a str,
    began: Instant,
    /// What is found out by looking at the answer alone; none while there is no answer.
    answered: Option<Option<Kind>>,
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        let _ = NOTES.try_with(|notes| {
            let notes = notes.take();
            let Some((caller, tenant)) = notes.caller.as_deref().and_then(|caller| Some((caller, caller.tenant()?)))
            else {
                return;
            };
            let failed = match self.answered {
                _ if notes.is_later => return,
                Some(found) => notes.failed.or(found),
                None if std::thread::panicking() => Some(Kind::Internal),
                None => return,
            };
            let operation = notes.operation.as_deref().unwrap_or(self.path);
            let outcome = failed.map_or(OK, Kind::code);
            // What is changed is in the tenant's journal. What is only looked at by an operator is found here.
            if let Some((act, impersonation)) = caller.impersonator() {
                tracing::info!(act, %impersonation, %tenant, operation, outcome, "an operator acted inside a tenant");
            }
            self.requests.count(&Finished {
                tenant,
                operation,
                outcome,
                took: self.began.elapsed(),
                subject: &caller.subject,
                at: self.clock.now(),
            });
        });
    }
}

/// Answers a request, and counts it where it turns out to be of a tenant's service.
pub(super) async fn followed(
    analytics: &Analytics,
    path: Option<MatchedPath>,
    answering: impl Future<Output = Response>,
) -> Response {
    let path = path.as_ref().map_or(OTHER, MatchedPath::as_str);
    NOTES.scope(RefCell::default(), following(analytics.requests(), analytics.clock(), path, answering, failure)).await
}

/// The same for an operation on a socket, whose caller is known.
pub(super) async fn followed_on_socket<T>(
    analytics: &Analytics,
    caller: &Arc<Caller>,
    answering: impl Future<Output = T>,
    failure: impl FnOnce(&T) -> Option<Kind>,
) -> T {
    let notes = Notes { caller: Some(caller.clone()), ..Notes::default() };
    NOTES
        .scope(RefCell::new(notes), following(analytics.requests(), analytics.clock(), "/graphql", answering, failure))
        .await
}

async fn following<T>(
    requests: &Requests,
    clock: &Clock,
    path: &str,
    answering: impl Future<Output = T>,
    failure: impl FnOnce(&T) -> Option<Kind>,
) -> T {
    let mut following = Following { requests, clock, path, began: Instant::now(), answered: None };
    let answer = answering.await;
    following.answered = Some(failure(&answer));
    answer
}

/// The kind of error that an answer has with it, or that its status stands for.
fn failure(response: &Response) -> Option<Kind> {
    if let Some(kind) = response.extensions().get::<Kind>() {
        return Some(*kind);
    }
    match response.status() {
        StatusCode::UNAUTHORIZED => Some(Kind::Unauthenticated),
        StatusCode::FORBIDDEN => Some(Kind::Forbidden),
        StatusCode::NOT_FOUND => Some(Kind::NotFound),
        StatusCode::CONFLICT => Some(Kind::Conflict),
        StatusCode::TOO_MANY_REQUESTS => Some(Kind::RateLimited),
        StatusCode::SERVICE_UNAVAILABLE => Some(Kind::Unavailable),
        status if status.is_server_error() => Some(Kind::Internal),
        status if status.is_client_error() => Some(Kind::InvalidInput),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::response::IntoResponse as _;
    use tokio::sync::oneshot;

    use super::{super::to_its_end::ToItsEnd, *};
    use crate::{
        access::{Binding, Origin, ScopeSet},
        platform::ids::{ImpersonationId, TenantId},
    };

    fn caller() -> Arc<Caller> {
        let binding = Binding::Tenant { id: TenantId::generate(), epoch: None, issued_at: 0 };
        Arc::new(Caller { subject: "one".to_owned(), binding, scopes: ScopeSet::default(), origin: Origin::default() })
    }

    fn counted(
        requests: Arc<Requests>,
        answering: impl Future<Output = Response> + Send + 'static,
    ) -> ToItsEnd<Response> {
        let clock = Clock::default();
        ToItsEnd::new(async move {
            NOTES.scope(RefCell::default(), following(&requests, &clock, "/path", answering, failure)).await
        })
    }

    fn told(requests: &Requests) -> Vec<(String, &'static str, u64)> {
        let rows = requests.take().rows;
        rows.into_iter()
            .map(|((.., operation, outcome), latencies)| (operation.into(), outcome, latencies.count()))
            .collect()
    }

    #[tokio::test]
    async fn a_request_that_ends_in_a_panic_has_failed_and_a_stranger_is_not_counted() {
        let requests = Arc::new(Requests::default());
        let panicking = async {
            note_caller(&caller());
            note_operation(&"query tenant".into());
            panic!("no answer")
        };
        assert!(counted(requests.clone(), panicking).await.is_err());
        assert_eq!(told(&requests), [("query tenant".to_owned(), "internal", 1)]);
        counted(requests.clone(), async { StatusCode::OK.into_response() }).await.unwrap();
        assert_eq!(told(&requests), []);
    }

    #[tokio::test]
    async fn a_request_whose_client_has_left_is_counted_with_the_first_thing_that_went_wrong() {
        let requests = Arc::new(Requests::default());
        let (go, wait) = oneshot::channel::<()>();
        let waiting = async move {
            note_caller(&caller());
            let _ = wait.await;
            note_error(Kind::NotFound);
            note_error(Kind::Forbidden);
            StatusCode::CONFLICT.into_response()
        };
        let mut left = counted(requests.clone(), waiting);
        assert!(tokio::time::timeout(Duration::ZERO, &mut left).await.is_err());
        drop(left);
        go.send(()).unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(told(&requests), [("/path".to_owned(), "not_found", 1)]);
    }

    #[tokio::test]
    async fn what_is_given_up_on_a_socket_is_not_counted_nor_what_is_counted_later() {
        let (requests, clock) = (Requests::default(), Clock::default());
        let asked = async |is_later| {
            note_caller(&caller());
            if is_later {
                note_later();
                return;
            }
            std::future::pending::<()>().await;
        };
        for is_later in [true, false] {
            let following = following(&requests, &clock, "/graphql", asked(is_later), |()| None);
            let followed = NOTES.scope(RefCell::default(), following);
            let _ = tokio::time::timeout(Duration::from_millis(1), followed).await;
            assert_eq!(told(&requests), []);
        }
    }

    /// Lines of the log that are written meanwhile.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_an_operator_does_inside_a_tenant_is_logged_and_what_services_do_is_not() {
        let (lines, requests, clock) = (Lines::default(), Requests::default(), Clock::default());
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(log);
        let service = caller();
        let (id, impersonation) = (service.tenant().unwrap(), ImpersonationId::generate());
        let binding = Binding::Impersonation { id, impersonation, operator: "olga".to_owned(), epoch: 1 };
        let olga = Arc::new(Caller { binding, ..Caller::clone(&service) });
        for caller in [&service, &olga] {
            let asked = async {
                note_caller(caller);
                note_operation(&"query audit".into());
            };
            let followed = following(&requests, &clock, "/graphql", asked, |()| Some(Kind::Forbidden));
            let span = tracing::info_span!("request", act = tracing::field::Empty);
            tracing::Instrument::instrument(NOTES.scope(RefCell::default(), followed), span).await;
        }
        let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let line: serde_json::Value = serde_json::from_str(&logged).unwrap_or_else(|_| panic!("one line: {logged}"));
        assert_eq!(line["span"]["act"], "olga");
        let told = ["act", "impersonation", "operation", "outcome"].map(|name| line["fields"][name].clone());
        assert_eq!(told, ["olga", &impersonation.to_string(), "query audit", "forbidden"]);
    }

    #[test]
    fn an_answer_that_says_no_more_is_what_its_status_stands_for() {
        for (status, kind) in [
            (StatusCode::OK, None),
            (StatusCode::NOT_MODIFIED, None),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(Kind::InvalidInput)),
            (StatusCode::TOO_MANY_REQUESTS, Some(Kind::RateLimited)),
            (StatusCode::BAD_GATEWAY, Some(Kind::Internal)),
        ] {
            assert_eq!(failure(&status.into_response()), kind);
        }
        let mut answer = StatusCode::FORBIDDEN.into_response();
        answer.extensions_mut().insert(Kind::TenantSuspended);
        assert_eq!(failure(&answer), Some(Kind::TenantSuspended));
    }
}
