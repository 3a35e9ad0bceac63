//! The options of `serve`: flags, before environment variables, before a TOML file, before defaults; read once, into what
//! cannot be wrong.

mod further_limits;
mod hosting;
mod layers;
mod recording;
mod telemetry;
#[cfg(test)]
mod tests;
mod times;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{Figment, error::Kind, value::Dict};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tickwire_replication::STRIPES_MAX;

use self::{
    further_limits::{FurtherLimitFlags, FurtherLimitOptions},
    hosting::{HostingFlags, HostingOptions, SESSIONS_MAX},
    recording::{RecordingFlags, RecordingOptions},
    telemetry::{TelemetryFlags, TelemetryOptions},
    times::{TimeFlags, TimeOptions},
};
pub(super) use self::{hosting::read_setting, layers::Layers, telemetry::LogFormat};
use super::{
    environment,
    limit_flags::LimitFlags,
    tls_files,
    unreadable::Unreadable,
    values::{self, Listen},
};
use crate::{
    config::{AdminConfig, BYTES_PER_SECOND_MIN, ChatLimits, ConfigError, Limits, ServerConfig, TlsFiles},
    identity::{Auth, IdentityConfig},
    net::is_loopback,
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
    "joins_per_second_per_key_max",
    "joins_burst_per_key_max",
    "seats_reserved_per_address_max",
    "seats_reserved_per_key_max",
    "messages_per_second_max",
    "messages_burst_max",
    "received_bytes_per_second_max",
    "received_bytes_burst_max",
    "max_downloads",
    "chat_chars_max",
    "chat_bytes_max",
    "chat_burst",
    "chat_per_minute",
    "chat_waiting_max",
    "chat_history_max",
    "chat_rejections_max",
    "chat_mutes_max",
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
const DRAIN_SECONDS_MAX: u32 = 24 * 60 * 60;
/// Where used tickets are noted, below the data directory.
const USED_TICKETS: &str = "used-tickets";
/// Where recordings are, below the data directory.
const RECORDINGS: &str = "recordings";

/// The flags of `serve`. Names and meanings are those of the options in [`AllOptions`].
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
    /// The PEM file of the certificate of the admins' listener: its connections are encrypted then
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_tls_cert: Option<PathBuf>,
    /// The PEM file of its private key
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_tls_key: Option<PathBuf>,
    /// The PEM file of those who sign admins' certificates: each must show one of theirs then, beside a token
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_client_ca: Option<PathBuf>,
    /// Seconds that players have to come to an end after SIGTERM, 0 to 86400; none are waited for where nobody plays
    /// [default: 25]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_seconds: Option<u32>,
    /// Sessions of the server at which callers create no more, 1 to 1000 [default: 256]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_max: Option<usize>,
    /// Sessions that one caller has created and that still run, at which it creates no more [default: 64]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_per_creator_max: Option<usize>,
    /// Where the server keeps its files; recordings in its `recordings` [default: ./tickwire-data]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
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
    #[command(flatten)]
    #[serde(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    #[serde(flatten)]
    further_limits: FurtherLimitFlags,
    #[command(flatten)]
    #[serde(flatten)]
    times: TimeFlags,
    #[command(flatten)]
    #[serde(flatten)]
    hosting: HostingFlags,
    #[command(flatten)]
    #[serde(flatten)]
    recording: RecordingFlags,
    #[command(flatten)]
    #[serde(flatten)]
    telemetry: TelemetryFlags,
    /// A TOML file with options, named as the flags with `_` for `-`
    #[arg(long, value_name = "FILE", env = "TICKWIRE_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Print all options and where each comes from, and exit
    #[arg(long)]
    #[serde(skip)]
    pub(super) print_config: bool,
}

/// Who may come in, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuthOption {
    Open,
    Ticket,
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
    #[serde(flatten)]
    hosting: HostingOptions,
    #[serde(flatten)]
    recording: RecordingOptions,
    #[serde(flatten)]
    telemetry: TelemetryOptions,
}

impl AllOptions {
    /// Those that are given, each of which must be one of `known`.
    fn read(given: &Figment, known: &[&str]) -> Result<Self, Box<figment::Error>> {
        let values: Dict = given.extract()?;
        if let Some(strange) = values.into_keys().find(|name| !known.contains(&name.as_str())) {
            let metadata = given.find_metadata(&strange).cloned();
            let mut error = Box::new(figment::Error::from(Kind::UnknownField(strange, &[])));
            error.metadata = metadata;
            return Err(error);
        }
        Ok(Self {
            main: given.extract()?,
            further_limits: given.extract()?,
            times: given.extract()?,
            hosting: given.extract()?,
            recording: given.extract()?,
            telemetry: given.extract()?,
        })
    }
}

