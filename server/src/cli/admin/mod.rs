//! `admin`: looks after a running server, by its `AdminService`.

mod connect;
mod encrypted;
mod words;

use std::{path::PathBuf, time::Duration};

use serde_json::{Value as Json, json};
use tickwire_proto::v1 as pb;
use tokio::runtime::Builder;
use tonic::{Code, Status};

use super::{CliError, USAGE, output};
use crate::{
    net::TlsError,
    session::{SessionName, SessionNameError},
};
use connect::AdminClient;

/// Why a wrong token is refused, in place of anything else, when too many were wrong before.
const TOO_MANY_ATTEMPTS: &str = "TOO_MANY_ATTEMPTS";

/// Of a session that is busy with a tick.
const DOES_LATER: &str = "and does as it was told when it comes to it";

/// What all of the commands take.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: AdminCommand,
}

/// Which server.
#[derive(Debug, clap::Args)]
struct Target {
    /// Where the server keeps its files [default: ./tickwire-data]
    #[arg(long, value_name = "DIR", env = "TICKWIRE_DATA_DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Where it listens for admins, as IP:PORT, or as https://HOST:PORT [default: what admin.address in the data directory says]
    #[arg(long, value_name = "ADDR", global = true)]
    address: Option<String>,
    /// The file of the token [default: admin.token in the data directory; with --address and no --data-dir, only that of the
    /// server there]
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsFlags,
}

/// How the connection is encrypted.
#[derive(Debug, clap::Args)]
struct TlsFlags {
    /// The PEM file of whoever may have signed its certificate [default: whom the system trusts]
    #[arg(long, value_name = "FILE", global = true)]
    tls_ca: Option<PathBuf>,
    /// The PEM file of the certificate to show where the server wants one
    #[arg(long, value_name = "FILE", global = true)]
    tls_cert: Option<PathBuf>,
    /// The PEM file of its private key
    #[arg(long, value_name = "FILE", global = true)]
    tls_key: Option<PathBuf>,
}

impl TlsFlags {
    /// Whether any says that the connection is to be encrypted.
    fn is_given(&self) -> bool {
        [&self.tls_ca, &self.tls_cert, &self.tls_key].into_iter().any(Option::is_some)
    }
}

