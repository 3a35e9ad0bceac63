//! From messages as they stand on the wire to what they mean, or to an error that names the field. What comes out of here
//! needs no further checks, but for those that take the stream's history.

use std::num::NonZeroU32;

use smallvec::SmallVec;
use tickwire_proto::{PROTOCOL_VERSION, v1 as pb};
use tickwire_shared::{INPUTS_PER_MESSAGE_MAX, Schema, SchemaHash, SeenError, Tick};
use tickwire_simulation::{Input, InputError};
use tickwire_ticket::Secret;
use tonic::Code;

use super::inputs::{RawInput, RawInputs};
use crate::{
    session::{Inputs, SessionName, SessionNameError, TICKET_BYTES_MAX, TOKEN_BYTES, Token},
    status::Refusal,
};

/// A stream's first message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FirstHello {
    Join(Hello),
    Resume(ResumeHello),
    Attach(AttachHello),
}

/// Asks for a further stream of a player.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttachHello {
    /// It may be nobody's.
    pub(super) token: Vec<u8>,
    /// The rest says what the client takes the player's session to be.
    pub(super) schema_hash: Option<SchemaHash>,
    pub(super) session: Option<SessionName>,
    pub(super) game: Option<String>,
}

/// Asks for a seat back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResumeHello {
    /// It may be nobody's.
    pub(super) token: Token,
    /// The name in it counts for nothing: the seat has one.
    pub(super) hello: Hello,
}

/// Asks for a seat.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hello {
    /// The schema that the client was built for; none: it takes any.
    pub(crate) schema_hash: Option<SchemaHash>,
    /// None: the server's first.
    pub(crate) session: Option<SessionName>,
    /// None: any.
    pub(crate) game: Option<String>,
    /// For a seat that is kept, or from the issuer of tickets; it may be for none.
    pub(crate) ticket: Option<Secret>,
    /// Empty: the session chooses.
    pub(crate) player_name: String,
    /// In metres, finite and positive; none: the server chooses.
    pub(super) view_radius: Option<f64>,
    /// Bytes of snapshots per second; none: the server chooses.
    pub(super) max_bytes_per_second: Option<NonZeroU32>,
    /// Snapshots per second; none: one per tick.
    pub(super) max_rate: Option<NonZeroU32>,
    /// On how many stripes each snapshot is to go; 0: the server chooses.
    pub(super) snapshot_copies: u32,
}

/// A client's message after Hello.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Inputs { ack: Ack, inputs: Inputs },
    Ack(Ack),
    Ping { echo: u64 },
    Resync(pb::ResyncReason),
    Leave,
}

/// What the client has received of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) epoch: u32,
    /// The newest tick; 0: none yet.
    pub(super) newest_tick: Tick,
    /// Where it stood, for the error that it may become.
    pub(super) field: &'static str,
}

