//! A network from its making to its figures. All contestants play over it at the same time, in one match, so that whatever
//! else the machine does falls on each of them; each player has a line of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::lab::{
    cases::Case,
    link::{Counts, Way},
    netns::{Namespace, Net},
    process::{Process, Supervisor},
    programs::Programs,
    relay::{Passed, Relay},
    report::{CaseReport, Figures, Row, broken},
    tell, udp,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const GAME_PORT: u16 = 7777;
const UDP_PORT: u16 = 7778;
/// Each contestant has a net of this, and each player an address in it.
const PLAYERS: [u8; 2] = [10, 78];
/// Within which both ends lie.
const NET_BITS: u8 = 8;
const PLAYERS_BITS: u8 = 16;
/// Bots that join per second.
const RAMP_PER_SECOND: u32 = 50;
/// How long it is played without the bad network, to learn how large snapshots are.
const REHEARSAL: Duration = Duration::from_secs(2);
/// How long a program may take to start or to end beyond its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// A namespace's default.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
/// Where the kernel says which congestion control it has.
const CONGESTION_CONTROLS: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// Who plays over a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    Udp,
    /// Tickwire on so many connections, each snapshot on so many of them.
    Stripes {
        stripes: u32,
        copies: u32,
    },
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Udp => f.write_str("UDP"),
            Self::Stripes { stripes: 1, .. } => f.write_str("1 connection"),
            Self::Stripes { stripes, copies: 1 } => write!(f, "{stripes} stripes"),
            Self::Stripes { stripes, .. } => write!(f, "{stripes} stripes, each on two"),
        }
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LabError {
    /// Not here, or not by this user.
    #[error("{0}")]
    Cannot(String),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("there is no {}; build it: cargo build --release -p tickwire-server -p tickwire-client", program.display())]
    NoProgram { program: PathBuf },
    #[error("the server and the bots could not be built")]
    NotBuilt,
    #[error("{name} ended: {status}\n{said}")]
    Ended { name: String, status: String, said: String },
    #[error("{name} has said nothing of it for {patience:?}")]
    Silent { name: String, patience: Duration },
    #[error("the report of {name} cannot be read: {source}")]
    Report { name: String, source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl From<io::Error> for LabError {
    fn from(source: io::Error) -> Self {
        Self::Io { what: "do it".to_owned(), source }
    }
}

/// What is done on every network.
pub(crate) struct Lab {
    pub(crate) supervisor: Supervisor,
    pub(crate) programs: Programs,
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) bots: u32,
    pub(crate) crowd: u32,
    /// The default of both ends' systems, where it is not to be this one's.
    pub(crate) congestion_control: Option<String>,
    pub(crate) behaviour: String,
    pub(crate) bots_arguments: Vec<String>,
    pub(crate) duration: Duration,
    pub(crate) hz: u32,
    pub(crate) seed: u64,
    /// A snapshot's mean size, once it is known.
    pub(crate) payload_bytes: Option<f64>,
}

/// Bots that play.
struct Team {
    contestant: Contestant,
    process: Process,
    report: PathBuf,
}

