//! What the bridge serves: its files, codes and figures, and requests that it refuses.

use super::*;

#[tokio::test]
async fn every_file_is_served_with_its_type_and_protected() {
    let (_server, address) = usual_bridge();
    for (path, kind, begins) in [
        ("/", "text/html; charset=utf-8", "<!"),
        ("/parlor.js", "text/javascript; charset=utf-8", ""),
        ("/parlor.css", "text/css; charset=utf-8", ""),
        ("/?from=elsewhere", "text/html; charset=utf-8", "<!"),
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/metrics", "text/plain; version=0.0.4", "# HELP "),
        ("/qr.svg?x", "image/svg+xml", "<svg "),
    ] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("content-encoding"), None, "{path}");
        let text = answer.text();
        assert!(text.starts_with(begins), "{path}: {text}");
        answer.assert_protected();
    }
}

#[tokio::test]
async fn refusals_are_protected_too() {
    let (_server, address) = usual_bridge();
    for (line, more, status) in [
        ("GET /nothing", "Host: localhost\r\n", 404),
        ("POST /", "Host: localhost\r\n", 405),
        ("GET /", "", 400),
        ("GET /", "Host: evil.example\r\n", 421),
        ("GET /ws", "Host: localhost\r\n", 426),
        ("GET /ws", "Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
        ("GET /qr.svg", "Host: localhost\r\n", 400),
    ] {
        let answer = request(address, &format!("{line} HTTP/1.1\r\n{more}\r\n")).await;
        assert_eq!(answer.status, status, "{line} {more}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{line}");
        answer.assert_protected();
    }
}

#[tokio::test]
async fn the_page_may_be_framed_where_its_operator_says_so() {
    let mut config = Config::default();
    config.embed_origins = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
    let (_server, address) = bridge(config);
    let answer = get(address, "/").await;
    let policy = answer.header("content-security-policy").expect("a policy");
    let framing = "frame-ancestors https://a.example https://b.example";
    assert_eq!(policy, POLICY.replace("frame-ancestors 'none'", framing));
    assert_eq!(answer.header("x-frame-options"), None);
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let (_server, address) = usual_bridge();
    for path in ["/", "/parlor.js", "/parlor.css", "/healthz", "/qr.svg?x", "/nothing"] {
        let whole = get(address, path).await;
        let mut http = Http::reach(address).await;
        http.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let head = http.answer(true).await;
        assert_eq!(head.status, whole.status, "{path}");
        for name in ["content-type", "content-length", "content-security-policy"] {
            assert_eq!(head.header(name), whole.header(name), "{path}: {name}");
        }
        match head.header("connection") {
            Some("close") => http.assert_closed().await,
            _ => http.assert_open().await,
        }
    }
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let (_server, address) = usual_bridge();
    let mut http = Http::reach(address).await;
    let paths = ["/", "/parlor.js", "/nothing", "/parlor.css", "/healthz"];
    let pipelined = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    http.send(pipelined.concat()).await;
    for path in paths {
        let status = if path == "/nothing" { 404 } else { 200 };
        assert_eq!(http.answer(false).await.status, status, "{path}");
    }
    http.assert_open().await;
}

/// One connection would else keep a core busy. Takes 2 s.
#[tokio::test]
async fn who_sends_hundreds_of_requests_at_once_gets_100_answers_a_second() {
    let (server, address) = usual_bridge();
    let mut http = Http::reach(address).await;
    let began = Instant::now();
    http.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(201)).await;
    for _ in 0..200 {
        assert_eq!(http.answer(true).await.status, 200);
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(http.answer(true).await.status, 200);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    limit_shows(&server, "requests", 2).await;
    http.assert_open().await;
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let (_server, address) = usual_bridge();
    for path in
        ["/index.html", "/ws/", "//", "/../etc/passwd", "/%2e%2e/", "/parlor.js/", "/WS", "/echo"]
    {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let (_server, address) = usual_bridge();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "BREW", "get"] {
        let target = if method == "CONNECT" { "localhost:80" } else { "/" };
        let mut http = Http::reach(address).await;
        http.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let answer = http.answer(false).await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method}");
        http.assert_closed().await;
    }
}

#[tokio::test]
async fn a_body_is_refused_and_never_taken_for_a_request() {
    let (_server, address) = usual_bridge();
    let inner = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let sized = format!("Content-Length: {}\r\n\r\n{inner}", inner.len());
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}");
    for body in [sized, chunked, "Content-Length: 5\r\n\r\n".to_owned()] {
        let mut http = Http::reach(address).await;
        http.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{body}")).await;
        let answer = http.answer(false).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.header("connection"), Some("close"), "{body}");
        http.assert_closed().await;
    }
}

