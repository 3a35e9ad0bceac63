//! Whom an address stands for, where addresses are counted or banned.

use std::net::IpAddr;

use ipnet::IpNet;

/// What a customer of a network has of IPv6 at least, so that addresses of one are as good as one.
const IPV6_PREFIX_BITS: u8 = 64;

/// An IPv4 address, mapped into IPv6 or not, or the /64 that an IPv6 address is in.
pub(crate) fn customer_of(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => address.into(),
        address @ IpAddr::V6(_) => IpNet::new(address, IPV6_PREFIX_BITS).expect("IPv6 has 128 bits").trunc(),
    }
}

/// Whether an address is this machine's own, that nobody else can come from or reach: an IPv4 one mapped into IPv6, too.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_own_addresses_are_known_in_all_their_notations() {
        let is_own = |address: &str| is_loopback(address.parse().expect("an address"));
        assert!(["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"].into_iter().all(is_own));
        assert!(
            !["0.0.0.0", "::", "::ffff:0.0.0.0", "192.0.2.7", "::ffff:192.0.2.7", "::127.0.0.1"]
                .into_iter()
                .any(is_own)
        );
    }

    #[test]
    fn an_ipv6_address_stands_for_its_network_and_a_mapped_one_for_what_it_is() {
        let of = |address: &str| customer_of(address.parse().expect("an address")).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7/32");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
