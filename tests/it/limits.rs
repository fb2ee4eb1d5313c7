//! What a room and a server keep, give out and refuse.

use std::collections::{HashSet, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use parlor::protocol::{RoomCode, Time};
use parlor::{Clock, Config, Event, Hub, Random, Refusal, Seat};
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

use crate::client::TestServer;
use crate::support::{Client, VERBS, WIDE, attach, first_field, pass, say, seconds, settle};

/// Bytes of the longest text.
const TEXT_BYTES: usize = 1800;
/// Bytes that a room keeps for readers beyond its history.
const ROOM_BYTES: usize = 16 << 20;
/// The same over all rooms.
const SERVER_BYTES: usize = 64 << 20;
/// What each line counts there beside its bytes.
const ENTRY_BYTES: usize = 96;

/// A source of randomness that a test holds in its hand: each draw is one byte, repeated.
#[derive(Clone, Default)]
struct Draws(Arc<Mutex<VecDeque<u8>>>);

impl Draws {
    fn source(&self) -> Random {
        let draws = self.0.clone();
        Random::new(move |bytes| {
            let draw = draws.lock().expect("draws").pop_front();
            bytes.fill(draw.expect("a draw that the test has thought of"));
        })
    }

    /// Makes a room, whose code must take exactly these draws.
    fn create(&self, hub: &Hub, draws: &[u8]) -> RoomCode {
        self.0.lock().expect("draws").extend(draws);
        let code = hub.create().expect("a room");
        assert!(self.0.lock().expect("draws").is_empty(), "not all of {draws:?} were drawn");
        code
    }
}

/// The code that a draw makes.
fn code_of(draw: u8) -> String {
    char::from(RoomCode::ALPHABET[usize::from(draw)]).to_string().repeat(4)
}

fn is_code(code: &str, chars: usize) -> bool {
    code.len() == chars && code.bytes().all(|byte| b"BCDFGHJKMNPQRSTVWXYZ23456789".contains(&byte))
}

// clause: ROOM-1
#[tokio::test]
async fn ten_thousand_codes_are_of_the_alphabet_and_all_different() {
    for chars in [4, 6, 16] {
        let mut config = Config::default();
        config.code_length = chars;
        let hub = Hub::new(config);
        let codes: HashSet<_> = (0..10_000).map(|_| hub.create().expect("a room")).collect();
        assert_eq!(codes.len(), 10_000);
        assert!(codes.iter().all(|code| is_code(code.as_str(), chars)));
        let used: HashSet<_> = codes.iter().flat_map(|code| code.as_str().bytes()).collect();
        assert_eq!(used.len(), 28, "every character is used");
    }
}

// clause: ROOM-1
#[tokio::test]
async fn a_code_in_use_is_drawn_again() {
    let draws = Draws::default();
    let mut config = Config::default();
    config.random = draws.source();
    let hub = Hub::new(config);
    assert_eq!(draws.create(&hub, &[0]).as_str(), code_of(0));
    assert_eq!(draws.create(&hub, &[0, 0, 27]).as_str(), code_of(27));
}

// clause: ROOM-1
#[tokio::test]
async fn other_servers_give_out_other_codes() {
    let codes = || {
        let hub = Hub::new(Config::default());
        (0..10).map(|_| hub.create().expect("a room")).collect::<Vec<_>>()
    };
    assert_ne!(codes(), codes());
}

// clause: ROOM-2
#[tokio::test]
async fn a_code_is_taken_in_any_case_and_sent_in_capitals() {
    let server = TestServer::start(Config::default());
    let mut alice = Client::pipe(&server, WIDE).await;
    // Until there is a letter to make small.
    let code = loop {
        let code = alice.create("alice").await;
        if code.bytes().any(|byte| byte.is_ascii_uppercase()) {
            break code;
        }
        alice.ask("LEAVE").await;
    };
    assert!(is_code(&code, 4), "{code}");
    let token = alice.hold(60).await;
    let small = code.to_lowercase();
    let mixed: String = (0..).zip(code.chars()).fold(String::new(), |mixed, (at, c)| {
        mixed + &if at % 2 == 0 { c.to_ascii_lowercase() } else { c }.to_string()
    });
    for (name, typed) in [("bob", &small), ("carol", &mixed), ("dan", &code)] {
        let mut client = Client::pipe(&server, WIDE).await;
        client.send(&format!("JOIN {typed} {name}")).await;
        client.expect(&format!("OK JOIN {code} {name} 0 ")).await;
        client.send("LEAVE").await;
        client.expect(&format!("OK LEAVE {code}")).await;
    }
    let mut again = Client::pipe(&server, WIDE).await;
    again.send(&format!("RESUME {small} {token} 0")).await;
    again.expect(&format!("OK RESUME {code} alice ")).await;
}

// clause: ROOM-5
#[tokio::test(start_paused = true)]
async fn a_code_rests_for_24_hours_and_for_10_minutes_if_nobody_came() {
    let draws = Draws::default();
    let mut config = Config::default();
    config.random = draws.source();
    let server = TestServer::start(config);
    let hub = server.server.hub();

    let entered = draws.create(hub, &[0]);
    drop(hub.join(entered.as_str(), "sam").expect("a seat"));
    pass(seconds(24 * 3600 - 10)).await;
    let unentered = draws.create(hub, &[0, 1]);
    assert_eq!(unentered.as_str(), code_of(1));
    pass(seconds(20)).await;
    assert_eq!(draws.create(hub, &[0]).as_str(), code_of(0));

    // It lives for 10 minutes and rests for 10 more.
    pass(seconds(1200 - 30)).await;
    let gone = hub.join(unentered.as_str(), "sam").expect_err("the room is gone");
    assert_eq!(gone, Refusal::NoSuchRoom);
    draws.create(hub, &[1, 2]);
    pass(seconds(20)).await;
    assert_eq!(draws.create(hub, &[1]).as_str(), code_of(1));
}

// clause: ROOM-5
#[tokio::test(start_paused = true)]
async fn a_code_rests_from_the_end_of_the_last_seat_held_or_not() {
    let draws = Draws::default();
    let mut config = Config::default();
    config.random = draws.source();
    let server = TestServer::start(config);
    let hub = server.server.hub();
    let code = draws.create(hub, &[0]);
    let mut sam = Client::pipe(&server, WIDE).await.join(code.as_str(), "sam").await;
    draws.0.lock().expect("draws").push_back(0);
    sam.hold(600).await;
    drop(sam);
    // The seat is held for 10 minutes, and the code rests from then on.
    pass(seconds(590)).await;
    draws.create(hub, &[0, 1]);
    pass(seconds(24 * 3600)).await;
    draws.create(hub, &[0, 2]);
    pass(seconds(20)).await;
    draws.create(hub, &[0]);
}

/// RFC 3339 in UTC with milliseconds.
fn is_time(field: &str) -> bool {
    let shape = field.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
    shape.eq("0000-00-00T00:00:00.000Z".chars()) && Time::parse(field).is_some()
}

// clause: ROOM-9
#[tokio::test]
async fn the_times_of_a_room_never_go_back_though_the_clock_does() {
    let now = Arc::new(AtomicU64::new(0));
    let mut config = Config::default();
    let clock = now.clone();
    config.clock = Clock::new(move || {
        SystemTime::UNIX_EPOCH + Duration::from_millis(clock.load(Ordering::Relaxed))
    });
    let server = TestServer::start(config);
    let mut alice = Client::pipe(&server, WIDE).await.join("LOBBY", "alice").await;
    let mut bob = Client::pipe(&server, WIDE).await.join("LOBBY", "bob").await;
    alice.expect("JOINED bob").await;
    let at_first = 1_795_287_960_123_i64;
    let jumps: [i64; 10] = [0, 5, -3_600_000, 4, 6, -1, 0, 86_400_000, -86_400_000, 7];
    let mut times = Vec::new();
    for jump in jumps {
        now.store((at_first + jump) as u64, Ordering::Relaxed);
        let reply = alice.ask("MSG tick").await.remove(0);
        let time = reply.split(' ').nth(3).expect("a time").to_owned();
        assert_eq!(bob.line().await.split(' ').nth(2), Some(&*time));
        alice.ask("TELL bob tock").await;
        let told = bob.line().await;
        times.extend([time, told.split(' ').nth(1).expect("a time").to_owned()]);
    }
    assert!(times.iter().all(|time| is_time(time)), "{times:?}");
    assert_eq!(times[0], "2026-11-21T19:06:00.123Z");
    assert_eq!(times[2], "2026-11-21T19:06:00.128Z");
    assert!(times.is_sorted(), "{times:?}");
    // Forward it goes at once, and there it stays.
    assert_eq!(times[14..], vec!["2026-11-22T19:06:00.123Z"; 6]);
    // Another room has had no later time.
    let mut carol = Client::pipe(&server, WIDE).await;
    carol.create("carol").await;
    assert!(carol.ask("MSG tick").await[0].ends_with(" 2026-11-21T19:06:00.130Z"));
}

// clause: LIMIT-4
#[tokio::test(start_paused = true)]
async fn an_address_has_2000_connections_and_a_held_seat_counts() {
    let server = TestServer::start(Config::default());
    let from = |number: usize| format!("192.0.2.{}:{}", number / 2000, 1000 + number);
    let knock = async |address: &str| {
        let mut client = Client::over(attach(&server, Some(address), WIDE));
        let line = client.line().await;
        if line.starts_with("BYE busy ") {
            assert_eq!(client.rest().await, [""; 0]);
            return None;
        }
        assert!(line.starts_with("HELLO parlor/1 "), "{line}");
        Some(client)
    };
    let mut clients = Vec::new();
    for number in 0..2000 {
        clients.push(knock(&from(number)).await.expect("a place"));
    }
    assert!(knock(&from(0)).await.is_none(), "the 2,001st");
    // Nobody else is concerned, and loopback has no limit.
    let _other = knock(&from(2000)).await.expect("another address");
    for number in 0..2001 {
        clients.push(knock(&format!("127.0.0.1:{}", 1000 + number)).await.expect("loopback"));
    }
    // A place that is given back is there again, unless it leaves a held seat.
    clients.swap_remove(7);
    settle().await;
    let mut holder = knock(&from(0)).await.expect("the place of the one who left");
    holder.create("holder").await;
    holder.hold(60).await;
    drop(holder);
    settle().await;
    assert!(knock(&from(0)).await.is_none(), "a held seat counts");
    pass(seconds(61)).await;
    assert!(knock(&from(0)).await.is_some(), "the seat has ended, and nothing bans");
}

// clause: LIMIT-5
#[tokio::test(start_paused = true)]
async fn an_address_has_64_rooms_that_nobody_entered() {
    let server = TestServer::start(Config::default());
    let mut maker = Client::from(&server, "192.0.2.1:5000").await;
    let mut codes = Vec::new();
    for _ in 0..64 {
        maker.send("CREATE").await;
        codes.push(maker.expect("OK CREATE ").await);
    }
    for line in ["CREATE", "CREATE maker"] {
        maker.send(line).await;
        maker.expect("ERR CREATE busy ").await;
    }
    // It is the address that counts.
    let mut neighbour = Client::from(&server, "192.0.2.1:5001").await;
    neighbour.send("CREATE").await;
    neighbour.expect("ERR CREATE busy ").await;
    let mut other = Client::from(&server, "192.0.2.2:5000").await;
    other.send("CREATE").await;
    other.expect("OK CREATE ").await;
    let mut local = Client::pipe(&server, WIDE).await;
    for _ in 0..65 {
        local.send("CREATE").await;
        local.expect("OK CREATE ").await;
    }
    // One that somebody enters counts no more, not even when it ends.
    other.send(&format!("JOIN {} other", codes[9])).await;
    other.expect("OK JOIN ").await;
    other.ask("LEAVE").await;
    maker.send("CREATE").await;
    maker.expect("OK CREATE ").await;
    maker.send("CREATE").await;
    maker.expect("ERR CREATE busy ").await;
    // Nor does one that has ended because nobody came.
    pass(seconds(601)).await;
    for _ in 0..64 {
        maker.send("CREATE").await;
        maker.expect("OK CREATE ").await;
    }
    maker.send("CREATE").await;
    maker.expect("ERR CREATE busy ").await;
}

/// Bytes of the line of an event, with its LF.
fn bytes_of(event: &Event<'_>) -> usize {
    event.to_string().len() + 1
}

/// What has come to a seat: messages skipped, messages, and the bytes of their lines.
async fn drain(seat: &mut Seat, last: u64) -> (u64, u64, usize) {
    let (mut skipped, mut messages, mut bytes) = (0, 0, 0);
    let mut next = 1;
    while next <= last {
        let event = seat.next().await.expect("an event");
        match &event {
            Event::Gap { messages } => {
                skipped += messages;
                next += messages;
            }
            Event::Msg { id, .. } => {
                assert_eq!(*id, next, "a hole or a double");
                (messages, bytes, next) = (messages + 1, bytes + bytes_of(&event), next + 1);
            }
            Event::Joined { .. } => {}
            other => panic!("{other}"),
        }
    }
    (skipped, messages, bytes)
}

// clause: LIMIT-7
#[tokio::test]
async fn past_16_mib_the_reader_furthest_behind_gets_a_gap_and_no_more_than_needed() {
    let mut config = Config::default();
    config.history = 1;
    let hub = Hub::new(config);
    let code = hub.create().expect("a room");
    let speaker = hub.join(code.as_str(), "speaker").expect("a seat");
    let mut early = hub.join(code.as_str(), "early").expect("a seat");
    let text = "x".repeat(TEXT_BYTES);
    say(&speaker, 2000, &text).await;
    let mut late = hub.join(code.as_str(), "late").expect("a seat");
    say(&speaker, 7600, &text).await;

    let (skipped, messages, bytes) = drain(&mut early, 9600).await;
    assert_eq!(skipped + messages, 9600);
    assert!(skipped > 0, "{bytes} bytes were kept");
    let line = bytes / messages as usize + 2 + ENTRY_BYTES;
    let kept = bytes + messages as usize * ENTRY_BYTES - line;
    assert!(kept <= ROOM_BYTES, "{kept} bytes beyond the history");
    assert!(kept + 2 * line > ROOM_BYTES, "only {kept} bytes were kept");

    for id in 2001..=9600 {
        let heard = late.next().await.expect("an event");
        assert!(matches!(heard, Event::Msg { id: heard, .. } if heard == id), "{id}: no gap");
    }
}

// clause: LIMIT-7
#[tokio::test]
async fn past_64_mib_over_all_rooms_keep_less() {
    const ROOMS: usize = 5;
    const EACH: u64 = 8000;
    let mut config = Config::default();
    config.history = 1;
    let hub = Hub::new(config);
    let text = "x".repeat(TEXT_BYTES);
    let mut kept = 0;
    let mut said = 0;
    let mut readers = Vec::new();
    for _ in 0..ROOMS {
        let code = hub.create().expect("a room");
        let speaker = hub.join(code.as_str(), "speaker").expect("a seat");
        let reader = hub.join(code.as_str(), "reader").expect("a seat");
        say(&speaker, EACH as usize, &text).await;
        readers.push((speaker, reader));
    }
    for (_speaker, reader) in &mut readers {
        let (mut skipped, first) = match reader.next().await.expect("an event") {
            Event::Gap { messages } => (messages, reader.next().await.expect("an event")),
            first => (0, first),
        };
        assert!(matches!(first, Event::Msg { id, .. } if id == skipped + 1), "{first:.100}");
        let line = bytes_of(&first) + ENTRY_BYTES;
        said += EACH as usize * line;
        // The latest is history.
        skipped += 1;
        kept += (EACH - skipped) as usize * line;
    }
    assert!(said > SERVER_BYTES + (4 << 20), "{said} bytes were said");
    assert!(kept <= SERVER_BYTES + (1 << 14), "{kept} bytes were kept");
    assert!(kept > SERVER_BYTES - (2 << 20), "only {kept} bytes were kept");
}

// clause: LIMIT-7
#[tokio::test]
async fn comings_and_goings_count_for_what_they_take_and_for_all_rooms() {
    const ROOMS: usize = 5;
    const EACH: usize = 70_000;
    let hub = Hub::new(Config::default());
    let mut readers = Vec::new();
    for _ in 0..ROOMS {
        let code = hub.create().expect("a room");
        let reader = hub.join(code.as_str(), "reader").expect("a seat");
        for _ in 0..EACH {
            drop(hub.join(code.as_str(), "x").expect("a seat"));
        }
        readers.push(reader);
    }
    let lines = ["JOINED x\n", "LEFT x quit\n"].map(|line| line.len() + ENTRY_BYTES);
    let pair: usize = lines.iter().sum();
    assert!(ROOMS * EACH * pair > SERVER_BYTES + (4 << 20));
    let mut kept = 0;
    for reader in &mut readers {
        let mut next = reader.next().await.expect("an event");
        // Only presence was lost.
        if matches!(next, Event::Gap { .. }) {
            assert_eq!(next, Event::Gap { messages: 0 });
            next = reader.next().await.expect("an event");
        }
        let mut pairs = 0;
        while let Some(event) = reader.next().now_or_never() {
            pairs += usize::from(matches!(event, Some(Event::Left { .. })));
        }
        drop(next);
        kept += pairs * pair;
        assert!(pairs * pair <= ROOM_BYTES + pair, "{pairs} pairs in one room");
    }
    assert!(kept <= SERVER_BYTES + ROOMS * pair, "{kept} bytes were kept");
    assert!(kept > SERVER_BYTES - (2 << 20), "only {kept} bytes were kept");
}

// clause: LIMIT-8
#[tokio::test]
async fn past_the_bound_of_all_histories_the_most_silent_rooms_forget_first() {
    const MOST: usize = 256 << 10;
    let mut config = Config::default();
    config.max_history = MOST;
    let server = TestServer::start(config);
    let hub = server.server.hub();
    let text = "x".repeat(1000);
    let mut rooms = Vec::new();
    for _ in 0..6 {
        let code = hub.create().expect("a room");
        let speaker = hub.join(code.as_str(), "speaker").expect("a seat");
        let reader = hub.join(code.as_str(), "reader").expect("a seat");
        say(&speaker, 60, &text).await;
        rooms.push((code, speaker, reader));
    }
    let metrics = server.server.metrics();
    let kept = metrics.lines().find_map(|line| line.strip_prefix("parlor_history_bytes "));
    let kept: usize = kept.and_then(|kept| kept.parse().ok()).expect("a number");
    assert!((MOST * 9 / 10..=MOST).contains(&kept), "{kept} of {MOST}");
    assert!(!metrics.contains("{limit=\"max-history\"} 0"), "{metrics}");
    // The first room speaks again: now the second has been silent for longest.
    say(&rooms[0].1, 60, &text).await;
    let mut client = Client::pipe(&server, WIDE).await;
    let mut shown = Vec::new();
    for (code, _, _) in &rooms {
        let reply = client.ask(&format!("JOIN {code} client 1000")).await;
        shown.push(reply.len() - 1);
        client.ask("LEAVE").await;
    }
    assert_eq!((shown[1], shown[0], shown[5]), (0, 60, 60), "{shown:?}");
    assert!(shown[2] < shown[3] && shown[3] <= shown[4], "{shown:?}");
    // Who was there gets all that was said, forgotten or not.
    for (number, (_, _speaker, reader)) in rooms.iter_mut().enumerate() {
        let (skipped, messages, _) = drain(reader, if number == 0 { 120 } else { 60 }).await;
        assert_eq!((skipped, messages), (0, if number == 0 { 120 } else { 60 }));
    }
    drop(rooms);
    client.fence().await;
    assert!(server.server.metrics().contains("parlor_history_bytes 0\n"));
}

// clause: TELL-5
#[tokio::test]
async fn at_most_16_mib_of_tells_wait_in_the_whole_server() {
    const EACH: usize = 100;
    const BOUND: usize = 16 << 20;
    let server = TestServer::start(Config::default());
    let hub = server.server.hub();
    let mut teller = Client::pipe(&server, WIDE).await.join("LOBBY", "teller").await;
    let text = "x".repeat(TEXT_BYTES);
    let line = format!("TELL 2026-11-21T19:06:00.123Z teller {text}\n").len();
    let members = BOUND / line / EACH + 1;
    // They listen to nobody.
    let mut slow: Vec<_> = (0..=members)
        .map(|number| hub.join("LOBBY", &format!("slow{number}")).expect("a seat"))
        .collect();
    teller.fence().await;
    let mut accepted = 0;
    let mut refused = 0;
    for number in 0..members {
        let tells = format!("TELL slow{number} {text}\n").repeat(EACH);
        teller.writer.bytes(tells.as_bytes()).await;
        for _ in 0..EACH {
            match teller.line().await {
                line if line.starts_with("OK TELL ") => accepted += 1,
                line => {
                    assert!(line.starts_with("ERR TELL slow-down "), "{line}");
                    refused += 1;
                }
            }
            // Once it is full it stays so.
            assert!(refused == 0 || accepted == BOUND / line, "{accepted} fit");
        }
    }
    assert_eq!((accepted, refused), (BOUND / line, members * EACH - BOUND / line));
    // It is the server that is full, not the member.
    teller.send(&format!("TELL slow{members} {text}")).await;
    teller.expect("ERR TELL slow-down ").await;
    // What is delivered waits no more, nor what was for one who has gone.
    loop {
        match slow[0].next().await.expect("an event") {
            Event::Tell { .. } => break,
            event => assert!(matches!(event, Event::Joined { .. }), "{event:.100}"),
        }
    }
    slow.swap_remove(1);
    teller.expect("LEFT slow1 quit").await;
    for _ in 0..EACH {
        teller.send(&format!("TELL slow{members} {text}")).await;
        teller.expect("OK TELL ").await;
    }
    // Now it is the member.
    teller.send(&format!("TELL slow{members} {text}")).await;
    teller.expect("ERR TELL slow-down ").await;
}

/// A connection that guesses.
struct Guesser {
    client: Client,
    /// Of its own for each port.
    name: String,
}

impl Guesser {
    async fn from(server: &TestServer, address: &str) -> Guesser {
        let port = address.rsplit(':').next().unwrap_or_default();
        Guesser { client: Client::from(server, address).await, name: format!("guesser{port}") }
    }

    async fn wrong(&mut self, times: usize, line: &str, code: &str) {
        for _ in 0..times {
            self.client.send(line).await;
            self.client.expect(&format!("ERR {} {code} ", first_field(line))).await;
        }
    }

    /// How long it takes to enter the lobby; it is left again.
    async fn right(&mut self) -> Duration {
        let start = Instant::now();
        self.client.ask(&format!("JOIN LOBBY {} 0", self.name)).await;
        let took = start.elapsed();
        assert_eq!(self.client.ask("LEAVE").await.last().expect("a reply"), "OK LEAVE LOBBY");
        took
    }
}

/// One wait, measured with a timer's tick.
fn is_a_second(took: Duration) -> bool {
    (seconds(1)..=Duration::from_millis(1005)).contains(&took)
}

// clause: GUESS-1
#[tokio::test(start_paused = true)]
async fn past_20_wrong_guesses_in_a_minute_each_look_up_waits_a_second() {
    let mut config = Config::default();
    config.oper_secret = Some("sesame".to_owned());
    config.rate = Some(0);
    let server = TestServer::start(config);
    let mut guesser = Guesser::from(&server, "192.0.2.1:5000").await;
    // The first RESUME doesn't count; codes, tokens and secrets do, on any connection.
    guesser.wrong(1, "RESUME LOBBY 00000000000000000000000000000000 0", "bad-token").await;
    guesser.wrong(8, "JOIN BCDF guesser", "no-such-room").await;
    guesser.wrong(4, "OPER sesam", "bad-secret").await;
    let mut other_connection = Guesser::from(&server, "192.0.2.1:5001").await;
    other_connection.wrong(1, "RESUME BCDF abc 0", "no-such-room").await;
    other_connection.wrong(4, "RESUME LOBBY abc 0", "bad-token").await;
    other_connection.wrong(4, "RESUME BCDF abc 0", "no-such-room").await;
    // Mistakes of other kinds are no guesses.
    guesser.wrong(30, "JOIN !!!! guesser", "bad-code").await;
    guesser.wrong(30, "JOIN BCDF guess:er", "bad-name").await;
    assert_eq!(guesser.right().await, Duration::ZERO, "20 are free");
    guesser.wrong(1, "JOIN BCDF guesser", "no-such-room").await;

    let took = guesser.right().await;
    assert!(is_a_second(took), "{took:?}");
    // Wrong ones wait as well: nobody can tell by the time.
    let start = Instant::now();
    guesser.wrong(1, "JOIN BCDF guesser", "no-such-room").await;
    assert!(is_a_second(start.elapsed()), "{:?}", start.elapsed());
    // Each connection waits by itself, a new one too.
    let mut newcomer = Guesser::from(&server, "192.0.2.1:5002").await;
    let start = Instant::now();
    let (first, second) = tokio::join!(guesser.right(), newcomer.right());
    assert!(is_a_second(first) && is_a_second(second), "{first:?} {second:?}");
    assert!(is_a_second(start.elapsed()), "{:?}", start.elapsed());
    // A RESUME waits too, be it the first and right.
    let mut holder = newcomer.client.join("LOBBY", "holder").await;
    let token = holder.hold(60).await;
    let mut newcomer = Guesser::from(&server, "192.0.2.1:5003").await.client;
    let start = Instant::now();
    newcomer.send(&format!("RESUME LOBBY {token} 0")).await;
    newcomer.expect("OK RESUME ").await;
    assert!(is_a_second(start.elapsed()), "{:?}", start.elapsed());
    // So does OPER.
    let start = Instant::now();
    newcomer.send("OPER sesame").await;
    newcomer.expect("OK OPER").await;
    assert!(is_a_second(start.elapsed()), "{:?}", start.elapsed());
    // What looks nothing up waits for nothing.
    let start = Instant::now();
    newcomer.fence().await;
    newcomer.ask("CREATE").await;
    assert_eq!(start.elapsed(), Duration::ZERO);

    // Nobody else waits, and loopback is exempt.
    let mut elsewhere = Guesser::from(&server, "192.0.2.2:5000").await;
    assert_eq!(elsewhere.right().await, Duration::ZERO);
    let mut local = Guesser::from(&server, "127.0.0.1:5000").await;
    local.wrong(50, "JOIN BCDF guesser", "no-such-room").await;
    assert_eq!(local.right().await, Duration::ZERO);

    // Nothing bans: after a minute without a wrong guess all is as before.
    pass(seconds(61)).await;
    assert_eq!(guesser.right().await, Duration::ZERO);
}

// clause: GUESS-1
#[tokio::test(start_paused = true)]
async fn many_of_one_address_come_back_at_once_and_nobody_guesses_by_it_for_long() {
    const PEOPLE: u16 = 150;
    let server = TestServer::start(Config::default());
    let address = |port: u16| format!("192.0.2.1:{port}");
    let mut tokens = Vec::new();
    for port in 0..PEOPLE {
        let client = Client::from(&server, &address(port)).await;
        tokens.push(client.join("LOBBY", &format!("seated{port}")).await.hold(60).await);
    }
    let start = Instant::now();
    // Right tokens never count, however many they are.
    for _ in 0..2 {
        for (port, token) in (0..).zip(&tokens) {
            let mut client = Client::from(&server, &address(port)).await;
            client.send(&format!("RESUME LOBBY {token} 0")).await;
            client.expect("OK RESUME ").await;
        }
    }
    // Nor do 100 whose seats are gone. They come in anew.
    let first = "RESUME LOBBY 00000000000000000000000000000000 0";
    for port in 0..100 {
        let mut guesser = Guesser::from(&server, &address(port)).await;
        guesser.wrong(1, first, "bad-token").await;
        guesser.right().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    // Past them it is guessing, as all is.
    for port in 0..20 {
        Guesser::from(&server, &address(port)).await.wrong(1, first, "bad-token").await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "20 are free");
    let mut guesser = Guesser::from(&server, &address(0)).await;
    guesser.wrong(1, "RESUME BCDF abc 0", "no-such-room").await;
    assert!(is_a_second(guesser.right().await));
    // Others have their own.
    Guesser::from(&server, "192.0.2.2:1").await.wrong(1, first, "bad-token").await;
    pass(seconds(61)).await;
    for port in 0..100 {
        Guesser::from(&server, &address(port)).await.wrong(1, first, "bad-token").await;
    }
    assert_eq!(guesser.right().await, Duration::ZERO);
}

// clause: GUESS-1
#[tokio::test(start_paused = true)]
async fn the_minute_of_guesses_does_not_begin_with_the_connection() {
    let server = TestServer::start(Config::default());
    let mut guesser = Guesser::from(&server, "192.0.2.1:5000").await;
    pass(seconds(59)).await;
    guesser.wrong(21, "JOIN BCDF guesser", "no-such-room").await;
    pass(seconds(2)).await;
    let took = guesser.right().await;
    assert!(is_a_second(took), "21 wrong guesses 2 s ago, but it took {took:?}");
}

// clause: SECRET-1
#[tokio::test]
async fn tokens_are_long_visible_and_all_different() {
    let mut config = Config::default();
    config.lobby = RoomCode::lobby("HALL").ok();
    let server = TestServer::start(config);
    let mut client = Client::pipe(&server, WIDE).await;
    let mut tokens = HashSet::new();
    for _ in 0..20 {
        let lines = "JOIN HALL sam 0\nHOLD\nLEAVE\n".repeat(100);
        client.writer.bytes(lines.as_bytes()).await;
        for _ in 0..100 {
            client.expect("OK JOIN ").await;
            tokens.insert(first_field(&client.expect("OK HOLD ").await).to_owned());
            client.expect("OK LEAVE ").await;
        }
    }
    assert_eq!(tokens.len(), 2000);
    for token in &tokens {
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(visible && (22..=256).contains(&token.len()), "{token}");
    }
}

// clause: SECRET-1
#[tokio::test]
async fn a_token_shows_each_of_its_128_random_bits() {
    let bit = Arc::new(AtomicU64::new(0));
    let mut config = Config::default();
    let drawn = bit.clone();
    config.random = Random::new(move |bytes| {
        // Draw n has one bit alone, the n-th; the last has none.
        let one = 1_u128.checked_shl(drawn.load(Ordering::Relaxed) as u32).unwrap_or(0);
        bytes.copy_from_slice(&one.to_be_bytes());
    });
    let server = TestServer::start(config);
    let mut tokens = HashSet::new();
    for drawn in 0..=128 {
        bit.store(drawn, Ordering::Relaxed);
        let name = format!("sam{drawn}");
        let mut client = Client::pipe(&server, WIDE).await.join("LOBBY", &name).await;
        tokens.insert(client.hold(60).await);
    }
    assert_eq!(tokens.len(), 129);
}

// clause: SECRET-1
#[tokio::test]
async fn no_command_gives_a_code_away() {
    let server = TestServer::start(Config::default());
    let mut alice = Client::pipe(&server, WIDE).await;
    let code = alice.create("alice").await;
    alice.hold(60).await;
    let mut stranger = Client::pipe(&server, WIDE).await;
    let mut shown = Vec::new();
    for seated in [false, true] {
        for verb in VERBS.iter().filter(|verb| **verb != "QUIT") {
            for arguments in ["", " LOBBY", " LOBBY stranger", " alice", " alice x", " *"] {
                if seated {
                    shown.extend(stranger.ask("JOIN LOBBY stranger 0").await);
                }
                shown.extend(stranger.ask(&format!("{verb}{arguments}")).await);
                if !seated {
                    shown.extend(stranger.ask("LEAVE").await);
                }
            }
        }
    }
    assert!(shown.len() > 400);
    assert!(!shown.iter().any(|line| line.contains(&code)), "{code} is in {shown:#?}");
}

/// All that is logged, as text.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<String>>);

impl Logged {
    fn add(&self, text: fmt::Arguments<'_>) {
        self.0.lock().expect("a log").write_fmt(text).expect("a String");
    }
}

impl Visit for &Logged {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(format_args!(" {field}={value:?}"));
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.add(format_args!("\n{}", span.metadata().name()));
        span.record(&mut &*self);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut &*self);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.add(format_args!("\n{}", event.metadata().target()));
        event.record(&mut &*self);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

// clause: SECRET-1
#[tokio::test]
async fn no_log_line_holds_a_code_a_token_or_a_text() {
    let logged = Logged::default();
    // For this thread, on which all of the test runs.
    let _guard = tracing::subscriber::set_default(logged.clone());
    let mut config = Config::default();
    config.oper_secret = Some("opensesame".to_owned());
    config.max_connections = 5;
    let server = TestServer::start(config);
    let mut alice = Client::tcp(&server).await;
    let code = alice.create("alice").await;
    let token = alice.hold(60).await;
    let mut bob = Client::tcp(&server).await.join(&code, "bob").await;
    for line in [
        "MSG sayasecret",
        "TELL alice tellasecret",
        "NICK bobby",
        "hello secretgreeting",
        "OPER wrongsecret",
        "OPER opensesame",
        "ANNOUNCE announcedsecret",
        "PING pingasecret",
        "MSG \x1b[secretescape",
    ] {
        bob.ask(line).await;
    }
    let mut third = Client::tcp(&server).await;
    third.ask(&format!("RESUME {code} {}x 0", &token[1..])).await;
    let replayed = third.ask(&format!("RESUME {code} {token} 0")).await;
    assert!(replayed.last().is_some_and(|reply| reply.starts_with("OK RESUME ")), "{replayed:?}");
    third.ask("LOCK").await;
    third.ask("KICK bobby kickedforasecret").await;
    bob.rest().await;
    alice.rest().await;
    // What ends in other ways, and what finds no place.
    let mut http = Client::tcp(&server).await;
    http.writer.bytes(b"GET /httpsecret HTTP/1.1\r\n\r\n").await;
    http.reader.all().await;
    let mut tls = Client::tcp(&server).await;
    tls.writer.bytes(b"\x16\x03\x01\x02\x00tlssecret").await;
    tls.rest().await;
    let mut crowd = Vec::new();
    for _ in 0..5 {
        crowd.push(Client::over(
            tokio::net::TcpStream::connect(server.address).await.expect("a connection"),
        ));
        crowd.last_mut().expect("a client").line().await;
    }
    let mut closing = third;
    closing.ask("CLOSE").await;
    closing.rest().await;
    drop((closing, crowd, http, tls, alice, bob));
    server.stop().await;

    let logged = logged.0.lock().expect("a log").clone();
    for word in ["connected", "ended", "kicked", "http", "TLS", "turned away", "stopping"] {
        assert!(logged.contains(word), "{word} is not logged:\n{logged}");
    }
    let token_without_first = &token[1..];
    for secret in [&code, &token, token_without_first, "secret", "opensesame"] {
        assert!(!logged.contains(secret), "{secret} is logged:\n{logged}");
    }
}

// clause: LIMIT-6
#[tokio::test(start_paused = true)]
async fn when_half_of_all_codes_are_taken_new_ones_are_a_character_longer() {
    const HALF: usize = 28_usize.pow(4) / 2;
    let next = Arc::new(AtomicU64::new(0));
    let mut config = Config::default();
    let count = next.clone();
    config.random = Random::new(move |bytes| {
        // Counts through all codes, from the first character on.
        let mut number = count.fetch_add(1, Ordering::Relaxed);
        for byte in bytes {
            (*byte, number) = ((number % 28) as u8, number / 28);
        }
    });
    config.max_rooms = HALF + 1;
    let hub = Hub::new(config);
    for number in 0..HALF {
        let code = hub.create().expect("a room");
        assert_eq!(code.as_str().len(), 4, "{number} codes are taken");
        // Some rooms end: their codes rest.
        if number % 100 == 0 {
            drop(hub.join(code.as_str(), "sam").expect("a seat"));
        }
    }
    assert_eq!(hub.create().expect("a room").as_str().len(), 5);
}
