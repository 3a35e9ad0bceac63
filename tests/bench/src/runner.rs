//! A case from its start to its figures: a server, its clients, a time to settle, and a time to count.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    thread::{self, available_parallelism},
    time::Duration,
};

use serde::Serialize;
use tickwire_replication::ReplicationConfig;
use tickwire_shared::TickRate;

use crate::{
    cases::{Case, Direction},
    child::{ChildError, ChildProcess, Order, Role, Said},
    drain::{Counted, DrainConfig, Protocol, Uplink},
    floor::PlainConfig,
    host::HostConfig,
    measure::{CpuTimes, Machine, resident_bytes},
    pace::now_ns,
};

/// Acknowledgements of Tickwire's clients in `down`. Its window is 3 snapshots at least, so that a client which
/// acknowledges every second one never stops it, nor does one acknowledgement that comes late.
pub(crate) const ACK_EVERY: u32 = 2;

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Contender {
    Floor,
    Tokio,
    Tickwire,
    /// The plain servers where clients acknowledge as often as Tickwire's.
    FloorAcked,
    TokioAcked,
    TickwireRecording,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) settle: Duration,
    pub(crate) count: Duration,
}

/// What one server came to in one case, once.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Of the server: user and system time.
    pub(crate) cpu_us_per_message: f64,
    pub(crate) cpu_us_per_client_tick: f64,
    pub(crate) cpu_ms_per_tick: f64,
    /// The same by the server's threads, in microseconds per tick.
    pub(crate) thread_us_per_tick: BTreeMap<String, f64>,
    /// Messages that came, of those that were due.
    pub(crate) delivered_share: f64,
    /// Snapshots that say that the newest input had come too late for its tick.
    pub(crate) inputs_late_share: f64,
    pub(crate) payload_bytes_per_message: f64,
    /// Tickwire's payload by part: the player's own entity, rows of the roster, updates of cells; the rest is the header.
    pub(crate) owner_bytes_per_message: f64,
    pub(crate) roster_bytes_per_message: f64,
    pub(crate) cell_bytes_per_message: f64,
    pub(crate) cell_updates_per_message: f64,
    /// With all framing of HTTP/2 or of the plain servers.
    pub(crate) socket_bytes_per_message: f64,
    /// With the segments' headers, too: an estimate.
    pub(crate) wire_bytes_per_message: f64,
    pub(crate) up_bytes_per_client_tick: f64,
    /// On the loopback device, both ways, whoever they are from.
    pub(crate) loopback_packets_per_client_tick: f64,
    pub(crate) loopback_bytes_per_client_tick: f64,
    pub(crate) age_ms_p50: f64,
    pub(crate) age_ms_p99: f64,
    /// The server's, the kernel's aside.
    pub(crate) memory_kib_per_stream: f64,
    pub(crate) drain_cpu_share: f64,
    /// Of all processors: what neither server nor clients took.
    pub(crate) others_cpu_share: f64,
    pub(crate) clients_lost: BTreeMap<String, u64>,
}

/// Why a case has no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no messages came")]
    NoMessages,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Tokio => "tokio",
            Self::Tickwire => "tickwire",
            Self::FloorAcked => "floor, acked",
            Self::TokioAcked => "tokio, acked",
            Self::TickwireRecording => "tickwire, recording",
        })
    }
}

impl Contender {
    /// Those of a case. Tickwire comes first: the plain servers send as many bytes as it did.
    pub(crate) fn of(case: &Case, recording: bool) -> Vec<Self> {
        let mut contenders = vec![Self::Tickwire, Self::Floor, Self::Tokio];
        if case.direction == Direction::Down {
            contenders.extend([Self::FloorAcked, Self::TokioAcked]);
        }
        if recording {
            contenders.push(Self::TickwireRecording);
        }
        contenders
    }

    pub(crate) fn is_tickwire(self) -> bool {
        matches!(self, Self::Tickwire | Self::TickwireRecording)
    }

    fn uplink(self, direction: Direction) -> Uplink {
        match (self, direction) {
            (_, Direction::DownUp) => Uplink::Inputs,
            (Self::Floor | Self::Tokio, Direction::Down) => Uplink::Nothing,
            (_, Direction::Down) => Uplink::Acks { every: ACK_EVERY },
        }
    }
}