impl Lab {
    /// Measures a network.
    pub(crate) fn measure(&mut self, case: &Case) -> Result<CaseReport, LabError> {
        let folder = tempfile::tempdir().map_err(io("make a folder"))?;
        let (server_net, players_net) = (network("server-net")?, network("players-net")?);
        let server_end = bring_up(&server_net, Net { address: SERVER, prefix_bits: NET_BITS }, None)?;
        let players_end = bring_up(
            &players_net,
            Net { address: player_address(u8::MAX, 1), prefix_bits: NET_BITS },
            Some(Net { address: player_address(u8::MAX, 2), prefix_bits: PLAYERS_BITS }),
        )?;
        if let Some(name) = &self.congestion_control {
            for namespace in [&server_net, &players_net] {
                let name = name.clone();
                let set = namespace.run(move || fs::write(CONGESTION_CONTROL, name));
                set.map_err(io("set the congestion control (is it among net.ipv4.tcp_allowed_congestion_control?)"))?;
            }
        }
        let relay = Relay::start(server_end, players_end, case.link, self.seed).map_err(io("start the link"))?;

        let server = self.start_server(&server_net, folder.path())?;
        let crowd = match self.crowd {
            0 => None,
            bots => Some(self.start_bots(&server_net, "crowd", bots, self.crowd_duration(), &[], folder.path())?),
        };
        let payload_bytes = match self.payload_bytes {
            Some(bytes) => bytes,
            None => self.rehearse(&server_net, folder.path())?,
        };
        self.payload_bytes = Some(payload_bytes);

        tell(format_args!("{}: playing for {} s", case.name, self.duration.as_secs()));
        let start = Instant::now();
        let schedule = udp::Schedule { start, hz: self.hz, end: start + self.duration };
        let control = self.start_control(&server_net, &players_net, schedule, payload_bytes.round() as usize)?;
        let (mut teams, not_offered) = self.start_teams(&players_net, folder.path())?;
        let mut all: Vec<&mut Process> = teams.iter_mut().map(|team| &mut team.process).collect();
        self.supervisor.pass(self.duration / 2, &mut all)?;
        let congestion_control = congestion_control(&server_net, &players_net);

        let mut rows = vec![control_row(control, self.bots)?];
        for team in &mut teams {
            rows.push(self.finish(team)?);
        }
        if let Some((mut crowd, _)) = crowd {
            self.supervisor.end(&mut crowd, self.duration + PATIENCE)?;
        }
        self.supervisor.terminate(server, PATIENCE)?;
        let passed = relay.end().map_err(io("run the link"))?;
        for row in &mut rows {
            let contestant = self.contestants.iter().position(|contestant| *contestant == row.contestant);
            let net = contestant.map(|contestant| contestant as u8 + 1);
            (row.down, row.up) = (counts(&passed, net, Way::Down), counts(&passed, net, Way::Up));
        }
        let ms = |quantile| passed.late_us.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(CaseReport {
            name: case.name.clone(),
            link: case.link,
            broken: broken(&case.link, &rows),
            rows,
            not_offered,
            udp_bytes: payload_bytes,
            link_late_ms_p50: ms(0.5),
            link_late_ms_p99: ms(0.99),
            link_late_ms_max: passed.late_us.max() as f64 / 1000.0,
            link_is_realtime: passed.is_realtime,
            congestion_control,
        })
    }

    fn start_server(&mut self, namespace: &Namespace, folder: &Path) -> Result<Process, LabError> {
        let players = self.bots * self.contestants.len() as u32 + self.crowd;
        let arguments = [
            "serve".to_owned(),
            format!("--listen={SERVER}:{GAME_PORT}"),
            "--insecure".to_owned(),
            // All bots of a contestant come from one address.
            "--connections-per-address-max=100000".to_owned(),
            "--joins-per-second-per-address-max=100000".to_owned(),
            "--joins-burst-per-address-max=100000".to_owned(),
            format!("--tick-rate={}", self.hz),
            // Seats of those who left are free again only later.
            format!("--max-players={}", 2 * players + 16),
            format!("--seed={}", self.seed),
            format!("--data-dir={}", folder.join("data").display()),
        ];
        let mut server = self.supervisor.start(namespace, "server", &self.programs.server, &arguments, folder)?;
        self.supervisor.hear(&mut server, "http://", PATIENCE)?;
        Ok(server)
    }

    /// Starts bots with a report.
    fn start_bots(
        &mut self,
        namespace: &Namespace,
        name: &str,
        bots: u32,
        duration: Duration,
        more: &[String],
        folder: &Path,
    ) -> Result<(Process, PathBuf), LabError> {
        let report = folder.join(format!("{name}.json"));
        let mut arguments = vec![
            format!("--connect=http://{SERVER}:{GAME_PORT}"),
            format!("--bots={bots}"),
            format!("--seconds={}", duration.as_secs_f64()),
            format!("--ramp-per-second={RAMP_PER_SECOND}"),
            format!("--behaviour={}", self.behaviour),
            format!("--seed={}", self.seed),
            format!("--report={}", report.display()),
            "--quiet".to_owned(),
        ];
        arguments.extend_from_slice(more);
        arguments.extend_from_slice(&self.bots_arguments);
        let process = self.supervisor.start(namespace, name, &self.programs.bots, &arguments, folder)?;
        Ok((process, report))
    }

