//! What a server is told of who may do what.

use std::path::PathBuf;

/// Who may come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anybody who can reach the server.
    #[default]
    Open,
    /// Who has a ticket. Seats are taken back, and further streams added, by tokens of the server's own.
    Ticket,
}

/// Who may come in, and who may ask for what. The files are read when the server starts, and when it is told to read them again.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Who may come in.
    pub auth: Auth,
    /// The file of the keys that tickets are signed with, a JSON Web Key Set; with [`Auth::Ticket`] there must be one, and
    /// with [`Auth::Open`] it is not looked at.
    pub ticket_keys: Option<PathBuf>,
    /// The `aud` of tickets that are for this server.
    pub ticket_audience: String,
    /// The file in which used tickets are noted until they expire, so that none is used again after a restart; none: they are
    /// kept in memory only. Its directory is created where it is missing.
    pub used_tickets: Option<PathBuf>,
    /// The file of API keys: a name and a SHA-256 per line. Where there is one, who changes sessions needs one of them.
    pub api_keys: Option<PathBuf>,
    /// The hosts that requests may be for (`:authority`, `Host`), as `NAME`, `NAME:PORT` or `*` for any; none: those of this
    /// machine where the server listens on loopback, any where it listens beyond.
    pub allowed_hosts: Option<Vec<String>>,
    /// The origins of pages that may make requests, such as `https://example.com`. Requests without an `Origin` are of no page.
    pub allowed_origins: Vec<String>,
}

impl Default for IdentityConfig {
    /// Anybody, for audience `tickwire`.
    fn default() -> Self {
        Self {
            auth: Auth::Open,
            ticket_keys: None,
            ticket_audience: "tickwire".to_owned(),
            used_tickets: None,
            api_keys: None,
            allowed_hosts: None,
            allowed_origins: Vec::new(),
        }
    }
}
