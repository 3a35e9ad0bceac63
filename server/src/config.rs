//! What a server is told before it starts.

mod checks;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tickwire_recording::{Durability, FileSystem, Retention, Storage};
use tickwire_replication::STRIPES_MAX;
use tickwire_shared::{REWIND_MS_DEFAULT, TickRate};

pub use checks::ConfigError;
pub(crate) use checks::{HEADER_LIST_BYTES_LIMIT, HEADER_LIST_BYTES_MIN, MESSAGE_BYTES_LIMIT, MESSAGE_BYTES_MIN};

use crate::{LogControl, chat::Moderator, identity::IdentityConfig};

/// What a server is told before it starts.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The games to host, by name; empty: the first of those that the server was built with.
    pub games: Vec<String>,
    /// Sessions of each game that are started with the server; 0: none, but for those that go on.
    pub sessions: u32,
    /// Whether callers may create sessions, up to [`Limits::sessions_max`].
    pub create_sessions: bool,
    /// For how long a session that a caller has created goes on without anybody in it, where the caller does not say.
    pub empty_timeout: Duration,
    /// Ticks per second of each session.
    pub tick_rate: TickRate,
    /// Seats of each session.
    pub max_players: NonZeroU32,
    /// How far sessions rewind at most for what players saw when they acted, in milliseconds: 0 for not at all; more than
    /// [`REWIND_MS_MAX`](tickwire_shared::REWIND_MS_MAX) counts as that.
    pub rewind_ms: u32,
    /// Settings of the sessions' game, by name and in their units; the others take their defaults.
    pub settings: Vec<(String, f64)>,
    /// Where the sessions' randomness starts; none: somewhere else at each start. Sessions get it and the numbers after
    /// it, in their order.
    pub seed: Option<u64>,
    /// How long after it stood spectators see a frame of a running session. Up to 10 s of frames wait in memory; with more
    /// they are played from the recording, without which nobody can watch then.
    pub spectator_delay: Duration,
    /// Whether recordings are listed, sent and replayed to whoever asks.
    pub recordings_public: bool,
    /// Who may come in, and who may ask for what.
    pub identity: IdentityConfig,
    /// The directory of recordings, created where it is missing; none: matches are not recorded.
    pub recordings: Option<PathBuf>,
    /// How matches are recorded, where they are.
    pub recording: RecordingConfig,
    /// What recordings are written through: the file system, or what a program puts before it to throttle, count or refuse.
    pub storage: Arc<dyn Storage>,
    /// The directory that is to be this server's alone, where matches are recorded: it holds a file locked there, and does not
    /// start where another one does. None: whoever starts servers sees to it that no two record to one directory.
    pub exclusive_dir: Option<PathBuf>,
    /// Simulation threads, which step all sessions between them; none: one per core. There are never more than sessions.
    pub simulation_threads: Option<NonZeroUsize>,
    /// Network threads, each with a runtime of its own; none: one per core.
    pub network_threads: Option<NonZeroUsize>,
    /// What connections are encrypted with; none: they are not.
    pub tls: Option<TlsFiles>,
    /// How the server is administered; none: not at all.
    pub admin: Option<AdminConfig>,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered to whoever asks; none: only by the admin's listener. Port 0
    /// takes a free one.
    pub metrics_listen: Option<SocketAddr>,
    /// Changes which log lines are written.
    pub log: LogControl,
    /// How long the server waits for what.
    pub timeouts: Timeouts,
    /// How much a peer may take.
    pub limits: Limits,
    /// Judges what players say before anybody sees it; none: all of it passes that keeps to the limits.
    pub moderator: Option<Arc<dyn Moderator>>,
}

/// The files of TLS, in PEM. They are read again when they are replaced: connections of before go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead to one that clients trust.
    pub certificates: PathBuf,
    /// The private key of the first of them.
    pub key: PathBuf,
    /// The certificates of those who sign clients': each client must show one of theirs then. None: clients show none.
    pub client_authorities: Option<PathBuf>,
}

/// How a server is administered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where `AdminService` listens; none: nowhere. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// The directory of `admin.address` and `admin.token`, by which those who may read it find the listener, of the audit log,
    /// and of the bans, which hold whether or not anybody listens. It is to be this server's alone.
    pub directory: PathBuf,
    /// What its connections are encrypted with; none: they are not. With [`TlsFiles::client_authorities`] admins show a
    /// certificate, and a token all the same.
    pub tls: Option<TlsFiles>,
    /// The file of tokens that are good; none: the server makes one at its start.
    pub tokens: Option<PathBuf>,
    /// How long streams have where an admin drains the server and does not say.
    pub drain: Duration,
}

