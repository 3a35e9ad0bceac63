//! What callers ask for, from the wire to what the server can do, or to an error that names the field.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::Message;
use sha2::{Digest as _, Sha256};
use tickwire_proto::v1 as pb;
use tickwire_shared::{Game, RESULT_JSON_BYTES_MAX, SettingsError, TickRate};
use tickwire_simulation::SessionError;
use tonic::Code;
use tracing::error;

use super::catalogue::Catalogue;
use crate::{
    chat::check_characters,
    config::{EMPTY_TIMEOUT_MAX, EMPTY_TIMEOUT_MIN, SPECTATOR_DELAY_MAX, ServerConfig},
    durations::duration,
    session::{DELAY_IN_MEMORY_MAX, RequestKey, SessionName, SessionShape, StartError},
    status::Refusal,
};

const REQUEST_ID_CHARS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 16;
const KEY_CHARS_MAX: usize = 32;
const VALUE_CHARS_MAX: usize = 64;

/// A session that somebody wants.
pub(super) struct Wanted {
    pub(super) game: Arc<dyn Game>,
    pub(super) shape: SessionShape,
    pub(super) seed: Option<u64>,
    pub(super) visibility: pb::SessionVisibility,
    pub(super) empty_timeout: Duration,
    pub(super) spectator_delay: Duration,
    pub(super) label: String,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Wanted {
    /// What a caller says; the rest is the server's choice.
    pub(super) fn read(session: pb::NewSession, catalogue: &Catalogue, config: &ServerConfig) -> Result<Self, Refusal> {
        let pb::NewSession {
            game,
            settings,
            tick_rate,
            max_players,
            seed,
            visibility,
            empty_timeout,
            spectator_delay,
            label,
            attributes,
        } = session;
        let visibility = match pb::SessionVisibility::try_from(visibility) {
            Ok(pb::SessionVisibility::Unspecified) => pb::SessionVisibility::Public,
            Ok(visibility) => visibility,
            Err(_) => return Err(out_of_range("session.visibility", format!("{visibility} is no visibility"))),
        };
        let mut shape = SessionShape::of(config);
        if tick_rate > 0 {
            shape.tick_rate =
                TickRate::new(tick_rate).map_err(|error| out_of_range("session.tick_rate", error.to_string()))?;
        }
        let most = config.max_players.get();
        match max_players {
            0 => {}
            _ if max_players > most => {
                let message = format!("{max_players} are more than {most}, the most on this server");
                return Err(out_of_range("session.max_players", message));
            }
            _ => shape.max_players = max_players,
        }
        // The newer one of a name holds.
        shape.settings.extend(settings);
        let empty_timeout = match empty_timeout {
            None => config.empty_timeout,
            Some(timeout) => duration(timeout, "session.empty_timeout")?.clamp(EMPTY_TIMEOUT_MIN, EMPTY_TIMEOUT_MAX),
        };
        let spectator_delay = match spectator_delay {
            None => config.spectator_delay,
            Some(delay) => duration(delay, "session.spectator_delay")?.min(SPECTATOR_DELAY_MAX),
        };
        if spectator_delay > DELAY_IN_MEMORY_MAX && config.recordings.is_none() {
            let message = "this server records nothing, and keeps no more than 10 s without: choose 10 s or less";
            let refusal = Refusal::new(Code::FailedPrecondition, "NOT_RECORDED", message);
            return Err(refusal.field("session.spectator_delay"));
        }
        check_text(&label, LABEL_CHARS_MAX).map_err(|problem| out_of_range("session.label", problem))?;
        check_attributes(&attributes, "session.attributes")?;
        let game = Arc::clone(catalogue.find(&game, "session.game")?);
        Ok(Self { game, shape, seed, visibility, empty_timeout, spectator_delay, label, attributes })
    }
}

fn out_of_range(field: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field(field)
}

fn check_text(text: &str, chars_max: usize) -> Result<(), String> {
    if text.chars().nth(chars_max).is_some() {
        return Err(format!("it has more than {chars_max} characters"));
    }
    check_characters(text)
}

/// Whether a session can have these attributes.
pub(super) fn check_attributes(attributes: &BTreeMap<String, String>, field: &'static str) -> Result<(), Refusal> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(out_of_range(field, format!("{} attributes: give up to {ATTRIBUTES_MAX}", attributes.len())));
    }
    for (key, value) in attributes {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
        if key.is_empty() || key.len() > KEY_CHARS_MAX || !key.chars().all(is_allowed) {
            let key: String = key.chars().take(KEY_CHARS_MAX).collect();
            let message =
                format!("{key:?} is no key: use 1 to {KEY_CHARS_MAX} lower-case letters, digits, '_', '-' and '.'");
            return Err(out_of_range(field, message));
        }
        check_text(value, VALUE_CHARS_MAX).map_err(|problem| out_of_range(field, format!("{key}: {problem}")))?;
    }
    Ok(())
}

/// A session's name for an id that the caller chose; `None`: the server is to choose.
pub(super) fn chosen_name(session_id: &str) -> Result<Option<SessionName>, Refusal> {
    if session_id.is_empty() {
        return Ok(None);
    }
    SessionName::of_id(session_id).map(Some).map_err(|_| {
        let id: String = session_id.chars().take(80).collect();
        let message = format!("{id:?} is no id: use 1 to 80 lower-case letters, digits, '_' and '-'");
        Refusal::new(Code::InvalidArgument, "MALFORMED_ID", message).field("session_id")
    })
}

