//! Who sends too fast is slowed, and who doesn't read is let go.

use std::time::Duration;

use parlor::Config;
use tokio::time::Instant;

use crate::client::TestServer;
use crate::support::{Client, WIDE, attach, message, pass, say, seat, seconds, settle};

/// A server that allows one line a second after a burst of ten.
fn strict() -> TestServer {
    let mut config = Config::default();
    config.rate = Some(1);
    config.burst = 10;
    TestServer::start(config)
}

/// Seconds as the allowance counts them; timers are a millisecond late at most.
fn whole_seconds(time: Duration) -> u64 {
    let whole = time.as_secs();
    assert!(time - seconds(whole) < Duration::from_millis(5), "{time:?} are no whole seconds");
    whole
}

/// What some bytes cost a fresh connection: so many seconds later than without them the answer to
/// a `PING` comes, when before them all of the burst but one line was used up.
async fn cost(server: &TestServer, seated: bool, bytes: &[u8]) -> u64 {
    let mut client = Client::pipe(server, WIDE).await;
    let mut used = 9;
    if seated {
        client = client.join("LOBBY", "payer").await;
        used -= 1;
    }
    let start = Instant::now();
    client.writer.bytes("\n".repeat(used).as_bytes()).await;
    client.writer.bytes(bytes).await;
    client.writer.bytes(b"PING fence\n").await;
    let mut got = Vec::new();
    while !got.ends_with(b"OK PING fence\n") {
        got.extend(client.reader.bytes(1).await);
    }
    let took = start.elapsed();
    if seated {
        client.ask("LEAVE").await;
    }
    whole_seconds(took)
}

// clause: PACE-2
#[tokio::test(start_paused = true)]
async fn ten_empty_lines_use_a_burst_of_ten_up() {
    let server = strict();
    let mut client = Client::pipe(&server, WIDE).await;
    client.writer.bytes("\n".repeat(10).as_bytes()).await;
    settle().await;
    let start = Instant::now();
    client.ask("PING").await;
    let took = start.elapsed();
    assert!((Duration::from_millis(990)..seconds(1)).contains(&took), "{took:?}");
}

// clause: PACE-2
#[tokio::test(start_paused = true)]
async fn a_line_costs_one_and_one_more_for_each_further_2048_bytes() {
    let server = strict();
    let long = |bytes: usize, ending: &str| "x".repeat(bytes) + ending;
    for (line, lines) in [
        (String::new(), 0),
        ("\n".to_owned(), 1),
        (" \t \r\n".to_owned(), 1),
        ("PING\n".to_owned(), 1),
        ("NONSENSE\n".to_owned(), 1),
        ("\x01\n".to_owned(), 1),
        (long(2048, "\n"), 1),
        (long(2048, "\r\n"), 1),
        (long(2049, "\n"), 1),
        (long(2049, "\r\n"), 2),
        (long(2050, "\n"), 2),
        (long(4096, "\n"), 2),
        (long(4096, "\r\n"), 2),
        (long(3 * 2048, "\n"), 3),
        (long(10 * 2048, "\n"), 10),
        // It is the length of a line that counts, not of what one read brings.
        (long(2000, "\n").repeat(3), 3),
        ("\n".repeat(25), 25),
    ] {
        assert_eq!(cost(&server, false, line.as_bytes()).await, lines, "{line:.40?}");
    }
}

// clause: PACE-2
#[tokio::test(start_paused = true)]
async fn an_endless_line_is_paced_before_it_ends() {
    let server = strict();
    let mut client = Client::over(attach(&server, None, 2048)).greeted().await;
    let start = Instant::now();
    client.writer.bytes(&[b'x'; 30 * 2048]).await;
    let took = whole_seconds(start.elapsed());
    assert!((15..=20).contains(&took), "{took} s");
    client.send("").await;
    client.expect("ERR * line-too-long ").await;
}

