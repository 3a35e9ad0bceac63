//! Who a caller is, and what it may do.

use std::net::IpAddr;

use tonic::{Code, Request};
use tracing::debug;

use crate::{
    identity::Caller,
    net::{PeerAddress, customer_of},
    server::Shared,
    session::Creator,
    status::Refusal,
};

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    End,
    Delete,
    Join,
}

impl Action {
    /// For the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::End => "end",
            Self::Delete => "delete",
            Self::Join => "join",
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Authorised {
    /// As quotas count.
    pub(super) creator: Creator,
    /// Where they call from; `None`: it does not matter, since they have an API key.
    pub(super) address: Option<IpAddr>,
}

/// Who the caller is, if it may change sessions and have seats: who has an API key, where the server asks for
/// one; else whoever reaches the port. With sessions of others they may do only what everybody may.
pub(super) fn authorise<T>(shared: &Shared, request: &Request<T>, action: Action) -> Result<Authorised, Refusal> {
    let (creator, address) = match shared.identity.caller(request.metadata().as_ref())? {
        Caller::Key(name) => (format!("key {}", name.as_str()), None),
        Caller::Anyone => {
            let address = request.extensions().get::<PeerAddress>().ok_or_else(|| {
                Refusal::new(Code::Unavailable, "DISCONNECTED", "the connection of this call is gone: connect again")
            })?;
            (format!("address {}", customer_of(address.0).addr()), Some(address.0))
        }
    };
    let creator = Creator::new(creator);
    debug!(%creator, action = action.as_str(), "a call");
    Ok(Authorised { creator, address })
}
