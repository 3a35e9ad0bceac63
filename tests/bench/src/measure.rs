//! What the kernel says of processes and of the machine: Linux's `/proc`.

use std::{collections::BTreeMap, fs, io, path::Path};

/// A process's time on the processors since its start, by thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CpuTimes {
    /// By thread: its name and its time.
    threads: BTreeMap<u32, (String, u64)>,
}

/// The machine since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// In the kernel's ticks, over all processors.
    busy: u64,
    all: u64,
    /// On the loopback device, counted once though it is both sent and received.
    pub(crate) loopback_packets: u64,
    pub(crate) loopback_bytes: u64,
}

impl CpuTimes {
    /// Of a process that runs.
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?;
            let Some(id) = thread.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let read = |file| fs::read_to_string(thread.path().join(file));
            // A thread that ends meanwhile is of no interest.
            let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
            threads.insert(id, (name.trim().to_owned(), first_number(&times)?));
        }
        Ok(Self { threads })
    }

    /// Seconds since `earlier`, by the threads' names.
    pub(crate) fn since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let mut by_name = BTreeMap::new();
        for (id, (name, time)) in &self.threads {
            let before = earlier.threads.get(id).map_or(0, |(_, time)| *time);
            *by_name.entry(name.clone()).or_default() += time.saturating_sub(before) as f64 * 1e-9;
        }
        by_name
    }
}

/// The physical memory that a process occupies, in bytes; what the kernel holds for its sockets is not in it.
pub(crate) fn resident_bytes(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(first_number(line.unwrap_or_default())? * 1024)
}

impl Machine {
    pub(crate) fn now() -> io::Result<Self> {
        let (busy, all) = parse_stat(&read("/proc/stat")?)?;
        let (loopback_bytes, loopback_packets) = parse_net_dev(&read("/proc/net/dev")?)?;
        Ok(Self { busy, all, loopback_packets, loopback_bytes })
    }

    /// The share of all processors' time that was spent since `earlier`.
    pub(crate) fn busy_share_since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        self.busy.saturating_sub(earlier.busy) as f64 / all as f64
    }
}

/// What the machine is.
pub(crate) fn describe_machine() -> BTreeMap<&'static str, String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    BTreeMap::from([
        ("cores", cores.to_string()),
        ("cpu", model.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("kernel", kernel.trim().to_owned()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ])
}

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Busy and all ticks of all processors. What a hypervisor takes away counts as busy.
fn parse_stat(text: &str) -> io::Result<(u64, u64)> {
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).ok_or_else(|| strange(text))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|number| number.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let ticks = ticks.get(..8).ok_or_else(|| strange(text))?;
    let all: u64 = ticks.iter().sum();
    Ok((all - ticks[3] - ticks[4], all))
}

/// Bytes and packets received on `lo`.
fn parse_net_dev(text: &str) -> io::Result<(u64, u64)> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).ok_or_else(|| strange(text))?;
    let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).ok_or_else(|| strange(text))
}

fn first_number(text: &str) -> io::Result<u64> {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).ok_or_else(|| strange(text))
}

fn strange(text: &str) -> io::Error {
    io::Error::other(format!("the kernel says what is not understood: {:?}", text.lines().next().unwrap_or_default()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_machines_ticks_are_read() {
        let text = "cpu  100 10 50 800 20 1 4 15 7 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        assert_eq!(parse_stat(text).expect("it is whole"), (180, 1000));
        assert!(parse_stat("intr 5").is_err());
    }

    #[test]
    fn the_loopback_device_is_found_among_others() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1234 56 0 0 0 0 0 0 1234 56 0\n  eth0: 9 9 0\n";
        assert_eq!(parse_net_dev(text).expect("it is whole"), (1234, 56));
        assert!(parse_net_dev(" eth0: 9 9 0\n").is_err());
    }

    #[test]
    fn this_process_takes_time_and_memory() {
        let process = std::process::id();
        let before = CpuTimes::of(process).expect("it runs");
        let after = CpuTimes::of(process).expect("it runs");
        assert!(after.since(&before).values().all(|seconds| *seconds >= 0.0));
        assert!(!after.threads.is_empty());
        assert!(resident_bytes(process).expect("it runs") > 0);
    }
}
