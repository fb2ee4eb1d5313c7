//! What is there after a restart, and whose a store is.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use parlor::{Clock, Disk, Refusal};
use rusqlite::Connection;
use tokio::time::Instant;

use super::{Place, connect, kill};
use crate::binary::parlor;
use crate::client::TestServer;
use crate::support::{Client, first_field, message, number, pass, say, seat, seconds, settle};

// clause: STORE-3
#[tokio::test]
async fn after_a_kill_armed_members_find_everything_as_it_was() {
    let place = Place::new();
    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await;
    let code = ann.create("ann").await;
    let ann_token = ann.hold(60).await;
    let mut ben = connect(&daemon).await.join(&code, "ben").await;
    let ben_token = ben.hold(60).await;
    let cat = connect(&daemon).await.join(&code, "cat").await;
    let mut kim = connect(&daemon).await.join(&code, "kim").await;
    let kim_token = kim.hold(60).await;
    assert_eq!(ben.ask("MSG hello").await.pop().expect("a reply").split(' ').nth(2), Some("1"));
    ann.send("MSG hello ben\nMUTE ben\nKICK kim\nLOCK\nNICK Annie").await;
    ann.expect("JOINED ben").await;
    ann.expect("JOINED cat").await;
    ann.expect("JOINED kim").await;
    ann.expect("MSG 1 ").await;
    ann.expect("OK MSG 2 ").await;
    for done in ["OK MUTE ben", "OK KICK kim", "OK LOCK", "OK NICK Annie"] {
        ann.expect(done).await;
    }
    let mut dan = connect(&daemon).await;
    let closed = dan.create("dan").await;
    dan.ask("CLOSE").await;
    let created = connect(&daemon).await.ask("CREATE").await;
    let empty = first_field(&created[0]["OK CREATE ".len()..]);
    kill(daemon).await;
    drop(cat);

    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await;
    let resumed = ann.ask(&format!("RESUME {code} {ann_token} 0")).await;
    let [first, second, reply] = &resumed[..] else { panic!("{resumed:?}") };
    assert_eq!((message(first), message(second)), ((1, "hello"), (2, "hello ben")));
    assert_eq!(*reply, format!("OK RESUME {code} Annie 2 2 2 1"));
    let users = ann.ask("WHO").await;
    assert_eq!(users, ["USER Annie here host", "USER ben held muted", "OK WHO 2"]);
    let mut other = connect(&daemon).await;
    let gone = other.ask(&format!("RESUME {code} {kim_token} 0")).await;
    assert!(gone[0].starts_with("ERR RESUME bad-token "), "{gone:?}");
    let locked = other.ask(&format!("JOIN {code} eve")).await;
    assert!(locked[0].starts_with("ERR JOIN room-locked "), "{locked:?}");
    let none = other.ask(&format!("JOIN {closed} eve")).await;
    assert!(none[0].starts_with("ERR JOIN no-such-room "), "{none:?}");
    let resumed = other.ask(&format!("RESUME {code} {ben_token} 1")).await;
    assert_eq!(message(&resumed[0]), (2, "hello ben"));
    assert_eq!(resumed[1], format!("OK RESUME {code} ben 2 2 1 1"));
    // Nothing is given twice.
    assert_eq!(ann.ask("MSG again").await[0].split(' ').nth(2), Some("3"));
    // A room without a seat waits for its people.
    connect(&daemon).await.join(empty, "fay").await;
}

