//! A live recording: what is written while its session runs.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Seek, SeekFrom, Write},
    sync::{Arc, Mutex, PoisonError},
};

use tickwire_shared::{PlayerId, Tick};
use tickwire_simulation::{Keyframe, SeatChange, TickInput, TickResult};

use super::told::Told;
use crate::{
    ChatRecord, End, Layout, RecordedKeyframe, RecordingMeta, Recovered, SeatToken, Writer,
    reader::Sound,
    record::IdleTicks,
    storage::{Disk, write_all_at},
};

/// What the buffer of encoded records keeps for the next ones; a burst's room is given back.
const BUFFER_BYTES_KEPT: usize = 16 * 1024;
/// How many of the places are known at which the file can be cut off. Between them there is a record at least.
const MARKS_MAX: usize = 256;
/// How much of a file may give way to its end record: some blocks of a disk, or the newest ticks where those are large.
const GIVEN_WAY_BYTES_MAX: u64 = 128 * 1024;
/// Of a message record of MCAP: its kind, its length, and its header, before what it carries.
const MESSAGE_OVERHEAD_BYTES: u64 = 1 + 8 + 22;

/// What is to be written.
#[derive(Debug)]
pub(super) enum Record {
    Input(Arc<TickInput>),
    Result(Box<TickResult>),
    /// From a tick on.
    Token(Tick, Box<SeatToken>),
    /// Of the tick of the newest result.
    Keyframe(Box<Keyframe>),
    /// Since the record before.
    Chat(Vec<ChatRecord>),
}

impl Record {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Input(input) => {
                let values: usize = input.inputs.iter().map(|input| input.values.len()).sum();
                size_of_val(&**input) + size_of_val(&*input.inputs) + values * size_of::<i32>()
            }
            Self::Result(result) => {
                let kinds = result.truth.kinds.iter().map(|kind| {
                    let fields: usize = kind.spawned.iter().map(|(_, values)| size_of_val(&**values)).sum();
                    fields + size_of_val(&*kind.spawned) + size_of_val(&*kind.changed) + size_of_val(&*kind.differences)
                });
                size_of_val(&**result) + kinds.sum::<usize>() + size_of_val(&*result.events)
            }
            Self::Token(_, token) => size_of_val(&**token),
            Self::Keyframe(keyframe) => keyframe.memory_bytes(),
            Self::Chat(lines) => lines.iter().map(ChatRecord::memory_bytes).sum(),
        };
        bytes as u64
    }

    /// How many of a tick's records it is: what was said does not count for ticks that wait.
    pub(super) fn count(&self) -> u64 {
        u64::from(!matches!(self, Self::Chat(_)))
    }
}

/// A live recording, and how far it has come.
///
/// Records are encoded first, and written by a flush. Where that fails they stay, and the next flush starts where the last
/// one that did not fail has ended: over what a failed one may have left.
#[derive(Debug)]
pub(super) struct Live {
    writer: Writer<Encoded>,
    /// What the writer has encoded and the disk has not taken.
    encoded: Encoded,
    disk: Arc<dyn Disk>,
    /// How far the records have come that are encoded.
    ticks: Ticks,
    /// An input without seats: it stands in the file only together with its result, or where it never has one.
    held: Option<Arc<TickInput>>,
    /// The newest record, where it is one of idle ticks, and the place of what it carries.
    idle: Option<(IdleTicks, u64)>,
    /// A record in the file that has more ticks by now.
    longer: Option<(IdleTicks, u64)>,
    /// Where the file can be cut off, the newest last: what is whole on the disk.
    marks: VecDeque<Mark>,
    /// The same of what is encoded.
    coming: VecDeque<Mark>,
    /// The tick that the file's first one follows.
    origin: u64,
    /// What it began with, before its first tick.
    head_bytes: u64,
    /// Of those who have not left, by which tokens they come back: what the next segment is to know.
    tokens: BTreeMap<PlayerId, SeatToken>,
    /// A write has failed since the last one that did not: there may be anything beyond the newest mark.
    torn: bool,
    ended: bool,
    /// Of keyframes.
    too_large: Told,
}

/// The newest ticks of which there is an input, and a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    pub(super) input: u64,
    pub(super) result: u64,
}

/// How far a file goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) bytes: u64,
    pub(super) ticks: Ticks,
}

impl Live {
    /// Starts it with its header.
    pub(super) fn new(disk: Arc<dyn Disk>, meta: &RecordingMeta) -> io::Result<Self> {
        Self::begin(disk, meta, None, BTreeMap::new())
    }

