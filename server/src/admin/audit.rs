//! Who did what, when, from where, and what came of it: a file of JSON lines.
//!
//! What is about to be done is written and synced first, and is not done where that fails; then what came of it. A beginning
//! without an end is of a server that was killed in between, or of a disk that failed then.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value as Json;
use tickwire_recording::Disk as _;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::Code;
use tracing::error;

use super::auth::Caller;
use crate::status::Refusal;

const FILE: &str = "audit.jsonl";
/// The size at which another file is begun.
const BYTES_MAX: u64 = 16 << 20;
/// Older files that are kept: `audit.jsonl.1` is the newest of them.
const OLDER_MAX: u32 = 4;
/// Of a text among the arguments so much is written down: more is refused, but for what a role may not send at all.
const TEXT_CHARS_MAX: usize = 500;
/// How long an action waits for the disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// The log.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    file: Arc<Mutex<LogFile>>,
    number: Arc<AtomicU64>,
}

/// An action that is under way.
#[derive(Debug)]
pub(super) struct Action {
    /// Of this server's run.
    number: u64,
    caller: Caller,
    name: Cow<'static, str>,
    arguments: Json,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    /// The lines of an action have the same.
    action: u64,
    who: &'a str,
    from: Option<String>,
    what: &'a str,
    arguments: &'a Json,
    outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    problem: &'a str,
    /// What it has come to, beside that it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Json>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    open: Option<File>,
}

impl Audit {
    pub(super) fn new(directory: &Path) -> Self {
        let file = LogFile { path: directory.join(FILE), bytes_max: BYTES_MAX, open: None };
        Self { file: Arc::new(Mutex::new(file)), number: Arc::new(AtomicU64::new(1)) }
    }

    /// Writes that an action begins.
    ///
    /// # Errors
    /// Where it cannot be written: the action is not to be done then.
    pub(super) async fn begin(&self, caller: Caller, name: &'static str, arguments: Json) -> Result<Action, Refusal> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let action = Action::new(number, caller, name.into(), arguments);
        self.write(&action.line("begun", "", None)).await.map_err(|problem| {
            error!(problem, action = name, "an admin's action is refused, since the audit log cannot be written");
            let message = format!("nothing was done: the audit log cannot be written: {problem}");
            Refusal::new(Code::Unavailable, "AUDIT_LOG", message)
        })?;
        Ok(action)
    }

    /// Writes what came of it; what it has come to, where that is more than that it is done.
    pub(super) async fn end(&self, action: &Action, result: Result<Option<Json>, &Refusal>) {
        let (outcome, problem, result) = match result {
            Ok(result) => ("done", "", result),
            Err(refusal) => ("failed", refusal.message.as_str(), None),
        };
        self.write_if_possible(&action.line(outcome, problem, result)).await;
    }

    /// Writes that somebody wanted what they may not.
    pub(super) async fn deny(
        &self,
        caller: Caller,
        name: impl Into<Cow<'static, str>>,
        arguments: Json,
        refusal: &Refusal,
    ) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let action = Action::new(number, caller, name.into(), arguments);
        self.write_if_possible(&action.line("denied", &refusal.message, None)).await;
    }

    async fn write_if_possible(&self, line: &str) {
        if let Err(problem) = self.write(line).await {
            error!(problem, line, "the audit log cannot be written");
        }
    }

    async fn write(&self, line: &str) -> Result<(), String> {
        let (file, line) = (Arc::clone(&self.file), format!("{line}\n"));
        let write = spawn_blocking(move || file.lock().expect("no holder of this lock panics").append(&line));
        match timeout(PATIENCE, write).await {
            Ok(Ok(written)) => written.map_err(|error| error.to_string()),
            Ok(Err(stopped)) => Err(stopped.to_string()),
            Err(_) => Err(format!("the disk does not answer within {PATIENCE:?}")),
        }
    }
}

impl Action {
    fn new(number: u64, caller: Caller, name: Cow<'static, str>, mut arguments: Json) -> Self {
        cut_texts(&mut arguments);
        Self { number, caller, name, arguments }
    }

    fn line(&self, outcome: &'static str, problem: &str, result: Option<Json>) -> String {
        let line = Line {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            action: self.number,
            who: &self.caller.name,
            from: self.caller.from.map(|from| from.to_string()),
            what: &self.name,
            arguments: &self.arguments,
            outcome,
            problem,
            result,
        };
        serde_json::to_string(&line).expect("it is text and numbers")
    }
}

/// Whoever is refused may have sent as much as fits in a message.
fn cut_texts(arguments: &mut Json) {
    match arguments {
        Json::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
                text.truncate(end);
                text.push('…');
            }
        }
        Json::Object(fields) => fields.values_mut().for_each(cut_texts),
        Json::Array(values) => values.iter_mut().for_each(cut_texts),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

impl LogFile {
    fn append(&mut self, line: &str) -> io::Result<()> {
        let (mut file, mut size) = self.current()?;
        let length = line.len() as u64;
        if size > 0 && size + length > self.bytes_max {
            self.rotate()?;
            (file, size) = self.reopen()?;
        }
        if let Err(error) = file.write_all(line.as_bytes()).and_then(|()| file.sync_data()) {
            // Half a line would make the next one unreadable.
            let _ = file.set_len(size);
            return Err(error);
        }
        self.open = Some(file);
        Ok(())
    }