#[derive(Debug, clap::Subcommand)]
enum AdminCommand {
    /// Say what runs, and how it does
    Info,
    /// Say how each session does
    Stats {
        /// Say it again and again, until interrupted
        #[arg(long)]
        watch: bool,
        /// How long between two times, 100ms to 60s
        #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
        interval: Duration,
    },
    /// List who plays
    Players {
        /// Only those of this session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: Option<SessionName>,
    },
    /// Take a player out; they may come again
    Kick {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
        /// The player's number in it
        #[arg(value_parser = player_number)]
        player: u32,
        /// What the player is told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Keep an address or a network out, and take out who comes from there
    Ban {
        /// An address or a network, such as 192.0.2.0/24; or a session, whose player's address it is
        #[arg(value_name = "NETWORK|SESSION")]
        target: String,
        /// The player's number in that session
        #[arg(value_parser = player_number)]
        player: Option<u32>,
        /// For how long, such as 90s, 2h, 1h30m or 7days, up to 100 years [default: for good]
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
        /// What the player is told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a banned network in again
    Unban {
        /// As `bans` has it
        network: String,
    },
    /// List who is banned
    Bans,
    /// Have a player not talk in the chat, for as long as they keep the seat
    Mute {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
        /// The player's number in it
        #[arg(value_parser = player_number)]
        player: u32,
        /// For how long, such as 90s, 10m or 1h30m [default: until `unmute`]
        #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
    },
    /// Let a player talk again
    Unmute {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
        /// The player's number in it
        #[arg(value_parser = player_number)]
        player: u32,
    },
    /// Have a session stand still
    Pause {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
    },
    /// Have a paused session go on
    Resume {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
    },
    /// Have a paused session step some ticks
    Step {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
        /// How many, 1 to 10000
        #[arg(default_value_t = 1)]
        ticks: u32,
    },
    /// Say something to all players and spectators
    Broadcast {
        /// What
        text: String,
        /// Only to those of this session, such as arena-1
        #[arg(long, value_parser = SessionName::typed)]
        session: Option<SessionName>,
    },
    /// End a session; its recording is closed
    Terminate {
        /// The session, such as arena-1
        #[arg(value_parser = SessionName::typed)]
        session: SessionName,
        /// What players are told
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Have the server end: nobody may join, who plays is told, and has some time
    Drain {
        /// How much, such as 30s or 10m; it ends sooner where nobody plays [default: the server's drain_seconds]
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        deadline: Option<Duration>,
    },
    /// Call that off
    CancelDrain,
    /// Change which log lines the server writes, until it ends
    LogFilter {
        /// A level, or levels by module, such as info,tickwire_server=debug
        filter: String,
    },
}

/// Why an admin's command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminCliError {
    #[error(
        "{}: there is no server that was started with this data directory, or it listens for no admins: name the data \
         directory with --data-dir, or the server with --address and --token-file",
        .0.display()
    )]
    NoServer(PathBuf),
    #[error("{}: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {problem}", .path.display())]
    Token { path: PathBuf, problem: &'static str },
    #[error(
        "{address:?} is no address: write it as IP:PORT, such as 127.0.0.1:7778, or as https://HOST:PORT where the server \
         encrypts"
    )]
    Address { address: String },
    #[error(
        "a token is for one server, and nothing was sent: name the file of the one for {address} with --token-file, or with \
         --data-dir the data directory of the server there"
    )]
    WhichToken { address: String },
    #[error("{address} encrypts nothing: name the server by https://, or leave --tls-ca, --tls-cert and --tls-key out")]
    NotEncrypted { address: String },
    #[error("a certificate is shown with its private key: give --tls-cert and --tls-key, or neither")]
    HalfShown,
    #[error(transparent)]
    Session(#[from] SessionNameError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "{address} does not prove to be the server that is meant: {reason}; name who signs its certificate by --tls-ca"
    )]
    Untrusted { address: String, reason: String },
    #[error(
        "{address} does not agree on encryption: {reason}; where it wants to see a certificate, show a good one by --tls-cert \
         and --tls-key"
    )]
    NotAgreed { address: String, reason: String },
    #[error("nobody answers at {address}: {reason}{hint}")]
    Connect { address: String, reason: String, hint: &'static str },
    #[error(
        "{address} answers, but no admins: it is where players connect, or a server that does not know this command; that for \
         admins is in admin.address in the data directory, and in what a server prints when it starts"
    )]
    NotForAdmins { address: String },
    #[error("{}", words::status(.0))]
    Refused(Box<Status>),
}

impl From<Status> for AdminCliError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        AdminCliError::from(status).into()
    }
}

impl AdminCliError {
    /// What TLS says against a connection: what was found here, or what the server has found.
    fn objection(address: &str, error: &rustls::Error) -> Self {
        let (address, reason) = (address.to_owned(), error.to_string());
        match error {
            rustls::Error::AlertReceived(_) => Self::NotAgreed { address, reason },
            _ => Self::Untrusted { address, reason },
        }
    }

    /// 2: what was asked for makes no sense, as elsewhere; 3: there is nobody to ask; 4: not with this token or
    /// certificate, also where so many were wrong before that nobody is told so any more; 1: all else.
    pub(super) fn exit_code(&self) -> u8 {
        const FAILURE: u8 = 1;
        const NOBODY: u8 = 3;
        const NOT_ALLOWED: u8 = 4;
        match self {
            Self::NoServer(_) | Self::Connect { .. } | Self::NotForAdmins { .. } | Self::Untrusted { .. } => NOBODY,
            Self::Address { .. }
            | Self::WhichToken { .. }
            | Self::NotEncrypted { .. }
            | Self::HalfShown
            | Self::Session(_) => USAGE,
            Self::NotAgreed { .. } => NOT_ALLOWED,
            Self::File { .. } | Self::Token { .. } | Self::Tls(_) => FAILURE,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument => USAGE,
                Code::Unauthenticated | Code::PermissionDenied => NOT_ALLOWED,
                _ if words::reason(status) == TOO_MANY_ATTEMPTS => NOT_ALLOWED,
                _ => FAILURE,
            },
        }
    }
}