/// By what a call is known again; `None`: by nothing. `request` is without its id.
pub(super) fn request_key(id: String, method: &str, request: &impl Message) -> Result<Option<RequestKey>, Refusal> {
    if id.is_empty() {
        return Ok(None);
    }
    if id.len() > REQUEST_ID_CHARS_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("use 1 to {REQUEST_ID_CHARS_MAX} visible ASCII characters, such as a UUID");
        return Err(Refusal::new(Code::InvalidArgument, "MALFORMED_REQUEST_ID", message).field("request_id"));
    }
    let hash = Sha256::new().chain_update(method).chain_update([0]).chain_update(request.encode_to_vec()).finalize();
    Ok(Some(RequestKey { id, hash: hash.into() }))
}

/// What a caller is told whose call is another one than that of before by the same id.
pub(super) fn other_request() -> Refusal {
    let message = "a call with this id has asked for something else: take another id for another call";
    Refusal::new(Code::AlreadyExists, "OTHER_REQUEST", message).field("request_id")
}

/// Whether a session can end with this.
pub(super) fn check_result(result_json: &str) -> Result<(), Refusal> {
    if result_json.len() > RESULT_JSON_BYTES_MAX {
        let message = format!("{} bytes are more than {RESULT_JSON_BYTES_MAX}", result_json.len());
        return Err(out_of_range("result_json", message));
    }
    if result_json.is_empty() {
        return Ok(());
    }
    serde_json::from_str::<serde::de::IgnoredAny>(result_json).map(drop).map_err(|error| {
        Refusal::new(Code::InvalidArgument, "MALFORMED", format!("it is no JSON: {error}")).field("result_json")
    })
}

/// What a caller is told whose session did not start.
pub(super) fn not_started(name: &SessionName, error: StartError) -> Refusal {
    match error {
        StartError::Session(SessionError::Settings(error)) => {
            let field = match &error {
                SettingsError::Unknown { name, .. } | SettingsError::Range { name, .. } => {
                    format!("session.settings.{}", name.chars().take(80).collect::<String>())
                }
                SettingsError::TooMany { .. } | SettingsError::Refused(_) => "session.settings".to_owned(),
            };
            let message = error.to_string();
            // The field says which one it is about.
            let message = message.split_once(": ").map_or(message.as_str(), |(_, problem)| problem);
            Refusal::new(Code::InvalidArgument, "SETTING", message).field(field)
        }
        StartError::Session(error) => {
            error!(session = %name, %error, "a session could not be created");
            Refusal::new(
                Code::Internal,
                "GAME_FAILED",
                "the game could not create the session; the server's log says why",
            )
        }
        StartError::Recording { directory, source } => {
            error!(session = %name, directory = %directory.display(), error = %source, "a session could not be recorded");
            let message = "the session could not be recorded: try again, or another server";
            Refusal::new(Code::Unavailable, "CANNOT_RECORD", message).retry_after(Duration::from_secs(10))
        }
        StartError::Thread(error) => {
            error!(session = %name, %error, "a session got no thread");
            let message = "the server has no thread for another session: try again, or another server";
            Refusal::new(Code::Unavailable, "NO_THREAD", message).retry_after(Duration::from_secs(10))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(refusal: Refusal) -> String {
        refusal.field.expect("a field is named").into_owned()
    }

    #[test]
    fn attributes_have_bounds() {
        let of = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        for (key, value) in [("a", ""), ("map.name_2-x", &*"ö".repeat(64))] {
            check_attributes(&of(key, value), "f").expect("it is within");
        }
        for (key, value) in [
            ("", "v"),
            ("Mode", "v"),
            (&*"k".repeat(33), "v"),
            ("k", &*"v".repeat(65)),
            ("k", "a\n"),
            ("k", "a\u{202e}b"),
            ("k", "\u{200b}"),
        ] {
            assert_eq!(field(check_attributes(&of(key, value), "f").expect_err("it is beyond")), "f");
        }
        let many = (0..17).map(|i| (i.to_string(), String::new())).collect();
        check_attributes(&many, "f").expect_err("too many");
    }

    #[test]
    fn a_request_is_known_again_by_its_id_and_what_it_asks_for() {
        let request = |game: &str| pb::CreateSessionRequest {
            session: Some(pb::NewSession {
                game: game.into(),
                attributes: (0..16).map(|i| (i.to_string(), "v".to_owned())).collect(),
                ..pb::NewSession::default()
            }),
            ..pb::CreateSessionRequest::default()
        };
        let key = |id: &str, game: &str| request_key(id.into(), "Create", &request(game));
        assert_eq!(key("", "arena").expect("it has none"), None);
        assert_eq!(key("1", "arena").expect("valid"), key("1", "arena").expect("valid"));
        assert_ne!(key("1", "arena").expect("valid"), key("1", "beads").expect("valid"));
        for wrong in ["a b", "ä", &"x".repeat(65)] {
            assert_eq!(field(key(wrong, "arena").expect_err("no id")), "request_id");
        }
    }

    #[test]
    fn results_are_json_and_bounded() {
        for good in ["", "null", r#"{"winner":3}"#] {
            check_result(good).expect("it is JSON");
        }
        for wrong in ["{", "winner", &format!("\"{}\"", "x".repeat(RESULT_JSON_BYTES_MAX))] {
            assert_eq!(field(check_result(wrong).expect_err("it is none")), "result_json");
        }
    }
}
