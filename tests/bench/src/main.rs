//! The whole-server benchmark: Tickwire beside the least that TCP allows, and beside a plain server on tokio.
//!
//! Each server is a process of its own, driven in turn by the same cheap clients, which are a process, too. docs/benchmark.md
//! says what is measured and how to read it.

#![forbid(unsafe_code)]

mod cases;
mod child;
mod drain;
mod floor;
mod frame;
mod games;
mod host;
mod measure;
mod pace;
mod plain_tokio;
mod report;
mod runner;

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cases::{Case, Choice},
    child::{Role, Said, say},
    report::{CaseReport, Repeats, Report, table},
    runner::{Contender, Times, measure},
};

/// Measures what Tickwire costs beside a bare TCP server, in separate processes on this machine.
#[derive(Debug, clap::Parser)]
#[command(name = "tickwire-bench", version)]
struct Arguments {
    /// Measure the whole grid instead of the few cases that say most
    #[arg(long)]
    full: bool,
    /// A case, such as arena, arena-400, fixed-500-600/60/down or world-50-300; may be given several times
    #[arg(long, value_name = "NAME")]
    case: Vec<Choice>,
    /// How often each case is measured; medians are shown [default: 1; 3 with --full]
    #[arg(long, value_name = "N")]
    repeat: Option<NonZeroU32>,
    /// How long figures are counted each time, in seconds [default: 3; 5 with --full]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<f64>,
    /// How long each server and its clients get before that, in seconds
    #[arg(long, value_name = "S", default_value_t = 1.5, value_parser = seconds)]
    settle: f64,
    /// Measure Tickwire with recordings, too: a server's default, and not the benchmark's
    #[arg(long)]
    recording: bool,
    /// Where to write benchmark.json and benchmark.html
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Name the cases, and measure nothing
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One of the processes of a run.
    #[command(name = child::COMMAND, hide = true)]
    Child {
        /// As JSON.
        role: String,
    },
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err("choose 0.1 to 600".into()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::Child { role }) = &arguments.command {
        let run = serde_json::from_str::<Role>(role).map_err(io::Error::from).and_then(Role::run);
        if let Err(error) = run {
            say(&Said::Failed { message: error.to_string() });
            return ExitCode::FAILURE;
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            show_progress(format_args!("tickwire-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures, and shows it. False: some case has no figures.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let cases = cases::chosen(arguments.full, &arguments.case);
    if arguments.list {
        cases.iter().for_each(|case| show(format_args!("{case}")));
        return Ok(true);
    }
    raise_file_limit()?;
    let repeats = arguments.repeat.map_or(if arguments.full { 3 } else { 1 }, NonZeroU32::get);
    let seconds = arguments.seconds.unwrap_or(if arguments.full { 5.0 } else { 3.0 });
    let times = Times { settle: Duration::from_secs_f64(arguments.settle), count: Duration::from_secs_f64(seconds) };
    if let Some(directory) = &arguments.out {
        fs::create_dir_all(directory)?;
    }

    let mut report = Report { machine: measure::describe_machine(), repeats, seconds, cases: Vec::new() };
    for (i, case) in cases.iter().enumerate() {
        show_progress(format_args!("{} of {}: {case}", i + 1, cases.len()));
        let case = measure_case(case, repeats, times, arguments.recording);
        show(format_args!("{}", table::case(&case)));
        report.cases.push(case);
        // After each case: a long run that is ended early has not been for nothing.
        if let Some(directory) = &arguments.out {
            write(&report, directory)?;
        }
    }
    Ok(report.cases.iter().all(|case| case.errors.is_empty()))
}

fn measure_case(case: &Case, repeats: u32, times: Times, recording: bool) -> CaseReport {
    let contenders = Contender::of(case, recording);
    let (mut figures, mut errors) = (Repeats::new(), Vec::new());
    let mut body_bytes = None;
    for repeat in 0..repeats as usize {
        let mut by_server = BTreeMap::new();
        // The first time Tickwire leads, since the others send what it sent; then everyone leads in turn.
        for i in 0..contenders.len() {
            let contender = contenders[(repeat + i) % contenders.len()];
            let bytes = body_bytes.unwrap_or(frame::BODY_BYTES_MIN);
            match measure(case, contender, bytes, times) {
                Ok(figures) => {
                    if contender == Contender::Tickwire {
                        body_bytes.get_or_insert(figures.payload_bytes_per_message.round() as usize);
                    }
                    by_server.insert(contender, figures);
                }
                Err(error) => errors.push(format!("{contender}: {error}")),
            }
            if body_bytes.is_none() {
                break;
            }
        }
        figures.push(by_server);
    }
    CaseReport::new(case, &contenders, &figures, errors)
}

fn write(report: &Report, directory: &Path) -> io::Result<()> {
    fs::write(directory.join("benchmark.json"), serde_json::to_vec_pretty(report)?)?;
    fs::write(directory.join("benchmark.html"), report::html::page(report))
}

/// Lets this process's children open as many sockets as the system allows at all.
fn raise_file_limit() -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).map_err(io::Error::from)
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn show(text: std::fmt::Arguments<'_>) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "not part of the figures")]
fn show_progress(text: std::fmt::Arguments<'_>) {
    eprintln!("{text}");
}
