//! What is left of a server's end when nobody is connected any more: it waits for games and disks, which need not come back.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout_at};
use tracing::error;

use crate::server::Shared;

/// Something that a game or a disk may hold up.
#[derive(Debug)]
pub(crate) struct Step {
    what: &'static str,
    done: oneshot::Receiver<()>,
}

impl Step {
    /// Does it on a thread of its own.
    pub(crate) fn start(what: &'static str, work: impl FnOnce() + Send + 'static) -> Self {
        let (tell, done) = oneshot::channel();
        let spawned = thread::Builder::new().name("tickwire-end".into()).spawn(move || {
            work();
            // Nobody waits any more where it took too long.
            let _ = tell.send(());
        });
        if let Err(error) = spawned {
            // What was to be ended has been dropped with the work, which ends it, too.
            error!(what, %error, "there was no thread to end this on");
        }
        Self { what, done }
    }

    /// Waits until it is done. At `by` it is left behind.
    pub(crate) async fn wait_until(self, by: Instant) {
        // An error says that it has panicked, which the panic hook has reported.
        if timeout_at(by.into(), self.done).await.is_err() {
            error!(held_up = self.what, "a game or a disk does not come back: it is left behind");
        }
    }
}

/// When a server that has drained ends at the latest: so long after the deadline that it was given.
pub(crate) fn latest(shared: &Shared, close: Duration) -> Instant {
    let now = Instant::now();
    shared.drain.order().map_or(now, |order| order.deadline.max(now)) + close
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_back_is_left_behind_and_all_else_is_waited_for() {
        let (go, waits) = channel::<()>();
        let hangs = Step::start("a test", move || assert!(waits.recv().is_err(), "it is never told to go on"));
        let by = tokio::time::Instant::now() + Duration::from_secs(3);
        hangs.wait_until(by.into_std()).await;
        assert!(tokio::time::Instant::now() >= by, "it was waited for until then");
        drop(go);
        let (tell, told) = channel();
        let returns = Step::start("a test", move || tell.send(()).expect("it is waited for"));
        // The clock stands still while a thread of this test's works, but for this.
        tokio::time::resume();
        returns.wait_until(Instant::now() + Duration::from_secs(60)).await;
        assert_eq!(told.try_recv(), Ok(()));
    }
}
