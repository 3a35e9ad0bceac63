//! The program with a game that panics: its log says what to type so that the panic is seen again, wherever it was found. Without
//! libtest, since this is the server, too: it starts itself once more, and so does what its log says to type.

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
        io::{BufRead as _, BufReader, Read as _},
        path::{Path, PathBuf},
        process::{Child, ChildStderr, Command, ExitCode, Output, Stdio},
        sync::Arc,
    };

    use bevy_ecs::{resource::Resource, system::Res, world::World};
    use serde_json::Value as Json;
    use tickwire_recording::{Layout, Recording, Writer, live_path};
    use tickwire_shared::{Clock, Definition, Game, Settings, Systems};

    /// The tick at which the game panics, in the environment of the server.
    const CRASH_AT: &str = "CRASHING_AT";
    const PANIC_LINE: &str = "the panic comes again, and its system is named, by: ";

    #[derive(Clone, Copy, Resource)]
    struct Crashes {
        at: u64,
    }

    impl Game for Crashes {
        fn name(&self) -> &'static str {
            "crashes"
        }

        fn define(&self, _game: &mut Definition) {}

        fn setup(&self, world: &mut World, _: &Settings) {
            world.insert_resource(*self);
        }

        fn systems(&self, systems: &mut Systems) {
            systems.add(crash);
        }
    }

    fn crash(clock: Res<Clock>, crashes: Res<Crashes>) {
        assert!(clock.tick.0 != crashes.at, "the game is broken");
    }

    pub(crate) fn main() -> ExitCode {
        if let Ok(at) = env::var(CRASH_AT) {
            return tickwire_server::cli_main(vec![Arc::new(Crashes { at: at.parse().expect("a number") })]);
        }
        let data = tempfile::tempdir().expect("a directory");
        let file = a_running_session_that_panics_is_played_again_by_what_the_log_says(data.path());
        a_panic_that_a_recovery_finds_is_too(&file);
        what_is_set_aside_is_too(&file);
        ExitCode::SUCCESS
    }

    /// The recording.
    fn a_running_session_that_panics_is_played_again_by_what_the_log_says(data: &Path) -> PathBuf {
        let mut server = Running::start(data, 20);
        let command = server.panic_command();
        drop(server);
        assert_panics_at_20(&command);
        let files = fs::read_dir(data.join("recordings")).expect("it is there");
        let [file] = files.map(|file| file.expect("it is there").path()).collect::<Vec<_>>().try_into().expect("one");
        assert!(command.ends_with(&format!(" replay --verify {}", file.display())), "{command}");
        file
    }

    fn a_panic_that_a_recovery_finds_is_too(file: &Path) {
        let data = tempfile::tempdir().expect("a directory");
        leave_as_killed(file, data.path());
        let command = Running::start(data.path(), 20).panic_command();
        assert!(command.ends_with("/killed.mcap"), "{command}");
        assert_panics_at_20(&command);
    }

    fn what_is_set_aside_is_too(file: &Path) {
        let data = tempfile::tempdir().expect("a directory");
        leave_as_killed(file, data.path());
        let line = Running::start(data.path(), 10).logs("an unfinished recording is set aside");
        let command = line["replay"].as_str().expect("a command");
        assert!(command.ends_with("/killed.set-aside.mcap"), "{command}");
        let output = typed(command, 10);
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = line["reason"].as_str().expect("a reason");
        assert!(!output.status.success() && said.contains(reason) && reason.contains("tick 10"), "{reason:?}: {said}");
    }

    fn assert_panics_at_20(command: &str) {
        let output = typed(command, 20);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for part in ["tick 20", "the game is broken", "as it did when it was recorded"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }

    /// What comes of typing this into a shell.
    fn typed(command: &str, crash_at: u64) -> Output {
        unaware(Command::new("sh"), crash_at).args(["-c", command]).output().expect("there is a shell")
    }

    /// Leaves a session's recording as a server does that is killed in its last tick.
    fn leave_as_killed(file: &Path, data: &Path) {
        let directory = data.join("recordings");
        fs::create_dir_all(&directory).expect("a disk");
        let recording = Recording::open(file).expect("a recording");
        let live = fs::File::create(live_path(&directory, "killed")).expect("a disk");
        let mut writer = Writer::new(live, recording.meta(), Layout::Live).expect("a disk");
        let mut last = None;
        for tick in recording.ticks().expect("readable") {
            let tick = tick.expect("sound");
            writer.tick_input(&tick.input).expect("a disk");
            if let Some(result) = &tick.result {
                writer.tick_result(result).expect("a disk");
            }
            last = Some((tick.input.tick.0, tick.result.is_some()));
        }
        assert_eq!(last, Some((20, false)));
        writer.finish().expect("a disk");
    }

    /// The test's own environment is not for a server.
    fn unaware(mut command: Command, crash_at: u64) -> Command {
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("TICKWIRE_") || name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.env(CRASH_AT, crash_at.to_string());
        command
    }

    /// This program as the server. Dropped, it is killed.
    struct Running {
        child: Child,
        log: BufReader<ChildStderr>,
    }

    impl Running {
        fn start(data: &Path, crash_at: u64) -> Self {
            let mut child = unaware(Command::new(env::current_exe().expect("it has a path")), crash_at)
                .args(["--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
                .arg(data)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("it runs");
            let log = BufReader::new(child.stderr.take().expect("it is piped"));
            Self { child, log }
        }

        /// The fields of the first line whose message begins so.
        fn logs(&mut self, message: &str) -> Json {
            let mut others = Vec::new();
            for line in self.log.by_ref().lines().map_while(Result::ok) {
                // A panic's own message is no line of the log.
                let Ok(mut line) = serde_json::from_str::<Json>(&line) else { continue };
                let fields = line["fields"].take();
                if fields["message"].as_str().is_some_and(|text| text.starts_with(message)) {
                    return fields;
                }
                others.push(fields);
            }
            panic!("{message:?} is not in {others:?}")
        }

        fn panic_command(&mut self) -> String {
            let line = self.logs(PANIC_LINE);
            let message = line["message"].as_str().expect("it has one");
            message.strip_prefix(PANIC_LINE).expect("it begins so").to_owned()
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            // Where it has ended by itself, neither is needed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
