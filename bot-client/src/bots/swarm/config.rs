//! What a swarm is to do.

use std::{net::IpAddr, time::Duration};

use super::{
    super::{roles::BehaviourChoice, tickets::Tickets},
    bot_seed,
};
use crate::{
    connection::{Conditions, ConnectOptions, Trust},
    core::{Resume, Stripes},
};

/// What a swarm is to do.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The server, such as `http://127.0.0.1:7777`.
    pub url: String,
    /// How many bots.
    pub bots: usize,
    /// How long they all play together, once the last one was to join.
    pub duration: Duration,
    /// The session's name; empty: the server's first.
    pub session: String,
    /// What the bots do; they take these in turn. At least one.
    pub behaviours: Vec<BehaviourChoice>,
    /// One seed is one swarm: the same choices at the same moments.
    pub seed: u64,
    /// How many bots join each second; 0: all at once.
    pub ramp_per_second: u32,
    /// On how many threads, at least 1.
    pub threads: usize,
    /// Whether bots compute their own entity ahead of the server, where the session is of the arena.
    pub predict: bool,
    /// The addresses of this machine that bots connect from, in turn; empty: the system's choice.
    pub local_addresses: Vec<IpAddr>,
    /// What every bot's connection is made to suffer, each with a seed of its own made of this one.
    pub conditions: Conditions,
    /// How many streams each bot has.
    pub stripes: Stripes,
    /// On how many of them each snapshot is sent: 1 or 2.
    pub snapshot_copies: u32,
    /// How bots take back seats whose connections are lost.
    pub resume: Resume,
    /// Whom to trust to be the server of an `https` address.
    pub trust: Trust,
    /// What lets them in.
    pub tickets: Tickets,
    /// How many lines each bot says per minute; 0: none, and it hears none.
    pub chat_per_minute: u32,
}

impl SwarmConfig {
    /// Bots that wander about the server's first session: one stream each, all at once, on one thread, with seed 1, by a
    /// connection that suffers nothing.
    #[must_use]
    pub fn new(url: impl Into<String>, bots: usize, duration: Duration) -> Self {
        Self {
            url: url.into(),
            bots,
            duration,
            session: String::new(),
            behaviours: vec![BehaviourChoice::Wander],
            seed: 1,
            ramp_per_second: 0,
            threads: 1,
            predict: false,
            local_addresses: Vec::new(),
            conditions: Conditions::default(),
            stripes: Stripes::ONE,
            snapshot_copies: 1,
            resume: Resume::default(),
            trust: Trust::System,
            tickets: Tickets::None,
            chat_per_minute: 0,
        }
    }

    /// How long it takes until the last bot joins.
    #[must_use]
    pub fn ramp(&self) -> Duration {
        self.join_delay(self.bots.saturating_sub(1))
    }

    pub(super) fn connect_options(&self, bot: usize) -> ConnectOptions {
        let seed = self.conditions.seed.wrapping_add(bot_seed(bot));
        ConnectOptions {
            local_address: self.local_addresses.get(bot % self.local_addresses.len().max(1)).copied(),
            conditions: Conditions { seed, ..self.conditions.clone() },
            trust: self.trust.clone(),
            ..ConnectOptions::default()
        }
    }

    pub(super) fn join_delay(&self, bot: usize) -> Duration {
        match self.ramp_per_second {
            0 => Duration::ZERO,
            per_second => Duration::from_secs_f64(bot as f64 / f64::from(per_second)),
        }
    }
}