/// Who may come in, and what peers may take, as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Options {
    #[serde(deserialize_with = "values::address")]
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
    admin_tls_cert: Option<PathBuf>,
    admin_tls_key: Option<PathBuf>,
    admin_client_ca: Option<PathBuf>,
    drain_seconds: u32,
    sessions_max: usize,
    sessions_per_creator_max: usize,
    data_dir: PathBuf,
    bytes_per_second: u32,
    bytes_per_second_max: u32,
    stripes_max: usize,
    max_spectators: usize,
    max_replays: usize,
    #[serde(deserialize_with = "values::flag")]
    recordings_public: bool,
    #[serde(default, deserialize_with = "values::maybe_address")]
    metrics_listen: Option<SocketAddr>,
    connections_max: usize,
    connections_per_address_max: usize,
    streams_per_connection_max: usize,
    requests_per_connection_max: u32,
    requests_per_second_max: u32,
    joins_per_second_max: u32,
    joins_burst_max: u32,
    joins_per_second_per_address_max: u32,
    joins_burst_per_address_max: u32,
    joins_per_second_per_key_max: u32,
    joins_burst_per_key_max: u32,
    seats_reserved_per_address_max: usize,
    seats_reserved_per_key_max: usize,
    messages_per_second_max: u32,
    messages_burst_max: u32,
    received_bytes_per_second_max: u32,
    received_bytes_burst_max: u32,
    max_downloads: usize,
    chat_chars_max: usize,
    chat_bytes_max: usize,
    chat_burst: u32,
    chat_per_minute: u32,
    chat_waiting_max: usize,
    chat_history_max: usize,
    chat_rejections_max: u32,
    chat_mutes_max: usize,
    #[serde(deserialize_with = "values::flag")]
    limit_loopback: bool,
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
            admin_tls_cert: None,
            admin_tls_key: None,
            admin_client_ca: None,
            drain_seconds: 25,
            sessions_max: config.limits.sessions_max,
            sessions_per_creator_max: config.limits.sessions_per_creator_max,
            data_dir: default_data_dir(),
            bytes_per_second: config.limits.bytes_per_second_default.get(),
            bytes_per_second_max: config.limits.bytes_per_second_max.get(),
            stripes_max: config.limits.stripes_max.get(),
            max_spectators: config.limits.spectators_max,
            max_replays: config.limits.replays_max,
            recordings_public: config.recordings_public,
            metrics_listen: None,
            connections_max: config.limits.connections_max,
            connections_per_address_max: config.limits.connections_per_address_max,
            streams_per_connection_max: config.limits.streams_per_connection_max,
            requests_per_connection_max: config.limits.requests_per_connection_max,
            requests_per_second_max: config.limits.requests_per_second_max.get(),
            joins_per_second_max: config.limits.joins_per_second_max.get(),
            joins_burst_max: config.limits.joins_burst_max.get(),
            joins_per_second_per_address_max: config.limits.joins_per_second_per_address_max.get(),
            joins_burst_per_address_max: config.limits.joins_burst_per_address_max.get(),
            joins_per_second_per_key_max: config.limits.joins_per_second_per_key_max.get(),
            joins_burst_per_key_max: config.limits.joins_burst_per_key_max.get(),
            seats_reserved_per_address_max: config.limits.seats_reserved_per_address_max,
            seats_reserved_per_key_max: config.limits.seats_reserved_per_key_max,
            messages_per_second_max: config.limits.messages_per_second_max.get(),
            messages_burst_max: config.limits.messages_burst_max.get(),
            received_bytes_per_second_max: config.limits.received_bytes_per_second_max.get(),
            received_bytes_burst_max: config.limits.received_bytes_burst_max.get(),
            max_downloads: config.limits.downloads_max,
            chat_chars_max: config.limits.chat.chars_max,
            chat_bytes_max: config.limits.chat.bytes_max,
            chat_burst: config.limits.chat.burst.get(),
            chat_per_minute: config.limits.chat.per_minute.get(),
            chat_waiting_max: config.limits.chat.waiting_max.get(),
            chat_history_max: config.limits.chat.history_max,
            chat_rejections_max: config.limits.chat.rejections_max.get(),
            chat_mutes_max: config.limits.chat.mutes_max,
            limit_loopback: config.limits.limit_loopback,
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

