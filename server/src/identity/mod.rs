//! Who is let in, and who may ask for what: tickets, API keys, and the names and origins that requests are for.
//!
//! - `admission`: the ticket of a Hello, from its signature to its single use.
//! - `used`: which tickets were used, in memory and on disk.
//! - `issue`: tickets that the server signs itself, for seats that it keeps.
//! - `callers`: who calls a service beside the game, by an API key or an operator's ticket.
//! - `hosts`: requests that a page in somebody's browser makes.

mod admission;
mod api_keys;
mod callers;
mod config;
mod counters;
mod files;
mod hosts;
mod issue;
#[cfg(test)]
mod tests;
mod used;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use http::Request;
use tickwire_ticket::{KeyError, KeyRing};
use tonic::Code;
use tracing::{info, warn};

pub(crate) use self::{
    admission::{Admission, Purpose},
    api_keys::{ApiKeyName, new_api_key},
    callers::Caller,
    counters::{IdentityCounters, IdentityReason},
    files::read_ticket_keys,
    issue::Bearer,
};
use self::{
    api_keys::{ApiKeys, ApiKeysError},
    hosts::{HostError, HostPolicy, Names},
    used::{UsedError, UsedTickets},
};
pub use config::{Auth, IdentityConfig};

use crate::{reload::Staged, status::Refusal};

/// Why a server cannot tell who is who. No secret stands in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Tickets are asked for, and there are no keys to look at them with.
    #[error("ticket_keys: tickets are asked for, and no file says by which keys they are signed")]
    NoTicketKeys,
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of more bytes than keys have.
    #[error("{}: more than {bytes_max} bytes are no file of keys", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most.
        bytes_max: u64,
    },
    /// A file of ticket keys that is none.
    #[error("{}: {source}", .path.display())]
    TicketKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A file of API keys that is none.
    #[error("{}: {source}", .path.display())]
    ApiKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ApiKeysError,
    },
    /// The used tickets cannot be written down.
    #[error(transparent)]
    Used(#[from] UsedError),
    /// A name or an origin that is none.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// What a server knows of who may do what.
#[derive(Debug)]
pub(crate) struct Identity {
    config: IdentityConfig,
    /// None where no tickets are asked for.
    tickets: Option<Tickets>,
    /// None where the server was started without.
    api_keys: Option<ArcSwap<ApiKeys>>,
    names: Names,
    /// From when on the server listens.
    hosts: OnceLock<HostPolicy>,
    pub(crate) counters: IdentityCounters,
}

#[derive(Debug)]
struct Tickets {
    keys: ArcSwap<KeyRing>,
    used: Arc<UsedTickets>,
}

impl Identity {
    /// Reads what there is to know.
    ///
    /// # Errors
    /// Where a file cannot be read, or says nothing that makes sense; where used tickets cannot be written down.
    pub(crate) fn load(config: IdentityConfig) -> Result<Self, IdentityError> {
        let (keys, api_keys) = read_keys(&config)?;
        let used = || UsedTickets::open(config.used_tickets.as_deref(), unix_now());
        let tickets = match keys {
            None => None,
            Some(keys) => Some(Tickets { keys: ArcSwap::from_pointee(keys), used: used()? }),
        };
        Ok(Self {
            names: Names::new(config.allowed_hosts.as_deref(), &config.allowed_origins)?,
            tickets,
            api_keys: api_keys.map(ArcSwap::from_pointee),
            hosts: OnceLock::new(),
            counters: IdentityCounters::default(),
            config,
        })
    }

    /// The server has ended: another one may have its files.
    pub(crate) fn close(&self) {
        if let Some(tickets) = &self.tickets {
            tickets.used.close();
        }
    }

    /// Reads the files of keys again. What has been signed by a key that is gone is not taken any more; who is in stays in.
    ///
    /// # Errors
    /// As [`load`](Self::load); then nothing changes.
    pub(crate) fn reload(self: &Arc<Self>) -> Result<(), IdentityError> {
        self.prepare()?.apply().changed.iter().for_each(|changed| info!("{changed}"));
        Ok(())
    }

    /// The first half of [`reload`](Self::reload): nothing changes by it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn prepare(self: &Arc<Self>) -> Result<Staged, IdentityError> {
        let (keys, api_keys) = read_keys(&self.config)?;
        let mut changed = Vec::new();
        changed.extend(keys.as_ref().map(|keys| format!("the keys of tickets have been read again: {keys:?}")));
        changed.extend(api_keys.as_ref().map(|keys| format!("{} API keys have been read again", keys.len())));
        let identity = Arc::clone(self);
        Ok(Staged::new(changed, move || {
            if let (Some(tickets), Some(keys)) = (&identity.tickets, keys) {
                tickets.keys.store(Arc::new(keys));
            }
            if let (Some(held), Some(api_keys)) = (&identity.api_keys, api_keys) {
                held.store(Arc::new(api_keys));
            }
        }))
    }

    /// From now on requests are taken that are for this address: where nothing else has been said, for the names of this
    /// machine if only it can ask, and for any else.
    pub(crate) fn listen_on(&self, address: IpAddr) {
        // A server listens once.
        let _ = self.hosts.set(HostPolicy::new(self.names.clone(), address));
    }

    /// Whether a request is for this server, and not of a page that somebody's browser shows.
    pub(crate) fn check_request<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        let Some(hosts) = self.hosts.get() else { return Ok(()) };
        hosts.check(request).map_err(|reason| self.refuse(reason))
    }

    /// The same of a listener beside that of players, for a request from this address.
    pub(crate) fn check_request_beside<T>(&self, request: &Request<T>, from: IpAddr) -> Result<(), Refusal> {
        HostPolicy::beside(self.names.clone(), from).check(request).map_err(|reason| self.refuse(reason))
    }

    /// A refusal, counted.
    fn refuse(&self, reason: IdentityReason) -> Refusal {
        self.refuse_saying(reason, reason.message())
    }

    fn refuse_saying(&self, reason: IdentityReason, message: impl Into<String>) -> Refusal {
        self.counters.refused(reason);
        let refusal = Refusal::new(reason.code(), reason.reason(), message);
        match (reason.field(), reason.code()) {
            (Some(field), _) => refusal.field(field),
            (None, Code::Unavailable | Code::ResourceExhausted) => refusal.retry_after(counters::RETRY),
            (None, _) => refusal,
        }
    }
}

/// Whether a server could be started so.
pub(crate) fn check(config: &IdentityConfig) -> Result<(), IdentityError> {
    Names::new(config.allowed_hosts.as_deref(), &config.allowed_origins)?;
    read_keys(config).map(drop)
}

fn read_keys(config: &IdentityConfig) -> Result<(Option<KeyRing>, Option<ApiKeys>), IdentityError> {
    let tickets = match (config.auth, &config.ticket_keys) {
        (Auth::Open, _) => None,
        (Auth::Ticket, None) => return Err(IdentityError::NoTicketKeys),
        (Auth::Ticket, Some(path)) => Some(read_ticket_keys(path)?),
    };
    let api_keys = config.api_keys.as_deref().map(files::read_api_keys).transpose()?;
    if let (Some(path), Some(0)) = (&config.api_keys, api_keys.as_ref().map(ApiKeys::len)) {
        warn!(path = %path.display(), "there is no API key in this file: nobody can create, join or end sessions by calls");
    }
    Ok((tickets, api_keys))
}

/// Seconds since 1970, as tickets have them.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Whoever starts the server hears of it once more at each reload.
fn warn_of_readers(path: &std::path::Path) {
    warn!(path = %path.display(), "anybody on this machine can read this file of keys: chmod 600 it");
}
