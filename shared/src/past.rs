//! The last frames, for games that judge an action by what the player saw: lag compensation.

use std::{collections::VecDeque, sync::Arc};

use bevy_ecs::resource::Resource;

use crate::{
    CellFrame, CellId, Columns, Field, Frame, KindId, NetId, Places, Predictor, Reading, Schema, Seen, Tick, TickRate,
    seen::SEEN_STEPS,
};

/// How far a session rewinds at most where nothing else is asked for, in milliseconds.
pub const REWIND_MS_DEFAULT: u32 = 250;
/// The farthest that any session rewinds, in milliseconds.
pub const REWIND_MS_MAX: u32 = 1000;

/// What clients were shown of the last ticks, as a resource of the game's world.
///
/// It holds the canonical state of frames, which is what clients hold, exactly, and reads between two ticks by the very
/// function that they do ([`Field::blend`]). It keeps what frames share anyway, and costs a tick nothing worth naming.
///
/// Whether to rewind, and for what, is the game's decision: a shot that hits at once may be judged by
/// [`view`](Self::view); what flies, and what others can dodge, by the present.
#[derive(Resource, Debug)]
pub struct Past {
    schema: Arc<Schema>,
    /// By kind, by field: the field's place among the public ones.
    columns: Vec<Vec<Option<usize>>>,
    /// How far back at most, in 1/256 ticks.
    reach_steps: u64,
    /// One for each of the last ticks, oldest first.
    moments: VecDeque<Moment>,
}

/// What of a frame is looked at again.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) tick: Tick,
    pub(crate) cells: Arc<Vec<CellFrame>>,
    pub(crate) places: Arc<Places>,
}

impl Past {
    /// Nothing yet, of a session that rewinds by up to `rewind_ms` milliseconds: more than [`REWIND_MS_MAX`] counts as that.
    #[must_use]
    pub fn new(schema: &Arc<Schema>, rate: TickRate, rewind_ms: u32) -> Self {
        let columns_of = |kind: &crate::Kind| {
            let mut columns = vec![None; kind.fields.len()];
            kind.public_fields().enumerate().for_each(|(column, (field, _))| columns[field] = Some(column));
            columns
        };
        Self {
            columns: schema.kinds.iter().map(columns_of).collect(),
            schema: Arc::clone(schema),
            // Rounded down: never beyond the bound.
            reach_steps: u64::from(rewind_ms.min(REWIND_MS_MAX)) * u64::from(rate.hz()) * SEEN_STEPS / 1000,
            moments: VecDeque::new(),
        }
    }

    /// Takes in the frame of the tick that has just ended, and lets go of those that nothing can rewind to any more. The
    /// engine does this.
    pub fn push(&mut self, frame: &Frame) {
        self.moments.push_back(Moment {
            tick: frame.tick,
            cells: Arc::clone(&frame.cells),
            places: Arc::clone(&frame.places),
        });
        self.let_go();
    }

    /// All that it has, oldest first.
    pub(crate) fn moments(&self) -> Vec<Moment> {
        self.moments.iter().cloned().collect()
    }

    /// As [`new`](Self::new), with what another one of the same session had.
    pub(crate) fn going_on(schema: &Arc<Schema>, rate: TickRate, rewind_ms: u32, moments: &[Moment]) -> Self {
        let mut past = Self::new(schema, rate, rewind_ms);
        past.moments = moments.iter().cloned().collect();
        past.let_go();
        past
    }

    fn let_go(&mut self) {
        let kept = self.reach_steps.div_ceil(SEEN_STEPS) as usize;
        while self.moments.len() > kept {
            self.moments.pop_front();
        }
    }