#[tokio::test]
async fn nonsense_gets_400_and_no_more() {
    let (_server, address) = usual_bridge();
    for nonsense in [
        "CREATE alice\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ] {
        let mut http = Http::reach(address).await;
        http.send(nonsense).await;
        let mut rest = String::new();
        let ended = tokio::time::timeout(AT_ONCE, http.0.read_to_string(&mut rest)).await;
        ended.expect("it is closed").expect("it is not reset");
        assert!(rest.starts_with("HTTP/1.1 400 "), "{nonsense:?}: {rest:?}");
        assert_eq!(rest.matches("HTTP/1.1").count(), 1, "{nonsense:?}: {rest:?}");
    }
}

#[tokio::test]
async fn a_head_of_more_than_8_kib_is_too_large() {
    let (server, address) = usual_bridge();
    let head = |bytes: usize| {
        let (start, end) = ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    assert_eq!(request(address, &head(8 << 10)).await.status, 200);
    for bytes in [(8 << 10) + 1, 9 << 10] {
        let mut http = Http::reach(address).await;
        http.send(head(bytes)).await;
        assert_eq!(http.answer(false).await.status, 431, "{bytes}");
    }
    // One that doesn't end: it is refused when it is too long, and not gathered.
    let mut http = Http::reach(address).await;
    http.send(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(8 << 10))).await;
    assert_eq!(http.answer(false).await.status, 431);
    http.assert_closed().await;
    limit_shows(&server, "head", 3).await;
}

#[tokio::test]
async fn the_three_files_are_at_most_50_kib() {
    let (_server, address) = usual_bridge();
    let mut bytes = 0;
    for path in ["/", "/parlor.js", "/parlor.css"] {
        bytes += get(address, path).await.body.len();
    }
    assert!(bytes <= 51_200, "{bytes} bytes");
}

#[tokio::test]
async fn a_qr_code_is_made_of_percent_encoded_text() {
    let (_server, address) = usual_bridge();
    let plain = get(address, "/qr.svg?http://h:7778/BKTW").await;
    assert_eq!(plain.status, 200);
    let encoded = get(address, "/qr.svg?http%3A%2f%2Fh%3a7778%2FBKTW").await;
    assert_eq!(encoded.body, plain.body);
    let other = get(address, "/qr.svg?http%3A%2f%2Fh%3a7778%2F%23BKTW").await;
    assert_eq!(other.status, 200);
    assert_ne!(other.body, plain.body);
    for longest in ["x".repeat(200), "%e2%82%ac".repeat(66)] {
        assert_eq!(get(address, &format!("/qr.svg?{longest}")).await.status, 200);
    }
    // The text is never in the answer.
    let markup = get(address, "/qr.svg?%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!((markup.status, markup.text().contains("script")), (200, false));
    for bad in [&*"x".repeat(201), &"%e2%82%ac".repeat(67), "", "%", "%4", "a%zz", "%ff", "%c3"] {
        assert_eq!(get(address, &format!("/qr.svg?{bad}")).await.status, 400, "{bad}");
    }
    assert_eq!(get(address, "/qr.svg").await.status, 400);
}

#[tokio::test]
async fn qr_codes_are_made_one_by_one_and_one_a_connection() {
    const ASKING: usize = 8;
    let (server, address) = usual_bridge();
    let mut all = Vec::new();
    for _ in 0..ASKING {
        all.push(Http::reach(address).await);
    }
    let began = Instant::now();
    let request = "GET /qr.svg?x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for http in &mut all {
        http.send(request.repeat(2)).await;
    }
    for mut http in all {
        let answer = http.answer(false).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        http.assert_closed().await;
    }
    // However slow the machine is, it rests before each.
    assert!(began.elapsed() >= ASKING as u32 * Duration::from_millis(20));
    let waited = format!("parlor_limit_reached_total{{limit=\"qr-codes\"}} {}\n", ASKING - 1);
    let metrics = server.server.metrics();
    assert!(metrics.contains(&waited), "{metrics}");
}

