//! A plain TCP server on tokio, as one writes it: a task per connection, which a watch channel wakes at each tick.
//!
//! It runs on one current-thread runtime: that is the cheapest that tokio offers, so that ratios to it flatter nobody.

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::watch,
    time::Instant,
};

use crate::{
    child::{Said, say},
    floor::PlainConfig,
    frame,
    pace::Pace,
};

/// Serves until the process is ended.
pub(crate) fn run(config: PlainConfig) -> io::Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(serve(config))
}

async fn serve(config: PlainConfig) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&Said::Listening { address: listener.local_addr()? });
    let (publish, newest) = watch::channel(Bytes::new());
    tokio::spawn(tick(config, publish));
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        // It ends with its connection.
        tokio::spawn(play(socket, newest.clone()));
    }
}

async fn tick(config: PlainConfig, publish: watch::Sender<Bytes>) {
    let mut message = frame::message(config.body_bytes);
    let (pace, start) = (Pace::start(config.rate), Instant::now());
    for tick in 1.. {
        tokio::time::sleep_until(start + Duration::from_nanos(pace.due_ns(tick) - pace.due_ns(0))).await;
        frame::stamp(&mut message, pace.due_ns(tick));
        publish.send_replace(Bytes::copy_from_slice(&message));
    }
}

async fn play(mut socket: TcpStream, mut newest: watch::Receiver<Bytes>) -> io::Result<()> {
    let (mut reader, mut writer) = socket.split();
    let mut buffer = [0; 1024];
    loop {
        tokio::select! {
            // The sender lives as long as the process.
            _ = newest.changed() => {
                let message = newest.borrow_and_update().clone();
                writer.write_all(&message).await?;
            }
            read = reader.read(&mut buffer) => if read? == 0 {
                return Ok(());
            }
        }
    }
}
