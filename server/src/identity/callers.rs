//! Who calls a service beside the game: by the metadata `authorization: Bearer …`, with an API key or an operator's ticket.

use std::sync::atomic::Ordering;

use http::{HeaderMap, header};
use tickwire_ticket::Secret;

use super::{
    Auth, Identity, IdentityReason,
    api_keys::{ApiKeyName, PREFIX},
};
use crate::status::Refusal;

const SCHEME: &str = "Bearer ";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Anybody, where nobody is asked.
    Anyone,
    /// Who has this API key.
    Key(ApiKeyName),
}

impl Identity {
    /// Who wants to change sessions, or to have tickets issued: with an API key where the server has any. Without, anybody may
    /// on a server that lets anybody in, and nobody on one that asks for tickets.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        match (&self.api_keys, self.config.auth) {
            (Some(_), _) => {
                let key = bearer(headers).ok_or_else(|| self.refuse(IdentityReason::ApiKeyMissing))?;
                self.caller_by(&key)
            }
            (None, Auth::Open) => Ok(Caller::Anyone),
            (None, Auth::Ticket) => Err(self.refuse(IdentityReason::ApiKeysNone)),
        }
    }

    /// Who asks for something that anybody may ask for; none, and no refusal, where they do not show it.
    pub(crate) fn recognise(&self, headers: &HeaderMap) -> Option<Caller> {
        match (&self.api_keys, self.config.auth) {
            (Some(keys), _) => keys.load().find(bearer(headers)?.reveal()).map(Caller::Key),
            (None, Auth::Open) => Some(Caller::Anyone),
            (None, Auth::Ticket) => None,
        }
    }

    /// Whether somebody may have recordings that are not everybody's: by an API key, or by an operator's ticket, which
    /// stays good.
    pub(crate) fn admit_to_recordings(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let bearer = bearer(headers).ok_or_else(|| self.refuse(IdentityReason::RecordingsPrivate))?;
        if bearer.reveal().starts_with(PREFIX) || !bearer.reveal().contains('.') {
            return self.caller_by(&bearer).map(drop);
        }
        self.admit_operator(&bearer)
    }

    fn caller_by(&self, key: &Secret) -> Result<Caller, Refusal> {
        let found = self.api_keys.as_ref().and_then(|keys| keys.load().find(key.reveal()));
        let name = found.ok_or_else(|| self.refuse(IdentityReason::ApiKeyUnknown))?;
        self.counters.api_key_calls.fetch_add(1, Ordering::Relaxed);
        Ok(Caller::Key(name))
    }
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| Secret::from(rest.trim().to_owned()))
        .filter(|bearer| !bearer.is_empty())
}