    /// The one that follows this one behind `keyframe`, with all that it takes to go on from there.
    pub(super) fn next(
        &self,
        disk: Arc<dyn Disk>,
        meta: &RecordingMeta,
        keyframe: &RecordedKeyframe,
    ) -> io::Result<Self> {
        Self::begin(disk, meta, Some(keyframe), self.tokens.clone())
    }

    fn begin(
        disk: Arc<dyn Disk>,
        meta: &RecordingMeta,
        keyframe: Option<&RecordedKeyframe>,
        tokens: BTreeMap<PlayerId, SeatToken>,
    ) -> io::Result<Self> {
        let encoded = Encoded::default();
        let mut writer = Writer::new(encoded.clone(), meta, Layout::Live)?;
        let origin = meta.segment.origin();
        // The keyframe is the last of it: where it is whole, all is there that a session goes on from.
        for token in tokens.values() {
            writer.seat_token(origin, token)?;
        }
        if let Some(keyframe) = keyframe {
            writer.keyframe(keyframe)?;
        }
        let mut live = Self::with(disk, encoded, writer, Ticks { input: origin.0, result: origin.0 }, tokens);
        live.origin = origin.0;
        live.note_coming();
        live.flush()?;
        live.head_bytes = live.mark().bytes;
        Ok(live)
    }

    /// Goes on with one of which `sound` is left.
    pub(super) fn resume(disk: Arc<dyn Disk>, sound: &Sound, tokens: &[SeatToken]) -> io::Result<Self> {
        disk.cut(sound.bytes)?;
        let encoded = Encoded::default();
        let seek = || encoded.restart(sound.bytes);
        let mut writer = Writer::resume(encoded.clone(), sound.rate, &sound.channels, &sound.schemas, seek)?;
        writer.set_ticks(sound.whole.since(sound.origin));
        let ticks = Ticks { input: sound.begun.0, result: sound.whole.0 };
        let tokens = tokens.iter().map(|token| (token.player, *token)).collect();
        let mut live = Self::with(disk, encoded, writer, ticks, tokens);
        live.origin = sound.origin.0;
        live.marks.push_back(Mark { bytes: sound.bytes, ticks });
        Ok(live)
    }

    fn with(
        disk: Arc<dyn Disk>,
        encoded: Encoded,
        writer: Writer<Encoded>,
        ticks: Ticks,
        tokens: BTreeMap<PlayerId, SeatToken>,
    ) -> Self {
        Self {
            origin: 0,
            head_bytes: 0,
            tokens,
            writer,
            encoded,
            disk,
            ticks,
            held: None,
            idle: None,
            longer: None,
            marks: VecDeque::new(),
            coming: VecDeque::new(),
            torn: false,
            ended: false,
            too_large: Told::default(),
        }
    }

    /// Encodes a record, for the next flush.
    pub(super) fn write(&mut self, record: Record) -> io::Result<()> {
        match record {
            Record::Input(input) if IdleTicks::may_have(&input) => self.held = Some(input),
            Record::Input(input) => self.write_input(&input)?,
            Record::Token(tick, token) => {
                self.tokens.insert(token.player, *token);
                self.writer.seat_token(tick, &token)?;
                self.idle = None;
                self.note_coming();
            }
            Record::Keyframe(keyframe) => self.write_keyframe(&keyframe)?,
            Record::Chat(lines) => {
                lines.iter().try_for_each(|line| self.writer.chat(line))?;
                self.idle = None;
                self.note_coming();
            }
            Record::Result(result) => match self.held.take() {
                None => self.write_result(*result)?,
                Some(input) => match IdleTicks::of(&result) {
                    Some(idle) => self.write_idle(idle)?,
                    None => {
                        self.write_input(&input)?;
                        self.write_result(*result)?;
                    }
                },
            },
        }
        Ok(())
    }

    /// Encodes that another server goes on here.
    pub(super) fn write_recovered(&mut self, recovered: &Recovered) -> io::Result<()> {
        self.writer.recovered(recovered)?;
        self.idle = None;
        self.note_coming();
        Ok(())
    }

    /// Encodes an input that is to stand in the file though it has no result.
    pub(super) fn write_held(&mut self) -> io::Result<()> {
        self.held.take().map_or(Ok(()), |input| self.write_input(&input))
    }

