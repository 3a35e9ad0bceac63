//! The server's program, and what it logs.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tickwire_proto::v1::{
    GetSessionRequest, ListSessionsRequest, Session, session_service_client::SessionServiceClient,
};
use tonic::transport::Channel;

use crate::program;

/// How often it is seen whether a session is as wanted: a connection may not ask without a pause.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Nothing here takes so long; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const ARENA_1: &str = "sessions/arena-1";

/// A server as a process. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    log: Log,
}

/// What a process logs.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Logged>, Condvar)>);

#[derive(Default)]
struct Logged {
    lines: Vec<Json>,
    is_over: bool,
}

/// A server that listens.
pub(crate) struct Listening {
    pub(crate) server: Server,
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

impl Server {
    pub(crate) fn spawn(data: &Path, arguments: &[&str]) -> Self {
        Self::spawn_by(program::command(), data, arguments)
    }

    /// By a command that ends in the server's program.
    pub(crate) fn spawn_by(mut command: Command, data: &Path, arguments: &[&str]) -> Self {
        command
            .args(["--seed", "5", "--drain-seconds", "1", "--log-format", "json", "--data-dir"])
            .arg(data)
            .args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (log, stderr) = (Log::default(), child.stderr.take().expect("it is piped"));
        let reader = log.clone();
        thread::spawn(move || reader.read(stderr));
        Self { child, log }
    }

    /// Waits until it listens.
    pub(crate) async fn listening(mut self) -> Listening {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it prints");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("{line:?} names no address: {:?}", self.log.lines())).to_owned();
        let channel = Channel::from_shared(format!("http://{address}")).expect("an address").connect().await;
        Listening { server: self, address, channel: channel.expect("it listens where it says") }
    }

    /// Waits until it logs `message`: the line's fields; `None` where it ends without.
    pub(crate) fn logs(&self, message: &str) -> Option<Json> {
        self.log.wait(PATIENCE, message)
    }

    /// The lines of this message so far.
    pub(crate) fn logged(&self, message: &str) -> Vec<Json> {
        let lines = self.log.lines();
        lines.into_iter().filter(|line| line["message"] == message).collect()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as nothing can be ended more abruptly, and waits until all that it has logged is known.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is a child");
        assert_eq!(self.log.wait(PATIENCE, "no line says this"), None);
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is a child")
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) {
        program::end(&mut self.child);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn read(&self, stderr: impl std::io::Read) {
        let (state, changed) = &*self.0;
        for line in BufReader::new(stderr).lines() {
            // What a killed process has written half is no line.
            let line: Option<Json> = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let fields = line.map(|mut line| line["fields"].take());
            state.lock().expect("sound").lines.extend(fields);
            changed.notify_all();
        }
        state.lock().expect("sound").is_over = true;
        changed.notify_all();
    }

    fn lines(&self) -> Vec<Json> {
        self.0.0.lock().expect("sound").lines.clone()
    }

    fn wait(&self, time: Duration, message: &str) -> Option<Json> {
        let (state, changed) = &*self.0;
        let deadline = Instant::now() + time;
        let mut state = state.lock().expect("sound");
        loop {
            if let Some(line) = state.lines.iter().find(|line| line["message"] == message) {
                return Some(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.is_over || left.is_zero() {
                return None;
            }
            state = changed.wait_timeout(state, left).expect("sound").0;
        }
    }
}

impl Listening {
    pub(crate) async fn start(data: &Path, arguments: &[&str]) -> Self {
        Server::spawn(data, &[&["--listen", "127.0.0.1:0"], arguments].concat()).listening().await
    }

    pub(crate) async fn session(&self, name: &str) -> Session {
        let request = GetSessionRequest { name: name.into() };
        SessionServiceClient::new(self.channel.clone()).get_session(request).await.expect("it is there").into_inner()
    }

    pub(crate) async fn sessions(&self) -> Vec<String> {
        let mut sessions = SessionServiceClient::new(self.channel.clone());
        let listed = sessions.list_sessions(ListSessionsRequest::default()).await.expect("it lists").into_inner();
        listed.sessions.into_iter().map(|session| session.name).collect()
    }

    /// Waits until a session is as wanted.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&Session) -> bool) -> Session {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let session = self.session(name).await;
            if wanted(&session) {
                return session;
            }
            assert!(Instant::now() < deadline, "it never was as wanted: {session:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

pub(crate) fn run(arguments: &[&str], file: &Path) -> (Option<i32>, String) {
    let output = program::run_on(arguments, file);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("UTF-8"))
}
