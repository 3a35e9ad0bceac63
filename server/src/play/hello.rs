//! From Hello to Welcome: which session, whether this client fits it, and a seat.

use std::{fmt::Display, sync::Arc, time::Duration};

use tickwire_proto::v1 as pb;
use tickwire_shared::{Schema, SchemaHash};
use tickwire_simulation::JoinError;
use tokio::sync::oneshot;
use tonic::Code;

use super::{
    attach::{grant, playing, welcome},
    parse::Hello,
    peer::Playing,
};
use crate::{
    identity::Admission,
    server::Shared,
    session::{
        Admitted, ChatSeat, Command, Join, NotSeated, NotTaken, Registry, Reservation, SessionHandle, SessionName,
        SessionState, Stripes, full, gone_for,
    },
    status::Refusal,
};

/// When somebody who finds a session overrun may try again.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// When somebody who finds a session paused may try again.
const PAUSED_RETRY: Duration = Duration::from_secs(5);

/// Of a game's name that a client sends, what it is told again.
const ECHOED_CHARS_MAX: usize = 80;

/// The session that a client asks for, if client and ticket fit it; and the seat that is kept for it there, where there is one.
pub(crate) fn find_session(
    shared: &Shared,
    hello: &Hello,
    admission: &Admission<'_>,
) -> Result<(Arc<SessionHandle>, Option<Arc<Reservation>>), Refusal> {
    let reservation = hello.ticket.as_ref().map(|ticket| shared.reservations.resolve(ticket.reveal())).transpose()?;
    let session = match &reservation {
        Some(reservation) => {
            let session = &reservation.session;
            if hello.session.as_ref().is_some_and(|name| *name != session.name) {
                let message = "the ticket is for another session: leave the session empty";
                return Err(Refusal::new(Code::PermissionDenied, "OTHER_SESSION", message).field("hello.session"));
            }
            Arc::clone(session)
        }
        None => named_session(&shared.registry, hello)?,
    };
    check_session(&session, hello.game.as_ref(), hello.schema_hash)?;
    admission.fits(&session.name.to_string(), &session.schema.game)?;
    if reservation.is_none() && !admission.names_a_session() && session.terms.visibility.takes_tickets_only() {
        return Err(needs_ticket(&session.name));
    }
    Ok((session, reservation))
}

/// Nobody comes in without a ticket of JoinSession.
pub(crate) fn needs_ticket(name: &SessionName) -> Refusal {
    let message = format!("{name} is joined by its code: get a ticket by JoinSession");
    Refusal::new(Code::PermissionDenied, "TICKET_NEEDED", message).field("hello.ticket")
}

fn named_session(registry: &Registry, hello: &Hello) -> Result<Arc<SessionHandle>, Refusal> {
    let not_found = |field, message| Refusal::new(Code::NotFound, "NOT_FOUND", message).field(field);
    match (&hello.session, &hello.game) {
        (Some(name), _) => registry.get(name).ok_or_else(|| match registry.buried(name) {
            Some(buried) if buried.end.as_ref().is_some_and(|end| end.cause() == pb::SessionEndCause::Terminated) => {
                terminated(name, "the session was ended")
            }
            Some(buried) => gone(name, buried.state() == pb::SessionState::Failed),
            None => not_found("hello.session", format!("there is no {name} on this server")),
        }),
        (None, Some(game)) => registry.default_for(Some(game)).ok_or_else(|| {
            not_found("hello.game", format!("this server has no public session of game {:?}", echo(game)))
        }),
        (None, None) => registry
            .default_for(None)
            .ok_or_else(|| not_found("hello.session", "this server has no public session".to_owned())),
    }
}

/// Whether a client that was built for a game or a schema fits a session.
pub(super) fn check_session(
    session: &SessionHandle,
    game: Option<&String>,
    schema_hash: Option<SchemaHash>,
) -> Result<(), Refusal> {
    check_schema(&session.name, &session.schema, game, schema_hash)
}

/// Whether it fits what has this name and schema.
pub(crate) fn check_schema(
    name: &dyn Display,
    schema: &Schema,
    game: Option<&String>,
    schema_hash: Option<SchemaHash>,
) -> Result<(), Refusal> {
    let does_not_fit = |field, reason, message| Refusal::new(Code::FailedPrecondition, reason, message).field(field);
    if let Some(game) = game.filter(|game| **game != schema.game) {
        let message = format!("{name} plays {:?}, not {:?}", schema.game, echo(game));
        return Err(does_not_fit("hello.game", "OTHER_GAME", message));
    }
    if let Some(hash) = schema_hash.filter(|hash| *hash != schema.hash()) {
        let message = format!(
            "{hash} is not {}, the schema of game {:?} version {} on this server: update the client, or leave the hash empty",
            schema.hash(),
            schema.game,
            schema.version,
        );
        return Err(does_not_fit("hello.schema_hash", "OTHER_SCHEMA", message));
    }
    Ok(())
}

fn echo(text: &str) -> String {
    text.chars().take(ECHOED_CHARS_MAX).collect()
}