    fn write_input(&mut self, input: &TickInput) -> io::Result<()> {
        self.writer.tick_input(input)?;
        for change in &input.seat_changes {
            if let SeatChange::Left { player } = change {
                self.tokens.remove(player);
            }
        }
        self.idle = None;
        self.ticks.input = input.tick.0;
        self.note_coming();
        Ok(())
    }

    fn write_result(&mut self, result: TickResult) -> io::Result<()> {
        let Tick(tick) = result.tick;
        self.writer.tick_result(&result.into())?;
        self.ticks.result = tick;
        self.note_coming();
        Ok(())
    }

    fn write_keyframe(&mut self, keyframe: &Keyframe) -> io::Result<()> {
        let Tick(tick) = keyframe.tick();
        // Encoded and compressed only here, where nobody waits for it.
        let recorded = RecordedKeyframe::of(keyframe);
        let Some(recorded) = recorded else {
            if self.too_large.begins("the newest keyframe") {
                tracing::warn!(tick, "keyframes are larger than a record may be, and are left out");
            }
            return Ok(());
        };
        if self.too_large.ends() {
            tracing::info!(tick, "keyframes are small enough again");
        }
        if self.stands_at(Tick(tick)) {
            self.writer.keyframe(&recorded)?;
            // What comes is no longer the newest record's.
            self.idle = None;
            self.note_coming();
        }
        Ok(())
    }

    fn write_idle(&mut self, idle: IdleTicks) -> io::Result<()> {
        self.ticks = Ticks { input: idle.last.0, result: idle.last.0 };
        if let Some((before, place)) = self.idle
            && let Some(idle) = before.and(idle)
        {
            self.idle = Some((idle, place));
            self.writer.add_ticks(1);
            if !self.encoded.overwrite(place, &idle.encode()) {
                self.longer = self.idle;
            } else if let Some(mark) = self.coming.back_mut() {
                mark.ticks = self.ticks;
            }
            return Ok(());
        }
        let place = self.encoded.end() + MESSAGE_OVERHEAD_BYTES;
        self.idle = Some((idle, place));
        self.writer.idle_ticks(&idle)?;
        self.note_coming();
        Ok(())
    }

    /// Whether `tick` is the newest one that there is an input of, and a result.
    pub(super) fn stands_at(&self, Tick(tick): Tick) -> bool {
        self.ticks == Ticks { input: tick, result: tick }
    }

    /// How many ticks it has, and the bytes of all that came behind its head.
    pub(super) fn length(&self) -> (u64, u64) {
        (self.ticks.result.saturating_sub(self.origin), self.bytes().saturating_sub(self.head_bytes))
    }

    fn note_coming(&mut self) {
        push_mark(&mut self.coming, Mark { bytes: self.encoded.end(), ticks: self.ticks });
    }

