//! The recordings that a server has, by name.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use tickwire_proto::v1::{self as pb, SavedState};
use tickwire_recording::{
    Recording, RecordingError, RecordingState, RecordingSummary, finished_path, game_of, is_own_file,
    is_same_recording, live_path,
};
use tickwire_shared::{Game, Tick};
use tonic::Code;

use super::{source::Source, tape::Tape};
use crate::{
    session::{Registry, SessionHandle, SessionState},
    status::Refusal,
};

const COLLECTION: &str = "recordings/";
const ID_CHARS_MAX: usize = 120;
const LIVE: &str = ".live.mcap";
const FINISHED: &str = ".mcap";

/// A recording's name: `recordings/` and an id of letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RecordingName(String);

/// A string that is no recording's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a recording's name: it is \"recordings/\" and an id of letters, digits, '_' and '-'")]
pub(super) struct RecordingNameError(String);

impl RecordingName {
    fn of_id(id: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_id = (1..=ID_CHARS_MAX).contains(&id.len()) && id.chars().all(allowed);
        is_id.then(|| Self(id.to_owned()))
    }

    /// That of a file; `None` where it is no recording that has a name.
    fn of_file(path: &Path) -> Option<Self> {
        let name = path.file_name().and_then(OsStr::to_str)?;
        Self::of_id(name.strip_suffix(LIVE).or_else(|| name.strip_suffix(FINISHED))?)
    }

    /// What no file's name can make of it is a path to elsewhere.
    pub(super) fn id(&self) -> &str {
        &self.0
    }
}

impl FromStr for RecordingName {
    type Err = RecordingNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // What is echoed to the caller is bounded.
        let wrong = || RecordingNameError(name.chars().take(ID_CHARS_MAX).collect());
        name.strip_prefix(COLLECTION).and_then(Self::of_id).ok_or_else(wrong)
    }
}

impl fmt::Display for RecordingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{COLLECTION}{}", self.0)
    }
}

/// The recordings of a server.
#[derive(Clone)]
pub(crate) struct Library {
    shelf: Shelf,
    /// Whether anybody may have them.
    pub(super) is_public: bool,
    games: Arc<[Arc<dyn Game>]>,
}

/// Where they are.
#[derive(Clone, Debug)]
enum Shelf {
    Nowhere,
    Directory(PathBuf),
    /// One alone.
    File(PathBuf),
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("shelf", &self.shelf)
            .field("is_public", &self.is_public)
            .finish_non_exhaustive()
    }
}

/// A recording that was found.
pub(super) struct Found {
    name: RecordingName,
    path: PathBuf,
}

impl Library {
    pub(crate) fn new(directory: Option<PathBuf>, is_public: bool, games: Arc<[Arc<dyn Game>]>) -> Self {
        Self { shelf: directory.map_or(Shelf::Nowhere, Shelf::Directory), is_public, games }
    }

    /// Of one file, for anybody.
    pub(crate) fn of_file(path: PathBuf, games: Arc<[Arc<dyn Game>]>) -> Self {
        Self { shelf: Shelf::File(path), is_public: true, games }
    }

    /// Up to `count` of those after `after`, in order of name, and the last name that was looked at, if there are more.
    pub(super) fn page(
        &self,
        after: Option<&RecordingName>,
        count: usize,
    ) -> Result<(Vec<Found>, Option<RecordingName>), Refusal> {
        // One more than are wanted, the first of all so far: however many files there are, no more names are held.
        let mut first = BTreeSet::new();
        self.each_name(|name| {
            if after.is_none_or(|after| name > *after) {
                first.insert(name);
                if first.len() > count + 1 {
                    first.pop_last();
                }
            }
        })
        .map_err(|error| unreadable(&error))?;
        let next = if first.len() > count { first.iter().nth(count - 1).cloned() } else { None };
        // What has gone since is not there, and what is no recording never was.
        Ok((first.into_iter().take(count).filter_map(|name| self.find(name).ok()).collect(), next))
    }

