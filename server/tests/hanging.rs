//! The program with a game that does not come back from a session's set-up: it ends all the same when it is told to, and at once
//! when it is told so twice. Without libtest, since this is the server, too: it starts itself once more.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    unix::main()
}

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
mod unix {
    use std::{
        env, fs,
        io::{BufRead as _, BufReader},
        path::{Path, PathBuf},
        process::{Child, Command, ExitCode, Stdio},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::{Duration, Instant},
    };

    use tickwire_proto::v1::{CreateSessionRequest, session_service_client::SessionServiceClient};
    use tickwire_shared::{Definition, Game, Systems};
    use tonic::transport::Endpoint;

    const PATIENCE: Duration = Duration::from_secs(20);
    /// How many sessions come back from their set-up, in the environment of the server.
    const SET_UPS: &str = "HANGING_SET_UPS";
    /// The file that the first set-up makes that does not.
    const SIGN: &str = "HANGING_SIGN";
    /// The code of a program that was ended without a clean end.
    const INTERRUPTED: i32 = 130;

    struct Hangs {
        set_ups: usize,
        begun: AtomicUsize,
    }

    impl Game for Hangs {
        fn name(&self) -> &'static str {
            "hangs"
        }

        fn define(&self, _game: &mut Definition) {}

        fn systems(&self, _systems: &mut Systems) {
            if self.begun.fetch_add(1, Ordering::SeqCst) >= self.set_ups {
                fs::write(env::var_os(SIGN).expect("whoever starts this says it"), "").expect("it can be written");
                loop {
                    thread::park();
                }
            }
        }
    }

    pub(crate) fn main() -> ExitCode {
        if let Ok(set_ups) = env::var(SET_UPS) {
            let set_ups = set_ups.parse().expect("a number");
            return tickwire_server::cli_main(vec![Arc::new(Hangs { set_ups, begun: AtomicUsize::new(0) })]);
        }
        a_server_that_is_told_to_end_leaves_a_set_up_behind_that_hangs();
        so_does_one_whose_start_hangs();
        a_second_signal_ends_it_at_once();
        ExitCode::SUCCESS
    }

    fn a_server_that_is_told_to_end_leaves_a_set_up_behind_that_hangs() {
        for signal in ["-TERM", "-INT"] {
            let mut server = Running::start(1, "0");
            server.hang_by_a_call();
            server.signal(signal);
            assert_eq!(server.wait(), Some(0), "{signal}");
        }
    }

    fn so_does_one_whose_start_hangs() {
        let server = Running::start(0, "0");
        server.hangs();
        server.signal("-TERM");
        assert_eq!(server.wait(), Some(0));
    }

    fn a_second_signal_ends_it_at_once() {
        for set_ups in [0, 1] {
            // It would wait for an hour.
            let mut server = Running::start(set_ups, "3600");
            if set_ups == 0 {
                server.hangs();
            } else {
                server.hang_by_a_call();
            }
            server.signal("-TERM");
            // Those that come close together are taken for one.
            let begun = Instant::now();
            let code = loop {
                if let Some(status) = server.child.try_wait().expect("it is a child") {
                    break status.code();
                }
                assert!(begun.elapsed() < PATIENCE, "it does not end");
                server.signal("-INT");
                thread::sleep(Duration::from_millis(50));
            };
            assert_eq!(code, Some(INTERRUPTED));
        }
    }

    /// This program as the server.
    struct Running {
        child: Child,
        directory: tempfile::TempDir,
    }

    impl Running {
        fn start(set_ups: usize, drain_seconds: &str) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let mut command = Command::new(env::current_exe().expect("it has a path"));
            for (name, _) in env::vars().filter(|(name, _)| name.starts_with("TICKWIRE_")) {
                command.env_remove(name);
            }
            let child = command
                .env(SET_UPS, set_ups.to_string())
                .env(SIGN, sign(directory.path()))
                .args(["--listen", "127.0.0.1:0", "--drain-seconds", drain_seconds, "--data-dir"])
                .arg(directory.path().join("data"))
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("it runs");
            Self { child, directory }
        }

        /// Has a session created whose set-up hangs.
        fn hang_by_a_call(&mut self) {
            let mut line = String::new();
            let stdout = self.child.stdout.take().expect("it is piped");
            BufReader::new(stdout).read_line(&mut line).expect("it prints");
            let url = line.split(' ').find(|word| word.starts_with("http://"));
            let url = url.unwrap_or_else(|| panic!("{line:?} names no address")).to_owned();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let runtime = runtime.expect("there are threads");
            runtime.block_on(async {
                let channel = Endpoint::from_shared(url).expect("a URL").connect().await.expect("it listens");
                let mut sessions = SessionServiceClient::new(channel);
                let creating =
                    tokio::spawn(async move { sessions.create_session(CreateSessionRequest::default()).await });
                self.hangs();
                creating.abort();
            });
        }

        /// Waits until a set-up hangs.
        fn hangs(&self) {
            let begun = Instant::now();
            while !sign(self.directory.path()).exists() {
                assert!(begun.elapsed() < PATIENCE, "nothing hangs");
                thread::sleep(Duration::from_millis(5));
            }
        }

        fn signal(&self, signal: &str) {
            // It may have ended by now.
            let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).stderr(Stdio::null()).status();
            sent.expect("kill runs");
        }

        /// The exit code.
        fn wait(mut self) -> Option<i32> {
            let begun = Instant::now();
            loop {
                if let Some(status) = self.child.try_wait().expect("it is a child") {
                    return status.code();
                }
                assert!(begun.elapsed() < PATIENCE, "it does not end");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // Where a test fails it runs still.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn sign(directory: &Path) -> PathBuf {
        directory.join("sign")
    }
}