/// What waits for a code keeps its place and its file, also when its client is gone.
#[tokio::test]
async fn past_32_who_wait_for_qr_codes_the_next_are_told_to_come_again() {
    const WAITING: usize = 32;
    let (server, address) = usual_bridge();
    let mut all = Vec::new();
    for _ in 0..3 * WAITING {
        all.push(Http::reach(address).await);
    }
    // All at once: nothing else runs meanwhile.
    let request = b"GET /qr.svg?x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for http in &all {
        assert_eq!(http.0.get_ref().try_write(request).expect("room to write"), request.len());
    }
    let mut refused = 0;
    for mut http in all {
        let answer = http.answer(false).await;
        answer.assert_protected();
        assert_eq!(answer.header("connection"), Some("close"));
        if answer.status == 503 {
            assert!(answer.text().ends_with("Try again.\n"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        } else {
            assert_eq!(answer.status, 200);
        }
        http.assert_closed().await;
    }
    // While requests come in, a few codes are made.
    assert!((WAITING..=2 * WAITING).contains(&refused), "{refused} refused");
    // Each of them but the first waited or was refused, unless nobody asked for a moment.
    let metrics = server.server.metrics();
    let reached = metrics.split_once("{limit=\"qr-codes\"} ").expect("the limit").1;
    let reached = reached.lines().next().expect("a line").parse().expect("a number");
    assert!((refused..3 * WAITING).contains(&reached), "{metrics}");
    // And then there is a place again.
    assert_eq!(get(address, "/qr.svg?x").await.status, 200);
}

#[tokio::test]
async fn a_percent_sign_with_a_plus_is_no_percent_encoding() {
    let (_server, address) = usual_bridge();
    for bad in ["%+4", "%+f", "a%-1"] {
        assert_eq!(get(address, &format!("/qr.svg?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn metrics_move_and_tell_no_room_no_name_and_no_text() {
    let (server, address) = usual_bridge();
    let value = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
    };
    let before = get(address, "/metrics").await;
    assert_eq!(value(before.text(), "parlor_connections"), 0);
    let mut line = Client::connect(server.address).await;
    line.send("CREATE zacharias").await;
    let code = line.expect("OK CREATE ").await;
    let code = code.split(' ').next().expect("a code");
    let mut ws = Ws::open(address).await;
    ws.send(&format!("JOIN {code} wilhelmine")).await;
    ws.expect("OK JOIN ").await;
    line.expect("JOINED wilhelmine").await;
    for id in 1..=3 {
        ws.send("MSG rhabarber").await;
        ws.expect(&format!("OK MSG {id} ")).await;
        line.expect(&format!("MSG {id} ")).await;
    }
    ws.send("BOGUS").await;
    ws.expect("ERR * unknown-command ").await;
    let after = get(address, "/metrics").await;
    let after = after.text();
    assert_eq!(value(after, "parlor_connections"), 2);
    assert_eq!(value(after, "parlor_rooms"), value(before.text(), "parlor_rooms") + 1);
    assert_eq!(value(after, "parlor_messages_total"), 3);
    assert!(value(after, "parlor_deliveries_total") >= 4, "{after}");
    assert_eq!(value(after, "parlor_refusals_total"), 1);
    assert_eq!(value(after, "parlor_gaps_total"), 0);
    assert!(value(after, "parlor_received_bytes_total") >= 3 * "MSG rhabarber".len() as u64);
    assert!(value(after, "parlor_sent_bytes_total") > 200, "{after}");
    assert!(value(after, "process_resident_memory_bytes") > 1 << 20, "{after}");
    for secret in [code, "zacharias", "wilhelmine", "rhabarber", "BOGUS", "127.0.0.1"] {
        assert!(!after.contains(secret), "{secret} is told: {after}");
    }
    // The text format: a help, a type, values, for each.
    let mut lines = after.lines().peekable();
    while let Some(help) = lines.next() {
        let name = help.strip_prefix("# HELP ").and_then(|help| help.split(' ').next());
        let name = name.unwrap_or_else(|| panic!("{help}"));
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        assert_eq!(lines.next().expect("a type"), format!("# TYPE {name} {kind}"));
        let mut values = 0;
        while let Some(value) = lines.next_if(|line| !line.starts_with('#')) {
            let labels = value.strip_prefix(name).and_then(|rest| rest.rsplit_once(' '));
            let (labels, number) = labels.unwrap_or_else(|| panic!("{value} of {name}"));
            assert!(labels.is_empty() || labels.starts_with("{limit=\""), "{value}");
            assert!(number.parse::<u64>().is_ok(), "{value}");
            values += 1;
        }
        assert!(values > 0, "no value of {name}");
    }
    assert!(after.ends_with('\n'));
}
