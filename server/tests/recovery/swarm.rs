//! Bots, on threads of their own, and what is told of them.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use serde_json::Value as Json;
use tickwire_client::bots::{self, BehaviourChoice, Report, SwarmConfig, SwarmHandle};
use tokio::time::{sleep, timeout};

use crate::server::PATIENCE;

const LOOK: Duration = Duration::from_millis(5);

/// Bots, on threads of their own.
pub(crate) struct Swarm {
    handle: SwarmHandle,
    running: thread::JoinHandle<Report>,
}

impl Swarm {
    pub(crate) fn start(url: &str, bots: usize, seed: u64) -> Self {
        let config = SwarmConfig {
            behaviours: vec![BehaviourChoice::Wander, BehaviourChoice::Chase, BehaviourChoice::Chaos],
            seed,
            ..SwarmConfig::new(url, bots, Duration::from_secs(24 * 60 * 60))
        };
        let handle = SwarmHandle::default();
        let running = thread::spawn({
            let handle = handle.clone();
            move || bots::run(&config, &handle).expect("it can be started").0
        });
        Self { handle, running }
    }

    /// Waits until each bot plays, as it sees it itself: whoever leaves while they are coming back has no connection to say so.
    pub(crate) async fn all_play(&self, bots: usize) {
        let all = async {
            while self.handle.playing() < bots as u64 {
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, all).await.expect("they play");
    }

    pub(crate) fn end(self) -> Report {
        self.handle.stop();
        self.running.join().expect("it does not panic")
    }
}

/// Says how it went, on standard error and in a file.
pub(crate) fn tell(name: &str, told: &Json) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    fs::write(&path, told.to_string()).expect("it can be written");
    writeln!(io::stderr(), "{told:#}\nwritten to {}", path.display()).expect("it can be written");
}