/// A message that no client may send.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the message is of no kind that protocol version {PROTOCOL_VERSION} has")]
    NoKind,
    #[error("the first message is to be a hello, not {0}")]
    HelloMissing(&'static str),
    #[error("a stream has one hello, as its first message")]
    HelloTwice,
    #[error("{0} is not {PROTOCOL_VERSION}, the version that this server speaks")]
    ProtocolVersion(u32),
    #[error("{0} bytes are no SHA-256: send 32, or none for any schema")]
    SchemaHashLength(usize),
    #[error(transparent)]
    Session(#[from] SessionNameError),
    #[error("{0} bytes are no ticket: send that of JoinSession")]
    TicketLength(usize),
    #[error("an attached stream has what the player's first one asked for: leave it empty")]
    NotOfStripe(&'static str),
    #[error("{0} bytes are no token: send the {TOKEN_BYTES} of the welcome, or none to join as a new player")]
    ResumeTokenLength(usize),
    #[error("{0} is not a finite number of metres from 0")]
    ViewRadius(f64),
    #[error("{0} inputs in one message: send 1 to {INPUTS_PER_MESSAGE_MAX}")]
    InputCount(usize),
    #[error("{error}")]
    Input { index: usize, error: InputError },
    #[error("{value} does not rise above {before}, the input before it")]
    NotRising { index: usize, field: &'static str, value: u64, before: u64 },
    #[error("who plays is where the session is: watch controls are for spectators")]
    NotWatching,
    #[error("{0} is no reason")]
    ResyncReason(i32),
}

/// Reads a stream's first message.
pub(crate) fn hello(message: pb::ClientMessage) -> Result<FirstHello, MessageError> {
    use pb::client_message::Kind;

    match message.kind.ok_or(MessageError::NoKind)? {
        Kind::Hello(hello) => read_hello(hello),
        Kind::Inputs(_) => Err(MessageError::HelloMissing("inputs")),
        Kind::Ack(_) => Err(MessageError::HelloMissing("ack")),
        Kind::Ping(_) => Err(MessageError::HelloMissing("ping")),
        Kind::Resync(_) => Err(MessageError::HelloMissing("resync")),
        Kind::Leave(_) => Err(MessageError::HelloMissing("leave")),
        Kind::WatchControl(_) => Err(MessageError::HelloMissing("watch_control")),
    }
}

/// Reads a later message of a stream that plays a game of `schema`.
pub(super) fn message(message: pb::ClientMessage, schema: &Schema) -> Result<Message, MessageError> {
    use pb::client_message::Kind;

    match message.kind.ok_or(MessageError::NoKind)? {
        Kind::Hello(_) => Err(MessageError::HelloTwice),
        Kind::Inputs(raw) => {
            let (ack, inputs) = inputs(raw.into(), schema)?;
            Ok(Message::Inputs { ack, inputs })
        }
        Kind::Ack(pb::Ack { epoch, newest_tick }) => {
            Ok(Message::Ack(Ack { epoch, newest_tick: Tick(newest_tick), field: "ack.newest_tick" }))
        }
        Kind::Ping(pb::Ping { echo }) => Ok(Message::Ping { echo }),
        Kind::Resync(pb::Resync { reason }) => match pb::ResyncReason::try_from(reason) {
            Err(_) | Ok(pb::ResyncReason::Unspecified) => Err(MessageError::ResyncReason(reason)),
            Ok(reason) => Ok(Message::Resync(reason)),
        },
        Kind::Leave(pb::Leave {}) => Ok(Message::Leave),
        Kind::WatchControl(_) => Err(MessageError::NotWatching),
    }
}

fn read_hello(hello: pb::Hello) -> Result<FirstHello, MessageError> {
    let pb::Hello {
        protocol_version,
        schema_hash,
        session,
        game,
        player_name,
        ticket,
        resume_token,
        attach_token,
        view_radius,
        max_bytes_per_second,
        max_rate,
        snapshot_copies,
    } = hello;
    if protocol_version != PROTOCOL_VERSION {
        return Err(MessageError::ProtocolVersion(protocol_version));
    }
    let schema_hash = match schema_hash.len() {
        0 => None,
        length => Some(SchemaHash(schema_hash.try_into().map_err(|_| MessageError::SchemaHashLength(length))?)),
    };
    if ticket.len() > TICKET_BYTES_MAX {
        return Err(MessageError::TicketLength(ticket.len()));
    }
    if !view_radius.is_finite() || view_radius < 0.0 {
        return Err(MessageError::ViewRadius(view_radius));
    }
    let session = if session.is_empty() { None } else { Some(session.parse()?) };
    let game = Some(game).filter(|game| !game.is_empty());
    if !attach_token.is_empty() {
        for (given, field) in [
            (!player_name.is_empty(), "player_name"),
            (!ticket.is_empty(), "ticket"),
            (!resume_token.is_empty(), "resume_token"),
            (view_radius > 0.0, "view_radius"),
            (max_bytes_per_second > 0, "max_bytes_per_second"),
            (max_rate > 0, "max_rate"),
            (snapshot_copies > 0, "snapshot_copies"),
        ] {
            if given {
                return Err(MessageError::NotOfStripe(field));
            }
        }
        return Ok(FirstHello::Attach(AttachHello { token: attach_token, schema_hash, session, game }));
    }
    let hello = Hello {
        schema_hash,
        session,
        game,
        ticket: Some(ticket).filter(|ticket| !ticket.is_empty()).map(Secret::from),
        player_name,
        view_radius: Some(view_radius).filter(|radius| *radius > 0.0),
        max_bytes_per_second: NonZeroU32::new(max_bytes_per_second),
        max_rate: NonZeroU32::new(max_rate),
        snapshot_copies,
    };
    if resume_token.is_empty() {
        return Ok(FirstHello::Join(hello));
    }
    let token = Token::try_from(resume_token).map_err(|token| MessageError::ResumeTokenLength(token.len()))?;
    Ok(FirstHello::Resume(ResumeHello { token, hello }))
}

/// Reads a message of inputs.
pub(super) fn inputs(raw: RawInputs, schema: &Schema) -> Result<(Ack, Inputs), MessageError> {
    let RawInputs { epoch, newest_tick, inputs } = raw;
    let ack = Ack { epoch, newest_tick: Tick(newest_tick), field: "inputs.newest_tick" };
    Ok((ack, read_inputs(inputs, schema)?))
}

fn read_inputs(inputs: SmallVec<[RawInput; 1]>, schema: &Schema) -> Result<Inputs, MessageError> {
    if !(1..=INPUTS_PER_MESSAGE_MAX).contains(&inputs.len()) {
        return Err(MessageError::InputCount(inputs.len()));
    }
    let (mut sequence_before, mut tick_before) = (0, 0);
    let mut read = Inputs::new();
    for (index, input) in inputs.into_iter().enumerate() {
        let RawInput { sequence, target_tick, values, seen_tick, seen_fraction } = input;
        let input = Input::new(schema, sequence, target_tick, values)
            .and_then(|input| input.with_seen(seen_tick, seen_fraction))
            .map_err(|error| MessageError::Input { index, error })?;
        for (field, value, before) in
            [("sequence", sequence, &mut sequence_before), ("target_tick", target_tick, &mut tick_before)]
        {
            if value <= *before {
                return Err(MessageError::NotRising { index, field, value, before: *before });
            }
            *before = value;
        }
        read.push(input);
    }
    Ok(read)
}

impl MessageError {
    fn code(&self) -> Code {
        match self {
            Self::HelloMissing(_) | Self::HelloTwice | Self::ProtocolVersion(_) | Self::NotWatching => {
                Code::FailedPrecondition
            }
            _ => Code::InvalidArgument,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoKind => "UNKNOWN_MESSAGE",
            Self::HelloMissing(_) => "HELLO_MISSING",
            Self::HelloTwice => "HELLO_TWICE",
            Self::ProtocolVersion(_) => "PROTOCOL_VERSION",
            Self::TicketLength(_) => "MALFORMED_TICKET",
            Self::NotOfStripe(_) => "NOT_OF_STRIPE",
            Self::Session(_) => "MALFORMED_NAME",
            Self::ResumeTokenLength(_) => "MALFORMED_TOKEN",
            Self::SchemaHashLength(_) | Self::ViewRadius(_) | Self::InputCount(_) | Self::ResyncReason(_) => {
                "OUT_OF_RANGE"
            }
            Self::Input { .. } => "INVALID_INPUT",
            Self::NotRising { .. } => "NOT_RISING",
            Self::NotWatching => "NOT_WATCHING",
        }
    }

    /// The path of the field in `ClientMessage`.
    fn field(&self) -> String {
        match self {
            Self::NoKind | Self::HelloMissing(_) => "kind".into(),
            Self::HelloTwice => "hello".into(),
            Self::ProtocolVersion(_) => "hello.protocol_version".into(),
            Self::SchemaHashLength(_) => "hello.schema_hash".into(),
            Self::Session(_) => "hello.session".into(),
            Self::TicketLength(_) => "hello.ticket".into(),
            Self::NotOfStripe(field) => format!("hello.{field}"),
            Self::ResumeTokenLength(_) => "hello.resume_token".into(),
            Self::ViewRadius(_) => "hello.view_radius".into(),
            Self::InputCount(_) => "inputs.inputs".into(),
            Self::Input { index, error } => {
                let field = match error {
                    InputError::SequenceZero => "sequence",
                    InputError::TargetTick(_) => "target_tick",
                    InputError::TooManyValues { .. } | InputError::Range { .. } => "values",
                    InputError::Seen(SeenError::Tick(_)) => "seen_tick",
                    InputError::Seen(SeenError::Fraction(_)) => "seen_fraction",
                };
                format!("inputs.inputs[{index}].{field}")
            }
            Self::NotRising { index, field, .. } => format!("inputs.inputs[{index}].{field}"),
            Self::ResyncReason(_) => "resync.reason".into(),
            Self::NotWatching => "watch_control".into(),
        }
    }
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::new(error.code(), error.reason(), error.to_string()).field(error.field())
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{InputField, Quantity, SchemaParts, Seen};

    use super::*;

    fn schema() -> Schema {
        let inputs = vec![InputField::hold("walk", Quantity::count(-1..=1))];
        Schema::new(SchemaParts { game: "t".into(), inputs, ..SchemaParts::default() }).expect("valid")
    }

    fn with(kind: pb::client_message::Kind) -> pb::ClientMessage {
        pb::ClientMessage { kind: Some(kind) }
    }

    fn hello_of(change: impl FnOnce(&mut pb::Hello)) -> Result<FirstHello, (Code, String)> {
        let mut message = pb::Hello { protocol_version: PROTOCOL_VERSION, ..pb::Hello::default() };
        change(&mut message);
        hello(with(pb::client_message::Kind::Hello(message))).map_err(code_and_field)
    }

    fn inputs_of(inputs: &[(u64, u64, &[i32])]) -> Result<Message, (Code, String)> {
        let input = |&(sequence, target_tick, values): &(u64, u64, &[i32])| pb::Input {
            sequence,
            target_tick,
            values: values.to_vec(),
            ..pb::Input::default()
        };
        let inputs = pb::Inputs { epoch: 0, newest_tick: 0, inputs: inputs.iter().map(input).collect() };
        message(with(pb::client_message::Kind::Inputs(inputs)), &schema()).map_err(code_and_field)
    }

    fn code_and_field(error: MessageError) -> (Code, String) {
        let refusal = Refusal::from(error);
        (refusal.code, refusal.field.expect("every message error names a field").into_owned())
    }

    #[test]
    fn an_empty_hello_asks_for_anything() {
        let anything = Hello {
            schema_hash: None,
            session: None,
            game: None,
            ticket: None,
            player_name: String::new(),
            view_radius: None,
            max_bytes_per_second: None,
            max_rate: None,
            snapshot_copies: 0,
        };
        assert_eq!(hello_of(|_| {}), Ok(FirstHello::Join(anything)));
    }

    #[test]
    fn a_hello_with_a_resume_token_asks_as_one_who_joins() {
        let Ok(FirstHello::Join(hello)) = hello_of(|hello| hello.view_radius = 20.0) else { panic!("a join") };
        let resumed = hello_of(|hello| {
            hello.view_radius = 20.0;
            hello.resume_token = vec![7; 32];
        });
        assert_eq!(resumed, Ok(FirstHello::Resume(ResumeHello { token: [7; 32], hello })));
    }

    #[test]
    fn a_hello_with_a_token_asks_for_nothing_else() {
        let attach = AttachHello { token: vec![1], schema_hash: None, session: None, game: None };
        assert_eq!(hello_of(|hello| hello.attach_token = vec![1]), Ok(FirstHello::Attach(attach)));
        let refused = |change: fn(&mut pb::Hello)| {
            let hello = hello_of(|hello| {
                hello.attach_token = vec![1];
                change(hello);
            });
            hello.expect_err("one wish too many")
        };
        let invalid = |field: &str| (Code::InvalidArgument, field.to_owned());
        assert_eq!(refused(|hello| hello.player_name = "Ada".into()), invalid("hello.player_name"));
        assert_eq!(refused(|hello| hello.ticket = "t".into()), invalid("hello.ticket"));
        assert_eq!(refused(|hello| hello.resume_token = vec![1; 32]), invalid("hello.resume_token"));
        assert_eq!(refused(|hello| hello.view_radius = 1.0), invalid("hello.view_radius"));
        assert_eq!(refused(|hello| hello.max_bytes_per_second = 1), invalid("hello.max_bytes_per_second"));
        assert_eq!(refused(|hello| hello.max_rate = 1), invalid("hello.max_rate"));
        assert_eq!(refused(|hello| hello.snapshot_copies = 2), invalid("hello.snapshot_copies"));
    }

    #[test]
    fn hellos_that_are_wrong_name_the_field() {
        let refused = |change: fn(&mut pb::Hello)| hello_of(change).expect_err("wrong");
        let invalid = |field: &str| (Code::InvalidArgument, field.to_owned());
        assert_eq!(
            refused(|hello| hello.protocol_version = 2),
            (Code::FailedPrecondition, "hello.protocol_version".into())
        );
        assert_eq!(refused(|hello| hello.schema_hash = vec![1; 31]), invalid("hello.schema_hash"));
        assert_eq!(refused(|hello| hello.session = "arena-1".into()), invalid("hello.session"));
        assert_eq!(refused(|hello| hello.view_radius = f64::NAN), invalid("hello.view_radius"));
        assert_eq!(refused(|hello| hello.view_radius = f64::INFINITY), invalid("hello.view_radius"));
        assert_eq!(refused(|hello| hello.view_radius = -0.5), invalid("hello.view_radius"));
        assert_eq!(refused(|hello| hello.ticket = "t".repeat(5000)), (Code::InvalidArgument, "hello.ticket".into()));
        assert_eq!(refused(|hello| hello.resume_token = vec![1; 31]), invalid("hello.resume_token"));
    }

    #[test]
    fn inputs_rise_and_stay_in_range() {
        let invalid = |field: &str| Err((Code::InvalidArgument, field.to_owned()));
        assert!(inputs_of(&[(1, 5, &[1]), (2, 6, &[])]).is_ok());
        assert_eq!(inputs_of(&[]), invalid("inputs.inputs"));
        let many = (1..=33).map(|i| (i, i, [].as_slice())).collect::<Vec<_>>();
        assert_eq!(inputs_of(&many), invalid("inputs.inputs"));
        assert!(inputs_of(&many[..32]).is_ok());
        assert_eq!(inputs_of(&[(0, 5, &[])]), invalid("inputs.inputs[0].sequence"));
        assert_eq!(inputs_of(&[(1, 5, &[]), (1, 6, &[])]), invalid("inputs.inputs[1].sequence"));
        assert_eq!(inputs_of(&[(1, 5, &[]), (2, 5, &[])]), invalid("inputs.inputs[1].target_tick"));
        assert_eq!(inputs_of(&[(1, 0, &[])]), invalid("inputs.inputs[0].target_tick"));
        assert_eq!(inputs_of(&[(1, 1 << 63, &[])]), invalid("inputs.inputs[0].target_tick"));
        assert_eq!(inputs_of(&[(1, 5, &[0, 0])]), invalid("inputs.inputs[0].values"));
        assert_eq!(inputs_of(&[(1, 5, &[2])]), invalid("inputs.inputs[0].values"));
    }

    #[test]
    fn what_was_seen_is_a_moment_or_names_its_field() {
        let seen_of = |seen_tick, seen_fraction| {
            let input = pb::Input { sequence: 1, target_tick: 5, seen_tick, seen_fraction, ..pb::Input::default() };
            let inputs = pb::Inputs { inputs: vec![input], ..pb::Inputs::default() };
            match message(with(pb::client_message::Kind::Inputs(inputs)), &schema()).map_err(code_and_field)? {
                Message::Inputs { inputs, .. } => Ok(inputs[0].seen()),
                other => panic!("no inputs: {other:?}"),
            }
        };
        let invalid = |field: &str| Err((Code::InvalidArgument, format!("inputs.inputs[0].{field}")));
        assert_eq!((seen_of(0, 0), seen_of(0, 9)), (Ok(None), Ok(None)));
        assert_eq!(seen_of(1 << 53, 255), Ok(Some(Seen { tick: Tick::MAX, fraction: 255 })));
        assert_eq!(seen_of((1 << 53) + 1, 0), invalid("seen_tick"));
        assert_eq!(seen_of(u64::MAX, 0), invalid("seen_tick"));
        assert_eq!((seen_of(3, 256), seen_of(0, u32::MAX)), (invalid("seen_fraction"), invalid("seen_fraction")));
    }

    #[test]
    fn messages_of_no_or_another_kind_are_refused() {
        let refused = |result: Result<Message, MessageError>| code_and_field(result.expect_err("wrong"));
        let resync = |reason| with(pb::client_message::Kind::Resync(pb::Resync { reason }));
        assert_eq!(
            refused(message(pb::ClientMessage { kind: None }, &schema())),
            (Code::InvalidArgument, "kind".into())
        );
        assert_eq!(refused(message(resync(99), &schema())), (Code::InvalidArgument, "resync.reason".into()));
        assert_eq!(refused(message(resync(0), &schema())), (Code::InvalidArgument, "resync.reason".into()));
        let twice = with(pb::client_message::Kind::Hello(pb::Hello::default()));
        assert_eq!(refused(message(twice, &schema())), (Code::FailedPrecondition, "hello".into()));
        let early = with(pb::client_message::Kind::Leave(pb::Leave {}));
        assert_eq!(hello(early).map_err(code_and_field), Err((Code::FailedPrecondition, "kind".into())));
    }
}
