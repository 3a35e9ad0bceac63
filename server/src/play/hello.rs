//! From Hello to Welcome: which session, whether this client fits it, and a seat.

use std::{fmt::Display, sync::Arc, time::Duration};

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
    server::Shared,
    session::{Admitted, Command, Join, NotTaken, Registry, SessionHandle, SessionState, Stripes},
    status::Refusal,
};

/// When somebody who finds all seats taken may try again.
const FULL_RETRY: Duration = Duration::from_secs(5);
/// When somebody who finds a session overrun may try again.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Of a game's name that a client sends, what it is told again.
const ECHOED_CHARS_MAX: usize = 80;

/// The session that a client asks for, if the client fits it.
pub(crate) fn find_session(registry: &Registry, hello: &Hello) -> Result<Arc<SessionHandle>, Refusal> {
    let not_found = |field, message| Refusal::new(Code::NotFound, "NOT_FOUND", message).field(field);
    let session = match (&hello.session, &hello.game) {
        (Some(name), _) => registry
            .get(name)
            .ok_or_else(|| not_found("hello.session", format!("there is no {name} on this server")))?,
        (None, Some(game)) => registry
            .default_for(Some(game))
            .ok_or_else(|| not_found("hello.game", format!("this server hosts no game {:?}", echo(game))))?,
        (None, None) => registry
            .default_for(None)
            .ok_or_else(|| not_found("hello.session", "this server has no session".to_owned()))?,
    };
    check_session(&session, hello.game.as_ref(), hello.schema_hash)?;
    Ok(session)
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
pub(super) async fn take_seat(session: &SessionHandle, player_name: String) -> Result<Admitted, Refusal> {
    let (reply, answer) = oneshot::channel();
    let answer = tokio::select! {
        biased;
        answer = ask(session, Command::Join(Join { name: player_name, reply }), answer) => answer?,
        // A seat takes a tick.
        () = session.control.pause.stands_still() => return Err(paused(session)),
    };
    answer.map_err(|error| match error {
        JoinError::Full { max_players } => {
            let message = format!("all {max_players} seats of {} are taken", session.name);
            Refusal::new(Code::ResourceExhausted, "FULL", message).retry_after(FULL_RETRY)
        }
        JoinError::Name(error) => {
            Refusal::new(Code::InvalidArgument, "NAME", error.to_string()).field("hello.player_name")
        }
        JoinError::NumbersUsed => Refusal::new(Code::FailedPrecondition, "NUMBERS_USED", error.to_string()),
    })
}

/// Sends a session a command, and waits for its answer, which comes with a tick.
pub(super) async fn ask<T>(
    session: &SessionHandle,
    command: Command,
    answer: oneshot::Receiver<T>,
) -> Result<T, Refusal> {
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
    Refusal::new(Code::Unavailable, "SESSION_PAUSED", message).field("hello.session").retry_after(FULL_RETRY)
}

fn stuck(session: &SessionHandle) -> Refusal {
    let message = format!("{} does not come back from a tick; try again, or choose another session", session.name);
    Refusal::new(Code::Unavailable, "SESSION_STUCK", message).field("hello.session").retry_after(BUSY_RETRY)
}

fn ended(session: &SessionHandle) -> Refusal {
    if let Some(text) = session.control.termination() {
        let message = format!("{}: {text}; choose another session", session.name);
        return Refusal::new(Code::FailedPrecondition, "TERMINATED", message).field("hello.session");
    }
    match session.state() {
        SessionState::Failed => Refusal::new(
            Code::FailedPrecondition,
            "SESSION_FAILED",
            format!("{} has failed; choose another session", session.name),
        )
        .field("hello.session"),
        SessionState::Running | SessionState::Stopped => Refusal::shutting_down(),
    }
}

/// Sets a player's first stream up for the seat that it has been given.
pub(super) fn sit_down(shared: &Shared, session: &SessionHandle, admitted: Admitted, hello: &Hello) -> Playing {
    let Admitted { seat, token } = admitted;
    let granted = grant(shared, session, hello);
    let (stripe, attach_token) = Stripes::take_up(seat, granted, &shared.attach_tokens);
    let mut welcome = welcome(session, &stripe, &granted);
    welcome.schema = Some(session.schema_message.clone());
    welcome.resume_token = token.map(Vec::from).unwrap_or_default();
    welcome.attach_token = attach_token.map(Vec::from).unwrap_or_default();
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
