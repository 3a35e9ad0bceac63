//! Headless players for a Tickwire server: load, correctness and latency in one report.

#![forbid(unsafe_code)]

mod screen;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use tickwire_client::{
    Stripes,
    bots::{self, BehaviourChoice, Report, SwarmConfig, SwarmError, SwarmHandle},
};
use tokio::{runtime, signal, sync::oneshot, time};

use self::screen::Screen;

/// Every bot that started played to the end, and every mirror agreed with the server.
const EXIT_CLEAN: u8 = 0;
/// A bot failed, or a mirror did not match.
const EXIT_FAILED: u8 = 1;
/// No bot came to play, or the report could not be written. clap exits with it too.
const EXIT_USAGE: u8 = 2;

/// What one thread plays easily; it can do more, but later.
const BOTS_PER_THREAD: usize = 100;
const SCREEN_INTERVAL: Duration = Duration::from_millis(200);

/// Plays a session with headless bots, and reports what they saw.
///
/// Every bot verifies every hash that the server sends. Exit status: 0 when every bot played to the end and every mirror
/// agreed with the server, 1 when a bot failed or a mirror did not agree, 2 when nothing could be played.
#[derive(Debug, Parser)]
#[command(name = "tickwire-bots", version)]
struct Options {
    /// The server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7777")]
    connect: String,
    /// How many bots.
    #[arg(long, value_name = "N", default_value = "16")]
    bots: NonZeroUsize,
    /// How long they all play, once the last one has joined.
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    seconds: Duration,
    /// The session's name, such as sessions/arena-1; without it the server's first.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    session: String,
    /// What bots do: idle, wander, chase, chaos, or trace:FILE with a Doom demo (.lmp) of recorded human input. Of several,
    /// separated by commas or in options of their own, bots take one each in turn: "wander,trace:FILE" is half and half,
    /// and a behaviour that is named twice gets twice the bots.
    #[arg(long = "behaviour", value_name = "BEHAVIOUR", default_value = "wander", value_delimiter = ',')]
    behaviours: Vec<BehaviourChoice>,
    /// The same seed makes the same choices.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// How many bots join per second; 0: all at once.
    #[arg(long, value_name = "N", default_value = "100")]
    ramp_per_second: u32,
    /// On how many threads the bots run; without it on one per 100 bots, but no more than there are cores.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Streams of each bot on connections of their own, for freshness under loss: 1 to 4, or auto, by the loss that is seen
    /// and the round trip.
    #[arg(long, value_name = "N|auto", default_value = "1")]
    stripes: Stripes,
    /// On how many of them each snapshot is sent, 1 or 2.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=2))]
    snapshot_copies: u32,
    /// Writes the figures to a file, as flat JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Writes them to a file as a page with plots over time, which needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Prints errors only.
    #[arg(long)]
    quiet: bool,
}

fn seconds(word: &str) -> Result<Duration, String> {
    let seconds: f64 = word.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if (0.001..=1e9).contains(&seconds) => Ok(duration),
        _ => Err("choose 0.001 to 1000000000 seconds".to_owned()),
    }
}

fn threads_for(bots: usize) -> usize {
    bots.div_ceil(BOTS_PER_THREAD).min(thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let config = SwarmConfig {
        url: options.connect,
        bots: options.bots.get(),
        duration: options.seconds,
        session: options.session,
        behaviours: options.behaviours,
        seed: options.seed,
        ramp_per_second: options.ramp_per_second,
        threads: options.threads.map_or_else(|| threads_for(options.bots.get()), NonZeroUsize::get),
        stripes: options.stripes,
        snapshot_copies: options.snapshot_copies,
    };
    let screen = Screen::new(options.quiet, &config);
    let swarm = SwarmHandle::default();
    let code = match play(config, &swarm, &screen) {
        Ok((report, failures)) => {
            screen.finish(&report, &failures);
            let json = options.report.map(|file| write(&file, &json(&report)));
            let html = options.html.map(|file| write(&file, &report.page(&swarm.seconds())));
            match json.into_iter().chain(html).collect::<Result<(), String>>() {
                Err(error) => {
                    screen.error(&error);
                    EXIT_USAGE
                }
                Ok(()) if report.bots_connected == 0 => EXIT_USAGE,
                Ok(()) if report.is_clean() => EXIT_CLEAN,
                Ok(()) => EXIT_FAILED,
            }
        }
        Err(error) => {
            screen.error(&error.to_string());
            EXIT_USAGE
        }
    };
    code.into()
}

/// Runs the swarm beside the screen; Ctrl-C has the bots leave.
fn play(config: SwarmConfig, handle: &SwarmHandle, screen: &Screen) -> Result<(Report, bots::Failures), SwarmError> {
    let (done, mut finished) = oneshot::channel();
    let swarm = {
        let handle = handle.clone();
        thread::Builder::new().name("swarm".to_owned()).spawn(move || {
            let result = bots::run(&config, &handle);
            // The main thread waits for this; it cannot be gone.
            let _ = done.send(());
            result
        })?
    };
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut interval = time::interval(SCREEN_INTERVAL);
        let mut interrupt = pin!(signal::ctrl_c());
        let mut stopping = false;
        loop {
            tokio::select! {
                _ = &mut finished => break,
                Ok(()) = &mut interrupt, if !stopping => {
                    stopping = true;
                    handle.stop();
                }
                _ = interval.tick() => screen.show(handle),
            }
        }
    });
    swarm.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
}

fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("a report is plain numbers and a map of strings") + "\n"
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("cannot write the report {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(words: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("tickwire-bots").chain(words.split_whitespace()))
    }

    #[test]
    fn the_options_are_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn behaviours_are_a_list_in_one_option_or_in_several() {
        let options = parse("--behaviour wander,trace:a.lmp --behaviour idle").unwrap();
        let words: Vec<String> = options.behaviours.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["wander", "trace:a.lmp", "idle"]);
        assert_eq!(parse("").unwrap().behaviours, [BehaviourChoice::Wander]);
    }

    #[test]
    fn numbers_that_make_no_swarm_are_refused() {
        for words in ["--stripes 0", "--stripes 5", "--stripes some", "--snapshot-copies 3"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert_eq!(parse("--stripes auto").unwrap().stripes, Stripes::AUTO);
        assert_eq!(parse("--stripes 3 --snapshot-copies 2").unwrap().stripes, Stripes::Fixed(3));
        for words in ["--bots 0", "--seconds 0", "--seconds nan", "--seconds -1", "--threads 0", "--behaviour run"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert_eq!(parse("--seconds 0.5").unwrap().seconds, Duration::from_millis(500));
    }
}
