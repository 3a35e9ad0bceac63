//! The options of what a server tells of itself: log lines and traces.

use http::uri::{Authority, Uri};
use serde::{Deserialize, Serialize};

use super::{OptionsError, layers::Layers};
use crate::{
    cli::log,
    log_control::{self, LogFilterError},
};

/// Flags of `serve` for log lines and traces.
#[derive(Clone, Debug, Default, clap::Args, Serialize)]
pub(super) struct TelemetryFlags {
    /// The OpenTelemetry collector that traces are sent to by OTLP over gRPC, such as http://127.0.0.1:4317
    /// [default: what OTEL_EXPORTER_OTLP_ENDPOINT says]
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp: Option<String>,
    /// How log lines are written to standard error [default: text]
    #[arg(long, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    /// Which log lines are written: a level, error to trace, or several by module as in info,tickwire_server=debug
    /// [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// Log lines and traces, as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TelemetryOptions {
    pub(super) otlp: Option<String>,
    pub(super) log_format: LogFormat,
    pub(super) log: String,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self { otlp: None, log_format: LogFormat::Text, log: log::DEFAULT.to_owned() }
    }
}

impl TelemetryOptions {
    /// Whether they make sense.
    pub(super) fn check(&self, layers: &Layers) -> Result<(), OptionsError> {
        if let Some(url) = self.otlp.as_ref().filter(|url| !is_collector(url)) {
            let problem = "is no address of a collector that can be spoken to: write http://HOST:PORT or https://HOST:PORT, \
                           such as http://127.0.0.1:4317";
            return Err(layers.invalid("otlp", format!("{url:?}"), problem));
        }
        if let Err(error) = log_control::parse(&self.log) {
            let problem = match error {
                LogFilterError::Filter { problem, .. } => {
                    format!("is no filter of log lines: {problem}; write it as info, or info,tickwire_server=debug")
                }
                LogFilterError::NotOurs => error.to_string(),
            };
            return Err(layers.invalid("log", format!("{:?}", self.log), problem));
        }
        Ok(())
    }
}

/// Whether it is an address of HTTP, with a host, and with a port that there can be, if any.
fn is_collector(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let has_port = |authority: &Authority| {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        authority.port().is_some() || host == authority.host()
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|authority| !authority.host().is_empty() && has_port(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_have_a_host_and_a_port_that_there_can_be() {
        for url in
            ["http://127.0.0.1:4317", "https://otel.example", "http://[::1]:4317", "http://otel/v1", "http://a@b:1"]
        {
            assert!(is_collector(url), "{url}");
        }
        for url in [
            "",
            "otel:4317",
            "ftp://otel",
            "http://",
            "http://a b",
            "http://:::",
            "http://otel:99999",
            "http://otel:x",
            "http://:1",
        ] {
            assert!(!is_collector(url), "{url}");
        }
    }
}