// clause: PACE-2
#[tokio::test(start_paused = true)]
async fn a_reply_costs_one_more_for_each_100_data_lines() {
    let server = strict();
    let seats: Vec<_> = (0..99)
        .map(|number| server.server.hub().join("LOBBY", &format!("seat{number}")).expect("a seat"))
        .collect();
    say(&seats[0], 250, "hello").await;
    for (line, lines) in [
        ("HISTORY 0\n", 1),
        ("HISTORY 99\n", 1),
        ("HISTORY 100\n", 2),
        ("HISTORY 199\n", 2),
        ("HISTORY 200\n", 3),
        ("HISTORY\n", 3),
        ("HISTORY before 251\n", 3),
        ("HELP\n", 1),
        // With the one who asks they are a hundred.
        ("WHO\n", 2),
    ] {
        assert_eq!(cost(&server, true, line.as_bytes()).await, lines, "{line}");
    }
    for (line, lines) in [
        ("JOIN LOBBY payer 0\nLEAVE\n", 2),
        ("JOIN LOBBY payer 99\nLEAVE\n", 2),
        ("JOIN LOBBY payer\nLEAVE\n", 3),
        ("JOIN LOBBY payer 200\nLEAVE\n", 4),
    ] {
        assert_eq!(cost(&server, false, line.as_bytes()).await, lines, "{line}");
    }
}

// clause: PACE-2
#[tokio::test(start_paused = true)]
async fn a_telnet_command_that_is_answered_costs_one() {
    let server = strict();
    for (bytes, lines) in [
        (&b"\xff\xfd\x06"[..], 1),
        (b"\xff\xfb\x01\xff\xfd\x01", 2),
        (b"\xff\xf6", 1),
        (b"\xff\xfc\x01\xff\xfe\x01\xff\xf1\xff\xf9", 0),
        (b"\xff\xfa\x18\x00xterm\xff\xf0", 0),
        (b"typ\xff\xf7\xff\xf8", 0),
    ] {
        assert_eq!(cost(&server, false, bytes).await, lines, "{bytes:x?}");
    }
    assert_eq!(cost(&server, false, &b"\xff\xfd\x01".repeat(30)).await, 30);
}

// clause: PACE-2
#[tokio::test(start_paused = true)]
async fn while_telnet_answers_wait_nothing_is_read_and_all_of_them_come() {
    const PIPE: usize = 256;
    let server = TestServer::start(Config::default());
    let mut client = Client::pipe(&server, PIPE).await;
    let commands = b"\xff\xfd\x01".repeat(20_000);
    let taken = client.writer.as_much_as_fits(&commands).await;
    // Both pipes are full, and besides only answers wait, of which each is as long as its command.
    assert!(taken <= 3 * PIPE + 4096, "{taken} bytes were taken");
    let Client { mut reader, mut writer } = client;
    let sending = tokio::spawn(async move {
        writer.bytes(&commands[taken..]).await;
        writer.bytes(b"PING\n").await;
        writer
    });
    let answers = reader.bytes(60_000).await;
    assert_eq!(answers, b"\xff\xfc\x01".repeat(20_000));
    assert_eq!(reader.line().await.expect("a line"), "OK PING");
    sending.await.expect("all is sent");
}

/// Sends a paste of so many lines to the lobby, and returns how long it takes until all are said.
async fn paste(mut client: Client, lines: u64) -> Duration {
    client = client.join("LOBBY", "paster").await;
    let start = Instant::now();
    let text: String = (1..=lines).map(|line| format!("MSG line {line}\n")).collect();
    let Client { mut reader, mut writer } = client;
    let sending = tokio::spawn(async move {
        writer.bytes(text.as_bytes()).await;
        writer
    });
    for line in 1..=lines {
        reader.expect(&format!("OK MSG {line} ")).await;
    }
    let took = start.elapsed();
    sending.await.expect("all is sent");
    took
}

