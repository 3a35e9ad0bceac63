//! How often a caller asks for seats, and how many are reserved for it at once: nobody is to hold those of all others.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::Code;

use super::authorise::Authorised;
use crate::{
    config::Limits,
    limits::{Permit, Quota, is_limited},
    play::MessageRate,
    session::Creator,
    status::Refusal,
};

/// Seats come free as players come, or are given up after 15 s.
const HELD_RETRY: Duration = Duration::from_secs(1);

/// Callers of JoinSession who have called lately, or for whom seats are reserved.
#[derive(Debug)]
pub(super) struct Callers {
    started: Instant,
    by_name: BTreeMap<Creator, Asking>,
}

#[derive(Debug)]
struct Asking {
    calls: MessageRate,
    seats: Arc<Quota>,
}

/// What one caller may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    per_second: NonZeroU32,
    burst: NonZeroU32,
    seats_max: usize,
}

impl Allowance {
    /// That of a caller; `None`: as much as it likes.
    pub(super) fn of(caller: &Authorised, limits: &Limits) -> Option<Self> {
        match caller.address {
            None => Some(Self {
                per_second: limits.joins_per_second_per_key_max,
                burst: limits.joins_burst_per_key_max,
                seats_max: limits.seats_reserved_per_key_max,
            }),
            Some(address) => is_limited(address, limits).then_some(Self {
                per_second: limits.joins_per_second_per_address_max,
                burst: limits.joins_burst_per_address_max,
                seats_max: limits.seats_reserved_per_address_max,
            }),
        }
    }
}

impl Default for Callers {
    fn default() -> Self {
        Self { started: Instant::now(), by_name: BTreeMap::new() }
    }
}

impl Callers {
    /// Counts a call.
    pub(super) fn note_call(&mut self, caller: &Creator, allowance: Allowance, now: Instant) -> Result<(), Refusal> {
        let now = self.since_start(now);
        let calls = &mut self.of(caller, allowance).calls;
        calls.adopt(allowance.per_second, allowance.burst);
        if calls.allows(now) {
            return Ok(());
        }
        let message = "more seats are asked for per second than one caller may";
        Err(Refusal::new(Code::ResourceExhausted, "JOINS", message).retry_after(calls.wait(now)))
    }

    /// Room for one more seat that is reserved for the caller.
    pub(super) fn take_seat(&mut self, caller: &Creator, allowance: Allowance) -> Result<Permit, Refusal> {
        let most = allowance.seats_max;
        self.of(caller, allowance).seats.take(most).ok_or_else(|| {
            let message =
                format!("{most} seats are reserved for you, which is the most for one caller: have players come");
            Refusal::new(Code::ResourceExhausted, "SEATS_RESERVED", message).retry_after(HELD_RETRY)
        })
    }

    /// Forgets those who may have as much as anybody.
    pub(super) fn sweep(&mut self, now: Instant) {
        let now = self.since_start(now);
        self.by_name.retain(|_, asking| asking.calls.is_owed(now) || asking.seats.taken() > 0);
    }

    fn of(&mut self, caller: &Creator, allowance: Allowance) -> &mut Asking {
        self.by_name.entry(caller.clone()).or_insert_with(|| Asking {
            calls: MessageRate::new(allowance.per_second, allowance.burst),
            seats: Arc::default(),
        })
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).expect("not 0")
    }

    fn limits() -> Limits {
        Limits {
            joins_per_second_per_address_max: number(2),
            joins_burst_per_address_max: number(3),
            joins_per_second_per_key_max: number(10),
            joins_burst_per_key_max: number(5),
            seats_reserved_per_address_max: 2,
            seats_reserved_per_key_max: 4,
            ..Limits::default()
        }
    }

    fn caller(name: &str, address: Option<&str>) -> (Creator, Option<Allowance>) {
        let creator = Creator::new(name);
        let address = address.map(|address| address.parse().expect("an address"));
        let allowance = Allowance::of(&Authorised { creator: creator.clone(), address }, &limits());
        (creator, allowance)
    }

    #[test]
    fn addresses_and_keys_have_bounds_of_their_own_and_this_machine_has_none() {
        let burst =
            |allowance: Option<Allowance>| allowance.map(|allowance| (allowance.burst.get(), allowance.seats_max));
        assert_eq!(burst(caller("key backend", None).1), Some((5, 4)));
        assert_eq!(burst(caller("address 192.0.2.1", Some("192.0.2.1")).1), Some((3, 2)));
        assert_eq!(burst(caller("address 127.0.0.1", Some("127.0.0.1")).1), None);
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again_and_nobody_else_is() {
        let (mut callers, now) = (Callers::default(), Instant::now());
        let [(ada, allowance), (bob, _)] =
            ["192.0.2.1", "192.0.2.2"].map(|address| caller(&format!("address {address}"), Some(address)));
        let allowance = allowance.expect("it is limited");
        (0..3).for_each(|_| callers.note_call(&ada, allowance, now).expect("a burst"));
        let refusal = callers.note_call(&ada, allowance, now).expect_err("one more");
        assert_eq!((refusal.reason, refusal.retry_after), ("JOINS", Some(Duration::from_millis(500))));
        callers.note_call(&bob, allowance, now).expect("another caller");
        callers.note_call(&ada, allowance, now + Duration::from_millis(500)).expect("a while later");
        callers.sweep(now + Duration::from_secs(1));
        assert_eq!(callers.by_name.keys().collect::<Vec<_>>(), [&ada], "who is owed nothing is forgotten");
        callers.sweep(now + Duration::from_secs(3));
        assert!(callers.by_name.is_empty());
    }

    #[test]
    fn so_many_seats_are_reserved_for_one_caller_at_once() {
        let (mut callers, now) = (Callers::default(), Instant::now());
        let (ada, allowance) = caller("address 192.0.2.1", Some("192.0.2.1"));
        let (backend, of_key) = caller("key backend", None);
        let (allowance, of_key) = (allowance.expect("it is limited"), of_key.expect("it is limited"));
        let mut held: Vec<Permit> = (0..2).map(|_| callers.take_seat(&ada, allowance).expect("room")).collect();
        let refusal = callers.take_seat(&ada, allowance).expect_err("none is left");
        assert_eq!((refusal.reason, refusal.retry_after), ("SEATS_RESERVED", Some(HELD_RETRY)));
        let _theirs = callers.take_seat(&backend, of_key).expect("another caller");
        // Who holds any is not forgotten, or it would have all of them once more.
        callers.sweep(now + Duration::from_secs(60));
        callers.take_seat(&ada, allowance).expect_err("none is left");
        held.pop();
        callers.take_seat(&ada, allowance).expect("somebody came");
    }
}
