//! A seat taken back: from a Hello with a resume token to Welcome.

use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::Code;

use super::{
    hello::{ask, check_session, sit_down},
    parse::ResumeHello,
    peer::Playing,
};
use crate::{
    server::Shared,
    session::{Command, Ending, Found, HeldSeat, NotResumed, Resume, SessionHandle},
    status::Refusal,
};

const FIELD: &str = "hello.resume_token";

/// Takes a seat back for who has its token. Nothing is touched before all that can be wrong has been looked at; then the
/// streams that have the seat end.
pub(super) async fn resume(
    shared: &Shared,
    ResumeHello { token, hello }: &ResumeHello,
) -> Result<(Arc<SessionHandle>, Playing), Refusal> {
    let (seat, proof) = match shared.resume_tokens.find(token) {
        Found::Holder(seat, proof) => (seat, proof),
        Found::Ended(ending) => return Err(ended(ending)),
        Found::Unknown => return Err(unknown()),
    };
    let HeldSeat { session, player, .. } = &*seat;
    if hello.session.as_ref().is_some_and(|name| *name != session.name) {
        let message = "the token is of a player in another session: leave the session empty";
        return Err(Refusal::new(Code::PermissionDenied, "OTHER_SESSION", message).field("hello.session"));
    }
    check_session(session, hello.game.as_ref(), hello.schema_hash)?;
    let (reply, answer) = oneshot::channel();
    let answer = ask(session, Command::Resume(Resume { player: *player, proof, reply }), answer).await?;
    let admitted = answer.map_err(|error| match error {
        NotResumed::Superseded => unknown(),
        NotResumed::Ended(ending) => ended(ending),
    })?;
    Ok((Arc::clone(session), sit_down(shared, session, admitted, hello)))
}

fn unknown() -> Refusal {
    let message = "no player of this server has this token, or it has given way to a newer one: join as a new player";
    Refusal::new(Code::Unauthenticated, "UNKNOWN_TOKEN", message).field(FIELD)
}

fn ended(ending: Ending) -> Refusal {
    let (reason, message) = match ending {
        Ending::Left => ("SEAT_ENDED", "the seat was given up, or its session has ended: join as a new player"),
        Ending::Lost => {
            ("GRACE_OVER", "the seat was lost for too long, and is not kept any more: join as a new player")
        }
    };
    Refusal::new(Code::FailedPrecondition, reason, message).field(FIELD)
}
