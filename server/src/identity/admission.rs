//! The ticket of a Hello: from its signature to its single use.

use http::{HeaderMap, header::AUTHORIZATION};
use tickwire_ticket::{Claims, LEEWAY_SECONDS, Role, Secret};

use super::{
    Identity, IdentityReason, Tickets, unix_now,
    used::{Claim, NotClaimed, TicketId, WRITE_TIME_MAX},
};
use crate::{play::Hello, session::SessionName, status::Refusal};

const NO_SESSION_NAME: &str =
    "its session is no session's name: that is \"sessions/\" and an id, such as \"sessions/arena-1\"";

/// What somebody wants to come in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Play,
    Watch,
    /// To have or to replay recordings.
    Recordings,
}

/// Who may come in. It is complete once [`record`](Self::record)ed; dropped before it is [`admitted`](Self::admitted), the
/// ticket stays good.
#[derive(Debug)]
#[must_use]
pub(crate) struct Admission<'a> {
    identity: &'a Identity,
    /// None where no tickets are asked for.
    pass: Option<Pass<'a>>,
}

/// A ticket that has been looked at.
#[derive(Debug)]
struct Pass<'a> {
    tickets: &'a Tickets,
    claims: Claims,
    claim: Option<Claim>,
}

impl Identity {
    /// Looks at what a Hello brings for a `purpose`. What its ticket settles stands in the Hello then: session, game and name,
    /// and in the ticket's place the reservation's token. Where no tickets are asked for, it is one, if anything.
    pub(crate) fn admit(&self, hello: &mut Hello, purpose: Purpose) -> Result<Admission<'_>, Refusal> {
        let Some(tickets) = &self.tickets else { return Ok(Admission { identity: self, pass: None }) };
        let claims = self.look_at(tickets, hello.ticket.as_ref(), purpose)?;
        hello.ticket = claims.reservation.clone().map(Secret::from);
        if let Some(named) = &claims.session {
            let Ok(named) = named.parse::<SessionName>() else {
                return Err(self.refuse_saying(IdentityReason::TicketClaims, NO_SESSION_NAME));
            };
            if hello.session.get_or_insert_with(|| named.clone()) != &named {
                return Err(self.refuse(IdentityReason::TicketSession));
            }
        }
        if hello.session.is_none() && hello.game.is_none() {
            hello.game.clone_from(&claims.game);
        }
        if let Some(name) = &claims.name {
            hello.player_name.clone_from(name);
        }
        Ok(Admission { identity: self, pass: Some(Pass { tickets, claims, claim: None }) })
    }

    /// Whether somebody may replay recordings that are not everybody's: by what the call brings, or by an operator's ticket in
    /// its Hello.
    pub(crate) async fn admit_to_replay(
        &self,
        headers: &HeaderMap,
        hello: Option<&mut Hello>,
    ) -> Result<Admission<'_>, Refusal> {
        match hello {
            Some(hello) if hello.ticket.is_some() && self.tickets.is_some() && !headers.contains_key(AUTHORIZATION) => {
                let mut admission = self.admit(hello, Purpose::Recordings)?;
                admission.record().await?;
                Ok(admission)
            }
            _ => {
                self.admit_to_recordings(headers)?;
                Ok(Admission { identity: self, pass: None })
            }
        }
    }

    /// Whether a ticket that a call bears lets it have recordings. It lets nobody in, so that it stays good for further calls
    /// until it expires; once it has let somebody in by a Hello, it is good for none.
    pub(super) fn admit_operator(&self, ticket: &Secret) -> Result<(), Refusal> {
        self.look_at_operator(ticket).map_err(|refusal| refusal.field(AUTHORIZATION.as_str()))
    }

    fn look_at_operator(&self, ticket: &Secret) -> Result<(), Refusal> {
        let Some(tickets) = &self.tickets else { return Err(self.refuse(IdentityReason::ApiKeyUnknown)) };
        let claims = self.look_at(tickets, Some(ticket), Purpose::Recordings)?;
        if claims.session.is_some() || claims.game.is_some() {
            let problem = "recordings of all sessions take a ticket that is for no session or game in particular";
            return Err(self.refuse_saying(IdentityReason::TicketRole, problem));
        }
        let checked = tickets.used.check(TicketId::new(&claims.id), kept_until(&claims), unix_now());
        checked.map_err(|error| self.not_claimed(error))
    }

    fn not_claimed(&self, error: NotClaimed) -> Refusal {
        let reason = match error {
            NotClaimed::Used => IdentityReason::TicketUsed,
            NotClaimed::Forgotten => IdentityReason::TicketExpired,
            NotClaimed::Full => IdentityReason::TicketsFull,
            NotClaimed::Unwritten => IdentityReason::TicketsUnrecorded,
            NotClaimed::Late => {
                let message = format!(
                    "the server's disk has not taken within {WRITE_TIME_MAX:?} that the ticket is used, so that it is not taken; \
                     it stays good"
                );
                return self.refuse_saying(IdentityReason::TicketsUnrecorded, message);
            }
        };
        self.refuse(reason)
    }

    /// Signature, time, audience and role. It has not been looked at whether the ticket was used.
    fn look_at(&self, tickets: &Tickets, ticket: Option<&Secret>, purpose: Purpose) -> Result<Claims, Refusal> {
        let ticket = ticket.ok_or_else(|| self.refuse(IdentityReason::TicketMissing))?;
        let claims = tickets
            .keys
            .load()
            .verify(ticket.reveal(), &self.config.ticket_audience, unix_now())
            .map_err(|error| self.refuse_saying(error.into(), error.to_string()))?;
        let problem = match (purpose, claims.role) {
            (Purpose::Play, Role::Player) | (Purpose::Watch, _) | (Purpose::Recordings, Role::Operator) => None,
            (Purpose::Play, _) => Some("to play takes a ticket of role player"),
            (Purpose::Recordings, _) => Some("recordings take a ticket of role operator, or an API key"),
        };
        match problem {
            None => Ok(claims),
            Some(problem) => Err(self.refuse_saying(IdentityReason::TicketRole, problem)),
        }
    }
}