// clause: PACE-1, PACE-3
#[tokio::test(start_paused = true)]
async fn loopback_and_pipes_are_not_paced_unless_a_rate_is_given() {
    const LINES: u64 = 500;
    // The 500 lines and the JOIN, after a burst of 100.
    let paced = Duration::from_millis(40_100 - 100)..Duration::from_millis(40_100 + 100);
    for rate in [None, Some(0), Some(10)] {
        let start = || {
            let mut config = Config::default();
            config.rate = rate;
            TestServer::start(config)
        };
        let mut took = Vec::new();
        // Over TCP no timer of the test's own may move the clock.
        let server = start();
        took.push(paste(Client::tcp(&server).await.patient(), LINES).await);
        let server = start();
        took.push(paste(Client::pipe(&server, WIDE).await, LINES).await);
        for address in ["127.0.0.1:5000", "127.9.9.9:5000", "[::1]:5000", "[::ffff:127.0.0.1]:1"] {
            let server = start();
            took.push(paste(Client::from(&server, address).await, LINES).await);
        }
        match rate {
            Some(10) => assert!(took.iter().all(|took| paced.contains(took)), "{took:?}"),
            _ => assert_eq!(took, [Duration::ZERO; 6]),
        }
    }
}

// clause: PACE-1, PACE-3
#[tokio::test(start_paused = true)]
async fn strangers_are_paced_by_default() {
    for address in ["192.0.2.1:5000", "[2001:db8::1]:5000"] {
        let server = TestServer::start(Config::default());
        let took = paste(Client::from(&server, address).await, 500).await;
        assert!((39_900..40_300).contains(&took.as_millis()), "{took:?}");
    }
    let mut config = Config::default();
    config.rate = Some(0);
    let server = TestServer::start(config);
    let took = paste(Client::from(&server, "192.0.2.1:5000").await, 500).await;
    assert_eq!(took, Duration::ZERO);
}

