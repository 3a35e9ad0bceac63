//! A network namespace without a name: it lives in a thread, and in what that thread starts. Nothing of it is left once
//! these have ended, however they ended; the machine's own network is not touched.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, unshare};
use tokio::runtime;
use tun_rs::{DeviceBuilder, SyncDevice};

/// As of an ordinary Ethernet.
const MTU: u16 = 1500;
/// The index of the loopback device, in every namespace.
const LOOPBACK: u32 = 1;

/// An address and its net.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix_bits: u8,
}

type Job = Box<dyn FnOnce() + Send>;

/// A network of its own, with nothing in it yet.
pub(crate) struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes one. That takes the rights of an administrator.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let (jobs, inbox): (Sender<Job>, Receiver<Job>) = channel();
        let (tell, made) = channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = unshare(CloneFlags::CLONE_NEWNET);
            let is_made = result.is_ok();
            // Whoever made the namespace waits for this.
            let _ = tell.send(result);
            if is_made {
                inbox.into_iter().for_each(|job| job());
            }
        })?;
        made.recv().map_err(|_| io::Error::other("the namespace's thread ended"))??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Does something within the namespace. Threads and processes started by it stay in there, and so do sockets; such
    /// processes can be told to end with the namespace's thread.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job = Box::new(move || {
            // Whoever asked waits for this.
            let _ = answer.send(job());
        });
        let jobs = self.jobs.as_ref().expect("the sender is there until the drop");
        jobs.send(job).expect("the thread waits for jobs until the sender is dropped");
        answered.recv().expect("a job that panics is a bug, told on standard error")
    }

    /// Brings the network up: a TUN device with an address, through which its whole net is reached; and where `own` is
    /// given, a net of which every address is the namespace's own.
    pub(crate) fn bring_up(&self, address: Net, own: Option<Net>) -> io::Result<SyncDevice> {
        self.run(move || {
            let device = DeviceBuilder::new().mtu(MTU).build_sync()?;
            device.set_nonblocking(true)?;
            let tun = device.if_index()?;
            runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
                let (connection, netlink, _) = rtnetlink::new_connection()?;
                tokio::spawn(connection);
                for link in [LOOPBACK, tun] {
                    let up = rtnetlink::LinkUnspec::new_with_index(link).up().build();
                    netlink.link().set(up).execute().await.map_err(io::Error::other)?;
                }
                // On the loopback device an address makes its whole net local.
                for (link, net) in own.map(|own| (LOOPBACK, own)).into_iter().chain([(tun, address)]) {
                    let address = netlink.address().add(link, IpAddr::V4(net.address), net.prefix_bits);
                    address.execute().await.map_err(io::Error::other)?;
                }
                Ok::<_, io::Error>(())
            })?;
            Ok(device)
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A panic in it has been told on standard error.
            let _ = thread.join();
        }
    }
}
