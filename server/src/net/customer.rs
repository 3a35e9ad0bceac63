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

#[cfg(test)]
mod tests {
    use super::*;

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
