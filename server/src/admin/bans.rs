//! Addresses that nobody may come from: asked for each connection, written down for the next start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tonic::Code;

use super::AdminError;
use crate::{
    session::{Ousted, OustedKind},
    status::Refusal,
};

const FILE: &str = "bans.json";
pub(super) const BANS_MAX: usize = 10_000;

/// Who is banned.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    current: ArcSwap<Index>,
    /// None: they are kept in memory alone.
    file: Option<PathBuf>,
    /// Held while they are changed.
    changing: Mutex<()>,
}

/// One ban.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ban {
    pub(super) network: IpNet,
    /// For the player.
    pub(super) reason: String,
    /// The name of the token by which it was made.
    pub(super) by: String,
    #[serde(with = "rfc3339")]
    pub(super) created: SystemTime,
    /// None: for good.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<SystemTime>,
}

/// Bans by network, and which lengths of prefixes there are: an address is looked up once for each.
#[derive(Clone, Debug, Default)]
struct Index {
    bans: BTreeMap<IpNet, Arc<Ban>>,
    prefix_lengths: BTreeSet<(bool, u8)>,
}

/// Why bans are not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum BanError {
    #[error("there are {BANS_MAX} bans, which is the most: unban some, or ban whole networks")]
    Full,
    #[error("there is no ban of {network}{}", wider_words(wider))]
    NotFound { network: IpNet, wider: Vec<IpNet> },
    #[error("the list of bans cannot be written: {0}")]
    File(#[from] io::Error),
}

fn wider_words(wider: &[IpNet]) -> String {
    match wider {
        [] => String::new(),
        [first, ..] => format!("; what keeps it out is that of {first}: unban that"),
    }
}

impl Bans {
    /// Those of a data directory.
    pub(crate) fn load(directory: &Path) -> Result<Self, AdminError> {
        let path = directory.join(FILE);
        let bans: Vec<Ban> = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| AdminError::Bans { path: path.clone(), source })?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(AdminError::File { path, source }),
        };
        let index = Index::of(bans.into_iter().map(Arc::new), SystemTime::now());
        Ok(Self { current: ArcSwap::from_pointee(index), file: Some(path), changing: Mutex::default() })
    }

    /// The ban of an address.
    pub(crate) fn find(&self, address: IpAddr) -> Option<Arc<Ban>> {
        let index = self.current.load();
        if index.bans.is_empty() {
            return None;
        }
        let address = address.to_canonical();
        let now = SystemTime::now();
        let lengths = index.prefix_lengths.iter().filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
        // The widest network first; any will do.
        lengths
            .filter_map(|(_, length)| index.bans.get(&network(address, *length)))
            .find(|ban| !ban.is_over(now))
            .cloned()
    }

    /// All that hold, in order of network.
    pub(super) fn all(&self) -> Vec<Arc<Ban>> {
        let now = SystemTime::now();
        self.current.load().bans.values().filter(|ban| !ban.is_over(now)).cloned().collect()
    }

    /// Bans a network: a ban of the same one gives way to it, which is returned.
    pub(super) fn add(&self, ban: Ban) -> Result<Option<Arc<Ban>>, BanError> {
        self.change(|bans| {
            let replaced = bans.insert(ban.network, Arc::new(ban));
            if bans.len() > BANS_MAX { Err(BanError::Full) } else { Ok(replaced) }
        })
    }

    /// Lifts the ban of a network: the bans of wider ones, by which it stays out all the same, the widest first.
    pub(super) fn remove(&self, network: IpNet) -> Result<Vec<Arc<Ban>>, BanError> {
        self.change(|bans| {
            let removed = bans.remove(&network);
            let mut wider: Vec<Arc<Ban>> =
                bans.values().filter(|ban| ban.network.contains(&network)).cloned().collect();
            wider.sort_by_key(|ban| ban.network.prefix_len());
            match removed {
                Some(_) => Ok(wider),
                None => Err(BanError::NotFound { network, wider: wider.iter().map(|ban| ban.network).collect() }),
            }
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<IpNet, Arc<Ban>>) -> Result<T, BanError>,
    ) -> Result<T, BanError> {
        let _changing = self.lock();
        let now = SystemTime::now();
        let mut bans = Index::of(self.current.load().bans.values().cloned(), now).bans;
        let changed = change(&mut bans)?;
        let index = Index::of(bans.into_values(), now);
        // First: what was not written would be forgotten at the next start.
        if let Some(file) = &self.file {
            index.write(file)?;
        }
        self.current.store(Arc::new(index));
        Ok(changed)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().expect("no holder of this lock panics")
    }
}

