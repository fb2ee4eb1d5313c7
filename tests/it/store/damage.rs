//! A store that is damaged: none of it is served silently.

use std::fs;

use parlor::Server;

use super::{Place, times};
use crate::client::{Random, TestServer};
use crate::support::{Client, message, say, seat};

/// A closed store with two rooms, and what is served from it.
async fn filled(place: &Place) -> Vec<String> {
    let server = place.server();
    let ann = seat(&server, "ann");
    say(&ann, 150, "something that takes some room in the file").await;
    let mut ben = Client::tcp(&server).await;
    let code = ben.create("ben").await;
    let token = ben.hold(600).await;
    for _ in 0..50 {
        ben.ask("MSG and more of it in another room").await;
    }
    let mut cat = Client::tcp(&server).await.join(&code, "cat").await;
    let other = cat.hold(600).await;
    drop(ann);
    server.stop().await;
    let wanted = vec![format!("RESUME {code} {token} 0"), format!("RESUME {code} {other} 0")];
    let server = place.server();
    let served = served(&server, &wanted).await;
    server.stop().await;
    assert_eq!(served.len(), 151 + 51 + 51);
    [wanted, served].concat()
}

/// All that a server has.
pub(super) async fn served(server: &TestServer, resume: &[String]) -> Vec<String> {
    let mut lines = Client::tcp(server).await.ask("JOIN LOBBY zoe 1000").await;
    for resume in resume {
        lines.extend(Client::tcp(server).await.ask(resume).await);
    }
    lines
}

/// Starts a server with a file that was changed: it refuses, as often as it is tried, and touches
/// nothing; or it has all as it was.
pub(super) async fn try_damaged(place: &Place, wanted: &[String], what: &str) -> bool {
    let files = place.read(["", "-wal", "-mark"]);
    match Server::bind(place.config()) {
        Err(error) => {
            assert!(error.store().is_some(), "{error}");
            assert!(place.read(["", "-wal", "-mark"]) == files, "{what}: it was changed");
            true
        }
        Ok(server) => {
            let server = TestServer::of(server);
            let got = served(&server, &wanted[..2]).await;
            server.stop().await;
            assert_eq!(got, wanted[2..], "{what}");
            false
        }
    }
}

#[tokio::test]
async fn no_flipped_bit_is_served() {
    let place = Place::new();
    let wanted = filled(&place).await;
    let sound = fs::read(&place.file).expect("a store");
    let mut random = Random(11);
    let mut refused = 0;
    let flips = times("PARLOR_FLIPS", 200);
    for _ in 0..flips {
        let bit = random.below(sound.len() as u64 * 8) as usize;
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&place.file, damaged).expect("written");
        refused += usize::from(try_damaged(&place, &wanted, &format!("bit {bit}")).await);
        fs::remove_file(place.beside("-wal")).ok();
    }
    // What isn't refused was in a part of the file that isn't used.
    assert!(refused > flips / 4, "{refused} of {flips}");
}

#[tokio::test]
async fn no_truncated_store_is_served() {
    let place = Place::new();
    let wanted = filled(&place).await;
    let sound = fs::read(&place.file).expect("a store");
    let mut random = Random(13);
    let lengths = times("PARLOR_TRUNCATIONS", 50);
    for _ in 0..lengths {
        let length = random.below(sound.len() as u64) as usize;
        fs::write(&place.file, &sound[..length]).expect("written");
        assert!(try_damaged(&place, &wanted, &format!("{length} bytes")).await, "{length}");
        fs::remove_file(place.beside("-wal")).ok();
    }
}

#[tokio::test]
async fn salvage_goes_on_with_what_is_sound() {
    let place = Place::new();
    let server = place.server();
    let mut ann = Client::tcp(&server).await.join("LOBBY", "ann").await;
    let token = ann.hold(600).await;
    for text in ["one", "a capybara", "three"] {
        ann.ask(&format!("MSG {text}")).await;
    }
    server.stop().await;
    let mut bytes = fs::read(&place.file).expect("a store");
    let at = bytes.windows(8).position(|window| window == b"capybara").expect("the text");
    bytes[at] ^= 1;
    fs::write(&place.file, &bytes).expect("written");
    let why = place.refused();
    let wanted = "is damaged: lost are 0 rooms, 1 messages and 0 held seats. Nothing was changed.";
    assert!(why.contains(wanted) && why.contains("--salvage"), "{why}");
    assert!(fs::read(&place.file).expect("a store") == bytes);

    let mut config = place.config();
    config.salvage = true;
    let server = TestServer::start(config);
    let resumed = Client::tcp(&server).await.ask(&format!("RESUME LOBBY {token} 0")).await;
    let [gap, first, third, reply] = &resumed[..] else { panic!("{resumed:?}") };
    assert_eq!(gap, "GAP 1");
    assert_eq!((message(first), message(third)), ((1, "one"), (3, "three")));
    assert_eq!(reply, "OK RESUME LOBBY ann 3 1 3 3");
    assert_eq!(seat(&server, "ben").say("four").await.expect("a message").id, 4);
    server.stop().await;
    let files = place.files();
    let is_aside =
        |name: &&String| name.starts_with("rooms.db.damaged-") && !name.ends_with("-wal");
    let aside = files.iter().find(is_aside).expect("the old one");
    assert!(fs::read(place.folder.path().join(aside)).expect("the old one") == bytes);
    // From now on it is a store as any other.
    let server = place.server();
    let lines = Client::tcp(&server).await.ask("JOIN LOBBY zoe 9").await;
    assert_eq!(lines.len(), 4);
    server.stop().await;
}

#[tokio::test]
async fn where_salvage_was_interrupted_no_new_store_is_begun() {
    let place = Place::new();
    place.server().stop().await;
    // As it is between its last two steps.
    let (sound, damaged) = (place.beside(".part"), place.beside(".damaged-1790000000000"));
    fs::rename(&place.file, &sound).expect("renamed");
    fs::write(&damaged, b"some of it").expect("written");
    let why = place.refused();
    let damaged = damaged.display().to_string();
    assert!(why.contains("was being salvaged") && why.contains(&damaged), "{why}");
    fs::rename(&sound, &place.file).expect("renamed");
    place.server().stop().await;
}
