//! Nobody is stalled by somebody who doesn't read, or sends too fast, and he costs the server next to
//! nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parlor::{Config, Hub};

use crate::binary::Daemon;
use crate::client::Client;

/// Members who never read.
const IDLERS: usize = 200;
/// Bytes that each of them may cost: references to the lines that are next for him.
const IDLER: usize = 10 << 10;
const READERS: usize = 50;
const MESSAGES: usize = 10_000;
const TEXT_BYTES: usize = 200;
/// Messages that are under way at one time.
const WINDOW: usize = 50;
/// What the process may take beyond the log.
const MEMORY: usize = 2 << 20;
/// The whole log, as it is encoded: ids, times and names are shorter than this.
const LOG: usize = MESSAGES * (TEXT_BYTES + "MSG 10000 2026-11-21T19:06:00.123Z speaker \n".len());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_who_never_read_cost_the_others_nothing_and_the_server_little() {
    let daemon = Daemon::start(&[]).await;
    let address = daemon.addr();
    let mut idler = Client::join(address, "LOBBY", "idler").await;
    let mut others = Vec::new();
    for number in 1..IDLERS {
        others.push(Client::join(address, "LOBBY", &format!("idler{number}")).await);
    }
    let mut readers = Vec::new();
    for number in 0..READERS {
        readers.push(Client::join(address, "LOBBY", &format!("reader{number}")).await);
    }
    let mut speaker = Client::join(address, "LOBBY", "speaker").await;
    speaker.expect_nothing().await;
    let before = daemon.resident_bytes();
    let start = Instant::now();

    let readers: Vec<_> = readers
        .into_iter()
        .map(|mut reader| {
            tokio::spawn(async move {
                let mut next = 1;
                while next <= MESSAGES {
                    let line = reader.line().await;
                    if let Some(message) = line.strip_prefix("MSG ") {
                        assert!(message.starts_with(&format!("{next} ")), "{line}");
                        next += 1;
                    }
                }
                reader
            })
        })
        .collect();
    let message = format!("MSG {}\n", "x".repeat(TEXT_BYTES)).repeat(WINDOW);
    for _ in 0..MESSAGES / WINDOW {
        speaker.send(message.trim_end()).await;
        for _ in 0..WINDOW {
            speaker.expect("OK MSG ").await;
        }
    }
    let mut still_here = Vec::new();
    for reader in readers {
        let mut reader = reader.await.expect("a reader");
        reader.expect_nothing().await;
        still_here.push(reader);
    }
    let took = start.elapsed();
    let grown = daemon.resident_bytes().saturating_sub(before);
    println!("{MESSAGES} messages to {READERS} readers in {took:?}; {grown} bytes, log {LOG}");
    let may = MEMORY + LOG + IDLERS * IDLER;
    assert!(grown <= may, "{grown} bytes more, not {may}, of which {LOG} may be the log");

    // Nothing is lost to him either: this much is still kept.
    let mut heard = 0;
    while heard < MESSAGES {
        heard += usize::from(idler.line().await.starts_with("MSG "));
    }
    idler.expect_nothing().await;
}

/// Connections that send more lines than they may.
const SENDERS: usize = 200;
/// Bytes of one read.
const READ: usize = 8 << 10;
/// What each of them may take: its read as it came, the lines taken from it, and its buffers.
const SENDER: usize = 40 << 10;

#[tokio::test]
async fn who_must_wait_for_his_pace_costs_little_more_than_the_bytes_that_he_has_sent() {
    for line in ["\n", "x\n"] {
        let daemon = Daemon::start(&["--rate", "1", "--burst", "1"]).await;
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            senders.push(Client::connect(daemon.addr()).await);
        }
        let before = daemon.resident_bytes();
        let lines = format!("PING\n{}", line.repeat(READ / line.len() - 3));
        for sender in &mut senders {
            sender.send(&lines).await;
        }
        // Then the read of which it was the first line has been taken apart.
        for sender in &mut senders {
            sender.expect("OK PING").await;
        }
        let each = daemon.resident_bytes().saturating_sub(before) / SENDERS;
        println!("{each} bytes for each who sends {line:?}");
        assert!(each <= SENDER, "{each} bytes for each who sends {line:?}");
    }
}

/// Members of a room whose news are delivered by a task.
const SLEEPERS: usize = 100;

/// Polls a future until it is done, and counts how often that was asked for.
async fn counted<T>(future: impl Future<Output = T>, polls: &AtomicUsize) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(cx)
    })
    .await
}

#[tokio::test]
async fn who_has_heard_all_is_not_woken_again() {
    let hub = Hub::new(Config::default());
    let polls = Arc::new(AtomicUsize::new(0));
    for number in 0..SLEEPERS {
        let mut seat = hub.join("LOBBY", &format!("sleeper{number}")).expect("a seat");
        let polls = polls.clone();
        tokio::spawn(async move { while counted(seat.next(), &polls).await.is_some() {} });
    }
    let speaker = hub.join("LOBBY", "speaker").expect("a seat");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let before = polls.load(Ordering::Relaxed);
    speaker.say("hello").await.expect("a message");
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let polls = polls.load(Ordering::Relaxed) - before;
    assert!((SLEEPERS..=4 * SLEEPERS).contains(&polls), "{polls} times");
}
