//! The program: its options, and its voice.

mod age;
mod cases;
mod link;
mod netns;
mod process;
mod programs;
mod relay;
mod report;
mod run;
mod udp;

use std::{
    fmt,
    num::NonZeroU32,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use clap::Parser as _;
use rustix::process::{Signal, geteuid, set_parent_process_death_signal};

use self::{
    cases::Case,
    link::{LinkConfig, Outages},
    process::{CHILD, Supervisor},
    programs::Programs,
    report::Report,
    run::{Contestant, Lab, LabError},
};
use crate::EXIT_SKIPPED;

/// Something did not hold, or could not be run.
const EXIT_FAILED: u8 = 1;

/// Plays the real server with real bots over a bad network of its own, beside UDP over the same network.
///
/// It needs root, and touches nothing of the machine's own network. Exit status: 0 when what must hold on any network held,
/// 1 when it did not, 77 when such a network cannot be made here.
#[derive(Debug, clap::Parser)]
#[command(name = "tickwire-lab", version)]
pub(crate) struct Arguments {
    /// A network by its name; may be given several times [default: all of them, or where options of the network are given
    /// the one that they describe]
    #[arg(long = "case", value_name = "NAME", value_parser = cases::named)]
    cases: Vec<Case>,
    /// Name the networks, and measure nothing
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    network: NetworkOptions,
    /// On how many connections bots play, each number beside the others
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,3,4", value_parser = clap::value_parser!(u32).range(1..=4))]
    stripes: Vec<u32>,
    /// On how many of these each snapshot is sent, where there are more of them
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u32).range(1..=2))]
    copies: Vec<u32>,
    /// How long each network is measured, in seconds
    #[arg(long, value_name = "S", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many bots play in each way
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=200))]
    bots: u32,
    /// How many more players fill the match from beside the server, where nothing is lost
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=200))]
    crowd: u32,
    /// What bots do: see tickwire-bots
    #[arg(long, value_name = "BEHAVIOUR", default_value = "wander")]
    behaviour: String,
    /// Another argument for tickwire-bots; may be given several times
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    bots_argument: Vec<String>,
    /// The congestion control that both ends' systems have by default; the server sets its own [default: this system's]
    #[arg(long, value_name = "NAME")]
    congestion_control: Option<String>,
    /// Ticks per second
    #[arg(long, value_name = "HZ", default_value = "60")]
    hz: NonZeroU32,
    /// The same seed loses the same packets of each player
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Writes all figures to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where tickwire-server and tickwire-bots are [default: beside this program; run by cargo, it builds them first]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Subcommand>,
}