/// Runs one of them.
pub(super) fn run(arguments: &AdminArgs) -> Result<(), CliError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = AdminClient::connect(&arguments.target).await?;
        let mut desk = Desk { client, json: arguments.json };
        let done = desk.run(&arguments.command).await;
        done.map_err(|error| match error {
            CliError::Admin(AdminCliError::Refused(status)) => desk.client.explain(status).into(),
            error => error,
        })
    })
}

/// Somebody with a connection.
struct Desk {
    client: AdminClient,
    json: bool,
}

impl Desk {
    async fn run(&mut self, command: &AdminCommand) -> Result<(), CliError> {
        let service = &mut self.client.service;
        match command {
            AdminCommand::Info => {
                let info = service.get_server_info(pb::GetServerInfoRequest {}).await?.into_inner();
                self.print(|| words::info(&info), || words::info_json(&info))
            }
            AdminCommand::Stats { watch, interval } => self.stats(*watch, *interval).await,
            AdminCommand::Players { session } => self.players(session.as_ref()).await,
            AdminCommand::Kick { session, player, reason } => {
                let (session, reason) = (session.to_string(), reason.clone());
                service.kick(pb::KickRequest { session: session.clone(), player: *player, reason }).await?;
                self.done(format!("player {player} of {session} is out"))
            }
            AdminCommand::Ban { target, player, duration, reason } => {
                let target = match player {
                    Some(player) => pb::ban_request::Target::Player(pb::PlayerReference {
                        session: SessionName::typed(target).map_err(AdminCliError::from)?.to_string(),
                        player: *player,
                    }),
                    None => pb::ban_request::Target::Network(target.clone()),
                };
                let (duration, reason) = (duration.map(wire_duration), reason.clone());
                let ban = service.ban(pb::BanRequest { target: Some(target), duration, reason }).await?.into_inner();
                if let Some(replaced) = &ban.replaced {
                    output::note(words::replaced(replaced));
                }
                self.print(|| words::bans(std::slice::from_ref(&ban)), || words::ban_json(&ban))
            }
            AdminCommand::Unban { network } => {
                let unbanned = service.unban(pb::UnbanRequest { network: network.clone() }).await?.into_inner();
                self.done(words::unbanned(network, &unbanned.still_banned_by))
            }
            AdminCommand::Bans => self.bans().await,
            AdminCommand::Mute { session, player, duration } => {
                let (session, duration) = (session.to_string(), duration.map(wire_duration));
                service.mute(pb::MuteRequest { session: session.clone(), player: *player, duration }).await?;
                self.done(format!("player {player} of {session} is not heard any more"))
            }
            AdminCommand::Unmute { session, player } => {
                let session = session.to_string();
                service.unmute(pb::UnmuteRequest { session: session.clone(), player: *player }).await?;
                self.done(format!("player {player} of {session} may talk again"))
            }
            AdminCommand::Pause { session } => {
                let session = session.to_string();
                let progress = service.pause(pb::PauseRequest { session: session.clone() }).await?.into_inner();
                self.progress(&session, "is paused", DOES_LATER, progress)
            }
            AdminCommand::Resume { session } => {
                let session = session.to_string();
                let progress = service.resume(pb::ResumeRequest { session: session.clone() }).await?.into_inner();
                self.progress(&session, "goes on", DOES_LATER, progress)
            }
            AdminCommand::Step { session, ticks } => {
                let session = session.to_string();
                let request = pb::StepRequest { session: session.clone(), ticks: *ticks };
                let progress = service.step(request).await?.into_inner();
                let steps_on = format!("and steps on, until it has stepped {ticks}");
                self.progress(&session, "has stepped", &steps_on, progress)
            }
            AdminCommand::Broadcast { text, session } => {
                let session = session_or_all(session.as_ref());
                service.broadcast(pb::BroadcastRequest { session, text: text.clone() }).await?;
                self.done("it is said".to_owned())
            }
            AdminCommand::Terminate { session, reason } => {
                let (session, reason) = (session.to_string(), reason.clone());
                service.terminate_session(pb::TerminateSessionRequest { session: session.clone(), reason }).await?;
                self.done(format!("{session} ends"))
            }
            AdminCommand::Drain { deadline } => {
                let deadline = deadline.map(wire_duration);
                let answer = service.drain(pb::DrainRequest { deadline }).await?.into_inner();
                let deadline = answer.deadline.map_or_else(String::new, |deadline| deadline.to_string());
                self.print(
                    || format!("the server ends when nobody plays any more, at {deadline} at the latest"),
                    || json!({"deadline": deadline}),
                )
            }
            AdminCommand::CancelDrain => {
                service.cancel_drain(pb::CancelDrainRequest {}).await?;
                self.done("the server goes on".to_owned())
            }
            AdminCommand::LogFilter { filter } => {
                let request = pb::SetLogFilterRequest { filter: filter.clone() };
                let previous = service.set_log_filter(request).await?.into_inner().previous;
                self.print(
                    || format!("lines are written by {filter}, not by {previous}"),
                    || json!({"previous": previous}),
                )
            }
        }
    }

