//! Environment variables: what they say to options, and those that look like the server's and are none of them, which are most
//! often misspelt, and never passed over.

use std::ffi::OsString;

use figment::value::{Dict, Value};

use super::{log, options::ENV_PREFIX};

/// What the server reads from the environment beside its options.
const OTHERS: [&str; 2] = [log::VARIABLE, "TICKWIRE_CONFIG"];
/// How alike a name must be to be what was meant, from 0 to 1.
const ALIKE: f64 = 0.7;

/// A variable that says nothing to any option.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error("{name}: the server reads no such environment variable; {advice}")]
    Unknown { name: String, advice: String },
    #[error("{name}: {value:?} is no text in UTF-8: write it so")]
    NoText { name: String, value: OsString },
}

/// Looks through the names of the environment for those with the server's prefix that are no option's.
pub(super) fn check(names: impl Iterator<Item = OsString>, options: &[&str]) -> Result<(), EnvironmentError> {
    let known: Vec<String> = options
        .iter()
        .map(|option| format!("{ENV_PREFIX}{}", option.to_uppercase()))
        .chain(OTHERS.map(str::to_owned))
        .collect();
    // Letters count as alike in either case, as they do where the options are read.
    let upper = |name: OsString| name.to_string_lossy().to_uppercase();
    let mut strange: Vec<String> = names
        .map(upper)
        .filter(|name| name.strip_prefix(ENV_PREFIX).is_some_and(|rest| !is_service_link(rest)))
        .filter(|name| !known.contains(name))
        .collect();
    strange.sort();
    let Some(name) = strange.into_iter().next() else { return Ok(()) };
    // What they all begin with makes none of them like another.
    let rest = |name| str::strip_prefix(name, ENV_PREFIX).unwrap_or_default();
    let advice = match nearest(known.iter().map(|known| rest(known)), rest(&name)) {
        Some(nearest) => format!("did you mean {ENV_PREFIX}{nearest}?"),
        None => "unset it; --help lists the options, each of which has one".to_owned(),
    };
    Err(EnvironmentError::Unknown { name, advice })
}

/// What variables say to options. To an option that takes text it is the text as it stands, also where that looks like a number;
/// to others a number. `takes` says whether an option takes a value.
pub(super) fn values(
    variables: &[(OsString, OsString)],
    options: &[&str],
    takes: impl Fn(&str, &Value) -> bool,
) -> Result<Dict, EnvironmentError> {
    let mut values = Dict::new();
    for (name, value) in variables {
        let option = name.to_string_lossy().to_uppercase();
        let Some(option) = option.strip_prefix(ENV_PREFIX).map(str::to_lowercase) else { continue };
        if !options.contains(&option.as_str()) {
            continue;
        }
        let Some(text) = value.to_str() else {
            let name = format!("{ENV_PREFIX}{}", option.to_uppercase());
            return Err(EnvironmentError::NoText { name, value: value.clone() });
        };
        let as_text = Value::from(text);
        let value = if takes(&option, &as_text) { as_text } else { number(text.trim()).unwrap_or(as_text) };
        values.insert(option, value);
    }
    Ok(values)
}

fn number(text: &str) -> Option<Value> {
    let whole = text.parse::<u64>().map(Value::from).or_else(|_| text.parse::<i64>().map(Value::from));
    whole.or_else(|_| text.parse::<f64>().map(Value::from)).ok()
}

/// The one of those that there are that was meant, if it is like any.
pub(super) fn nearest<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let rated = known.map(|known| (strsim::normalized_levenshtein(known, name), known));
    let (likeness, nearest) = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likeness >= ALIKE).then_some(nearest)
}

/// Whether a variable is one of those that Kubernetes sets for a service by the name of `tickwire`, or that begins so.
fn is_service_link(rest: &str) -> bool {
    let words: Vec<&str> = rest.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    words.last() == Some(&"PORT")
        || words.windows(2).any(|pair| match pair {
            ["SERVICE", "HOST" | "PORT"] => true,
            ["PORT", number] => is_number(number),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names(names: &[&str]) -> Result<(), String> {
        let names = names.iter().map(OsString::from);
        check(names, &["tick_rate", "max_players", "set"]).map_err(|error| error.to_string())
    }

    #[test]
    fn what_belongs_to_the_server_or_to_others_is_passed_over() {
        assert_eq!(check_names(&["PATH", "TICKWIRE", "TICKWIRE_TICK_RATE", "tickwire_set", "TICKWIRE_LOG"]), Ok(()));
        assert_eq!(check_names(&["TICKWIRE_CONFIG", "TICKWIRE_MAX_PLAYERS"]), Ok(()));
        let links = [
            "TICKWIRE_SERVICE_HOST",
            "TICKWIRE_SERVICE_PORT",
            "TICKWIRE_SERVICE_PORT_GRPC",
            "TICKWIRE_PORT",
            "TICKWIRE_PORT_7777_TCP",
            "TICKWIRE_PORT_7777_TCP_ADDR",
            "TICKWIRE_SERVER_SERVICE_HOST",
            "TICKWIRE_SERVER_PORT",
        ];
        assert_eq!(check_names(&links), Ok(()));
    }

    #[test]
    fn what_is_misspelt_is_named_with_what_was_meant() {
        let said = |name| check_names(&["TICKWIRE_SET", name]).expect_err("unknown");
        assert!(said("TICKWIRE_TICKRATE").ends_with("did you mean TICKWIRE_TICK_RATE?"));
        assert!(said("tickwire_max_player").starts_with("TICKWIRE_MAX_PLAYER: "));
        assert!(said("tickwire_max_player").ends_with("did you mean TICKWIRE_MAX_PLAYERS?"));
        for nothing in ["TICKWIRE_ABRACADABRA", "TICKWIRE_NOPE", "TICKWIRE_LAG"] {
            let advice = "unset it; --help lists the options, each of which has one";
            assert!(said(nothing).ends_with(advice), "{}", said(nothing));
        }
        assert!(said("TICKWIRE_").starts_with("TICKWIRE_: "));
    }
}