    /// How much a flush would append.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.encoded.with(|encoded| encoded.bytes.len())
    }

    /// The length that the file has after a flush.
    pub(super) fn bytes(&self) -> u64 {
        self.encoded.end()
    }

    /// What is whole on the disk.
    pub(super) fn mark(&self) -> Mark {
        *self.marks.back().expect("the header is on the disk, or there is no recording")
    }

    /// Has the disk take what has been encoded.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        let flushed = self.flush_encoded();
        self.torn = flushed.is_err();
        flushed
    }

    fn flush_encoded(&mut self) -> io::Result<()> {
        // Before what comes after it: at any time the file is the beginning of the match.
        if let Some((idle, place)) = self.longer {
            write_all_at(&*self.disk, place, &idle.encode())?;
            self.longer = None;
            self.mark_idle(idle);
        }
        let (disk, before) = (&*self.disk, self.encoded.with(|encoded| encoded.taken));
        if self.encoded.drain(|bytes| write_all_at(disk, before, bytes))? {
            self.coming.drain(..).for_each(|mark| push_mark(&mut self.marks, mark));
        }
        Ok(())
    }

    /// Ends the recording with what is on the disk. Where that is full, the last ticks give their room to the end record, so
    /// that the file says what became of it.
    pub(super) fn end(&mut self, end: impl Fn(Ticks) -> End) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        self.settle_idle();
        let whole = self.mark().bytes;
        loop {
            let mark = self.mark();
            self.encoded.restart(mark.bytes);
            self.coming.clear();
            (self.held, self.idle, self.longer) = (None, None, None);
            self.writer.set_ticks(mark.ticks.result.saturating_sub(self.origin));
            self.writer.end(&end(mark.ticks))?;
            let Err(error) = self.disk_takes_end(mark.bytes) else {
                (self.ended, self.torn) = (true, false);
                self.marks.back_mut().expect("it is there").bytes = self.encoded.end();
                return Ok(());
            };
            self.torn = true;
            let before = self.marks.len().checked_sub(2).map(|before| self.marks[before].bytes);
            if !is_for_want_of_room(&error) || before.is_none_or(|before| whole - before > GIVEN_WAY_BYTES_MAX) {
                return Err(error);
            }
            self.marks.pop_back();
        }
    }

    /// Has all that was flushed survive a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.sync()
    }

    /// Ends one that is whole on the disk, and goes on in another file: nothing gives way here.
    pub(super) fn end_whole(mut self, end: &End) -> io::Result<()> {
        self.writer.end(end)?;
        let ended = self.flush();
        self.cut();
        ended
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Sees to it that no mark is beyond a record that may be half overwritten.
    fn settle_idle(&mut self) {
        let Some((idle, place)) = self.longer.take() else { return };
        match write_all_at(&*self.disk, place, &idle.encode()) {
            Ok(()) => self.mark_idle(idle),
            // The first one stays: a file cannot be without its header.
            Err(_) if self.marks.len() > 1 => {
                let header = self.marks[0];
                self.marks.retain(|mark| mark.bytes < place || *mark == header);
                self.torn = true;
            }
            Err(_) => self.torn = true,
        }
    }

    fn mark_idle(&mut self, IdleTicks { last: Tick(last), .. }: IdleTicks) {
        self.marks.back_mut().expect("the record is on the disk").ticks = Ticks { input: last, result: last };
    }

    fn disk_takes_end(&mut self, from: u64) -> io::Result<()> {
        if self.torn {
            self.disk.cut(from)?;
        }
        let disk = &*self.disk;
        self.encoded.drain(|bytes| write_all_at(disk, from, bytes)).map(drop)
    }

    /// Takes back what a failed write may have left.
    pub(super) fn cut(self) {
        if self.torn
            && let Err(error) = self.disk.cut(self.mark().bytes)
        {
            tracing::warn!("the recording's last record stays torn: {error}");
        }
    }
}

/// Forgets the oldest where there are enough.
fn push_mark(marks: &mut VecDeque<Mark>, mark: Mark) {
    if marks.len() == MARKS_MAX {
        marks.pop_front();
    }
    marks.push_back(mark);
}

/// Whether a shorter file would have done.
fn is_for_want_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), StorageFull | FileTooLarge | QuotaExceeded | WriteZero)
}

/// Encoded records between the writer and the disk, so that a failed write does not end the writer.
#[derive(Clone, Debug, Default)]
struct Encoded(Arc<Mutex<EncodedBytes>>);

#[derive(Debug, Default)]
struct EncodedBytes {
    bytes: Vec<u8>,
    /// How many went before: they are on the disk.
    taken: u64,
}

impl Encoded {
    fn with<T>(&self, act: impl FnOnce(&mut EncodedBytes) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the next byte goes.
    fn end(&self) -> u64 {
        self.with(|encoded| encoded.taken + encoded.bytes.len() as u64)
    }

    /// Empties it into `take`, unless that fails, or there is nothing: false then.
    fn drain(&self, take: impl FnOnce(&[u8]) -> io::Result<()>) -> io::Result<bool> {
        self.with(|EncodedBytes { bytes, taken }| {
            if bytes.is_empty() {
                return Ok(false);
            }
            take(bytes)?;
            *taken += bytes.len() as u64;
            bytes.clear();
            bytes.shrink_to(BUFFER_BYTES_KEPT);
            Ok(true)
        })
    }

    /// Puts bytes over those at a place; false where those are on the disk already.
    fn overwrite(&self, place: u64, with: &[u8]) -> bool {
        self.with(|EncodedBytes { bytes, taken }| {
            let Some(from) = place.checked_sub(*taken) else { return false };
            // It is within the buffer, and so within memory.
            let from = from as usize;
            bytes[from..from + with.len()].copy_from_slice(with);
            true
        })
    }

    /// Forgets what no disk has taken: what comes goes to `place`.
    fn restart(&self, place: u64) {
        self.with(|encoded| {
            encoded.bytes.clear();
            encoded.taken = place;
        });
    }
}

impl Write for Encoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|encoded| encoded.bytes.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Encoded {
    /// Only tells where it is: records are appended.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Current(0) => Ok(self.end()),
            _ => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}
