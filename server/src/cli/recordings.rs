//! `recordings`: lists, shows, exports and repairs recordings.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use comfy_table::{Table, presets::NOTHING};
use serde_json::{Value, json};
use tickwire_recording::{
    DirectoryLock, EndReason, Listed, Recording, RecordingMeta, RecordingState, RecordingSummary, Recovered, Segment,
    describe, list, repair,
};
use tickwire_shared::{Game, Settings, Tick};

use super::{
    CliError, bytes,
    diff::{self, DiffArgs},
    export::{self, ExportArgs},
    minimise::{self, MinimiseArgs},
    options::{default_data_dir, recordings_dir},
    output,
};

/// Of a finished file whose end is cut off, or damaged.
pub(super) const NO_INDEXES: &str =
    "the end of the file, with its indexes, is missing or damaged; `recordings repair` restores it";

#[derive(Debug, clap::Subcommand)]
pub(super) enum RecordingsCommand {
    /// List the recordings of a data directory
    ///
    /// By their headers, indexes and ends: the ticks of finished ones are not read. `recordings show` reads all of one.
    List {
        /// Where the server keeps its files [default: ./tickwire-data]
        #[arg(long, value_name = "DIR", env = "TICKWIRE_DATA_DIR")]
        data_dir: Option<PathBuf>,
        /// Print JSON, an object per line
        #[arg(long)]
        json: bool,
    },
    /// Show what a recording is of, and whether it is all there
    ///
    /// Reads all of it, and exits with code 1 where something is damaged.
    Show {
        /// The recording
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Show instead what each kind and field costs on the wire: the recording is played again
        #[arg(long)]
        bytes: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Export a recording's fields, inputs and events, by name and in their units
    Export(ExportArgs),
    /// Find the first tick at which two recordings differ, and name what differs
    ///
    /// As diff(1), it exits with code 0 where they are the same, 1 where they differ, and 2 where that cannot be told.
    Diff(DiffArgs),
    /// Make a recording that fails as small as it can be, and write it with a test that needs it
    ///
    /// It fails as before: with the same panic, or by coming out otherwise each time. One that parts from what another build
    /// recorded is only cut behind the tick.
    Minimise(MinimiseArgs),
    /// Make a finished recording of what a killed server has left
    ///
    /// One that cannot be repaired is left as it is, and the others are repaired; the exit code is 1 then.
    Repair {
        /// The recordings
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// Runs one of them.
pub(super) fn run(command: &RecordingsCommand, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    match command {
        RecordingsCommand::List { data_dir, json } => {
            let data_dir = data_dir.clone().unwrap_or_else(default_data_dir);
            if !data_dir.is_dir() {
                return Err(CliError::NoDataDir(data_dir));
            }
            let directory = recordings_dir(&data_dir);
            if *json { list_json(&directory) } else { print_list(&directory) }
        }
        RecordingsCommand::Show { file, bytes: true, json } => bytes::show(file, *json, games),
        RecordingsCommand::Show { file, json: true, .. } => show_json(file),
        RecordingsCommand::Show { file, .. } => show(file),
        RecordingsCommand::Export(arguments) => export::run(arguments),
        RecordingsCommand::Diff(arguments) => diff::run(arguments),
        RecordingsCommand::Minimise(arguments) => minimise::run(arguments, games),
        RecordingsCommand::Repair { files } => repair_all(files),
    }
}

/// None where a server has recorded nothing.
fn listed(directory: &Path) -> Result<Vec<Listed>, CliError> {
    match list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(CliError::at(directory)),
    }
}

fn print_list(directory: &Path) -> Result<(), CliError> {
    let listed = listed(directory)?;
    if listed.is_empty() {
        output::line(format_args!("no recordings in {}", directory.display()))?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["file", "game", "segment", "length", "ticks", "KiB", "state"]);
    for Listed { path, bytes, summary, lacks_indexes } in listed {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let kib = bytes.div_ceil(1024).to_string();
        table.add_row(match summary {
            Ok(summary) => [
                file,
                summary.meta.schema.game.clone(),
                listed_segment(&summary),
                format!("{:.1} s", summary.length.as_secs_f64()),
                summary.ticks.to_string(),
                kib,
                listed_state(&summary, lacks_indexes),
            ],
            Err(error) => {
                [file, String::new(), String::new(), String::new(), String::new(), kib, format!("unreadable: {error}")]
            }
        });
    }
    output::line(table)?;
    Ok(())
}

/// What is known without reading all of a file.
fn listed_state(summary: &RecordingSummary, lacks_indexes: bool) -> String {
    let state = summary.state_words(lacks_indexes);
    match &summary.state {
        RecordingState::Damaged(_) => format!("{state}; {}", saved_by_repair(summary)),
        RecordingState::Complete(_) | RecordingState::Incomplete { .. } if lacks_indexes => {
            format!("{state}; {NO_INDEXES}")
        }
        _ => state,
    }
}

/// What is damaged of a recording that has been read from end to end.
fn damage(summary: &RecordingSummary, lacks_indexes: bool) -> Option<String> {
    match &summary.state {
        RecordingState::Damaged(reason) => Some(format!("{reason}; {}", saved_by_repair(summary))),
        _ if lacks_indexes => Some(NO_INDEXES.to_owned()),
        _ if summary.passed_over > 0 => {
            Some(format!("{} keyframes or lines of chat are damaged; all ticks are there", summary.passed_over))
        }
        _ => None,
    }
}

fn saved_by_repair(summary: &RecordingSummary) -> &'static str {
    if summary.ticks > 0 { "`recordings repair` saves the rest" } else { "nothing can be saved" }
}

fn list_json(directory: &Path) -> Result<(), CliError> {
    for Listed { path, bytes, summary, lacks_indexes } in listed(directory)? {
        let mut line = match summary {
            Ok(summary) => summary_json(&summary, lacks_indexes),
            Err(error) => json!({ "state": "unreadable", "state_text": error.to_string() }),
        };
        line["file"] = path.display().to_string().into();
        line["bytes"] = bytes.into();
        line["lacks_indexes"] = lacks_indexes.into();
        output::line(line)?;
    }
    Ok(())
}

fn show(file: &Path) -> Result<(), CliError> {
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    // All of it is read: the indexes of a finished file know nothing of damage before them.
    let summary = recording.scan();
    let lacks_indexes = recording.lacks_indexes();
    let damage = damage(&summary, lacks_indexes);
    let state_words = summary.state_words(lacks_indexes);
    let RecordingSummary { meta, ticks, length, keyframes, state: _, recovered, passed_over: _ } = summary;
    let RecordingMeta {
        session,
        tickwire_version,
        schema,
        settings,
        seed,
        tick_rate,
        epoch,
        created,
        max_players,
        rewind_ms,
        segment,
        terms: _,
    } = meta;
    let chat_lines = chat_lines(&recording);
    let mut table = Table::new();
    table.load_style(NOTHING);
    let rows = [
        ("session", session),
        ("game", format!("{} version {}", schema.game, schema.version)),
        ("schema", schema.hash().to_string()),
        ("created", humantime::format_rfc3339_millis(created).to_string()),
        ("tickwire", tickwire_version),
        ("rate", tick_rate.to_string()),
        ("seats", max_players.to_string()),
        ("rewinds", format!("up to {rewind_ms} ms")),
        ("seed", seed.to_string()),
        ("epoch", epoch.to_string()),
        ("segment", segment_words(&segment, ticks)),
        ("length", format!("{:.1} s, {ticks} ticks", length.as_secs_f64())),
        ("keyframes", keyframes.to_string()),
        ("chat", format!("{chat_lines} lines")),
        ("state", state_words),
    ];
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    for Recovered { tick, epoch, time } in recovered {
        let time = humantime::format_rfc3339_millis(time);
        table.add_row(["recovered".to_owned(), format!("after tick {tick}, at {time}: epoch {epoch} from there on")]);
    }
    match Settings::from_values(&schema, &settings) {
        Ok(settings) => {
            for setting in &schema.settings {
                let value = format!("{} {}", settings.get(&setting.name), setting.quantity.unit);
                table.add_row([format!("settings.{}", setting.name), value]);
            }
        }
        Err(error) => {
            table.add_row(["settings".to_owned(), error.to_string()]);
        }
    }
    output::line(table)?;
    sound(file, damage)
}

/// An error where something is damaged.
fn sound(file: &Path, damage: Option<String>) -> Result<(), CliError> {
    damage.map_or(Ok(()), |problem| Err(CliError::Damaged { path: file.to_owned(), problem }))
}

fn show_json(file: &Path) -> Result<(), CliError> {
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    let summary = recording.scan();
    let lacks_indexes = recording.lacks_indexes();
    let damage = damage(&summary, lacks_indexes);
    let mut line = summary_json(&summary, lacks_indexes);
    line["file"] = file.display().to_string().into();
    line["chat_lines"] = chat_lines(&recording).into();
    line["lacks_indexes"] = lacks_indexes.into();
    line["damaged_and_passed_over"] = summary.passed_over.into();
    output::line(line)?;
    sound(file, damage)
}

fn summary_json(summary: &RecordingSummary, lacks_indexes: bool) -> Value {
    let last_tick = summary.last_tick();
    let RecordingSummary { meta, ticks, length, keyframes, state, recovered, passed_over: _ } = summary;
    let mut line = describe(meta);
    line["ticks"] = (*ticks).into();
    line["keyframes"] = (*keyframes).into();
    line["seconds"] = length.as_secs_f64().into();
    line["state"] = state_name(state).into();
    line["last_tick"] = last_tick.0.into();
    line["state_text"] = summary.state_words(lacks_indexes).into();
    line["recovered"] = recovered.iter().map(recovered_json).collect();
    line
}

/// How many lines that were said are readable.
fn chat_lines(recording: &Recording) -> usize {
    recording.chat().map_or(0, |lines| lines.filter(Result::is_ok).count())
}

fn recovered_json(Recovered { tick, epoch, time }: &Recovered) -> Value {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    json!({ "tick": tick.0, "epoch": epoch, "unix_seconds": seconds })
}

/// As in `3 of sessions/arena-1, ticks 108001 to 162000`; nothing of a recording that is in one file.
fn listed_segment(
    RecordingSummary { meta: RecordingMeta { session, segment, .. }, ticks, state, .. }: &RecordingSummary,
) -> String {
    let is_only = segment.number == 1 && *state != RecordingState::Complete(EndReason::Continued);
    if is_only {
        return String::new();
    }
    format!("{} of {session}, {}", segment.number, ticks_words(segment.first_tick, *ticks))
}

/// As in `3, ticks 108001 to 162000, after arena-1-20260131T184502123Z_00002`.
fn segment_words(Segment { number, first_tick, predecessor }: &Segment, ticks: u64) -> String {
    let after = predecessor.as_ref().map_or(String::new(), |predecessor| format!(", after {predecessor}"));
    format!("{number}, {}{after}", ticks_words(*first_tick, ticks))
}

/// As in `ticks 108001 to 162000`.
fn ticks_words(first_tick: Tick, ticks: u64) -> String {
    if ticks == 0 { "no whole tick".to_owned() } else { format!("ticks {first_tick} to {}", first_tick.0 + ticks - 1) }
}

/// A state for scripts.
const fn state_name(state: &RecordingState) -> &'static str {
    match state {
        RecordingState::Complete(_) => "complete",
        RecordingState::Incomplete { .. } => "incomplete",
        RecordingState::Live => "live",
        RecordingState::Unfinished => "unfinished",
        RecordingState::SetAside(_) => "set_aside",
        RecordingState::Damaged(_) => "damaged",
    }
}

