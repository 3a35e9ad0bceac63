//! Others as they are shown: between two ticks that have come, at the moment of the display clock.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tickwire_shared::{Field, KindId, NetId, Schema, Tick};
use tickwire_wire::{Mirror, Shown};

use super::{
    display_clock::{DisplayClock, EXTRAPOLATION},
    scene::Scene,
    server_clock::Timeline,
};

/// Ticks of an entity that are kept at most.
const SAMPLES_MAX: usize = 256;
/// By how much of the time that passes an entity's lag behind the display clock grows, while its cell comes at a reduced
/// rate, and shrinks.
const LAG_GROWTH: f64 = 0.25;
const LAG_SHRINK: f64 = 0.1;
/// For how long a gap between two of an entity's ticks counts, in seconds.
const GAP_SECONDS: u64 = 3;
/// An error of extrapolation is blended out with this time constant, in seconds.
const BLEND_SECONDS: f64 = 0.06;
/// And by at least this many quanta in each frame.
const BLEND_QUANTA: f64 = 0.25;
/// While an entity moves, an error is blended out by at most this share of its way in a frame where that carries it further,
/// and by all of its way where it holds it back: so it never goes back, nor much faster than it does.
const BLEND_SHARE_FORTH: f64 = 0.5;

/// The history of all entities, and the moment at which they are shown.
#[derive(Debug)]
pub(super) struct Interpolation {
    schema: Arc<Schema>,
    clock: DisplayClock,
    tracks: BTreeMap<NetId, Track>,
    /// The newest snapshot's tick, and the one's before.
    newest: Tick,
    gap_ticks: u64,
    extrapolation_ticks: f64,
    gap_ticks_kept: u64,
    /// When the last frame was drawn, in seconds, and where the clock stood.
    shown: Option<(f64, f64)>,
    /// Room for a row of values.
    row: Vec<f64>,
    rebased: Vec<f64>,
}

/// One entity's way.
#[derive(Debug)]
struct Track {
    kind: KindId,
    /// In order of tick; never empty.
    samples: VecDeque<Sample>,
    /// The newest snapshot that showed it.
    seen: Tick,
    /// The first snapshot without it.
    gone: Option<Tick>,
    /// How far it is shown behind the display clock, in ticks: more than 0 where its cell comes at a reduced rate.
    lag: f64,
    /// The largest gap between two of its ticks beyond that between snapshots, of the last second, and when it was.
    gap: (u64, Tick),
    /// What is shown, before the first frame nothing.
    shown: Option<Frame>,
}

/// An entity's public values at a tick, in quanta.
#[derive(Debug)]
struct Sample {
    tick: Tick,
    values: Box<[i32]>,
}

/// Where an entity stood when it was last drawn.
#[derive(Debug)]
struct Frame {
    place: f64,
    /// The values of its way at that place.
    values: Vec<f64>,
    /// What is shown beside them: the rest of an error.
    offsets: Vec<f64>,
    /// Up to where its way was known: the place itself, or that of the newest tick that had come.
    known: f64,
}

impl Interpolation {
    pub(super) fn new(schema: Arc<Schema>, timeline: Timeline) -> Self {
        let hz = timeline.rate.hz();
        Self {
            schema,
            clock: DisplayClock::new(timeline),
            tracks: BTreeMap::new(),
            newest: Tick::ZERO,
            gap_ticks: 1,
            extrapolation_ticks: EXTRAPOLATION * f64::from(hz),
            gap_ticks_kept: GAP_SECONDS * u64::from(hz),
            shown: None,
            row: Vec::new(),
            rebased: Vec::new(),
        }
    }

    /// How far behind the server's time others are shown, in ticks.
    pub(super) fn delay_ticks(&self) -> f64 {
        self.clock.delay()
    }

    /// The connection was lost for a while: when the next snapshot comes says nothing of those after it.
    pub(super) fn interrupted(&mut self) {
        self.clock.interrupted();
    }