    /// Long enough for all that follows.
    fn crowd_duration(&self) -> Duration {
        self.duration + REHEARSAL + PATIENCE / 6
    }

    /// Plays with as many bots where nothing is lost, and says how large a snapshot was, on average.
    fn rehearse(&mut self, namespace: &Namespace, folder: &Path) -> Result<f64, LabError> {
        let bots = self.bots * self.contestants.len().saturating_sub(1).max(1) as u32;
        let (mut process, file) = self.start_bots(namespace, "rehearsal", bots, REHEARSAL, &[], folder)?;
        self.supervisor.end(&mut process, REHEARSAL + PATIENCE)?;
        let report = read_report(&file, &mut process)?;
        let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
        Ok(number("payload_bytes_received") / number("snapshots_received").max(1.0))
    }

    fn start_control(
        &self,
        server_net: &Namespace,
        players_net: &Namespace,
        schedule: udp::Schedule,
        bytes: usize,
    ) -> Result<Control, LabError> {
        let server = SocketAddr::from((SERVER, UDP_PORT));
        let socket = server_net.run(move || UdpSocket::bind(server)).map_err(io("open a UDP socket"))?;
        let sender = thread::Builder::new()
            .name("udp-server".to_owned())
            .spawn(move || udp::serve(&socket, schedule, bytes))
            .map_err(io("start a thread"))?;
        let net = self.contestants.iter().position(|contestant| *contestant == Contestant::Udp).unwrap_or_default();
        let addresses: Vec<Ipv4Addr> = (0..self.bots).map(|bot| player_address(net as u8 + 1, bot as u8 + 1)).collect();
        // Its sockets are opened within the namespace, where the thread is started.
        let players = players_net
            .run(move || {
                let play = move || udp::play(&addresses, server, schedule);
                thread::Builder::new().name("udp-players".to_owned()).spawn(play)
            })
            .map_err(io("start a thread"))?;
        Ok(Control { sender, players })
    }

    /// Starts the bots, and says what they do not offer.
    fn start_teams(
        &mut self,
        namespace: &Namespace,
        folder: &Path,
    ) -> Result<(Vec<Team>, BTreeSet<&'static str>), LabError> {
        let (mut teams, mut not_offered) = (Vec::new(), BTreeSet::new());
        for (i, contestant) in self.contestants.clone().into_iter().enumerate() {
            let Contestant::Stripes { stripes, copies } = contestant else { continue };
            let mut more = Vec::new();
            let wanted = [("--stripes", stripes), ("--snapshot-copies", copies)].into_iter().filter(|(_, n)| *n > 1);
            let missing: Vec<&str> =
                wanted.clone().map(|(option, _)| option).filter(|option| !self.programs.bots_know(option)).collect();
            if !missing.is_empty() {
                not_offered.extend(missing);
                continue;
            }
            more.extend(wanted.map(|(option, number)| format!("{option}={number}")));
            // Where bots predict, mispredictions are counted.
            if self.programs.bots_know("--predict") {
                more.push("--predict".to_owned());
            }
            let addresses: Vec<String> =
                (0..self.bots).map(|bot| player_address(i as u8 + 1, bot as u8 + 1).to_string()).collect();
            more.push(format!("--bind={}", addresses.join(",")));
            let name = format!("bots-{stripes}-{copies}");
            let (process, report) = self.start_bots(namespace, &name, self.bots, self.duration, &more, folder)?;
            teams.push(Team { contestant, process, report });
        }
        Ok((teams, not_offered))
    }

