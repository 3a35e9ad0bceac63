//! Recorded human inputs: Doom demo lumps, 35 Hz, of one to four players.
//!
//! A demo is a header of 13 bytes and then, per tic and player, 4 bytes: forward move, side move, turn, buttons. Byte 0x80
//! in the place of a command ends it; what follows is not read, since newer engines put notes of their own there.

use std::{fs, io, path::Path};

use tickwire_shared::TickRate;

const HEADER_BYTES: usize = 13;
const COMMAND_BYTES: usize = 4;
const PLAYERS_AT: usize = 9;
const PLAYERS_MAX: usize = 4;
const END: u8 = 0x80;
/// Engine versions 1.4 to 1.10, which share the format.
const VERSIONS: std::ops::RangeInclusive<u8> = 104..=110;
/// Tics per second.
const TIC_HZ: u64 = 35;
/// Of a running player.
const MOVE_MAX: f64 = 50.0;
const BUTTON_ATTACK: u8 = 1;
const BUTTON_USE: u8 = 2;
/// The command is none of a player, but of the menu (pause, save).
const BUTTON_SPECIAL: u8 = 0x80;

/// The recorded inputs of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// By player; all of the same length.
    players: Vec<Vec<Tic>>,
}

/// What a player did in one tic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tic {
    forward: i8,
    /// To the right.
    side: i8,
    /// After this tic's turn: counter-clockwise from where the player began, in 1/256 turn.
    heading: u8,
    attack: bool,
    uses: bool,
}

/// What is wrong with the bytes of a demo, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Not even a header.
    #[error("offset {length}: the file ends within the header of {HEADER_BYTES} bytes")]
    Header {
        /// The file's length.
        length: usize,
    },
    /// Of another engine.
    #[error("offset 0: version {version} is not one of 104 to 110 (Doom 1.4 to 1.10)")]
    Version {
        /// The version found.
        version: u8,
    },
    /// A flag that is neither 0 nor 1.
    #[error("offset {offset}: {value} does not say whether a player is in the game: expected 0 or 1")]
    PlayerFlag {
        /// Where.
        offset: usize,
        /// What was found.
        value: u8,
    },
    /// Nobody plays.
    #[error("offset {PLAYERS_AT}: no player is in the game")]
    NoPlayers,
    /// The end within a tic.
    #[error("offset {offset}: the demo ends within a tic, before the command of its player {player}")]
    WithinTic {
        /// Where.
        offset: usize,
        /// Which of the file's players, from 1.
        player: usize,
    },
    /// No end marker.
    #[error("offset {offset}: the file ends without the end marker 0x80; it was cut")]
    NoEnd {
        /// The file's length.
        offset: usize,
    },
    /// Not one tic.
    #[error("offset {HEADER_BYTES}: the demo holds no tics")]
    Empty,
}

/// A trace that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TraceFileError {
    /// The file cannot be read.
    #[error("cannot read the trace {path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is no demo.
    #[error("{path} is no Doom demo: {source}")]
    Format {
        /// Which.
        path: String,
        /// What is wrong with it.
        source: TraceError,
    },
}

impl Trace {
    /// Reads a demo from a file.
    ///
    /// # Errors
    /// Where the file cannot be read or is no demo.
    pub fn read(path: &Path) -> Result<Self, TraceFileError> {
        let name = || path.display().to_string();
        let bytes = fs::read(path).map_err(|source| TraceFileError::Read { path: name(), source })?;
        Self::parse(&bytes).map_err(|source| TraceFileError::Format { path: name(), source })
    }