/// A member of the lobby who reads nothing, with so much waiting for him, and one who watches.
async fn stalled(server: &TestServer, armed: bool) -> (Client, Client, Option<String>) {
    let mut watcher = Client::pipe(server, WIDE).await.join("LOBBY", "watcher").await;
    let mut stalled = Client::pipe(server, 64).await.join("LOBBY", "stalled").await;
    let token = if armed { Some(stalled.hold(60).await) } else { None };
    watcher.expect("JOINED stalled").await;
    let speaker = seat(server, "speaker");
    say(&speaker, 20, &"x".repeat(100)).await;
    drop(speaker);
    settle().await;
    watcher.fence().await;
    (stalled, watcher, token)
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn who_takes_no_byte_for_30_seconds_is_lost() {
    let server = TestServer::start(Config::default());
    let (mut stalled, mut watcher, _) = stalled(&server, false).await;
    pass(Duration::from_millis(29_900)).await;
    assert_eq!(watcher.fence().await, [""; 0]);
    pass(Duration::from_millis(200)).await;
    assert_eq!(watcher.fence().await, ["LEFT stalled lost"]);
    // Who reads now gets the rest of the line that was begun, and why.
    let rest = stalled.rest().await;
    let bye = rest.last().expect("a line");
    assert!(bye.starts_with("BYE slow "), "{rest:?}");
    assert!(rest.len() <= 3, "{rest:?}");
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn who_takes_no_byte_after_a_whole_line_is_lost_too() {
    let server = TestServer::start(Config::default());
    let mut watcher = Client::pipe(&server, WIDE).await.join("LOBBY", "watcher").await;
    // His pipe holds one of the messages, and nothing of the next.
    let text = "x".repeat(100);
    let line = format!("MSG 1 2026-11-26T00:00:00.000Z speaker {text}\n");
    let mut stalled = Client::pipe(&server, line.len()).await.join("LOBBY", "stalled").await;
    watcher.expect("JOINED stalled").await;
    let speaker = seat(&server, "speaker");
    stalled.expect("JOINED speaker").await;
    say(&speaker, 5, &text).await;
    drop(speaker);
    settle().await;
    watcher.fence().await;
    pass(seconds(31)).await;
    assert_eq!(watcher.fence().await, ["LEFT stalled lost"]);
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn the_armed_seat_of_who_takes_nothing_is_held() {
    let server = TestServer::start(Config::default());
    let (_stalled, mut watcher, token) = stalled(&server, true).await;
    pass(seconds(31)).await;
    let users = watcher.ask("WHO").await;
    assert_eq!(users, ["USER watcher here", "USER stalled held", "OK WHO 2"]);
    let mut again = Client::pipe(&server, WIDE).await;
    again.send(&format!("RESUME LOBBY {} 0", token.expect("a token"))).await;
    let replay = again.reply().await;
    assert_eq!(replay.len(), 21);
    assert!(replay[20].starts_with("OK RESUME LOBBY stalled 20 2 20 0"), "{}", replay[20]);
    assert_eq!(watcher.fence().await, [""; 0]);
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn one_byte_within_30_seconds_is_enough() {
    let server = TestServer::start(Config::default());
    let (mut stalled, mut watcher, _) = stalled(&server, false).await;
    // Until the pipe takes a byte again it must have given one.
    for _ in 0..10 {
        pass(seconds(25)).await;
        stalled.reader.bytes(1).await;
    }
    assert_eq!(watcher.fence().await, [""; 0]);
    pass(seconds(31)).await;
    assert_eq!(watcher.fence().await, ["LEFT stalled lost"]);
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn who_has_read_all_may_be_silent_for_ever() {
    let server = TestServer::start(Config::default());
    let mut silent = Client::pipe(&server, 64).await.join("LOBBY", "silent").await;
    let mut stranger = Client::pipe(&server, 64).await;
    for _ in 0..3 {
        pass(seconds(24 * 3600)).await;
        let speaker = seat(&server, "speaker");
        say(&speaker, 3, &"x".repeat(100)).await;
        pass(seconds(20)).await;
        assert_eq!(silent.fence().await.len(), 4);
        drop(speaker);
        assert_eq!(silent.line().await, "LEFT speaker quit");
    }
    assert_eq!(stranger.fence().await, [""; 0]);
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn who_reads_no_replies_is_slow_too() {
    let server = TestServer::start(Config::default());
    let mut client = Client::pipe(&server, 64).await;
    client.writer.as_much_as_fits("HELP\n".repeat(100).as_bytes()).await;
    pass(seconds(29)).await;
    let start = client.reader.bytes(1).await;
    assert_eq!(start, b"H");
    pass(seconds(29)).await;
    client.reader.bytes(1).await;
    pass(seconds(30) + Duration::from_millis(100)).await;
    let rest = client.rest().await;
    assert!(rest.last().expect("a line").starts_with("BYE slow "), "{rest:?}");
}

// clause: TURN-3
#[tokio::test(start_paused = true)]
async fn lines_of_a_broken_connection_run_at_its_pace_for_as_long_as_a_stall_may_take() {
    let server = strict();
    let mut other = Client::pipe(&server, WIDE).await.patient().join("LOBBY", "other").await;
    let mut gone = Client::pipe(&server, WIDE).await.join("LOBBY", "gone").await;
    other.expect("JOINED gone").await;
    let start = Instant::now();
    let lines: String = (0..500).map(|number| format!("MSG {number}\n")).collect();
    gone.writer.bytes(lines.as_bytes()).await;
    drop(gone);
    let mut heard = 0;
    loop {
        let line = other.line().await;
        if line == "LEFT gone lost" {
            break;
        }
        let (_, text) = message(&line);
        assert_eq!(text, heard.to_string());
        heard += 1;
    }
    // The burst but for its JOIN, then one a second.
    assert!((38..=40).contains(&heard), "{heard} messages");
    let took = start.elapsed();
    assert!((seconds(29)..seconds(32)).contains(&took), "{took:?}");
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn who_reads_his_last_words_slowly_gets_them_all_and_who_reads_none_is_let_go() {
    let server = TestServer::start(Config::default());
    for reads in [true, false] {
        let mut client = Client::pipe(&server, 64).await.patient();
        client.send("HELP").await;
        client.send("QUIT").await;
        pass(seconds(10)).await;
        if reads {
            let mut lines = Vec::new();
            while let Some(line) = client.reader.line().await {
                lines.push(line);
                pass(seconds(10)).await;
            }
            assert_eq!(lines[lines.len() - 2], "OK QUIT");
            assert!(lines.last().is_some_and(|line| line.starts_with("BYE quit ")), "{lines:?}");
        } else {
            pass(seconds(21)).await;
            assert!(!String::from_utf8_lossy(&client.reader.all().await).contains("BYE"));
        }
    }
}
