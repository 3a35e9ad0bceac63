//! Which tickets were used: in memory, and in a file that outlives the server. A ticket is noted on the disk before it lets
//! anybody in, and forgotten when it has expired.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, time::timeout};
use tracing::{info, warn};

use super::api_keys::{from_hex, to_hex};

/// Tickets that are kept in mind: as many as can be used in five minutes at 400 a second.
pub(super) const TICKETS_MAX: usize = 128 * 1024;
/// Notes that wait for the disk: as many as are written at once, twice.
const WAITING_MAX: usize = 2 * BATCH_MAX;
const BATCH_MAX: usize = 1024;
/// How long somebody waits for the disk: one that takes longer for a line hangs, and whoever comes is to be told.
pub(super) const WRITE_TIME_MAX: Duration = Duration::from_secs(2);
/// A file is written anew when so many of its lines, and half of them, are of no use any more.
const USELESS_LINES_MIN: usize = 4096;
const FIRST_LINE: &str = "tickwire used tickets 1";

/// What a ticket is known by: a hash of its `jti`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TicketId([u8; 32]);

impl TicketId {
    pub(super) fn new(id: &str) -> Self {
        Self(Sha256::digest(id).into())
    }
}

/// Why a ticket cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotClaimed {
    /// It was used.
    Used,
    /// It would have been forgotten: the clock has been set back since.
    Forgotten,
    /// As many as can be kept in mind are in use.
    Full,
    /// The disk does not take it.
    Unwritten,
    /// The disk has not taken it within [`WRITE_TIME_MAX`].
    Late,
}

/// Used tickets that cannot be kept in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsedError {
    /// The file cannot be read or written.
    #[error("cannot keep used tickets in {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server has it.
    #[error("used tickets are kept in {} by another server: choose another data directory", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is damaged, or no such file.
    #[error(
        "{}, line {line}: this is no file of used tickets, or a damaged one; without it, tickets of the last five minutes could \
         be used once more: delete it then", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
    /// A thread cannot be started.
    #[error("cannot start the thread that notes used tickets: {0}")]
    Thread(io::Error),
}

/// The tickets that were used.
#[derive(Debug)]
pub(super) struct UsedTickets {
    state: Arc<Mutex<State>>,
    /// They are kept beyond the process.
    has_file: bool,
    /// None where there is no file, and once it is closed.
    writing: Mutex<Option<Writing>>,
}

/// The thread that writes.
#[derive(Debug)]
struct Writing {
    notes: SyncSender<Note>,
    thread: thread::JoinHandle<()>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    /// Until when each is kept in mind, in seconds since 1970.
    until: BTreeMap<TicketId, u64>,
    by_time: BTreeSet<(u64, TicketId)>,
    /// Tickets that were kept until then, or for less long, have been forgotten.
    forgotten: u64,
}

/// What is to be written down.
#[derive(Debug)]
enum Note {
    Used { id: TicketId, until: u64, written: oneshot::Sender<bool> },
    GivenBack(TicketId),
}

/// A ticket that nobody else can use. Dropped, it is good again, unless it was [`keep`](Self::keep)pt.
#[derive(Debug)]
pub(super) struct Claim {
    used: Arc<UsedTickets>,
    id: TicketId,
    until: u64,
    is_kept: bool,
}

impl UsedTickets {
    /// Goes on with what a file says; without one, nothing is kept beyond the process.
    pub(super) fn open(path: Option<&Path>, now: u64) -> Result<Arc<Self>, UsedError> {
        let Some(path) = path else {
            return Ok(Arc::new(Self { state: Arc::default(), has_file: false, writing: Mutex::default() }));
        };
        let (mut state, log) = Log::open(path)?;
        state.forget(now);
        let state = Arc::new(Mutex::new(state));
        let (notes, waiting) = sync_channel(WAITING_MAX);
        let mut writer = Writer { log, state: Arc::clone(&state), is_well: true };
        writer.rewrite().map_err(|source| UsedError::Io { path: path.to_owned(), source })?;
        let thread = thread::Builder::new()
            .name("tickwire-used".into())
            .spawn(move || writer.run(&waiting))
            .map_err(UsedError::Thread)?;
        Ok(Arc::new(Self { state, has_file: true, writing: Mutex::new(Some(Writing { notes, thread })) }))
    }

