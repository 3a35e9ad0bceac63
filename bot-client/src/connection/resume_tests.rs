//! A client that loses its connections to a scripted server.

use std::collections::HashMap;

use tickwire_proto::v1::{client_message::Kind as Up, server_message::Kind as Down};
use tokio::sync::mpsc;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    scripted::{Peer, serve, snapshot, welcome},
    *,
};
use crate::core::{GaveUp, Resume};

/// At once, so that tests take no time.
const AT_ONCE: Resume = Resume {
    give_up_after: Duration::from_secs(30),
    backoff_min: Duration::from_millis(1),
    backoff_max: Duration::from_millis(2),
};

fn with_token(token: u8, change: impl FnOnce(&mut pb::Welcome)) -> Down {
    let Down::Welcome(mut welcome) = welcome() else { panic!("a welcome") };
    welcome.resume_token = vec![token; 32];
    change(&mut welcome);
    Down::Welcome(welcome)
}

fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "tickwire", HashMap::<String, String>::new());
    Status::with_error_details(code, "no", details)
}

/// A client that was let in with token 1, the server's half of its stream, and further ones that it opens.
async fn joined(resume: Resume) -> (Client, Peer, mpsc::Receiver<Peer>) {
    let (url, mut accepted) = serve(None).await;
    let greet = async {
        let mut peer = accepted.recv().await.unwrap();
        assert!(matches!(peer.receive().await, Some(Up::Hello(_))));
        peer.send(with_token(1, |_| {})).await;
        peer.send(Down::Snapshot(snapshot(101))).await;
        peer
    };
    let options = JoinOptions { resume, player_name: "ann".into(), ..JoinOptions::default() };
    let (client, peer) = tokio::join!(Client::connect(&url, &options), greet);
    let mut client = client.unwrap();
    while client.stats().snapshots == 0 {
        client.next().await.unwrap();
    }
    (client, peer, accepted)
}

/// The next stream, and the token that it came with.
async fn next_attempt(accepted: &mut mpsc::Receiver<Peer>) -> (Peer, Vec<u8>) {
    let mut peer = accepted.recv().await.unwrap();
    match peer.receive().await {
        Some(Up::Hello(hello)) => {
            assert_eq!((hello.player_name.as_str(), hello.schema_hash.len(), hello.attach_token.len()), ("ann", 32, 0));
            (peer, hello.resume_token)
        }
        other => panic!("{other:?}"),
    }
}