#[tokio::test]
async fn time_does_not_go_back_over_a_restart() {
    let place = Place::new();
    let mut config = place.config();
    let later = SystemTime::now() + Duration::from_secs(3600);
    config.clock = Clock::new(move || later);
    let server = TestServer::start(config);
    let said = seat(&server, "ann").say("late").await.expect("a message");
    server.stop().await;
    let server = place.server();
    let ann = seat(&server, "ann");
    let again = ann.say("early").await.expect("a message");
    assert_eq!((again.id, again.time), (said.id + 1, said.time));
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_keeps_no_more_history_than_a_room_may_have() {
    let place = Place::new();
    let mut config = place.config();
    config.history = 10;
    let server = TestServer::start(config.clone());
    let ann = seat(&server, "ann");
    say(&ann, 200, "word").await;
    drop(ann);
    server.stop().await;
    let stored = || {
        let connection = Connection::open(&place.file).expect("a store");
        let count = connection.query_row("SELECT count(*) FROM messages", [], |row| row.get(0));
        count.expect("a number")
    };
    let before: i64 = stored();
    assert!((10..100).contains(&before), "{before}");
    let server = TestServer::start(config);
    let mut ben = Client::tcp(&server).await;
    let lines = ben.ask("JOIN LOBBY ben 1000").await;
    assert_eq!((lines.len(), message(&lines[0]).0), (11, 191));
    server.stop().await;
}

// clause: STORE-3
#[tokio::test]
async fn held_seats_and_empty_rooms_end_10_minutes_after_a_restart() {
    let place = Place::new();
    let server = place.server();
    let mut ann = Client::tcp(&server).await;
    let code = ann.create("ann").await;
    ann.hold(1).await;
    let mut empty = Vec::new();
    for _ in 0..2 {
        let created = Client::tcp(&server).await.ask("CREATE").await;
        empty.push(first_field(&created[0]["OK CREATE ".len()..]).to_owned());
    }
    server.stop().await;
    let server = place.server();
    let hub = server.server.hub();
    // From here on nothing has to wait for the store before the time has passed.
    tokio::time::pause();
    pass(seconds(599)).await;
    assert!(hub.join(&empty[0], "x").is_ok());
    let mut ben = hub.join(&code, "ben").expect("the room is there");
    pass(seconds(2)).await;
    assert_eq!(hub.join(&empty[1], "x").unwrap_err(), Refusal::NoSuchRoom);
    let left = ben.next().await;
    assert!(matches!(left, Some(parlor::Event::Left { name, .. }) if name == "ann"));
}

#[tokio::test]
async fn a_store_is_for_its_owner_and_for_one_parlor_at_a_time() {
    let place = Place::new();
    let server = place.server();
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(&place.file).expect("a file").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
    // Another process: locks of files are between those.
    let second = crate::binary::output(place.command()).await;
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("is in use: another parlor stores there"), "{text}");
    server.stop().await;
    assert_eq!(place.files(), ["rooms.db"]);
}

#[tokio::test]
async fn a_newer_store_and_what_is_none_are_refused_and_not_touched() {
    let place = Place::new();
    place.server().stop().await;
    let set = |pragma: &str| {
        let connection = Connection::open(&place.file).expect("a store");
        connection.execute_batch(pragma).expect("a pragma");
    };
    set("PRAGMA user_version = 99");
    assert!(place.refused().contains("written by a newer parlor (format 99)"));
    set("PRAGMA user_version = 1; PRAGMA application_id = 7");
    assert!(place.refused().contains("is no store of parlor"));
    for (content, why) in [(&b"My diary.\n"[..], "is no store of parlor"), (b"", "is empty")] {
        fs::write(&place.file, content).expect("a file");
        assert!(place.refused().contains(why), "{}", place.refused());
        assert_eq!(fs::read(&place.file).expect("a file"), content);
    }
    fs::remove_file(&place.file).expect("removed");
    fs::create_dir(&place.file).expect("a folder");
    assert!(place.refused().starts_with("cannot open the store"));
}

// clause: STORE-1
#[tokio::test(start_paused = true)]
async fn who_gives_his_seat_up_is_answered_once_that_is_stored() {
    let place = Place::new();
    let mut config = place.config();
    config.disk = Disk::new(|| Ok(seconds(4)));
    let server = TestServer::start(config);
    for verb in ["LEAVE", "QUIT"] {
        let mut client = Client::pipe(&server, 4096).await.join("LOBBY", verb).await;
        client.hold(60).await;
        let asked = Instant::now();
        client.send(verb).await;
        client.expect(&format!("OK {verb}")).await;
        // From the second half of the commit on it is in the file.
        assert!(asked.elapsed() >= seconds(2), "{verb} after {:?}", asked.elapsed());
    }
}