    /// The world as a player saw it who is judged at the tick that is being computed.
    ///
    /// `None` where that lies beyond the session's bound, before its first tick, or after the newest frame: there is no
    /// rewinding, and the present counts. A game that would rather go back as far as it may says
    /// `past.view(seen.max(past.earliest()?))`.
    #[must_use]
    pub fn view(&self, seen: Seen) -> Option<PastView<'_>> {
        let newest = self.moments.back()?;
        if seen < self.earliest()? || seen > Seen::at(newest.tick) {
            return None;
        }
        let i = seen.tick.since(self.moments.front()?.tick) as usize;
        // Between two ticks the later one is there: the moment is before the newest.
        let next = if seen.fraction == 0 { None } else { self.moments.get(i + 1) };
        Some(PastView { past: self, from: &self.moments[i], next, seen })
    }

    /// The earliest moment that [`view`](Self::view) shows now; `None` where it shows none.
    #[must_use]
    pub fn earliest(&self) -> Option<Seen> {
        let (oldest, newest) = (self.moments.front()?.tick, self.moments.back()?.tick);
        let bound = Seen::from_steps(Seen::at(newest.next()).steps().saturating_sub(self.reach_steps));
        Some(bound.max(Seen::at(oldest))).filter(|earliest| *earliest <= Seen::at(newest))
    }
}

/// The world as a player saw it: at a tick, or between two.
#[derive(Clone, Copy, Debug)]
pub struct PastView<'a> {
    past: &'a Past,
    from: &'a Moment,
    /// Where it is between two ticks.
    next: Option<&'a Moment>,
    seen: Seen,
}

impl<'a> PastView<'a> {
    /// Which moment it is.
    #[must_use]
    pub const fn seen(&self) -> Seen {
        self.seen
    }

    /// An entity as it was shown.
    ///
    /// Shown was who stood in the frame of [`Seen::tick`]. Who was gone at the next tick stood still until then; who came
    /// with the next tick was not shown before it.
    #[must_use]
    pub fn entity(&self, id: NetId) -> Option<PastEntity<'a>> {
        let (kind, cell) = self.from.places.get(id)?;
        let from = self.from.row(kind, cell, id)?;
        let next = self.next.and_then(|next| {
            // Most stay in their cell, and in their row.
            let same = next.columns(kind, cell).filter(|columns| columns.ids.get(from.row) == Some(&id));
            match same {
                Some(columns) => Some(PastRow { columns, row: from.row, tick: next.tick }),
                None => next.places.get(id).and_then(|(kind, cell)| next.row(kind, cell, id)),
            }
        });
        Some(PastEntity { past: self.past, kind, from, next, share: self.seen.share() })
    }
}

impl Moment {
    fn columns(&self, kind: KindId, cell: CellId) -> Option<&Columns> {
        self.cells.get(cell.index())?.state.kinds.get(kind.index()).map(|columns| &**columns)
    }

    fn row(&self, kind: KindId, cell: CellId, id: NetId) -> Option<PastRow<'_>> {
        let columns = self.columns(kind, cell)?;
        Some(PastRow { columns, row: columns.row(id)?, tick: self.tick })
    }
}

/// An entity as it was shown.
#[derive(Clone, Copy, Debug)]
pub struct PastEntity<'a> {
    past: &'a Past,
    kind: KindId,
    from: PastRow<'a>,
    next: Option<PastRow<'a>>,
    share: f64,
}

/// An entity at a tick.
#[derive(Clone, Copy, Debug)]
struct PastRow<'a> {
    columns: &'a Columns,
    row: usize,
    tick: Tick,
}

impl PastEntity<'_> {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> KindId {
        self.kind
    }

    /// A field of its kind as everybody was shown it, in the field's unit. Between two ticks it is blended as clients do it,
    /// if it has values between its values: with a predictor, or as an angle. Others, such as points, change with the tick.
    ///
    /// # Panics
    /// Where the kind has no such field, or only the owner sees it.
    #[must_use]
    pub fn quantity(&self, field: usize) -> f64 {
        let definition = &self.past.schema.kinds[self.kind.index()].fields[field];
        let column = self.past.columns[self.kind.index()][field];
        let column =
            column.unwrap_or_else(|| panic!("only the owner sees {:?}; others were not shown it", definition.name));
        let from = self.from.read(column, definition);
        let blended = match self.next {
            Some(next) if is_continuous(definition) => {
                definition.blend(from, next.read(column, definition), self.share)
            }
            _ => f64::from(from),
        };
        blended * definition.quantity.quantum
    }
}

