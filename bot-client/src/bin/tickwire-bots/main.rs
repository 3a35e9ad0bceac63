//! Headless players for a Tickwire server: load, correctness and latency in one report.

#![forbid(unsafe_code)]

mod screen;
mod watch;

use std::{
    convert::Infallible,
    fs, io,
    net::IpAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::Parser;
use tickwire_client::{
    Resume, Secret, Stripes,
    bots::{self, BehaviourChoice, Report, SwarmConfig, SwarmError, SwarmHandle, Tickets},
    connection::{Conditions, Stalls, Trust},
};
use tickwire_ticket::KeyRing;
use tokio::{runtime, signal, sync::oneshot, time};

use self::screen::{Screen, complain};

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
    #[arg(long, value_name = "N", default_value = "16", value_parser = bots_count)]
    bots: NonZeroUsize,
    /// How long they all play, once the last one has joined.
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    seconds: Duration,
    /// The session, such as arena-1 or sessions/arena-1; without it the server's first.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = session)]
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
    /// Has bots compute their own player ahead of the server, as a real client does, and reports mispredictions; of the
    /// arena's sessions.
    #[arg(long)]
    predict: bool,
    /// Addresses of this machine to connect from; bots take them in turn.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    bind: Vec<IpAddr>,
    /// Makes every round trip so much longer, half of it each way, such as 100ms.
    #[arg(long, value_name = "TIME", value_parser = latency)]
    simulate_latency: Option<Duration>,
    /// Varies round trips by up to so much, up or down, such as 10ms.
    #[arg(long, value_name = "TIME", value_parser = latency)]
    simulate_jitter: Option<Duration>,
    /// Lets nothing pass, in either direction on its own, every so often on average for so long: 2s:200ms.
    #[arg(long, value_name = "EVERY:LENGTH", value_parser = stalls)]
    simulate_stalls: Option<Stalls>,
    /// Streams of each bot on connections of their own, for freshness under loss: 1 to 4, or auto, by the loss that is seen
    /// and the round trip.
    #[arg(long, value_name = "N|auto", default_value = "1")]
    stripes: Stripes,
    /// On how many of them each snapshot is sent, 1 or 2.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=2))]
    snapshot_copies: u32,
    /// Whether bots take their seats back when their connections are lost: on, or off, where a loss is a failure.
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = resume)]
    resume: Resume,
    /// The PEM file of certificates that the server's of an https address is trusted by; without it those of the system.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// How many lines each bot says per minute, beside playing; 0: none.
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(..=60_000))]
    chat_per_minute: u32,
    /// Writes the figures to a file, as flat JSON.
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,
    /// Writes them to a file as a page with plots over time, which needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Watches with so many spectators instead of playing with bots; they check every hash, too.
    #[arg(long, value_name = "N")]
    watch: Option<NonZeroUsize>,
    /// A ticket that lets one bot in, where the server asks for tickets.
    #[arg(long, value_name = "TICKET", conflicts_with = "ticket_keys", value_parser = secret)]
    ticket: Option<Secret>,
    /// A file of ticket keys, by which each bot issues itself a ticket.
    #[arg(long, value_name = "FILE")]
    ticket_keys: Option<PathBuf>,
    /// The server's audience, for those tickets.
    #[arg(long, value_name = "NAME", default_value = "tickwire")]
    ticket_audience: String,
    /// Prints errors only.
    #[arg(long)]
    quiet: bool,
}

/// Whole names have this in front, which need not be typed.
const SESSIONS: &str = "sessions/";

fn session(word: &str) -> Result<String, Infallible> {
    let is_whole = word.is_empty() || word.starts_with(SESSIONS);
    Ok(if is_whole { word.to_owned() } else { format!("{SESSIONS}{word}") })
}

fn secret(word: &str) -> Result<Secret, Infallible> {
    Ok(word.to_owned().into())
}

/// Whom bots take for the server.
fn trust(options: &Options) -> Result<Trust, String> {
    const HTTPS: &str = "https://";
    let Some(file) = &options.tls_ca else { return Ok(Trust::System) };
    let is_encrypted = options.connect.get(..HTTPS.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(HTTPS));
    if !is_encrypted {
        let url = &options.connect;
        return Err(format!(
            "tls_ca: nothing is encrypted with {url}: name the server by {HTTPS}, or leave --tls-ca out"
        ));
    }
    let read = fs::read(file).map(Trust::Certificates);
    read.map_err(|error| format!("tls_ca: {} cannot be read: {error}", file.display()))
}

/// What lets bots in.
fn tickets(options: &Options) -> Result<Tickets, String> {
    if let Some(ticket) = &options.ticket {
        return Ok(Tickets::Given(ticket.clone()));
    }
    let Some(file) = &options.ticket_keys else { return Ok(Tickets::None) };
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let keys = KeyRing::from_jwks(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Tickets::Minted { keys: Arc::new(keys), audience: options.ticket_audience.clone() })
}

fn seconds(word: &str) -> Result<Duration, String> {
    let seconds: f64 = word.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if (0.001..=1e9).contains(&seconds) => Ok(duration),
        _ => Err("choose 0.001 to 1000000000 seconds".to_owned()),
    }
}

/// No machine has ports for more to one server.
const BOTS_MAX: usize = 100_000;

fn bots_count(word: &str) -> Result<NonZeroUsize, String> {
    let count = word.parse().ok().filter(|count: &NonZeroUsize| count.get() <= BOTS_MAX);
    count.ok_or_else(|| format!("choose 1 to {BOTS_MAX} bots; start more from other machines"))
}

