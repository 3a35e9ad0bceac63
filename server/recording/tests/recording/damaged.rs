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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use tickwire_recording::{
    ChatRecord, EndReason, ExportPart, Layout, RecordedResult, RecordedTick, RecorderOptions, Recorders, Recording,
    RecordingState, Recovered, Recovery, RecoveryOptions, Replay, ReplayError, SeatToken, Segment, Selection, TokenKey,
    Unfinished, VerifyError, Writer, diff, dump_tick, export, export_csv, export_mcap, list, live_path, minimise,
    repair, verify,
};
use tickwire_shared::{Digest, Game, PlayerId, Tick, TickRate};
use tickwire_simulation::TickInput;

use crate::game::{Dots, Match, created, play_broken_match, play_match, play_match_with_keyframes};

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

/// What a file is before it is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Live,
    /// Live, as a kill leaves it.
    Killed,
    Finished,
}

const FORMS: [Form; 3] = [Form::Live, Form::Killed, Form::Finished];

struct Originals {
    matches: [Match; 4],
    /// Each match, in each form.
    files: [[Vec<u8>; 3]; 4],
    whole: Recording,
    recorders: Recorders,
}

impl Originals {
    fn new() -> Self {
        let matches =
            [play_match(50), play_broken_match(40), play_match_with_keyframes(50, 15), second_segment(60, 30)];
        let files = matches.each_ref().map(|played| FORMS.map(|form| bytes(played, form)));
        let whole = matches[0].recording();
        Self { matches, files, whole, recorders: Recorders::new() }
    }

    /// Damages these files and does with each whatever there is to do.
    fn damage_each(&self, files: impl Iterator<Item = u64>) -> Vec<Outcome> {
        let directory = tempfile::tempdir().expect("a directory");
        files.map(|file| self.damage_one(file, directory.path())).collect()
    }

    fn damage_one(&self, file: u64, directory: &Path) -> Outcome {
        let mut luck = Luck { file, drawn: 0 };
        let which = luck.below(self.files.len());
        let form = luck.below(FORMS.len());
        let mut bytes = self.files[which][form].clone();
        let form = FORMS[form];
        let forged = form != Form::Finished && luck.below(4) == 0;
        if forged {
            forge(&mut bytes, &mut luck);
        } else {
            damage(&mut bytes, &mut luck);
        }
        let subject = Subject { originals: self, played: &self.matches[which], form, forged };
        let work = AssertUnwindSafe(|| subject.use_all(&bytes, directory, &mut luck));
        catch_unwind(work).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            panic!("file {file}, forged: {forged}: {text}")
        })
    }
}

/// What is recorded of a match from the end of its first segment on.
fn second_segment(ticks: u64, first_ticks: u64) -> Match {
    let origin = Tick(first_ticks);
    let mut played = play_match_with_keyframes(ticks, 10);
    played.meta.segment = Segment { number: 2, first_tick: origin.next(), predecessor: Some("dots-1".to_owned()) };
    played.ticks.retain(|(input, _)| input.tick > origin);
    played.keyframes.retain(|keyframe| keyframe.tick >= origin);
    played
}

/// A match with keyframes has everything else that a file can have, too.
fn bytes(played: &Match, form: Form) -> Vec<u8> {
    let layout = if form == Form::Finished { Layout::Finished } else { Layout::Live };
    let end = (form != Form::Killed).then_some(&played.end);
    if played.keyframes.is_empty() {
        return played.bytes_with(layout, end);
    }
    let mut writer = Writer::new(Cursor::new(Vec::new()), &played.meta, layout).expect("memory takes it");
    let origin = played.meta.segment.origin();
    for keyframe in played.keyframes.iter().filter(|keyframe| keyframe.tick == origin) {
        writer.keyframe(keyframe).expect("memory takes it");
    }
    for (input, result) in &played.ticks {
        writer.tick_input(input).expect("memory takes it");
        writer.tick_result(result.as_ref().expect("it is sound")).expect("memory takes it");
        for keyframe in played.keyframes.iter().filter(|keyframe| keyframe.tick == input.tick) {
            writer.keyframe(keyframe).expect("memory takes it");
        }
        match input.tick.0 % 10 {
            2 => writer.chat(&line(input.tick)).expect("memory takes it"),
            4 => writer.seat_token(input.tick, &token(PlayerId(1), input.tick)).expect("memory takes it"),
            _ => {}
        }
        if input.tick.since(origin) == 25 {
            writer.recovered(&Recovered { tick: input.tick, epoch: 1, time: created() }).expect("memory takes it");
        }
    }
    if let Some(end) = end {
        writer.end(end).expect("memory takes it");
    }
    writer.finish().expect("memory takes it").into_inner()
}

