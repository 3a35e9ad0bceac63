//! What a server prints when it starts: where it is, and commands that work as they stand there.

use std::{
    iter::once,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use super::options::default_data_dir;
use crate::{
    config::ServerConfig,
    identity::{Auth, IdentityConfig},
};

/// Bots in the command that is suggested, where there is room for so many.
const BOTS: u32 = 64;

/// What the commands have to say, as of the server's configuration.
#[derive(Debug)]
pub(super) struct Banner {
    scheme: &'static str,
    /// Trusted by who connects from here, for want of the certificate of who has signed it.
    certificate: Option<PathBuf>,
    /// None: any of this machine's does.
    host: Option<String>,
    bots: u32,
    /// The file of keys, and the audience, where tickets are asked for.
    tickets: Option<(PathBuf, String)>,
    recordings: Option<PathBuf>,
    admin: AdminWords,
}

/// What commands for admins have to say.
#[derive(Debug, Default)]
struct AdminWords {
    data_dir: Option<PathBuf>,
    tokens: Option<PathBuf>,
    certificate: Option<PathBuf>,
    shows_certificate: bool,
}

/// What is known once the server has started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) address: SocketAddr,
    pub(super) sessions: Vec<String>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) metrics: Option<SocketAddr>,
    /// Whether the keys of tickets sign, too.
    pub(super) signs_tickets: bool,
}

impl Banner {
    pub(super) fn of(config: &ServerConfig) -> Self {
        let IdentityConfig { auth, ticket_keys, ticket_audience, allowed_hosts, .. } = &config.identity;
        let admin = config.admin.as_ref().map(|admin| AdminWords {
            data_dir: Some(admin.directory.clone()).filter(|directory| *directory != default_data_dir()),
            tokens: admin.tokens.clone(),
            certificate: admin.tls.as_ref().map(|tls| tls.certificates.clone()),
            shows_certificate: admin.tls.as_ref().is_some_and(|tls| tls.client_authorities.is_some()),
        });
        Self {
            scheme: if config.tls.is_some() { "https" } else { "http" },
            certificate: config.tls.as_ref().map(|tls| tls.certificates.clone()),
            host: allowed_hosts.iter().flatten().find(|host| *host != "*").cloned(),
            bots: config.max_players.get().min(BOTS),
            tickets: ticket_keys.clone().filter(|_| *auth == Auth::Ticket).map(|keys| (keys, ticket_audience.clone())),
            recordings: config.recordings.clone(),
            admin: admin.unwrap_or_default(),
        }
    }

    pub(super) fn lines(&self, started: &Started) -> Vec<String> {
        let Started { address, sessions, admin, metrics, signs_tickets: _ } = started;
        let (scheme, version) = (self.scheme, env!("CARGO_PKG_VERSION"));
        once(format!("Tickwire {version} on {scheme}://{address} (gRPC)"))
            .chain(sessions.iter().map(|session| format!("  session     {session}")))
            .chain(self.recordings.iter().map(|directory| format!("  recordings  {}", directory.display())))
            .chain(admin.map(|admin| format!("  admin       {admin}: {}", self.admin.command())))
            .chain(metrics.map(|metrics| format!("  metrics     http://{metrics}/metrics")))
            .chain(self.play(started).map(|play| format!("  play        {play}")))
            .chain(once("  stop        Ctrl-C; twice to stop without a clean end".to_owned()))
            .collect()
    }

    /// How to play with bots; none where there is nothing to play as yet.
    fn play(&self, started: &Started) -> Option<String> {
        if started.sessions.is_empty() {
            return None;
        }
        if let Some((keys, _)) = self.tickets.as_ref().filter(|_| !started.signs_tickets) {
            return Some(format!("with tickets of who has the private keys of {}", keys.display()));
        }
        let mut command = format!("tickwire-bots --connect {}", self.url(started.address));
        if let Some(certificate) = &self.certificate {
            command += &format!(" --tls-ca {}", quoted(certificate));
        }
        if let Some((keys, audience)) = &self.tickets {
            command += &format!(" --ticket-keys {}", quoted(keys));
            if *audience != IdentityConfig::default().ticket_audience {
                command += &format!(" --ticket-audience {}", quoted(Path::new(audience)));
            }
        }
        Some(format!("{command} --bots {} --seconds 30", self.bots))
    }

    /// By which clients on this machine come to a server that listens there.
    fn url(&self, mut address: SocketAddr) -> String {
        let scheme = self.scheme;
        match &self.host {
            // With a port of its own, perhaps.
            Some(host) if host.rsplit(']').next().is_some_and(|rest| rest.contains(':')) => {
                format!("{scheme}://{host}")
            }
            Some(host) => format!("{scheme}://{host}:{}", address.port()),
            None => {
                // All addresses are none to connect to.
                match address.ip() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                    _ => {}
                }
                format!("{scheme}://{address}")
            }
        }
    }
}

