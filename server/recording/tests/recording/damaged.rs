//! Files that are damaged at random, by a seed: whatever is done with one, there is no panic, and either a clear error or the
//! part that can be read.
//!
//! `TICKWIRE_DAMAGED_FILES=10000 cargo test --release -p tickwire-recording --test recording damaged::` takes so many, as
//! `.ci/run` does.

use std::{
    fmt::Display,
    fs,
    io::Cursor,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use tickwire_recording::{
    ExportPart, Layout, RecordedResult, RecordedTick, Recording, RecordingState, Selection, diff, dump_tick, export,
    export_csv, export_mcap, list, minimise, repair, verify,
};
use tickwire_shared::{Digest, Game, Tick};
use tickwire_simulation::TickInput;

use crate::game::{Dots, Match, play_broken_match, play_match};

const FILES_DEFAULT: u64 = 200;
const SEED: u64 = 0x00DA_4A6E;

/// Random numbers of one file.
struct Luck {
    file: u64,
    drawn: u64,
}

impl Luck {
    fn below(&mut self, end: usize) -> usize {
        self.drawn += 1;
        let mut digest = Digest::default();
        [SEED, self.file, self.drawn].into_iter().for_each(|word| digest.write(word));
        (digest.finish() % end.max(1) as u64) as usize
    }
}

struct Originals {
    matches: [Match; 2],
    /// Each match, live and finished.
    files: [[Vec<u8>; 2]; 2],
    whole: Recording,
}

impl Originals {
    fn new() -> Self {
        let matches = [play_match(50), play_broken_match(40)];
        let files =
            matches.each_ref().map(|played| [Layout::Live, Layout::Finished].map(|layout| played.bytes(layout)));
        let whole = matches[0].recording();
        Self { matches, files, whole }
    }
}

#[test]
fn no_damage_makes_anything_panic_or_passes_for_what_was_recorded() {
    let files = std::env::var("TICKWIRE_DAMAGED_FILES").map_or(FILES_DEFAULT, |files| files.parse().expect("a number"));
    let originals = Originals::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (mut read, mut refused, mut repaired) = (0, 0, 0);
    for file in 0..files {
        let mut luck = Luck { file, drawn: 0 };
        let which = luck.below(2);
        let form = luck.below(2);
        let forged = form == 0 && luck.below(4) == 0;
        let mut bytes = originals.files[which][form].clone();
        if forged {
            forge(&mut bytes, &mut luck);
        } else {
            damage(&mut bytes, &mut luck);
        }
        let work = AssertUnwindSafe(|| use_all(&originals, which, form, forged, bytes, directory.path()));
        let outcome = catch_unwind(work).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            panic!("file {file}, forged: {forged}: {text}")
        });
        read += u64::from(outcome.ticks > 0);
        refused += u64::from(!outcome.opened);
        repaired += u64::from(outcome.repaired);
    }
    // Most kinds of damage leave something.
    assert!(
        read > files / 4 && refused > files / 50 && repaired > files / 4,
        "{read} read, {refused} refused, {repaired} repaired"
    );
}

