//! Network threads: each runs a current-thread runtime, and a connection stays on the one that it was handed to.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The server's network threads. Dropped, it stops them.
#[derive(Debug)]
pub(crate) struct NetworkThreads {
    threads: Vec<Arc<NetworkThread>>,
    /// One per thread: dropped, it stops the thread.
    stops: Vec<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

/// One network thread.
#[derive(Debug)]
pub(crate) struct NetworkThread {
    /// Its place among all of them.
    pub(crate) index: usize,
    /// Spawns tasks on it.
    pub(crate) runtime: Handle,
    /// Connections that it serves.
    pub(crate) connections: AtomicUsize,
}

/// How long a stopping thread waits for blocking work of its tasks, of which there is none but name look-ups.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

impl NetworkThreads {
    /// Starts `count` threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(count);
        let mut stops = Vec::with_capacity(count);
        for index in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel::<()>();
            let thread = thread::Builder::new().name(format!("tickwire-net-{index}")).spawn(move || {
                // An error says that the sender is gone, which is the sign to stop.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(STOP_TIMEOUT);
            })?;
            threads.push(Arc::new(NetworkThread { index, runtime: handle, connections: AtomicUsize::new(0) }));
            stops.push((stop, thread));
        }
        Ok(Self { threads, stops })
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<NetworkThread>> {
        self.threads.iter()
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.iter().map(|thread| thread.connections.load(Ordering::Relaxed)).sum()
    }

    /// The one with the fewest connections.
    pub(crate) fn least_busy(&self) -> &Arc<NetworkThread> {
        let busy = |thread: &&Arc<NetworkThread>| thread.connections.load(Ordering::Relaxed);
        self.threads.iter().min_by_key(busy).expect("there is at least one network thread")
    }
}

impl Drop for NetworkThreads {
    fn drop(&mut self) {
        for (stop, thread) in self.stops.drain(..) {
            drop(stop);
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}