impl Index {
    fn of(bans: impl Iterator<Item = Arc<Ban>>, now: SystemTime) -> Self {
        let bans: BTreeMap<IpNet, Arc<Ban>> =
            bans.filter(|ban| !ban.is_over(now)).map(|ban| (canonical(ban.network), ban)).collect();
        let prefix_lengths = bans.keys().map(|network| (is_v4(network), network.prefix_len())).collect();
        Self { bans, prefix_lengths }
    }

    /// Whole, or not at all.
    fn write(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().expect("it is a file in a directory");
        fs::create_dir_all(directory)?;
        let mut file = NamedTempFile::new_in(directory)?;
        let bans: Vec<&Ban> = self.bans.values().map(|ban| &**ban).collect();
        serde_json::to_writer_pretty(&mut file, &bans)?;
        writeln!(file)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        #[cfg(unix)]
        fs::File::open(directory)?.sync_all()?;
        Ok(())
    }
}

impl Ban {
    fn is_over(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// What somebody who is banned is told.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::new(Code::PermissionDenied, "BANNED", self.words())
    }

    /// The same, for a player who is there.
    pub(crate) fn ousted(&self) -> Ousted {
        Ousted { kind: OustedKind::Banned, text: self.words() }
    }

    fn words(&self) -> String {
        let until = match self.expires {
            Some(expires) => format!(" until {}", humantime::format_rfc3339_seconds(expires)),
            None => String::new(),
        };
        match self.reason.as_str() {
            "" => format!("you are banned from this server{until}"),
            reason => format!("you are banned from this server{until}: {reason}"),
        }
    }
}

/// What is meant by an address or a network, as it is written.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    let written = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(canonical(written))
}

/// Whether a network has an address.
pub(super) fn has(network: &IpNet, address: IpAddr) -> bool {
    network.contains(&address.to_canonical())
}

/// One way to write each: no bits behind the prefix, and those of IPv4 as such.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    if let IpNet::V6(v6) = network
        && let Some(length) = v6.prefix_len().checked_sub(MAPPED_BITS)
        && let Some(v4) = v6.addr().to_ipv4_mapped()
    {
        return IpNet::V4(Ipv4Net::new(v4, length).expect("of 128 bits 32 are left")).trunc();
    }
    network.trunc()
}

fn network(address: IpAddr, length: u8) -> IpNet {
    IpNet::new(address, length).expect("lengths are those of networks of the same family").trunc()
}