/// Cuts, flips, overwrites, repeats, or leaves out.
fn damage(bytes: &mut Vec<u8>, luck: &mut Luck) {
    for _ in 0..=luck.below(3) {
        let at = luck.below(bytes.len());
        let end = at + luck.below(bytes.len() - at).min(1 + luck.below(64));
        match luck.below(7) {
            0 => bytes.truncate(at),
            1 | 2 => bytes[at] ^= 1 << luck.below(8),
            3 => bytes[at..end].fill([0, 0xFF][luck.below(2)]),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte = luck.below(256) as u8),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

/// Changes messages and makes their checksums right again: what no accident does, and what gets further in.
fn forge(live: &mut [u8], luck: &mut Luck) {
    let messages = messages(live);
    for _ in 0..=luck.below(3) {
        let message = messages[luck.below(messages.len())].clone();
        let (payload, checksum) = (message.start..message.end - 5, message.end - 4..message.end);
        if live[message.end - 5] != 15 << 3 | 5 {
            continue;
        }
        let at = payload.start + luck.below(payload.len());
        live[at] = match luck.below(3) {
            0 => live[at] ^ 1 << luck.below(8),
            1 => live[at].wrapping_add(1),
            _ => luck.below(256) as u8,
        };
        let crc32 = crc32fast::hash(&live[payload]);
        live[checksum].copy_from_slice(&crc32.to_le_bytes());
    }
}

/// Where the messages of a sound live file are.
pub(crate) fn messages(live: &[u8]) -> Vec<Range<usize>> {
    // Behind the magic: records of a kind, a length, and what it counts. Messages are of the kind 5, and start with 22 bytes of
    // channel, sequence and times.
    let (mut at, mut messages) = (8, Vec::new());
    while at < live.len() {
        let length = u64::from_le_bytes(live[at + 1..at + 9].try_into().expect("8 bytes")) as usize;
        if live[at] == 5 {
            messages.push(at + 9 + 22..at + 9 + length);
        }
        at += 9 + length;
    }
    messages
}

#[derive(Default)]
struct Outcome {
    opened: bool,
    ticks: usize,
    repaired: bool,
}

/// An error is said in words.
fn worded<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// Does with the file whatever there is to do.
fn use_all(
    originals: &Originals,
    which: usize,
    form: usize,
    forged: bool,
    bytes: Vec<u8>,
    directory: &Path,
) -> Outcome {
    let path = directory.join(["a.live.mcap", "a.mcap"][form]);
    fs::write(&path, &bytes).expect("a writable directory");
    for listed in list(directory).expect("a readable directory") {
        worded(listed.summary);
    }
    let mut outcome = Outcome::default();
    if let Some(recording) = worded(Recording::open(&path)) {
        outcome.opened = true;
        let ticks = &originals.matches[which].ticks;
        outcome.ticks = check_ticks(&recording, ticks, forged);
        if let RecordingState::Damaged(reason) = recording.scan().state {
            assert!(!reason.is_empty());
        }
        drop((recording.summary(), recording.lacks_indexes()));

        let game: Arc<dyn Game> = Arc::new(Dots::default());
        let verified = worded(verify(&recording, Arc::clone(&game)));
        assert!(verified.is_none_or(|verified| verified.ticks as usize <= ticks.len() || forged));
        worded(dump_tick(&recording, Ok(Arc::clone(&game)), Tick(20)));
        worded(minimise(&recording, &game, 3, |_| {}).map(|small| small.write(Cursor::new(Vec::new()))));
        for (a, b) in [(&recording, &originals.whole), (&originals.whole, &recording)] {
            worded(diff(a, b).map(|found| found.first.map(|first| first.to_string())));
        }
        let all = Selection::default();
        worded(export(&recording, &all, &mut Vec::new()));
        for part in [ExportPart::Fields, ExportPart::Inputs, ExportPart::Events] {
            worded(export_csv(&recording, part, &all, &mut Vec::new()));
        }
        worded(export_mcap(&recording, &all, Cursor::new(Vec::new())));
    }
    if let Some(repaired) = worded(repair(&path)) {
        outcome.repaired = true;
        let whole = Recording::open(&repaired.path).expect("what has been repaired opens");
        assert!(whole.ticks().expect("it is there").all(|tick| forged || tick.is_ok()), "what is repaired is sound");
    }
    for entry in fs::read_dir(directory).expect("a readable directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("it can be removed");
    }
    outcome
}

/// What is read without an error is what was recorded, unless somebody has forged it; an error comes last.
fn check_ticks(recording: &Recording, recorded: &[(TickInput, Option<RecordedResult>)], forged: bool) -> usize {
    let (mut whole, mut broken) = (0, false);
    for (i, tick) in recording.ticks().expect("it has just been opened").enumerate() {
        assert!(!broken, "something follows an error");
        match tick {
            Err(error) => {
                broken = true;
                assert!(!error.to_string().is_empty());
            }
            Ok(RecordedTick { input, result }) => {
                whole += 1;
                if !forged {
                    assert_eq!(input, recorded[i].0);
                    assert!(result.is_none() || result == recorded[i].1, "tick {}: another result", i + 1);
                }
            }
        }
    }
    whole
}
