//! Which rows of the roster a stream has been sent.

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tickwire_shared::{PlayerId, PlayerStatus, Roster, RosterRow, Tick};

use crate::{history::History, snapshot::Snapshot};

/// All rows up to one have been sent, in order of version and player.
#[derive(Debug, Default)]
pub(crate) struct RosterCursor {
    sent: (Tick, PlayerId),
    done: Option<Arc<Roster>>,
}

impl RosterCursor {
    /// Puts the next rows into a snapshot, those that changed longest ago first: `rows_max` of them, and none after
    /// `bytes_max`.
    pub(crate) fn fill(&mut self, history: &History, rows_max: usize, bytes_max: usize, snapshot: &mut Snapshot) {
        let newest = history.newest();
        let all_sent = (newest.tick, PlayerId(u32::MAX));
        if self.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, &newest.roster)) {
            self.sent = all_sent;
            return;
        }
        let bytes_before = snapshot.header_len();
        let mut put = |row: &RosterRow, sent: &mut (Tick, PlayerId)| {
            let has_room = snapshot.header_len() - bytes_before <= bytes_max;
            if has_room {
                *sent = (row.version, row.player);
                snapshot.put_roster_row(&message(row));
            }
            has_room
        };
        let mut rows_left = rows_max;
        if history.moment(self.sent.0).is_some() {
            for tick in self.sent.0.0..=newest.tick.0 {
                let moment = history.moment(Tick(tick)).expect("between two that are there");
                for &player in moment.news() {
                    let row = newest.roster.row(player).filter(|row| (row.version, player) > self.sent);
                    // One that has changed again since comes with the news of that tick.
                    let Some(row) = row.filter(|row| row.version == Tick(tick)) else { continue };
                    if rows_left == 0 || !put(row, &mut self.sent) {
                        return;
                    }
                    rows_left -= 1;
                }
            }
        } else {
            let mut due: Vec<&RosterRow> =
                newest.roster.rows.iter().filter(|row| (row.version, row.player) > self.sent).collect();
            due.sort_unstable_by_key(|row| (row.version, row.player));
            for row in due {
                if rows_left == 0 || !put(row, &mut self.sent) {
                    return;
                }
                rows_left -= 1;
            }
        }
        self.done = Some(Arc::clone(&newest.roster));
        self.sent = all_sent;
    }
}

fn message(row: &RosterRow) -> pb::RosterRow {
    let status = match row.status {
        PlayerStatus::Connected => pb::PlayerStatus::Connected,
        PlayerStatus::Disconnected => pb::PlayerStatus::Disconnected,
        PlayerStatus::Left => pb::PlayerStatus::Left,
    };
    pb::RosterRow {
        player: row.player.0,
        name: row.name.to_string(),
        status: status as i32,
        scores: row.scores.clone(),
    }
}
