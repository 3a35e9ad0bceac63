//! Requests that a page in somebody's browser makes: to a server on their own machine, under a name that leads there (DNS
//! rebinding), or with an `Origin` that nobody has allowed.

use std::net::IpAddr;

use http::{HeaderMap, Request, header, uri::Authority};

use super::IdentityReason;
use crate::net::is_loopback;

/// The names and origins of a server's configuration.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// None: whatever suits the address.
    hosts: Option<Vec<Host>>,
    /// In lower case.
    origins: Vec<String>,
}

/// A host that requests may be for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Named {
        /// In lower case; addresses of version 6 in brackets.
        name: String,
        /// None: any.
        port: Option<u16>,
    },
}

/// A name or an origin that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {value:?} {problem}")]
pub struct HostError {
    option: &'static str,
    value: String,
    problem: &'static str,
}

/// Which requests are taken.
#[derive(Debug)]
pub(super) struct HostPolicy {
    hosts: Vec<Host>,
    /// Names and addresses of this machine are taken, too.
    has_loopback: bool,
    origins: Vec<String>,
}

impl Names {
    pub(super) fn new(hosts: Option<&[String]>, origins: &[String]) -> Result<Self, HostError> {
        let hosts = hosts.map(|hosts| hosts.iter().map(|host| read_host(host)).collect()).transpose()?;
        let origins = origins.iter().map(|origin| read_origin(origin)).collect::<Result<_, _>>()?;
        Ok(Self { hosts, origins })
    }
}

impl HostPolicy {
    pub(super) fn new(names: Names, address: IpAddr) -> Self {
        let Names { hosts, origins } = names;
        let has_loopback = hosts.is_none();
        let suitable = || if is_loopback(address) { Vec::new() } else { vec![Host::Any] };
        Self { hosts: hosts.unwrap_or_else(suitable), has_loopback, origins }
    }

    /// Those of a listener beside that of players, by where they come from. From this machine itself it is a browser that may
    /// ask under a name of somebody else's; what the public port is called by is as good as its own names.
    pub(super) fn beside(names: Names, from: IpAddr) -> Self {
        let Names { hosts, origins } = names;
        let hosts = if is_loopback(from) { hosts.unwrap_or_default() } else { vec![Host::Any] };
        Self { hosts, has_loopback: true, origins }
    }

    /// Whether a request may be made: for every host that it names, and from every origin. One without any is of no browser.
    pub(super) fn check<T>(&self, request: &Request<T>) -> Result<(), IdentityReason> {
        let authority = request.uri().authority();
        let is_for_us = authority.is_none_or(|authority| self.allows(authority))
            && request.headers().get_all(header::HOST).iter().all(|host| {
                let authority = host.to_str().ok().and_then(|host| host.parse().ok());
                authority.is_some_and(|authority| self.allows(&authority))
            });
        if !is_for_us {
            return Err(IdentityReason::HostNotAllowed);
        }
        if !self.allows_origins_of(request.headers()) {
            return Err(IdentityReason::OriginNotAllowed);
        }
        Ok(())
    }

    fn allows_origins_of(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(header::ORIGIN)
            .iter()
            .all(|origin| self.origins.iter().any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes())))
    }

    fn allows(&self, authority: &Authority) -> bool {
        let is_it = |host: &Host| match host {
            Host::Any => true,
            Host::Named { name, port } => {
                authority.host().eq_ignore_ascii_case(name)
                    && port.is_none_or(|port| match authority.port_u16() {
                        Some(named) => named == port,
                        // Who asks at a scheme's own port need not name it.
                        None => SCHEMES_PORTS.contains(&port),
                    })
            }
        };
        self.hosts.iter().any(is_it) || (self.has_loopback && is_this_machine(authority.host()))
    }
}

/// Those of http and https.
const SCHEMES_PORTS: [u16; 2] = [80, 443];

/// Whether a host is this machine, whatever the resolver says.
fn is_this_machine(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || literal.parse().is_ok_and(is_loopback)
}

fn read_host(host: &str) -> Result<Host, HostError> {
    if host == "*" {
        return Ok(Host::Any);
    }
    let wrong = || HostError {
        option: "allowed_hosts",
        value: host.to_owned(),
        problem: "is no host: write NAME, NAME:PORT, an address (version 6 in brackets), or * for any",
    };
    let authority: Authority = host.parse().map_err(|_| wrong())?;
    let port = authority.port_u16();
    // What is neither name nor port is more than a host.
    if authority.host().is_empty() || host.contains(['@', '*']) || (port.is_none() && authority.host() != host) {
        return Err(wrong());
    }
    Ok(Host::Named { name: authority.host().to_ascii_lowercase(), port })
}

