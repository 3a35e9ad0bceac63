//! A client of Tickwire: `GameService.Play`, without looking into the state.

use std::sync::Arc;

use tickwire_client::bots::{Behaviour, Moment, Role, assign};
use tickwire_proto::PROTOCOL_VERSION;
use tickwire_shared::{Schema, Tick, TickRate, schema_of};
use tickwire_wire::{Mirror, zigzag};

use super::{
    ClientError, Desk, DrainConfig, Speaker, Uplink, h2,
    scan::{self, Message},
    server_clock::ServerClock,
};
use crate::cases::Workload;

const PATH: &str = "/tickwire.v1.GameService/Play";
/// gRPC's header of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// The server's own limit is lower.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How far ahead of the newest tick inputs are for.
const LEAD_TICKS: u64 = 3;
/// A server that is further behind than this gets no more inputs until it has caught up.
const LEAD_TICKS_MAX: u64 = 8;
/// The clients that measure the server's clock, about four times a second each.
const PINGING: usize = 8;
const PINGS_PER_SECOND: u64 = 4;

/// Who plays a workload.
pub(super) struct Players {
    authority: String,
    schema: Arc<Schema>,
    view_radius: f64,
    roles: Vec<Role>,
    rate: TickRate,
    uplink: Uplink,
}

/// What all clients share.
pub(super) struct Shared {
    clock: ServerClock,
    /// The choice of inputs asks for what is seen: nothing.
    mirror: Mirror,
    rate: TickRate,
}

pub(super) struct Play {
    authority: String,
    view_radius: f64,
    uplink: Uplink,
    connection: Option<h2::Connection>,
    /// A message that came in parts.
    message: Vec<u8>,
    epoch: u32,
    newest_tick: u64,
    snapshots: u32,
    pings_every: Option<u64>,
    inputs: u64,
    sequence: u64,
    target: u64,
    behaviour: Behaviour,
    values: Vec<i32>,
}

impl Players {
    pub(super) fn new(
        workload: &Workload,
        config: &DrainConfig,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self {
            authority: config.address.to_string(),
            schema: schema_of(&*workload.game())?,
            view_radius: workload.view_radius(),
            roles: assign(&workload.behaviours(), config.clients)?,
            rate: TickRate::new(config.rate)?,
            uplink: config.uplink,
        })
    }

    pub(super) fn shared(&self) -> Shared {
        let clock = ServerClock::new(self.rate.hz());
        Shared { clock, mirror: Mirror::new(Arc::clone(&self.schema)), rate: self.rate }
    }

    pub(super) fn speaker(&self, i: usize) -> Play {
        Play {
            authority: self.authority.clone(),
            view_radius: self.view_radius,
            uplink: self.uplink,
            connection: None,
            message: Vec::new(),
            epoch: 0,
            newest_tick: 0,
            snapshots: 0,
            pings_every: (i < PINGING).then(|| (u64::from(self.rate.hz()) / PINGS_PER_SECOND).max(1)),
            inputs: 0,
            sequence: 0,
            target: 0,
            behaviour: Behaviour::new(&self.roles[i], &self.schema, i as u64),
            values: self.schema.neutral_input(),
        }
    }
}

impl Speaker for Play {
    type Shared = Shared;

    fn open(&mut self, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let mut connection = h2::Connection::open(&self.authority, PATH, out);
        connection.data(out, |out| message(out, |out| hello(self.view_radius, out)))?;
        self.connection = Some(connection);
        Ok(())
    }

    fn receive(&mut self, bytes: &[u8], desk: &mut Desk<'_, Shared>) -> Result<usize, ClientError> {
        let mut taken = 0;
        while let Some(connection) = &mut self.connection
            && let Some((data, length)) = connection.receive(&bytes[taken..], desk.out)?
        {
            taken += length;
            if self.message.is_empty() {
                let rest = self.take_messages(data, desk)?;
                self.message.extend_from_slice(rest);
            } else {
                let mut whole = std::mem::take(&mut self.message);
                whole.extend_from_slice(data);
                let left = self.take_messages(&whole, desk)?.len();
                whole.drain(..whole.len() - left);
                self.message = whole;
            }
        }
        Ok(taken)
    }

    fn input(&mut self, desk: &mut Desk<'_, Shared>) -> Result<(), ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        self.inputs += 1;
        if self.pings_every.is_some_and(|every| self.inputs.is_multiple_of(every)) {
            let now_ns = crate::pace::now_ns();
            connection.data(desk.out, |out| message(out, |out| ping(now_ns, out)))?;
        }
        if self.uplink != Uplink::Inputs || self.target >= self.newest_tick + LEAD_TICKS_MAX {
            return Ok(());
        }
        self.target = (self.target + 1).max(self.newest_tick + LEAD_TICKS);
        self.sequence += 1;
        let Shared { mirror, rate, .. } = &*desk.shared;
        let moment = Moment { tick: Tick(self.target), rate: *rate, mirror };
        self.behaviour.choose(&moment, &mut self.values);
        let inputs = Inputs {
            epoch: self.epoch,
            newest_tick: self.newest_tick,
            sequence: self.sequence,
            target: self.target,
            values: &self.values,
        };
        Ok(connection.data(desk.out, |out| message(out, |out| inputs.write(out)))?)
    }

    fn plays(&self) -> bool {
        self.newest_tick > 0
    }
}

