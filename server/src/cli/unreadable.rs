//! Options that cannot be read at all, in the words of the options rather than of the library that reads them.

use figment::{Metadata, Source, error::Kind};

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
        Kind::InvalidType(found, expected) => format!("{found} is no {}", in_words(expected)),
        Kind::InvalidValue(found, expected) => format!("{found} does not do: it takes {}", in_words(expected)),
        Kind::UnknownVariant(found, known) => format!("{found:?} does not do: choose {}", known.join(" or ")),
        // Above all of files that are no TOML: the library says where.
        kind => kind.to_string(),
    };
    let origin = origin(error.metadata.as_ref(), option);
    if option.is_empty() { format!("{origin}: {problem}") } else { format!("{option}: {problem} (from {origin})") }
}

/// What serde calls a type.
fn in_words(expected: &str) -> &str {
    match expected {
        "u16" | "u32" | "u64" | "usize" => "whole number of 0 or more",
        "a boolean" => "true or false",
        other => other.trim_start_matches("a "),
    }
}
