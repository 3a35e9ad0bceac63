//! The command line: `serve`, `replay`, `recordings`, `admin`, `keys`, `soak`.

mod admin;
mod banner;
mod bytes;
mod diff;
mod environment;
mod export;
mod keys;
mod limit_flags;
mod log;
mod minimise;
mod new_file;
mod options;
mod output;
mod recordings;
mod reload;
mod replay;
mod serve;
mod show;
mod soak;
mod soundness;
mod ticks;
mod tls_files;
mod traces;
mod unreadable;
mod values;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use crate::{LogFilterError, RunError, admin::AdminError};
use clap::Parser as _;
use opentelemetry_otlp::ExporterBuildError;
use options::OptionsError;
use tickwire_recording::{
    DiffError, DirectoryLockError, ExportError, RecordingError, SoakError, SystemFinding, VerifyError,
};
use tickwire_shared::{Game, Tick};
use tickwire_simulation::SessionError;

/// What was asked for makes no sense: the code that clap exits with, too.
const USAGE: u8 = 2;
/// What was asked for cannot be done.
const FAILURE: u8 = 1;
/// An interrupted command ends with this code, as shells expect.
const INTERRUPTED: i32 = 130;

/// Hosts matches, and works with their recordings. Without a command it hosts.
#[derive(Debug, clap::Parser)]
#[command(name = "tickwire-server", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: options::ServeFlags,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Host matches until interrupted; what the server does without a command.
    ///
    /// Every option may also come from an environment variable, such as TICKWIRE_TICK_RATE, or from a TOML file; flags go
    /// first, then the environment.
    Serve(Box<options::ServeFlags>),
    /// Play a recording again
    Replay(replay::ReplayArgs),
    /// Look after recordings
    #[command(subcommand)]
    Recordings(recordings::RecordingsCommand),
    /// Look after a running server
    ///
    /// The server is found by its data directory, or by an address and the file of a token.
    Admin(admin::AdminArgs),
    /// Make keys and tickets
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Play a game with random bots in two sessions side by side, and compare them
    Soak(soak::SoakArgs),
}

