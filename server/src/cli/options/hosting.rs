//! The options of which matches are hosted, and how.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tickwire_shared::{REWIND_MS_MAX, TickRate};

use super::{OptionsError, layers::Layers};
use crate::{
    cli::values::{self, OnOff},
    config::{EMPTY_TIMEOUT_MAX, EMPTY_TIMEOUT_MIN, SPECTATOR_DELAY_MAX, ServerConfig},
    session::DELAY_IN_MEMORY_MAX,
};

/// The most sessions of a game: each has a world, a recording and three seconds of history of its own.
pub(super) const SESSIONS_MAX: u32 = 1000;
const THREADS_MIN: usize = 1;
/// More than any machine has cores for; each costs memory and files.
const THREADS_MAX: usize = 1024;

/// Flags of `serve` for matches.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct HostingFlags {
    /// The game to host; may be given several times [default: the first of the build]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    game: Vec<String>,
    /// Sessions of each game that start with the server, 0 to 1000 [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u32>,
    /// Whether callers may create sessions [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    create_sessions: Option<OnOff>,
    /// Seconds for which a created session goes on without anybody in it, where its creator does not say, 1 to 86400
    /// [default: 300]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_timeout_seconds: Option<u32>,
    /// Ticks per second, 1 to 240 [default: 60]
    #[arg(long, value_name = "HZ")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tick_rate: Option<u32>,
    /// Seats of each session [default: 256]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_players: Option<u32>,
    /// How far a session rewinds at most for what a shooter saw, in milliseconds, 0 to 1000 [default: 250]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rewind_ms: Option<u32>,
    /// A setting of the game, such as cover=0; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<String>,
    /// Where randomness starts: the same seed and inputs give the same match [default: another at each start]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Threads that step sessions, 1 to 1024, never more than there are sessions [default: one per core]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    simulation_threads: Option<usize>,
    /// Threads that serve connections, 1 to 1024 [default: one per core]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    network_threads: Option<usize>,
    /// How much later than players spectators see a match, in seconds, 0 to 3600; more than 10 takes recordings
    /// [default: 0]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    spectator_delay_seconds: Option<u32>,
}

/// Which matches are hosted, and how, as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HostingOptions {
    #[serde(deserialize_with = "values::one_or_many")]
    game: Vec<String>,
    sessions: u32,
    create_sessions: OnOff,
    empty_timeout_seconds: u32,
    tick_rate: u32,
    max_players: u32,
    rewind_ms: u32,
    #[serde(deserialize_with = "values::pairs")]
    set: Vec<String>,
    seed: Option<u64>,
    simulation_threads: Option<usize>,
    network_threads: Option<usize>,
    spectator_delay_seconds: u32,
}

impl Default for HostingOptions {
    fn default() -> Self {
        let config = ServerConfig::default();
        Self {
            game: config.games,
            sessions: config.sessions,
            create_sessions: OnOff::On,
            empty_timeout_seconds: 300,
            tick_rate: config.tick_rate.hz(),
            max_players: config.max_players.get(),
            rewind_ms: config.rewind_ms,
            set: Vec::new(),
            seed: config.seed,
            simulation_threads: None,
            network_threads: None,
            spectator_delay_seconds: 0,
        }
    }
}

impl HostingOptions {
    /// What they come to, if they make sense, with all else at its default. `records` says whether matches are recorded.
    pub(super) fn resolve(self, layers: &Layers, records: bool) -> Result<ServerConfig, OptionsError> {
        let threads = |option, count: Option<usize>| match count {
            None => Ok(None),
            Some(count) => layers.within(option, count, THREADS_MIN..=THREADS_MAX).map(NonZeroUsize::new),
        };
        let tick_rate = TickRate::new(self.tick_rate)
            .map_err(|_| layers.invalid("tick_rate", self.tick_rate, "is out of range: choose 1 to 240"))?;
        if self.sessions > SESSIONS_MAX {
            let problem = format!("are too many: choose 0 to {SESSIONS_MAX}");
            return Err(layers.invalid("sessions", self.sessions, problem));
        }
        let empty_timeout = Duration::from_secs(self.empty_timeout_seconds.into());
        if !(EMPTY_TIMEOUT_MIN..=EMPTY_TIMEOUT_MAX).contains(&empty_timeout) {
            let problem = format!("is out of range: choose 1 to {}", EMPTY_TIMEOUT_MAX.as_secs());
            return Err(layers.invalid("empty_timeout_seconds", self.empty_timeout_seconds, problem));
        }
        let rewind_ms = layers.within("rewind_ms", self.rewind_ms, 0..=REWIND_MS_MAX)?;
        let max_players = NonZeroU32::new(self.max_players)
            .ok_or_else(|| layers.invalid("max_players", self.max_players, "is too few: choose 1 or more"))?;
        let spectator_delay = Duration::from_secs(self.spectator_delay_seconds.into());
        let wrong_delay = if records {
            (spectator_delay > SPECTATOR_DELAY_MAX).then_some("is out of range: choose 0 to 3600")
        } else {
            (spectator_delay > DELAY_IN_MEMORY_MAX).then_some(
                "is more than 10, and without recordings no more is kept: choose less, or recordings = \"on\"",
            )
        };
        if let Some(problem) = wrong_delay {
            return Err(layers.invalid("spectator_delay_seconds", self.spectator_delay_seconds, problem));
        }
        let setting =
            |text: &String| read_setting(text).map_err(|problem| layers.invalid("set", format!("{text:?}"), problem));
        let settings: Vec<(String, f64)> = self.set.iter().map(setting).collect::<Result<_, _>>()?;
        if let Some((name, _)) = settings
            .iter()
            .enumerate()
            .find_map(|(i, setting)| settings[..i].iter().any(|(earlier, _)| *earlier == setting.0).then_some(setting))
        {
            return Err(layers.invalid("set", name, "is set twice: choose one value"));
        }
        Ok(ServerConfig {
            games: self.game,
            sessions: self.sessions,
            create_sessions: self.create_sessions == OnOff::On,
            empty_timeout,
            tick_rate,
            max_players,
            rewind_ms,
            settings,
            seed: self.seed,
            spectator_delay,
            simulation_threads: threads("simulation_threads", self.simulation_threads)?,
            network_threads: threads("network_threads", self.network_threads)?,
            ..ServerConfig::default()
        })
    }
}

/// A setting of a game as it is written: its name, and its value in its unit.
pub(in crate::cli) fn read_setting(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("is no setting: write NAME=VALUE, such as cover=0")?;
    let (name, value) = (name.trim(), value.trim());
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((name.to_owned(), number)),
        _ => Err(format!("is no setting: {value:?} is no number; write {name}=VALUE with a number, such as {name}=0")),
    }
}