/// What differs from the networks that were named.
#[derive(Debug, Default, clap::Args)]
struct NetworkOptions {
    /// The round trip, in milliseconds
    #[arg(long, value_name = "MS", value_parser = |text: &str| within(text, 0.0..=5000.0))]
    rtt: Option<f64>,
    /// By how much round trips vary, up or down, in milliseconds
    #[arg(long, value_name = "MS", value_parser = |text: &str| within(text, 0.0..=5000.0))]
    jitter: Option<f64>,
    /// Let jitter bring packets out of their order
    #[arg(long)]
    reorder: bool,
    /// Packets lost each way, in percent
    #[arg(long, value_name = "PERCENT", value_parser = |text: &str| within(text, 0.0..=50.0))]
    loss: Option<f64>,
    /// How many packets are lost in a row, on average; 1: each on its own
    #[arg(long, value_name = "N", value_parser = |text: &str| within(text, 1.0..=1000.0))]
    burst: Option<f64>,
    /// What each player's line carries each way, in kbit/s
    #[arg(long, value_name = "KBIT", value_parser = clap::value_parser!(u32).range(8..))]
    bandwidth: Option<u32>,
    /// How much may wait for that, in milliseconds
    #[arg(long, value_name = "MS", value_parser = |text: &str| within(text, 0.0..=10_000.0))]
    queue: Option<f64>,
    /// Total loss, once in each period of so many seconds, for so many milliseconds: 10:500
    #[arg(long, value_name = "S:MS", value_parser = outages)]
    outage: Option<Outages>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Becomes another program, which ends with the thread that started it.
    #[command(name = CHILD, hide = true)]
    Child {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn within(text: &str, range: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match range.contains(&value) {
        true => Ok(value),
        false => Err(format!("choose {} to {}", range.start(), range.end())),
    }
}

fn outages(text: &str) -> Result<Outages, String> {
    let (every, length) = text.split_once(':').ok_or("write it as SECONDS:MILLISECONDS, such as 10:500")?;
    let outages = Outages { every_s: within(every, 0.1..=3600.0)?, length_ms: within(length, 1.0..=3_600_000.0)? };
    match outages.length_ms < outages.every_s * 1e3 {
        true => Ok(outages),
        false => Err("an outage that is as long as its period leaves nothing".to_owned()),
    }
}

impl NetworkOptions {
    fn is_any(&self) -> bool {
        self.applied(LinkConfig::default()) != LinkConfig::default()
            || self.rtt.is_some()
            || self.loss.is_some()
            || self.jitter.is_some()
    }

    fn applied(&self, link: LinkConfig) -> LinkConfig {
        LinkConfig {
            round_trip_ms: self.rtt.unwrap_or(link.round_trip_ms),
            jitter_ms: self.jitter.unwrap_or(link.jitter_ms),
            reorders: self.reorder || link.reorders,
            loss_percent: self.loss.unwrap_or(link.loss_percent),
            burst_packets: self.burst.unwrap_or(link.burst_packets),
            bandwidth_kbit: self.bandwidth.or(link.bandwidth_kbit),
            queue_ms: self.queue.unwrap_or(link.queue_ms),
            outages: self.outage.or(link.outages),
        }
    }
}

impl Arguments {
    /// The networks to measure.
    fn networks(&self) -> Vec<Case> {
        let named = match (self.cases.is_empty(), self.network.is_any()) {
            (true, true) => vec![Case { name: "custom".to_owned(), link: LinkConfig::default() }],
            (true, false) => cases::all(),
            (false, _) => self.cases.clone(),
        };
        let mut cases = named;
        for case in &mut cases {
            let link = self.network.applied(case.link);
            if link != case.link && case.name != "custom" {
                case.name += "-changed";
            }
            case.link = link;
        }
        cases
    }

    /// Who plays beside each other on each network. UDP is always among them.
    fn contestants(&self) -> Vec<Contestant> {
        let mut all = vec![Contestant::Udp];
        for &copies in &self.copies {
            for &stripes in self.stripes.iter().filter(|&&stripes| copies == 1 || stripes > copies) {
                all.push(Contestant::Stripes { stripes, copies });
            }
        }
        all
    }
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Subcommand::Child { program, arguments }) = &arguments.command {
        return become_child(program, arguments);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(LabError::Cannot(reason)) => {
            tell(format_args!("tickwire-lab: skipped: {reason}"));
            ExitCode::from(EXIT_SKIPPED)
        }
        Err(error) => {
            tell(format_args!("tickwire-lab: {error}"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Only returns where it fails.
fn become_child(program: &PathBuf, arguments: &[String]) -> ExitCode {
    let error = match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error.into(),
    };
    tell(format_args!("cannot run {}: {error}", program.display()));
    ExitCode::from(EXIT_FAILED)
}

/// Measures, and shows it. False: something did not hold.
fn run(arguments: &Arguments) -> Result<bool, LabError> {
    let cases = arguments.networks();
    if arguments.list {
        cases.iter().for_each(|case| show(format_args!("{}", case.name)));
        return Ok(true);
    }
    if !geteuid().is_root() {
        let reason = "it needs root, to make network namespaces and TUN devices: build it and run it by sudo";
        return Err(LabError::Cannot(reason.to_owned()));
    }
    let programs = Programs::find(arguments.bin_dir.as_deref())?;
    let mut lab = Lab {
        supervisor: Supervisor::new()?,
        programs,
        contestants: arguments.contestants(),
        bots: arguments.bots,
        crowd: arguments.crowd,
        congestion_control: arguments.congestion_control.clone(),
        behaviour: arguments.behaviour.clone(),
        bots_arguments: arguments.bots_argument.clone(),
        duration: Duration::from_secs(arguments.seconds),
        hz: arguments.hz.get(),
        seed: arguments.seed,
        payload_bytes: None,
    };
    let mut report = Report { hz: lab.hz, seconds: arguments.seconds, seed: lab.seed, cases: Vec::new() };
    for case in &cases {
        let measured = lab.measure(case)?;
        show(format_args!("{}", report::table(&measured)));
        report.cases.push(measured);
        // After each case: a long run that is ended early has not been for nothing.
        if let Some(file) = &arguments.json {
            std::fs::write(file, serde_json::to_vec_pretty(&report).map_err(std::io::Error::from)?)
                .map_err(|source| LabError::Io { what: format!("write {}", file.display()), source })?;
        }
    }
    Ok(report.cases.iter().all(|case| case.broken.is_empty()))
}

#[expect(clippy::print_stdout, reason = "figures are what this program is for")]
fn show(text: fmt::Arguments<'_>) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "not part of the figures")]
fn tell(text: fmt::Arguments<'_>) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("tickwire-lab").chain(words.split_whitespace()))
    }

    #[test]
    fn the_options_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_the_network_change_the_named_ones_or_make_one() {
        assert_eq!(parse("").unwrap().networks(), cases::all());
        let custom = parse("--rtt 80 --loss 1.5 --outage 10:500").unwrap().networks();
        assert_eq!((custom.len(), custom[0].name.as_str()), (1, "custom"));
        assert_eq!(custom[0].link.outages, Some(Outages { every_s: 10.0, length_ms: 500.0 }));
        let changed = parse("--case 50ms-2pc --jitter 10").unwrap().networks();
        assert_eq!((changed[0].name.as_str(), changed[0].link.loss_percent), ("50ms-2pc-changed", 2.0));
        assert_eq!(parse("--case 50ms-2pc").unwrap().networks()[0].name, "50ms-2pc");
    }

    #[test]
    fn snapshots_are_sent_twice_only_where_there_are_more_stripes_than_that() {
        let stripes = |stripes, copies| Contestant::Stripes { stripes, copies };
        assert_eq!(
            parse("--stripes 1,2,3").unwrap().contestants(),
            [Contestant::Udp, stripes(1, 1), stripes(2, 1), stripes(3, 1), stripes(3, 2)]
        );
    }

    #[test]
    fn numbers_that_make_no_network_are_refused() {
        for words in ["--loss 51", "--rtt -1", "--rtt nan", "--burst 0", "--outage 1:1000", "--stripes 5", "--case x"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
