//! Tickets that the server signs itself: for seats that it keeps, and for those who take none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tickwire_ticket::{Claims, NoRandomness, Role, SUBJECT_BYTES_MAX, random_id};
use tonic::Code;

use super::{Identity, Tickets, unix_now};
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
    /// Whether the server can let anybody have a ticket of a role. Where tickets are asked for, that takes a private key; where
    /// they are not, there are none but for seats that it keeps.
    pub(crate) fn check_can_issue(&self, role: Role) -> Result<(), Refusal> {
        match &self.tickets {
            None if role != Role::Player => Err(no_tickets()),
            Some(tickets) if !tickets.keys.load().can_sign() => {
                let message = "this server has public keys only: tickets for it come from whoever has the private ones";
                Err(Refusal::new(Code::FailedPrecondition, "NO_SIGNING_KEY", message))
            }
            _ => Ok(()),
        }
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
        let expires = expires.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() + 1);
        let claims = self.claims(Role::Player, bearer)?;
        let claims = Claims {
            expires_at: expires.clamp(claims.issued_at + 1, claims.expires_at),
            session: Some(session.to_owned()),
            reservation: Some(token),
            ..claims
        };
        sign(tickets, &claims)
    }

    /// What lets its bearer watch, in the `role` of a spectator or an operator, and until when: a session, or `None` for all.
    pub(crate) fn issue_pass(
        &self,
        role: Role,
        session: Option<String>,
        bearer: Bearer,
    ) -> Result<(String, SystemTime), Refusal> {
        let tickets = self.tickets.as_ref().ok_or_else(no_tickets)?;
        let claims = Claims { session, ..self.claims(role, bearer)? };
        Ok((sign(tickets, &claims)?, UNIX_EPOCH + Duration::from_secs(claims.expires_at)))
    }

    fn claims(&self, role: Role, bearer: Bearer) -> Result<Claims, Refusal> {
        let Bearer { mut subject, name } = bearer;
        if subject.is_empty() {
            subject = random_id().map_err(no_randomness)?;
        }
        let claims = Claims::new(&self.config.ticket_audience, &subject, role, unix_now()).map_err(no_randomness)?;
        Ok(Claims { name, ..claims })
    }
}

fn sign(tickets: &Tickets, claims: &Claims) -> Result<String, Refusal> {
    let signed = tickets.keys.load().sign(claims);
    signed.map(|ticket| ticket.reveal().to_owned()).map_err(|error| {
        // The keys were read again just now.
        Refusal::new(Code::FailedPrecondition, "NO_SIGNING_KEY", error.to_string())
    })
}

fn no_tickets() -> Refusal {
    let message = "this server asks for no tickets, and gives them to players alone: watch without one; a session that is joined \
                   by code is watched by the ticket of a player's seat";
    Refusal::new(Code::FailedPrecondition, "NO_TICKETS", message).field("role")
}

fn no_randomness(error: NoRandomness) -> Refusal {
    Refusal::new(Code::Internal, "NO_RANDOMNESS", error.to_string())
}
