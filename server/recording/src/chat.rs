//! What was said while a session ran: beside the match, and of no consequence to it.

use std::{collections::VecDeque, io, time::SystemTime};

use mcap::{Summary, records::ChunkIndex};
use tickwire_proto::v1 as pb;
use tickwire_shared::{PlayerId, Tick};

use crate::{
    Recording, RecordingError,
    format::Topic,
    list,
    reader::Record,
    record::{checked, with_checksum},
};

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRecord {
    /// Rising in the session, from 1.
    pub id: u64,
    /// The newest tick when it was said.
    pub tick: Tick,
    /// When that was.
    pub time: SystemTime,
    /// Who; `None`: the server.
    pub from: Option<PlayerId>,
    /// Under which name.
    pub from_name: String,
    /// To this player alone; `None`: to a team, or to everyone.
    pub to: Option<PlayerId>,
    /// To this team; `None` where there is no `to` either: to everyone.
    pub team: Option<u32>,
    /// What.
    pub text: String,
}

impl ChatRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let number = |player: Option<PlayerId>| player.map_or(0, |player| player.0);
        with_checksum(&pb::ChatRecord {
            tick: self.tick.0,
            id: self.id,
            time: Some(self.time.into()),
            from_player: number(self.from),
            from_name: self.from_name.clone(),
            to_player: number(self.to),
            team: self.team,
            text: self.text.clone(),
            crc32: 0,
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let pb::ChatRecord { tick, id, time, from_player, from_name, to_player, team, text, .. } = checked(bytes)?;
        let player = |number: u32| Some(PlayerId(number)).filter(|player| player.0 != 0);
        Ok(Self {
            id,
            tick: Tick(tick),
            time: SystemTime::try_from(time.unwrap_or_default()).map_err(|error| format!("time: {error}"))?,
            from: player(from_player),
            from_name,
            to: player(to_player),
            team,
            text,
        })
    }

    /// About how much memory it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of_val(self) + self.from_name.len() + self.text.len()
    }
}

impl Recording {
    /// What was said, in that order, by reading all of the recording. An error is the last item; lines that are damaged by
    /// themselves are passed over.
    ///
    /// # Errors
    /// Where the file cannot be opened any more.
    pub fn chat(&self) -> Result<impl Iterator<Item = Result<ChatRecord, RecordingError>> + use<>, RecordingError> {
        Ok(self.records()?.filter_map(|record| match record {
            // The checksum is right. What it says in a later version's words is passed over.
            Ok(Record { topic: Topic::Chat, data, .. }) => ChatRecord::decode(&data).ok().map(Ok),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }))
    }

    /// The newest lines, oldest first, and no more than `most`. Of a finished recording no more is read than its indexes and the
    /// chunks that have such lines; of any other all of it, up to where it is damaged.
    ///
    /// # Errors
    /// Where the file cannot be read any more.
    pub fn newest_chat(&self, most: usize) -> Result<Vec<ChatRecord>, RecordingError> {
        let indexed = list::indexes(self.source()).and_then(|summary| self.newest_in_chunks(&summary, most).ok());
        let mut newest = match indexed {
            Some(newest) => newest,
            None => self.newest_of_all(most)?.into(),
        };
        newest.sort_by_key(|line| line.id);
        newest.drain(..newest.len().saturating_sub(most));
        Ok(newest)
    }

    fn newest_in_chunks(&self, summary: &Summary, most: usize) -> io::Result<Vec<ChatRecord>> {
        let mut newest = Vec::new();
        let Some(channel) = list::channel(summary, Topic::Chat) else { return Ok(newest) };
        let has_some = |chunk: &&ChunkIndex| chunk.message_index_offsets.contains_key(&channel);
        let mut places: Vec<u64> =
            summary.chunk_indexes.iter().filter(has_some).map(|chunk| chunk.chunk_start_offset).collect();
        places.sort_unstable();
        while newest.len() < most
            && let Some(place) = places.pop()
        {
            let messages = list::first_messages(self.source(), place, channel, None)?;
            newest.extend(messages.iter().filter_map(|data| ChatRecord::decode(data).ok()));
        }
        Ok(newest)
    }

    fn newest_of_all(&self, most: usize) -> Result<VecDeque<ChatRecord>, RecordingError> {
        let mut newest = VecDeque::new();
        for line in self.chat()? {
            match line {
                Ok(line) => newest.push_back(line),
                Err(error @ RecordingError::Io { .. }) => return Err(error),
                Err(_) => break,
            }
            newest.drain(..newest.len().saturating_sub(most));
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_survives_the_way_there_and_back_and_every_changed_byte_is_noticed() {
        let line = ChatRecord {
            id: 7,
            tick: Tick(300),
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_769_885_102_123),
            from: Some(PlayerId(3)),
            from_name: "Ada".into(),
            to: None,
            team: Some(0),
            text: "hello 🙂".into(),
        };
        let server = ChatRecord { from: None, from_name: String::new(), team: None, ..line.clone() };
        let direct = ChatRecord { to: Some(PlayerId(4)), team: None, ..line.clone() };
        for line in [&line, &server, &direct] {
            assert_eq!(ChatRecord::decode(&line.encode()).as_ref(), Ok(line));
        }
        let bytes = line.encode();
        for i in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[i] ^= 1;
            assert!(ChatRecord::decode(&broken).is_err(), "byte {i}");
        }
    }
}
