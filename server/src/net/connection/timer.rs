//! The timer of a connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

use super::super::{
    Bell,
    wake::{Calls, Task},
};

/// The one timer of a connection, set to whatever is due first.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
    pub(super) waker: Waker,
    bell: Bell,
}

impl Timer {
    pub(super) fn new(task: &Arc<Task>, at: Instant) -> Self {
        let bell = Bell::new(task, Calls::TIMER);
        Self { sleep: Box::pin(sleep_until(at.into())), at, waker: bell.waker(), bell }
    }

    pub(super) fn not_later_than(&mut self, at: Instant) {
        if at < self.at {
            self.set(at);
        }
    }

    pub(super) fn set(&mut self, at: Instant) {
        self.at = at;
        self.sleep.as_mut().reset(at.into());
        if self.sleep.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.bell.ring();
        }
    }
}
