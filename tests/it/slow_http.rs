//! slowhttptest, which others made to hurt servers, against the real program. If it isn't installed
//! the test fails with the name of its package; `scripts/test` installs it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::task::JoinSet;

use crate::binary::{Daemon, Program, parlor};
use crate::bridge::{Ws, get};
use crate::client::Client;
use crate::hostile::reached;

/// Connections of an attack.
const SLOW: usize = 150;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a round of the chat beside it may take: long, for machines that are busy.
const ROUND: Duration = Duration::from_secs(2);

/// An attack: its arguments, the file it asks for, and how often it is begun.
type Attack = (&'static str, &'static str, usize);

const ATTACKS: [Attack; 4] = [
    ("-H", "", 1),
    ("-X", "parlor.js", 1),
    // The first of these is answered at once, and the tool begins no more then. 800 ranges fit into
    // a head.
    ("-B", "", 5),
    ("-R -b 800", "", 5),
];

/// Attacks; returns what slowhttptest shows, and when it ended: at the latest when all of its
/// connections are closed.
async fn attack((words, file, times): Attack, web: SocketAddr) -> (&'static str, String, Instant) {
    let mut all = String::new();
    for _ in 0..times {
        let mut command = Command::new("slowhttptest");
        let slow = SLOW.to_string();
        // Each second a header, a bit of the body, or 5 bytes read of what a small window lets come.
        command.args(words.split(' ')).args(["-c", &slow, "-r", &slow, "-l", "10", "-i", "1"]);
        command.args(["-s", "8192", "-n", "1", "-w", "10", "-y", "20", "-z", "5"]);
        command.args(["-u", &format!("http://{web}/{file}")]);
        let program = Program::spawn("slowhttptest", "slowhttptest", command);
        let (_, shown) = program.wait().await;
        assert!(shown.contains("YES") && !shown.contains("NO\u{1b}"), "{words}: {shown}");
        all.push_str(&shown);
    }
    (words, all, Instant::now())
}

/// Takes as long as slowhttptest reads slowly: some 11 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_bodies_ranges_and_readers_are_cut_off_while_the_chat_goes_on() {
    let mut command = parlor(&["--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    command.env_remove("PARLOR_NO_WEB");
    let daemon = Daemon::spawn(command).await;
    let web = daemon.web_addr();
    let mut line = Client::join(daemon.addr(), "LOBBY", "line").await;
    let mut ws = Ws::join(web, "web").await;
    line.expect("JOINED web").await;
    // One more for the request of each round.
    let files = daemon.files() + 1;
    let mut attacks = JoinSet::new();
    let start = Instant::now();
    for kind in ATTACKS {
        attacks.spawn(attack(kind, web));
    }
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    let (mut most, mut cut_off) = (0, None);
    let mut ended = Vec::new();
    let mut every = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            attack = attacks.join_next() => match attack {
                Some(attack) => ended.push(attack.expect("no panic")),
                None => break,
            },
            _ = every.tick() => {
                rounds += 1;
                let asked = Instant::now();
                ws.send("MSG from the page").await;
                ws.expect(&format!("OK MSG {rounds} ")).await;
                line.expect(&format!("MSG {rounds} ")).await;
                let metrics = get(web, "/metrics").await;
                slowest = slowest.max(asked.elapsed());
                most = most.max(daemon.files());
                let late = reached(metrics.text(), "handshake");
                if late >= 2 * SLOW as u64 && daemon.files() <= files {
                    cut_off.get_or_insert_with(Instant::now);
                }
            }
        }
    }
    let cut_off = cut_off.expect("all of them were cut off at the limit");
    println!(
        "at most {most} files; all cut off after {:?}; {rounds} rounds, the slowest {slowest:?}",
        cut_off - start
    );
    assert!(most > files + SLOW, "{most} files: that was no attack");
    assert!(cut_off - start >= HEAD, "a head has {HEAD:?}");
    for (words, shown, at) in &ended {
        match *words {
            // The server has ended them; what it had sent, and was still being read, is the kernel's.
            "-X" => assert!(cut_off < *at, "{words}: {shown}"),
            _ => assert!(!shown.contains("time limit"), "{words}: {shown}"),
        }
    }
    assert!(rounds > 50 && slowest < ROUND, "{rounds} rounds, the slowest {slowest:?}");
}