// clause: STORE-3, SHUT-1
#[tokio::test(start_paused = true)]
async fn a_room_whose_people_are_cut_off_at_the_end_is_there_after_the_restart() {
    let place = Place::new();
    let mut config = place.config();
    // The disk is ready again when everybody has been cut off, and before the server gives it up.
    let hangs = Arc::new(AtomicBool::new(false));
    let is_next = hangs.clone();
    config.disk = Disk::new(move || match is_next.swap(false, Ordering::Relaxed) {
        true => Ok(seconds(9)),
        false => Ok(Duration::from_millis(2)),
    });
    let server = TestServer::start(config);
    let mut host = Client::pipe(&server, 4096).await;
    let code = host.create("host").await;
    assert!(host.ask("MSG before").await[0].starts_with("OK MSG 1 "));
    hangs.store(true, Ordering::Relaxed);
    pass(Duration::from_millis(10)).await;
    host.send("MSG at the end").await;
    let stopped = Instant::now();
    server.stop().await;
    assert!(stopped.elapsed() > seconds(8), "{:?}", stopped.elapsed());
    let server = place.server();
    let back = server.server.hub().join(&code, "host").expect("the room");
    drop((back, host));
}

// clause: SHUT-1
#[tokio::test(start_paused = true)]
async fn lines_that_each_wait_for_the_disk_are_answered_at_the_end() {
    let place = Place::new();
    let mut config = place.config();
    config.disk = Disk::new(|| Ok(Duration::from_millis(300)));
    let server = TestServer::start(config);
    let mut ann = Client::pipe(&server, 1 << 20).await.join("LOBBY", "ann").await;
    ann.writer.bytes("MSG word\nPING\n".repeat(60).as_bytes()).await;
    settle().await;
    server.stop().await;
    let lines = ann.rest().await;
    let answers = |verb: &str| {
        let [ok, error] = ["OK", "ERR"].map(|word| format!("{word} {verb}"));
        let answers = lines.iter().filter(|line| line.starts_with(&ok) || line.starts_with(&error));
        answers.count()
    };
    assert_eq!((answers("MSG"), answers("PING")), (60, 60));
    assert!(lines.last().is_some_and(|line| line.starts_with("BYE shutdown ")));
}

/// Comes back as a client does that takes every message for seen that it is told of: the ids of all.
async fn come_back(server: &TestServer, token: &str, heard: &[String]) -> Vec<u64> {
    let ids = heard.iter().filter(|line| line.starts_with("MSG ")).map(|line| message(line).0);
    let own = heard.iter().filter(|line| line.starts_with("OK MSG ")).map(|line| number(line, 2));
    let mut seen: BTreeSet<_> = ids.chain(own).collect();
    let last = seen.last().copied().unwrap_or(0);
    let mut client = Client::pipe(server, 1 << 20).await.patient();
    let resumed = client.ask(&format!("RESUME LOBBY {token} {last}")).await;
    let (reply, replay) = resumed.split_last().expect("a reply");
    assert!(reply.starts_with("OK RESUME LOBBY "), "{reply}");
    seen.extend(replay.iter().map(|line| message(line).0));
    seen.into_iter().collect()
}

// clause: MSG-2, BYE-3, RESUME-2
#[tokio::test(start_paused = true)]
async fn who_comes_back_was_told_of_no_message_ahead_of_those_before_it() {
    for is_stopped in [false, true] {
        let place = Place::new();
        let mut config = place.config();
        config.disk = Disk::new(|| Ok(seconds(1)));
        let mut server = TestServer::start(config);
        let ann = seat(&server, "ann");
        let mut ben = Client::pipe(&server, 512).await.patient().join("LOBBY", "ben").await;
        let token = ben.hold(60).await;
        // While his first is stored, more is said than the pipe holds; his second comes behind it.
        ben.writer.bytes(b"MSG mine\nPING\nMSG mine too\nPING\n").await;
        settle().await;
        let text = "x".repeat(500);
        join_all((0..5).map(|_| ann.say(&text))).await;
        settle().await;
        let rest = if is_stopped {
            let stopping = tokio::spawn(server.stop());
            // It has no time for more then.
            pass(seconds(4)).await;
            let rest = ben.rest().await;
            stopping.await.expect("it ends");
            server = place.server();
            rest
        } else {
            pass(seconds(30)).await;
            ben.rest().await
        };
        let bye = if is_stopped { "BYE shutdown " } else { "BYE slow " };
        assert!(rest.last().is_some_and(|line| line.starts_with(bye)), "{rest:?}");
        assert_eq!(come_back(&server, &token, &rest).await, [1, 2, 3, 4, 5, 6, 7], "{rest:?}");
    }
}