    /// Writes what still waits, and lets the file go: another server may have it then. From now on no ticket can be used.
    pub(super) fn close(&self) {
        let writing = self.writing.lock().expect("no holder of this lock panics").take();
        if let Some(Writing { notes, thread }) = writing {
            drop(notes);
            // A panic in there has been reported by the panic hook.
            let _ = thread.join();
        }
    }

    /// Has it written down, after what was noted before. Callers hold the state whose change it is, so that the file is told of
    /// changes in the order in which they were made. False where there is nobody who writes, or no room.
    fn note(&self, note: Note) -> bool {
        let writing = self.writing.lock().expect("no holder of this lock panics");
        writing.as_ref().is_some_and(|writing| writing.notes.try_send(note).is_ok())
    }

    /// Uses a ticket that is good until `until`. It is on the disk then.
    pub(super) async fn claim(self: &Arc<Self>, id: TicketId, until: u64, now: u64) -> Result<Claim, NotClaimed> {
        let (claim, answer) = self.begin_claim(id, until, now)?;
        let Some(answer) = answer else { return Ok(claim) };
        match timeout(WRITE_TIME_MAX, answer).await {
            Ok(Ok(true)) => Ok(claim),
            Ok(_) => Err(NotClaimed::Unwritten),
            Err(_) => Err(NotClaimed::Late),
        }
    }

    /// Whether a ticket that is good until `until` has let nobody in. It stays as it is.
    pub(super) fn check(&self, id: TicketId, until: u64, now: u64) -> Result<(), NotClaimed> {
        self.lock().check(id, until, now)
    }

    /// Claims a ticket for this process, and has that noted, if there is a file: with what will be told of it.
    fn begin_claim(
        self: &Arc<Self>,
        id: TicketId,
        until: u64,
        now: u64,
    ) -> Result<(Claim, Option<oneshot::Receiver<bool>>), NotClaimed> {
        let mut state = self.lock();
        state.insert(id, until, now)?;
        let mut answer = None;
        if self.has_file {
            let (written, told) = oneshot::channel();
            if !self.note(Note::Used { id, until, written }) {
                state.remove(id, until);
                return Err(NotClaimed::Unwritten);
            }
            answer = Some(told);
        }
        // From here on it is given back where this is not the end of it.
        Ok((Claim { used: Arc::clone(self), id, until, is_kept: false }, answer))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl Claim {
    /// The ticket has let somebody in.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let mut state = self.used.lock();
        // It may have been forgotten meanwhile, and the id be another ticket's, which stays used.
        if state.remove(self.id, self.until) {
            // Under the lock: behind it, who claims the ticket again could be noted first, and this one would make that claim
            // undone. Where it is not noted, the ticket is good until the next start only.
            self.used.note(Note::GivenBack(self.id));
        }
    }
}

impl Drop for UsedTickets {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn check(&mut self, id: TicketId, until: u64, now: u64) -> Result<(), NotClaimed> {
        self.forget(now);
        if self.until.contains_key(&id) {
            return Err(NotClaimed::Used);
        }
        if until <= self.forgotten { Err(NotClaimed::Forgotten) } else { Ok(()) }
    }

    fn insert(&mut self, id: TicketId, until: u64, now: u64) -> Result<(), NotClaimed> {
        self.check(id, until, now)?;
        if self.until.len() >= TICKETS_MAX {
            return Err(NotClaimed::Full);
        }
        self.keep(id, until);
        Ok(())
    }

    /// Of several times of one id the latest counts.
    fn keep(&mut self, id: TicketId, until: u64) {
        let kept = self.until.entry(id).or_insert(until);
        self.by_time.remove(&(*kept, id));
        *kept = until.max(*kept);
        self.by_time.insert((*kept, id));
    }

    /// False where it is not kept until then.
    fn remove(&mut self, id: TicketId, until: u64) -> bool {
        let is_kept = self.by_time.remove(&(until, id));
        if is_kept {
            self.until.remove(&id);
        }
        is_kept
    }

    /// As a file says it, which has but one of an id.
    fn give_back(&mut self, id: TicketId) {
        if let Some(until) = self.until.remove(&id) {
            self.by_time.remove(&(until, id));
        }
    }

