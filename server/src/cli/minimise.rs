//! `recordings minimise`: makes of a recording that fails a small test case.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;
use tickwire_recording::{Failure, Minimised, Recording, game_of, minimise};
use tickwire_shared::Game;

use super::{CliError, new_file::NewFile, output};

#[derive(Debug, clap::Args)]
pub(super) struct MinimiseArgs {
    /// The recording: of a panic, or one that does not replay as it was recorded
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the small recording goes; a file that is there is left alone
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// The most matches that are played on the way
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    runs_max: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Minimises a recording, writes it, and says what to paste into a test.
pub(super) fn run(arguments: &MinimiseArgs, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    let MinimiseArgs { file, output: out, runs_max, json } = arguments;
    let recording = Recording::open(file).map_err(CliError::of_recording(file))?;
    let game = game_of(&recording, games).map_err(CliError::at(file))?;
    // First, so that nothing is played in vain.
    let mut new = NewFile::create(out)?;
    if let Some(error) = recording.ticks().map_err(CliError::of_recording(file))?.find_map(Result::err) {
        output::note(format_args!("{}: {error}; what is made smaller ends there", file.display()));
    }
    let small = quietly(|| minimise(&recording, &game, *runs_max, |size| output::note(format_args!("{size}"))));
    let small = small.map_err(CliError::at(file))?;
    small.write(new.file()).map_err(CliError::at(out))?;
    new.keep()?;
    if *json { print_json(out, &small) } else { print(out, &small) }.map_err(CliError::from)
}

/// Without a message for each of the many panics that are looked for.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}

fn print(out: &Path, small: &Minimised) -> std::io::Result<()> {
    let Minimised { failure, before, after, runs, stopped, .. } = small;
    output::line(format_args!("{}: {failure}", out.display()))?;
    output::line(format_args!("was {before}"))?;
    output::line(format_args!("is  {after}, found in {runs} runs"))?;
    if *failure == Failure::Divergence {
        output::line(
            "It does so each time, so that another build or machine, or the file, is to blame. What that would have made of \
             other inputs nobody knows: only what comes after the tick is cut.",
        )?;
    }
    if *stopped {
        output::line("The runs are used up; more of them (--runs-max) may make it smaller.")?;
    }
    output::line(format_args!("\nFor your tests, with your own game in the place of MyGame:\n\n{}", test(out, small)))
}

fn print_json(out: &Path, small: &Minimised) -> std::io::Result<()> {
    let Minimised { failure, before, after, runs, stopped, .. } = small;
    let size = |size: &tickwire_recording::RecordingSize| json!({ "ticks": size.ticks, "players": size.players, "inputs": size.inputs });
    let (kind, message) = match failure {
        Failure::Panic { message } => ("panic", Some(message)),
        Failure::Chance => ("chance", None),
        Failure::Divergence => ("divergence", None),
    };
    output::line(json!({
        "file": out.display().to_string(), "failure": kind, "message": message, "before": size(before),
        "after": size(after), "runs": runs, "stopped": stopped, "test": test(out, small),
    }))
}

fn test(out: &Path, small: &Minimised) -> String {
    let name = out.file_name().unwrap_or(out.as_os_str()).to_string_lossy();
    small.test(&format!("tests/recordings/{name}"))
}
