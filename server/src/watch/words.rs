//! What spectators say, as it stands on the wire and as what it means.

use tickwire_proto::v1::{self as pb, client_message::Kind, watch_control::Action};
use tickwire_shared::{PlayerId, Tick};
use tonic::Code;

use crate::status::Refusal;

/// The slowest and the fastest that the past goes by.
pub(super) const SPEED_MIN: f64 = 0.1;
pub(super) const SPEED_MAX: f64 = 64.0;
const STEP_TICKS_MAX: i32 = 1000;
/// Messages of one call.
const MESSAGES_MAX: usize = 64;

/// A spectator's message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Word {
    Ack { epoch: u32, newest_tick: Tick },
    Ping { echo: u64 },
    Resync,
    Control(Control),
    Leave,
}

/// Where a spectator wants to be, and how fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Control {
    Seek(Tick),
    Live,
    Speed(f64),
    Paused(bool),
    Step(i32),
    Follow(Option<PlayerId>),
}

/// Reads the messages of a call.
pub(super) fn read(messages: Vec<pb::ClientMessage>) -> Result<Vec<Word>, Refusal> {
    if !(1..=MESSAGES_MAX).contains(&messages.len()) {
        let message = format!("{} messages in one call: send 1 to {MESSAGES_MAX}", messages.len());
        return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("messages"));
    }
    let read = |(index, message)| {
        read_one(message).map_err(|refusal| {
            let field = refusal.field.clone().unwrap_or_default();
            refusal.field(format!("messages[{index}].{field}"))
        })
    };
    messages.into_iter().enumerate().map(read).collect()
}

fn read_one(message: pb::ClientMessage) -> Result<Word, Refusal> {
    let not_of_spectators = |field: &'static str| {
        let message = "a spectator's stream takes acks, pings, resyncs, watch controls and leave";
        Refusal::new(Code::FailedPrecondition, "SPECTATOR", message).field(field)
    };
    match message.kind {
        Some(Kind::Ack(pb::Ack { epoch, newest_tick })) => Ok(Word::Ack { epoch, newest_tick: Tick(newest_tick) }),
        Some(Kind::Ping(pb::Ping { echo })) => Ok(Word::Ping { echo }),
        Some(Kind::Resync(_)) => Ok(Word::Resync),
        Some(Kind::Leave(_)) => Ok(Word::Leave),
        Some(Kind::WatchControl(control)) => read_control(control).map(Word::Control),
        Some(Kind::Hello(_)) => Err(not_of_spectators("hello")),
        Some(Kind::Inputs(_)) => Err(not_of_spectators("inputs")),
        None => {
            let message = "the message is of no kind that this server knows";
            Err(Refusal::new(Code::InvalidArgument, "UNKNOWN_MESSAGE", message).field("kind"))
        }
    }
}

fn read_control(control: pb::WatchControl) -> Result<Control, Refusal> {
    match control.action {
        Some(Action::SeekTick(tick)) if (1..=Tick::MAX.0).contains(&tick) => Ok(Control::Seek(Tick(tick))),
        Some(Action::SeekTick(tick)) => Err(out_of_range("watch_control.seek_tick", tick, "1 to 2^53")),
        Some(Action::Live(pb::WatchLive {})) => Ok(Control::Live),
        Some(Action::Speed(speed)) => check_speed(speed, "watch_control.speed").map(Control::Speed),
        Some(Action::Paused(paused)) => Ok(Control::Paused(paused)),
        Some(Action::StepTicks(ticks)) if ticks != 0 && (-STEP_TICKS_MAX..=STEP_TICKS_MAX).contains(&ticks) => {
            Ok(Control::Step(ticks))
        }
        Some(Action::StepTicks(ticks)) => Err(out_of_range("watch_control.step_ticks", ticks, "-1000 to 1000, not 0")),
        Some(Action::FollowPlayer(player)) => Ok(Control::Follow(player_of(player))),
        None => {
            let message = "the control has no action that this server knows";
            Err(Refusal::new(Code::InvalidArgument, "UNKNOWN_MESSAGE", message).field("watch_control.action"))
        }
    }
}

/// A speed that was asked for.
pub(super) fn check_speed(speed: f64, field: &'static str) -> Result<f64, Refusal> {
    match speed {
        SPEED_MIN..=SPEED_MAX => Ok(speed),
        _ => Err(out_of_range(field, speed, "0.1 to 64")),
    }
}

/// Whom to follow; 0 is nobody.
pub(super) fn player_of(player: u32) -> Option<PlayerId> {
    (player > 0).then_some(PlayerId(player))
}

/// Of a recording that begins later: it is not the first segment of its session's.
pub(super) fn before_first(tick: Tick, first: Tick, field: &'static str) -> Refusal {
    let message = format!("there is no tick {tick}: the recording begins with tick {first}");
    Refusal::new(Code::OutOfRange, "OUT_OF_RANGE", message).field(field)
}

fn out_of_range(field: &'static str, value: impl std::fmt::Display, range: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", format!("{value} is out of range: choose {range}")).field(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(action: Action) -> Result<Word, (Code, String)> {
        let control = pb::WatchControl { action: Some(action) };
        let read = read(vec![pb::ClientMessage { kind: Some(Kind::WatchControl(control)) }]);
        read.map(|words| words[0]).map_err(code_and_field)
    }

    fn code_and_field(refusal: Refusal) -> (Code, String) {
        (refusal.code, refusal.field.expect("it blames a field").into_owned())
    }

    #[test]
    fn controls_are_in_range_or_name_their_field() {
        let invalid = |field: &str| Err((Code::InvalidArgument, format!("messages[0].watch_control.{field}")));
        assert_eq!(control(Action::SeekTick(7)), Ok(Word::Control(Control::Seek(Tick(7)))));
        assert_eq!(control(Action::SeekTick(0)), invalid("seek_tick"));
        assert_eq!(control(Action::SeekTick((1 << 53) + 1)), invalid("seek_tick"));
        assert_eq!(control(Action::Speed(64.0)), Ok(Word::Control(Control::Speed(64.0))));
        for speed in [0.0, 0.09, 64.1, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(control(Action::Speed(speed)), invalid("speed"));
        }
        assert_eq!(control(Action::StepTicks(-1000)), Ok(Word::Control(Control::Step(-1000))));
        for ticks in [0, 1001, i32::MIN] {
            assert_eq!(control(Action::StepTicks(ticks)), invalid("step_ticks"));
        }
        assert_eq!(control(Action::FollowPlayer(0)), Ok(Word::Control(Control::Follow(None))));
    }

    #[test]
    fn what_spectators_do_not_say_is_refused_by_its_place() {
        let ping = pb::ClientMessage { kind: Some(Kind::Ping(pb::Ping { echo: 1 })) };
        let inputs = pb::ClientMessage { kind: Some(Kind::Inputs(pb::Inputs::default())) };
        let refused = |messages| read(messages).map_err(code_and_field).expect_err("not taken");
        assert_eq!(refused(vec![ping.clone(), inputs]), (Code::FailedPrecondition, "messages[1].inputs".into()));
        assert_eq!(refused(Vec::new()), (Code::InvalidArgument, "messages".into()));
        assert_eq!(refused(vec![ping.clone(); MESSAGES_MAX + 1]), (Code::InvalidArgument, "messages".into()));
        let unknown = pb::ClientMessage { kind: None };
        assert_eq!(refused(vec![unknown]), (Code::InvalidArgument, "messages[0].kind".into()));
        assert_eq!(read(vec![ping; MESSAGES_MAX]).map(|words| words.len()).ok(), Some(MESSAGES_MAX));
    }
}