    /// The file that the path leads to now, and its size. What is open may have been removed or moved since, and nobody would
    /// find what is written to it then. One that failed is opened anew, too: somebody may have mended the disk.
    fn current(&mut self) -> io::Result<(File, u64)> {
        if let Some(file) = self.open.take()
            && file.is_at(&self.path).unwrap_or(false)
        {
            let size = file.metadata()?.len();
            return Ok((file, size));
        }
        self.reopen()
    }

    fn reopen(&self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    fn rotate(&self) -> io::Result<()> {
        let older = |number: u32| self.path.with_extension(format!("jsonl.{number}"));
        for number in (1..OLDER_MAX).rev() {
            match fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, older(1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caller() -> Caller {
        let mut caller = Caller::nobody(Some(([127, 0, 0, 1], 4000).into()));
        caller.name = "ada".into();
        caller
    }

    fn lines(path: &Path) -> Vec<Json> {
        let text = fs::read_to_string(path).expect("it is there");
        text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
    }

    #[tokio::test]
    async fn an_action_is_written_before_it_is_done_and_after() {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = Audit::new(directory.path());
        let action = audit.begin(caller(), "Kick", json!({"player": 7})).await.expect("it can be written");
        let path = directory.path().join(FILE);
        assert_eq!(lines(&path).len(), 1);
        audit.end(&action, Err(&Refusal::new(Code::NotFound, "NOT_FOUND", "there is no player 7"))).await;
        audit.deny(caller(), "Drain", json!({}), &Refusal::new(Code::PermissionDenied, "ROLE", "no")).await;
        let lines = lines(&path);
        let told = |i: usize| ["action", "who", "from", "what", "outcome", "problem"].map(|key| lines[i][key].clone());
        assert_eq!(
            told(0),
            [json!(1), json!("ada"), json!("127.0.0.1:4000"), json!("Kick"), json!("begun"), Json::Null]
        );
        assert_eq!(lines[0]["arguments"], json!({"player": 7}));
        assert_eq!((&lines[1]["outcome"], &lines[1]["problem"]), (&json!("failed"), &json!("there is no player 7")));
        assert_eq!((&lines[2]["action"], &lines[2]["outcome"]), (&json!(2), &json!("denied")));
    }

    #[tokio::test]
    async fn what_somebody_sends_takes_no_line_of_its_own_and_no_more_than_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let audit = Audit::new(directory.path());
        let lie = "x\n{\"who\":\"ada\",\"outcome\":\"done\"}\r\u{2028}";
        let arguments = json!({"session": lie, "target": {"text": "ö".repeat(60_000)}});
        let denied = Refusal::new(Code::PermissionDenied, "ROLE", format!("no: {lie}"));
        audit.deny(caller(), "Kick", arguments, &denied).await;
        let lines = lines(&directory.path().join(FILE));
        let [line] = lines.as_slice() else { panic!("{lines:?} of one attempt") };
        assert_eq!((&line["arguments"]["session"], &line["outcome"]), (&json!(lie), &json!("denied")));
        let text = line["arguments"]["target"]["text"].as_str().expect("text");
        assert_eq!((text.chars().count(), text.ends_with('…')), (TEXT_CHARS_MAX + 1, true));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_refused_and_works_again_when_the_disk_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        fs::create_dir(&path).expect("it is in the way");
        let audit = Audit::new(directory.path());
        let refusal = audit.begin(caller(), "Kick", json!({})).await.expect_err("a directory is no file");
        assert_eq!((refusal.code, refusal.reason), (Code::Unavailable, "AUDIT_LOG"));
        fs::remove_dir(&path).expect("it is empty");
        audit.begin(caller(), "Kick", json!({})).await.expect("it can be written");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_was_removed_or_moved_is_begun_anew() {
        use std::os::unix::fs::PermissionsExt as _;

        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        let audit = Audit::new(directory.path());
        let begin = async |name| audit.begin(caller(), name, json!({})).await;
        let names = |path: &Path| lines(path).iter().map(|line| line["what"].clone()).collect::<Vec<_>>();
        begin("Pause").await.expect("it can be written");
        fs::remove_file(&path).expect("it is there");
        begin("Step").await.expect("it can be written");
        assert_eq!(names(&path), ["Step"]);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);

        let moved = directory.path().join("audit.jsonl.1");
        fs::rename(&path, &moved).expect("it is there");
        let action = begin("Resume").await.expect("it can be written");
        // What another program has begun in its place is gone on with.
        let replaced = directory.path().join("replaced");
        fs::rename(&path, &replaced).expect("it is there");
        fs::write(&path, "").expect("there is room");
        audit.end(&action, Ok(None)).await;
        assert_eq!([names(&moved), names(&replaced), names(&path)], [["Step"], ["Resume"], ["Resume"]]);

        fs::remove_file(&path).expect("it is there");
        fs::create_dir(&path).expect("it is in the way");
        let refusal = begin("Kick").await.expect_err("a directory is no file");
        assert_eq!((refusal.code, refusal.reason), (Code::Unavailable, "AUDIT_LOG"));
    }

    #[test]
    fn full_files_make_room_and_the_oldest_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = LogFile { path: directory.path().join(FILE), bytes_max: 10, open: None };
        for line in 0..8 {
            log.append(&format!("line {line}\n")).expect("it can be written");
        }
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).expect("it is there");
        assert_eq!((text("audit.jsonl"), text("audit.jsonl.1")), ("line 7\n".into(), "line 6\n".into()));
        assert_eq!(text("audit.jsonl.4"), "line 3\n");
        assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 5);
    }
}
