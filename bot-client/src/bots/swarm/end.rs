//! The end of a team's play.

use std::{
    future::poll_fn,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

/// The end of a team's play. Each bot asks for it whenever it is polled, so that asking is all but free.
#[derive(Debug, Default)]
pub(super) struct End {
    has_come: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl End {
    pub(super) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    pub(super) fn come(&self) {
        self.has_come.store(true, Ordering::Release);
        self.waiting().drain(..).for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves with the end. Poll it from one task only.
    pub(super) async fn wait(&self) {
        let mut is_known = false;
        poll_fn(|cx| {
            if !is_known {
                is_known = true;
                self.waiting().push(cx.waker().clone());
            }
            if self.has_come() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
