//! Tickets that the server signs itself: for seats that it keeps.

use std::time::{SystemTime, UNIX_EPOCH};

use tickwire_ticket::{Claims, NoRandomness, Role, SUBJECT_BYTES_MAX, random_id};
use tonic::Code;

use super::{Identity, unix_now};
use crate::status::Refusal;

/// The longest name that is looked at; which are names is the session's to say.
const NAME_BYTES_MAX: usize = 256;

/// Whom a ticket is for.
#[derive(Debug)]
pub(crate) struct Bearer {
    /// Empty: somebody new.
    subject: String,
    /// None: the player chooses.
    name: Option<String>,
}

impl Bearer {
    /// Reads what a caller has said of them.
    pub(crate) fn new(subject: String, player_name: String) -> Result<Self, Refusal> {
        for (field, text, most) in
            [("subject", &subject, SUBJECT_BYTES_MAX), ("player_name", &player_name, NAME_BYTES_MAX)]
        {
            if text.len() > most {
                let message = format!("{} bytes are too many: choose {most} at most", text.len());
                return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field(field));
            }
        }
        Ok(Self { subject, name: Some(player_name).filter(|name| !name.is_empty()) })
    }
}

impl Identity {
    /// Whether the server can let anybody have a seat that it keeps: where tickets are asked for, it takes a private key.
    pub(crate) fn check_can_issue(&self) -> Result<(), Refusal> {
        if self.tickets.as_ref().is_none_or(|tickets| tickets.keys.load().can_sign()) {
            return Ok(());
        }
        let message = "this server has public keys only: tickets for it come from whoever has the private ones";
        Err(Refusal::new(Code::FailedPrecondition, "NO_SIGNING_KEY", message))
    }

    /// What lets its bearer have the seat of a reservation's `token` in a session until `expires`: the token itself, or where
    /// tickets are asked for, one around it.
    pub(crate) fn issue(
        &self,
        token: String,
        session: &str,
        expires: SystemTime,
        bearer: Bearer,
    ) -> Result<String, Refusal> {
        let Some(tickets) = &self.tickets else { return Ok(token) };
        let Bearer { mut subject, name } = bearer;
        if subject.is_empty() {
            subject = random_id().map_err(no_randomness)?;
        }
        let now = unix_now();
        let expires = expires.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() + 1);
        let claims = Claims::new(&self.config.ticket_audience, &subject, Role::Player, now).map_err(no_randomness)?;
        let claims = Claims {
            expires_at: expires.clamp(now + 1, claims.expires_at),
            session: Some(session.to_owned()),
            reservation: Some(token),
            name,
            ..claims
        };
        let signed = tickets.keys.load().sign(&claims);
        signed.map(|ticket| ticket.reveal().to_owned()).map_err(|error| {
            // The keys were read again just now.
            Refusal::new(Code::FailedPrecondition, "NO_SIGNING_KEY", error.to_string())
        })
    }
}

fn no_randomness(error: NoRandomness) -> Refusal {
    Refusal::new(Code::Internal, "NO_RANDOMNESS", error.to_string())
}
