//! Buttons that are pressed just before the server is killed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tickwire_arena::Arena;
use tickwire_client::{
    Client, Event, JoinOptions,
    connection::{Conditions, ConnectOptions},
};
use tickwire_recording::{Recording, verify};
use tickwire_shared::InputMode;
use tokio::time::timeout;

use crate::{
    program::{data, only_recording},
    server::{Listening, PATIENCE, Server},
};

const KILLS: usize = 6;
/// A press that it takes longer to come back with may be given up: a client keeps it for three seconds.
const SOON: Duration = Duration::from_secs(2);

/// What happens next.
async fn next(client: &mut Client) -> Event {
    let event = timeout(PATIENCE, client.next()).await.expect("something happens");
    event.expect("the seat is taken back").expect("the server has not ended the stream")
}

/// Plays, with this held, for so many inputs: the last of them is sent.
async fn play(client: &mut Client, input: &[i32], inputs: u64) {
    client.set_input(input).expect("in range");
    let last = client.stats().inputs_sent + inputs;
    while client.stats().inputs_sent < last {
        next(client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_that_a_kill_overtakes_takes_effect_once() {
    let data = data();
    // Slow ticks, so that a busy machine's inputs come in time, too.
    let mut server = Listening::start(data.path(), &["--tick-rate", "20"]).await;
    let (address, url) = (server.address.clone(), format!("http://{}", server.address));
    // Whatever was sent is under way for a while.
    let conditions = Conditions { latency: Duration::from_millis(200), ..Conditions::default() };
    let connection = ConnectOptions { conditions, ..ConnectOptions::default() };
    let mut client = Client::connect_with(&url, &JoinOptions::default(), &connection).await.expect("a seat is free");
    let player = client.core().player();
    let schema = Arc::clone(client.core().schema());
    let edge = schema.inputs.iter().position(|field| field.mode == InputMode::Edge).expect("a rocket is fired by one");
    let neutral = schema.neutral_input();
    let mut pressed = neutral.clone();
    pressed[edge] = schema.inputs[edge].quantity.max;

    let (mut soon, mut recovered) = (Vec::new(), Vec::new());
    for kill in 0..KILLS {
        play(&mut client, &neutral, 10).await;
        play(&mut client, &pressed, 1).await;
        let sent = Instant::now();
        // From just sent to long consumed.
        play(&mut client, &neutral, 4 * (kill as u64 % 3)).await;
        server.server.kill();
        server = Server::spawn(data.path(), &["--listen", &address]).listening().await;
        let line = server.server.logs("session recovered").expect("it says so");
        recovered.push(line["tick"].as_u64().expect("a tick"));
        while next(&mut client).await != (Event::Reconnected { epoch_changed: true }) {}
        soon.push(sent.elapsed() < SOON);
    }
    play(&mut client, &neutral, 10).await;
    // One that a busy machine has sent too late is dropped whole.
    let late = client.stats().inputs_late;
    client.leave().await.expect("the server says goodbye");
    server.server.end();

    let recording = Recording::open(only_recording(data.path())).expect("a recording");
    verify(&recording, Arc::new(Arena)).expect("the same match");
    let (mut fresh, mut presses) = (Vec::new(), Vec::new());
    for tick in recording.ticks().expect("readable") {
        let record = tick.expect("sound").input;
        let inputs = record.inputs.iter().filter(|input| input.player == player && input.sequence > 0);
        for input in inputs {
            fresh.push(record.tick.0);
            presses.extend((input.values[edge] == pressed[edge]).then_some(record.tick.0));
        }
    }
    let firsts: Vec<u64> =
        recovered.iter().map(|at| *fresh.iter().find(|tick| *tick > at).expect("the player goes on")).collect();
    for kill in 0..KILLS {
        let since = kill.checked_sub(1).map_or(0, |before| recovered[before]);
        let is_own = |tick: &&u64| (since + 1..=recovered[kill]).contains(*tick) && !firsts.contains(tick);
        let (own, again) = (presses.iter().filter(is_own).count(), usize::from(presses.contains(&firsts[kill])));
        let told = format!("{kill}: {presses:?}, recovered at {recovered:?}, first inputs at {firsts:?}, {late} late");
        assert!(own + again <= 1, "{told}");
        assert!(own + again == 1 || !soon[kill] || late > 0, "{told}");
        assert!(own == 0 || kill % 3 > 0, "what is killed at once has not had it: {told}");
    }
}
