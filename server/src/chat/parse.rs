//! What a client's messages mean, before anything is done about them.

use tickwire_proto::v1::{self as pb, chat_message::Kind};
use tickwire_shared::PlayerId;
use tonic::Code;

use crate::status::Refusal;

/// What a client says once it has said hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Say(Say),
    Mute(PlayerId),
    Unmute(PlayerId),
}

/// Something to be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Say {
    pub(super) to: To,
    pub(super) text: String,
    pub(super) client_ref: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Everyone,
    /// Their own.
    Team,
    Direct(PlayerId),
}

/// A client's first message.
pub(super) fn hello(message: pb::ChatMessage) -> Result<pb::ChatHello, Refusal> {
    match message.kind {
        Some(Kind::Hello(hello)) => Ok(hello),
        _ => {
            Err(Refusal::new(Code::FailedPrecondition, "HELLO_MISSING", "the first message is a hello").field("hello"))
        }
    }
}

/// Any later one.
pub(super) fn word(message: pb::ChatMessage) -> Result<Word, Refusal> {
    match message.kind {
        Some(Kind::Say(say)) => read_say(say).map(Word::Say),
        Some(Kind::Mute(pb::ChatMute { player })) => Ok(Word::Mute(player_of("mute.player", player)?)),
        Some(Kind::Unmute(pb::ChatUnmute { player })) => Ok(Word::Unmute(player_of("unmute.player", player)?)),
        Some(Kind::Hello(_)) => Err(malformed("hello", "a stream has one hello")),
        Some(_) => Err(malformed("kind", "this is what the server says: say, mute or unmute")),
        None => Err(malformed("kind", "there is nothing in it that this server knows: say, mute or unmute")),
    }
}

fn read_say(pb::ChatSay { channel, to_player, text, client_ref }: pb::ChatSay) -> Result<Say, Refusal> {
    let to = match pb::ChatChannel::try_from(channel) {
        Ok(pb::ChatChannel::Unspecified | pb::ChatChannel::Everyone) => To::Everyone,
        Ok(pb::ChatChannel::Team) => To::Team,
        Ok(pb::ChatChannel::Direct) => To::Direct(player_of("say.to_player", to_player)?),
        Ok(pb::ChatChannel::System) => return Err(malformed("say.channel", "only the server talks there")),
        Err(_) => return Err(malformed("say.channel", &format!("{channel} is no channel"))),
    };
    if to_player != 0 && !matches!(to, To::Direct(_)) {
        return Err(malformed("say.to_player", "it is for the direct channel: leave it 0"));
    }
    Ok(Say { to, text, client_ref })
}

fn player_of(field: &'static str, player: u32) -> Result<PlayerId, Refusal> {
    if player == 0 {
        return Err(malformed(field, "players' numbers begin with 1"));
    }
    Ok(PlayerId(player))
}

fn malformed(field: &'static str, message: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, "MALFORMED", message).field(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind) -> Result<Word, (Code, String)> {
        word(pb::ChatMessage { kind: Some(kind) })
            .map_err(|refusal| (refusal.code, refusal.field.unwrap_or_default().into_owned()))
    }

    fn say(channel: i32, to_player: u32) -> Result<Word, (Code, String)> {
        read(Kind::Say(pb::ChatSay { channel, to_player, text: "hi".into(), client_ref: 7 }))
    }

    #[test]
    fn what_is_said_goes_to_everyone_a_team_or_one_player() {
        let said = |to| Ok(Word::Say(Say { to, text: "hi".into(), client_ref: 7 }));
        assert_eq!([say(0, 0), say(1, 0)], [said(To::Everyone), said(To::Everyone)]);
        assert_eq!([say(2, 0), say(3, 5)], [said(To::Team), said(To::Direct(PlayerId(5)))]);
        assert_eq!(read(Kind::Mute(pb::ChatMute { player: 5 })), Ok(Word::Mute(PlayerId(5))));
        assert_eq!(read(Kind::Unmute(pb::ChatUnmute { player: 5 })), Ok(Word::Unmute(PlayerId(5))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let wrong = |field: &str| Err((Code::InvalidArgument, field.to_owned()));
        assert_eq!([say(4, 0), say(9, 0), say(-1, 0)], [(); 3].map(|()| wrong("say.channel")));
        assert_eq!([say(3, 0), say(2, 5), say(0, 5)], [(); 3].map(|()| wrong("say.to_player")));
        assert_eq!(read(Kind::Mute(pb::ChatMute { player: 0 })), wrong("mute.player"));
        assert_eq!(read(Kind::Unmute(pb::ChatUnmute { player: 0 })), wrong("unmute.player"));
        assert_eq!(read(Kind::Hello(pb::ChatHello::default())), wrong("hello"));
        assert_eq!(read(Kind::Line(pb::ChatLine::default())), wrong("kind"));
        assert!(word(pb::ChatMessage { kind: None }).is_err());
        assert!(hello(pb::ChatMessage { kind: Some(Kind::Say(pb::ChatSay::default())) }).is_err());
    }
}