/// How matches are recorded, and for how long that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingConfig {
    /// What a recording survives.
    pub durability: Durability,
    /// The size of a running session's file, in bytes, at which its recording ends, where it cannot go on in another
    /// [segment](Self::segment_bytes). The session goes on.
    pub bytes_max: u64,
    /// The size of a running session's file, in bytes, from which on its recording goes on in another one, at the next
    /// keyframe. None: whatever the size. A game that [saves](tickwire_shared::Game::saves) nothing has one file.
    pub segment_bytes: Option<NonZeroU64>,
    /// After how much of a match its recording goes on in another file, whatever the size; zero: never for that.
    pub segment_time: Duration,
    /// How much of a match there is between two keyframes, at which replays can begin, while something happens; zero: there
    /// are none.
    pub keyframe_interval: Duration,
    /// Which finished recordings are kept. Its bytes are also the most that the files of all running sessions may have:
    /// the recording that goes beyond it ends.
    pub retention: Retention,
    /// Whether sessions that a killed server has left unfinished in the directory of recordings go on.
    pub recovery: bool,
    /// Whether what players say to each other is recorded, too.
    pub chat: bool,
}

impl Default for RecordingConfig {
    /// Synced, 4 GiB, segments of 256 MiB or an hour, keyframes every 10 s, and what [`Retention`] says; no recovery, which is
    /// for servers whose directory outlives them: the program's default.
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            bytes_max: 4 << 30,
            segment_bytes: NonZeroU64::new(256 << 20),
            segment_time: Duration::from_secs(60 * 60),
            keyframe_interval: Duration::from_secs(10),
            retention: Retention::default(),
            recovery: false,
            chat: true,
        }
    }
}

/// How long the server waits for what. Tests shorten them; nothing else depends on their size.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From a connection to its first request, and from a `Play` stream to its Hello.
    pub hello: Duration,
    /// From a request of another method to its first message, and from the first byte of each message to its last.
    pub request: Duration,
    /// How long a connection may be without a request before it is asked to go.
    pub idle: Duration,
    /// How long a connection of an admin, or of who asks for metrics, may be without another request, unless a stream of
    /// statistics is on it.
    pub admin_idle: Duration,
    /// How long a spectator who has paused the past, or has come to its end, may do nothing: each keeps a thread.
    pub replay_idle: Duration,
    /// From the last byte of a `Play` stream to the verdict that its peer is gone.
    pub silence: Duration,
    /// From the oldest snapshot that is not acknowledged, or from when something to send finds no room, to the verdict that
    /// its receiver reads nothing.
    pub unacknowledged: Duration,
    /// How long a seat outlives its lost connection.
    pub grace: Duration,
    /// From the notice of a shutdown to the end of streams, where there are any.
    pub drain: Duration,
    /// From the last sign of life of a connection to a ping, and from there to its end, where no answer comes.
    pub keep_alive: Duration,
    /// How long a session may take for one tick before it counts as stuck: another thread takes over from its own then, and
    /// it takes nobody in until it goes on.
    pub stuck: Duration,
    /// How long a session of a killed server may take without getting further, until it is where it was: the server starts
    /// without one that gets through fewer ticks in this time than a match has, and its recording is set aside.
    pub recovery: Duration,
    /// For how much of a match the disk may stall or fail before its recording stops: what comes meanwhile waits in memory.
    pub disk: Duration,
    /// How long a peer may take to accept the end of its stream or connection before it is cut off; and how long the server's
    /// end waits for a session that is stuck.
    pub end: Duration,
    /// How long after the deadline of its streams a server's end waits for what a game or a disk holds up: a game that does not
    /// come back from its set-up, a disk that does not take the end of a recording. Then it is left behind.
    pub close: Duration,
    /// How long a moderator may take for one line: later it does not pass.
    pub moderation: Duration,
}