/// Measures one server in one case. `body_bytes` is what the plain ones send.
pub(crate) fn measure(case: &Case, contender: Contender, body_bytes: usize, times: Times) -> Result<Figures, RunError> {
    let clients = case.workload.clients();
    let uplink = contender.uplink(case.direction);
    let recordings = tempfile::tempdir()?;
    let plain = PlainConfig { rate: case.rate, body_bytes, uplink };
    let role = match contender {
        Contender::Floor | Contender::FloorAcked => Role::Floor(plain),
        Contender::Tokio | Contender::TokioAcked => Role::Tokio(plain),
        Contender::Tickwire | Contender::TickwireRecording => Role::Tickwire(HostConfig {
            workload: case.workload,
            rate: case.rate,
            recordings: (contender == Contender::TickwireRecording).then(|| recordings.path().to_owned()),
        }),
    };
    let server = ChildProcess::start(&role)?;
    let address: SocketAddr = server.hear("an address", |said| match said {
        Said::Listening { address } => Ok(address),
        other => Err(other),
    })?;
    let memory_before = resident_bytes(server.id())?;

    let protocol = if contender.is_tickwire() { Protocol::Tickwire(case.workload) } else { Protocol::Plain };
    let mut drain =
        ChildProcess::start(&Role::Drain(DrainConfig { address, protocol, clients, rate: case.rate, uplink }))?;
    drain.hear("that all have joined", |said| if let Said::Joined = said { Ok(()) } else { Err(said) })?;
    // Twice the time that it takes where no tick is left out.
    let rows_per_snapshot = ReplicationConfig::new(TickRate::DEFAULT).roster_rows_per_snapshot;
    let rosters = 2.0 * (clients / rows_per_snapshot) as f64 / f64::from(case.rate);
    let settle = if contender.is_tickwire() { times.settle + Duration::from_secs_f64(rosters) } else { times.settle };
    thread::sleep(settle);
    let memory = resident_bytes(server.id())?.saturating_sub(memory_before);

    drain.tell(Order::Begin)?;
    drain.hear("that it counts", |said| if let Said::Began = said { Ok(()) } else { Err(said) })?;
    let before = Reading::take(&server, &drain)?;
    thread::sleep(times.count);
    let after = Reading::take(&server, &drain)?;
    drain.tell(Order::End)?;
    let counted = drain.hear("figures", |said| match said {
        Said::Counted(counted) => Ok(counted),
        other => Err(other),
    })?;
    figures(case, &before, &after, &counted, memory)
}

/// What the kernel says at one moment.
struct Reading {
    at_ns: u64,
    server: CpuTimes,
    drain: CpuTimes,
    machine: Machine,
}

impl Reading {
    fn take(server: &ChildProcess, drain: &ChildProcess) -> io::Result<Self> {
        Ok(Self {
            at_ns: now_ns(),
            server: CpuTimes::of(server.id())?,
            drain: CpuTimes::of(drain.id())?,
            machine: Machine::now()?,
        })
    }
}

fn figures(
    case: &Case,
    before: &Reading,
    after: &Reading,
    counted: &Counted,
    memory_bytes: u64,
) -> Result<Figures, RunError> {
    if counted.messages == 0 {
        return Err(RunError::NoMessages);
    }
    let clients = case.workload.clients() as f64;
    let ticks_per_second = f64::from(case.rate);
    let seconds = (after.at_ns - before.at_ns) as f64 * 1e-9;
    // The two sides count over times that differ by a little, so rates are compared.
    let threads = after.server.since(&before.server);
    let cpu = threads.values().sum::<f64>() / seconds;
    let drain_cpu = after.drain.since(&before.drain).values().sum::<f64>() / seconds;
    let messages = counted.messages as f64 / counted.seconds;
    let cores = available_parallelism()?.get() as f64;
    let per_message = |count: u64| count as f64 / counted.messages as f64;
    let client_ticks = clients * ticks_per_second;
    let on_loopback = |count: fn(&Machine) -> u64| {
        count(&after.machine).saturating_sub(count(&before.machine)) as f64 / seconds / client_ticks
    };
    Ok(Figures {
        cpu_us_per_message: cpu / messages * 1e6,
        cpu_us_per_client_tick: cpu / client_ticks * 1e6,
        cpu_ms_per_tick: cpu / ticks_per_second * 1e3,
        thread_us_per_tick: threads
            .into_iter()
            .map(|(name, time)| (name, time / seconds / ticks_per_second * 1e6))
            .collect(),
        delivered_share: messages / client_ticks,
        inputs_late_share: per_message(counted.inputs_late),
        payload_bytes_per_message: per_message(counted.payload_bytes),
        owner_bytes_per_message: per_message(counted.owner_bytes),
        roster_bytes_per_message: per_message(counted.roster_bytes),
        cell_bytes_per_message: per_message(counted.cell_bytes),
        cell_updates_per_message: per_message(counted.cell_updates),
        socket_bytes_per_message: per_message(counted.read_bytes),
        wire_bytes_per_message: per_message(counted.wire_bytes),
        up_bytes_per_client_tick: counted.written_bytes as f64 / counted.seconds / client_ticks,
        loopback_packets_per_client_tick: on_loopback(|machine| machine.loopback_packets),
        loopback_bytes_per_client_tick: on_loopback(|machine| machine.loopback_bytes),
        age_ms_p50: counted.age_us_p50 as f64 * 1e-3,
        age_ms_p99: counted.age_us_p99 as f64 * 1e-3,
        memory_kib_per_stream: memory_bytes as f64 / 1024.0 / clients,
        drain_cpu_share: drain_cpu / cores,
        others_cpu_share: (after.machine.busy_share_since(&before.machine) - (cpu + drain_cpu) / cores).max(0.0),
        clients_lost: counted.lost.clone(),
    })
}
