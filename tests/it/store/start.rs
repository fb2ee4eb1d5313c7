//! How soon a store with much in it is served.

use std::time::{Duration, Instant};

use super::{Place, connect, kill};
use crate::binary::Daemon;
use crate::support::{Client, number};

const ROOMS: usize = 100;
/// Messages of each: all that a room keeps.
const MESSAGES: usize = 1000;
/// It is to be 250 ms. This is for a build that is not optimized, on a machine that is
/// busy; benches/instructions.txt guards the figure itself.
const BOUND: Duration = Duration::from_secs(2);
const STARTS: usize = 5;

/// Rooms full of messages; what takes their seats again.
async fn fill(daemon: &Daemon) -> Vec<String> {
    let rooms = (0..ROOMS).map(|_| async {
        let mut client = connect(daemon).await;
        let code = client.create("ann").await;
        let token = client.hold(600).await;
        let lines = "MSG Is anybody here who knows how long the exam on Friday will take?\n";
        let Client { mut reader, mut writer } = client;
        let sending = async { writer.bytes(lines.repeat(MESSAGES).as_bytes()).await };
        let reading = async {
            for _ in 0..MESSAGES {
                reader.expect("OK MSG ").await;
            }
        };
        tokio::join!(sending, reading);
        format!("RESUME {code} {token} 0")
    });
    futures_util::future::join_all(rooms).await
}

/// The median time from starting the program to its greeting. It ends as it is told.
async fn median_start(place: &Place, end: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begin = Instant::now();
        let daemon = place.daemon().await;
        connect(&daemon).await;
        times.push(begin.elapsed());
        // So that there is a log again.
        connect(&daemon).await.join("LOBBY", "zoe").await.ask("MSG hello").await;
        daemon.signal(end);
        daemon.wait().await;
    }
    times.sort_unstable();
    times[STARTS / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_messages_are_served_soon_after_a_stop_and_after_a_kill() {
    let place = Place::new();
    let daemon = place.daemon().await;
    let resume = fill(&daemon).await;
    daemon.terminate();
    daemon.wait().await;
    for end in ["TERM", "KILL"] {
        let median = median_start(&place, end).await;
        println!("to the greeting after {end}: {median:?}");
        assert!(median < BOUND, "{end}: {median:?}");
    }
    let daemon = place.daemon().await;
    for resume in resume {
        let lines = connect(&daemon).await.ask(&resume).await;
        let reply = lines.last().expect("a reply");
        assert!(reply.starts_with("OK RESUME ") && number(reply, 6) == MESSAGES as u64, "{reply}");
    }
    kill(daemon).await;
}