/// For as long as it would be taken.
fn kept_until(claims: &Claims) -> u64 {
    claims.expires_at.saturating_add(LEEWAY_SECONDS)
}

impl Admission<'_> {
    /// Who comes in, as the issuer of their ticket knows them.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.pass.as_ref().map(|pass| pass.claims.subject.as_str())
    }

    /// Whether whoever issued the ticket wanted its bearer in one session, and in no other.
    pub(crate) fn names_a_session(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.claims.session.is_some())
    }

    /// Whether the ticket is for the session that was found.
    pub(crate) fn fits(&self, session: &str, game: &str) -> Result<(), Refusal> {
        let Some(Pass { claims, .. }) = &self.pass else { return Ok(()) };
        let is_it = |wanted: &Option<String>, found| wanted.as_deref().is_none_or(|wanted| wanted == found);
        if is_it(&claims.session, session) && is_it(&claims.game, game) {
            return Ok(());
        }
        Err(self.identity.refuse(IdentityReason::TicketSession))
    }

    /// Uses the ticket, which is on the disk then.
    pub(crate) async fn record(&mut self) -> Result<(), Refusal> {
        let Some(pass) = &mut self.pass else { return Ok(()) };
        let claimed =
            pass.tickets.used.claim(TicketId::new(&pass.claims.id), kept_until(&pass.claims), unix_now()).await;
        pass.claim = Some(claimed.map_err(|error| self.identity.not_claimed(error))?);
        Ok(())
    }

    /// They are in: the ticket is good for nothing any more.
    pub(crate) fn admitted(mut self) {
        if let Some(claim) = self.pass.take().and_then(|pass| pass.claim) {
            claim.keep();
            self.identity.counters.tickets_admitted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.pass.as_ref().is_some_and(|pass| pass.claim.is_some()) {
            self.identity.counters.tickets_given_back.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
