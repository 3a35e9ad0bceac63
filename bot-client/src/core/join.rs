//! How a client asks to be let in, and what it refuses of a server.

use tickwire_proto::{PROTOCOL_VERSION, v1 as pb};
use tickwire_shared::{SchemaHash, SettingsError, TickRateError};
use tickwire_ticket::Secret;
use tickwire_wire::schema::SchemaDecodeError;

#[cfg(doc)]
use super::Core;
use super::{message, resume::Resume, stripes::Stripes};

/// What a client asks for when it joins. All of it may stay as it is by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinOptions {
    /// The session's name, such as `sessions/arena-1`; empty: the server's first.
    pub session: String,
    /// The game that the client was built for; empty: any.
    pub game: String,
    /// The schema that the client was built for; `None`: any, by the one that the server sends.
    pub schema_hash: Option<SchemaHash>,
    /// What lets the player in, where the server asks for it; it is good once. The client takes its seat back without.
    pub ticket: Secret,
    /// The name that other players see, 1 to 32 characters; empty: the server chooses.
    pub player_name: String,
    /// How far to see, in metres; 0: the server's choice.
    pub view_radius: f64,
    /// The most bytes of snapshots per second; 0: the server's choice.
    pub bytes_per_second_max: u32,
    /// The most snapshots per second; 0: the server's choice.
    pub snapshots_per_second_max: u32,
    /// Takes back a seat: [`Core::resume_token`] of the client that had it. Its streams end.
    pub resume_token: Vec<u8>,
    /// How the client itself takes its seat back when its last connection is lost.
    pub resume: Resume,
    /// How many streams to have, each on a connection of its own, where the server allows it.
    pub stripes: Stripes,
    /// On how many of them each snapshot is sent: 1 or 2; 0: 1. Two cost twice the bytes, and a loss on one then costs nothing.
    pub snapshot_copies: u32,
}

impl JoinOptions {
    /// The first message of a stream.
    #[must_use]
    pub fn hello(&self) -> pb::ClientMessage {
        message(pb::client_message::Kind::Hello(self.hello_message()))
    }

    pub(super) fn hello_message(&self) -> pb::Hello {
        pb::Hello {
            protocol_version: PROTOCOL_VERSION,
            schema_hash: self.schema_hash.map_or_else(Vec::new, |hash| hash.0.to_vec()),
            session: self.session.clone(),
            game: self.game.clone(),
            player_name: self.player_name.clone(),
            ticket: self.ticket.reveal().to_owned(),
            resume_token: self.resume_token.clone(),
            view_radius: self.view_radius,
            max_bytes_per_second: self.bytes_per_second_max,
            max_rate: self.snapshots_per_second_max,
            snapshot_copies: self.snapshot_copies,
            ..pb::Hello::default()
        }
    }
}

/// The first message of a further stream of a player.
pub(super) fn attach_hello(token: &[u8]) -> pb::ClientMessage {
    message(pb::client_message::Kind::Hello(pb::Hello {
        protocol_version: PROTOCOL_VERSION,
        attach_token: token.to_vec(),
        ..pb::Hello::default()
    }))
}

/// A server that does not speak as agreed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// Something else than a welcome came first.
    #[error("the server's first message is not a welcome")]
    NotWelcome,
    /// A welcome came again.
    #[error("the server sent a second welcome")]
    SecondWelcome,
    /// Player 0 is nobody, and a further stream is its player's.
    #[error("welcome.player: 0, or another player than on the first stream")]
    Player,
    /// No such tick rate.
    #[error("welcome.tick_rate: {0}")]
    TickRate(#[from] TickRateError),
    /// The session's pace is another than before.
    #[error("welcome.tick_rate: {now} Hz, where it was {before} before the connection was lost")]
    OtherRate {
        /// In Hz.
        before: u32,
        /// In Hz.
        now: u32,
    },
    /// A tick beyond 2^53.
    #[error("{field}: tick {tick} is beyond 2^53")]
    Tick {
        /// The field.
        field: &'static str,
        /// Its value.
        tick: u64,
    },
    /// No schema.
    #[error("welcome.schema: missing")]
    NoSchema,
    /// A snapshot that is no protobuf message.
    #[error("the server's message cannot be decoded: {0}")]
    Malformed(#[from] tickwire_wire::Malformed),
    /// A schema that breaks the rules of schemas.
    #[error("welcome.{0}")]
    Schema(#[from] SchemaDecodeError),
    /// Settings that are not the schema's.
    #[error("welcome.{0}")]
    Settings(#[from] SettingsError),
    /// Another schema than was asked for.
    #[error("welcome.schema: its hash is {found}, this client was built for {expected}: update the older one")]
    SchemaHash {
        /// The client's.
        expected: SchemaHash,
        /// The server's.
        found: SchemaHash,
    },
}
