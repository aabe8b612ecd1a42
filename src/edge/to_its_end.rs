//! Work that a leaving client cannot cancel: a change is either committed with its record, or not made.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, CatchUnwind},
};
use tokio::runtime::Handle;

use crate::error::Error;

/// Runs where it is awaited, which costs no task of its own; dropped before its end, it goes on in one. A panic is an `internal` error.
pub(super) struct ToItsEnd<T: Send + 'static>(Option<BoxFuture<'static, Result<T, Panic>>>);

type Panic = Box<dyn Any + Send>;

impl<T: Send + 'static> ToItsEnd<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        let caught: CatchUnwind<_> = AssertUnwindSafe(work).catch_unwind();
        Self(Some(caught.boxed()))
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { panic!("work that has ended is not asked again") };
        let ended = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(ended.map_err(|panic| Error::internal(format!("a panic: {}", message(&*panic)))))
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn dropped_work_goes_on_and_awaited_work_answers() {
        let (go, wait) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut work = ToItsEnd::new(async move {
            let _ = wait.await;
            let _ = tell.send(());
        });
        assert!(tokio::time::timeout(Duration::ZERO, &mut work).await.is_err());
        drop(work);
        go.send(()).unwrap();
        told.await.unwrap();
        assert_eq!(ToItsEnd::new(async { 7 }).await.ok(), Some(7));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let error = ToItsEnd::<()>::new(async { panic!("no {}", 7) }).await.unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Internal);
        assert!(error.cause().unwrap().to_string().contains("no 7"));
    }
}