impl Layers {
    /// What they come to, if the server can run with it.
    pub(super) fn resolve(&self) -> Result<ServeConfig, OptionsError> {
        let AllOptions { main: options, further_limits, times, hosting, recording, telemetry } = self.read()?;
        telemetry.check(self)?;
        let records = recording.is_on();
        let recording = recording.resolve(self)?;
        let hosting = hosting.resolve(self, records)?;
        let timeouts = times.resolve(self)?;
        let invalid = |option, value: String, problem: String| self.invalid(option, value, problem);
        let too_few = |option| invalid(option, "0".into(), "is too few: choose 1 or more".into());
        let at_least_one = |option| move |_| too_few(option);
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
        if let Some((option, value)) = unused_for_tickets(self, &options) {
            let problem =
                "would count for nothing, as anybody may come in without a ticket: add --auth ticket, or leave it out";
            return Err(invalid(option, value, problem.to_owned()));
        }
        let admin_tls = tls_files::of_admin([
            options.admin_tls_cert.as_deref(),
            options.admin_tls_key.as_deref(),
            options.admin_client_ca.as_deref(),
        ]);
        let admin_tls = admin_tls.map_err(|wrong| invalid(wrong.option, wrong.value, wrong.problem.into()))?;
        let admin_listen = match options.admin_listen {
            Listen::Off => None,
            Listen::At(address) if !is_loopback(address.ip()) && admin_tls.is_none() && !options.insecure => {
                let problem = "can be reached from other machines, but nothing is encrypted, so that a token can be read on \
                               the way: listen on 127.0.0.1 or [::1], give --admin-tls-cert and --admin-tls-key, or say \
                               --insecure where you trust the network";
                return Err(invalid("admin_listen", address.to_string(), problem.into()));
            }
            Listen::At(address) => Some(address),
        };
        if options.drain_seconds > DRAIN_SECONDS_MAX {
            let problem = format!("is out of range: choose 0 to {DRAIN_SECONDS_MAX}");
            return Err(invalid("drain_seconds", options.drain_seconds.to_string(), problem));
        }
        let drain = Duration::from_secs(options.drain_seconds.into());
        if !(1..=SESSIONS_MAX as usize).contains(&options.sessions_max) {
            let problem = format!("is out of range: choose 1 to {SESSIONS_MAX}");
            return Err(invalid("sessions_max", options.sessions_max.to_string(), problem));
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
            joins_per_second_per_key_max: rate("joins_per_second_per_key_max", options.joins_per_second_per_key_max)?,
            joins_burst_per_key_max: rate("joins_burst_per_key_max", options.joins_burst_per_key_max)?,
            seats_reserved_per_address_max: options.seats_reserved_per_address_max,
            seats_reserved_per_key_max: options.seats_reserved_per_key_max,
            messages_per_second_max: rate("messages_per_second_max", options.messages_per_second_max)?,
            messages_burst_max: rate("messages_burst_max", options.messages_burst_max)?,
            received_bytes_per_second_max: rate(
                "received_bytes_per_second_max",
                options.received_bytes_per_second_max,
            )?,
            received_bytes_burst_max: rate("received_bytes_burst_max", options.received_bytes_burst_max)?,
            downloads_max: options.max_downloads,
            chat: ChatLimits {
                chars_max: options.chat_chars_max,
                bytes_max: options.chat_bytes_max,
                burst: rate("chat_burst", options.chat_burst)?,
                per_minute: rate("chat_per_minute", options.chat_per_minute)?,
                waiting_max: NonZeroUsize::new(options.chat_waiting_max).ok_or_else(|| too_few("chat_waiting_max"))?,
                history_max: options.chat_history_max,
                rejections_max: rate("chat_rejections_max", options.chat_rejections_max)?,
                mutes_max: options.chat_mutes_max,
            },
            limit_loopback: options.limit_loopback,
            ..further_limits.resolve(self)?
        };
        let config = ServeConfig {
            listen: options.listen,
            drain,
            log_format: telemetry.log_format,
            otlp: telemetry.otlp,
            log: telemetry.log,
            server: ServerConfig {
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
                recordings: records.then(|| recordings_dir(&options.data_dir)),
                recording,
                admin: Some(AdminConfig {
                    listen: admin_listen,
                    directory: options.data_dir.clone(),
                    tls: admin_tls,
                    tokens: options.admin_tokens,
                    drain,
                }),
                metrics_listen: options.metrics_listen,
                exclusive_dir: Some(options.data_dir),
                tls,
                timeouts,
                limits,
                ..hosting
            },
        };
        let known = as_json(&AllOptions::default());
        config.server.check().map_err(|error| {
            let option = error.field.strip_prefix("limits.").unwrap_or(error.field);
            let of_chat = RELOADABLE.iter().find(|known| **known == option.replace('.', "_")).copied();
            let option = of_chat.unwrap_or(option);
            if known.contains_key(option) { invalid(option, error.value, error.problem) } else { error.into() }
        })?;
        Ok(config)
    }
}

/// What speaks against letting other machines in as the options have it, if anything does.
fn exposure(options: &Options) -> Option<String> {
    if is_loopback(options.listen.ip()) || options.insecure {
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

/// What is said of tickets, with its value, where none are asked for: whoever says it takes the server for closed.
fn unused_for_tickets(layers: &Layers, options: &Options) -> Option<(&'static str, String)> {
    if options.auth == AuthOption::Ticket {
        return None;
    }
    let keys = options.ticket_keys.as_ref().map(|path| ("ticket_keys", path.display().to_string()));
    keys.or_else(|| {
        layers.is_given("ticket_audience").then(|| ("ticket_audience", format!("{:?}", options.ticket_audience)))
    })
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