/// The longest latency that is simulated: no round trip on earth is longer than this.
const LATENCY_MAX: Duration = Duration::from_secs(10);

fn latency(word: &str) -> Result<Duration, String> {
    match duration(word)? {
        latency if latency <= LATENCY_MAX => Ok(latency),
        _ => Err(format!("choose {} s at most", LATENCY_MAX.as_secs())),
    }
}

fn stalls(word: &str) -> Result<Stalls, String> {
    let (every, length) = word.split_once(':').ok_or("write it as EVERY:LENGTH, such as 2s:200ms")?;
    Stalls::new(duration(every)?, duration(length)?).map_err(|error| error.to_string())
}

fn resume(word: &str) -> Result<Resume, String> {
    match word {
        "on" => Ok(Resume::default()),
        "off" => Ok(Resume::OFF),
        _ => Err("choose on or off".to_owned()),
    }
}

fn duration(word: &str) -> Result<Duration, String> {
    humantime::parse_duration(word).map_err(|error| format!("{word:?}: {error}; write it as 100ms or 2s"))
}

fn threads_for(bots: usize) -> usize {
    bots.div_ceil(BOTS_PER_THREAD).min(thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (trust, tickets) = match trust(&options).and_then(|trust| Ok((trust, tickets(&options)?))) {
        Ok(both) => both,
        Err(error) => {
            complain(&error);
            return EXIT_USAGE.into();
        }
    };
    if let Some(count) = options.watch {
        return watch::watch(
            &options.connect,
            &options.session,
            (&tickets, &trust),
            count,
            options.seconds,
            options.quiet,
        );
    }
    let config = SwarmConfig {
        url: options.connect,
        bots: options.bots.get(),
        duration: options.seconds,
        session: options.session,
        behaviours: options.behaviours,
        seed: options.seed,
        ramp_per_second: options.ramp_per_second,
        threads: options.threads.map_or_else(|| threads_for(options.bots.get()), NonZeroUsize::get),
        predict: options.predict,
        local_addresses: options.bind,
        conditions: Conditions {
            latency: options.simulate_latency.unwrap_or_default(),
            jitter: options.simulate_jitter.unwrap_or_default(),
            stalls: options.simulate_stalls,
            seed: options.seed,
        },
        stripes: options.stripes,
        snapshot_copies: options.snapshot_copies,
        resume: options.resume,
        trust,
        tickets,
        chat_per_minute: options.chat_per_minute,
    };
    let screen = Screen::new(options.quiet, &config);
    if let Err(error) = options.report.iter().chain(&options.html).try_for_each(|file| may_write(file)) {
        screen.error(&error);
        return EXIT_USAGE.into();
    }
    let swarm = SwarmHandle::default();
    let code = match play(config, &swarm, &screen) {
        Ok((report, failures)) => {
            screen.finish(&report, &failures);
            swarm.notes().iter().for_each(|note| screen.note(note));
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
    fs::write(file, text).map_err(|error| cannot_write(file, &error))
}

/// Fails early where a report could not be written late. What a file holds stays until then.
fn may_write(file: &Path) -> Result<(), String> {
    let opened = fs::OpenOptions::new().append(true).create(true).open(file);
    opened.map(drop).map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &io::Error) -> String {
    format!("cannot write the report {}: {error}", file.display())
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
    fn certificates_are_for_servers_that_encrypt() {
        let refused = |words: &str| trust(&parse(words).unwrap()).unwrap_err();
        let plain = refused("--tls-ca server.pem");
        assert!(plain.contains("http://127.0.0.1:7777") && plain.contains("name the server by https://"), "{plain}");
        assert!(refused("--connect HTTPS://a:1 --tls-ca no-such-file").contains("no-such-file cannot be read"));
        assert_eq!(trust(&parse("--connect https://a:1").unwrap()), Ok(Trust::System));
    }

    #[test]
    fn conditions_are_written_with_their_units() {
        let options = parse("--simulate-latency 100ms --simulate-stalls 2s:200ms --bind 127.0.0.2,::1").unwrap();
        assert_eq!((options.simulate_latency, options.simulate_jitter), (Some(Duration::from_millis(100)), None));
        assert_eq!(options.simulate_stalls, Stalls::new(Duration::from_secs(2), Duration::from_millis(200)).ok());
        assert_eq!(options.bind.len(), 2);
        for words in
            ["--simulate-latency 100", "--simulate-latency 11s", "--simulate-stalls 2s", "--simulate-stalls 1s:2s"]
        {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn a_session_may_be_named_by_its_id_alone() {
        let of = |words: &str| parse(words).unwrap().session;
        assert_eq!([of("--session arena-1"), of("--session sessions/arena-1")], ["sessions/arena-1"; 2]);
        assert_eq!(of(""), "");
    }

    #[test]
    fn numbers_that_make_no_swarm_are_refused() {
        for words in ["--stripes 0", "--stripes 5", "--stripes some", "--snapshot-copies 3", "--resume yes"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert_eq!(parse("--stripes auto").unwrap().stripes, Stripes::AUTO);
        assert_eq!(parse("--stripes 3 --snapshot-copies 2").unwrap().stripes, Stripes::Fixed(3));
        assert_eq!(
            [parse("").unwrap().resume, parse("--resume off").unwrap().resume],
            [Resume::default(), Resume::OFF]
        );
        for words in ["--bots 0", "--seconds 0", "--seconds nan", "--seconds -1", "--threads 0", "--behaviour run"] {
            assert!(parse(words).is_err(), "{words}");
        }
        assert_eq!(parse("--seconds 0.5").unwrap().seconds, Duration::from_millis(500));
    }
}
