//! Signing tickets, and looking at them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Header, Validation, decode, encode};
use serde_json::{Map, Value};

use crate::{
    claims::Claims,
    keys::{Key, KeyRing},
    secret::Secret,
};

/// The longest ticket that is looked at.
pub const TICKET_BYTES_MAX: usize = 4096;
/// The longest time from a ticket's `iat` to its `exp`: who steals one has no longer to use it.
pub const LIFETIME_SECONDS_MAX: u64 = 300;
pub(crate) const LIFETIME_SECONDS_DEFAULT: u64 = 60;
/// By how much the clocks of issuer and server may differ.
pub const LEEWAY_SECONDS: u64 = 10;

/// A ticket that is good for nothing. What stands in it is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It is no signed token at all.
    #[error("this is no ticket: it is a JSON Web Token of three parts, {TICKET_BYTES_MAX} bytes at most")]
    Malformed,
    /// Its header has `crit`: it is not to be taken by who does not understand what that names.
    #[error("its header has crit, and nothing that it could name is understood here: leave it out")]
    Critical,
    /// Its header names no key of the ring.
    #[error("its kid is none of this server's keys")]
    UnknownKey,
    /// Its header has another algorithm than the key.
    #[error("its alg is not that of its key")]
    Algorithm,
    /// It was not signed by that key, or has been changed since.
    #[error("its signature is not of its key")]
    Signature,
    /// It does not say what it must.
    #[error("its {claim} {problem}")]
    Claim {
        /// Which of its claims.
        claim: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It is for other servers.
    #[error("its aud names other servers, not this one: see the server's --ticket-audience")]
    Audience,
    /// Its time is over.
    #[error("it has expired: ask for a new one")]
    Expired,
    /// Its time has not come.
    #[error("it is not good yet: its nbf or iat is in the future; are the clocks right?")]
    NotYet,
    /// It would be good for too long.
    #[error("it is good for more than {LIFETIME_SECONDS_MAX} s: issue a shorter one")]
    Lifetime,
}

/// A ticket that cannot be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The ring has public keys only.
    #[error("there is no private key to sign with")]
    NoSigningKey,
    /// No server would take it.
    #[error("no server would take the ticket: {0}")]
    Refused(#[from] TicketError),
}

impl KeyRing {
    /// Signs a ticket.
    ///
    /// # Errors
    /// Where the ring has no private key, or no server would take the ticket at its `iat`.
    pub fn sign(&self, claims: &Claims) -> Result<Secret, MintError> {
        let signing = self.signing().ok_or(MintError::NoSigningKey)?;
        let audience = claims.audience.first().ok_or(TicketError::Audience)?;
        let json = claims.to_json();
        let read = Claims::from_json(json.as_object().expect("claims are an object"))?;
        check(&read, audience, claims.issued_at.max(claims.not_before.unwrap_or(0)))?;
        let header = Header { kid: Some(signing.kid.clone()), ..Header::new(signing.algorithm.for_jwt()) };
        let ticket = encode(&header, &json, &signing.key).expect("the key was read for its algorithm");
        if ticket.len() > TICKET_BYTES_MAX {
            return Err(TicketError::Malformed.into());
        }
        Ok(Secret::from(ticket))
    }

    /// Looks at a ticket: what it says, if one of the ring's keys signed it, it is for `audience`, and its time is `now`. The
    /// key's algorithm counts, whatever the ticket says. Whether it was used before is not known here.
    ///
    /// # Errors
    /// Where any of this is not so.
    pub fn verify(&self, ticket: &str, audience: &str, now: u64) -> Result<Claims, TicketError> {
        let Key { algorithm, verifying } = self.key_of(ticket)?;
        let mut validation = Validation::new(algorithm.for_jwt());
        // These are looked at below, by a clock that is given.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        let claims = decode::<Map<String, Value>>(ticket, verifying, &validation).map_err(|error| {
            use jsonwebtoken::errors::ErrorKind;
            match error.kind() {
                ErrorKind::InvalidSignature | ErrorKind::Base64(_) => TicketError::Signature,
                ErrorKind::InvalidAlgorithm => TicketError::Algorithm,
                _ => TicketError::Malformed,
            }
        })?;
        let claims = Claims::from_json(&claims.claims)?;
        check(&claims, audience, now)?;
        Ok(claims)
    }

    /// The key that a ticket's header names, if header and key agree on the algorithm.
    fn key_of(&self, ticket: &str) -> Result<&Key, TicketError> {
        if ticket.len() > TICKET_BYTES_MAX || ticket.split('.').count() != 3 {
            return Err(TicketError::Malformed);
        }
        let header = ticket.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let header: Map<String, Value> =
            header.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(TicketError::Malformed)?;
        // Who does not understand what is critical must not go on.
        if header.contains_key("crit") {
            return Err(TicketError::Critical);
        }
        let text = |member| header.get(member).and_then(Value::as_str);
        let key = text("kid").and_then(|kid| self.get(kid)).ok_or(TicketError::UnknownKey)?;
        if text("alg") != Some(key.algorithm.name()) {
            return Err(TicketError::Algorithm);
        }
        Ok(key)
    }
}

fn check(claims: &Claims, audience: &str, now: u64) -> Result<(), TicketError> {
    if !claims.audience.iter().any(|one| one == audience) {
        return Err(TicketError::Audience);
    }
    if claims.expires_at.saturating_sub(claims.issued_at) > LIFETIME_SECONDS_MAX {
        return Err(TicketError::Lifetime);
    }
    let soon = now.saturating_add(LEEWAY_SECONDS);
    if claims.issued_at > soon || claims.not_before.is_some_and(|time| time > soon) {
        return Err(TicketError::NotYet);
    }
    if now >= claims.expires_at.saturating_add(LEEWAY_SECONDS) {
        return Err(TicketError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