    fn forget(&mut self, now: u64) {
        while let Some(&(until, id)) = self.by_time.first()
            && until <= now
        {
            self.by_time.pop_first();
            self.until.remove(&id);
            self.forgotten = until;
        }
    }

    /// As a file has it.
    fn write(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n= {}\n", self.forgotten);
        for (id, until) in &self.until {
            write_used(&mut text, *id, *until);
        }
        text
    }

    /// Reads a file. Its last line may be torn: what was not written to its end has let nobody in. The first one never is,
    /// since a file takes its place when it is whole.
    fn read(text: &str) -> Result<(Self, usize), usize> {
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = (1..).zip(whole.lines());
        match lines.next() {
            Some((_, FIRST_LINE)) => {}
            _ => return Err(1),
        }
        let (mut state, mut count) = (Self::default(), 1);
        for (line, words) in lines {
            let mut words = words.split(' ');
            let read = match (words.next(), words.next(), words.next(), words.next()) {
                (Some("="), Some(time), None, None) => time.parse().ok().map(|time| state.forgotten = time),
                (Some("+"), Some(until), Some(id), None) => {
                    until.parse().ok().zip(from_hex(id)).map(|(until, id)| state.keep(TicketId(id), until))
                }
                (Some("-"), Some(id), None, None) => from_hex(id).map(|id| state.give_back(TicketId(id))),
                _ => None,
            };
            read.ok_or(line)?;
            count = line;
        }
        Ok((state, count))
    }
}

fn write_used(text: &mut String, id: TicketId, until: u64) {
    text.push_str(&format!("+ {until} {}\n", to_hex(&id.0)));
}

fn write_note(text: &mut String, note: &Note) {
    match note {
        Note::Used { id, until, .. } => write_used(text, *id, *until),
        Note::GivenBack(id) => text.push_str(&format!("- {}\n", to_hex(&id.0))),
    }
}

/// The file.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// None after a failure: then it is written anew.
    file: Option<File>,
    lines: usize,
    /// Held for as long as the server runs.
    _lock: File,
}

impl Log {
    fn open(path: &Path) -> Result<(State, Self), UsedError> {
        let failed = |source| UsedError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let lock = File::create(path.with_added_extension("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => UsedError::InUse { path: path.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        let (state, lines) = match fs::read(path) {
            Ok(bytes) => State::read(&String::from_utf8_lossy(&bytes))
                .map_err(|line| UsedError::Damaged { path: path.to_owned(), line })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (State::default(), 0),
            Err(error) => return Err(failed(error)),
        };
        Ok((state, Self { path: path.to_owned(), file: None, lines, _lock: lock }))
    }

    /// Puts a whole new file in the old one's place.
    fn replace(&mut self, text: &str) -> io::Result<()> {
        self.file = None;
        let new = self.path.with_added_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        if let Some(directory) = self.path.parent() {
            sync_directory(directory)?;
        }
        self.file = Some(file);
        self.lines = text.lines().count();
        Ok(())
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        self.lines += text.lines().count();
        Ok(())
    }
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })?.sync_all()
}

/// Elsewhere directories are not opened.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// What the thread does that writes.
#[derive(Debug)]
struct Writer {
    log: Log,
    state: Arc<Mutex<State>>,
    /// The last write succeeded.
    is_well: bool,
}

impl Writer {
    /// Writes until nobody can use a ticket any more. What comes while it writes goes together.
    fn run(mut self, waiting: &Receiver<Note>) {
        while let Ok(first) = waiting.recv() {
            let batch: Vec<Note> = [first].into_iter().chain(waiting.try_iter().take(BATCH_MAX - 1)).collect();
            let result = self.write(&batch);
            self.tell(&result);
            for note in batch {
                if let Note::Used { written, .. } = note {
                    // Who does not wait any more has given the ticket back.
                    let _ = written.send(result.is_ok());
                }
            }
        }
    }

    fn write(&mut self, batch: &[Note]) -> io::Result<()> {
        let kept = self.state.lock().expect("no holder of this lock panics").until.len();
        let useless = self.log.lines.saturating_sub(kept);
        if self.log.file.is_none() || useless > kept.max(USELESS_LINES_MIN) {
            // What the batch says stands there already.
            return self.rewrite();
        }
        let mut text = String::new();
        batch.iter().for_each(|note| write_note(&mut text, note));
        self.log.append(&text).inspect_err(|_| self.log.file = None)
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let text = self.state.lock().expect("no holder of this lock panics").write();
        self.log.replace(&text)
    }