// clause: BYE-3, SHUT-1, RESUME-2
#[tokio::test(start_paused = true)]
async fn at_the_end_history_tells_of_no_message_ahead_of_those_still_to_be_sent() {
    let place = Place::new();
    let mut config = place.config();
    config.disk = Disk::new(|| Ok(Duration::from_millis(2)));
    let server = TestServer::start(config);
    let ann = seat(&server, "ann");
    // Forty are more than waits before it is written.
    let text = "x".repeat(1800);
    let mut ben = Client::pipe(&server, 512).await.patient().join("LOBBY", "ben").await;
    let token = ben.hold(60).await;
    say(&ann, 40, &text).await;
    assert_eq!(ben.fence().await.len(), 40);
    ben.writer.bytes(b"HISTORY 40\nHISTORY 1\nPING\n").await;
    settle().await;
    say(&ann, 300, &text).await;
    assert_eq!(ben.reply().await.len(), 41);
    settle().await;
    let stopping = tokio::spawn(server.stop());
    pass(seconds(4)).await;
    let rest = ben.rest().await;
    stopping.await.expect("it ends");
    assert!(rest.iter().any(|line| line.starts_with("ERR HISTORY shutting-down ")), "{rest:?}");
    assert!(rest.last().is_some_and(|line| line.starts_with("BYE shutdown ")), "{rest:?}");
    let ids = come_back(&place.server(), &token, &rest).await;
    assert_eq!(ids, (41..=340).collect::<Vec<_>>());
}

// clause: LIMIT-8, STORE-3
#[tokio::test]
async fn what_all_rooms_forget_to_make_place_is_not_in_the_store_either() {
    const MOST: usize = 64 << 10;
    let place = Place::new();
    let mut config = place.config();
    config.max_history = MOST;
    let server = TestServer::start(config);
    let hub = server.server.hub();
    let mut seats = Vec::new();
    for _ in 0..20 {
        let code = hub.create().expect("a room");
        let seat = hub.join(code.as_str(), "ann").expect("a seat");
        say(&seat, 20, &"x".repeat(1000)).await;
        seats.push(seat);
    }
    server.stop().await;
    drop(seats);
    let store = Connection::open(&place.file).expect("a store");
    let bytes = "SELECT total(length(line)) FROM messages";
    let bytes: f64 = store.query_row(bytes, [], |row| row.get(0)).expect("a sum");
    assert!(bytes > 0.0 && bytes <= MOST as f64, "{bytes} bytes");
}

// clause: STORE-2, LIMIT-5
#[tokio::test(start_paused = true)]
async fn rooms_that_a_full_disk_has_refused_count_for_nobody() {
    let place = Place::new();
    let mut config = place.config();
    let is_full = Arc::new(AtomicBool::new(true));
    let is_full_now = is_full.clone();
    let moment = Duration::from_millis(2);
    config.disk = Disk::new(move || match is_full_now.load(Ordering::Relaxed) {
        true => Err(moment),
        false => Ok(moment),
    });
    let server = TestServer::start(config);
    let mut stranger = Client::from(&server, "192.0.2.1:5000").await;
    for _ in 0..70 {
        assert!(stranger.ask("CREATE").await[0].starts_with("ERR CREATE storage "));
    }
    is_full.store(false, Ordering::Relaxed);
    pass(Duration::from_millis(10)).await;
    assert!(stranger.ask("CREATE").await[0].starts_with("OK CREATE "));
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_a_clear_line_and_an_exit_code() {
    let place = Place::new();
    for wrong in ["rooms.db", "sqlite:", "redis:here"] {
        let output = crate::binary::output(parlor(&["--store", wrong])).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("it is written memory or sqlite:FILE"), "{text}");
    }
    place.server().stop().await;
    let mut bytes = fs::read(&place.file).expect("a store");
    bytes.truncate(bytes.len() - 1);
    fs::write(&place.file, bytes).expect("written");
    let output = crate::binary::output(place.command()).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("is damaged: ") && text.contains("--salvage"), "{text}");
}