    fn finish(&mut self, team: &mut Team) -> Result<Row, LabError> {
        // It fails where a bot did; the report says so, too, and more.
        self.supervisor.end(&mut team.process, self.duration + PATIENCE)?;
        let report = read_report(&team.report, &mut team.process)?;
        Ok(Row::new(team.contestant, Figures::of_report(&report), Some(report), team.process.said()))
    }
}

/// The UDP threads.
struct Control {
    sender: JoinHandle<io::Result<()>>,
    players: JoinHandle<io::Result<udp::Seen>>,
}

fn control_row(control: Control, players: u32) -> Result<Row, LabError> {
    let panicked = || io::Error::other("its thread panicked");
    let seen = control.players.join().unwrap_or_else(|_| Err(panicked())).map_err(io("play over UDP"))?;
    control.sender.join().unwrap_or_else(|_| Err(panicked())).map_err(io("send over UDP"))?;
    Ok(Row::new(Contestant::Udp, Figures::of_udp(&seen, players), None, String::new()))
}

fn read_report(file: &Path, process: &mut Process) -> Result<Json, LabError> {
    // Without a report there was something else that kept the bots from playing, and they have told it.
    let text = fs::read(file).map_err(|_| process.failure())?;
    let parsed = serde_json::from_slice(&text).map_err(io::Error::from);
    parsed.map_err(|source| LabError::Report { name: file.display().to_string(), source })
}

fn network(name: &str) -> Result<Namespace, LabError> {
    let cannot = |error| LabError::Cannot(format!("a network namespace cannot be made here: {error}"));
    Namespace::create(name).map_err(cannot)
}

fn bring_up(namespace: &Namespace, address: Net, own: Option<Net>) -> Result<tun_rs::SyncDevice, LabError> {
    let cannot =
        |error| LabError::Cannot(format!("a TUN device cannot be made here (is there /dev/net/tun?): {error}"));
    namespace.bring_up(address, own).map_err(cannot)
}

fn player_address(net: u8, player: u8) -> Ipv4Addr {
    Ipv4Addr::new(PLAYERS[0], PLAYERS[1], net, player)
}

/// What passed over the lines of a contestant's players.
fn counts(passed: &Passed, net: Option<u8>, way: Way) -> Counts {
    let mut sum = Counts::default();
    for ((player, _), counts) in passed.lanes.iter().filter(|((_, of), _)| *of == way) {
        if Some(player.octets()[2]) == net {
            sum.add(counts);
        }
    }
    sum
}

/// How many connections are under which congestion control at either end, by what the kernel says of its sockets.
fn congestion_control(server_net: &Namespace, players_net: &Namespace) -> String {
    let available = fs::read_to_string(CONGESTION_CONTROLS).unwrap_or_default();
    let mut ends = Vec::new();
    for (name, namespace) in [("server", server_net), ("bots", players_net)] {
        let sockets =
            namespace.run(|| Command::new("ss").args(["-H", "-t", "-i", "-n", "state", "established"]).output());
        let Ok(sockets) = sockets else {
            return format!("not seen, there is no ss (iproute2); the kernel has {}", available.trim());
        };
        let text = String::from_utf8_lossy(&sockets.stdout).into_owned();
        let mut found = BTreeMap::<&str, u32>::new();
        // The second line of each socket has the name among its first words.
        for line in text.lines().filter(|line| line.starts_with(char::is_whitespace)) {
            let of_line = line.split_whitespace().find(|word| available.split_whitespace().any(|name| name == *word));
            *found.entry(of_line.unwrap_or("?")).or_default() += 1;
        }
        let found: Vec<String> = found.iter().map(|(name, sockets)| format!("{name} on {sockets}")).collect();
        ends.push(format!("{name}: {}", if found.is_empty() { "no connection".to_owned() } else { found.join(", ") }));
    }
    ends.join("; ")
}

/// An error with what could not be done.
fn io(what: &'static str) -> impl Fn(io::Error) -> LabError {
    move |source| LabError::Io { what: what.to_owned(), source }
}