impl PastRow<'_> {
    fn read(&self, column: usize, field: &Field) -> i32 {
        self.columns.read(self.row, column, Reading::of(field), self.tick)
    }
}

/// Whether there are values between two of a field's values.
fn is_continuous(field: &Field) -> bool {
    field.predictor != Predictor::None || field.turn.is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{CellKey, FrameBuilder, Kind, Place, Quantity, SchemaParts, TickExtras};

    const DOT: KindId = KindId(0);
    const X: usize = 0;
    const AIM: usize = 2;
    const HEALTH: usize = 3;

    fn schema() -> Arc<Schema> {
        let metres = Quantity::new("m", 1.0 / 128.0, -100.0..=100.0);
        let fields = vec![
            Field::linear("x", metres).owner_shift(3),
            Field::plain("ammo", Quantity::count(0..=99)).owner_only(),
            Field::plain("aim", Quantity::count(0..=0)).angle(256, 1.0),
            Field::plain("health", Quantity::count(0..=100)),
        ];
        let parts = SchemaParts { game: "t".into(), kinds: vec![Kind::new("dot", fields)], ..Default::default() };
        Arc::new(Schema::new(parts).expect("valid"))
    }

    /// Frames, and the past that is made of them, at 60 Hz.
    struct Film {
        builder: FrameBuilder,
        past: Past,
        frames: Vec<Arc<Frame>>,
    }

    impl Film {
        fn new(rewind_ms: u32) -> Self {
            let schema = schema();
            let past = Past::new(&schema, TickRate::DEFAULT, rewind_ms);
            Self { builder: FrameBuilder::new(&schema, 0), past, frames: Vec::new() }
        }

        fn tick(&mut self, set: impl FnOnce(&mut FrameBuilder)) {
            self.builder.begin(self.builder.frame().tick.next());
            set(&mut self.builder);
            let (frame, _) = self.builder.finish(TickExtras::default());
            self.past.push(&frame);
            self.frames.push(frame);
        }

        /// Moves dot 1, in fine quanta.
        fn move_to(&mut self, fine: i32) {
            self.tick(|builder| builder.entity(DOT, NetId(1)).set(X, fine));
        }

        fn x(&self, tick: u64, fraction: u8) -> Option<f64> {
            let view = self.past.view(Seen { tick: Tick(tick), fraction })?;
            Some(view.entity(NetId(1))?.quantity(X))
        }

        fn metres_in_frame(&self, tick: u64) -> f64 {
            let frame = &self.frames[tick as usize - 1];
            let (_, cell) = frame.places.get(NetId(1)).expect("dot 1 is there");
            let columns = &frame.cells[cell.index()].state.kinds[0];
            let reading = Reading::of(&schema().kinds[0].fields[X]);
            f64::from(columns.read(columns.row(NetId(1)).expect("it is there"), 0, reading, frame.tick)) / 128.0
        }
    }

    #[test]
    fn the_past_ends_at_the_bound_to_the_256th_of_a_tick() {
        // 100 ms: 6 ticks.
        let mut film = Film::new(100);
        (0..20).for_each(|i| film.move_to(i * 50));
        // Tick 21 is being computed.
        assert_eq!(film.past.earliest(), Some(Seen::at(Tick(15))));
        assert!(film.x(15, 0).is_some() && film.x(20, 0).is_some() && film.x(19, 255).is_some());
        assert!(film.x(14, 255).is_none() && film.x(20, 1).is_none() && film.x(21, 0).is_none());
        assert!(film.x(Tick::MAX.0, 255).is_none() && film.x(1, 0).is_none());
        assert_eq!(film.past.moments.len(), 6);
        // 110 ms: 6.6 ticks, rounded down to 1/256.
        let mut film = Film::new(110);
        (0..20).for_each(|i| film.move_to(i * 50));
        assert_eq!(film.past.earliest(), Some(Seen { tick: Tick(14), fraction: 103 }));
        assert!(film.x(14, 103).is_some() && film.x(14, 102).is_none());
    }

    #[test]
    fn a_session_that_rewinds_less_than_a_tick_does_not_rewind() {
        for (rewind_ms, kept) in [(0, 0), (16, 1), (17, 2), (u32::MAX, 60)] {
            let mut film = Film::new(rewind_ms);
            assert!(film.past.earliest().is_none());
            (0..80).for_each(|i| film.move_to(i * 50));
            assert_eq!(
                (film.past.moments.len(), film.past.earliest().is_some()),
                (kept, rewind_ms >= 17),
                "{rewind_ms}"
            );
        }
    }

    #[test]
    fn a_young_session_has_a_short_past() {
        let mut film = Film::new(250);
        (0..3).for_each(|i| film.move_to(i * 50));
        assert_eq!(film.past.earliest(), Some(Seen::at(Tick(1))));
        assert!(film.x(1, 0).is_some() && film.x(0, 200).is_none());
    }

    #[test]
    fn who_comes_is_shown_from_their_first_tick_and_who_goes_stands_still_until_they_are_gone() {
        let mut film = Film::new(250);
        film.tick(|_| {});
        film.move_to(800);
        film.move_to(880);
        film.tick(|builder| builder.remove(NetId(1)));
        film.tick(|_| {});
        assert_eq!(
            [(1, 0), (1, 255), (2, 0), (2, 128)].map(|(t, f)| film.x(t, f)),
            [None, None, Some(100.0 / 128.0), Some(105.0 / 128.0),]
        );
        assert_eq!(
            [(3, 0), (3, 255), (4, 0)].map(|(t, f)| film.x(t, f)),
            [Some(110.0 / 128.0), Some(110.0 / 128.0), None,]
        );
    }

    #[test]
    fn angles_blend_the_short_way_round_and_points_not_at_all() {
        let mut film = Film::new(250);
        for (aim, health) in [(250, 100), (6, 40)] {
            film.tick(|builder| {
                let mut entity = builder.entity(DOT, NetId(1));
                entity.set(AIM, aim);
                entity.set(HEALTH, health);
            });
        }
        let view = film.past.view(Seen { tick: Tick(1), fraction: 128 }).expect("within the bound");
        let entity = view.entity(NetId(1)).expect("it is there");
        assert_eq!((entity.kind(), entity.quantity(AIM), entity.quantity(HEALTH)), (DOT, 0.0, 100.0));
    }

    #[test]
    #[should_panic(expected = "only the owner sees \"ammo\"")]
    fn what_only_the_owner_sees_was_shown_to_nobody() {
        let mut film = Film::new(250);
        film.move_to(0);
        film.move_to(0);
        let view = film.past.view(Seen::at(Tick(1))).expect("within the bound");
        let _ = view.entity(NetId(1)).map(|entity| entity.quantity(1));
    }

    proptest! {
        #[test]
        fn what_is_between_two_frames_is_what_clients_blend_of_them(
            steps in prop::collection::vec((-900..900_i32, 0..3_u64, any::<bool>()), 20..40),
            back in 0..14_u64, fraction: u8,
        ) {
            let mut film = Film::new(250);
            let mut fine = 0;
            for (step, cell, has_company) in steps {
                fine += step;
                film.tick(|builder| {
                    let mut entity = builder.entity(DOT, NetId(1));
                    entity.set(X, fine);
                    entity.set_place(Place::Cell(CellKey(cell)));
                    // Another one, before it and behind it in its cell's order.
                    for id in [NetId(0), NetId(2)] {
                        if has_company {
                            builder.entity(DOT, id).set_place(Place::Cell(CellKey(cell)));
                        } else {
                            builder.remove(id);
                        }
                    }
                });
            }
            let newest = film.frames.len() as u64;
            let tick = newest - 1 - back;
            let (from, to) = (film.metres_in_frame(tick), film.metres_in_frame(tick + 1));
            let expected = from + (to - from) * f64::from(fraction) / 256.0;
            prop_assert_eq!(film.x(tick, fraction), Some(expected));
        }
    }
}