    /// Reads a demo.
    ///
    /// # Errors
    /// The first thing that is wrong with it, and its offset.
    pub fn parse(bytes: &[u8]) -> Result<Self, TraceError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(TraceError::Header { length: bytes.len() })?;
        if !VERSIONS.contains(&header[0]) {
            return Err(TraceError::Version { version: header[0] });
        }
        let flags = &header[PLAYERS_AT..PLAYERS_AT + PLAYERS_MAX];
        if let Some(i) = flags.iter().position(|flag| *flag > 1) {
            return Err(TraceError::PlayerFlag { offset: PLAYERS_AT + i, value: flags[i] });
        }
        let mut players = vec![Vec::new(); flags.iter().filter(|flag| **flag == 1).count()];
        if players.is_empty() {
            return Err(TraceError::NoPlayers);
        }
        let mut offset = HEADER_BYTES;
        loop {
            for (i, tics) in players.iter_mut().enumerate() {
                match *bytes.get(offset..).unwrap_or_default() {
                    [END, ..] if i == 0 => return Self::of(players),
                    [END, ..] => return Err(TraceError::WithinTic { offset, player: i + 1 }),
                    [forward, side, turn, buttons, ..] => tics.push(tic(tics.last(), [forward, side, turn, buttons])),
                    [..] => return Err(TraceError::NoEnd { offset: bytes.len() }),
                }
                offset += COMMAND_BYTES;
            }
        }
    }

    fn of(players: Vec<Vec<Tic>>) -> Result<Self, TraceError> {
        if players[0].is_empty() { Err(TraceError::Empty) } else { Ok(Self { players }) }
    }

    /// The number of players: 1 to 4.
    #[must_use]
    pub fn players(&self) -> usize {
        self.players.len()
    }

    /// The number of tics: at least 1.
    #[must_use]
    pub fn tics(&self) -> usize {
        self.players[0].len()
    }

    /// The first tick that falls in a tic.
    #[must_use]
    pub fn tick_of(tic: u64, rate: TickRate) -> u64 {
        u128::div_ceil(u128::from(tic) * u128::from(rate.hz()), u128::from(TIC_HZ)) as u64
    }

    /// What a player does at a tick, counted from the start of the trace, which repeats without end. `since` is the tick
    /// of the sample before: a use of any tic after it counts, so that none is lost at rates below the trace's.
    ///
    /// All else is that of the tic that the tick falls in: nothing is put between what was recorded.
    ///
    /// # Panics
    /// Where the trace has no such player.
    #[must_use]
    pub fn sample(&self, player: usize, tick: u64, since: Option<u64>, rate: TickRate) -> TraceSample {
        let tics = &self.players[player];
        let length = tics.len() as u64;
        let at = tick_to_tic(tick, rate);
        let Tic { forward, side, heading, attack, .. } = tics[(at % length) as usize];

        // Where a round ends, the next goes on.
        let rounds = u8::wrapping_mul((at / length) as u8, tics[tics.len() - 1].heading);
        let aim = f64::from(heading.wrapping_add(rounds)) / 256.0;

        let (x, y) = (libm::cos(aim * std::f64::consts::TAU), libm::sin(aim * std::f64::consts::TAU));
        let (forward, right) = (f64::from(forward) / MOVE_MAX, f64::from(side) / MOVE_MAX);
        let (move_x, move_y) = (forward * x + right * y, forward * y - right * x);
        // Who runs askew is no faster than who runs ahead.
        let length_of = (move_x * move_x + move_y * move_y).sqrt().max(1.0);

        let first = since.map_or(at, |since| tick_to_tic(since, rate) + 1);
        let uses = |tic: u64| tics[(tic % length) as usize].uses;
        // Of a very long gap, the last round tells all there is.
        let mut news = first.max(at.saturating_sub(length))..=at;
        let use_pressed = news.any(|tic| uses(tic) && !(tic > 0 && uses(tic - 1)));

        TraceSample { move_x: move_x / length_of, move_y: move_y / length_of, aim, attack, use_pressed }
    }
}

/// What a recorded player does, for a game on a plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceSample {
    /// East, −1 to 1.
    pub move_x: f64,
    /// North, −1 to 1; with [`move_x`](Self::move_x) a direction of length 1 at most.
    pub move_y: f64,
    /// In turns from east, counter-clockwise: 0 to 1.
    pub aim: f64,
    /// Whether the trigger is down.
    pub attack: bool,
    /// Whether the use button went down.
    pub use_pressed: bool,
}

/// The tic that a tick falls in.
fn tick_to_tic(tick: u64, rate: TickRate) -> u64 {
    (u128::from(tick) * u128::from(TIC_HZ) / u128::from(rate.hz())) as u64
}