    fn tell(&mut self, result: &io::Result<()>) {
        match result {
            Ok(()) if !self.is_well => info!("used tickets can be written down again"),
            Err(error) if self.is_well => {
                warn!(path = %self.log.path.display(), %error, "used tickets cannot be written down: none is taken until they can");
            }
            _ => {}
        }
        self.is_well = result.is_ok();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn id(number: usize) -> TicketId {
        TicketId::new(&number.to_string())
    }

    /// What would be written, for as long as nothing is.
    pub(in crate::identity) struct HungDisk(Receiver<Note>);

    impl HungDisk {
        /// Used tickets with a file on it, and room for so many notes that wait.
        pub(in crate::identity) fn new(room: usize) -> (Arc<UsedTickets>, Self) {
            let (notes, waiting) = sync_channel(room);
            let writing = Mutex::new(Some(Writing { notes, thread: thread::spawn(|| {}) }));
            (Arc::new(UsedTickets { state: Arc::default(), has_file: true, writing }), Self(waiting))
        }

        /// Writes what waits, and says so: the lines.
        pub(in crate::identity) fn write(&self) -> String {
            let mut text = String::new();
            for note in self.0.try_iter() {
                write_note(&mut text, &note);
                if let Note::Used { written, .. } = note {
                    // Who does not wait any more has given the ticket back.
                    let _ = written.send(true);
                }
            }
            text
        }
    }

    #[tokio::test]
    async fn a_ticket_is_used_once_until_it_is_forgotten_and_never_again() {
        let used = UsedTickets::open(None, NOW).expect("nothing to open");
        used.claim(id(1), NOW + 60, NOW).await.expect("it is new").keep();
        assert_eq!(used.claim(id(1), NOW + 60, NOW + 59).await.expect_err("twice"), NotClaimed::Used);
        used.claim(id(2), NOW + 90, NOW + 60).await.expect("it is new").keep();
        assert_eq!(used.lock().until.len(), 1, "the first is forgotten");
        // The clock is set back: the first would be good by it.
        assert_eq!(used.claim(id(1), NOW + 60, NOW + 1).await.expect_err("it was used"), NotClaimed::Forgotten);
    }

    #[tokio::test]
    async fn a_ticket_that_let_nobody_in_is_good_again() {
        let used = UsedTickets::open(None, NOW).expect("nothing to open");
        let claim = used.claim(id(1), NOW + 60, NOW).await.expect("it is new");
        assert_eq!(used.claim(id(1), NOW + 60, NOW).await.expect_err("it is claimed"), NotClaimed::Used);
        drop(claim);
        assert!(used.claim(id(1), NOW + 60, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn a_ticket_that_nobody_writes_down_is_not_taken_and_stays_good() {
        let (used, HungDisk(waiting)) = HungDisk::new(1);
        let (claimed, ()) = tokio::join!(used.claim(id(1), NOW + 60, NOW), async {
            let Ok(Note::Used { written, .. }) = waiting.recv() else { panic!("it is to be written") };
            written.send(false).expect("it is waited for");
        });
        assert_eq!(claimed.expect_err("the disk is full"), NotClaimed::Unwritten);
        assert!(matches!(waiting.try_recv(), Ok(Note::GivenBack(_))) && used.lock().until.is_empty());
        drop(waiting);
        assert_eq!(used.claim(id(1), NOW + 60, NOW).await.expect_err("nobody writes"), NotClaimed::Unwritten);
        assert!(used.lock().until.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_keeps_nobody_waiting_for_long_and_the_ticket_stays_good() {
        let (used, disk) = HungDisk::new(8);
        let begun = tokio::time::Instant::now();
        assert_eq!(used.claim(id(1), NOW + 60, NOW).await.expect_err("it hangs"), NotClaimed::Late);
        assert!(begun.elapsed() >= WRITE_TIME_MAX && begun.elapsed() < 2 * WRITE_TIME_MAX);
        assert!(used.lock().until.is_empty());
        let (claimed, text) = tokio::join!(used.claim(id(1), NOW + 60, NOW), async { disk.write() });
        claimed.expect("it writes again").keep();
        let text = format!("{FIRST_LINE}\n{text}");
        let (read, lines) = State::read(&text).expect("it was just written");
        // Noted, given back, and noted again.
        assert_eq!((read.until.len(), lines), (1, 4));
    }

    #[tokio::test]
    async fn of_a_ticket_that_changes_hands_the_file_is_told_in_that_order() {
        let (used, disk) = HungDisk::new(4096);
        // Each gives the ticket back at once, and another one of them claims it at once.
        let rounds = || {
            let used = Arc::clone(&used);
            thread::spawn(move || {
                for _ in 0..500 {
                    drop(used.begin_claim(id(1), NOW + 60, NOW));
                }
            })
        };
        let rounds = [(); 4].map(|()| rounds());
        rounds.into_iter().for_each(|round| round.join().expect("it does not panic"));
        let (claimed, text) = tokio::join!(used.claim(id(1), NOW + 60, NOW), async { disk.write() });
        claimed.expect("nobody has it").keep();
        let signs: Vec<char> = text.lines().filter_map(|line| line.chars().next()).collect();
        assert!(signs.chunks(2).all(|turn| turn == ['+', '-'] || turn == ['+']), "{signs:?}");
        let (read, _) = State::read(&format!("{FIRST_LINE}\n{text}")).expect("it was just written");
        assert_eq!(read.until.len(), 1, "it let somebody in");
    }

    #[test]
    fn a_ticket_that_is_given_back_late_leaves_another_of_its_id_used() {
        let used = UsedTickets::open(None, NOW).expect("nothing to open");
        let (first, _) = used.begin_claim(id(1), NOW + 60, NOW).expect("it is new");
        let (second, _) = used.begin_claim(id(1), NOW + 90, NOW + 60).expect("the first is forgotten");
        second.keep();
        drop(first);
        assert_eq!(used.begin_claim(id(1), NOW + 90, NOW + 60).map(drop), Err(NotClaimed::Used));
    }

    #[tokio::test]
    async fn what_cannot_be_noted_as_given_back_stays_used_for_the_next_start() {
        // Room for the claim alone.
        let (used, HungDisk(waiting)) = HungDisk::new(1);
        let (claim, _) = used.begin_claim(id(1), NOW + 60, NOW).expect("there is room");
        drop(claim);
        let notes: Vec<Note> = waiting.try_iter().collect();
        assert!(matches!(notes.as_slice(), [Note::Used { .. }]), "{notes:?}");
        // The same ticket with another time, and again: the file has it once, and for as long as any.
        let mut text = format!("{FIRST_LINE}\n");
        for until in [60, 90, 30] {
            write_used(&mut text, id(1), NOW + until);
        }
        let (mut read, _) = State::read(&text).expect("it was just written");
        read.forget(NOW + 60);
        assert_eq!((read.until.get(&id(1)), read.by_time.len()), (Some(&(NOW + 90)), 1));
    }

    #[tokio::test]
    async fn no_more_tickets_are_kept_than_there_is_room_for() {
        let used = UsedTickets::open(None, NOW).expect("nothing to open");
        for number in 0..TICKETS_MAX {
            used.lock().insert(id(number), NOW + 60, NOW).expect("there is room");
        }
        let full = used.claim(id(TICKETS_MAX), NOW + 90, NOW).await.expect_err("there is none");
        assert_eq!(full, NotClaimed::Full);
        assert!(used.claim(id(TICKETS_MAX), NOW + 90, NOW + 60).await.is_ok());
    }

    #[tokio::test]
    async fn what_was_used_stays_so_when_the_file_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/used-tickets");
        let used = UsedTickets::open(Some(&path), NOW).expect("it can be created");
        used.claim(id(1), NOW + 60, NOW).await.expect("new").keep();
        drop(used.claim(id(2), NOW + 60, NOW).await.expect("new"));
        used.claim(id(3), NOW + 5, NOW).await.expect("new").keep();
        assert!(matches!(UsedTickets::open(Some(&path), NOW), Err(UsedError::InUse { .. })));
        drop(used);
        let used = UsedTickets::open(Some(&path), NOW + 10).expect("it is free again");
        assert_eq!(used.claim(id(1), NOW + 60, NOW + 10).await.expect_err("used"), NotClaimed::Used);
        let again = used.claim(id(2), NOW + 60, NOW + 10).await.expect("it was given back");
        assert_eq!(used.claim(id(3), NOW + 5, NOW).await.expect_err("used"), NotClaimed::Forgotten);
        again.keep();
        drop(used);
        let _used = UsedTickets::open(Some(&path), NOW + 10).expect("it is free again");
        let text = fs::read_to_string(&path).expect("it is there");
        assert!(text.starts_with(FIRST_LINE) && !text.contains("- "), "it was written anew: {text}");
    }

    #[tokio::test]
    async fn a_torn_last_line_has_let_nobody_in_and_other_damage_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("used-tickets");
        let whole = State { forgotten: 7, ..State::default() }.write();
        let mut line = String::new();
        write_used(&mut line, id(1), NOW + 60);
        for length in 0..=line.len() {
            fs::write(&path, format!("{whole}{}", &line[..length])).expect("written");
            let used = UsedTickets::open(Some(&path), NOW).expect("a torn line is no damage");
            assert_eq!(used.lock().until.len(), usize::from(length == line.len()));
        }
        for damaged in [
            "",
            FIRST_LINE,
            "something else\n",
            &format!("{whole}+ x\n{line}"),
            &format!("{whole}{}", line.replace('+', "*")),
        ] {
            fs::write(&path, damaged).expect("written");
            let error = UsedTickets::open(Some(&path), NOW).map(drop).expect_err("it is damaged");
            assert!(matches!(error, UsedError::Damaged { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_disk_that_does_not_write_lets_nobody_in_until_it_does() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("used-tickets");
        let (state, log) = Log::open(&path).expect("it can be created");
        let mut writer = Writer { log, state: Arc::new(Mutex::new(state)), is_well: true };
        writer.state.lock().expect("unpoisoned").insert(id(1), NOW + 60, NOW).expect("new");
        // Where the new file is to be, there is a directory.
        fs::create_dir(path.with_added_extension("new")).expect("created");
        let (written, _answer) = oneshot::channel();
        let batch = [Note::Used { id: id(1), until: NOW + 60, written }];
        let failed = writer.write(&batch);
        assert!(failed.is_err());
        writer.tell(&failed);
        assert!(!writer.is_well);
        fs::remove_dir(path.with_added_extension("new")).expect("removed");
        writer.write(&batch).expect("the disk writes again");
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(State::read(&text).map(|(state, _)| state.until.len()), Ok(1));
    }

    #[test]
    fn a_file_of_which_most_is_of_no_use_is_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let (state, log) = Log::open(&directory.path().join("used-tickets")).expect("it can be created");
        let mut writer = Writer { log, state: Arc::new(Mutex::new(state)), is_well: true };
        writer.rewrite().expect("it is written");
        let given_back = format!("- {}\n", to_hex(&id(1).0));
        writer.log.append(&given_back.repeat(USELESS_LINES_MIN - 2)).expect("it is written");
        for lines in [USELESS_LINES_MIN + 1, 2, 3] {
            writer.write(&[Note::GivenBack(id(1))]).expect("it is written");
            assert_eq!(writer.log.lines, lines);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(steps in prop::collection::vec((0usize..20, 0u64..100, any::<bool>()), 0..60), now in 0u64..80) {
            let mut state = State::default();
            let mut appended = format!("{FIRST_LINE}\n");
            for (number, until, is_used) in steps {
                if is_used && state.insert(id(number), until, 0).is_ok() {
                    write_used(&mut appended, id(number), until);
                } else if !is_used {
                    state.give_back(id(number));
                    appended.push_str(&format!("- {}\n", to_hex(&id(number).0)));
                }
            }
            prop_assert_eq!(State::read(&appended).map(|(read, _)| read), Ok(state.clone()));
            state.forget(now);
            let (read, lines) = State::read(&state.write()).expect("it was just written");
            prop_assert_eq!((&read, lines), (&state, 2 + state.until.len()));
            prop_assert_eq!(read.until.len(), read.by_time.len());
            prop_assert!(read.until.values().all(|until| *until > now));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "(tickwire used tickets 1\n)?([-+=] [0-9a-f é]{0,70}\n?){0,4}") {
            let _ = State::read(&text);
        }
    }
}