fn is_v4(network: &IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

/// Times as people write them.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        humantime::parse_rfc3339(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(super) mod option {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| humantime::parse_rfc3339(&text).map_err(D::Error::custom)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn ban(network: &str, expires: Option<SystemTime>) -> Ban {
        let network = parse(network).expect("a network");
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Ban { network, reason: "cheats".into(), by: "ada".into(), created, expires }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_are_found_by_any_of_their_addresses_in_either_notation() {
        let bans = Bans::default();
        for network in ["10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"] {
            bans.add(ban(network, None)).expect("there is room");
        }
        for inside in
            ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "2001:db8:1::5", "198.51.100.9", "::ffff:198.51.100.9"]
        {
            assert!(bans.find(address(inside)).is_some(), "{inside}");
        }
        for outside in ["10.2.0.0", "192.0.2.8", "2001:db9::1", "198.51.101.0", "::1", "::10.1.2.3"] {
            assert_eq!(bans.find(address(outside)), None, "{outside}");
        }
        bans.remove(parse("10.1.77.0/16").expect("a network")).expect("it is the same one");
        assert_eq!(bans.find(address("10.1.2.3")), None);
        let error = bans.remove(parse("10.1.0.0/16").expect("valid")).expect_err("it has been lifted");
        assert_eq!(error.to_string(), "there is no ban of 10.1.0.0/16");
    }

    #[test]
    fn a_ban_gives_way_to_another_of_its_network_and_one_that_is_lifted_says_which_wider_ones_still_hold() {
        let bans = Bans::default();
        let network = |text| parse(text).expect("a network");
        let first = ban("192.0.2.7", None);
        assert_eq!(bans.add(first.clone()).expect("there is room"), None);
        let again = Ban { reason: "spam".into(), ..first.clone() };
        assert_eq!(bans.add(again.clone()).expect("there is room"), Some(Arc::new(first)));
        for wider in ["192.0.2.0/24", "192.0.0.0/16", "192.0.3.0/24", "::/0"] {
            assert_eq!(bans.add(ban(wider, None)).expect("there is room"), None, "it is another network");
        }
        let networks = |bans: Vec<Arc<Ban>>| bans.iter().map(|ban| ban.network.to_string()).collect::<Vec<_>>();
        let holding = bans.remove(again.network).expect("it is there");
        assert_eq!(networks(holding), ["192.0.0.0/16", "192.0.2.0/24"]);
        let error = bans.remove(again.network).expect_err("it has been lifted").to_string();
        assert_eq!(error, "there is no ban of 192.0.2.7/32; what keeps it out is that of 192.0.0.0/16: unban that");
        assert_eq!(networks(bans.remove(network("192.0.0.0/16")).expect("it is there")), [""; 0]);
        // What is over holds nothing.
        assert_eq!(bans.add(ban("192.0.0.0/8", Some(SystemTime::UNIX_EPOCH))).expect("there is room"), None);
        assert_eq!(networks(bans.remove(network("192.0.2.0/24")).expect("it is there")), [""; 0]);
    }

    #[test]
    fn they_outlive_the_server_but_not_their_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let load = || Bans::load(directory.path()).expect("it is readable");
        let bans = load();
        let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
        let [stays, goes] = [ban("10.0.0.0/8", Some(tomorrow)), ban("192.0.2.7", None)];
        let over = ban("192.0.2.8", Some(SystemTime::UNIX_EPOCH));
        for ban in [&stays, &goes, &over] {
            bans.add(ban.clone()).expect("it can be written");
        }
        assert_eq!(bans.find(address("192.0.2.8")), None);
        bans.remove(goes.network).expect("it is there");
        assert_eq!(load().all(), [Arc::new(stays)]);
        // Nothing else is left there.
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 1);
        fs::write(directory.path().join(FILE), "[{}]").expect("it can be written");
        let error = Bans::load(directory.path()).expect_err("it is no list");
        assert!(error.to_string().contains("missing field"), "{error}");
    }

    proptest! {
        #[test]
        fn an_address_is_banned_if_and_only_if_a_network_has_it(
            networks in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..20),
            addresses in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let bans = Bans::default();
            for (bits, length) in &networks {
                bans.add(ban(&format!("{}/{length}", std::net::Ipv4Addr::from_bits(*bits)), None)).expect("there is room");
            }
            let near = networks.iter().map(|(bits, _)| bits ^ 1);
            for bits in addresses.into_iter().chain(near) {
                let address = IpAddr::from(std::net::Ipv4Addr::from_bits(bits));
                let expected = bans.all().iter().any(|ban| has(&ban.network, address));
                prop_assert_eq!(bans.find(address).is_some(), expected);
            }
        }
    }
}