impl Play {
    /// Takes in the gRPC messages that are whole; returns the rest.
    fn take_messages<'a>(&mut self, mut data: &'a [u8], desk: &mut Desk<'_, Shared>) -> Result<&'a [u8], ClientError> {
        while let Some((prefix, rest)) = data.split_first_chunk::<PREFIX_BYTES>() {
            let [compressed, length @ ..] = *prefix;
            let length = u32::from_be_bytes(length) as usize;
            if compressed != 0 || length > MESSAGE_BYTES_MAX {
                return Err(ClientError::Message(length));
            }
            let Some((message, rest)) = rest.split_at_checked(length) else { break };
            data = rest;
            self.take_message(message, desk)?;
        }
        Ok(data)
    }

    fn take_message(&mut self, bytes: &[u8], desk: &mut Desk<'_, Shared>) -> Result<(), ClientError> {
        match scan::server_message(bytes)? {
            Message::Snapshot(snapshot) => {
                let framed_bytes = bytes.len() + PREFIX_BYTES + h2::FRAME_HEADER_BYTES;
                let due_ns = desk.shared.clock.due_ns(snapshot.tick, snapshot.slip_us);
                desk.tally.message(snapshot.parts.all, framed_bytes, due_ns, desk.now_ns);
                desk.tally.parts(&snapshot.parts);
                desk.tally.input_late(snapshot.input_late);
                self.epoch = snapshot.epoch;
                self.newest_tick = snapshot.tick;
                self.snapshots = self.snapshots.wrapping_add(1);
                // Inputs acknowledge as they go.
                if let Uplink::Acks { every } = self.uplink
                    && self.snapshots.is_multiple_of(every)
                    && let Some(connection) = &mut self.connection
                {
                    connection.data(desk.out, |out| message(out, |out| ack(snapshot.epoch, snapshot.tick, out)))?;
                }
            }
            Message::Pong(pong) => desk.shared.clock.pong(&pong, desk.now_ns),
            Message::Goodbye => return Err(ClientError::Goodbye),
            Message::Other => {}
        }
        Ok(())
    }
}

/// Puts gRPC's prefix before what `write` appends.
fn message(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    write(out);
    let length = (out.len() - start - PREFIX_BYTES) as u32;
    out[start + 1..start + PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
}

/// `ClientMessage` with `Hello`.
fn hello(view_radius: f64, out: &mut Vec<u8>) {
    field(1, out, |out| {
        number(1, PROTOCOL_VERSION.into(), out);
        if view_radius > 0.0 {
            out.push(9 << 3 | 1);
            out.extend_from_slice(&view_radius.to_le_bytes());
        }
    });
}

/// `ClientMessage` with `Ack`.
fn ack(epoch: u32, newest_tick: u64, out: &mut Vec<u8>) {
    field(3, out, |out| {
        number(1, epoch.into(), out);
        number(2, newest_tick, out);
    });
}

/// `ClientMessage` with `Ping`.
fn ping(echo: u64, out: &mut Vec<u8>) {
    field(4, out, |out| number(1, echo, out));
}

/// `ClientMessage` with `Inputs` of one input.
struct Inputs<'a> {
    epoch: u32,
    newest_tick: u64,
    sequence: u64,
    target: u64,
    values: &'a [i32],
}

impl Inputs<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        field(2, out, |out| {
            number(1, self.epoch.into(), out);
            number(2, self.newest_tick, out);
            field(3, out, |out| {
                number(1, self.sequence, out);
                number(2, self.target, out);
                field(3, out, |out| self.values.iter().for_each(|&value| varint(zigzag(value).into(), out)));
            });
        });
    }
}

/// A field that holds a message or a packed list: less than 128 bytes of it.
fn field(id: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[id << 3 | 2, 0]);
    let start = out.len();
    write(out);
    let length = out.len() - start;
    debug_assert!(length < 128, "a longer length takes more bytes");
    out[start - 1] = length as u8;
}

fn number(id: u8, value: u64, out: &mut Vec<u8>) {
    if value > 0 {
        out.push(id << 3);
        varint(value, out);
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tickwire_proto::v1::{self as pb, client_message::Kind};

    use super::*;

    fn decoded(write: impl FnOnce(&mut Vec<u8>)) -> Kind {
        let mut bytes = Vec::new();
        write(&mut bytes);
        pb::ClientMessage::decode(&*bytes).expect("it is one").kind.expect("it says something")
    }

    proptest! {
        #[test]
        fn inputs_are_what_prost_reads(
            epoch: u32, newest_tick: u64, sequence: u64, target: u64, values in prop::collection::vec(any::<i32>(), 0..8)
        ) {
            let inputs = Inputs { epoch, newest_tick, sequence, target, values: &values };
            let read = decoded(|out| inputs.write(out));
            let input = pb::Input { sequence, target_tick: target, values: values.clone(), ..pb::Input::default() };
            prop_assert_eq!(read, Kind::Inputs(pb::Inputs { epoch, newest_tick, inputs: vec![input] }));
        }

        #[test]
        fn acks_and_pings_are_what_prost_reads(epoch: u32, newest_tick: u64, echo: u64) {
            prop_assert_eq!(decoded(|out| ack(epoch, newest_tick, out)), Kind::Ack(pb::Ack { epoch, newest_tick }));
            prop_assert_eq!(decoded(|out| ping(echo, out)), Kind::Ping(pb::Ping { echo }));
        }
    }

    #[test]
    fn a_hello_is_what_prost_reads() {
        for view_radius in [0.0, 50.0] {
            let wanted = pb::Hello { protocol_version: PROTOCOL_VERSION, view_radius, ..pb::Hello::default() };
            assert_eq!(decoded(|out| hello(view_radius, out)), Kind::Hello(wanted));
        }
    }

    #[test]
    fn a_message_has_its_length_before_it() {
        let mut out = vec![9];
        message(&mut out, |out| out.extend_from_slice(b"abc"));
        assert_eq!(out, b"\x09\0\0\0\0\x03abc");
    }
}
