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
    let caller = shared.identity.caller(request.metadata().as_ref())?;
    let authorised = authorised(caller, request).ok_or_else(|| {
        Refusal::new(Code::Unavailable, "DISCONNECTED", "the connection of this call is gone: connect again")
    })?;
    debug!(creator = %authorised.creator, action = action.as_str(), "a call");
    Ok(authorised)
}

/// Who the caller of what anybody may call is, where they show it: whose sessions they are told more of.
pub(super) fn recognise<T>(shared: &Shared, request: &Request<T>) -> Option<Creator> {
    let caller = shared.identity.recognise(request.metadata().as_ref())?;
    authorised(caller, request).map(|authorised| authorised.creator)
}

/// None where the connection is gone.
fn authorised<T>(caller: Caller, request: &Request<T>) -> Option<Authorised> {
    let (creator, address) = match caller {
        Caller::Key(name) => (format!("key {}", name.as_str()), None),
        Caller::Anyone => {
            let address = request.extensions().get::<PeerAddress>()?.0;
            (format!("address {}", customer_of(address).addr()), Some(address))
        }
    };
    Some(Authorised { creator: Creator::new(creator), address })
}