fn line(tick: Tick) -> ChatRecord {
    ChatRecord {
        id: tick.0,
        tick,
        time: created(),
        from: Some(PlayerId(1)),
        from_name: "Ada".into(),
        to: None,
        team: None,
        text: format!("said in tick {tick}"),
    }
}

fn token(player: PlayerId, tick: Tick) -> SeatToken {
    let key = |id| TokenKey { id, hash: [id as u8; 32] };
    SeatToken { player, newest: key(tick.0), previous: Some(key(tick.0 - 1)) }
}

#[test]
fn no_damage_makes_anything_panic_or_passes_for_what_was_recorded() {
    let files = std::env::var("TICKWIRE_DAMAGED_FILES").map_or(FILES_DEFAULT, |files| files.parse().expect("a number"));
    let originals = Originals::new();
    // Each file is its own seed's: how they are divided changes nothing.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let work = |first: u64| originals.damage_each((first..files).step_by(workers as usize));
        let workers: Vec<_> = (0..workers).map(|first| scope.spawn(move || work(first))).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, Vec<Outcome>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    });
    // Most kinds of damage leave something.
    let assert_common = |what: &str, is_so: fn(&Outcome) -> bool, at_least: u64| {
        let count = outcomes.iter().filter(|outcome| is_so(outcome)).count() as u64;
        assert!(count > at_least, "of {files} files only {count} are {what}");
    };
    assert_common("read", |outcome| outcome.ticks > 0, files / 4);
    assert_common("refused", |outcome| !outcome.opened, files / 50);
    assert_common("repaired", |outcome| outcome.repaired, files / 4);
    assert_common("played from some tick on", |outcome| outcome.sought, files / 4);
    assert_common("recovered", |outcome| outcome.recovered, files / 8);
    assert_common("gone on with", |outcome| outcome.gone_on, files / 100);
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
    /// A replay began at some tick.
    sought: bool,
    /// A server would go on with it.
    recovered: bool,
    /// One did.
    gone_on: bool,
}

/// An error is said in words.
fn worded<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// What was damaged.
struct Subject<'a> {
    originals: &'a Originals,
    played: &'a Match,
    form: Form,
    forged: bool,
}

