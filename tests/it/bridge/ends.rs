//! How connections of the bridge end.

use super::*;

// clause: WS-6
#[tokio::test]
async fn quit_ends_with_a_bye_and_a_close_frame() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::join(address, "web").await;
    ws.send("QUIT").await;
    ws.expect("OK QUIT").await;
    ws.expect("BYE quit ").await;
    ws.expect_close(1000).await;
}

#[tokio::test]
async fn a_kick_ends_with_a_bye_and_a_close_frame() {
    let (server, address) = usual_bridge();
    let mut host = Client::connect(server.address).await;
    host.send("CREATE host").await;
    let code = host.expect("OK CREATE ").await;
    let code = code.split(' ').next().expect("a code");
    let mut ws = Ws::open(address).await;
    ws.send(&format!("JOIN {code} web")).await;
    ws.expect("OK JOIN ").await;
    host.expect("JOINED web").await;
    host.send("KICK web enough").await;
    ws.expect("BYE kicked enough").await;
    ws.expect_close(1000).await;
}

// clause: WS-6
#[tokio::test]
async fn a_close_frame_ends_the_seat_like_an_end_of_file() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    for payload in [&b""[..], b"\x03\xe8", b"\x03\xe9going away", b"\x0f\xa0of its own"] {
        let mut ws = Ws::join(address, "web").await;
        ws.bytes([masked(TEXT, b"MSG bye"), masked(CLOSE, payload)].concat()).await;
        for beginning in ["JOINED web", "MSG ", "LEFT web eof"] {
            line.expect(beginning).await;
        }
        let mut frames = Vec::new();
        while let Some((first, _)) = ws.frame().await {
            frames.push(first);
        }
        assert!(frames.contains(&CLOSE), "{frames:?}");
    }
}

/// RFC 6455, 5.5.1: nothing follows a close frame.
#[tokio::test]
async fn replies_come_before_the_answer_to_a_close_frame() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::join(address, "web").await;
    ws.bytes([masked_lines(["MSG one", "PING two"]), masked(CLOSE, b"\x03\xe8")].concat()).await;
    let mut frames = Vec::new();
    while let Some((first, payload)) = ws.frame().await {
        frames.push((first, String::from_utf8_lossy(&payload).into_owned()));
    }
    let closes = frames.iter().position(|(first, _)| *first == CLOSE).expect("a close frame");
    assert_eq!(closes + 1, frames.len(), "{frames:?}");
    assert!(frames.iter().any(|(_, line)| line == "OK PING two"), "{frames:?}");
}

/// A page that closes waits for the bridge to close: there is nothing to stay for.
#[tokio::test]
async fn a_close_frame_ends_a_connection_that_stays_too() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    ws.send("STAY").await;
    ws.expect("OK STAY").await;
    ws.bytes(masked(CLOSE, b"\x03\xe8")).await;
    let ended = async { while ws.next_frame().await.is_some() {} };
    tokio::time::timeout(AT_ONCE, ended).await.expect("it is closed");
    line.expect("LEFT web ").await;
}

#[tokio::test]
async fn an_armed_seat_is_held_after_a_close_frame_and_resumed_over_any_transport() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    ws.send("HOLD 60").await;
    let rest = ws.expect("OK HOLD ").await;
    let token = rest.split(' ').next().expect("a token");
    ws.bytes(masked(CLOSE, b"\x03\xe8")).await;
    while ws.frame().await.is_some() {}
    line.send("WHO").await;
    for user in ["USER line here", "USER web held", "OK WHO 2"] {
        line.expect(user).await;
    }
    line.send("MSG while away").await;
    line.expect("OK MSG 1 ").await;
    let mut ws = Ws::open(address).await;
    ws.send(&format!("RESUME LOBBY {token} 0")).await;
    ws.expect("MSG 1 ").await;
    ws.expect("OK RESUME LOBBY web 1 2 1 0").await;
    // From the page to netcat.
    let mut netcat = Client::connect(server.address).await;
    netcat.send(&format!("RESUME LOBBY {token} 1")).await;
    netcat.expect("OK RESUME LOBBY web 1 2 0 0").await;
    ws.expect("BYE replaced ").await;
    ws.expect_close(1000).await;
    line.expect_nothing().await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_lost() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    for half in [&b""[..], &masked(TEXT, b"MSG never")[..9], &[TEXT]] {
        let mut ws = Ws::join(address, "web").await;
        line.expect("JOINED web").await;
        ws.bytes(half).await;
        drop(ws);
        line.expect("LEFT web lost").await;
    }
    line.expect_nothing().await;
}

