//! Frames that break the rules, pings and pongs.

use super::*;

/// What breaks the rules of WebSockets, and the status it is closed with.
fn mistakes() -> Vec<(&'static str, Vec<u8>, u16)> {
    let part = vec![b'x'; 4000];
    let bomb = [masked(TEXT_BEGINS, &part), masked(CONTINUES, &part), masked(CONTINUES, &part)];
    vec![
        ("binary", masked(BINARY, b"MSG never"), 1003),
        (
            "binary in parts",
            [masked(0x02, b"MSG"), masked(CONTINUES_AND_ENDS, b" never")].concat(),
            1003,
        ),
        ("bad UTF-8", masked(TEXT, b"MSG \xff"), 1007),
        ("half a character", masked(TEXT, b"MSG \xc3"), 1007),
        ("a surrogate", masked(TEXT, b"MSG \xed\xa0\x80"), 1007),
        ("an overlong form", masked(TEXT, b"MSG \xc0\x8a"), 1007),
        ("oversized", masked(TEXT, &[b'x'; FRAME_BYTES + 1]), 1009),
        ("oversized, announced", [header(TEXT, 0x80, 1 << 20), vec![0; 4]].concat(), 1009),
        (
            "oversized beyond all",
            [&[TEXT, 0xff][..], &(u64::MAX >> 1).to_be_bytes(), &[0; 4]].concat(),
            1009,
        ),
        ("a bomb in parts", bomb.concat(), 1009),
        ("unmasked", [&[TEXT, 4][..], b"PING"].concat(), 1002),
        ("reserved bit 1, as deflate has it", masked(TEXT | 0x40, b"PING"), 1002),
        ("reserved bit 2", masked(TEXT | 0x20, b"PING"), 1002),
        ("reserved bit 3", masked(TEXT | 0x10, b"PING"), 1002),
        ("a reserved kind", masked(0x83, b"PING"), 1002),
        ("a reserved control", masked(0x8b, b"PING"), 1002),
        ("a continuation of nothing", masked(CONTINUES_AND_ENDS, b"PING"), 1002),
        (
            "a message in a message",
            [masked(TEXT_BEGINS, b"P"), masked(TEXT, b"PING")].concat(),
            1002,
        ),
        ("a ping in parts", masked(0x09, b"p"), 1002),
        ("a large ping", masked(PING, &[0; 126]), 1002),
        ("a close of one byte", masked(CLOSE, &[3]), 1002),
    ]
}

// clause: WS-3
#[tokio::test]
async fn a_mistake_ends_that_connection_only_and_says_which_it_was() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut other = Ws::join(address, "other").await;
    line.expect("JOINED other").await;
    for (number, (what, bytes, status)) in mistakes().into_iter().enumerate() {
        println!("{what}");
        let mut ws = Ws::join(address, "sinner").await;
        ws.send("MSG before").await;
        ws.expect("OK MSG ").await;
        ws.bytes(bytes).await;
        ws.expect_close(status).await;
        for watcher in ["JOINED sinner", "MSG ", "LEFT sinner lost"] {
            other.expect(watcher).await;
            line.expect(watcher).await;
        }
        other.send("MSG still here").await;
        other.expect("OK MSG ").await;
        let id = 2 * number + 2;
        assert!(line.expect(&format!("MSG {id} ")).await.ends_with(" other still here"), "{what}");
    }
    limit_shows(&server, "frame", mistakes().iter().filter(|mistake| mistake.2 == 1009).count())
        .await;
}

/// LINE-10, however the bytes were cut into segments.
#[tokio::test]
async fn lines_before_a_mistake_or_a_break_are_unharmed_though_they_come_in_one_segment() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let lines = masked_lines(["MSG one", "MSG two"]);
    for (what, bytes, status) in mistakes() {
        println!("{what}");
        let mut ws = Ws::join(address, "sinner").await;
        ws.bytes([&lines[..], &bytes].concat()).await;
        for reply in ["OK MSG ", "OK MSG "] {
            ws.expect(reply).await;
        }
        ws.expect_close(status).await;
        for beginning in ["JOINED sinner", "MSG ", "MSG ", "LEFT sinner lost"] {
            line.expect(beginning).await;
        }
    }
    for _ in 0..20 {
        let mut ws = Ws::join(address, "gone").await;
        ws.bytes(&lines).await;
        drop(ws);
        for beginning in ["JOINED gone", "MSG ", "MSG ", "LEFT gone lost"] {
            line.expect(beginning).await;
        }
    }
}

