//! The loss lab: the real server and real bots over a bad network of their own, beside UDP over the same one. docs/lab.md
//! says what is measured and how to read it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod lab;

/// What test runners take for "skipped": this machine, or this user, cannot make such a network.
const EXIT_SKIPPED: u8 = 77;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    lab::main()
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::print_stderr, reason = "this is the program's voice")]
fn main() -> ExitCode {
    eprintln!("tickwire-lab: skipped: its network is made of Linux' network namespaces and TUN devices");
    ExitCode::from(EXIT_SKIPPED)
}