// Runs on one thread: the bridge sees nothing before all is sent.
#[tokio::test]
async fn who_has_said_all_at_once_gets_whole_answers() {
    const REQUESTS: usize = 100;
    let (_server, address) = usual_bridge();
    let said = |all: &[u8]| {
        let mut stream = std::net::TcpStream::connect(address).expect("connected");
        std::io::Write::write_all(&mut stream, all).expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("shut down");
        stream.set_nonblocking(true).expect("for tokio");
        Http(BufReader::new(TcpStream::from_std(stream).expect("a stream")))
    };

    let mut many =
        said("GET /parlor.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(REQUESTS).as_bytes());
    for _ in 0..REQUESTS {
        assert_eq!(many.answer(false).await.status, 200);
    }
    many.assert_closed().await;

    let lines = masked_lines(["JOIN LOBBY web 0", "MSG hello"]);
    let mut web = said(&[handshake("localhost", "").as_bytes(), &lines].concat());
    assert_eq!(web.answer(false).await.status, 101);
    let mut ws = Ws(web.0);
    for beginning in ["HELLO ", "OK JOIN LOBBY web ", "OK MSG 1 "] {
        ws.expect(beginning).await;
    }
}

#[tokio::test]
async fn a_stopping_server_says_goodbye_to_its_pages() {
    let (server, address) = usual_bridge();
    let mut pages = vec![Ws::join(address, "web").await, Ws::open(address).await];
    let mut idle = Http::reach(address).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    idle.answer(false).await;
    let fresh = Http::reach(address).await;
    // In the lobby before the stop, and known to be so.
    pages[0].expect_nothing().await;
    let start = Instant::now();
    let stopping = tokio::spawn(server.stop());
    for mut page in pages {
        page.expect("NOTICE shutdown ").await;
        page.expect("BYE shutdown ").await;
        page.expect_close(1000).await;
    }
    idle.assert_closed().await;
    fresh.assert_closed().await;
    soon("the end", stopping).await.expect("it ends");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_stopping_server_does_not_wait_for_half_a_request() {
    let (server, address) = usual_bridge();
    let mut half = Http::reach(address).await;
    half.send("GET / HTTP/1.1\r\nHost: loc").await;
    let mut blocked = Http::reach(address).await;
    let pipelined = "GET /parlor.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(500);
    blocked.send(pipelined).await;
    assert_eq!(get(address, "/healthz").await.status, 200);
    let start = Instant::now();
    server.stop().await;
    // A second, where the header of a request has five.
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

// clause: PACE-5
#[tokio::test]
async fn a_first_frame_that_has_begun_must_end_in_time() {
    let mut config = Config::default();
    config.first_command = 1;
    let (_server, address) = bridge(config);
    let mut silent = Ws::open(address).await;
    let mut ws = Ws::open(address).await;
    ws.bytes(&masked(TEXT, b"PING")[..3]).await;
    // What comes between the fragments of a message doesn't end it.
    let mut fragment = Ws::open(address).await;
    fragment.bytes([masked(TEXT_BEGINS, b"PI"), masked(PONG, b"")].concat()).await;
    // It can have begun together with the handshake.
    let mut hasty = Http::reach(address).await;
    let hello = handshake(&format!("localhost:{}", address.port()), "");
    hasty.send([hello.as_bytes(), &masked(TEXT, b"PING")[..3]].concat()).await;
    assert_eq!(hasty.answer(false).await.status, 101);
    let mut hasty = Ws(hasty.0);
    hasty.expect("HELLO parlor/1 ").await;
    for mut begun in [ws, fragment, hasty] {
        assert!(begun.line().await.starts_with("BYE idle "));
        begun.expect_close(1000).await;
    }
    silent.expect_nothing().await;
}

#[tokio::test]
async fn a_head_may_take_as_long_as_the_operator_says() {
    let mut config = Config::default();
    config.handshake = 1;
    let (server, address) = bridge(config);
    let start = Instant::now();
    let mut half = Http::reach(address).await;
    half.send("GET / HTTP/1.1\r\nHost: loc").await;
    half.assert_closed().await;
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert!(server.server.metrics().contains("{limit=\"handshake\"} 1\n"));
}

/// Takes as long as the bridge has patience: some 5 s.
#[tokio::test]
async fn a_thousand_slow_heads_are_cut_off_while_the_chat_goes_on() {
    const SLOW: usize = 1000;
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    let start = Instant::now();
    let mut slow = tokio::task::JoinSet::new();
    for number in 0..SLOW {
        slow.spawn(async move {
            let mut http = Http::reach(address).await;
            // A third says nothing, a third stops in the head, a third goes on and on.
            match number % 3 {
                0 => {}
                _ => http.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await,
            }
            let mut every = tokio::time::interval(Duration::from_millis(500));
            let mut rest = Vec::new();
            loop {
                tokio::select! {
                    _ = every.tick(), if number % 3 == 2 => {
                        let _ = http.0.write_all(b"x").await;
                    }
                    // Cut off while he writes: that may be a reset.
                    _ = http.0.read_to_end(&mut rest) => break,
                }
            }
        });
    }
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        tokio::select! {
            closed = slow.join_next() => match closed {
                Some(closed) => closed.expect("no panic"),
                None => break,
            },
            _ = every.tick() => {
                rounds += 1;
                let asked = Instant::now();
                ws.send("MSG from the page").await;
                ws.expect(&format!("OK MSG {rounds} ")).await;
                line.expect(&format!("MSG {rounds} ")).await;
                slowest = slowest.max(asked.elapsed());
            }
        }
    }
    let took = start.elapsed();
    println!("all closed after {took:?}; {rounds} messages, the slowest {slowest:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let metrics = server.server.metrics();
    assert!(metrics.contains(&format!("{{limit=\"handshake\"}} {SLOW}\n")), "{metrics}");
    assert!(rounds > 50 && slowest < Duration::from_secs(2), "{rounds} rounds, {slowest:?}");
    assert_eq!(get(address, "/").await.status, 200);
}
