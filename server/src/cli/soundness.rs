//! Whether a server could be started with its options, and which of them is to blame where it could not.

use std::{fmt, sync::Arc};

use tickwire_shared::Game;
use tickwire_simulation::SessionError;

use super::{
    CliError,
    options::{Layers, ServeConfig},
    traces::Traces,
};
use crate::{RunError, admin::AdminError, identity::IdentityError, server};

/// Whether a server could be started with these options: all that a start looks at but for addresses, and for who has the data
/// directory now. Within a tokio runtime.
///
/// # Errors
/// As a start's.
pub(super) fn check(layers: &Layers, config: &ServeConfig, games: &[Arc<dyn Game>]) -> Result<(), CliError> {
    config.otlp.as_deref().map(Traces::check).transpose()?;
    server::check(&config.server, games).map_err(|error| blame(layers, config, error))
}

/// Why a server does not start, with the option that says so, where one does.
pub(super) fn blame(layers: &Layers, config: &ServeConfig, source: RunError) -> CliError {
    match option_of(config, &source) {
        Some(option) => {
            let origin = layers.origin(option);
            CliError::Unsound(Unsound { option, source: Box::new(source), origin })
        }
        None => source.into(),
    }
}

fn option_of(config: &ServeConfig, error: &RunError) -> Option<&'static str> {
    let identity = &config.server.identity;
    match error {
        RunError::UnknownGame { .. } => Some("game"),
        RunError::GameTwice(name) if config.server.games.contains(name) => Some("game"),
        RunError::Session { source: SessionError::Settings(_), .. } => Some("set"),
        RunError::Admin(AdminError::Tokens { .. }) => Some("admin_tokens"),
        RunError::Admin(AdminError::File { path, .. })
            if config.server.admin.as_ref().is_some_and(|admin| admin.tokens.as_ref() == Some(path)) =>
        {
            Some("admin_tokens")
        }
        RunError::Recording { .. } | RunError::DirectoryInUse { .. } => Some("data_dir"),
        RunError::Identity(
            IdentityError::Unreadable { path, .. }
            | IdentityError::TooLong { path, .. }
            | IdentityError::TicketKeys { path, .. }
            | IdentityError::ApiKeys { path, .. },
        ) => {
            let files = [("ticket_keys", &identity.ticket_keys), ("api_keys", &identity.api_keys)];
            files.into_iter().find_map(|(option, file)| (file.as_ref() == Some(path)).then_some(option))
        }
        _ => None,
    }
}

/// Why a server does not start, of an option.
#[derive(Debug)]
pub(super) struct Unsound {
    option: &'static str,
    pub(super) source: Box<RunError>,
    /// Where the option comes from.
    origin: String,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, source, origin } = self;
        let problem = match &**source {
            RunError::Session { source, .. } => source.to_string(),
            source => source.to_string(),
        };
        // What programs call it that host a server themselves.
        let fields = ["games: ", "settings: ", "settings.", "admin_tokens: "];
        let problem = fields.iter().find_map(|field| problem.strip_prefix(field)).unwrap_or(&problem);
        write!(f, "{option}: {problem} (from {origin})")
    }
}