/// How much a peer, or all of them together, may take. Beyond it the peer gets a status that says so.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one message from a client.
    pub message_bytes_max: usize,
    /// Messages per second of one `Play` stream, in the long run.
    pub messages_per_second_max: NonZeroU32,
    /// Messages of one `Play` stream at once, as after a stall of the network.
    pub messages_burst_max: NonZeroU32,
    /// Bytes per second of the messages of one `Play` stream, in the long run.
    pub received_bytes_per_second_max: NonZeroU32,
    /// Bytes of messages of one `Play` stream at once: no less than [`message_bytes_max`](Self::message_bytes_max).
    pub received_bytes_burst_max: NonZeroU32,
    /// Messages that wait for one session's next tick.
    pub mailbox_messages_max: usize,
    /// Open connections of the server.
    pub connections_max: usize,
    /// Open connections of one address; an IPv6 address stands for its /64.
    pub connections_per_address_max: usize,
    /// Joins per second of the server, players' and spectators', in the long run.
    pub joins_per_second_max: NonZeroU32,
    /// Joins of the server at once.
    pub joins_burst_max: NonZeroU32,
    /// Joins per second of one address, in the long run.
    pub joins_per_second_per_address_max: NonZeroU32,
    /// Joins of one address at once.
    pub joins_burst_per_address_max: NonZeroU32,
    /// Calls of JoinSession per second of one API key, in the long run. Those of callers without one count as joins of their
    /// address, beside its others.
    pub joins_per_second_per_key_max: NonZeroU32,
    /// Calls of JoinSession of one API key at once.
    pub joins_burst_per_key_max: NonZeroU32,
    /// Seats that are reserved at once for one address by JoinSession.
    pub seats_reserved_per_address_max: usize,
    /// Seats that are reserved at once for one API key by JoinSession.
    pub seats_reserved_per_key_max: usize,
    /// Whether the limits of one address hold for this machine's own, too: proxies and load tests come from there.
    pub limit_loopback: bool,
    /// Open requests of one connection.
    pub requests_per_connection_max: u32,
    /// `Play`, `Watch` and `Replay` streams of one connection.
    pub streams_per_connection_max: usize,
    /// Requests per second of one connection, in the long run; four seconds' worth of them at once.
    pub requests_per_second_max: NonZeroU32,
    /// HTTP/2's frames per second from one connection, in the long run; four seconds' worth of them at once.
    pub frames_per_second_max: NonZeroU32,
    /// Those of them that carry nothing: pings, settings, priorities and frames of unknown kinds.
    pub control_frames_per_second_max: NonZeroU32,
    /// Bytes of a request's headers, as HTTP/2 counts them.
    pub header_list_bytes_max: u32,
    /// Streams that a client has reset before they were looked at.
    pub resets_pending_max: usize,
    /// Streams of one connection that were reset since the client broke a rule.
    pub faulty_streams_max: usize,
    /// The farthest that a player sees, in the game's metres, and what those get who do not ask.
    pub view_radius_max: f64,
    /// Bytes of snapshots per second of one player, for those who do not ask.
    pub bytes_per_second_default: NonZeroU32,
    /// The most that those get who ask for more.
    pub bytes_per_second_max: NonZeroU32,
    /// Spectators of one session: 0 for none.
    pub spectators_max: usize,
    /// Spectators of the server who are in the past: each takes a thread that plays a recording.
    pub replays_max: usize,
    /// Recordings of the server that are downloaded at once.
    pub downloads_max: usize,
    /// Sessions of the server, those that were started with it among them: with as many, no caller creates another one.
    pub sessions_max: usize,
    /// Sessions of one creator that run at once.
    pub sessions_per_creator_max: usize,
    /// Calls of the server that ask the disk what recordings there are at once.
    pub listings_max: usize,
    /// Streams of one player, its stripes: 1 for no more than the first. More than four are taken for four.
    pub stripes_max: NonZeroUsize,
    /// What players may say to each other.
    pub chat: ChatLimits,
}

/// How much players may say to each other, and how much of it is kept for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// Characters of one line.
    pub chars_max: usize,
    /// The same in bytes of UTF-8.
    pub bytes_max: usize,
    /// Lines of one player at once.
    pub burst: NonZeroU32,
    /// Lines of one player per minute, in the long run.
    pub per_minute: NonZeroU32,
    /// Lines that wait for one reader. Of more, the oldest are dropped, and the reader is told how many.
    pub waiting_max: NonZeroUsize,
    /// Lines of each channel that are kept for those who come later, and that they get of all together.
    pub history_max: usize,
    /// Rejections, and changes of whom a reader has muted, of one stream at once; one every 2 s in the long run. With more
    /// the stream ends.
    pub rejections_max: NonZeroU32,
    /// Players whom one player has muted.
    pub mutes_max: usize,
}

/// The longest time that spectators can be behind.
pub(crate) const SPECTATOR_DELAY_MAX: Duration = Duration::from_secs(3600);
/// For how long a created session can go on without anybody in it.
pub(crate) const EMPTY_TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub(crate) const EMPTY_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The least bytes of snapshots per second of one stream: with fewer, headers would leave nothing for the rest.
pub(crate) const BYTES_PER_SECOND_MIN: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not 0");

impl Limits {
    /// The bytes of snapshots per second that a stream gets that asks for `wish`.
    #[must_use]
    pub fn bytes_per_second(&self, wish: Option<NonZeroU32>) -> NonZeroU32 {
        wish.unwrap_or(self.bytes_per_second_default).min(self.bytes_per_second_max).max(BYTES_PER_SECOND_MIN)
    }
}

impl Limits {
    /// The same, but for those that a server which runs with `running` cannot change.
    #[must_use]
    pub(crate) fn with_those_that_stay(self, running: &Self) -> Self {
        let Self { message_bytes_max, mailbox_messages_max, .. } = *running;
        Self { message_bytes_max, mailbox_messages_max, ..self }
    }