    /// The recording of a name.
    pub(super) fn find(&self, name: RecordingName) -> Result<Found, Refusal> {
        let path = match &self.shelf {
            Shelf::Nowhere => None,
            Shelf::File(path) => (RecordingName::of_file(path).as_ref() == Some(&name)).then(|| path.clone()),
            Shelf::Directory(directory) => [finished_path(directory, name.id()), live_path(directory, name.id())]
                .into_iter()
                .find(|path| is_own_file(path)),
        };
        match path.filter(|path| is_readable(path)) {
            Some(path) => Ok(Found { name, path }),
            None => {
                let message = format!("there is no {name} on this server");
                Err(Refusal::new(Code::NotFound, "NOT_FOUND", message).field("name"))
            }
        }
    }

    fn each_name(&self, mut each: impl FnMut(RecordingName)) -> io::Result<()> {
        match &self.shelf {
            Shelf::Nowhere => {}
            Shelf::File(path) => RecordingName::of_file(path).into_iter().for_each(each),
            Shelf::Directory(directory) => match fs::read_dir(directory) {
                // A server that has never run here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(entries) => {
                    for entry in entries {
                        RecordingName::of_file(&entry?.path()).into_iter().for_each(&mut each);
                    }
                }
            },
        }
        Ok(())
    }

    /// What can be watched of a recording.
    pub(super) fn source(&self, found: &Found, registry: &Registry) -> Result<Source, Refusal> {
        if let Some(session) = found.session(registry) {
            return Ok(Source::Session(session));
        }
        found.check_seen(registry)?;
        let wrong = |error: &dyn fmt::Display| {
            Refusal::new(Code::FailedPrecondition, "UNREADABLE", format!("{}: {error}", found.name)).field("name")
        };
        let recording = found.open().map_err(|error| wrong(&error))?;
        if found.is_live() && recording.summary().state == RecordingState::Live {
            return Err(found.is_of_another());
        }
        let game = game_of(&recording, &self.games).map_err(|error| wrong(&error))?;
        Ok(Source::Recording(Arc::new(Tape::finished(recording, game))))
    }
}

impl Found {
    /// The file, where anybody may have it.
    pub(super) fn file(&self, registry: &Registry) -> Result<&Path, Refusal> {
        if self.session(registry).is_some() {
            let message = format!("the session of {} runs: watch it, or ask again when it has ended", self.name);
            return Err(Refusal::new(Code::FailedPrecondition, "LIVE", message).field("name"));
        }
        self.check_seen(registry)?;
        if self.is_live() && Recording::open(&self.path).is_ok_and(|it| it.summary().state == RecordingState::Live) {
            return Err(self.is_of_another());
        }
        Ok(&self.path)
    }

    /// What there is to say of it.
    pub(super) fn describe(&self, registry: &Registry) -> pb::Recording {
        let name = self.name.to_string();
        if let Some(session) = self.session(registry) {
            let status = session.recording.status();
            let (segment, first_tick) = status.map_or((1, Tick(1)), |status| (status.segment, status.first_tick));
            return pb::Recording {
                name,
                session: session.name.to_string(),
                game: session.schema.game.clone(),
                state: SavedState::Live.into(),
                state_text: "live: the session is running".into(),
                ticks: (session.live_tick().0 + 1).saturating_sub(first_tick.0),
                tick_rate: session.tick_rate.hz(),
                bytes: 0,
                create_time: Some(session.create_time.into()),
                segment,
                first_tick: first_tick.0,
            };
        }
        let bytes = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        match self.open() {
            Err(error) => pb::Recording {
                name,
                state: SavedState::Damaged.into(),
                state_text: error.to_string(),
                bytes,
                ..pb::Recording::default()
            },
            Ok(recording) => {
                let (summary, lacks_indexes) = (recording.summary(), recording.lacks_indexes());
                let (mut saved, mut state_text) = (saved(&summary.state), summary.state_words(lacks_indexes));
                let RecordingSummary { meta, ticks, .. } = summary;
                if matches!(saved, SavedState::Complete | SavedState::Incomplete) && lacks_indexes {
                    state_text.push_str("; the end of the file, with its indexes, is missing");
                }
                if self.check_seen(registry).is_err() {
                    (saved, state_text) = (SavedState::Live, "spectators have not seen all of it".into());
                }
                pb::Recording {
                    name,
                    session: meta.session,
                    game: meta.schema.game.clone(),
                    state: saved.into(),
                    state_text,
                    // Of another server's session nobody here knows what may be seen.
                    ticks: if saved == SavedState::Live { 0 } else { ticks },
                    tick_rate: meta.tick_rate.hz(),
                    bytes: if saved == SavedState::Live { 0 } else { bytes },
                    create_time: Some(meta.created.into()),
                    segment: meta.segment.number,
                    first_tick: meta.segment.first_tick.0,
                }
            }
        }
    }

