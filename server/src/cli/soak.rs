//! `soak`: plays a game for as long as one likes, to find what only shows after a while.

use std::{sync::Arc, time::Instant};

use serde_json::{Value, json};
use tickwire_recording::{SoakOptions, Soaked, soak};
use tickwire_shared::{Game, TickRate};
use tickwire_simulation::{SessionConfig, SessionLimits};

use super::{CliError, options::read_setting, output};
use crate::RunError;

/// The most bots.
const PLAYERS_MAX: i64 = 10_000;
/// Ticks from one rebuild to the next, where nobody says how many.
const REBUILD_EVERY: u64 = 7;
/// In between it says how far it has come.
const PROGRESS_TICKS: u64 = 100_000;

#[derive(Debug, clap::Args)]
pub(super) struct SoakArgs {
    /// Compare, at every tick, a session with another one that is rebuilt from its keyframe every few ticks; exit code 1 at
    /// the first difference
    #[arg(long, required = true)]
    determinism: bool,
    /// The game [default: the first that this program has]
    #[arg(long, value_name = "NAME")]
    game: Option<String>,
    /// Bots, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=PLAYERS_MAX))]
    players: u32,
    /// Ticks, 1 or more
    #[arg(long, value_name = "N", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..))]
    ticks: u64,
    /// Where randomness starts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Ticks from one rebuild to the next, fewer than --ticks; 0: none, only side by side [default: 7, or as many as leave a
    /// tick to compare]
    #[arg(long, value_name = "N")]
    rebuild_every: Option<u64>,
    /// A setting of the game
    #[arg(long, value_name = "NAME=VALUE", value_parser = read_setting)]
    set: Vec<(String, f64)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Plays, and says how it went.
pub(super) fn run(arguments: &SoakArgs, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    let &SoakArgs { determinism: _, ref game, players, ticks, seed, ref set, json: as_json, .. } = arguments;
    let rebuild_every = arguments.rebuild_every();
    let known = || games.iter().map(|game| game.name()).collect::<Vec<_>>().join(", ");
    let wanted = |candidate: &&Arc<dyn Game>| game.as_ref().is_none_or(|name| candidate.name() == name);
    let unknown = || RunError::UnknownGame { name: game.clone().unwrap_or_default(), known: known() };
    let game = games.iter().find(wanted).ok_or_else(unknown)?;
    if rebuild_every >= ticks {
        return Err(CliError::NoRebuild { every: rebuild_every, ticks });
    }
    // Half a second of grace, so that seats come and go.
    let limits = SessionLimits { max_players: players, grace_ticks: 30, ..SessionLimits::at(TickRate::DEFAULT) };
    let config = SessionConfig { seed, limits, named_settings: set.clone(), ..SessionConfig::default() };
    let options = SoakOptions { config, players, ticks, rebuild_every };

    let started = Instant::now();
    let soaked = soak(game, &options, |tick| {
        if tick.0.is_multiple_of(PROGRESS_TICKS) {
            output::note(format_args!("tick {tick}"));
        }
    });
    let speed = ticks as f64 / started.elapsed().as_secs_f64();
    let soaked = soaked.map_err(|source| CliError::Soak { game: game.name().to_owned(), source });
    let result = soaked.and_then(|soaked| match soaked.rebuilds {
        0 if rebuild_every > 0 => Err(CliError::NothingSaved { game: game.name().to_owned() }),
        _ => Ok(soaked),
    });
    if as_json {
        output::line(in_json(game.name(), arguments, &result))?;
    }
    let Soaked { ticks, rebuilds, state_hash, keyframe_bytes } = result?;
    if !as_json {
        output::line(format_args!(
            "{}: two sessions of {players} players were the same for {ticks} ticks, one of them rebuilt {rebuilds} times",
            game.name()
        ))?;
        output::line(format_args!("last state hash {state_hash:016x}, last keyframe {keyframe_bytes} bytes"))?;
    }
    output::note(format_args!("{speed:.0} ticks a second"));
    Ok(())
}

impl SoakArgs {
    fn rebuild_every(&self) -> u64 {
        self.rebuild_every.unwrap_or(REBUILD_EVERY.min(self.ticks - 1))
    }
}

/// What was played, and how it went.
fn in_json(game: &str, arguments: &SoakArgs, result: &Result<Soaked, CliError>) -> Value {
    let (SoakArgs { players, seed, .. }, rebuild_every) = (arguments, arguments.rebuild_every());
    let mut line = json!({ "game": game, "players": players, "seed": seed, "rebuild_every": rebuild_every });
    match result {
        Ok(Soaked { ticks, rebuilds, state_hash, keyframe_bytes }) => {
            line["passed"] = true.into();
            line["ticks"] = (*ticks).into();
            line["rebuilds"] = (*rebuilds).into();
            line["state_hash"] = format!("{state_hash:016x}").into();
            line["keyframe_bytes"] = (*keyframe_bytes).into();
        }
        Err(error) => {
            line["passed"] = false.into();
            line["error"] = error.to_string().into();
        }
    }
    line
}