    async fn stats(&mut self, watch: bool, interval: Duration) -> Result<(), CliError> {
        let request = pb::StreamStatsRequest { interval: Some(wire_duration(interval)) };
        let mut stats = self.client.service.stream_stats(request).await?.into_inner();
        while let Some(stats) = stats.message().await? {
            self.print(|| words::stats(&stats), || words::stats_json(&stats))?;
            if !watch {
                break;
            }
        }
        Ok(())
    }

    async fn players(&mut self, session: Option<&SessionName>) -> Result<(), CliError> {
        let session = session_or_all(session);
        let (mut players, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListPlayersRequest { session: session.clone(), page_size: 1000, page_token };
            let page = self.client.service.list_players(request).await?.into_inner();
            players.extend(page.players);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        self.print(|| words::players(&players), || words::players_json(&players))
    }

    async fn bans(&mut self) -> Result<(), CliError> {
        let (mut bans, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListBansRequest { page_size: 1000, page_token };
            let page = self.client.service.list_bans(request).await?.into_inner();
            bans.extend(page.bans);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        self.print(|| words::bans(&bans), || json!(bans.iter().map(words::ban_json).collect::<Vec<_>>()))
    }

    /// What a session `does` where it has settled, and what it will do where it has not.
    fn progress(&self, session: &str, does: &str, will: &str, progress: pb::Progress) -> Result<(), CliError> {
        let pb::Progress { tick, settled } = progress;
        let words = || {
            if settled {
                format!("{session} {does}, at tick {tick}")
            } else {
                format!("{session} is at tick {tick}, {will}")
            }
        };
        self.print(words, || json!({"session": session, "tick": tick, "settled": settled}))
    }

    fn done(&self, words: String) -> Result<(), CliError> {
        self.print(|| words, || json!({"done": true}))
    }

    fn print<T: std::fmt::Display>(
        &self,
        words: impl FnOnce() -> T,
        json: impl FnOnce() -> Json,
    ) -> Result<(), CliError> {
        let printed = if self.json { output::line(json()) } else { output::line(words()) };
        Ok(printed?)
    }
}

/// A player as the command line names one.
fn player_number(text: &str) -> Result<u32, &'static str> {
    text.parse()
        .map_err(|_| "a player is named by a number from 1 to 4294967295, as `players` lists it, and not by name")
}

/// As a call names it: none is all.
fn session_or_all(session: Option<&SessionName>) -> String {
    session.map(SessionName::to_string).unwrap_or_default()
}

fn wire_duration(duration: Duration) -> prost_types::Duration {
    // What is beyond all bounds is refused as that.
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Refusal;

    #[test]
    fn a_wrong_token_exits_with_the_same_code_however_often_it_was_tried() {
        let code = |code, reason| {
            let status = Status::from(Refusal::new(code, reason, "no"));
            AdminCliError::from(status).exit_code()
        };
        assert_eq!(code(Code::Unauthenticated, "UNKNOWN_ADMIN_TOKEN"), 4);
        assert_eq!(code(Code::ResourceExhausted, TOO_MANY_ATTEMPTS), 4);
        assert_eq!(code(Code::PermissionDenied, "ROLE"), 4);
        assert_eq!(code(Code::ResourceExhausted, "STATS"), 1);
        assert_eq!(code(Code::InvalidArgument, "MALFORMED_NAME"), 2);
    }
}
