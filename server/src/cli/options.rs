//! The options of `serve`: flags, before environment variables, before a TOML file, before defaults; read once, into what
//! cannot be wrong.

#[cfg(test)]
mod tests;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Map, Value},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tickwire_recording::{Durability, Retention};
use tickwire_replication::STRIPES_MAX;
use tickwire_shared::{REWIND_MS_MAX, TickRate};

use super::{
    environment,
    further_limits::{FurtherLimitFlags, FurtherLimitOptions},
    limit_flags::LimitFlags,
    log,
    time_flags::{TimeFlags, TimeOptions},
    unreadable::{self, Unreadable},
    values::{self, Listen, OnOff},
};
use crate::{
    config::{
        AdminConfig, BYTES_PER_SECOND_MIN, ConfigError, EMPTY_TIMEOUT_MAX, EMPTY_TIMEOUT_MIN, Limits, RecordingConfig,
        SPECTATOR_DELAY_MAX, ServerConfig, TlsFiles,
    },
    identity::{Auth, IdentityConfig},
    log_control::{self, LogFilterError},
    session::DELAY_IN_MEMORY_MAX,
};

/// What every environment variable of the server begins with.
pub(super) const ENV_PREFIX: &str = "TICKWIRE_";
/// The options that SIGHUP reads anew: of the others a server says that they need a restart.
pub(super) const RELOADABLE: &[&str] = &[
    "sessions_max",
    "sessions_per_creator_max",
    "connections_max",
    "connections_per_address_max",
    "streams_per_connection_max",
    "requests_per_connection_max",
    "requests_per_second_max",
    "joins_per_second_max",
    "joins_burst_max",
    "joins_per_second_per_address_max",
    "joins_burst_per_address_max",
    "messages_per_second_max",
    "messages_burst_max",
    "received_bytes_per_second_max",
    "received_bytes_burst_max",
    "max_downloads",
    "limit_loopback",
    "bytes_per_second",
    "bytes_per_second_max",
    "stripes_max",
    "max_spectators",
    "max_replays",
    "frames_per_second_max",
    "control_frames_per_second_max",
    "header_list_bytes_max",
    "resets_pending_max",
    "faulty_streams_max",
    "listings_max",
    "view_radius_metres_max",
    "log",
];
/// The most sessions of a game: each has a world, a recording and three seconds of history of its own.
const SESSIONS_MAX: u32 = 1000;
const THREADS_MIN: usize = 1;
/// More than any machine has cores for; each costs memory and files.
const THREADS_MAX: usize = 1024;
/// A recording that ends with less is of no use: its header alone takes some KiB.
const RECORDING_BYTES_MIN: u64 = 65_536;
const DRAIN_SECONDS_MAX: u32 = 24 * 60 * 60;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Where used tickets are noted, below the data directory.
const USED_TICKETS: &str = "used-tickets";
/// By which all programs are told of a collector, and of the protocol that it speaks.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// Where recordings are, below the data directory.
const RECORDINGS: &str = "recordings";