#[tokio::test]
async fn what_still_comes_after_a_mistake_does_not_swallow_its_status() {
    let (_server, address) = usual_bridge();
    for round in 0..20 {
        let mut ws = Ws::open(address).await;
        let after = masked_lines(["PING"; 2000]);
        let mistake = if round % 2 == 0 {
            masked(TEXT, &vec![b'x'; 100_000])
        } else {
            [masked(BINARY, b"x"), after].concat()
        };
        // Whoever is cut off while he writes can't write all of it.
        let _ = soon("room to write", ws.0.write_all(&mistake)).await;
        let status = if round % 2 == 0 { 1009u16 } else { 1003 };
        assert_eq!(ws.frame().await, Some((CLOSE, status.to_be_bytes().to_vec())));
        // A reset would take the status from clients on other systems than Linux.
        ws.0.get_mut().shutdown().await.expect("shut down");
        assert_eq!(ws.frame().await, None);
    }
}

#[tokio::test]
async fn a_body_that_still_comes_does_not_swallow_its_refusal() {
    let (_server, address) = usual_bridge();
    for _ in 0..20 {
        let mut http = Http::reach(address).await;
        let head = "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n";
        let _ = http.0.write_all(&[head.as_bytes(), &[b'x'; 300_000]].concat()).await;
        assert_eq!(http.answer(false).await.status, 400);
        // A reset would take the answer from clients on other systems than Linux.
        http.assert_closed().await;
    }
}

#[tokio::test]
async fn pings_are_answered_between_lines() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::join(address, "web").await;
    for number in 0..50u8 {
        let payload = vec![number; usize::from(number) * 125 / 49];
        ws.bytes(masked(PING, &payload)).await;
        ws.expect_pong(&payload).await;
        ws.expect_nothing().await;
        // A pong that nobody asked for is ignored.
        ws.bytes(masked(PONG, &payload)).await;
    }
    ws.expect_nothing().await;
}

#[tokio::test]
async fn a_slow_reader_of_a_flooded_room_gets_whole_frames_and_his_pongs() {
    const MESSAGES: u64 = 1500;
    const UNREAD: u64 = 750;
    let (server, address) = usual_bridge();
    let mut reader = Ws::open_narrow(address).await.joined("reader").await;
    let mut speaker = Client::join(server.address, "LOBBY", "speaker").await;
    let text = "x".repeat(1000);
    for id in 1..=UNREAD {
        speaker.send(&format!("MSG {text}")).await;
        speaker.expect(&format!("OK MSG {id} ")).await;
    }
    let flood = async {
        for id in UNREAD + 1..=MESSAGES {
            speaker.send(&format!("MSG {text}")).await;
            speaker.expect(&format!("OK MSG {id} ")).await;
        }
    };
    let read = async {
        let (mut last, mut pings, mut pongs) = (0, 0u64, Vec::new());
        for _ in 0..5 {
            pings += 1;
            reader.bytes(masked(PING, &pings.to_be_bytes())).await;
        }
        reader.expect("JOINED speaker").await;
        while last < MESSAGES {
            tokio::task::yield_now().await;
            match reader.frame().await.expect("a frame") {
                (TEXT, line) => {
                    last += 1;
                    let line = String::from_utf8(line).expect("UTF-8");
                    assert!(line.starts_with(&format!("MSG {last} ")), "{line}");
                    assert!(line.ends_with(&format!(" speaker {text}")), "{line}");
                }
                (first, payload) => {
                    assert_eq!(first, PONG);
                    pongs.push(u64::from_be_bytes(payload.try_into().expect("8 bytes")));
                }
            }
            if last % 20 == 0 {
                pings += 1;
                reader.bytes(masked(PING, &pings.to_be_bytes())).await;
            }
        }
        reader.send("PING fence").await;
        loop {
            match reader.frame().await.expect("a frame") {
                (PONG, payload) => {
                    pongs.push(u64::from_be_bytes(payload.try_into().expect("8 bytes")));
                }
                (first, line) => break assert_eq!((first, &*line), (TEXT, &b"OK PING fence"[..])),
            }
        }
        (pings, pongs)
    };
    let ((), (pings, pongs)) = tokio::join!(flood, read);
    println!("{pings} pings, {} pongs", pongs.len());
    // Where several waited, one answers them all (RFC 6455, 5.5.3).
    assert!(pongs.is_sorted_by(|one, next| one < next), "{pongs:?}");
    assert_eq!(pongs.last(), Some(&pings));
}

