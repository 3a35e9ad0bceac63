//! A note beside a recording that somebody tries to go on with, which outlives the process: so that a game that takes the
//! whole process down while it is played again does so only a few times.
//!
//! It says which tick is being played, or that a keyframe is being restored. A process that dies of a tick dies of the same one
//! each time; one that is killed from outside, however often, dies at another one, or in none. So only deaths at one tick, in a
//! row, count. Deaths of keyframes are counted by themselves, and only make way for another beginning, as long as there is any.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tickwire_shared::Tick;

use crate::storage::{Disk, Storage, write_all_at};

/// So many deaths at one tick are its fault.
const DEATHS_MAX: u32 = 3;
/// So many deaths while a keyframe is restored are enough to begin elsewhere.
const DEATHS_BY_BEGINNING: u32 = 2;
/// So many are enough, where no beginning is left but a keyframe. Each may as well be a kill from outside.
const RESTORING_DEATHS_MAX: u32 = 12;
/// Where a keyframe is being restored, in the place of a tick.
const RESTORING: u64 = u64::MAX;

/// What stands in the file: of the attempts before, and of the one under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Note {
    /// The tick that the newest attempts have died at; 0: none.
    suspect: u64,
    /// How many of them, in a row.
    deaths: u32,
    /// How many attempts have died while a keyframe was restored.
    restoring: u32,
    /// The tick being played; 0: none.
    now: u64,
}

const RESTORING_KEY: &str = " restoring=";
const NOW_KEY: &str = " now=";
const NUMBER_CHARS: usize = 20;

impl Note {
    /// Always of the same length, so that it is overwritten in place.
    fn encode(self) -> String {
        let Self { suspect, deaths, restoring, now } = self;
        format!("suspect={suspect:020} deaths={deaths:020}{RESTORING_KEY}{restoring:020}{NOW_KEY}{now:020}\n")
    }

    /// `None` where a loss of power has left something else.
    fn decode(text: &str) -> Option<Self> {
        let (suspect, rest) = text.strip_prefix("suspect=")?.split_once(" deaths=")?;
        let (deaths, rest) = rest.split_once(RESTORING_KEY)?;
        let (restoring, now) = rest.split_once(NOW_KEY)?;
        Some(Self {
            suspect: suspect.parse().ok()?,
            deaths: deaths.parse().ok()?,
            restoring: restoring.parse().ok()?,
            now: now.strip_suffix('\n')?.parse().ok()?,
        })
    }

    /// What the death of whoever has written this says.
    fn after_death(self) -> Self {
        match self.now {
            0 => self,
            RESTORING => Self { restoring: self.restoring.saturating_add(1), now: 0, ..self },
            tick if tick == self.suspect => Self { deaths: self.deaths.saturating_add(1), now: 0, ..self },
            tick => Self { suspect: tick, deaths: 1, now: 0, ..self },
        }
    }
}

/// An attempt to go on with a recording.
#[derive(Debug)]
pub(crate) struct Attempt {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    note: Note,
}

/// Why it is not to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Died {
    pub(crate) tick: Tick,
    pub(crate) times: u32,
}

/// Where an attempt begins: the more of them have died of keyframes, the further back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With the newest keyframe of the file behind so many that are passed over.
    Keyframe { passed_over: usize },
    /// With what the file begins with, or, behind the first segment, so many segments before it.
    Origin { segments_back: usize },
}

