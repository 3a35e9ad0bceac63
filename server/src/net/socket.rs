//! Socket options. Each is worth having where the kernel has it, and none is worth failing for.

use std::{io, time::Duration};

use socket2::SockRef;
use tracing::debug;
#[cfg(target_os = "linux")]
use tracing::info;

/// Unsent bytes in the kernel beyond which a socket counts as not writable: a second line behind the credit window, so
/// that what a slow receiver gets is not composed long before it is sent.
#[cfg(target_os = "linux")]
const NOTSENT_BYTES: u32 = 4096;
/// How long sent bytes may stay without an acknowledgement from the peer's kernel.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Sets what accepted sockets inherit.
pub(super) fn prepare_listener(listener: &tokio::net::TcpListener) {
    let socket = SockRef::from(listener);
    // On lossy links BBR keeps snapshots flowing where loss-based control stalls.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_congestion(b"bbr") {
        info!(%error, "the kernel has no BBR: players on lossy links will see more stalls (modprobe tcp_bbr)");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Sets what each connection needs.
pub(super) fn prepare(stream: &tokio::net::TcpStream) {
    let socket = SockRef::from(stream);
    note("TCP_NODELAY", socket.set_tcp_nodelay(true));
    #[cfg(target_os = "linux")]
    {
        note("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(NOTSENT_BYTES));
        note("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    }
}

fn note(option: &'static str, result: io::Result<()>) {
    if let Err(error) = result {
        debug!(option, %error, "the kernel does not take a socket option");
    }
}