/// The flags of `serve`. Names and meanings are those of the options in [`Options`].
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct ServeFlags {
    /// Where to listen [default: 127.0.0.1:7777]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    /// Listen beyond this machine though nothing is encrypted, or nobody is asked who they are
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    insecure: bool,
    /// The PEM file of the server's certificate and those behind it: connections are encrypted then
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert: Option<PathBuf>,
    /// The PEM file of its private key
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
    /// Who may come in: anybody (open), or who has a ticket (ticket) [default: open]
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<AuthOption>,
    /// The keys that tickets are signed with, as a JSON Web Key Set: see `keys new-ticket-key`
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket_keys: Option<PathBuf>,
    /// The `aud` of tickets that are for this server [default: tickwire]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket_audience: Option<String>,
    /// API keys, whose bearers alone may change sessions then: a name and a hash per line, see `keys new-api-key`
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    api_keys: Option<PathBuf>,
    /// Hosts that requests may be for, as NAME, NAME:PORT, or * for any [default: this machine's own on loopback, else any]
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_hosts: Vec<String>,
    /// Origins of web pages that may make requests, such as https://example.com [default: none]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_origins: Vec<String>,
    /// Where to listen for admins, or off; the address is in `admin.address` in the data directory, and the token beside it
    /// [default: 127.0.0.1:0, a free port]
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_listen: Option<Listen>,
    /// The file of admins' tokens [default: the server makes one token at its start]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_tokens: Option<PathBuf>,
    /// Seconds that players have to come to an end after SIGTERM, 0 to 86400; none are waited for where nobody plays
    /// [default: 25]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_seconds: Option<u32>,
    /// The game to host; may be given several times [default: the first of the build]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    game: Vec<String>,
    /// Sessions of each game that start with the server, 0 to 1000 [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u32>,
    /// Whether callers may create sessions [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    create_sessions: Option<OnOff>,
    /// Sessions of the server at which callers create no more, 1 to 1000 [default: 256]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_max: Option<usize>,
    /// Sessions that one caller has created and that still run, at which it creates no more [default: 64]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_per_creator_max: Option<usize>,
    /// Seconds for which a created session goes on without anybody in it, where its creator does not say, 1 to 86400
    /// [default: 300]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_timeout_seconds: Option<u32>,
    /// Ticks per second, 1 to 240 [default: 60]
    #[arg(long, value_name = "HZ")]
    #[serde(skip_serializing_if = "Option::is_none")]
    tick_rate: Option<u32>,
    /// Seats of each session [default: 256]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_players: Option<u32>,
    /// How far a session rewinds at most for what a shooter saw, in milliseconds, 0 to 1000 [default: 250]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rewind_ms: Option<u32>,
    /// A setting of the game, such as cover=0; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<String>,
    /// Where the server keeps its files; recordings in its `recordings` [default: ./tickwire-data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Whether matches are recorded [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recordings: Option<OnOff>,
    /// Whether matches go on that a killed server has left unfinished [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<OnOff>,
    /// Whether recordings have what players say to each other, too [default: on]
    #[arg(long, value_name = "ON|OFF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    record_chat: Option<OnOff>,
    /// What a recording survives: none; a killed server (flush); a loss of power, too, but for a second (sync)
    /// [default: sync]
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<DurabilityOption>,
    /// Bytes of a running session's recording at which it ends, where it cannot go on in another file, 65536 or more; 0: any
    /// [default: 4294967296]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recording_bytes_max: Option<u64>,
    /// Bytes of a running session's recording from which on it goes on in another file, at the next keyframe, 65536 or more;
    /// 0: any [default: 268435456]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_bytes: Option<u64>,
    /// Minutes of a match after which its recording goes on in another file; 0: any [default: 60]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_minutes: Option<u32>,
    /// Seconds of a match between two keyframes of its recording, at which replays can begin; 0: none [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keyframe_seconds: Option<u32>,
    /// Bytes of recordings to keep: the oldest finished ones are deleted; 0: any [default: 17179869184]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_bytes: Option<u64>,
    /// Finished recordings to keep, the newest; 0: any number [default: 10000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_count: Option<usize>,
    /// Days for which finished recordings are kept; 0: for ever [default: 0]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    retain_days: Option<u32>,
    /// Where randomness starts: the same seed and inputs give the same match [default: another at each start]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Threads that step sessions, 1 to 1024, never more than there are sessions [default: one per core]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    simulation_threads: Option<usize>,
    /// Threads that serve connections, 1 to 1024 [default: one per core]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    network_threads: Option<usize>,
    /// Bytes of snapshots per second that a client gets who does not ask, 4096 or more [default: 1048576]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<u32>,
    /// The most bytes of snapshots per second that a client can ask for [default: 4194304]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second_max: Option<u32>,
    /// Streams on separate connections that one player may have, for freshness under loss, 1 to 4 [default: 4]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stripes_max: Option<usize>,
    /// How much later than players spectators see a match, in seconds, 0 to 3600; more than 10 takes recordings
    /// [default: 0]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    spectator_delay_seconds: Option<u32>,
    /// Spectators of each session; 0: none [default: 64]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_spectators: Option<usize>,
    /// Spectators of the server who are in the past at once: each takes a thread that plays a recording [default: 8]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_replays: Option<usize>,
    /// List, send and replay recordings to whoever asks
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recordings_public: bool,
    /// Where to answer /metrics, /healthz and /readyz to whoever asks [default: on this machine, where admins are listened for]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_listen: Option<SocketAddr>,
    /// The OpenTelemetry collector that traces are sent to by OTLP over gRPC, such as http://127.0.0.1:4317
    /// [default: what OTEL_EXPORTER_OTLP_ENDPOINT says]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp: Option<String>,
    /// How log lines are written to standard error [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    #[serde(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    #[serde(flatten)]
    further_limits: FurtherLimitFlags,
    #[command(flatten)]
    #[serde(flatten)]
    times: TimeFlags,
    /// Which log lines are written: a level, error to trace, or several by module as in info,tickwire_server=debug
    /// [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// A TOML file with options, named as the flags with `_` for `-`
    #[arg(long, value_name = "FILE", env = "TICKWIRE_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Print all options and where each comes from, and exit
    #[arg(long)]
    #[serde(skip)]
    pub(super) print_config: bool,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// Who may come in, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuthOption {
    Open,
    Ticket,
}

