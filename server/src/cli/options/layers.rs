//! Where options come from: flags, before the environment, before a file, before defaults.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    ops::RangeInclusive,
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format as _, Serialized, Toml},
    value::{Dict, Map, Value},
};
use serde_json::Value as Json;

use super::{AllOptions, ENV_PREFIX, OptionsError, RELOADABLE, ServeFlags, as_json, names};
use crate::cli::{
    environment,
    unreadable::{self, Unreadable},
};

/// By which all programs are told of a collector, and of the protocol that it speaks.
pub(super) const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
pub(super) const OTLP_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// The origin of what nobody says.
const DEFAULT: &str = "default";

/// Options with their origins.
pub(in crate::cli) struct Layers(Figment);

impl Layers {
    /// Puts the flags over the environment, over the file, over the defaults.
    pub(in crate::cli) fn new(flags: &ServeFlags) -> Result<Self, OptionsError> {
        Self::over(flags, &std::env::vars_os().collect::<Vec<_>>())
    }

    /// The same over an environment of these variables.
    pub(super) fn over(flags: &ServeFlags, variables: &[(OsString, OsString)]) -> Result<Self, OptionsError> {
        let defaults = Figment::from(Layer { origin: DEFAULT, provider: Serialized::defaults(AllOptions::default()) });
        let mut figment = defaults.clone();
        if let Some(file) = &flags.config {
            if !file.is_file() {
                return Err(OptionsError::NoFile(file.clone()));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let known = as_json(&AllOptions::default());
        let names = names(&known);
        environment::check(variables.iter().map(|(name, _)| name.clone()), &names)?;
        // Where there is a collector, all programs are told of it so: unless by another protocol.
        let variable =
            |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str());
        if let Some(endpoint) = variable(OTLP_ENDPOINT).and_then(OsStr::to_str)
            && variable(OTLP_PROTOCOL).is_none_or(|protocol| protocol == "grpc")
        {
            figment = figment.merge(Layer { origin: OTLP_ENDPOINT, provider: Serialized::default("otlp", endpoint) });
        }
        let takes = |option: &str, value: &Value| {
            let alone = defaults.clone().merge(Serialized::default(option, value));
            AllOptions::read(&alone, &names).is_ok()
        };
        let variables = environment::values(variables, &names, takes)?;
        figment = figment.merge(Layer { origin: ENV_PREFIX, provider: Serialized::defaults(variables) });
        Ok(Self(figment.merge(Layer { origin: "flag", provider: Serialized::defaults(flags) })))
    }

    pub(super) fn read(&self) -> Result<AllOptions, Unreadable> {
        let known = as_json(&AllOptions::default());
        let names = names(&known);
        AllOptions::read(&self.0, &names).map_err(|error| Unreadable::new(*error, &names))
    }

    /// What is wrong with an option, and where it comes from.
    pub(super) fn invalid(
        &self,
        option: &'static str,
        value: impl ToString,
        problem: impl Into<String>,
    ) -> OptionsError {
        let origin = format!(" (from {})", self.origin(option));
        OptionsError::Invalid { option, value: value.to_string(), problem: problem.into(), origin }
    }

    /// The number of an option, if it is within a range.
    pub(super) fn within<N: PartialOrd + fmt::Display>(
        &self,
        option: &'static str,
        number: N,
        range: RangeInclusive<N>,
    ) -> Result<N, OptionsError> {
        if range.contains(&number) {
            return Ok(number);
        }
        let problem = format!("is out of range: choose {} to {}", range.start(), range.end());
        Err(self.invalid(option, number, problem))
    }

    /// All options, by name.
    pub(in crate::cli) fn values(&self) -> Result<serde_json::Map<String, Json>, OptionsError> {
        Ok(as_json(&self.read()?))
    }

    /// A line per option, as TOML, each with its origin.
    pub(in crate::cli) fn describe(&self) -> Result<Vec<String>, OptionsError> {
        let options = self.read()?;
        let line = |(name, value): (String, Json)| match value {
            Json::Null => format!("# {name} is not set"),
            value => {
                let reloadable = if RELOADABLE.contains(&name.as_str()) { ", read anew by SIGHUP" } else { "" };
                format!("{name} = {value} # {}{reloadable}", self.origin(&name))
            }
        };
        Ok(as_json(&options).into_iter().map(line).collect())
    }

    /// Whether anybody says anything of an option, be it what it would be anyway.
    pub(super) fn is_given(&self, option: &str) -> bool {
        self.0.find_metadata(option).is_some_and(|metadata| metadata.name != DEFAULT)
    }

    /// Where an option comes from.
    pub(in crate::cli) fn origin(&self, option: &str) -> String {
        unreadable::origin(self.0.find_metadata(option), option)
    }
}

/// A provider under a name of ours.
struct Layer<P> {
    origin: &'static str,
    provider: P,
}

impl<P: Provider> Provider for Layer<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.provider.data()
    }
}
