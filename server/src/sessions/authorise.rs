//! Who a caller is, and what it may do.

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
pub(crate) enum Action {
    Create,
    End,
    Delete,
    Join,
}

/// Who the caller is, as quotas count, if it may change sessions and have seats: who has an API key, where the server asks for
/// one; else whoever reaches the port. With sessions of others they may do only what everybody may.
pub(crate) fn authorise<T>(shared: &Shared, request: &Request<T>, action: Action) -> Result<Creator, Refusal> {
    let creator = match shared.identity.caller(request.metadata().as_ref())? {
        Caller::Key(name) => format!("key {}", name.as_str()),
        Caller::Anyone => {
            let address = request.extensions().get::<PeerAddress>().ok_or_else(|| {
                Refusal::new(Code::Unavailable, "DISCONNECTED", "the connection of this call is gone: connect again")
            })?;
            format!("address {}", customer_of(address.0).addr())
        }
    };
    let creator = Creator::new(creator);
    debug!(%creator, ?action, "a call");
    Ok(creator)
}
