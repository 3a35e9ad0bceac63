//! `replay`: plays a recording again.

use std::{path::PathBuf, sync::Arc, time::Instant};

use serde_json::json;
use tickwire_recording::{Difference, Recording, Replay, ReplayedTick, Verified, VerifyError, game_of};
use tickwire_shared::{Game, Tick};

use super::{CliError, output};

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Compare every tick; print the result alone, with exit code 1 at the first difference
    #[arg(long)]
    verify: bool,
    /// The first tick to print [default: 1]
    #[arg(long, value_name = "TICK")]
    from: Option<u64>,
    /// The last tick to play [default: the recording's last]
    #[arg(long, value_name = "TICK")]
    to: Option<u64>,
    /// Print JSON, an object per line
    #[arg(long)]
    json: bool,
}

/// Plays, prints each tick's state hash unless only the result is asked for, and compares.
pub(super) fn replay(arguments: &ReplayArgs, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    let ReplayArgs { file, verify, from, to, json } = arguments;
    let (from, to) = (from.unwrap_or(1), to.unwrap_or(Tick::MAX.0));
    if from > to {
        return Err(CliError::Range { from, to });
    }
    let recording = Recording::open(file).map_err(CliError::at(file))?;
    let game = game_of(&recording, games).map_err(CliError::at(file))?;
    let replay = Replay::new(&recording, game).map_err(CliError::at(file))?.until(Tick(to));

    let started = Instant::now();
    let mut printed = Ok(());
    let verified = replay.verify(|tick| {
        if !verify && printed.is_ok() && tick.recorded.input.tick.0 >= from {
            printed = print_tick(tick, *json);
        }
    });
    printed?;
    let played = started.elapsed();
    match verified {
        Ok(verified) => {
            let speed = recording.meta().tick_rate.duration_of(verified.ticks).as_secs_f64() / played.as_secs_f64();
            print_verified(&verified, speed, *json)?;
            Ok(())
        }
        Err(error) => {
            if *json {
                print_failure(&error)?;
            }
            Err(CliError::at(file)(error))
        }
    }
}

fn print_tick(tick: &ReplayedTick, as_json: bool) -> std::io::Result<()> {
    let number = tick.recorded.input.tick.0;
    let inputs = tick.recorded.input.inputs.len();
    match &tick.outcome {
        Ok(outcome) if as_json => {
            let hash = format!("{:016x}", outcome.result.state_hash);
            output::line(
                json!({ "tick": number, "state_hash": hash, "inputs": inputs, "events": outcome.result.events.len() }),
            )
        }
        Ok(outcome) => output::line(format_args!("{number:>8}  {:016x}", outcome.result.state_hash)),
        Err(panic) if as_json => output::line(json!({ "tick": number, "panic": panic.message })),
        Err(panic) => output::line(format_args!("{number:>8}  panics: {}", panic.message)),
    }
}

fn print_verified(verified: &Verified, speed: f64, as_json: bool) -> std::io::Result<()> {
    let Verified { ticks, state_hash, digest, panic, end: _ } = verified;
    if as_json {
        return output::line(json!({
            "verified": true,
            "ticks": ticks,
            "state_hash": format!("{state_hash:016x}"),
            "digest": format!("{digest:016x}"),
            "panic": panic.as_ref().map(|panic| panic.message.clone()),
            "speed": speed,
        }));
    }
    output::line(format_args!("verified {ticks} ticks, {speed:.0} times as fast as played"))?;
    output::line(format_args!("last state hash {state_hash:016x}, all of them {digest:016x}"))?;
    match panic {
        None => Ok(()),
        Some(panic) => output::line(format_args!("{panic}, as it did when it was recorded")),
    }
}

fn print_failure(error: &VerifyError) -> std::io::Result<()> {
    let mut line = json!({ "verified": false, "error": error.to_string() });
    if let VerifyError::Diverged(divergence) = error {
        line["tick"] = divergence.tick.0.into();
        match &divergence.difference {
            Difference::Field { kind, net_id, field, recorded, replayed } => {
                line["kind"] = kind.as_str().into();
                line["net_id"] = net_id.0.into();
                line["field"] = field.as_str().into();
                line["recorded"] = recorded.quantity.into();
                line["replayed"] = replayed.quantity.into();
                line["unit"] = recorded.unit.as_str().into();
            }
            Difference::Entity { kind, net_id, recorded } => {
                line["kind"] = kind.as_str().into();
                line["net_id"] = net_id.0.into();
                line["only_in"] = if *recorded { "recording" } else { "replay" }.into();
            }
            // The error says all that there is to say.
            Difference::Event { .. } | Difference::Hidden => {}
        }
    }
    output::line(line)
}