/// Why a command failed, for whoever ran it.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("{variable}: {0}", variable = log::VARIABLE)]
    LogFilter(#[from] LogFilterError),
    #[error("otlp: {url:?} is no collector that can be spoken to: {source}; write it as http://127.0.0.1:4317")]
    Otlp { url: String, source: ExporterBuildError },
    #[error("{variable}: {} has no certificate: give it one in PEM", .path.display())]
    NoCertificate { variable: &'static str, path: PathBuf },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Run(#[from] RunError),
    /// The same, of an option.
    #[error("{0}")]
    Unsound(soundness::Unsound),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{}: there is a file already, which is left alone: choose another name", .path.display())]
    FileThere { path: PathBuf },
    /// A replay that parts from its recording, and the system that made it.
    #[error("{}: {source}\n  system: {}\n  chance: {}", .path.display(), .finding.evidence, .finding.repeated)]
    Desync { path: PathBuf, source: Box<VerifyError>, finding: Box<SystemFinding> },
    /// An error that names its file itself.
    #[error("{0}")]
    Recording(#[source] RecordingError),
    #[error("{}: damaged: {problem}", .path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("data_dir: there is no directory {}: name a server's by --data-dir or TICKWIRE_DATA_DIR", .0.display())]
    NoDataDir(PathBuf),
    #[error("{0}: end it first")]
    Directory(#[from] DirectoryLockError),
    #[error("ticks {from} to {to}: choose --from no greater than --to")]
    Range { from: u64, to: u64 },
    #[error("{}: there is no tick {tick}: choose {option} {}", .path.display(), ticks::words(*.first, *.last))]
    NoSuchTick { path: PathBuf, option: &'static str, tick: u64, first: u64, last: u64 },
    /// A replay that has shown nothing.
    #[error("{}: nothing was compared: the recording has no outcome of {}", .path.display(), .asked)]
    NothingCompared { path: PathBuf, asked: ticks::AskedTicks },
    #[error("the recordings cannot be compared: {0}")]
    Diff(#[source] DiffError),
    #[error("the recordings differ from tick {tick} on")]
    Differ { tick: Tick },
    /// What keeps recordings from being compared.
    #[error("{0}")]
    Trouble(#[source] Box<Self>),
    #[error("a table has fields, inputs or events: choose --only one of them for csv")]
    TwoTables,
    /// What the recording has nothing of.
    #[error("{}: {source}", .path.display())]
    Selection { path: PathBuf, source: ExportError },
    #[error("--dump-tick shows a tick of one recording; {files} are given")]
    DumpOfMany { files: usize },
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    #[error("{0}")]
    Usage(String),
    #[error("{game}: {source}")]
    Soak { game: String, source: SoakError },
    #[error(
        "--rebuild-every: {every} is not less than --ticks, {ticks}, so that no tick would be compared after a rebuild: \
         choose a smaller one, or 0 for none"
    )]
    NoRebuild { every: u64, ticks: u64 },
    #[error(
        "{game} saves nothing, so that it has no keyframes, and nothing was rebuilt: see Game::saves; --rebuild-every 0 \
         compares two sessions side by side alone"
    )]
    NothingSaved { game: String },
    #[error(transparent)]
    Admin(#[from] admin::AdminCliError),
    #[error("{failed} of {files} recordings cannot be repaired")]
    NotRepaired { failed: usize, files: usize },
    #[error("{failed} of {files} recordings do not replay")]
    SomeFailed { failed: usize, files: usize },
    // Not transparent, so that it is its own source: see `output::is_broken_pipe`.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl CliError {
    /// Names the file that is to blame.
    fn at<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl Fn(E) -> Self + '_ {
        move |source| Self::File { path: path.to_owned(), source: Box::new(source) }
    }

    /// As [`at`](Self::at), where the error does not name a file already.
    fn of_recording(path: &Path) -> impl Fn(RecordingError) -> Self + '_ {
        move |source| match source {
            RecordingError::Io { .. } | RecordingError::InUse { .. } | RecordingError::InTheWay { .. } => {
                Self::Recording(source)
            }
            source => Self::at(path)(source),
        }
    }

    /// What a program that fails so exits with.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Run(error) => ExitCode::from(run_code(error)),
            Self::Unsound(unsound) => ExitCode::from(run_code(&unsound.source)),
            Self::Options(_)
            | Self::LogFilter(_)
            | Self::Otlp { .. }
            | Self::NoCertificate { .. }
            | Self::Usage(_)
            | Self::Soak { source: SoakError::Session(SessionError::Settings(_)), .. }
            | Self::Keys(_)
            | Self::Trouble(_)
            | Self::Range { .. }
            | Self::NoSuchTick { .. }
            | Self::NoRebuild { .. }
            | Self::TwoTables
            | Self::Selection { .. }
            | Self::DumpOfMany { .. } => ExitCode::from(USAGE),
            Self::Listen { .. }
            | Self::Soak { .. }
            | Self::File { .. }
            | Self::FileThere { .. }
            | Self::NoDataDir(_)
            | Self::Desync { .. }
            | Self::Recording(_)
            | Self::Damaged { .. }
            | Self::Diff(_)
            | Self::Differ { .. }
            | Self::Directory(_)
            | Self::NotRepaired { .. }
            | Self::SomeFailed { .. }
            | Self::NothingSaved { .. }
            | Self::NothingCompared { .. }
            | Self::Io(_) => ExitCode::FAILURE,
            Self::Admin(error) => ExitCode::from(error.exit_code()),
        }
    }
}

/// What a program exits with whose server does not start.
fn run_code(error: &RunError) -> u8 {
    match error {
        RunError::Config(_)
        | RunError::UnknownGame { .. }
        | RunError::Admin(AdminError::Tokens { .. })
        | RunError::GameTwice(_)
        | RunError::Session { source: SessionError::Settings(_), .. } => USAGE,
        _ => FAILURE,
    }
}

/// The whole server as a program: reads the command line, runs the command, and says how it went. The first of `games` is
/// hosted where none is asked for.
pub fn cli_main(games: Vec<Arc<dyn Game>>) -> ExitCode {
    run(std::env::args_os(), games)
}

fn run(arguments: impl IntoIterator<Item = OsString>, games: Vec<Arc<dyn Game>>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        // Help and version come this way, too, with code 0.
        Err(error) => {
            // Where even that cannot be printed, the code still says it.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX));
        }
    };
    let result = match cli.command.unwrap_or(Command::Serve(Box::new(cli.serve))) {
        Command::Serve(flags) => serve::serve(&flags, games),
        Command::Replay(arguments) => replay::replay(&arguments, &games),
        Command::Recordings(command) => recordings::run(&command, &games),
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Keys(command) => keys::run(&command),
        Command::Soak(arguments) => soak::run(&arguments, &games),
    };
    log::finish();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            error.exit_code()
        }
    }
}