    /// The session that runs and is joined by code, where this is a segment of one.
    pub(super) fn running_by_code(&self, registry: &Registry) -> Option<Arc<SessionHandle>> {
        self.running(registry).filter(|session| session.terms.visibility.takes_tickets_only())
    }

    /// The session that runs, and that this is a segment of.
    fn running(&self, registry: &Registry) -> Option<Arc<SessionHandle>> {
        let is_segment_of = |session: &&Arc<SessionHandle>| {
            let path = session.recording.path().filter(|_| session.state() == SessionState::Running);
            path.is_some_and(|path| is_same_recording(&path, &self.path))
        };
        registry.all().iter().find(is_segment_of).map(Arc::clone)
    }

    /// A finished segment of a session that runs is for those only who have been shown all of it.
    fn check_seen(&self, registry: &Registry) -> Result<(), Refusal> {
        let Some(session) = self.running(registry) else { return Ok(()) };
        let last = self.open().map(|recording| recording.summary().last_tick());
        // One that cannot be looked at now is not known to have been seen.
        if !last.is_ok_and(|last| last <= session.live_tick()) {
            let message =
                format!("spectators of {} have not seen all of {} yet: ask again later", session.name, self.name);
            return Err(Refusal::new(Code::FailedPrecondition, "LIVE", message).field("name"));
        }
        Ok(())
    }