impl Attempt {
    /// Notes that an attempt begins: this is on the disk, whatever comes. The inner error says that it must not.
    pub(crate) fn begin(storage: &dyn Storage, path: &Path) -> io::Result<Result<Self, Died>> {
        let (disk, before) = match storage.open(path) {
            Ok(disk) => (disk, Note::decode(&fs::read_to_string(path).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (storage.create(path)?, None),
            Err(error) => return Err(error),
        };
        let note = before.unwrap_or_default().after_death();
        if note.deaths >= DEATHS_MAX {
            return Ok(Err(Died { tick: Tick(note.suspect), times: note.deaths }));
        }
        let text = note.encode();
        write_all_at(&*disk, 0, text.as_bytes())?;
        disk.cut(text.len() as u64)?;
        disk.sync()?;
        storage.sync_directory(crate::files::directory_of(path))?;
        Ok(Ok(Self { path: path.to_owned(), disk, note }))
    }

    /// Where this one is to begin.
    pub(crate) fn beginning(&self) -> Beginning {
        match (self.note.restoring / DEATHS_BY_BEGINNING) as usize {
            passed_over @ 0..=1 => Beginning::Keyframe { passed_over },
            _ if self.deaths_of_keyframes().is_some() => Beginning::Origin { segments_back: usize::MAX },
            times => Beginning::Origin { segments_back: times - 1 },
        }
    }

    /// How many attempts have died of keyframes, where that is so often that none is to be restored again.
    pub(crate) fn deaths_of_keyframes(&self) -> Option<u32> {
        Some(self.note.restoring).filter(|times| *times >= RESTORING_DEATHS_MAX)
    }

    /// Does what restores keyframes: `work` is handed what it tells before the game restores one, and after it. What it reads
    /// before that is no part of it.
    pub(crate) fn noting_restores<T>(&mut self, work: impl FnOnce(&mut dyn FnMut(bool)) -> T) -> io::Result<T> {
        let mut noted = Ok(());
        let done = work(&mut |is_restoring| {
            let written = if is_restoring { self.plays(Tick(RESTORING)) } else { self.rests() };
            if noted.is_ok() {
                noted = written;
            }
        });
        noted.map(|()| done)
    }

    /// Notes that `tick` is about to be played. A process that dies leaves what it has written, synced or not.
    pub(crate) fn plays(&mut self, tick: Tick) -> io::Result<()> {
        self.note.now = tick.0;
        let place = self.note.encode().len() - 1 - NUMBER_CHARS;
        write_all_at(&*self.disk, place as u64, format!("{:020}", tick.0).as_bytes())
    }

    /// Notes that no tick is being played any more.
    pub(crate) fn rests(&mut self) -> io::Result<()> {
        self.plays(Tick::ZERO)
    }

    /// It has come to an end, good or bad, that needs no other attempt.
    pub(crate) fn end(self, storage: &dyn Storage) {
        if let Err(error) = storage.remove(&self.path) {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::FileSystem;

    fn begin(path: &Path) -> Result<Attempt, Died> {
        Attempt::begin(&FileSystem, path).expect("a disk")
    }

    /// An attempt that dies at a tick, or in none.
    fn die_at(path: &Path, tick: u64) -> Result<(), Died> {
        let mut attempt = begin(path)?;
        for played in 1..=tick {
            attempt.plays(Tick(played)).expect("a disk");
        }
        Ok(())
    }

    #[test]
    fn three_deaths_at_one_tick_are_enough() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.attempt");
        for _ in 0..3 {
            assert_eq!(die_at(&path, 7), Ok(()));
        }
        let died = Died { tick: Tick(7), times: 3 };
        assert_eq!(die_at(&path, 7), Err(died));
        assert_eq!(die_at(&path, 7), Err(died), "that stands until somebody sets it aside");
    }

    #[test]
    fn deaths_at_other_ticks_or_in_none_never_are() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.attempt");
        for attempt in 0..200 {
            let tick = [0, 7, 7, 0, 0, 8, 8, 3][attempt % 8];
            assert_eq!(die_at(&path, tick), Ok(()), "attempt {attempt}");
        }
    }

    #[test]
    fn a_death_in_no_tick_says_nothing_of_those_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.attempt");
        for tick in [7, 0, 7, 0, 0, 7, 0] {
            let _ = die_at(&path, tick);
        }
        assert_eq!(die_at(&path, 7), Err(Died { tick: Tick(7), times: 3 }));
    }

    fn die_restoring(path: &Path) -> Beginning {
        let mut attempt = begin(path).expect("it may be tried");
        attempt.noting_restores(|restoring| restoring(true)).expect("a disk");
        attempt.beginning()
    }

    #[test]
    fn who_dies_of_keyframes_begins_further_back_and_that_never_counts_against_a_tick() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.attempt");
        let [newest, older] = [0, 1].map(|passed_over| Beginning::Keyframe { passed_over });
        let back = |segments_back| Beginning::Origin { segments_back };
        let beginnings = [newest, older, back(1), back(2), back(3), back(4)].into_iter().chain([back(usize::MAX); 5]);
        for beginning in beginnings {
            assert_eq!([die_restoring(&path), die_restoring(&path)], [beginning; 2]);
        }
        assert_eq!(begin(&path).expect("it may be tried").deaths_of_keyframes(), Some(22));
    }

    #[test]
    fn deaths_of_keyframes_and_of_a_tick_do_not_make_each_other_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.attempt");
        for _ in 0..3 {
            die_restoring(&path);
            assert_eq!(die_at(&path, 7), Ok(()));
        }
        assert_eq!(die_at(&path, 7), Err(Died { tick: Tick(7), times: 3 }));
        let text = fs::read_to_string(&path).expect("it is there");
        assert_eq!(Note::decode(&text).map(|note| note.restoring), Some(3));
    }

    #[test]
    fn what_a_loss_of_power_leaves_counts_for_nothing_and_an_end_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.attempt");
        for left in ["", "suspect=", "suspect=1 deaths=99 restoring=99 now=x\n", "\0\0\0\0"] {
            fs::write(&path, left).expect("a disk");
            let mut attempt = begin(&path).expect("nothing is known");
            attempt.plays(Tick(5)).expect("a disk");
            attempt.rests().expect("a disk");
            let text = fs::read_to_string(&path).expect("it is there");
            assert_eq!(Note::decode(&text), Some(Note::default()), "{text:?}");
            attempt.end(&FileSystem);
            assert!(!path.exists());
        }
    }
}
