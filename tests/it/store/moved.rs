//! The files of a running server are moved away, removed or replaced: nothing is acknowledged that a
//! restart would not find.

use std::fs;
use std::time::{Duration, Instant};

use super::{Place, connect};
use crate::binary::Daemon;
use crate::support::{Client, message};

/// A member with an armed seat who has said something, and his token.
async fn speaker(daemon: &Daemon) -> (Client, String) {
    let mut ann = connect(daemon).await.join("LOBBY", "ann").await;
    let token = ann.hold(60).await;
    assert!(ann.ask("MSG before").await[0].starts_with("OK MSG 1 "));
    (ann, token)
}

async fn assert_refused(client: &mut Client) {
    for _ in 0..3 {
        let reply = client.ask("MSG lost").await.remove(0);
        assert!(reply.starts_with("ERR MSG storage "), "{reply}");
    }
}

async fn texts(place: &Place, token: &str) -> Vec<String> {
    let daemon = place.daemon().await;
    let resumed = connect(&daemon).await.ask(&format!("RESUME LOBBY {token} 0")).await;
    let (reply, replay) = resumed.split_last().expect("a reply");
    assert!(reply.starts_with("OK RESUME "), "{reply}");
    replay.iter().map(|line| message(line).1.to_owned()).collect()
}

// clause: STORE-1, STORE-2
#[tokio::test]
async fn while_a_file_is_moved_away_nothing_is_said_and_when_it_is_back_it_goes_on() {
    for moved in ["", "-wal"] {
        let place = Place::new();
        let daemon = place.daemon().await;
        let (mut ann, token) = speaker(&daemon).await;
        let (here, there) = (place.beside(moved), place.beside(".away"));
        fs::rename(&here, &there).expect("moved");
        assert_refused(&mut ann).await;
        daemon.stderr_shows("was moved away: bring it back").await;
        fs::rename(&there, &here).expect("moved back");
        let back = Instant::now();
        while !ann.ask("MSG after").await[0].starts_with("OK MSG 2 ") {
            assert!(back.elapsed() < Duration::from_secs(1));
        }
        daemon.terminate();
        assert!(daemon.wait().await.0.success());
        assert_eq!(texts(&place, &token).await, ["before", "after"]);
    }
}

// clause: STORE-1
#[tokio::test]
async fn a_log_that_was_removed_is_in_the_file_after_a_stop() {
    let place = Place::new();
    let daemon = place.daemon().await;
    let (mut ann, token) = speaker(&daemon).await;
    fs::remove_file(place.beside("-wal")).expect("removed");
    assert_refused(&mut ann).await;
    daemon.terminate();
    assert!(daemon.wait().await.0.success());
    assert_eq!(texts(&place, &token).await, ["before"]);
}

#[tokio::test]
async fn another_store_that_was_put_there_is_not_touched() {
    let other = Place::new();
    let daemon = other.daemon().await;
    speaker(&daemon).await;
    daemon.signal("KILL");
    daemon.wait().await;
    let files = other.read(["", "-wal", "-mark"]);
    let place = Place::new();
    let daemon = place.daemon().await;
    let (mut ann, _) = speaker(&daemon).await;
    for ending in ["", "-wal", "-mark"] {
        fs::rename(other.beside(ending), place.beside(ending)).expect("moved");
    }
    assert_refused(&mut ann).await;
    daemon.terminate();
    let (status, stderr) = daemon.wait().await;
    assert!(status.success() && stderr.contains("another store is in the place"), "{stderr}");
    assert_eq!(place.read(["", "-wal", "-mark"]), files);
}