    /// The recording, which may have been finished since it was found.
    fn open(&self) -> Result<Recording, RecordingError> {
        match Recording::open(&self.path) {
            Err(RecordingError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && self.is_live() => {
                Recording::open(finished_path(self.path.parent().unwrap_or(Path::new("")), self.name.id()))
            }
            opened => opened,
        }
    }

    fn is_live(&self) -> bool {
        self.path.to_string_lossy().ends_with(LIVE)
    }

    /// The session that runs, and is or was being recorded there: at its limit of size a recording ends before its session
    /// does.
    fn session(&self, registry: &Registry) -> Option<Arc<SessionHandle>> {
        let is_recorded_here = |session: &&Arc<SessionHandle>| {
            session.state() == SessionState::Running
                && session.recording.path().and_then(|path| RecordingName::of_file(&path)).as_ref() == Some(&self.name)
        };
        registry.all().iter().find(is_recorded_here).map(Arc::clone)
    }

    fn is_of_another(&self) -> Refusal {
        let message = format!("the session of {} runs on another server: ask there", self.name);
        Refusal::new(Code::FailedPrecondition, "LIVE", message).field("name")
    }
}

/// Whether a file is a recording, or may be one: whatever else has such a name is nobody's business. One that cannot be read
/// now is told of, and so is one of a later version.
fn is_readable(path: &Path) -> bool {
    match Recording::open(path) {
        Err(error) => matches!(error, RecordingError::Io { .. } | RecordingError::FormatVersion { .. }),
        Ok(_) => true,
    }
}

const fn saved(state: &RecordingState) -> SavedState {
    match state {
        RecordingState::Complete(_) => SavedState::Complete,
        RecordingState::Incomplete { .. } => SavedState::Incomplete,
        RecordingState::Live => SavedState::Live,
        RecordingState::Unfinished => SavedState::Unfinished,
        // One that was set aside has a name that no id can be.
        RecordingState::SetAside(_) | RecordingState::Damaged(_) => SavedState::Damaged,
    }
}

fn unreadable(error: &io::Error) -> Refusal {
    Refusal::new(Code::Unavailable, "UNREADABLE", format!("the recordings cannot be listed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        let name: RecordingName = "recordings/arena-1-20260131T184502123Z".parse().expect("a name");
        assert_eq!(name.id(), "arena-1-20260131T184502123Z");
        assert_eq!(name.to_string(), "recordings/arena-1-20260131T184502123Z");
        let wrong = [
            "",
            "recordings",
            "recordings/",
            "recordings/..",
            "recordings/../x",
            "recordings/a/b",
            "recordings/a\\b",
            "recordings//etc/passwd",
            "/etc/passwd",
            "recordings/a.mcap",
            "recordings/.",
            "recordings/a\0b",
            "sessions/a",
            "recordings/%2e%2e",
            "recordings/ä",
            "recordings/a b",
            "recordings/~",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<RecordingName>().is_err(), "{wrong:?} is a name");
        }
        let long = format!("recordings/{}", "x".repeat(10_000)).parse::<RecordingName>().expect_err("too long");
        assert!(long.to_string().len() < 400);
    }

    #[test]
    fn a_recording_that_is_finished_once_it_is_found_is_opened_by_its_new_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let library = Library::new(Some(directory.path().to_owned()), true, Arc::default());
        let name: RecordingName = "recordings/arena-1".parse().expect("a name");
        let recorded = include_bytes!("../../../tests/recordings/deathmatch-60hz.mcap");
        let [live, finished] = [live_path, finished_path].map(|path| path(directory.path(), "arena-1"));
        fs::write(&live, recorded).expect("a file");
        let found = library.find(name).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        fs::rename(&live, &finished).expect("it is there");
        assert_eq!(found.open().expect("it is there").meta().segment.number, 1);
        fs::remove_file(&finished).expect("it is there");
        found.open().expect_err("it is nowhere");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_recording_of_the_directory_is_neither_listed_nor_found() {
        let [directory, elsewhere] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let recorded = include_bytes!("../../../tests/recordings/deathmatch-60hz.mcap");
        let at = |name: &str| finished_path(directory.path(), name);
        let secret = finished_path(elsewhere.path(), "secret");
        for (path, bytes) in [(at("arena-1"), &recorded[..]), (at("readme"), b"# Read me"), (secret.clone(), recorded)]
        {
            fs::write(path, bytes).expect("a file");
        }
        std::os::unix::fs::symlink(&secret, at("away")).expect("a link");
        let library = Library::new(Some(directory.path().to_owned()), true, Arc::default());
        let found = |name: &str| library.find(format!("recordings/{name}").parse().expect("a name")).is_ok();
        assert_eq!(["arena-1", "readme", "away", "secret"].map(found), [true, false, false, false]);
        // Pages go by names, so that there may be fewer on one; the last one has no next.
        let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let (page, next) = library.page(after.as_ref(), 1).unwrap_or_else(|refusal| panic!("{refusal:?}"));
            listed.extend(page.into_iter().map(|found| found.name.0));
            pages += 1;
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((listed, pages), (vec!["arena-1".to_owned()], 3));
    }

    #[test]
    fn files_that_are_no_recordings_have_no_names() {
        let name = |file: &str| RecordingName::of_file(Path::new(file)).map(|name| name.0);
        assert_eq!(name("/data/a-1.mcap"), Some("a-1".into()));
        assert_eq!(name("/data/a-1.live.mcap"), Some("a-1".into()));
        for other in ["/data/a-1.mcap.partial", "/data/a-1.damaged.mcap", "/data/a-1", "/data/.mcap", "/"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