impl AdminWords {
    fn command(&self) -> String {
        let mut command = "tickwire-server admin info".to_owned();
        if let Some(directory) = &self.data_dir {
            command += &format!(" --data-dir {}", quoted(directory));
        }
        if let Some(certificate) = &self.certificate {
            command += &format!(" --tls-ca {}", quoted(certificate));
        }
        if self.shows_certificate {
            command += " --tls-cert YOURS.pem --tls-key YOURS.key";
        }
        match &self.tokens {
            Some(tokens) => format!("{command} --token-file YOURS, which holds a token of {}", tokens.display()),
            None => command,
        }
    }
}

/// A word of a shell's command.
fn quoted(path: &Path) -> String {
    let word = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=@%:,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::config::{AdminConfig, TlsFiles};

    fn started(address: &str) -> Started {
        Started {
            address: address.parse().expect("an address"),
            sessions: vec!["sessions/arena-1".to_owned()],
            admin: Some(([127, 0, 0, 1], 4000).into()),
            metrics: None,
            signs_tickets: true,
        }
    }

    fn config(directory: &str) -> ServerConfig {
        let admin = AdminConfig {
            listen: None,
            directory: directory.into(),
            tls: None,
            tokens: None,
            drain: std::time::Duration::ZERO,
        };
        ServerConfig { admin: Some(admin), ..ServerConfig::default() }
    }

    fn tls(certificates: &str) -> Option<TlsFiles> {
        Some(TlsFiles { certificates: certificates.into(), key: "a.key".into(), client_authorities: None })
    }

    fn line(config: &ServerConfig, started: &Started, name: &str) -> Option<String> {
        let lines = Banner::of(config).lines(started);
        lines.into_iter().find_map(|line| Some(line.trim_start().strip_prefix(name)?.trim_start().to_owned()))
    }

    #[test]
    fn a_server_that_was_told_nothing_is_found_without_options() {
        let (config, started) = (config("./tickwire-data"), started("127.0.0.1:7777"));
        let play = line(&config, &started, "play").expect("there is a session");
        assert_eq!(play, "tickwire-bots --connect http://127.0.0.1:7777 --bots 64 --seconds 30");
        let admin = line(&config, &started, "admin").expect("it listens");
        assert_eq!(admin, "127.0.0.1:4000: tickwire-server admin info");
        assert_eq!(line(&config, &Started { sessions: Vec::new(), ..started }, "play"), None);
    }

    #[test]
    fn commands_name_the_files_without_which_they_would_not_work() {
        let mut config = config("/srv/o'brien's data");
        config.tls = tls("certs/server.pem");
        config.max_players = NonZeroU32::new(8).expect("not 0");
        config.identity = IdentityConfig {
            auth: Auth::Ticket,
            ticket_keys: Some("keys.json".into()),
            ticket_audience: "eu-1".to_owned(),
            ..IdentityConfig::default()
        };
        let mut started = started("0.0.0.0:7777");
        let play = line(&config, &started, "play").expect("there is a session");
        assert_eq!(
            play,
            "tickwire-bots --connect https://127.0.0.1:7777 --tls-ca certs/server.pem --ticket-keys keys.json \
             --ticket-audience eu-1 --bots 8 --seconds 30"
        );
        let admin = line(&config, &started, "admin").expect("it listens");
        assert!(admin.ends_with(r"admin info --data-dir '/srv/o'\''brien'\''s data'"), "{admin}");
        started.signs_tickets = false;
        let play = line(&config, &started, "play").expect("there is a session");
        assert_eq!(play, "with tickets of who has the private keys of keys.json");

        let admin = config.admin.as_mut().expect("it is there");
        admin.tokens = Some("tokens.toml".into());
        admin.tls = tls("admin.pem");
        let admin = line(&config, &started, "admin").expect("it listens");
        assert!(
            admin.ends_with(" --tls-ca admin.pem --token-file YOURS, which holds a token of tokens.toml"),
            "{admin}"
        );
    }

    #[test]
    fn a_server_that_takes_requests_for_some_hosts_is_named_by_one_of_them() {
        let of = |hosts: &[&str], address| {
            let mut config = config("data");
            config.identity.allowed_hosts = Some(hosts.iter().map(|host| (*host).to_owned()).collect());
            Banner::of(&config).url(started(address).address)
        };
        assert_eq!(of(&["game.example"], "0.0.0.0:7777"), "http://game.example:7777");
        assert_eq!(of(&["game.example:443"], "0.0.0.0:7777"), "http://game.example:443");
        assert_eq!(of(&["[::1]"], "[::]:7777"), "http://[::1]:7777");
        assert_eq!(of(&["*"], "[::]:7777"), "http://[::1]:7777");
    }
}
