//! The frames of the last seconds, and what changed from each to the next.

use std::sync::{Arc, OnceLock};

use tickwire_shared::{CellId, Frame, PlayerId, SeatFrame, Tick};

use crate::memo::Chunk;

/// Moments that are shared in one piece, so that publishing copies few pointers.
const BLOCK: usize = 16;

/// The frames of the last seconds, of consecutive ticks, as they stood when the newest was published: what a view computes
/// a snapshot from, whatever is published meanwhile.
pub(crate) struct History {
    /// Whole ones, oldest first.
    blocks: Vec<Arc<[Arc<Moment>]>>,
    /// Those after them: at least one.
    recent: Vec<Arc<Moment>>,
    ticks_max: usize,
    fresh: OnceLock<Fresh>,
}

/// One frame.
pub(crate) struct Moment {
    pub(crate) frame: Arc<Frame>,
    /// Whether its roster differs from that of the frame before.
    has_news: bool,
    /// Players whose rows changed at this tick, in order.
    news: OnceLock<Box<[PlayerId]>>,
}

/// The cells that changed at the newest tick, in order, and for each the chunk that leads there from the tick before:
/// nearly all that streams need.
pub(crate) struct Fresh(Box<[(CellId, OnceLock<Chunk>)]>);

impl History {
    pub(crate) fn new(frame: Arc<Frame>, ticks_max: usize) -> Self {
        let moment = Moment { frame, has_news: true, news: OnceLock::new() };
        Self { blocks: Vec::new(), recent: vec![Arc::new(moment)], ticks_max, fresh: OnceLock::new() }
    }

    /// The history with one more frame.
    pub(crate) fn with(&self, frame: Arc<Frame>) -> Self {
        let newest = self.newest();
        if newest.epoch != frame.epoch || frame.tick != newest.tick.next() {
            // Another epoch, or a gap: no older frame is a base any more.
            return Self::new(frame, self.ticks_max);
        }
        let has_news = !Arc::ptr_eq(&newest.roster, &frame.roster);
        let (mut blocks, mut recent) = (self.blocks.clone(), self.recent.clone());
        // A session's players have most of a frame, and only the newest is asked for them.
        let last = recent.last_mut().expect("history keeps at least one");
        *last = Arc::new(last.superseded());
        if recent.len() == BLOCK {
            blocks.push(recent.as_slice().into());
            recent.clear();
            let surplus = (blocks.len() * BLOCK).saturating_sub(self.ticks_max) / BLOCK;
            blocks.drain(..surplus);
        }
        recent.push(Arc::new(Moment { frame, has_news, news: OnceLock::new() }));
        Self { blocks, recent, ticks_max: self.ticks_max, fresh: OnceLock::new() }
    }

    pub(crate) fn newest(&self) -> &Arc<Frame> {
        &self.recent.last().expect("history starts with a frame and keeps at least one").frame
    }

    /// The frame of a tick, where it is still there.
    pub(crate) fn frame(&self, tick: Tick) -> Option<&Arc<Frame>> {
        self.moment(tick).map(|moment| &moment.frame)
    }

    pub(crate) fn moment(&self, tick: Tick) -> Option<&Arc<Moment>> {
        let age = self.newest().tick.0.checked_sub(tick.0).and_then(|age| usize::try_from(age).ok())?;
        if age >= self.ticks_max.max(1) {
            return None;
        }
        match self.recent.len().checked_sub(age + 1) {
            Some(i) => self.recent.get(i),
            None => {
                let age = age - self.recent.len();
                let block = self.blocks.len().checked_sub(age / BLOCK + 1)?;
                self.blocks[block].get(BLOCK - 1 - age % BLOCK)
            }
        }
    }

    /// The frames after `tick`, as far back as they are still there, oldest first.
    pub(crate) fn after(&self, tick: Tick) -> impl Iterator<Item = &Arc<Frame>> + Clone {
        let newest = self.newest().tick;
        let count = newest.since(tick).min(self.ticks_max as u64);
        (0..count).rev().filter_map(move |age| self.frame(Tick(newest.0.checked_sub(age)?)))
    }

