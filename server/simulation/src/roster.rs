//! The roster from tick to tick: rows carry the tick of their last change, and those of leavers stay for a while.

use std::{collections::VecDeque, sync::Arc};

use tickwire_shared::{Digest, PlayerId, PlayerStatus, Roster, RosterRow, Scores, Tick, TickRate};

use crate::SeatChange;

/// How long the row of a player who left stays, so that every stream can be told.
pub const LEFT_ROWS_MS: u64 = 10_000;
/// The most rows of players who left; the oldest go first.
pub const LEFT_ROWS_MAX: usize = 1024;

/// Keeps the roster.
#[derive(Debug)]
pub(crate) struct RosterKeeper {
    roster: Arc<Roster>,
    digest: u64,
    columns: usize,
    left_ticks: u64,
    /// Who left, and when, oldest first.
    left: VecDeque<(Tick, PlayerId)>,
}

impl RosterKeeper {
    pub(crate) fn new(columns: usize, rate: TickRate) -> Self {
        let left_ticks = rate.ticks_in_ms(LEFT_ROWS_MS);
        Self { roster: Arc::default(), digest: 0, columns, left_ticks, left: VecDeque::new() }
    }

    /// One that goes on from rows in order of player, and from who left, oldest first: each of them has a row.
    pub(crate) fn going_on(columns: usize, rate: TickRate, rows: Vec<RosterRow>, left: &[(Tick, PlayerId)]) -> Self {
        let mut keeper = Self::new(columns, rate);
        keeper.left = left.iter().copied().collect();
        keeper.replace(rows);
        keeper
    }

    /// Who left, and when, oldest first.
    pub(crate) fn left(&self) -> impl Iterator<Item = (Tick, PlayerId)> {
        self.left.iter().copied()
    }

    pub(crate) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// A number that stands for all rows.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// Takes in what changed at `tick`; `scores` only where they may have changed.
    pub(crate) fn update(&mut self, tick: Tick, changes: &[SeatChange], scores: Option<&Scores>) {
        if changes.is_empty() && scores.is_none() {
            return;
        }
        let mut rows = self.roster.rows.clone();
        for change in changes {
            let player = change.player();
            let status = match change {
                SeatChange::Joined { name, .. } => {
                    let (name, scores) = (Arc::clone(name), vec![0; self.columns]);
                    // Players' numbers rise, so the new row is the last.
                    rows.push(RosterRow { player, name, status: PlayerStatus::Connected, scores, version: tick });
                    continue;
                }
                SeatChange::Reconnected { .. } => PlayerStatus::Connected,
                SeatChange::Disconnected { .. } => PlayerStatus::Disconnected,
                SeatChange::Left { .. } => {
                    self.left.push_back((tick, player));
                    PlayerStatus::Left
                }
            };
            let i = rows.binary_search_by_key(&player, |row| row.player).expect("a seated player has a row");
            rows[i].status = status;
            rows[i].version = tick;
        }
        for row in rows.iter_mut().filter(|_| scores.is_some()) {
            let scores = scores.map(|scores| scores.row(row.player)).unwrap_or_default();
            if row.scores != scores {
                row.scores = scores;
                row.version = tick;
            }
        }
        self.replace(rows);
    }

    /// Drops the rows of those who left long ago. Whose they were.
    pub(crate) fn forget(&mut self, tick: Tick) -> Vec<PlayerId> {
        let mut forgotten = Vec::new();
        while let Some(&(at, player)) = self.left.front()
            && (tick.since(at) >= self.left_ticks || self.left.len() > LEFT_ROWS_MAX)
        {
            self.left.pop_front();
            forgotten.push(player);
        }
        forgotten.sort_unstable();
        if !forgotten.is_empty() {
            let stays = |row: &&RosterRow| forgotten.binary_search(&row.player).is_err();
            self.replace(self.roster.rows.iter().filter(stays).cloned().collect());
        }
        forgotten
    }

    fn replace(&mut self, rows: Vec<RosterRow>) {
        if rows == self.roster.rows {
            return;
        }
        let mut digest = Digest::default();
        for row in &rows {
            digest.write(u64::from(row.player.0));
            digest.write(row.status as u64);
            digest.write(row.version.0);
            row.name.bytes().for_each(|byte| digest.write(byte.into()));
            row.scores.iter().for_each(|&score| digest.write(u64::from(score as u32)));
        }
        self.digest = digest.finish();
        self.roster = Arc::new(Roster { rows });
    }
}
