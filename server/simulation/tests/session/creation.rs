//! Sessions that come to be, and those that do not.

use std::sync::Arc;

use tickwire_shared::{NetId, SettingsError, Tick};
use tickwire_simulation::{Session, SessionConfig, SessionError};

use crate::game::{Dots, session, session_with, tick};

fn error_of(game: Dots, config: SessionConfig) -> SessionError {
    Session::new(Arc::new(game), config).expect_err("it must not come to be")
}

#[test]
fn a_new_session_stands_at_tick_zero_with_the_world_to_come() {
    let mut session = session();
    assert_eq!((session.tick(), session.seats_taken()), (Tick::ZERO, 0));
    assert!(session.frame().places.entries().is_empty());
    let (_, output) = tick(&mut session);
    assert_eq!(output.frame.tick, Tick(1));
    assert_eq!(output.result.truth.kinds[0].spawned[0].0, NetId(1));
}

#[test]
fn a_session_can_move_to_another_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&session());
}

#[test]
fn settings_are_checked_by_number_range_and_game() {
    let with = |values: &[i32]| SessionConfig { settings: values.to_vec(), ..SessionConfig::default() };
    assert_eq!(session_with(with(&[20])).settings().get("speed"), 10.0);
    assert_eq!(
        error_of(Dots::default(), with(&[20, 1])),
        SessionError::Settings(SettingsError::TooMany { count: 2, known: 1 })
    );
    assert_eq!(
        error_of(Dots::default(), with(&[-1])).to_string(),
        "settings.speed: -0.5 is out of range: choose 0 to 100 m/s"
    );
    assert_eq!(error_of(Dots::default(), with(&[26])).to_string(), "settings: speed: 13 brings bad luck");
}

#[test]
fn settings_by_name_go_over_those_by_number() {
    let named = |settings: &[(&str, f64)]| SessionConfig {
        settings: vec![20],
        named_settings: settings.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        ..SessionConfig::default()
    };
    assert_eq!(session_with(named(&[("speed", 4.0)])).settings().get("speed"), 4.0);
    let unknown = error_of(Dots::default(), named(&[("sped", 4.0)]));
    assert_eq!(unknown.to_string(), "settings.sped: the game has no such setting; it has speed");
    let out_of_range = error_of(Dots::default(), named(&[("speed", f64::NAN)]));
    assert!(matches!(out_of_range, SessionError::Settings(SettingsError::Range { .. })), "{out_of_range:?}");
}

#[test]
fn systems_without_an_order_are_refused_by_name() {
    let error = error_of(Dots { ambiguous: true, ..Dots::default() }, SessionConfig::default());
    assert!(matches!(&error, SessionError::Systems { .. }), "{error:?}");
    let message = error.to_string();
    for part in ["\"dots\"", "add_one", "double", "Total"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn a_panic_while_creating_is_an_error_that_names_the_step() {
    for (step, message) in [("define", "no definition"), ("setup", "no world")] {
        let error = error_of(Dots { breaks_in: Some(step), ..Dots::default() }, SessionConfig::default());
        assert!(error.to_string().starts_with(&format!("game \"dots\" panicked in {step}: ")), "{error}");
        assert!(error.to_string().contains(message), "{error}");
    }
}
