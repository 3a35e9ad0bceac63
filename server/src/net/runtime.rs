//! Network threads: each runs a current-thread runtime, and a connection stays on the one that it was handed to.
//!
//! A thread with many connections gathers: with nothing left to do it first sleeps for a moment, so that inputs which come one
//! by one are seen to together, for one wake-up. A tick ends that sleep, so that only inputs wait for it.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use slab::Slab;
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::Connection;

/// The server's network threads. Dropped, it stops them.
#[derive(Debug)]
pub(crate) struct NetworkThreads {
    threads: Vec<Arc<NetworkThread>>,
    /// One per thread: dropped, it stops the thread.
    stops: Vec<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
    bulk: Handle,
}

/// One network thread.
#[derive(Debug)]
pub(crate) struct NetworkThread {
    /// Its place among all of them.
    pub(crate) index: usize,
    /// Spawns tasks on it.
    pub(crate) runtime: Handle,
    /// Connections that it serves, or will.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Ends a sleep in which it gathers.
    pub(crate) sleeper: thread::Thread,
    /// Those that it serves.
    open: Mutex<Slab<Arc<Connection>>>,
}

/// How long a thread gathers. Inputs have their tick's time to come in, so that this is little.
const GATHER_TIME: Duration = Duration::from_millis(1);
/// With fewer connections a thread gathers nothing: there would be little to gather.
const GATHERING_CONNECTIONS_MIN: usize = 64;

/// Threads that ask the disk for those who are answered on the one for bulk.
const BULK_BLOCKING_THREADS_MAX: usize = 4;
/// How long a stopping thread waits for blocking work of its tasks, of which there is none but name look-ups.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

impl NetworkThreads {
    /// Starts `count` threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let mut threads = Vec::with_capacity(count);
        let mut stops = Vec::with_capacity(count);
        for index in 0..count {
            let connections = Arc::<AtomicUsize>::default();
            let gather = {
                let connections = Arc::clone(&connections);
                move || {
                    if connections.load(Ordering::Relaxed) >= GATHERING_CONNECTIONS_MIN {
                        thread::park_timeout(GATHER_TIME);
                    }
                }
            };
            let runtime = Builder::new_current_thread().enable_all().on_thread_park(gather).build()?;
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel::<()>();
            let thread = thread::Builder::new().name(format!("tickwire-net-{index}")).spawn(move || {
                // An error says that the sender is gone, which is the sign to stop.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(STOP_TIMEOUT);
            })?;
            threads.push(Arc::new(NetworkThread {
                index,
                runtime: handle,
                connections,
                sleeper: thread.thread().clone(),
                open: Mutex::default(),
            }));
            stops.push((stop, thread));
        }
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(BULK_BLOCKING_THREADS_MAX).build()?;
        let bulk = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("tickwire-bulk".into()).spawn(move || {
            yield_to_others();
            // As above.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(STOP_TIMEOUT);
        })?;
        stops.push((stop, thread));
        Ok(Self { threads, stops, bulk })
    }

    /// The thread for what may take long, and goes after everything else.
    pub(crate) fn bulk(&self) -> &Handle {
        &self.bulk
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<NetworkThread>> {
        self.threads.iter()
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.iter().map(|thread| thread.connections.load(Ordering::Relaxed)).sum()
    }

    /// Has all connections end, once their requests have.
    pub(crate) fn end_connections(&self) {
        for thread in self.iter() {
            thread.lock().iter().for_each(|(_, connection)| connection.end());
        }
    }

    /// The one with the fewest connections.
    pub(crate) fn least_busy(&self) -> &Arc<NetworkThread> {
        let busy = |thread: &&Arc<NetworkThread>| thread.connections.load(Ordering::Relaxed);
        self.threads.iter().min_by_key(busy).expect("there is at least one network thread")
    }
}

/// Whoever plays a match goes before whoever watches one or reads a recording.
pub(crate) fn yield_to_others() {
    #[cfg(target_os = "linux")]
    {
        const NICE: i32 = 10;
        // Where the system does not take it, the number of such threads still bounds what they cost.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    }
}

impl NetworkThread {
    /// Has those of its connections end whose peers are meant, once their requests have.
    pub(crate) fn end_those_of(&self, mut is_meant: impl FnMut(SocketAddr) -> bool) {
        let open = self.lock();
        let meant = open.iter().map(|(_, connection)| connection).filter(|connection| is_meant(connection.peer));
        meant.for_each(|connection| connection.end());
    }

    /// Takes in a connection that it serves: its number.
    pub(super) fn register(&self, connection: Arc<Connection>) -> usize {
        self.lock().insert(connection)
    }

    /// Forgets a connection.
    pub(super) fn deregister(&self, number: usize) {
        let connection = self.lock().remove(number);
        // Outside the lock: it may be the last reference.
        drop(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Connection>>> {
        self.open.lock().expect("no holder of this lock panics")
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
