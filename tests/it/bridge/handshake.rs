//! How a WebSocket begins, and who finds a place.

use super::*;

// clause: WS-5
#[tokio::test]
async fn the_handshake_is_that_of_rfc_6455_and_agrees_on_nothing_more() {
    let (_server, address) = usual_bridge();
    let offers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                  Sec-WebSocket-Protocol: chat, superchat\r\n";
    let answer = request(address, &handshake("localhost", offers)).await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert!(answer.header("connection").is_some_and(|to| to.eq_ignore_ascii_case("upgrade")));
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn what_is_no_handshake_is_told_what_is_missing() {
    let (_server, address) = usual_bridge();
    let good = handshake("localhost", "");
    let key = format!("Sec-WebSocket-Key: {KEY}\r\n");
    for (request, status) in [
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (good.replace("Version: 13", "Version: 8"), 426),
        (good.replace("Upgrade: websocket\r\n", ""), 426),
        (good.replace("Upgrade: websocket", "Upgrade: h2c"), 426),
        (good.replace("keep-alive, Upgrade", "keep-alive"), 426),
        (good.replace(&key, ""), 400),
        (good.replace(&key, "Sec-WebSocket-Key: \r\n"), 400),
        (good.replace(&key, "Sec-WebSocket-Key: c2hvcnQ=\r\n"), 400),
        (good.replace(KEY, &format!("{KEY}{KEY}")), 400),
        (good.replace(&key, &format!("{key}{key}")), 400),
        (good.replace(KEY, "dGhlIHNhbXBsZSBub25jZSEh"), 400),
        (good.replace(KEY, "dGhlIHNhbXBsZSBub25jZSE="), 400),
        (good.replace(KEY, "dGhlIHNhbXBsZSBub25j*Q=="), 400),
        (good.replace(KEY, "dGhlIHNhbXBsZSBub25jZ==="), 400),
        (good.replace("GET", "HEAD"), 400),
        (good.replace("GET", "POST"), 405),
    ] {
        let mut http = Http::reach(address).await;
        http.send(&request).await;
        let answer = http.answer(request.starts_with("HEAD")).await;
        assert_eq!(answer.status, status, "{request}");
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
        http.assert_closed().await;
    }
}

// clause: WS-4
#[tokio::test]
async fn a_full_server_says_when_to_come_back() {
    let mut config = Config::default();
    config.max_connections = 2;
    let (server, address) = bridge(config);
    let ws = Ws::open(address).await;
    let _line = Client::connect(server.address).await;
    let mut http = Http::reach(address).await;
    http.send(handshake("localhost", "")).await;
    let answer = http.answer(false).await;
    assert_eq!(answer.status, 503);
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{answer:?}");
    answer.assert_protected();
    http.assert_closed().await;
    // There is no page without a place. A server that is full is alive all the same.
    for (path, status) in [("/", 503), ("/parlor.js", 503), ("/healthz", 200), ("/metrics", 200)] {
        let mut http = Http::reach(address).await;
        http.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        assert_eq!(http.answer(false).await.status, status, "{path}");
        http.assert_closed().await;
    }
    // A place that is free again is given.
    drop(ws);
    let place = async { while knock(address, "localhost", "").await != 101 {} };
    soon("a place", place).await;
}

// clause: LIMIT-1, WS-4
#[tokio::test]
async fn a_browser_has_its_place_from_its_first_byte_on() {
    let mut config = Config::default();
    config.max_connections = 2;
    let (server, address) = bridge(config);
    let mut asking = Http::reach(address).await;
    let mut silent = Http::reach(address).await;
    for http in [&mut asking, &mut silent] {
        http.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(http.answer(false).await.status, 200);
    }
    assert_eq!(knock(address, "localhost", "").await, 503);
    let mut line = TcpStream::connect(server.address).await.expect("a connection");
    let mut last_words = String::new();
    soon("the end", line.read_to_string(&mut last_words)).await.expect("read");
    assert!(last_words.starts_with("BYE busy "), "{last_words}");
    // The WebSocket keeps the place that its connection has.
    let mut ws = Ws::over(asking, "").await;
    ws.expect_nothing().await;
    assert_eq!(get(address, "/").await.status, 503);
    drop(silent);
    soon("a place", async { while get(address, "/").await.status != 200 {} }).await;
    ws.expect_nothing().await;
}

/// Who is turned away costs a file and a task: so many at a time, and no more.
#[tokio::test]
async fn past_256_who_find_no_place_the_next_are_closed_without_a_word() {
    const TURNED_AWAY: usize = 256;
    let mut config = Config::default();
    config.max_connections = 0;
    let (_server, address) = bridge(config);
    let mut waiting = Vec::new();
    for _ in 0..TURNED_AWAY {
        waiting.push(Http::reach(address).await);
    }
    Http::reach(address).await.assert_closed().await;
    // Those that came in time get their answer.
    let last = waiting.last_mut().expect("somebody");
    last.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(last.answer(false).await.status, 503);
}

#[tokio::test]
async fn addresses_are_told_by_a_trusted_proxy_only() {
    let mut config = Config::default();
    config.max_per_address = 1;
    let (_server, address) = bridge(config.clone());
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(Ws::open_with(address, &from("192.0.2.1")).await);
    }

    config.trust_proxy = true;
    let (_server, address) = bridge(config);
    inside.push(Ws::open_with(address, &from("192.0.2.1")).await);
    inside.push(Ws::open_with(address, &from("2001:db8::1")).await);
    inside.push(Ws::open_with(address, &from("192.0.2.1, 192.0.2.2")).await);
    inside.push(Ws::open_with(address, &(from("192.0.2.2") + &from("192.0.2.3"))).await);
    for again in [
        from("192.0.2.1"),
        from(" 192.0.2.1 "),
        from("192.0.2.77,192.0.2.1"),
        from("made up, 192.0.2.2"),
        from("2001:DB8:0::1"),
        from("192.0.2.77") + &from("192.0.2.3"),
        from("192.0.2.1:1234"),
        from("192.0.2.77:80, 192.0.2.2:65535"),
        from("[2001:db8::1]:443"),
        from("[2001:db8::1]"),
    ] {
        assert_eq!(knock(address, "localhost", &again).await, 503, "{again}");
    }
    // Where the proxy tells nothing its own address counts, and this machine's is exempt.
    for _ in 0..2 {
        inside.push(Ws::open(address).await);
        inside.push(Ws::open_with(address, &from("nobody knows")).await);
        inside.push(Ws::open_with(address, &from("192.0.2.1:high")).await);
        inside.push(Ws::open_with(address, &from("[192.0.2.1]")).await);
    }
    for ws in &mut inside {
        ws.expect_nothing().await;
    }
}