/// Asks for a seat. The answer comes once the seat stands in a frame.
pub(super) async fn take_seat(
    session: &SessionHandle,
    player_name: String,
    reservation: Option<Arc<Reservation>>,
) -> Result<Admitted, Refusal> {
    let (reply, answer) = oneshot::channel();
    let answer = tokio::select! {
        biased;
        answer = ask(session, Command::Join(Join { name: player_name, reservation, reply }), answer) => answer?,
        // A seat takes a tick.
        () = session.control.pause.stands_still() => return Err(paused(session)),
    };
    answer.map_err(|error| match error {
        NotSeated::Join(JoinError::Full { .. }) => full(session, true),
        NotSeated::Reserved => full(session, false),
        NotSeated::Gone(state) => gone_for(state),
        NotSeated::Join(JoinError::Name(error)) => {
            Refusal::new(Code::InvalidArgument, "NAME", error.to_string()).field("hello.player_name")
        }
        NotSeated::Join(error @ JoinError::NumbersUsed) => {
            Refusal::new(Code::FailedPrecondition, "NUMBERS_USED", error.to_string())
        }
    })
}

/// Sends a session a command, and waits for its answer, which comes with a tick.
pub(super) async fn ask<T>(
    session: &SessionHandle,
    command: Command,
    answer: oneshot::Receiver<T>,
) -> Result<T, Refusal> {
    // One that has ended in a tick that took too long is not stuck any more.
    if session.state() != SessionState::Running {
        return Err(ended(session));
    }
    if session.is_stuck() {
        return Err(stuck(session));
    }
    match session.mailbox.send(command) {
        Ok(()) => {}
        Err(NotTaken::Full) => {
            let message = format!("{} takes no more messages", session.name);
            return Err(Refusal::new(Code::ResourceExhausted, "BUSY", message).retry_after(BUSY_RETRY));
        }
        Err(NotTaken::Closed) => return Err(ended(session)),
    }
    tokio::select! {
        // No answer: the session ended first.
        answer = answer => answer.map_err(|_| ended(session)),
        () = session.gets_stuck() => Err(stuck(session)),
    }
}

fn paused(session: &SessionHandle) -> Refusal {
    let message = format!("{} is paused; try again, or choose another session", session.name);
    Refusal::new(Code::Unavailable, "SESSION_PAUSED", message).field("hello.session").retry_after(PAUSED_RETRY)
}

fn stuck(session: &SessionHandle) -> Refusal {
    let message = format!("{} does not come back from a tick; try again, or choose another session", session.name);
    Refusal::new(Code::Unavailable, "SESSION_STUCK", message).field("hello.session").retry_after(BUSY_RETRY)
}

fn ended(session: &SessionHandle) -> Refusal {
    if let Some(text) = session.termination() {
        return terminated(&session.name, text);
    }
    match session.state() {
        SessionState::Ended => gone(&session.name, false),
        SessionState::Failed => gone(&session.name, true),
        SessionState::Running | SessionState::Stopped => Refusal::shutting_down(),
    }
}

fn terminated(name: &SessionName, text: &str) -> Refusal {
    let message = format!("{name}: {text}; choose another session");
    Refusal::new(Code::FailedPrecondition, "TERMINATED", message).field("hello.session")
}

fn gone(name: &SessionName, has_failed: bool) -> Refusal {
    let (reason, how) = if has_failed { ("SESSION_FAILED", "failed") } else { ("SESSION_ENDED", "ended") };
    let message = format!("{name} has {how}; choose another session");
    Refusal::new(Code::FailedPrecondition, reason, message).field("hello.session")
}

/// Sets a player's first stream up for the seat that it has been given.
pub(super) fn sit_down(shared: &Shared, session: &SessionHandle, admitted: Admitted, hello: &Hello) -> Playing {
    let Admitted { seat, token } = admitted;
    let chat_token = ChatSeat::issue(seat.seat(), &shared.chat_tokens);
    session.chat.seat(seat.seat());
    let granted = grant(shared, session, hello);
    let (stripe, attach_token) = Stripes::take_up(seat, granted, &shared.attach_tokens);
    let mut welcome = welcome(session, &stripe, &granted);
    welcome.schema = Some(session.schema_message.clone());
    welcome.resume_token = token.map(Vec::from).unwrap_or_default();
    welcome.attach_token = attach_token.map(Vec::from).unwrap_or_default();
    welcome.chat_token = chat_token.map(Vec::from).unwrap_or_default();
    if welcome.attach_token.is_empty() {
        welcome.max_stripes = 1;
    }
    playing(shared, session, stripe, welcome)
}

#[cfg(test)]
mod tests {
    use tickwire_shared::SchemaParts;

    use super::*;

    #[test]
    fn a_long_name_is_not_echoed_whole() {
        let schema = Schema::new(SchemaParts { game: "t".into(), ..SchemaParts::default() }).expect("valid");
        let game = "ö".repeat(16_000);
        let refusal = check_schema(&"sessions/a", &schema, Some(&game), None).expect_err("it is another game");
        assert_eq!(refusal.reason, "OTHER_GAME");
        assert_eq!(refusal.message.matches('ö').count(), ECHOED_CHARS_MAX);
    }
}