    /// Takes in what the mirror shows after a snapshot of `tick`, when the server's clock stands at `server` ticks.
    pub(super) fn applied(&mut self, now: f64, tick: Tick, server: Option<f64>, mirror: &Mirror) {
        self.clock.applied(now, tick, server);
        if tick <= self.newest {
            return;
        }
        self.gap_ticks = if self.newest == Tick::ZERO { 1 } else { tick.since(self.newest) };
        self.newest = tick;
        for shown in mirror.shown() {
            let values = |shown: &Shown<'_>| {
                let fields = self.schema.kinds[shown.kind().index()].public_fields();
                fields.map(|(i, _)| shown.value(i, shown.tick()).unwrap_or(0)).collect()
            };
            let track = self.tracks.entry(shown.net_id()).or_insert_with(|| Track::new(shown.kind()));
            if track.gone.take().is_some() {
                // It was out of view; between there and here nothing is known.
                *track = Track::new(shown.kind());
            }
            track.seen = tick;
            if track.samples.back().is_none_or(|sample| sample.tick < shown.tick()) {
                let sample = Sample { tick: shown.tick(), values: values(&shown) };
                track.push(sample, self.gap_ticks, self.gap_ticks_kept);
            }
        }
        for track in self.tracks.values_mut().filter(|track| track.seen < tick) {
            track.gone.get_or_insert(tick);
        }
    }

    /// Draws everybody but `own`. The moment at which they are shown.
    pub(super) fn show(
        &mut self,
        now: f64,
        server: Option<f64>,
        mirror: &Mirror,
        own: Option<NetId>,
        scene: &mut Scene,
    ) -> Option<(Tick, u8)> {
        let place = self.clock.advance(now, server)?;
        let (before, passed) = self.shown.map_or((place, 0.0), |(at, before)| (before, now - at));
        self.shown = Some((now, place));
        let clock = &self.clock;
        self.tracks.retain(|_, track| track.gone.is_none_or(|gone| clock.place_of(gone) > place - track.lag));
        for (&net_id, track) in &mut self.tracks {
            let kind = &self.schema.kinds[track.kind.index()];
            track.advance_lag(place - before, self.newest, self.gap_ticks_kept);
            let course = Course {
                track,
                clock,
                fields: || kind.public_fields().map(|(_, field)| field),
                shown: mirror.get(net_id),
                extrapolation_ticks: self.extrapolation_ticks,
                schema: &self.schema,
            };
            let at = place - track.lag;
            if !course.read(at, &mut self.row) {
                continue;
            }
            let frame = match &track.shown {
                Some(frame) => course.frame_after(frame, at, &self.row, passed, &mut self.rebased),
                None => Frame {
                    place: at,
                    values: self.row.clone(),
                    offsets: vec![0.0; self.row.len()],
                    known: course.known(at),
                },
            };
            track.forget_before(at, clock);
            let frame = track.shown.insert(frame);
            if Some(net_id) != own {
                let mut public = kind.public_fields().zip(frame.values.iter().zip(&frame.offsets)).peekable();
                let quanta = (0..kind.fields.len()).map(|i| {
                    let Some(((_, field), (value, offset))) = public.next_if(|((place, _), _)| *place == i) else {
                        return f64::NAN;
                    };
                    wrapped(field, value + offset)
                });
                scene.push(net_id, track.kind, false, quanta);
            }
        }
        Some(self.clock.tick_at(place))
    }
}

impl Track {
    fn new(kind: KindId) -> Self {
        Self {
            kind,
            samples: VecDeque::new(),
            seen: Tick::ZERO,
            gone: None,
            lag: 0.0,
            gap: (0, Tick::ZERO),
            shown: None,
        }
    }

    fn push(&mut self, sample: Sample, gap_ticks: u64, kept: u64) {
        if let Some(last) = self.samples.back() {
            let gap = sample.tick.since(last.tick).saturating_sub(gap_ticks);
            if gap >= self.gap.0 || sample.tick.since(self.gap.1) > kept {
                self.gap = (gap, sample.tick);
            }
        }
        self.samples.push_back(sample);
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Moves the lag toward what the gaps between its ticks ask for, while the clock moves by `step` ticks.
    fn advance_lag(&mut self, step: f64, newest: Tick, kept: u64) {
        let wanted = if newest.since(self.gap.1) > kept { 0.0 } else { self.gap.0 as f64 };
        self.lag = match wanted > self.lag {
            true => wanted.min(self.lag + step * LAG_GROWTH),
            false => wanted.max(self.lag - step * LAG_SHRINK),
        };
    }

    /// Forgets ticks that are of no more use.
    fn forget_before(&mut self, place: f64, clock: &DisplayClock) {
        while self.samples.len() > 2 && clock.place_of(self.samples[1].tick) <= place {
            self.samples.pop_front();
        }
    }
}

/// An entity's way through time, as far as it is known.
struct Course<'a, F> {
    track: &'a Track,
    clock: &'a DisplayClock,
    fields: F,
    shown: Option<Shown<'a>>,
    extrapolation_ticks: f64,
    schema: &'a Schema,
}

