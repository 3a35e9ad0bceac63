//! `replay`: plays a recording again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde_json::json;
use tickwire_recording::{
    Difference, Recording, Repeated, Replay, ReplayedTick, SystemFinding, Verified, VerifyError, dump_tick, find_cause,
    find_panic, game_of,
};
use tickwire_shared::{Game, Tick};

use super::{
    CliError, output,
    recordings::NO_INDEXES,
    show::{ShowArgs, show},
    ticks::{self, AskedTicks},
};

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// The recordings
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Compare every tick; print the result alone, with exit code 1 at the first difference
    #[arg(long)]
    verify: bool,
    /// The first tick to play, from the keyframe before it; those between are played in silence [default: the
    /// recording's first]
    #[arg(long, value_name = "TICK")]
    from: Option<u64>,
    /// The last tick to play [default: the recording's last, and no further where it ends before]
    #[arg(long, value_name = "TICK")]
    to: Option<u64>,
    /// Show everything of one tick instead: seats, inputs, entities, events
    #[arg(long, value_name = "TICK", conflicts_with_all = ["verify", "from", "to"])]
    dump_tick: Option<u64>,
    /// Print JSON, an object per line
    #[arg(long)]
    json: bool,
    /// Show the recording as a session that spectators can watch, from any tick and at any speed, until interrupted
    #[arg(long, conflicts_with_all = ["verify", "to", "json"])]
    serve: bool,
    #[command(flatten)]
    show: ShowArgs,
}

/// Plays one recording after the other; one that fails does not keep the others from being played.
pub(super) fn replay(arguments: &ReplayArgs, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    if let Some(tick) = arguments.dump_tick {
        return match arguments.files.as_slice() {
            [file] => dump(file, Tick(tick), arguments.json, games),
            files => Err(CliError::DumpOfMany { files: files.len() }),
        };
    }
    if arguments.serve {
        return show(&arguments.files, arguments.from, &arguments.show, games);
    }
    let asked = AskedTicks::new(arguments.from, arguments.to)?;
    if let [file] = arguments.files.as_slice() {
        return replay_one(file, asked, arguments, games);
    }
    let (mut failed, files) = (0, arguments.files.len());
    for file in &arguments.files {
        if !arguments.json {
            output::line(format_args!("{}:", file.display()))?;
        }
        match replay_one(file, asked, arguments, games) {
            Ok(()) => {}
            Err(error) if output::is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                failed += 1;
                output::complain(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(CliError::SomeFailed { failed, files }) }
}

/// Plays, prints each tick's state hash unless only the result is asked for, and compares.
fn replay_one(
    file: &Path,
    asked: AskedTicks,
    &ReplayArgs { verify, json, .. }: &ReplayArgs,
    games: &[Arc<dyn Game>],
) -> Result<(), CliError> {
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    let game = game_of(&recording, games).map_err(CliError::at(file))?;
    let printed = asked.of(file, &recording)?;
    let replay = match *printed.start() {
        first if first == recording.meta().segment.first_tick => Replay::new(&recording, Arc::clone(&game)),
        first => Replay::at(&recording, Arc::clone(&game), Tick(first.0 - 1)),
    };
    let replay = replay.map_err(CliError::at(file))?.until(*printed.end());
    if recording.lacks_indexes() {
        output::note(format_args!("{}: {NO_INDEXES}", file.display()));
    }

    let started = Instant::now();
    let mut said = Ok(());
    let verified = replay.verify(|tick| {
        if !verify && said.is_ok() && printed.contains(&tick.recorded.input.tick) {
            said = print_tick(tick, json);
        }
    });
    said?;
    let played = started.elapsed();
    match verified {
        Ok(Verified { ticks: 0, panic: None, .. }) => {
            let error = CliError::NothingCompared { path: file.to_owned(), asked };
            if json {
                output::line(failure(file, &error, verify))?;
            }
            Err(error)
        }
        Ok(verified) => {
            let finding = verified.panic.as_ref().and_then(|panic| find_panic(&recording, &game, panic).ok());
            print_played(file, &verified, finding.as_ref(), verify, json)?;
            // Not on standard output, which is the same at each replay.
            let speed = recording.meta().tick_rate.duration_of(verified.ticks).as_secs_f64() / played.as_secs_f64();
            output::note(format_args!("{speed:.0} times as fast as played"));
            Ok(())
        }
        Err(error) => {
            let finding = find(&recording, &game, &error);
            if json {
                print_failure(file, &error, finding.as_ref(), verify)?;
            }
            Err(match finding {
                Some(finding) => {
                    CliError::Desync { path: file.to_owned(), source: Box::new(error), finding: Box::new(finding) }
                }
                None => CliError::at(file)(error),
            })
        }
    }
}

/// Which system is to blame, where one can be.
fn find(recording: &Recording, game: &Arc<dyn Game>, error: &VerifyError) -> Option<SystemFinding> {
    let found = find_cause(recording, game, error)?;
    found.inspect_err(|error| output::note(format_args!("which system it was cannot be found out: {error}"))).ok()
}

/// Prints all that is known of a tick.
fn dump(file: &Path, tick: Tick, as_json: bool, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    ticks::check(file, &recording, ("--dump-tick", tick))?;
    let dump = dump_tick(&recording, game_of(&recording, games), tick).map_err(CliError::at(file))?;
    if as_json {
        output::line(dump.json())?;
    } else {
        output::line(dump)?;
    }
    Ok(())
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

/// The result. It speaks of verifying only to those who asked for it.
fn print_played(
    file: &Path,
    verified: &Verified,
    finding: Option<&SystemFinding>,
    was_asked: bool,
    as_json: bool,
) -> std::io::Result<()> {
    let Verified { ticks, state_hash, digest, panic, end: _ } = verified;
    if as_json {
        let mut line = json!({
            "file": file.display().to_string(),
            "ticks": ticks,
            "state_hash": format!("{state_hash:016x}"),
            "digest": format!("{digest:016x}"),
            "panic": panic.as_ref().map(|panic| panic.message.clone()),
        });
        if was_asked {
            line["verified"] = true.into();
        }
        if let Some(finding) = finding {
            line["system"] = finding.system().into();
        }
        return output::line(line);
    }
    output::line(format_args!("{} {ticks} ticks", if was_asked { "verified" } else { "played" }))?;
    output::line(format_args!("last state hash {state_hash:016x}, all of them {digest:016x}"))?;
    match panic {
        None => Ok(()),
        Some(panic) => output::line(format_args!("{panic}, as it did when it was recorded")),
    }?;
    finding.map_or(Ok(()), |finding| output::line(format_args!("  system: {}", finding.evidence)))
}

fn print_failure(
    file: &Path,
    error: &VerifyError,
    finding: Option<&SystemFinding>,
    was_asked: bool,
) -> std::io::Result<()> {
    let mut line = failure(file, error, was_asked);
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
    if let Some(finding) = finding {
        line["system"] = finding.system().into();
        line["evidence"] = finding.evidence.to_string().into();
        line["deterministic"] = (finding.repeated == Repeated::Same).into();
        line["runs"] = finding.repeated.to_string().into();
    }
    output::line(line)
}

fn failure(file: &Path, error: &dyn std::error::Error, was_asked: bool) -> serde_json::Value {
    let mut line = json!({ "file": file.display().to_string(), "error": error.to_string() });
    if was_asked {
        line["verified"] = false.into();
    }
    line
}
