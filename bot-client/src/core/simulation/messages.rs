//! What the server may say, and what it may not.

use proptest::prelude::*;

use super::*;

#[test]
fn a_welcome_that_cannot_be_played_by_is_refused() {
    let join = |change: fn(&mut pb::Welcome)| {
        let mut first = welcome(1);
        let Some(Down::Welcome(welcome)) = &mut first.kind else { unreachable!() };
        change(welcome);
        Core::new(&JoinOptions::default(), first, Duration::ZERO).map(drop)
    };
    assert_eq!(join(|_| {}), Ok(()));
    assert_eq!(join(|welcome| welcome.player = 0), Err(ProtocolError::Player));
    assert!(matches!(join(|welcome| welcome.tick_rate = 241), Err(ProtocolError::TickRate(_))));
    assert!(matches!(join(|welcome| welcome.tick = 1 << 60), Err(ProtocolError::Tick { field: "welcome.tick", .. })));
    assert_eq!(join(|welcome| welcome.schema = None), Err(ProtocolError::NoSchema));
    assert!(matches!(join(|welcome| welcome.schema = Some(pb::Schema::default())), Err(ProtocolError::Schema(_))));
    let pong = pb::ServerMessage { kind: Some(Down::Pong(pb::Pong::default())) };
    assert_eq!(Core::new(&JoinOptions::default(), pong, Duration::ZERO).map(drop), Err(ProtocolError::NotWelcome));
    let options = JoinOptions { schema_hash: Some(tickwire_shared::SchemaHash([7; 32])), ..JoinOptions::default() };
    let refused = Core::new(&options, welcome(1), Duration::ZERO).map(drop);
    assert!(matches!(refused, Err(ProtocolError::SchemaHash { .. })));
}

#[test]
fn a_snapshot_that_does_not_fit_is_answered_with_one_resync_and_healed_by_a_reset() {
    let mut game = Match::new(0.020, 0.0, 11);
    game.run(1.0);
    // A cell's change against a base that nobody holds.
    let tick = game.server.tick + 1;
    let cells = vec![pb::CellUpdate { cell: 5, ..pb::CellUpdate::default() }];
    let bad = pb::Snapshot { cells, ..game.server.step() };
    game.down.send(game.now, 0.020, Down::Snapshot(bad));
    game.run(1.0);
    let resyncs = game.others.iter().filter(|kind| matches!(kind, Up::Resync(_))).count();
    let desyncs = game.events.iter().filter(|event| matches!(event, Event::Desync(_))).count();
    let stats = game.core.stats();
    assert_eq!((resyncs, desyncs, stats.resyncs, stats.hash_mismatches), (1, 1, 1, 0));
    assert!(stats.snapshots_ignored >= 1 && stats.snapshots_ignored <= 4);
    assert!(game.core.mirror().tick() > Tick(tick + 50));
}

#[test]
fn leaving_is_the_last_word() {
    let mut game = Match::new(0.020, 0.0, 14);
    game.run(1.0);
    game.core.leave();
    let now = Duration::from_secs_f64(game.now);
    assert!(matches!(game.core.poll_transmit(now).unwrap().kind, Some(Up::Leave(_))));
    assert_eq!((game.core.poll_transmit(now), game.core.next_timeout()), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn no_message_of_a_server_can_break_the_core(
        messages in proptest::collection::vec(hostile(), 1..40), gaps in proptest::collection::vec(0.0..2.0_f64, 40)
    ) {
        let mut core = Core::new(&JoinOptions::default(), welcome(6000), Duration::from_secs(1)).unwrap();
        let mut now = Duration::from_secs(1);
        for (kind, gap) in messages.into_iter().zip(gaps) {
            now += Duration::from_secs_f64(gap);
            // Errors end the stream in earnest; here it goes on.
            let _ = core.handle(pb::ServerMessage { kind: Some(kind) }, now);
            while core.poll_event(now).is_some() {}
            core.view(now);
            let mut sent = 0;
            while let Some(message) = core.poll_transmit(now) {
                sent += 1;
                prop_assert!(sent < 8);
                if let Some(Up::Inputs(inputs)) = message.kind {
                    prop_assert!(inputs.inputs[0].target_tick >= 1 && inputs.inputs[0].target_tick <= 1 << 53);
                }
            }
        }
    }
}

fn hostile() -> impl Strategy<Value = Down> {
    let number = || prop_oneof![Just(0), Just(u64::MAX), Just(1 << 53), 5000..7000_u64, any::<u64>()];
    prop_oneof![
        (any::<u8>(), number(), number(), number(), any::<i32>(), any::<i64>(), any::<bool>()).prop_map(
            |(epoch, tick, consumed_input, received_input, received_margin_us, slip_us, reset)| {
                Down::Snapshot(pb::Snapshot {
                    epoch: u32::from(epoch % 3),
                    tick,
                    consumed_input,
                    received_input,
                    received_margin_us,
                    slip_us,
                    reset,
                    ..pb::Snapshot::default()
                })
            }
        ),
        (1..20_u64, number(), any::<u32>(), any::<i64>())
            .prop_map(|(echo, tick, phase_us, slip_us)| Down::Pong(pb::Pong { echo, tick, phase_us, slip_us })),
        (any::<i32>(), any::<u32>(), 0..3_u64).prop_map(|(kind, deadline_ms, number)| Down::Notice(pb::Notice {
            kind: kind % 7,
            deadline_ms,
            number,
            text: String::new()
        })),
        any::<i32>().prop_map(|reason| Down::Goodbye(pb::Goodbye {
            reason,
            text: String::new(),
            ..pb::Goodbye::default()
        })),
    ]
}