fn tic(before: Option<&Tic>, [forward, side, turn, buttons]: [u8; 4]) -> Tic {
    let heading = before.map_or(0, |tic| tic.heading).wrapping_add(turn);
    let buttons = if buttons & BUTTON_SPECIAL == 0 { buttons } else { 0 };
    Tic {
        forward: forward as i8,
        side: side as i8,
        heading,
        attack: buttons & BUTTON_ATTACK != 0,
        uses: buttons & BUTTON_USE != 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: [u8; 13] = [109, 2, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0];

    fn demo(commands: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        bytes.extend(commands.iter().flatten());
        bytes.push(END);
        bytes
    }

    fn rate(hz: u32) -> TickRate {
        TickRate::new(hz).unwrap()
    }

    /// A demo of one player.
    fn solo(commands: &[[u8; 4]]) -> Trace {
        let mut bytes = demo(commands);
        bytes[10] = 0;
        Trace::parse(&bytes).unwrap()
    }

    #[test]
    fn the_shipped_demos_are_read_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces");
        let shape = |name: &str| {
            let trace = Trace::read(&folder.join(name)).unwrap();
            (trace.players(), trace.tics())
        };
        assert_eq!(shape("freedm_DEMO1.lmp"), (4, 5204));
        assert_eq!(shape("freedm_DEMO2.lmp"), (3, 3719));
        assert_eq!(shape("freedoom1_DEMO4.lmp"), (1, 6467));
        assert_eq!(shape("freedoom2_DEMO2.lmp"), (1, 4785));
    }

    #[test]
    fn a_malformed_demo_is_refused_with_the_offset() {
        let good = demo(&[[50, 0, 0, 0]; 4]);
        let parse = |bytes: &[u8]| Trace::parse(bytes).map(|trace| trace.tics());
        let with = |offset: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[offset] = value;
            Trace::parse(&bytes).map(|trace| trace.tics())
        };
        assert_eq!(parse(&good), Ok(2));
        assert_eq!(parse(&[]), Err(TraceError::Header { length: 0 }));
        assert_eq!(parse(&good[..12]), Err(TraceError::Header { length: 12 }));
        assert_eq!(with(0, 111), Err(TraceError::Version { version: 111 }));
        assert_eq!(with(11, 7), Err(TraceError::PlayerFlag { offset: 11, value: 7 }));
        assert_eq!(parse(&[&HEADER[..9], &[0, 0, 0, 0, END]].concat()), Err(TraceError::NoPlayers));
        assert_eq!(with(17, END), Err(TraceError::WithinTic { offset: 17, player: 2 }));
        assert_eq!(parse(&good[..good.len() - 1]), Err(TraceError::NoEnd { offset: 29 }));
        assert_eq!(parse(&good[..19]), Err(TraceError::NoEnd { offset: 19 }));
        assert_eq!(parse(&[&HEADER[..], &[END]].concat()), Err(TraceError::Empty));
        assert_eq!(
            TraceError::NoEnd { offset: 29 }.to_string(),
            "offset 29: the file ends without the end marker 0x80; it was cut"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Trace::read(Path::new("/nowhere/x.lmp")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read the trace /nowhere/x.lmp: "), "{error}");
    }

    #[test]
    fn moves_are_relative_to_the_accumulated_turn() {
        // A quarter turn to the left over four tics, then ahead, then to the right.
        let mut commands = vec![[0, 0, 16, 0]; 4];
        commands.extend([[50, 0, 0, 0], [0, 50, 0, 0], [50, 50, 0, 0]]);
        let trace = solo(&commands);
        let at = |tic| trace.sample(0, tic, None, rate(35));
        let near = |sample: TraceSample, x: f64, y: f64| {
            assert!((sample.move_x - x).abs() < 1e-9 && (sample.move_y - y).abs() < 1e-9, "{sample:?}");
        };
        assert_eq!(at(4).aim, 0.25);
        near(at(4), 0.0, 1.0);
        near(at(5), 1.0, 0.0);
        near(at(6), 0.5_f64.sqrt(), 0.5_f64.sqrt());
    }

    #[test]
    fn a_tic_is_held_until_the_next_and_turns_go_on_where_the_trace_begins_anew() {
        let trace = solo(&[[0, 0, 8, 0], [0, 0, 120, 0]]);
        let aims: Vec<f64> = (0..10).map(|tick| trace.sample(0, tick, None, rate(70)).aim * 256.0).collect();
        assert_eq!(aims, [8.0, 8.0, 128.0, 128.0, 136.0, 136.0, 0.0, 0.0, 8.0, 8.0]);
    }

    #[test]
    fn each_press_of_use_is_one_edge_at_any_rate() {
        let mut commands = vec![[0, 0, 0, 0]; 70];
        for tic in [3, 10, 11, 12, 40, 42, 69] {
            commands[tic][3] = BUTTON_USE;
        }
        let trace = solo(&commands);
        for hz in [7, 20, 30, 35, 60, 144, 240] {
            let mut edges = 0;
            let mut since = None;
            for tick in 0..=u64::from(hz) * 2 {
                edges += u32::from(trace.sample(0, tick, since, rate(hz)).use_pressed);
                since = Some(tick);
            }
            assert_eq!(edges, 5, "{hz} Hz");
        }
    }

    #[test]
    fn commands_of_the_menu_press_nothing() {
        let sample = solo(&[[0, 0, 0, BUTTON_SPECIAL | BUTTON_ATTACK | BUTTON_USE]]).sample(0, 0, None, rate(35));
        assert!(!sample.attack && !sample.use_pressed);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
            let bytes = if header { [&HEADER[..], &bytes].concat() } else { bytes };
            if let Ok(trace) = Trace::parse(&bytes) {
                prop_assert!(trace.tics() > 0 && trace.players() > 0);
            }
        }

        #[test]
        fn what_a_trace_samples_is_in_range(
            commands in proptest::collection::vec(any::<[u8; 4]>(), 1..50), hz in 1..=240_u32,
            tick in any::<u64>(), gap in 0..100_000_u64
        ) {
            let commands: Vec<[u8; 4]> = commands.into_iter().map(|[f, s, t, b]| [f & 0x7f, s, t, b]).collect();
            let sample = solo(&commands).sample(0, tick, Some(tick.saturating_sub(gap)), rate(hz));
            prop_assert!(sample.move_x * sample.move_x + sample.move_y * sample.move_y <= 1.0 + 1e-9);
            prop_assert!((0.0..1.0).contains(&sample.aim));
        }
    }
}
