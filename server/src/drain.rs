//! A server's way to its end: nobody may join any more, who plays is told and given time, and it can be called off.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tickwire_proto::v1 as pb;
use tokio::{sync::watch, time::sleep_until};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::info;

use crate::{
    housekeeping::close_sessions,
    log_fields::millis,
    server::{Phase, Shared, set_health},
};

/// Tells a server to end, and to go on.
#[derive(Debug, Default)]
pub(crate) struct DrainSwitch {
    order: watch::Sender<Option<DrainOrder>>,
}

/// By when a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainOrder {
    /// Streams are closed then; sooner, where there are none.
    pub(crate) deadline: Instant,
    /// How long that was when it was ordered.
    within: Duration,
    /// It cannot be called off: whoever runs the server has told it to end, or it ends already.
    pub(crate) is_final: bool,
}

/// Why a drain is not called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotCancelled {
    /// Nothing drains.
    NotDraining,
    /// See [`DrainOrder::is_final`].
    Final,
}

impl DrainSwitch {
    /// Has the server end within a time: of two orders the newer counts, unless the older cannot be called off and comes sooner.
    pub(crate) fn drain(&self, within: Duration) -> DrainOrder {
        self.order_to(within, false)
    }

    /// As [`drain`](Self::drain), and nobody calls it off.
    pub(crate) fn end(&self, within: Duration) -> DrainOrder {
        self.order_to(within, true)
    }

    fn order_to(&self, within: Duration, is_final: bool) -> DrainOrder {
        let deadline = Instant::now() + within;
        let mut order = DrainOrder { deadline, within, is_final };
        self.order.send_modify(|current| {
            if let Some(standing @ DrainOrder { is_final: true, .. }) = *current {
                order = if standing.deadline <= deadline { standing } else { DrainOrder { is_final: true, ..order } };
            }
            *current = Some(order);
        });
        order
    }

    /// Has the server go on.
    pub(crate) fn cancel(&self) -> Result<(), NotCancelled> {
        let mut result = Ok(());
        self.order.send_if_modified(|order| {
            result = match order {
                None => Err(NotCancelled::NotDraining),
                Some(DrainOrder { is_final: true, .. }) => Err(NotCancelled::Final),
                Some(_) => Ok(()),
            };
            result.is_ok() && order.take().is_some()
        });
        result
    }

    /// What holds now.
    pub(crate) fn order(&self) -> Option<DrainOrder> {
        *self.order.borrow()
    }

    /// From now on nothing is called off any more. False: it has been, just now.
    fn close(&self) -> bool {
        self.order.send_if_modified(|order| match order {
            Some(order) => {
                order.is_final = true;
                true
            }
            None => false,
        })
    }
}

/// Serves until the server has been told to end, and its time is over or nobody plays any more.
pub(crate) async fn until_drained(shared: &Shared, health: &HealthReporter) {
    let mut orders = shared.drain.order.subscribe();
    loop {
        let order = *orders.borrow_and_update();
        let Some(order) = order else {
            if *shared.phase.borrow() == Phase::Draining {
                go_on(shared, health).await;
            }
            // An error says that the switch is gone, and with it the server.
            let _ = orders.changed().await;
            continue;
        };
        begin(shared, health, order).await;
        tokio::select! {
            () = is_over(shared, order.deadline) => {
                if shared.drain.close() {
                    return;
                }
            }
            _ = orders.changed() => {}
        }
    }
}

/// Nobody may join, and who plays is told by when streams are closed.
async fn begin(shared: &Shared, health: &HealthReporter, order: DrainOrder) {
    info!(within_ms = millis(order.within), "draining: nobody may join");
    if *shared.phase.borrow() == Phase::Serving {
        set_health(health, ServingStatus::NotServing).await;
        close_sessions(&shared.registry, health).await;
        shared.phase.send_replace(Phase::Draining);
    }
    shared.notices.begin(pb::Notice {
        kind: pb::NoticeKind::Draining.into(),
        deadline_ms: u32::try_from(order.within.as_millis()).unwrap_or(u32::MAX),
        text: "the server is shutting down".into(),
        ..pb::Notice::default()
    });
    wake_streams(shared);
}

async fn go_on(shared: &Shared, health: &HealthReporter) {
    info!("draining was called off: players may join again");
    set_health(health, ServingStatus::Serving).await;
    // With that housekeeping says of sessions, and of all of them, how they do.
    shared.phase.send_replace(Phase::Serving);
    shared.notices.end(pb::Notice {
        kind: pb::NoticeKind::DrainCancelled.into(),
        text: "the server goes on".into(),
        ..pb::Notice::default()
    });
    wake_streams(shared);
}

fn wake_streams(shared: &Shared) {
    for session in shared.registry.all().iter() {
        session.wake_streams();
    }
}

/// Waits until the time is over; where nobody plays, not at all.
async fn is_over(shared: &Shared, deadline: Instant) {
    let nobody_plays = async {
        while shared.streams.load(Ordering::Relaxed) > 0 {
            shared.something_ended.notified().await;
        }
    };
    tokio::select! {
        () = nobody_plays => {}
        () = sleep_until(deadline.into()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_drain_is_called_off_unless_whoever_runs_the_server_wants_its_end() {
        let switch = DrainSwitch::default();
        assert_eq!(switch.cancel(), Err(NotCancelled::NotDraining));
        let order = switch.drain(SECOND);
        assert_eq!(switch.order(), Some(order));
        assert_eq!((switch.cancel(), switch.order(), switch.close()), (Ok(()), None, false));
        switch.drain(SECOND);
        assert!(switch.close());
        assert_eq!(switch.cancel(), Err(NotCancelled::Final));
    }

    #[test]
    fn the_newest_deadline_counts_but_none_puts_off_an_end_that_is_final() {
        let switch = DrainSwitch::default();
        let first = switch.drain(10 * SECOND);
        let second = switch.drain(20 * SECOND);
        assert!(second.deadline > first.deadline);
        let end = switch.end(5 * SECOND);
        assert!(end.is_final && end.deadline < first.deadline);
        assert_eq!(switch.drain(30 * SECOND), end);
        assert!(switch.drain(SECOND).deadline < end.deadline);
    }
}