impl<'a, F: Fn() -> I, I: Iterator<Item = &'a Field>> Course<'a, F> {
    /// The values at a place in time; false before the first.
    fn read(&self, place: f64, values: &mut Vec<f64>) -> bool {
        values.clear();
        let samples = &self.track.samples;
        let after = samples.partition_point(|sample| self.clock.place_of(sample.tick) <= place);
        let Some(from) = after.checked_sub(1).map(|i| &samples[i]) else { return false };
        let start = self.clock.place_of(from.tick);
        match samples.get(after) {
            Some(to) => {
                let share = match has_jumped(self.schema, self.track.kind, from, to) {
                    true => 0.0,
                    false => (place - start) / (self.clock.place_of(to.tick) - start),
                };
                let pairs = from.values.iter().zip(&to.values);
                values.extend((self.fields)().zip(pairs).map(|(field, (&from, &to))| blend(field, from, to, share)));
            }
            None => self.extrapolate(from, (place - start).min(self.extrapolation_ticks), values),
        }
        true
    }

    /// The values so many ticks after the newest that has come, by the fields' predictors.
    fn extrapolate(&self, from: &Sample, ticks: f64, values: &mut Vec<f64>) {
        let samples = &self.track.samples;
        // What a jump was taken for when it was a step is no speed.
        let has_jumped =
            samples.len() > 1 && has_jumped(self.schema, self.track.kind, &samples[samples.len() - 2], from);
        let is_known = |shown: &Shown<'_>| shown.tick() == from.tick && self.track.gone.is_none() && !has_jumped;
        let ahead = self.shown.filter(is_known);
        let (low, share) = (Tick(from.tick.0 + ticks.floor() as u64), ticks - ticks.floor());
        let places = self.schema.kinds[self.track.kind.index()].public_fields().map(|(i, _)| i);
        values.extend((self.fields)().zip(&from.values).zip(places).map(|((field, &held), i)| {
            let at = |tick| ahead.and_then(|shown| shown.value(i, tick)).unwrap_or(held);
            blend(field, at(low), at(low.next()), share)
        }));
    }

    /// Up to where the way to a place is known.
    fn known(&self, place: f64) -> f64 {
        self.track.samples.back().map_or(place, |newest| place.min(self.clock.place_of(newest.tick)))
    }

    /// The frame after another: at `place`, where the way's values are `values`, `passed` seconds later.
    fn frame_after(&self, before: &Frame, place: f64, values: &[f64], passed: f64, rebased: &mut Vec<f64>) -> Frame {
        // What was guessed at the last frame may be known better now.
        if before.known == before.place || !self.read(before.place, rebased) {
            rebased.clone_from(&before.values);
        }
        let jumped = self.jumps_between(before.known, place);
        // Who is about to jump waits where they are, wherever they were taken to be.
        let waits = self.waits_at(place) || self.stands_between(before.place, place);
        let fading = 1.0 - libm::exp(-passed.max(0.0) / BLEND_SECONDS);
        let offsets = (self.fields)().enumerate().map(|(i, field)| {
            if jumped || !field.is_continuous() {
                return 0.0;
            }
            let offset = way(field, rebased[i], before.values[i]) + before.offsets[i];
            if waits {
                return offset;
            }
            let fade = (offset.abs() * fading).max(BLEND_QUANTA).min(offset.abs()) * offset.signum();
            let step = way(field, rebased[i], values[i]);
            // An offset that shrinks by `fade` moves what is shown by `step` − `fade`.
            let fade = match field.turn {
                None if step > 0.0 => fade.clamp(-step * BLEND_SHARE_FORTH, step),
                None if step < 0.0 => fade.clamp(step, -step * BLEND_SHARE_FORTH),
                _ => fade,
            };
            offset - fade
        });
        Frame { place, values: values.to_vec(), offsets: offsets.collect(), known: self.known(place) }
    }

    /// Whether nothing of its way lies between two places: the clock stands, or the way ends. Nobody goes back for that.
    fn stands_between(&self, from: f64, to: f64) -> bool {
        let Some(newest) = self.track.samples.back() else { return true };
        let end = self.clock.place_of(newest.tick) + self.extrapolation_ticks;
        to.min(end) <= from.min(end)
    }

    /// Whether the entity jumps at the next tick that is known.
    fn waits_at(&self, place: f64) -> bool {
        let samples = &self.track.samples;
        let after = samples.partition_point(|sample| self.clock.place_of(sample.tick) <= place);
        let pair = after.checked_sub(1).map(|i| &samples[i]).zip(samples.get(after));
        pair.is_some_and(|(from, to)| has_jumped(self.schema, self.track.kind, from, to))
    }

    /// Whether the entity jumped at a tick after one place and up to another.
    fn jumps_between(&self, from: f64, to: f64) -> bool {
        let samples = &self.track.samples;
        samples.iter().zip(samples.iter().skip(1)).any(|(before, after)| {
            let place = self.clock.place_of(after.tick);
            from < place && place <= to && has_jumped(self.schema, self.track.kind, before, after)
        })
    }
}

/// Whether the game says that an entity jumped between two ticks.
fn has_jumped(schema: &Schema, kind: KindId, from: &Sample, to: &Sample) -> bool {
    let fields = schema.kinds[kind.index()].public_fields();
    fields.zip(from.values.iter().zip(&to.values)).any(|((_, field), (from, to))| field.teleport && from != to)
}

/// Between two values; of those without any between, the first.
fn blend(field: &Field, from: i32, to: i32, share: f64) -> f64 {
    field.blend(from, to, if field.is_continuous() { share } else { 0.0 })
}

/// From one value to another; for angles the shortest way round.
fn way(field: &Field, from: f64, to: f64) -> f64 {
    let Some(turn) = field.turn.map(f64::from) else { return to - from };
    let way = (to - from) / turn;
    (way - (way + 0.5).floor()) * turn
}

/// An angle within its turn; any other value as it is.
fn wrapped(field: &Field, value: f64) -> f64 {
    let Some(turn) = field.turn.map(f64::from) else { return value };
    value - (value / turn).floor() * turn
}
