//! Who a caller is, and what it may do.

use std::net::{IpAddr, Ipv6Addr};

use tonic::{Code, Request};
use tracing::debug;

use crate::{identity::Caller, net::PeerAddress, server::Shared, session::Creator, status::Refusal};

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
            format!("address {}", counted_as(address.0))
        }
    };
    let creator = Creator::new(creator);
    debug!(%creator, ?action, "a call");
    Ok(creator)
}

/// One household or host: an IPv4 address, or the 2^64 of an IPv6 network.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_network_are_one_creator() {
        let counted = |address: &str| counted_as(address.parse().expect("an address")).to_string();
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), counted("2001:db8:1:2::1"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
    }
}