fn read_origin(origin: &str) -> Result<String, HostError> {
    let is_origin = origin.split_once("://").is_some_and(|(scheme, rest)| {
        let is_scheme =
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        is_scheme
            && rest.parse().is_ok_and(|authority: Authority| !authority.host().is_empty() && !rest.contains(['@', '*']))
    });
    let problem = "is no origin: write https://NAME, or with :PORT where it is not the scheme's own";
    let wrong = || HostError { option: "allowed_origins", value: origin.to_owned(), problem };
    is_origin.then(|| origin.to_ascii_lowercase()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(hosts: Option<&[&str]>, origins: &[&str], address: &str) -> HostPolicy {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let names = Names::new(hosts.map(owned).as_deref(), &owned(origins)).expect("valid");
        HostPolicy::new(names, address.parse().expect("an address"))
    }

    fn request(authority: Option<&str>, headers: &[(&str, &str)]) -> Request<()> {
        let uri = authority.map_or("/a.B/C".to_owned(), |authority| format!("http://{authority}/a.B/C"));
        let request = Request::builder().uri(uri);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).expect("valid")
    }

    #[test]
    fn on_loopback_requests_are_for_this_machine() {
        let policy = policy(None, &[], "127.0.0.1");
        for good in [
            "localhost",
            "LocalHost:7777",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.8.0.1",
            "[::1]:7777",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(policy.check(&request(Some(good), &[])), Ok(()), "{good}");
            assert_eq!(policy.check(&request(None, &[("host", good)])), Ok(()), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost."] {
            let refused = Err(IdentityReason::HostNotAllowed);
            assert_eq!(policy.check(&request(Some(bad), &[])), refused, "{bad}");
            assert_eq!(policy.check(&request(Some("localhost"), &[("host", bad)])), refused, "{bad}");
        }
        let unreadable = request(Some("localhost"), &[("host", "a b")]);
        assert_eq!(policy.check(&unreadable), Err(IdentityReason::HostNotAllowed));
        assert_eq!(policy.check(&request(None, &[])), Ok(()), "no browser leaves it out");
    }

    #[test]
    fn beyond_loopback_any_host_is_taken_unless_it_is_said_which() {
        assert_eq!(policy(None, &[], "0.0.0.0").check(&request(Some("evil.example"), &[])), Ok(()));
        let named = policy(Some(&["game.example", "lab.example:7777", "[fd00::1]"]), &[], "0.0.0.0");
        for good in ["game.example", "GAME.example:1", "lab.example:7777", "[fd00::1]:7777"] {
            assert_eq!(named.check(&request(Some(good), &[])), Ok(()), "{good}");
        }
        for bad in ["evil.example", "lab.example", "lab.example:7778", "localhost", "127.0.0.1:7777"] {
            assert_eq!(named.check(&request(Some(bad), &[])), Err(IdentityReason::HostNotAllowed), "{bad}");
        }
        let at_443 = policy(Some(&["game.example:443"]), &[], "0.0.0.0");
        let allowed = ["game.example", "game.example:443", "game.example:80", "evil.example"]
            .map(|host| at_443.check(&request(Some(host), &[])).is_ok());
        assert_eq!(allowed, [true, true, false, false], "browsers leave out the scheme's own port");
        assert_eq!(policy(Some(&["*"]), &[], "127.0.0.1").check(&request(Some("evil.example"), &[])), Ok(()));
    }

    #[test]
    fn beside_the_public_port_who_asks_from_this_machine_has_to_name_it() {
        let names = |hosts: Option<&[String]>| Names::new(hosts, &[]).expect("valid");
        let beside = |names, from: &str| HostPolicy::beside(names, from.parse().expect("an address"));
        for from in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let policy = beside(names(None), from);
            assert_eq!(policy.check(&request(None, &[("host", "localhost:9464")])), Ok(()));
            let refused = policy.check(&request(None, &[("host", "evil.example:9464")]));
            assert_eq!(refused, Err(IdentityReason::HostNotAllowed));
        }
        let named = beside(names(Some(&["proxy.example".to_owned()])), "127.0.0.1");
        for good in ["proxy.example", "127.0.0.1:9464"] {
            assert_eq!(named.check(&request(None, &[("host", good)])), Ok(()), "{good}");
        }
        let elsewhere = beside(names(Some(&["game.example".to_owned()])), "192.0.2.7");
        assert_eq!(elsewhere.check(&request(None, &[("host", "10.0.0.5:9464")])), Ok(()));
        let page = request(None, &[("host", "10.0.0.5:9464"), ("origin", "https://evil.example")]);
        assert_eq!(elsewhere.check(&page), Err(IdentityReason::OriginNotAllowed));
    }

    #[test]
    fn pages_are_of_allowed_origins_or_refused() {
        let policy = policy(None, &["https://game.example", "http://localhost:8000"], "::1");
        let from = |origin: &str| policy.check(&request(Some("localhost"), &[("origin", origin)]));
        assert_eq!((from("https://game.example"), from("HTTP://localhost:8000")), (Ok(()), Ok(())));
        for bad in
            ["http://game.example", "https://game.example:444", "https://game.example.evil.example", "null", "*", ""]
        {
            assert_eq!(from(bad), Err(IdentityReason::OriginNotAllowed), "{bad}");
        }
        let two = request(Some("localhost"), &[("origin", "https://game.example"), ("origin", "https://evil.example")]);
        assert_eq!(policy.check(&two), Err(IdentityReason::OriginNotAllowed));
    }

    #[test]
    fn names_and_origins_that_are_none_are_refused() {
        for host in ["", "a b", "http://a", "user@a", "*.a", "a:", "a:99999", "a/b"] {
            assert!(Names::new(Some(&[host.to_owned()]), &[]).is_err(), "{host}");
        }
        for origin in ["", "*", "null", "game.example", "https://", "https://a/b", "https://a b", "https://u@a"] {
            assert!(Names::new(None, &[origin.to_owned()]).is_err(), "{origin}");
        }
    }
}