/// What a recording survives, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DurabilityOption {
    None,
    Flush,
    Sync,
}

impl From<DurabilityOption> for Durability {
    fn from(option: DurabilityOption) -> Self {
        match option {
            DurabilityOption::None => Self::None,
            DurabilityOption::Flush => Self::Flush,
            DurabilityOption::Sync => Self::Sync,
        }
    }
}

/// All options of `serve`, as they are written.
#[derive(Debug, Default, Serialize)]
struct AllOptions {
    #[serde(flatten)]
    main: Options,
    #[serde(flatten)]
    further_limits: FurtherLimitOptions,
    #[serde(flatten)]
    times: TimeOptions,
}

impl AllOptions {
    /// Those that are given, each of which must be one of `known`.
    fn read(given: &Figment, known: &[&str]) -> Result<Self, figment::Error> {
        let values: Dict = given.extract()?;
        if let Some(strange) = values.into_keys().find(|name| !known.contains(&name.as_str())) {
            let metadata = given.find_metadata(&strange).cloned();
            let mut error = figment::Error::from(Kind::UnknownField(strange, &[]));
            error.metadata = metadata;
            return Err(error);
        }
        Ok(Self { main: given.extract()?, further_limits: given.extract()?, times: given.extract()? })
    }
}

/// Those of no group of its own.
#[derive(Debug, Serialize, Deserialize)]
struct Options {
    listen: SocketAddr,
    #[serde(deserialize_with = "values::flag")]
    insecure: bool,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    auth: AuthOption,
    ticket_keys: Option<PathBuf>,
    ticket_audience: String,
    api_keys: Option<PathBuf>,
    #[serde(deserialize_with = "values::one_or_many")]
    allowed_hosts: Vec<String>,
    #[serde(deserialize_with = "values::one_or_many")]
    allowed_origins: Vec<String>,
    admin_listen: Listen,
    admin_tokens: Option<PathBuf>,
    drain_seconds: u32,
    #[serde(deserialize_with = "values::one_or_many")]
    game: Vec<String>,
    sessions: u32,
    create_sessions: OnOff,
    sessions_max: usize,
    sessions_per_creator_max: usize,
    empty_timeout_seconds: u32,
    tick_rate: u32,
    max_players: u32,
    rewind_ms: u32,
    #[serde(deserialize_with = "values::pairs")]
    set: Vec<String>,
    data_dir: PathBuf,
    recordings: OnOff,
    recovery: OnOff,
    record_chat: OnOff,
    durability: DurabilityOption,
    recording_bytes_max: u64,
    segment_bytes: u64,
    segment_minutes: u32,
    keyframe_seconds: u32,
    retain_bytes: u64,
    retain_count: usize,
    retain_days: u32,
    seed: Option<u64>,
    simulation_threads: Option<usize>,
    network_threads: Option<usize>,
    bytes_per_second: u32,
    bytes_per_second_max: u32,
    stripes_max: usize,
    spectator_delay_seconds: u32,
    max_spectators: usize,
    max_replays: usize,
    #[serde(deserialize_with = "values::flag")]
    recordings_public: bool,
    metrics_listen: Option<SocketAddr>,
    otlp: Option<String>,
    connections_max: usize,
    connections_per_address_max: usize,
    streams_per_connection_max: usize,
    requests_per_connection_max: u32,
    requests_per_second_max: u32,
    joins_per_second_max: u32,
    joins_burst_max: u32,
    joins_per_second_per_address_max: u32,
    joins_burst_per_address_max: u32,
    messages_per_second_max: u32,
    messages_burst_max: u32,
    received_bytes_per_second_max: u32,
    received_bytes_burst_max: u32,
    max_downloads: usize,
    #[serde(deserialize_with = "values::flag")]
    limit_loopback: bool,
    log: String,
    log_format: LogFormat,
}