/// The room writes to a sleeping session's connection. What does not fit is half a frame, and just
/// then there are pings to be answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_that_come_while_the_room_writes_are_answered_between_frames() {
    const MESSAGES: usize = 400;
    let (server, address) = usual_bridge();
    let host = server.server.hub().join("LOBBY", "host").expect("a seat");
    let text = "x".repeat(1000);
    for _ in 0..20 {
        let mut reader = Ws::open_narrow(address).await.joined("reader").await;
        reader.expect_nothing().await;
        for _ in 0..MESSAGES {
            host.say(&text).await.expect("a message");
            let _ = reader.0.get_mut().try_write(&masked(PING, b"now"));
        }
        let mut messages = 0;
        while messages < MESSAGES {
            match reader.frame().await.expect("a frame") {
                (TEXT, line) => {
                    assert!(line.ends_with(text.as_bytes()), "{}", line.escape_ascii());
                    messages += 1;
                }
                frame => assert_eq!(frame, (PONG, b"now".to_vec())),
            }
        }
    }
}

/// The clock stands still and jumps to what is waited for: nothing else waits here.
// clause: WS-5
#[tokio::test]
async fn a_silent_peer_is_pinged_every_25_seconds() {
    let (server, address) = usual_bridge();
    let mut ws = Ws::join(address, "web").await;
    tokio::time::pause();
    let mut before = Instant::now();
    for _ in 0..5 {
        assert_eq!(ws.next_frame().await, Some((PING, Vec::new())));
        let seconds = before.elapsed().as_secs_f64();
        assert!((24.0..25.1).contains(&seconds), "{seconds} s");
        before = Instant::now();
        ws.bytes(masked(PONG, b"")).await;
    }
    tokio::time::resume();
    ws.expect_nothing().await;
    drop(server);
}

/// Who reads again while he is given up must not take the close frame for a part of his line.
#[tokio::test]
async fn a_connection_that_is_given_up_has_no_close_frame_within_a_line() {
    let (server, address) = usual_bridge();
    let mut reader = Ws::open_narrow(address).await.joined("reader").await;
    let mut speaker = Client::join(server.address, "LOBBY", "speaker").await;
    let text = "x".repeat(1700);
    let start = Instant::now();
    for id in 1..=500 {
        speaker.send(&format!("MSG {text}")).await;
        speaker.expect(&format!("OK MSG {id} ")).await;
    }
    // After 30 s he is given up; for a second each his last words and his close are tried.
    tokio::time::pause();
    tokio::time::sleep_until(start + Duration::from_millis(31_700)).await;
    speaker.expect("LEFT reader lost").await;
    tokio::time::resume();
    let mut all = Vec::new();
    let _ = soon("the end", reader.0.read_to_end(&mut all)).await;
    let mut rest = &all[..];
    while let [first, length, after @ ..] = rest {
        let (length, after) = match (length, after) {
            (126, [high, low, after @ ..]) => {
                (usize::from(u16::from_be_bytes([*high, *low])), after)
            }
            (length, after) => (usize::from(*length), after),
        };
        let (payload, after) = after.split_at(length.min(after.len()));
        if *first == TEXT {
            let odd = payload.iter().position(|byte| !byte.is_ascii());
            assert_eq!(odd, None, "of {} bytes of a line", payload.len());
        } else {
            assert_eq!(*first, CLOSE);
        }
        rest = after;
    }
}