    /// Streams of one player: 1 to four.
    #[must_use]
    pub(crate) fn stripes_max(&self) -> usize {
        self.stripes_max.get().min(STRIPES_MAX)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            games: Vec::new(),
            sessions: 1,
            create_sessions: true,
            empty_timeout: Duration::from_secs(300),
            tick_rate: TickRate::DEFAULT,
            max_players: NonZeroU32::new(256).expect("256 is not 0"),
            rewind_ms: REWIND_MS_DEFAULT,
            settings: Vec::new(),
            seed: None,
            spectator_delay: Duration::ZERO,
            recordings_public: false,
            identity: IdentityConfig::default(),
            recordings: None,
            recording: RecordingConfig::default(),
            storage: Arc::new(FileSystem),
            exclusive_dir: None,
            simulation_threads: None,
            network_threads: None,
            tls: None,
            admin: None,
            metrics_listen: None,
            log: LogControl::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            moderator: None,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(5),
            request: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            admin_idle: Duration::from_secs(60),
            replay_idle: Duration::from_secs(600),
            // A reader that stalls for 5 s comes back; one that is dead is found within 10 s, the time to cut it off
            // among them.
            silence: Duration::from_secs(8),
            unacknowledged: Duration::from_secs(8),
            grace: Duration::from_secs(30),
            drain: Duration::from_secs(1),
            keep_alive: Duration::from_secs(5),
            stuck: Duration::from_secs(1),
            recovery: Duration::from_secs(60),
            disk: Duration::from_secs(10),
            end: Duration::from_secs(1),
            // With what the program itself does at its end, and connections that take theirs, it is less than 5 s.
            close: Duration::from_millis(3500),
            moderation: Duration::from_secs(1),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const fn number(number: u32) -> NonZeroU32 {
            NonZeroU32::new(number).expect("none of them is 0")
        }
        Self {
            message_bytes_max: 16 * 1024,
            messages_per_second_max: number(1000),
            messages_burst_max: number(3000),
            received_bytes_per_second_max: number(128 * 1024),
            received_bytes_burst_max: number(512 * 1024),
            mailbox_messages_max: 16 * 1024,
            connections_max: 8192,
            connections_per_address_max: 256,
            joins_per_second_max: number(500),
            joins_burst_max: number(2000),
            joins_per_second_per_address_max: number(20),
            joins_burst_per_address_max: number(100),
            // A back end's matchmaking is as fast as the server lets players in, and no more of them than it has connections for.
            joins_per_second_per_key_max: number(500),
            joins_burst_per_key_max: number(2000),
            // Who comes at 20 per second, and takes the seat within a second, as players do.
            seats_reserved_per_address_max: 32,
            seats_reserved_per_key_max: 8192,
            limit_loopback: false,
            requests_per_connection_max: 128,
            streams_per_connection_max: 16,
            requests_per_second_max: number(1000),
            frames_per_second_max: number(10_000),
            control_frames_per_second_max: number(1000),
            header_list_bytes_max: 8 * 1024,
            resets_pending_max: 20,
            faulty_streams_max: 64,
            view_radius_max: 1000.0,
            bytes_per_second_default: number(1 << 20),
            bytes_per_second_max: number(4 << 20),
            spectators_max: 64,
            replays_max: 8,
            downloads_max: 8,
            sessions_max: 256,
            sessions_per_creator_max: 64,
            listings_max: 4,
            stripes_max: NonZeroUsize::new(STRIPES_MAX).expect("4 is not 0"),
            chat: ChatLimits::default(),
        }
    }
}

impl Default for ChatLimits {
    fn default() -> Self {
        Self {
            chars_max: 500,
            bytes_max: 2000,
            burst: NonZeroU32::new(5).expect("5 is not 0"),
            per_minute: NonZeroU32::new(60).expect("60 is not 0"),
            waiting_max: NonZeroUsize::new(64).expect("64 is not 0"),
            history_max: 50,
            rejections_max: NonZeroU32::new(20).expect("20 is not 0"),
            mutes_max: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_per_second_are_the_wish_within_the_limits() {
        let limits = Limits::default();
        let granted = |wish| limits.bytes_per_second(NonZeroU32::new(wish)).get();
        let [least, most] = [BYTES_PER_SECOND_MIN.get(), limits.bytes_per_second_max.get()];
        assert_eq!([0, 1, 70_000, u32::MAX].map(granted), [1 << 20, least, 70_000, most]);
        let narrow = Limits { bytes_per_second_max: NonZeroU32::new(9000).expect("not 0"), ..limits };
        assert_eq!(narrow.bytes_per_second(None).get(), 9000);
    }
}