impl Default for Options {
    fn default() -> Self {
        let config = ServerConfig::default();
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7777)),
            insecure: false,
            tls_cert: None,
            tls_key: None,
            auth: AuthOption::Open,
            ticket_keys: None,
            ticket_audience: config.identity.ticket_audience,
            api_keys: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            admin_listen: Listen::At(SocketAddr::from(([127, 0, 0, 1], 0))),
            admin_tokens: None,
            drain_seconds: 25,
            game: config.games,
            sessions: config.sessions,
            create_sessions: OnOff::On,
            sessions_max: config.limits.sessions_max,
            sessions_per_creator_max: config.limits.sessions_per_creator_max,
            empty_timeout_seconds: 300,
            tick_rate: config.tick_rate.hz(),
            max_players: config.max_players.get(),
            rewind_ms: config.rewind_ms,
            set: Vec::new(),
            data_dir: default_data_dir(),
            recordings: OnOff::On,
            recovery: OnOff::On,
            record_chat: OnOff::On,
            durability: DurabilityOption::Sync,
            recording_bytes_max: config.recording.bytes_max,
            segment_bytes: config.recording.segment_bytes.map_or(0, NonZeroU64::get),
            segment_minutes: 60,
            keyframe_seconds: 10,
            retain_bytes: config.recording.retention.bytes_max,
            retain_count: config.recording.retention.count_max,
            retain_days: 0,
            seed: config.seed,
            simulation_threads: None,
            network_threads: None,
            bytes_per_second: config.limits.bytes_per_second_default.get(),
            bytes_per_second_max: config.limits.bytes_per_second_max.get(),
            stripes_max: config.limits.stripes_max.get(),
            spectator_delay_seconds: 0,
            max_spectators: config.limits.spectators_max,
            max_replays: config.limits.replays_max,
            recordings_public: config.recordings_public,
            metrics_listen: None,
            otlp: None,
            connections_max: config.limits.connections_max,
            connections_per_address_max: config.limits.connections_per_address_max,
            streams_per_connection_max: config.limits.streams_per_connection_max,
            requests_per_connection_max: config.limits.requests_per_connection_max,
            requests_per_second_max: config.limits.requests_per_second_max.get(),
            joins_per_second_max: config.limits.joins_per_second_max.get(),
            joins_burst_max: config.limits.joins_burst_max.get(),
            joins_per_second_per_address_max: config.limits.joins_per_second_per_address_max.get(),
            joins_burst_per_address_max: config.limits.joins_burst_per_address_max.get(),
            messages_per_second_max: config.limits.messages_per_second_max.get(),
            messages_burst_max: config.limits.messages_burst_max.get(),
            received_bytes_per_second_max: config.limits.received_bytes_per_second_max.get(),
            received_bytes_burst_max: config.limits.received_bytes_burst_max.get(),
            max_downloads: config.limits.downloads_max,
            limit_loopback: config.limits.limit_loopback,
            log: log::DEFAULT.to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// What `serve` runs with.
#[derive(Clone, Debug)]
pub(super) struct ServeConfig {
    /// On this machine alone, unless the operator has said that anything goes.
    pub(super) listen: SocketAddr,
    pub(super) log_format: LogFormat,
    /// Where traces are sent.
    pub(super) otlp: Option<String>,
    /// How long players have after SIGTERM.
    pub(super) drain: Duration,
    /// Which log lines are written: a filter that can be read.
    pub(super) log: String,
    pub(super) server: ServerConfig,
}

/// An option that the server cannot run with.
#[derive(Debug, thiserror::Error)]
pub(super) enum OptionsError {
    #[error("config: there is no file {}", .0.display())]
    NoFile(PathBuf),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Environment(#[from] environment::EnvironmentError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{option}: {value} {problem}{origin}")]
    Invalid { option: &'static str, value: String, problem: String, origin: String },
}

/// The data directory of those who name none.
pub(super) fn default_data_dir() -> PathBuf {
    PathBuf::from("./tickwire-data")
}

/// Where a data directory's recordings are.
pub(super) fn recordings_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(RECORDINGS)
}

/// Options with their origins.
pub(super) struct Layers(Figment);

impl Layers {
    /// Puts the flags over the environment, over the file, over the defaults.
    pub(super) fn new(flags: &ServeFlags) -> Result<Self, OptionsError> {
        Self::over(flags, &std::env::vars_os().collect::<Vec<_>>())
    }

