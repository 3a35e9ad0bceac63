//! Who may connect and join: so many connections of an address, so many joins per second of an address and in all. An IPv6
//! address stands for its /64, which one customer has whole.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::{
    config::Limits,
    net::{customer_of, is_loopback},
    play::MessageRate,
};

/// With fewer addresses none is looked for that can be forgotten.
const SWEPT_FROM: usize = 1024;

/// What is known of the addresses that have connections, or had some a moment ago.
#[derive(Debug)]
pub(crate) struct Admission {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    addresses: HashMap<IpNet, Address>,
    joins: Option<MessageRate>,
    /// With so many addresses those that can be forgotten are.
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct Address {
    connections: usize,
    joins: Option<MessageRate>,
}

/// A connection that has been let in. Dropped, its address may have another.
#[derive(Debug)]
pub(crate) struct Admitted {
    all: Arc<Admission>,
    network: IpNet,
    pub(crate) address: IpAddr,
}

/// An address has as many connections as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) usize);

/// Whether limits of single addresses hold for one: not for this machine's own, from which proxies and load tests come, unless
/// the operator wants that.
pub(crate) fn is_limited(address: IpAddr, limits: &Limits) -> bool {
    limits.limit_loopback || !is_loopback(address)
}

impl Admission {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { addresses: HashMap::new(), joins: None, sweep_at: SWEPT_FROM };
        Arc::new(Self { started: Instant::now(), state: Mutex::new(state) })
    }

    /// Lets a connection in, unless its address has as many as may be.
    pub(crate) fn connect(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Result<Admitted, TooMany> {
        let (network, now) = (customer_of(address), self.started.elapsed());
        let mut state = self.lock();
        if state.addresses.len() >= state.sweep_at {
            state.addresses.retain(|_, address| address.is_known(now));
            state.sweep_at = SWEPT_FROM.max(2 * state.addresses.len());
        }
        let known = state.addresses.entry(network).or_default();
        if is_limited(address, limits) && known.connections >= limits.connections_per_address_max {
            return Err(TooMany(known.connections));
        }
        known.connections += 1;
        Ok(Admitted { all: Arc::clone(self), network, address })
    }

    /// Counts a join. Otherwise: when there may be one more.
    fn join(&self, network: IpNet, is_limited: bool, limits: &Limits, now: Duration) -> Result<(), Duration> {
        let State { addresses, joins, .. } = &mut *self.lock();
        if is_limited && let Some(address) = addresses.get_mut(&network) {
            let rate = (limits.joins_per_second_per_address_max, limits.joins_burst_per_address_max);
            take(&mut address.joins, rate, now)?;
        }
        take(joins, (limits.joins_per_second_max, limits.joins_burst_max), now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

fn take(
    rate: &mut Option<MessageRate>,
    (per_second, burst): (NonZeroU32, NonZeroU32),
    now: Duration,
) -> Result<(), Duration> {
    let rate = rate.get_or_insert_with(|| MessageRate::new(per_second, burst));
    rate.adopt(per_second, burst);
    if rate.allows(now) { Ok(()) } else { Err(rate.wait(now)) }
}

impl Address {
    /// Whether anything would be lost if it were forgotten.
    fn is_known(&self, now: Duration) -> bool {
        self.connections > 0 || self.joins.as_ref().is_some_and(|joins| joins.is_owed(now))
    }
}

impl Admitted {
    /// Counts a join that came by this connection. Otherwise: when there may be one more.
    pub(crate) fn join(&self, limits: &Limits) -> Result<(), Duration> {
        self.all.join(self.network, is_limited(self.address, limits), limits, self.all.started.elapsed())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let now = self.all.started.elapsed();
        if let Entry::Occupied(mut entry) = self.all.lock().addresses.entry(self.network) {
            entry.get_mut().connections -= 1;
            if !entry.get().is_known(now) {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let number = |n| NonZeroU32::new(n).expect("not 0");
        Limits {
            connections_per_address_max: 2,
            joins_per_second_per_address_max: number(10),
            joins_burst_per_address_max: number(3),
            joins_per_second_max: number(10),
            joins_burst_max: number(5),
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_connections_and_a_network_of_ipv6_counts_as_one() {
        let (all, limits) = (Admission::new(), limits());
        let connect = |address: &str| all.connect(ip(address), &limits);
        let held = [connect("203.0.113.7").expect("room"), connect("::ffff:203.0.113.7").expect("room")];
        assert_eq!(connect("203.0.113.7").expect_err("full"), TooMany(2));
        let other = connect("203.0.113.8").expect("another address");
        let _v6 = [connect("2001:db8:1:2::1").expect("room"), connect("2001:db8:1:2:ffff::9").expect("room")];
        assert_eq!(connect("2001:db8:1:2::3").expect_err("full"), TooMany(2));
        let _next = connect("2001:db8:1:3::1").expect("another network");
        drop(held);
        drop(other);
        assert_eq!(all.lock().addresses.len(), 2, "who has no connection is forgotten");
        connect("203.0.113.7").expect("room again");
    }

    #[test]
    fn this_machine_is_limited_only_where_that_is_wanted() {
        let (all, limits) = (Admission::new(), limits());
        let _held: Vec<_> = (0..9).map(|_| all.connect(ip("127.0.0.1"), &limits).expect("not limited")).collect();
        let limits = Limits { limit_loopback: true, ..limits };
        assert_eq!(all.connect(ip("127.0.0.1"), &limits).expect_err("full"), TooMany(9));
        let _one = all.connect(ip("::1"), &limits).expect("room");
    }

    #[test]
    fn joins_are_counted_by_address_and_in_all_and_say_when_there_may_be_more() {
        let (all, limits) = (Admission::new(), limits());
        let [a, b] = ["203.0.113.7", "203.0.113.8"].map(|address| all.connect(ip(address), &limits).expect("room"));
        let join = |by: &Admitted, at_ms| all.join(by.network, true, &limits, Duration::from_millis(at_ms));
        let joined = (0..9).filter(|_| join(&a, 0).is_ok()).count();
        assert_eq!((joined, join(&a, 0)), (3, Err(Duration::from_millis(100))));
        let joined = (0..9).filter(|_| join(&b, 0).is_ok()).count();
        assert_eq!(joined, 2, "all of them together have 5");
        assert_eq!(join(&a, 100), Ok(()));
    }

    #[test]
    fn who_comes_back_to_join_more_is_remembered_until_it_is_forgiven() {
        let all = Admission::new();
        let slow = Limits { joins_per_second_per_address_max: NonZeroU32::MIN, ..limits() };
        let connect = || all.connect(ip("203.0.113.7"), &slow).expect("room");
        let first = connect();
        (0..3).for_each(|_| first.join(&slow).expect("a burst"));
        drop(first);
        assert_eq!(all.lock().addresses.len(), 1);
        assert!(connect().join(&slow).is_err());
    }
}
