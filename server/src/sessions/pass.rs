//! Tickets for those who take no seat: spectators, and operators.

use tickwire_proto::v1::{self as pb, join_session_request::Target};
use tickwire_ticket::Role;
use tonic::Code;

use super::{
    describe::describe,
    join::{find_by_code, find_by_name, no_target},
    lobby::{Lobby, check_serving},
};
use crate::{identity::Bearer, server::Shared, session::Creator, status::Refusal};

/// What a caller wants its ticket to let the bearer do.
pub(super) fn role_of(request: &pb::JoinSessionRequest) -> Result<Role, Refusal> {
    match pb::TicketRole::try_from(request.role) {
        Ok(pb::TicketRole::Unspecified | pb::TicketRole::Player) => Ok(Role::Player),
        Ok(pb::TicketRole::Spectator) => Ok(Role::Spectator),
        Ok(pb::TicketRole::Operator) => Ok(Role::Operator),
        Err(_) => {
            let message = format!("{} is no role: choose player (1), spectator (2) or operator (3)", request.role);
            Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("role"))
        }
    }
}

impl Lobby {
    /// A ticket to watch: an operator's may be for all sessions there are.
    pub(super) fn pass(
        &self,
        shared: &Shared,
        caller: &Creator,
        role: Role,
        target: Option<Target>,
        bearer: Bearer,
    ) -> Result<pb::JoinSessionResponse, Refusal> {
        check_serving(shared)?;
        let session = match target {
            None if role == Role::Operator => None,
            None => return Err(no_target()),
            // Operators may watch whatever there is.
            Some(Target::Name(name)) => Some(find_by_name(shared, &name, role == Role::Operator)?),
            Some(Target::JoinCode(code)) => Some(find_by_code(shared, &mut self.lock(), caller, &code)?),
            Some(Target::QuickMatch(_)) => {
                let message = "a quick match is for players: say which session, by its name or its code";
                return Err(Refusal::new(Code::InvalidArgument, "OUT_OF_RANGE", message).field("quick_match"));
            }
        };
        let name = session.as_ref().map(|session| session.name.to_string());
        let (ticket, expires) = shared.identity.issue_pass(role, name, bearer)?;
        Ok(pb::JoinSessionResponse {
            session: session.map(|session| describe(shared, &session)),
            ticket,
            expire_time: Some(expires.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_is_none_is_refused_by_its_field() {
        let of = |role: i32| role_of(&pb::JoinSessionRequest { role, ..pb::JoinSessionRequest::default() });
        let roles = [Role::Player, Role::Player, Role::Spectator, Role::Operator];
        for (number, role) in (0..).zip(roles) {
            assert_eq!(of(number).expect("it is one"), role);
        }
        for number in [4, -1, i32::MAX] {
            let status: tonic::Status = of(number).expect_err("it is none").into();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().contains(&number.to_string()), "{status:?}");
        }
    }
}