fn repair_all(files: &[PathBuf]) -> Result<(), CliError> {
    if let [file] = files {
        return repair_one(file);
    }
    let mut failed = 0;
    for file in files {
        match repair_one(file) {
            Ok(()) => {}
            Err(error) if output::is_broken_pipe(&error) => return Err(error),
            Err(error) => {
                failed += 1;
                output::complain(&error);
            }
        }
    }
    if failed == 0 { Ok(()) } else { Err(CliError::NotRepaired { failed, files: files.len() }) }
}

fn repair_one(file: &Path) -> Result<(), CliError> {
    // A server that uses the data directory may be about to go on with it, or to delete it.
    let data_dir = fs::canonicalize(file).ok().and_then(|file| Some(file.parent()?.parent()?.to_owned()));
    let _lock = data_dir.map(|data_dir| DirectoryLock::take_if_used(&data_dir)).transpose()?;
    let repaired = repair(file).map_err(CliError::of_recording(file))?;
    output::line(format_args!("{}: {} ticks", repaired.path.display(), repaired.ticks))?;
    if let Some(error) = repaired.lost {
        output::line(format_args!("  the rest is lost: {error}"))?;
    }
    if let Some(kept) = repaired.kept {
        output::line(format_args!("  the damaged file is kept as {}", kept.display()))?;
    }
    Ok(())
}