    /// The same over an environment of these variables.
    fn over(flags: &ServeFlags, variables: &[(OsString, OsString)]) -> Result<Self, OptionsError> {
        let defaults =
            Figment::from(Layer { origin: "default", provider: Serialized::defaults(AllOptions::default()) });
        let mut figment = defaults.clone();
        if let Some(file) = &flags.config {
            if !file.is_file() {
                return Err(OptionsError::NoFile(file.clone()));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let known = as_json(&AllOptions::default());
        let names = names(&known);
        environment::check(variables.iter().map(|(name, _)| name.clone()), &names)?;
        // Where there is a collector, all programs are told of it so: unless by another protocol.
        let variable =
            |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str());
        if let Some(endpoint) = variable(OTLP_ENDPOINT).and_then(OsStr::to_str)
            && variable(OTLP_PROTOCOL).is_none_or(|protocol| protocol == "grpc")
        {
            figment = figment.merge(Layer { origin: OTLP_ENDPOINT, provider: Serialized::default("otlp", endpoint) });
        }
        let takes = |option: &str, value: &Value| {
            let alone = defaults.clone().merge(Serialized::default(option, value));
            AllOptions::read(&alone, &names).is_ok()
        };
        let variables = environment::values(variables, &names, takes)?;
        figment = figment.merge(Layer { origin: ENV_PREFIX, provider: Serialized::defaults(variables) });
        Ok(Self(figment.merge(Layer { origin: "flag", provider: Serialized::defaults(flags) })))
    }

    fn read(&self) -> Result<AllOptions, Unreadable> {
        let known = as_json(&AllOptions::default());
        let names = names(&known);
        AllOptions::read(&self.0, &names).map_err(|error| Unreadable::new(error, &names))
    }

    /// What is wrong with an option, and where it comes from.
    pub(super) fn invalid(
        &self,
        option: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> OptionsError {
        let origin = format!(" (from {})", self.origin(option));
        OptionsError::Invalid { option, value: value.to_string(), problem: problem.into(), origin }
    }

    /// The number of an option, if it is within a range.
    pub(super) fn within<N: PartialOrd + fmt::Display>(
        &self,
        option: &'static str,
        number: N,
        range: RangeInclusive<N>,
    ) -> Result<N, OptionsError> {
        if range.contains(&number) {
            return Ok(number);
        }
        let problem = format!("is out of range: choose {} to {}", range.start(), range.end());
        Err(self.invalid(option, number, problem))
    }

    /// What they come to, if the server can run with it.
    pub(super) fn resolve(&self) -> Result<ServeConfig, OptionsError> {
        let AllOptions { main: options, further_limits, times } = self.read()?;
        let timeouts = times.resolve(self)?;
        let invalid = |option, value: String, problem: String| self.invalid(option, value, problem);
        let at_least_one = |option| move |_| invalid(option, "0".into(), "is too few: choose 1 or more".into());
        let threads = |option, count: Option<usize>| match count.map(|count| (count, NonZeroUsize::new(count))) {
            None => Ok(None),
            Some((THREADS_MIN..=THREADS_MAX, count)) => Ok(count),
            Some((count, _)) => {
                let problem = format!("is out of range: choose {THREADS_MIN} to {THREADS_MAX}");
                Err(invalid(option, count.to_string(), problem))
            }
        };

        let tls = match (options.tls_cert.clone(), options.tls_key.clone()) {
            (None, None) => None,
            (Some(certificates), Some(key)) => Some(TlsFiles { certificates, key, client_authorities: None }),
            (Some(path), None) => {
                let problem = "needs the private key that belongs to it: name it with tls_key";
                return Err(invalid("tls_cert", path.display().to_string(), problem.into()));
            }
            (None, Some(path)) => {
                let problem = "needs the certificate that belongs to it: name it with tls_cert";
                return Err(invalid("tls_key", path.display().to_string(), problem.into()));
            }
        };
        if let Some(problem) = exposure(&options) {
            return Err(invalid("listen", options.listen.to_string(), problem));
        }
        if options.auth == AuthOption::Ticket && options.ticket_keys.is_none() {
            let problem = "takes keys to look at tickets with: name a file by --ticket-keys".to_owned();
            return Err(invalid("auth", "ticket".to_owned(), problem));
        }
        let admin_listen = match options.admin_listen {
            Listen::Off => None,
            Listen::At(address) if !address.ip().is_loopback() && !options.insecure => {
                let problem = "can be reached from other machines, but nothing is encrypted, so that a token can be read on \
                               the way: listen on 127.0.0.1 or [::1], or say --insecure where you trust the network";
                return Err(invalid("admin_listen", address.to_string(), problem.into()));
            }
            Listen::At(address) => Some(address),
        };
        if options.drain_seconds > DRAIN_SECONDS_MAX {
            let problem = format!("is out of range: choose 0 to {DRAIN_SECONDS_MAX}");
            return Err(invalid("drain_seconds", options.drain_seconds.to_string(), problem));
        }
        let drain = Duration::from_secs(options.drain_seconds.into());
        let tick_rate = TickRate::new(options.tick_rate).map_err(|_| {
            invalid("tick_rate", options.tick_rate.to_string(), "is out of range: choose 1 to 240".into())
        })?;
        let is_collector = |url: &&String| url.starts_with("http://") || url.starts_with("https://");
        if let Some(url) = options.otlp.as_ref().filter(|url| !is_collector(url)) {
            let problem = "is no address of a collector that can be spoken to: write http://HOST:PORT or https://HOST:PORT, \
                           such as http://127.0.0.1:4317";
            return Err(invalid("otlp", format!("{url:?}"), problem.into()));
        }
        if options.sessions > SESSIONS_MAX {
            let problem = format!("are too many: choose 0 to {SESSIONS_MAX}");
            return Err(invalid("sessions", options.sessions.to_string(), problem));
        }
        if !(1..=SESSIONS_MAX as usize).contains(&options.sessions_max) {
            let problem = format!("is out of range: choose 1 to {SESSIONS_MAX}");
            return Err(invalid("sessions_max", options.sessions_max.to_string(), problem));
        }
        let empty_timeout = Duration::from_secs(options.empty_timeout_seconds.into());
        if !(EMPTY_TIMEOUT_MIN..=EMPTY_TIMEOUT_MAX).contains(&empty_timeout) {
            let problem = format!("is out of range: choose 1 to {}", EMPTY_TIMEOUT_MAX.as_secs());
            return Err(invalid("empty_timeout_seconds", options.empty_timeout_seconds.to_string(), problem));
        }
        if options.rewind_ms > REWIND_MS_MAX {
            let problem = format!("is out of range: choose 0 to {REWIND_MS_MAX}");
            return Err(invalid("rewind_ms", options.rewind_ms.to_string(), problem));
        }
        let bytes = |option, bytes| match NonZeroU32::new(bytes) {
            Some(bytes) if bytes >= BYTES_PER_SECOND_MIN => Ok(bytes),
            _ => Err(invalid(option, bytes.to_string(), format!("are too few: choose {BYTES_PER_SECOND_MIN} or more"))),
        };
        if options.bytes_per_second > options.bytes_per_second_max {
            let problem = format!(
                "are more than bytes_per_second_max, {}: lower it, or raise that",
                options.bytes_per_second_max
            );
            return Err(invalid("bytes_per_second", options.bytes_per_second.to_string(), problem));
        }
        let stripes_max = NonZeroUsize::new(options.stripes_max).filter(|stripes| stripes.get() <= STRIPES_MAX);
        let rate = |option, count: u32| NonZeroU32::try_from(count).map_err(at_least_one(option));
        let limits = Limits {
            stripes_max: stripes_max.ok_or_else(|| {
                let problem = format!("is out of range: choose 1 to {STRIPES_MAX}");
                invalid("stripes_max", options.stripes_max.to_string(), problem)
            })?,
            bytes_per_second_default: bytes("bytes_per_second", options.bytes_per_second)?,
            bytes_per_second_max: bytes("bytes_per_second_max", options.bytes_per_second_max)?,
            sessions_max: options.sessions_max,
            sessions_per_creator_max: options.sessions_per_creator_max,
            spectators_max: options.max_spectators,
            replays_max: options.max_replays,
            connections_max: options.connections_max,
            connections_per_address_max: options.connections_per_address_max,
            streams_per_connection_max: options.streams_per_connection_max,
            requests_per_connection_max: options.requests_per_connection_max,
            requests_per_second_max: rate("requests_per_second_max", options.requests_per_second_max)?,
            joins_per_second_max: rate("joins_per_second_max", options.joins_per_second_max)?,
            joins_burst_max: rate("joins_burst_max", options.joins_burst_max)?,
            joins_per_second_per_address_max: rate(
                "joins_per_second_per_address_max",
                options.joins_per_second_per_address_max,
            )?,
            joins_burst_per_address_max: rate("joins_burst_per_address_max", options.joins_burst_per_address_max)?,
            messages_per_second_max: rate("messages_per_second_max", options.messages_per_second_max)?,
            messages_burst_max: rate("messages_burst_max", options.messages_burst_max)?,
            received_bytes_per_second_max: rate(
                "received_bytes_per_second_max",
                options.received_bytes_per_second_max,
            )?,
            received_bytes_burst_max: rate("received_bytes_burst_max", options.received_bytes_burst_max)?,
            downloads_max: options.max_downloads,
            limit_loopback: options.limit_loopback,
            ..further_limits.resolve(self)?
        };
        let spectator_delay = Duration::from_secs(options.spectator_delay_seconds.into());
        let wrong_delay = match options.recordings {
            OnOff::On => (spectator_delay > SPECTATOR_DELAY_MAX).then_some("is out of range: choose 0 to 3600"),
            OnOff::Off => (spectator_delay > DELAY_IN_MEMORY_MAX).then_some(
                "is more than 10, and without recordings no more is kept: choose less, or recordings = \"on\"",
            ),
        };
        if let Some(problem) = wrong_delay {
            let value = options.spectator_delay_seconds.to_string();
            return Err(invalid("spectator_delay_seconds", value, problem.into()));
        }
        let recording_bytes_max = match options.recording_bytes_max {
            0 => u64::MAX,
            bytes @ RECORDING_BYTES_MIN.. => bytes,
            bytes => {
                let problem = format!("are too few: choose {RECORDING_BYTES_MIN} or more, or 0 for no limit");
                return Err(invalid("recording_bytes_max", bytes.to_string(), problem));
            }
        };
        if (1..RECORDING_BYTES_MIN).contains(&options.segment_bytes) {
            let problem = format!("are too few: choose {RECORDING_BYTES_MIN} or more, or 0 for no limit");
            return Err(invalid("segment_bytes", options.segment_bytes.to_string(), problem));
        }
        let recording = RecordingConfig {
            durability: options.durability.into(),
            bytes_max: recording_bytes_max,
            segment_bytes: NonZeroU64::new(options.segment_bytes),
            segment_time: Duration::from_secs(60 * u64::from(options.segment_minutes)),
            keyframe_interval: Duration::from_secs(options.keyframe_seconds.into()),
            retention: Retention {
                bytes_max: if options.retain_bytes == 0 { u64::MAX } else { options.retain_bytes },
                count_max: if options.retain_count == 0 { usize::MAX } else { options.retain_count },
                age_max: (options.retain_days > 0).then(|| DAY * options.retain_days),
            },
            recovery: options.recovery == OnOff::On,
            chat: options.record_chat == OnOff::On,
        };
        let setting =
            |text: &String| read_setting(text).map_err(|problem| invalid("set", format!("{text:?}"), problem));
        let settings: Vec<(String, f64)> = options.set.iter().map(setting).collect::<Result<_, _>>()?;
        if let Some((name, _)) = settings
            .iter()
            .enumerate()
            .find_map(|(i, setting)| settings[..i].iter().any(|(earlier, _)| *earlier == setting.0).then_some(setting))
        {
            return Err(invalid("set", name.clone(), "is set twice: choose one value".into()));
        }
        if let Err(error) = log_control::parse(&options.log) {
            let problem = match error {
                LogFilterError::Filter { source, .. } => {
                    format!("is no filter of log lines: {source}; write it as info, or info,tickwire_server=debug")
                }
                LogFilterError::NotOurs => error.to_string(),
            };
            return Err(invalid("log", format!("{:?}", options.log), problem));
        }
        let config = ServeConfig {
            listen: options.listen,
            drain,
            log_format: options.log_format,
            otlp: options.otlp,
            log: options.log,
            server: ServerConfig {
                games: options.game,
                sessions: options.sessions,
                create_sessions: options.create_sessions == OnOff::On,
                empty_timeout,
                tick_rate,
                max_players: NonZeroU32::try_from(options.max_players).map_err(at_least_one("max_players"))?,
                rewind_ms: options.rewind_ms,
                settings,
                seed: options.seed,
                spectator_delay,
                recordings_public: options.recordings_public,
                identity: IdentityConfig {
                    auth: match options.auth {
                        AuthOption::Open => Auth::Open,
                        AuthOption::Ticket => Auth::Ticket,
                    },
                    ticket_keys: options.ticket_keys,
                    ticket_audience: options.ticket_audience,
                    used_tickets: Some(options.data_dir.join(USED_TICKETS)),
                    api_keys: options.api_keys,
                    allowed_hosts: Some(options.allowed_hosts).filter(|hosts| !hosts.is_empty()),
                    allowed_origins: options.allowed_origins,
                },
                recordings: (options.recordings == OnOff::On).then(|| recordings_dir(&options.data_dir)),
                recording,
                admin: Some(AdminConfig {
                    listen: admin_listen,
                    directory: options.data_dir.clone(),
                    tokens: options.admin_tokens,
                    drain,
                }),
                metrics_listen: options.metrics_listen,
                exclusive_dir: Some(options.data_dir),
                simulation_threads: threads("simulation_threads", options.simulation_threads)?,
                network_threads: threads("network_threads", options.network_threads)?,
                tls,
                timeouts,
                limits,
                ..ServerConfig::default()
            },
        };
        let known = as_json(&AllOptions::default());
        config.server.check().map_err(|error| {
            let option = error.field.strip_prefix("limits.").unwrap_or(error.field);
            if known.contains_key(option) { invalid(option, error.value, error.problem) } else { error.into() }
        })?;
        Ok(config)
    }

    /// All options, by name.
    pub(super) fn values(&self) -> Result<serde_json::Map<String, Json>, OptionsError> {
        Ok(as_json(&self.read()?))
    }

    /// A line per option, as TOML, each with its origin.
    pub(super) fn describe(&self) -> Result<Vec<String>, OptionsError> {
        let options = self.read()?;
        let line = |(name, value): (String, Json)| match value {
            Json::Null => format!("# {name} is not set"),
            value => {
                let reloadable = if RELOADABLE.contains(&name.as_str()) { ", read anew by SIGHUP" } else { "" };
                format!("{name} = {value} # {}{reloadable}", self.origin(&name))
            }
        };
        Ok(as_json(&options).into_iter().map(line).collect())
    }

    /// Where an option comes from.
    pub(super) fn origin(&self, option: &str) -> String {
        unreadable::origin(self.0.find_metadata(option), option)
    }
}

/// What speaks against letting other machines in as the options have it, if anything does.
fn exposure(options: &Options) -> Option<String> {
    if options.listen.ip().is_loopback() || options.insecure {
        return None;
    }
    let (missing, remedy) = match (options.auth, options.tls_cert.is_some()) {
        (AuthOption::Ticket, true) => return None,
        (AuthOption::Ticket, false) => ("nothing is encrypted, tickets among it", "--tls-cert and --tls-key"),
        (AuthOption::Open, true) => ("nobody is asked who they are", "--auth ticket"),
        (AuthOption::Open, false) => {
            ("nothing is encrypted and nobody is asked who they are", "--tls-cert, --tls-key and --auth ticket")
        }
    };
    Some(format!(
        "can be reached from other machines, but {missing}: listen on 127.0.0.1 or [::1], give {remedy}, or say --insecure \
         where you trust the network"
    ))
}

/// A provider under a name of ours.
struct Layer<P> {
    origin: &'static str,
    provider: P,
}

impl<P: Provider> Provider for Layer<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.provider.data()
    }
}

fn names(options: &serde_json::Map<String, Json>) -> Vec<&str> {
    options.keys().map(String::as_str).collect()
}

fn as_json(options: &AllOptions) -> serde_json::Map<String, Json> {
    match serde_json::to_value(options) {
        Ok(Json::Object(options)) => options,
        other => unreachable!("options are a struct of plain data, not {other:?}"),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write it as IP:PORT, such as 127.0.0.1:7777 or [::1]:7777".to_owned())
}

/// A setting of a game as it is written: its name, and its value in its unit.
pub(super) fn read_setting(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("is no setting: write NAME=VALUE, such as cover=0")?;
    let (name, value) = (name.trim(), value.trim());
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((name.to_owned(), number)),
        _ => Err(format!("is no setting: {value:?} is no number; write {name}=VALUE with a number, such as {name}=0")),
    }
}