/// What the client tells of its connections, until `count` of such or the end.
async fn connection_events(client: &mut Client, count: usize) -> (Vec<Event>, Option<ClientError>) {
    let mut events = Vec::new();
    while events.len() < count {
        match client.next().await {
            Ok(Some(event @ (Event::ConnectionLost | Event::Reconnected { .. } | Event::GaveUp(_)))) => {
                events.push(event);
            }
            Ok(Some(_)) => {}
            Ok(None) => return (events, None),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

#[tokio::test]
async fn a_client_takes_its_seat_back_however_its_stream_was_lost_and_retries_what_may_pass() {
    let (mut client, peer, mut accepted) = joined(AT_ONCE).await;
    let server = async {
        let losses = [None, Some(Status::unavailable("later")), Some(refusal(Code::DeadlineExceeded, "SILENT"))];
        let (mut peer, mut token) = (peer, 1);
        for loss in losses {
            if let Some(status) = loss {
                peer.down.send(Err(status)).await.unwrap();
            }
            drop(peer);
            for passing in [Status::unavailable("starting"), refusal(Code::ResourceExhausted, "BUSY")] {
                let (refused, shown) = next_attempt(&mut accepted).await;
                assert_eq!(shown, [token; 32]);
                refused.down.send(Err(passing)).await.unwrap();
            }
            let (back, shown) = next_attempt(&mut accepted).await;
            assert_eq!(shown, [token; 32]);
            token += 1;
            back.send(with_token(token, |_| {})).await;
            peer = back;
        }
        peer
    };
    let (_peer, (events, error)) = tokio::join!(server, connection_events(&mut client, 6));
    assert!(error.is_none(), "{error:?}");
    let pair = [Event::ConnectionLost, Event::Reconnected { epoch_changed: false }];
    assert_eq!(events, [pair.clone(), pair.clone(), pair].concat());
    assert_eq!((client.stats().resumes, client.core().resume_token()), (3, &[4; 32][..]));
    assert_eq!(client.mirror().tick().0, 101, "what is held stands still");
}

#[tokio::test]
async fn a_new_epoch_is_told_and_played_from_its_first_snapshot_on() {
    let (mut client, peer, mut accepted) = joined(AT_ONCE).await;
    drop(peer);
    let server = async {
        let (mut peer, _) = next_attempt(&mut accepted).await;
        // One tick was lost by the crash.
        peer.send(with_token(2, |welcome| (welcome.epoch, welcome.tick) = (2, 100))).await;
        peer.send(Down::Snapshot(pb::Snapshot { epoch: 2, reset: true, ..snapshot(101) })).await;
        loop {
            match peer.receive_news().await {
                Some(Up::Ack(ack)) => break assert_eq!((ack.epoch, ack.newest_tick), (2, 101)),
                Some(_) => {}
                None => panic!("the client goes on"),
            }
        }
        peer
    };
    let play = async {
        let (events, _) = connection_events(&mut client, 2).await;
        assert_eq!(events, [Event::ConnectionLost, Event::Reconnected { epoch_changed: true }]);
        assert_eq!(client.mirror().tick().0, 0);
        loop {
            match client.next().await.unwrap() {
                Some(Event::Snapshot(applied)) => assert!(applied.new_epoch && applied.reset),
                Some(Event::Desync(error)) => panic!("{error}"),
                _ => {}
            }
        }
    };
    tokio::select! {
        _ = server => {}
        () = play => {}
    }
    assert_eq!((client.mirror().tick().0, client.mirror().epoch()), (101, 2));
}

#[tokio::test]
async fn the_token_before_the_newest_is_the_second_choice_and_the_end_says_why() {
    let (mut client, peer, mut accepted) = joined(AT_ONCE).await;
    drop(peer);
    let server = async {
        let (peer, _) = next_attempt(&mut accepted).await;
        peer.send(with_token(2, |_| {})).await;
        drop(peer);
        for token in [2, 1] {
            let (peer, shown) = next_attempt(&mut accepted).await;
            assert_eq!(shown, [token; 32]);
            peer.down.send(Err(refusal(Code::Unauthenticated, "UNKNOWN_TOKEN"))).await.unwrap();
        }
    };
    let ((), (events, error)) = tokio::join!(server, connection_events(&mut client, 99));
    assert_eq!(events.last(), Some(&Event::GaveUp(GaveUp::Refused)));
    let Some(ClientError::Status(status)) = error else { panic!("{error:?}") };
    assert_eq!((status.code, status.reason.as_str()), (Code::Unauthenticated, "UNKNOWN_TOKEN"));
}

#[tokio::test]
async fn a_seat_that_is_gone_is_asked_for_once() {
    let (mut client, peer, mut accepted) = joined(AT_ONCE).await;
    drop(peer);
    let server = async {
        let (peer, _) = next_attempt(&mut accepted).await;
        peer.down.send(Err(refusal(Code::FailedPrecondition, "GRACE_OVER"))).await.unwrap();
    };
    let ((), (events, error)) = tokio::join!(server, connection_events(&mut client, 99));
    assert_eq!(events, [Event::ConnectionLost, Event::GaveUp(GaveUp::Refused)]);
    assert_eq!(error.map(|error| error.code()), Some(Code::FailedPrecondition));
    assert!(accepted.try_recv().is_err());
}

#[tokio::test]
async fn who_broke_a_rule_was_displaced_or_does_not_want_to_resume_is_at_the_end() {
    let ends = [
        (AT_ONCE, Some(Status::invalid_argument("inputs.inputs[0].sequence: 0")), Code::InvalidArgument),
        (AT_ONCE, Some(refusal(Code::Aborted, "DISPLACED")), Code::Aborted),
        (AT_ONCE, Some(refusal(Code::ResourceExhausted, "FLOODING")), Code::ResourceExhausted),
        (Resume::OFF, None, Code::Unavailable),
    ];
    for (resume, status, code) in ends {
        let (mut client, peer, mut accepted) = joined(resume).await;
        if let Some(status) = status {
            peer.down.send(Err(status)).await.unwrap();
        }
        drop(peer);
        let (events, error) = connection_events(&mut client, 99).await;
        assert_eq!((events, error.map(|error| error.code())), (Vec::new(), Some(code)));
        assert!(accepted.try_recv().is_err());
    }
}

#[tokio::test]
async fn who_leaves_while_the_connection_is_lost_is_told_that_nobody_heard() {
    let patient = Resume { backoff_min: Duration::from_secs(20), backoff_max: Duration::from_secs(20), ..AT_ONCE };
    let (mut client, peer, _accepted) = joined(patient).await;
    drop(peer);
    assert_eq!(connection_events(&mut client, 1).await.0, [Event::ConnectionLost]);
    assert!(matches!(client.leave().await, Err(ClientError::Ended)));
}
