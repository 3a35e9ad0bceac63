//! From a hello to who listens, and where.

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tokio::sync::watch;
use tonic::Code;

use super::room::{Listener, seat_ended};
use crate::{
    server::Shared,
    session::{Ending, Found, SessionHandle},
    status::Refusal,
};

const FIELD: &str = "hello.chat_token";
const SPECTATOR_FIELD: &str = "hello.stream_token";

/// Who shows a token, and to which session's room it is good.
pub(super) fn find(shared: &Shared, hello: &pb::ChatHello) -> Result<(Arc<SessionHandle>, Listener), Refusal> {
    let pb::ChatHello { chat_token, stream_token, after_id: _ } = hello;
    match (chat_token.as_slice(), stream_token.as_slice()) {
        ([], []) => {
            let message = "a player shows the chat_token of Welcome, a spectator the stream_token";
            Err(Refusal::new(Code::Unauthenticated, "TOKEN_MISSING", message).field(FIELD))
        }
        (token, []) => find_player(shared, token),
        ([], token) => {
            let (session, stream) =
                shared.spectators.listener(token).map_err(|refusal| refusal.field(SPECTATOR_FIELD))?;
            let session = session.ok_or_else(|| no_room("NOT_LIVE", "nobody talks in a recording"))?;
            // What is said tells of what has not been shown yet.
            if session.live.delay_ticks() > 0 {
                return Err(no_room("SPECTATOR_DELAY", "spectators see this session later, and so hear nothing of it"));
            }
            Ok((session, Listener::Spectator(stream)))
        }
        (_, _) => {
            let message = "a player has the one token, a spectator the other: leave one empty";
            Err(Refusal::new(Code::InvalidArgument, "MALFORMED", message).field(SPECTATOR_FIELD))
        }
    }
}

fn find_player(shared: &Shared, token: &[u8]) -> Result<(Arc<SessionHandle>, Listener), Refusal> {
    match shared.chat_tokens.find(token) {
        Found::Holder(seat, token) => Ok((Arc::clone(&seat.session), Listener::Player { seat, token })),
        Found::Ended(ending) => Err(seat_gone(ending)),
        Found::Unknown => Err(unknown_token()),
    }
}

/// Of a token that is nobody's, or no more.
pub(super) fn unknown_token() -> Refusal {
    let message = "no player of this server has this token, or it has given way to a newer one: the newest is in the Welcome \
                   of the player's stream";
    Refusal::new(Code::Unauthenticated, "UNKNOWN_TOKEN", message).field(FIELD)
}

/// What a stream ends with whose seat is gone.
pub(super) fn seat_gone(ending: Ending) -> Refusal {
    match ending {
        Ending::Left => seat_ended(),
        Ending::Lost => {
            let message = "the seat was lost for too long, and is not kept any more: join as a new player";
            Refusal::new(Code::FailedPrecondition, "GRACE_OVER", message).field(FIELD)
        }
    }
}

fn no_room(reason: &'static str, message: &str) -> Refusal {
    Refusal::new(Code::FailedPrecondition, reason, message).field(SPECTATOR_FIELD)
}

/// Waits until a listener may not listen any more: why.
pub(super) async fn gone(listener: &Listener) -> Refusal {
    match listener {
        Listener::Player { seat, .. } => seat_gone(seat.chat.ended().await),
        Listener::Spectator(stream) => {
            let mut stream = stream.clone();
            closed(&mut stream).await;
            Refusal::new(Code::FailedPrecondition, "STREAM_ENDED", "the spectator's stream has ended")
                .field(SPECTATOR_FIELD)
        }
    }
}

/// Waits until a channel on which nothing is said is closed.
async fn closed(stream: &mut watch::Receiver<()>) {
    while stream.changed().await.is_ok() {}
}
