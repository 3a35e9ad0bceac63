//! Options that cannot be read at all, in the words of the options rather than of the library that reads them.

use figment::{
    Metadata, Source,
    error::{Actual, Kind},
};

use super::{environment::nearest, options::ENV_PREFIX};

/// Every option that cannot be read, a line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\nerror: "))]
pub(super) struct Unreadable(Vec<String>);

impl Unreadable {
    /// What is wrong, with options of these names.
    pub(super) fn new(error: figment::Error, options: &[&str]) -> Self {
        Self(error.into_iter().map(|error| line(&error, options)).collect())
    }
}

/// Where a value comes from: a file, an environment variable, or a layer of ours by its name.
pub(super) fn origin(metadata: Option<&Metadata>, option: &str) -> String {
    let Some(metadata) = metadata else { return "default".into() };
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        Some(_) | None if metadata.name.contains(ENV_PREFIX) => format!("{ENV_PREFIX}{}", option.to_uppercase()),
        Some(_) | None => metadata.name.clone().into_owned(),
    }
}

fn line(error: &figment::Error, options: &[&str]) -> String {
    let path = error.path.join(".").to_lowercase();
    let option = match &error.kind {
        Kind::UnknownField(name, _) if path.is_empty() => name,
        _ => &path,
    };
    let problem = match &error.kind {
        Kind::UnknownField(name, _) => {
            let meant = nearest(options.iter().copied(), name).map(|near| format!("; did you mean {near}?"));
            format!("there is no such option{}", meant.unwrap_or_default())
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("{} does not do: it takes {}", shown(found), in_words(expected))
        }
        Kind::UnknownVariant(found, known) => format!("{found:?} does not do: choose {}", known.join(" or ")),
        // Above all of files that are no TOML: the library says where.
        kind => kind.to_string(),
    };
    let origin = origin(error.metadata.as_ref(), option);
    if option.is_empty() { format!("{origin}: {problem}") } else { format!("{option}: {problem} (from {origin})") }
}

/// What was found, as it is written.
fn shown(found: &Actual) -> String {
    match found {
        Actual::Bool(is) => is.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

/// What serde calls a type.
fn in_words(expected: &str) -> &str {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number of 0 or more",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" => "text",
        "enum LogFormat" => "text or json",
        "enum AuthOption" => "open or ticket",
        "enum DurabilityOption" => "none, flush or sync",
        other => other,
    }
}
