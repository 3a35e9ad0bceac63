//! The programs as they run: each in a namespace, none outliving the lab, however that ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::{netns::Namespace, run::LabError};

/// The hidden command by which this program becomes another one that ends with it.
pub(crate) const CHILD: &str = "child";
/// How much of what a program said is shown where it failed.
const LINES_SHOWN: usize = 12;

type ProcessId = u64;

enum Heard {
    Line(ProcessId, String),
    Ended(ProcessId),
    Interrupted,
}

/// Hears what programs say, that they end, and that the lab is to end.
pub(crate) struct Supervisor {
    tell: Sender<Heard>,
    heard: Receiver<Heard>,
    started: ProcessId,
    lines: BTreeMap<ProcessId, Vec<String>>,
    ended: BTreeSet<ProcessId>,
}

impl Supervisor {
    /// One for the whole program: it takes the signals that end it.
    pub(crate) fn new() -> Result<Self, LabError> {
        let (tell, heard) = channel();
        let interrupt = tell.clone();
        // Whoever would hear it is gone when the program ends anyway.
        let handler = move || drop(interrupt.send(Heard::Interrupted));
        ctrlc::set_handler(handler)
            .map_err(|error| LabError::Io { what: "take signals".into(), source: std::io::Error::other(error) })?;
        Ok(Self { tell, heard, started: 0, lines: BTreeMap::new(), ended: BTreeSet::new() })
    }

    /// Starts a program in a namespace. What it says on standard error goes to a file in the folder.
    pub(crate) fn start(
        &mut self,
        namespace: &Namespace,
        name: &str,
        program: &Path,
        arguments: &[String],
        folder: &Path,
    ) -> Result<Process, LabError> {
        self.started += 1;
        let (id, log, tell) = (self.started, folder.join(format!("{name}-{}.log", self.started)), self.tell.clone());
        let failed = |source| LabError::Io { what: format!("start {name}"), source };
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg(CHILD).arg(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&log).map_err(failed)?);
        // A tick rate or a seed of the caller's environment would be another experiment.
        command.env_clear();
        let mut child = namespace.run(move || command.spawn()).map_err(failed)?;
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        thread::spawn(move || {
            // A supervisor that is gone needs to hear no more.
            lines.map(|line| tell.send(Heard::Line(id, line))).all(|sent| sent.is_ok());
            let _ = tell.send(Heard::Ended(id));
        });
        Ok(Process { id, name: name.to_owned(), child, log })
    }

    /// Until a process says a line with these words; what it said before counts, too.
    pub(crate) fn hear(&mut self, process: &mut Process, words: &str, patience: Duration) -> Result<(), LabError> {
        let deadline = Instant::now() + patience;
        while !self.lines.get(&process.id).is_some_and(|lines| lines.iter().any(|line| line.contains(words))) {
            if self.ended.contains(&process.id) {
                return Err(process.failure());
            }
            if !self.listen(deadline)? {
                return Err(LabError::Silent { name: process.name.clone(), patience });
            }
        }
        Ok(())
    }

    /// Until a process has ended.
    pub(crate) fn end(&mut self, process: &mut Process, patience: Duration) -> Result<ExitStatus, LabError> {
        let deadline = Instant::now() + patience;
        while !self.ended.contains(&process.id) {
            if !self.listen(deadline)? {
                return Err(LabError::Silent { name: process.name.clone(), patience });
            }
        }
        process.child.wait().map_err(|source| LabError::Io { what: format!("wait for {}", process.name), source })
    }

    /// For some time, while none of these processes ends.
    pub(crate) fn pass(&mut self, time: Duration, processes: &mut [&mut Process]) -> Result<(), LabError> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(process) = processes.iter_mut().find(|process| self.ended.contains(&process.id)) {
                return Err(process.failure());
            }
            if !self.listen(deadline)? {
                return Ok(());
            }
        }
    }

    /// Tells a process to end, and waits for it.
    pub(crate) fn terminate(&mut self, mut process: Process, patience: Duration) -> Result<(), LabError> {
        if let Some(pid) = Pid::from_raw(process.child.id() as i32) {
            // It has not been waited for, so that the id is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.end(&mut process, patience).map(drop)
    }

    /// Hears one thing; false where the deadline comes first.
    fn listen(&mut self, deadline: Instant) -> Result<bool, LabError> {
        match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Heard::Line(id, line)) => self.lines.entry(id).or_default().push(line),
            Ok(Heard::Ended(id)) => drop(self.ended.insert(id)),
            Ok(Heard::Interrupted) => return Err(LabError::Interrupted),
            Err(RecvTimeoutError::Timeout) => return Ok(false),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the supervisor holds a sender itself"),
        }
        Ok(true)
    }
}

/// A program that runs. Dropped, it is killed.
pub(crate) struct Process {
    id: ProcessId,
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Why a process that has ended should not have.
    pub(crate) fn failure(&mut self) -> LabError {
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        LabError::Ended { name: self.name.clone(), status, said: self.said() }
    }

    /// The last of what it said on standard error.
    pub(crate) fn said(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