    /// A player's part of the frames after `tick`, oldest first; `newest` is that of the newest.
    pub(crate) fn seats_after<'a>(
        &'a self,
        tick: Tick,
        player: PlayerId,
        newest: Option<&'a SeatFrame>,
    ) -> impl Iterator<Item = (Tick, &'a SeatFrame)> + Clone {
        let last = self.newest().tick;
        let earlier = self.after(tick).take_while(move |frame| frame.tick < last);
        let earlier = earlier.filter_map(move |frame| Some((frame.tick, frame.seat(player)?)));
        earlier.chain(newest.map(|seat| (last, seat)))
    }

    /// What changed at the newest tick.
    pub(crate) fn fresh(&self) -> &Fresh {
        self.fresh.get_or_init(|| {
            let newest = self.newest();
            let changed = newest.cells.iter().enumerate().filter(|(_, cell)| cell.changed == newest.tick);
            Fresh(changed.map(|(i, _)| (CellId(i as u32), OnceLock::new())).collect())
        })
    }
}

impl Moment {
    fn superseded(&self) -> Self {
        Self { frame: Arc::new(self.frame.superseded()), has_news: self.has_news, news: self.news.clone() }
    }

    /// Players whose rows changed at this tick, in order.
    pub(crate) fn news(&self) -> &[PlayerId] {
        if !self.has_news {
            return &[];
        }
        self.news.get_or_init(|| {
            let rows = self.frame.roster.rows.iter().filter(|row| row.version == self.frame.tick);
            rows.map(|row| row.player).collect()
        })
    }
}

impl Fresh {
    /// The cells.
    pub(crate) fn cells(&self) -> impl ExactSizeIterator<Item = CellId> + '_ {
        self.0.iter().map(|(cell, _)| *cell)
    }

    pub(crate) fn slot(&self, cell: CellId) -> Option<&OnceLock<Chunk>> {
        self.0.binary_search_by_key(&cell, |slot| slot.0).ok().map(|i| &self.0[i].1)
    }
}

#[cfg(test)]
mod tests {
    use tickwire_shared::{Schema, SchemaParts};

    use super::*;

    fn frame(tick: u64, epoch: u32) -> Arc<Frame> {
        let schema = Schema::new(SchemaParts { game: "t".into(), ..SchemaParts::default() }).expect("valid");
        Arc::new(Frame { tick: Tick(tick), ..Frame::empty(&schema, epoch) })
    }

    #[test]
    fn every_frame_of_the_last_ticks_is_there_and_no_other() {
        for ticks_max in [1, 2, 15, 16, 17, 33, 100] {
            let mut history = History::new(frame(0, 0), ticks_max);
            for tick in 1..150 {
                history = history.with(frame(tick, 0));
                let oldest = (tick + 1).saturating_sub(ticks_max as u64);
                for asked in 0..=tick + 2 {
                    let found = history.frame(Tick(asked)).map(|frame| frame.tick);
                    let expected = (oldest..=tick).contains(&asked).then_some(Tick(asked));
                    assert_eq!(found, expected, "of {ticks_max} at {tick}");
                }
                let after: Vec<u64> = history.after(Tick(tick.saturating_sub(20))).map(|frame| frame.tick.0).collect();
                assert_eq!(after, (oldest.max(tick.saturating_sub(20) + 1)..=tick).collect::<Vec<_>>());
                assert!(history.blocks.len() <= ticks_max / BLOCK + 1);
            }
        }
    }

    #[test]
    fn after_a_gap_or_in_another_epoch_there_are_no_bases() {
        let history = History::new(frame(4, 0), 10).with(frame(5, 0));
        assert!(history.frame(Tick(4)).is_some());
        assert!(history.with(frame(7, 0)).frame(Tick(5)).is_none());
        assert!(history.with(frame(6, 1)).frame(Tick(5)).is_none());
    }
}
