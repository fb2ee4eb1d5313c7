//! Many who are too slow, and some who are too fast: they are cut off or slowed down, and the others
//! talk on.

use std::time::{Duration, Instant};

use parlor::Config;
use tokio::task::JoinSet;

use crate::binary::{Daemon, Plain};
use crate::client::{self, TestServer};
use crate::hostile::reached;
use crate::support::{Client, seconds};

/// Takes as long as a first line may: some 2 s.
// clause: PACE-5
#[tokio::test]
async fn a_thousand_first_lines_that_dribble_are_cut_off_while_the_chat_goes_on() {
    const DRIBBLING: usize = 1000;
    let mut config = Config::default();
    config.first_command = 2;
    let server = TestServer::start(config);
    let mut ann = Client::tcp(&server).await.join("LOBBY", "ann").await;
    let mut bob = Client::tcp(&server).await.join("LOBBY", "bob").await;
    ann.expect("JOINED bob").await;
    let mut dribbling = JoinSet::new();
    for _ in 0..DRIBBLING {
        let client = Client::tcp(&server).await;
        dribbling.spawn(async move {
            let Client { mut reader, mut writer } = client;
            let mut all = std::pin::pin!(reader.all());
            let mut every = tokio::time::interval(Duration::from_millis(250));
            loop {
                tokio::select! {
                    all = &mut all => return all,
                    _ = every.tick() => writer.bytes(b"x").await,
                }
            }
        });
    }
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    let start = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            ended = dribbling.join_next() => match ended {
                Some(ended) => assert!(ended.expect("no panic").starts_with(b"BYE idle ")),
                None => break,
            },
            _ = every.tick() => {
                rounds += 1;
                let asked = Instant::now();
                bob.ask("MSG hello").await;
                ann.expect(&format!("MSG {rounds} ")).await;
                slowest = slowest.max(asked.elapsed());
                assert!(start.elapsed() < seconds(20), "{} dribble on", dribbling.len());
            }
        }
    }
    println!("{rounds} rounds beside it, the slowest {slowest:?}");
    // It is counted when it is closed, a moment after its end is read.
    while reached(&server.server.metrics(), "first-command") < DRIBBLING as u64 {
        assert!(start.elapsed() < seconds(20), "some are not counted");
        tokio::task::yield_now().await;
    }
    assert!(rounds > 20 && slowest < seconds(2), "{rounds} rounds, the slowest {slowest:?}");
}

/// Lines a second, and at once, that each may send.
const RATE: usize = 50;
const BURST: usize = 100;

/// Takes 3 s, in which a flood would come through.
// clause: PACE-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_is_not_read_any_more_and_the_others_talk_on() {
    const FLOODERS: usize = 3;
    let limits = ["--rate", &RATE.to_string(), "--burst", &BURST.to_string()];
    let daemon = Daemon::start(&limits).await;
    let mut ann = client::Client::join(daemon.addr(), "LOBBY", "ann").await;
    let mut bob = client::Client::join(daemon.addr(), "LOBBY", "bob").await;
    let start = Instant::now();
    let mut floods = JoinSet::new();
    for number in 0..FLOODERS {
        let mut flooder = Plain::in_lobby(daemon.addr(), &format!("flooder{number}")).await;
        floods.spawn(async move {
            let lines = "MSG flood\n".repeat(1000);
            loop {
                flooder.send(&lines).await;
            }
        });
    }
    let (mut flooded, mut latencies) = (0, Vec::new());
    // Not quite so often as he may.
    let mut every = tokio::time::interval(Duration::from_millis(25));
    while start.elapsed() < seconds(3) {
        every.tick().await;
        let asked = Instant::now();
        bob.send("MSG hello").await;
        while !bob.line().await.starts_with("OK MSG ") {}
        loop {
            let line = ann.line().await;
            if line.ends_with(" bob hello") {
                break;
            }
            flooded += usize::from(line.ends_with(" flood"));
        }
        latencies.push(asked.elapsed());
    }
    let took = start.elapsed();
    floods.shutdown().await;
    latencies.sort();
    let (median, p99) = (latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100]);
    println!("{flooded} lines of floods in {took:?}; others take {median:?}, 99 of 100 {p99:?}");
    let may = FLOODERS * (BURST + (RATE as f64 * took.as_secs_f64()) as usize + 1);
    assert!((FLOODERS * BURST..=may).contains(&flooded), "{flooded} lines, {may} at most");
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
}