impl Subject<'_> {
    /// Does with the file whatever there is to do.
    fn use_all(&self, bytes: &[u8], directory: &Path, luck: &mut Luck) -> Outcome {
        let forged = self.forged;
        let path = directory.join(if self.form == Form::Finished { "a.mcap" } else { "a.live.mcap" });
        fs::write(&path, bytes).expect("a writable directory");
        for listed in list(directory).expect("a readable directory") {
            worded(listed.summary);
        }
        let mut outcome = Outcome::default();
        if let Some(recording) = worded(Recording::open(&path)) {
            outcome.opened = true;
            let ticks = &self.played.ticks;
            outcome.ticks = check_ticks(&recording, ticks, forged);
            if let RecordingState::Damaged(reason) = recording.scan().state {
                assert!(!reason.is_empty());
            }
            drop((recording.summary(), recording.lacks_indexes()));

            let game: Arc<dyn Game> = Arc::new(Dots::default());
            let verified = worded(verify(&recording, Arc::clone(&game)));
            assert!(verified.is_none_or(|verified| verified.ticks as usize <= ticks.len() || forged));
            outcome.sought = self.seek(&recording, &game, luck);
            worded(dump_tick(&recording, Ok(Arc::clone(&game)), Tick(20)));
            worded(minimise(&recording, &game, 3, |_| {}).map(|small| small.write(Cursor::new(Vec::new()))));
            let whole = &self.originals.whole;
            for (a, b) in [(&recording, whole), (whole, &recording)] {
                worded(diff(a, b).map(|found| found.first.map(|first| first.to_string())));
            }
            let all = Selection::default();
            worded(export(&recording, &all, &mut Vec::new()));
            for part in [ExportPart::Fields, ExportPart::Inputs, ExportPart::Events] {
                worded(export_csv(&recording, part, &all, &mut Vec::new()));
            }
            worded(export_mcap(&recording, &all, Cursor::new(Vec::new())));
            self.read_chat(&recording);
        }
        if let Some(repaired) = worded(repair(&path)) {
            outcome.repaired = true;
            let whole = Recording::open(&repaired.path).expect("what has been repaired opens");
            let mut ticks = whole.ticks().expect("it is there");
            assert!(ticks.all(|tick| forged || tick.is_ok()), "what is repaired is sound");
        }
        if self.form != Form::Finished {
            let live = live_path(directory, "b");
            fs::write(&live, bytes).expect("a writable directory");
            self.recover(&live, luck, &mut outcome);
        }
        for entry in fs::read_dir(directory).expect("a readable directory") {
            fs::remove_file(entry.expect("an entry").path()).expect("it can be removed");
        }
        outcome
    }

    /// Whether it can be played from some tick on: what it is then is what was recorded, and goes on as that does.
    fn seek(&self, recording: &Recording, game: &Arc<dyn Game>, luck: &mut Luck) -> bool {
        let origin = self.played.meta.segment.origin();
        let tick = Tick(origin.0 + luck.below(self.played.ticks.len() + 2) as u64);
        let Some(mut replay) = worded(Replay::at(recording, Arc::clone(game), tick)) else { return false };
        if !self.forged {
            assert_eq!(replay.session().tick(), tick);
            assert!(
                tick == origin || self.hash_after(tick).is_none_or(|hash| replay.session().frame().state_hash == hash)
            );
        }
        for played in replay.by_ref().take(3) {
            let divergence = worded(played).and_then(|played| played.divergence);
            assert!(self.forged || divergence.is_none(), "{divergence:?}");
        }
        true
    }

    /// The recorded state hash, where that tick has one.
    fn hash_after(&self, tick: Tick) -> Option<u64> {
        let recorded = self.played.ticks.iter().find(|(input, _)| input.tick == tick)?;
        recorded.1.as_ref().map(|result| result.state_hash)
    }

    fn read_chat(&self, recording: &Recording) {
        for said in worded(recording.chat()).into_iter().flatten() {
            let said = worded(said);
            assert!(self.forged || said.is_none_or(|said| said == line(said.tick)), "nobody said that");
        }
        worded(recording.newest_chat(3));
    }

    /// As a server does with what a killed one has left; now and then it goes on, too.
    fn recover(&self, live: &Path, luck: &mut Luck, outcome: &mut Outcome) {
        let Some(unfinished) = worded(Unfinished::open(live)) else { return };
        let (stop, ticks_done) = (AtomicBool::new(false), AtomicU64::new(0));
        let options = RecoveryOptions { grace_ticks: 50, now: created(), stop: &stop, ticks_done: &ticks_done };
        let recovery = unfinished.recover(Arc::new(Dots::default()), options).map_err(|(error, _)| error);
        match worded(recovery) {
            None => {}
            Some(Recovery::GoesOn(resumable)) => {
                outcome.recovered = true;
                if self.forged {
                    return;
                }
                let at = resumable.recovered().tick;
                assert!(at <= self.played.end.tick, "{at}");
                assert!(resumable.said().all(|said| *said == line(said.tick)), "nobody said that");
                let of_seat = |seat: &SeatToken| *seat == token(seat.player, Tick(seat.newest.id));
                assert!(resumable.seat_tokens().iter().all(of_seat), "{:?}", resumable.seat_tokens());
                if luck.below(4) > 0 {
                    return;
                }
                outcome.gone_on = true;
                let options = RecorderOptions::at(TickRate::DEFAULT);
                let resumed = self.originals.recorders.resume(*resumable, options);
                let (mut session, mut recorder) = resumed.expect("the disk takes it");
                let hash = session.frame().state_hash;
                assert!(self.hash_after(at).is_none_or(|recorded| recorded == hash), "tick {at}: another state");
                for _ in 0..3 {
                    let record = Arc::new(session.begin_tick());
                    recorder.tick_input(Arc::clone(&record));
                    recorder.tick_result(session.finish_tick(&record).expect("the dots are sound").result);
                }
                let closed = recorder.close(EndReason::Shutdown);
                assert_eq!((closed.problem, closed.end.tick), (None, Tick(at.0 + 3)));
                let recording = Recording::open(&closed.path).expect("it is closed");
                match verify(&recording, Arc::new(Dots::default())) {
                    Ok(verified) => assert_eq!(verified.ticks, at.since(self.played.meta.segment.origin()) + 3),
                    // What the segment begins with was damaged: it went on from a later keyframe, and is sought from there.
                    Err(VerifyError::Replay { source: ReplayError::NoOrigin { .. }, .. }) => {
                        let replay = Replay::at(&recording, Arc::new(Dots::default()), closed.end.tick);
                        assert_eq!(replay.expect("it has a keyframe").session().tick(), closed.end.tick);
                    }
                    Err(error) => panic!("what has gone on is not one match: {error}"),
                }
            }
            Some(Recovery::Over { finished, end }) => {
                assert!(self.forged || end.reason == self.played.end.reason, "{end:?}");
                Recording::open(&finished.path).expect("what is finished opens");
            }
        }
    }
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
