//! The bridge over real TCP: what it serves, whom it lets in, and the protocol in WebSocket frames.
//!
//! Requests and frames are written byte by byte here, so that wrong ones can be.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parlor::Config;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Random, TestServer};

/// How long anything may take: long, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection that the bridge closes by itself is closed by then; one that is only idle is not.
const AT_ONCE: Duration = Duration::from_secs(4);
/// Bytes of the longest line.
const LINE_BYTES: usize = 2048;
/// Bytes of the largest frame.
const FRAME_BYTES: usize = 8192;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
                      data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types \
                      'none'";

/// The key of RFC 6455's example, and its answer.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// First bytes of frames.
const TEXT: u8 = 0x81;
const TEXT_BEGINS: u8 = 0x01;
const BINARY: u8 = 0x82;
const CONTINUES: u8 = 0x00;
const CONTINUES_AND_ENDS: u8 = 0x80;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A server with a bridge, and the bridge's address.
fn bridge(mut config: Config) -> (TestServer, SocketAddr) {
    if config.web.is_empty() {
        config.web = vec!["127.0.0.1:0".parse().expect("an address")];
    }
    let server = TestServer::start(config);
    let address = server.server.web_addrs()[0];
    (server, SocketAddr::from(([127, 0, 0, 1], address.port())))
}

fn usual_bridge() -> (TestServer, SocketAddr) {
    bridge(Config::default())
}

async fn soon<F: Future>(what: &str, happens: F) -> F::Output {
    let happened = tokio::time::timeout(PATIENCE, happens).await;
    happened.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// What the bridge answers to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// A header's only value.
    fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(header, _)| header == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    #[track_caller]
    fn assert_protected(&self) {
        assert_eq!(self.header("content-security-policy"), Some(POLICY));
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(self.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(self.header("x-frame-options"), Some("DENY"));
    }
}

/// An HTTP connection.
struct Http(BufReader<TcpStream>);

impl Http {
    async fn reach(address: SocketAddr) -> Http {
        let stream = soon("a connection", TcpStream::connect(address)).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        Http(BufReader::new(stream))
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room to write", self.0.write_all(bytes.as_ref())).await.expect("written");
    }

    /// The next answer; one to `HEAD` has no body.
    async fn answer(&mut self, is_head: bool) -> Answer {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = soon("a line of the head", self.0.read_line(&mut line)).await;
            assert!(read.expect("read") > 0, "the connection ends in the head: {lines:?}");
            let line = line.strip_suffix("\r\n").expect("CR LF").to_owned();
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        let status = lines[0].strip_prefix("HTTP/1.1 ").or(lines[0].strip_prefix("HTTP/1.0 "));
        let status = status.expect("HTTP")[..3].parse().expect("a status");
        let header = |line: &String| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_ascii_lowercase(), value.to_owned())
        };
        let headers = lines[1..].iter().map(header).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        if !is_head && status != 101 {
            let length = answer.header("content-length").expect("a length");
            answer.body = vec![0; length.parse().expect("a number")];
            soon("the body", self.0.read_exact(&mut answer.body)).await.expect("read");
        }
        answer
    }

    /// The bridge closes the connection, properly, and by itself.
    async fn assert_closed(mut self) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(AT_ONCE, self.0.read_to_end(&mut rest)).await;
        ended.expect("it is closed at once").expect("it is closed, and not reset");
        assert_eq!(rest, b"");
    }

    /// Nothing beyond the last answer has come, and the connection can be used again.
    async fn assert_open(mut self) {
        self.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert_eq!(self.answer(false).await.status, 200);
    }
}

/// A limit was reached so often, as the metrics tell a moment after a connection has ended.
async fn limit_shows(server: &TestServer, limit: &str, times: usize) {
    let line = format!("parlor_limit_reached_total{{limit=\"{limit}\"}} {times}\n");
    let shows = async {
        while !server.server.metrics().contains(&line) {
            tokio::task::yield_now().await;
        }
    };
    soon(&line, shows).await;
}

/// Sends one request of one's own.
async fn request(address: SocketAddr, request: &str) -> Answer {
    let mut http = Http::reach(address).await;
    http.send(request).await;
    http.answer(request.starts_with("HEAD ")).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

/// A handshake's request, with more headers.
fn handshake(host: &str, more: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: \
         websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// Who comes in with this Host and these headers: the status.
async fn knock(address: SocketAddr, host: &str, more: &str) -> u16 {
    request(address, &handshake(host, more)).await.status
}

/// A frame as a client must send it.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn header(first: u8, mask: u8, length: usize) -> Vec<u8> {
    match u16::try_from(length) {
        Ok(short @ 0..126) => vec![first, mask | short as u8],
        Ok(medium) => [&[first, mask | 126], &medium.to_be_bytes()[..]].concat(),
        Err(_) => [&[first, mask | 127], &(length as u64).to_be_bytes()[..]].concat(),
    }
}

fn masked_lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    lines.into_iter().flat_map(|line| masked(TEXT, line.as_bytes())).collect()
}

/// A WebSocket of a client.
pub(crate) struct Ws(BufReader<TcpStream>);

impl Ws {
    /// Opens one, and has read the greeting.
    pub(crate) async fn open(address: SocketAddr) -> Ws {
        Ws::over(Http::reach(address).await, "").await
    }

    /// Its connection, for frames and an end of one's own; all that came has been read.
    pub(crate) fn into_stream(self) -> TcpStream {
        assert_eq!(self.0.buffer(), b"");
        self.0.into_inner()
    }

    async fn open_with(address: SocketAddr, headers: &str) -> Ws {
        Ws::over(Http::reach(address).await, headers).await
    }

    /// One whose kernel takes only little before it is read.
    async fn open_narrow(address: SocketAddr) -> Ws {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let stream = soon("a connection", socket.connect(address)).await.expect("connected");
        Ws::over(Http(BufReader::with_capacity(512, stream)), "").await
    }

    async fn over(mut http: Http, headers: &str) -> Ws {
        http.send(handshake("localhost", headers)).await;
        assert_eq!(http.answer(false).await.status, 101);
        let mut ws = Ws(http.0);
        ws.expect("HELLO parlor/1 ").await;
        ws
    }

    pub(crate) async fn join(address: SocketAddr, name: &str) -> Ws {
        Ws::open(address).await.joined(name).await
    }

    async fn joined(mut self, name: &str) -> Ws {
        self.send(&format!("JOIN LOBBY {name} 0")).await;
        self.expect(&format!("OK JOIN LOBBY {name} ")).await;
        self
    }

    async fn bytes(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room to write", self.0.write_all(bytes.as_ref())).await.expect("written");
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.bytes(masked(TEXT, line.as_bytes())).await;
    }

    /// The next frame: its first byte and its payload. `None` at the end of file.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        soon("a frame", self.next_frame()).await
    }

    /// The same, for as long as it takes.
    async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        if self.0.fill_buf().await.expect("the connection is not reset").is_empty() {
            return None;
        }
        let first = self.0.read_u8().await.expect("a frame");
        let length = match self.0.read_u8().await.expect("a length") {
            126 => self.0.read_u16().await.expect("a length").into(),
            short @ 0..126 => usize::from(short),
            long => panic!("{long:#x} begins no length of a server's line, after {first:#x}"),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.expect("a payload");
        Some((first, payload))
    }

    /// The next line. Pings before it are answered, as by any client.
    async fn line(&mut self) -> String {
        let (first, payload) = loop {
            match self.frame().await.expect("the connection is closed") {
                (PING, payload) => self.bytes(masked(PONG, &payload)).await,
                frame => break frame,
            }
        };
        assert_eq!(first, TEXT, "a frame of text: {}", payload.escape_ascii());
        String::from_utf8(payload).expect("UTF-8")
    }

    /// The next line must begin so; returns what follows.
    pub(crate) async fn expect(&mut self, beginning: &str) -> String {
        let line = self.line().await;
        let rest = line.strip_prefix(beginning);
        rest.unwrap_or_else(|| panic!("{line}\n  came instead of {beginning}")).to_owned()
    }

    async fn expect_pong(&mut self, payload: &[u8]) {
        assert_eq!(self.frame().await, Some((PONG, payload.to_vec())));
    }

    async fn expect_nothing(&mut self) {
        self.send("PING fence").await;
        self.expect("OK PING fence").await;
    }

    /// The bridge closes with this status, and then the connection, properly.
    async fn expect_close(mut self, status: u16) {
        let (first, payload) = self.frame().await.expect("a close frame");
        assert_eq!(first, CLOSE, "{}", payload.escape_ascii());
        assert_eq!(payload.get(..2), Some(&status.to_be_bytes()[..]), "{status}");
        // As RFC 6455 wants it; where the bridge has closed already it is not read.
        let _ = self.0.write_all(&masked(CLOSE, &status.to_be_bytes())).await;
        assert_eq!(self.frame().await, None);
    }
}

// What is served.

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

// Who may come in.

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let (_server, address) = usual_bridge();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut http = Http::reach(address).await;
        http.send(format!("GET / {version}\r\n\r\n")).await;
        assert_eq!(http.answer(false).await.status, 400, "{version}");
        http.assert_closed().await;
    }
}

/// RFC 9112, 3.2.
#[tokio::test]
async fn a_request_with_two_hosts_is_refused() {
    let (_server, address) = usual_bridge();
    for second in ["localhost", "127.0.0.1", "evil.example", ""] {
        let hosts = format!("Host: localhost\r\nHost: {second}\r\n");
        for path in ["/", "/healthz", "/ws"] {
            let mut http = Http::reach(address).await;
            http.send(format!("GET {path} HTTP/1.1\r\n{hosts}\r\n")).await;
            assert_eq!(http.answer(false).await.status, 400, "{path} {second}");
            http.assert_closed().await;
        }
        let more = format!("Host: {second}\r\n");
        assert_eq!(knock(address, "localhost", &more).await, 400, "{second}");
    }
}

#[tokio::test]
async fn on_loopback_only_names_of_this_machine_are_served() {
    let (_server, address) = usual_bridge();
    let port = address.port();
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"] {
        for host in [host.to_owned(), format!("{host}:{port}"), format!("{host}:1")] {
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(request(address, &head).await.status, 200, "{host}");
            assert_eq!(knock(address, &host, "").await, 101, "{host}");
        }
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127",
        "localhost@evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "[::]",
        "::ffff:192.0.2.1",
        "",
    ] {
        for path in ["/", "/healthz", "/metrics", "/ws"] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(request(address, &head).await.status, 421, "{host} {path}");
        }
        assert_eq!(knock(address, host, "").await, 421, "{host}");
    }
}

#[tokio::test]
async fn where_all_interfaces_are_listened_on_any_host_is_served() {
    let mut config = Config::default();
    config.web = vec!["0.0.0.0:0".parse().expect("an address")];
    let (_server, address) = bridge(config);
    for host in ["chat.example", "chat.example:7778", "192.0.2.1", "localhost"] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(request(address, &head).await.status, 200, "{host}");
        assert_eq!(knock(address, host, &format!("Origin: http://{host}\r\n")).await, 101);
        assert_eq!(knock(address, host, "Origin: http://evil.example\r\n").await, 403);
    }
    assert_eq!(request(address, "GET / HTTP/1.1\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn behind_a_trusted_proxy_any_host_is_served() {
    let mut config = Config::default();
    config.trust_proxy = true;
    let (_server, address) = bridge(config);
    assert_eq!(knock(address, "chat.example", "Origin: https://chat.example\r\n").await, 101);
    assert_eq!(knock(address, "chat.example", "Origin: https://evil.example\r\n").await, 403);
}

// clause: WS-4
#[tokio::test]
async fn only_the_own_page_and_programs_may_open_the_socket() {
    let (_server, address) = usual_bridge();
    let port = address.port();
    let host = format!("localhost:{port}");
    assert_eq!(knock(address, &host, "").await, 101);
    for origin in
        [format!("http://{host}"), format!("https://{host}"), format!("http://LocalHost:{port}")]
    {
        assert_eq!(knock(address, &host, &format!("Origin: {origin}\r\n")).await, 101, "{origin}");
    }
    for origin in [
        "http://evil.example".to_owned(),
        format!("http://evil.example:{port}"),
        "null".to_owned(),
        String::new(),
        "http://localhost".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        format!("http://127.0.0.1:{port}"),
        format!("file://{host}"),
        format!("ftp://{host}"),
        host.clone(),
        format!("http://{host}.evil.example"),
        format!("http://evil.example/http://{host}"),
        format!("http://user@{host}"),
        format!("http://{host}/"),
        "http://\u{e9}".to_owned(),
    ] {
        let status = knock(address, &host, &format!("Origin: {origin}\r\n")).await;
        assert_eq!(status, 403, "{origin}");
    }
}

#[tokio::test]
async fn default_ports_of_origins_are_understood() {
    let (_server, address) = usual_bridge();
    for (origin, host, status) in [
        ("http://localhost", "localhost", 101),
        ("http://localhost", "localhost:80", 101),
        ("http://localhost:80", "localhost", 101),
        ("https://localhost", "localhost", 101),
        ("https://localhost", "localhost:443", 101),
        ("https://localhost:443", "localhost", 101),
        ("http://[::1]", "[::1]:80", 101),
        ("http://[::1]:80", "[::1]", 101),
        ("http://localhost", "localhost:443", 403),
        ("https://localhost", "localhost:80", 403),
        ("http://localhost:443", "localhost", 403),
        ("http://[::1]", "[::1]:81", 403),
    ] {
        let came_in = knock(address, host, &format!("Origin: {origin}\r\n")).await;
        assert_eq!(came_in, status, "{origin} at {host}");
    }
}

#[tokio::test]
async fn other_origins_are_allowed_by_name() {
    let mut config = Config::default();
    config.allow_origins = vec!["https://school.example".to_owned()];
    let (_server, address) = bridge(config);
    for (origin, status) in [
        ("https://school.example", 101),
        ("https://SCHOOL.example", 101),
        ("http://localhost", 101),
        ("http://school.example", 403),
        ("https://school.example:8443", 403),
        ("https://www.school.example", 403),
        ("https://school.example.evil.example", 403),
        ("null", 403),
    ] {
        let came_in = knock(address, "localhost", &format!("Origin: {origin}\r\n")).await;
        assert_eq!(came_in, status, "{origin}");
    }
    // It may open the socket; it is no other Host.
    assert_eq!(knock(address, "school.example", "").await, 421);
}

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

// The protocol in frames.

#[tokio::test]
async fn a_page_and_a_netcat_talk_in_one_room() {
    let (server, address) = usual_bridge();
    let mut page = Ws::open(address).await;
    page.send("CREATE alice").await;
    let code = page.expect("OK CREATE ").await;
    let code = code.split(' ').next().expect("a code");
    let mut netcat = Client::join(server.address, code, "bob").await;
    page.expect("JOINED bob").await;
    netcat.send("MSG grüße, alice").await;
    netcat.expect("OK MSG 1 ").await;
    assert!(page.expect("MSG 1 ").await.ends_with(" bob grüße, alice"));
    page.send("MSG   and to you \u{1f375}").await;
    page.expect("OK MSG 2 ").await;
    assert!(netcat.expect("MSG 2 ").await.ends_with(" alice   and to you \u{1f375}"));
    page.send("TELL bob psst").await;
    page.expect("OK TELL bob").await;
    assert!(netcat.expect("TELL ").await.ends_with(" alice psst"));
    page.send("WHO").await;
    for line in ["USER alice here host", "USER bob here", "OK WHO 2"] {
        assert_eq!(page.line().await, line);
    }
    // An empty line gets no reply.
    page.send("").await;
    page.send(" \t").await;
    page.expect_nothing().await;
    page.send("QUIT").await;
    netcat.expect("LEFT alice quit").await;
}

#[tokio::test]
async fn another_ones_client_can_talk_too() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let (mut ws, _) =
        tokio_tungstenite::connect_async(format!("ws://localhost:{}/ws", address.port()))
            .await
            .expect("a handshake");
    ws.send(Message::text("JOIN LOBBY web 0")).await.expect("sent");
    line.expect("JOINED web").await;
    ws.send(Message::text("MSG hello")).await.expect("sent");
    assert!(line.expect("MSG 1 ").await.ends_with(" web hello"));
    ws.send(Message::text("QUIT")).await.expect("sent");
    let mut lines = Vec::new();
    while let Some(message) = soon("a message", ws.next()).await {
        match message.expect("no error") {
            Message::Text(text) => lines.push(text.to_string()),
            Message::Close(frame) => lines.push(format!("close {}", frame.expect("a code").code)),
            other => panic!("{other:?}"),
        }
    }
    let begins: Vec<_> = lines.iter().map(|line| &line[..6.min(line.len())]).collect();
    assert_eq!(begins, ["HELLO ", "OK JOI", "OK MSG", "OK QUI", "BYE qu", "close "]);
    assert_eq!(lines[5], "close 1000");
}

// clause: WS-3
#[tokio::test]
async fn a_line_that_is_too_long_gets_its_error_and_the_next_is_fine() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::open(address).await;
    let ping = |bytes: usize| format!("PING {}", "x".repeat(bytes - "PING ".len()));
    ws.send(&ping(LINE_BYTES)).await;
    assert_eq!(ws.line().await, format!("OK {}", ping(LINE_BYTES)));
    for bytes in [LINE_BYTES + 1, 3 * LINE_BYTES, FRAME_BYTES] {
        ws.send(&ping(bytes)).await;
        ws.expect("ERR * line-too-long ").await;
        ws.expect_nothing().await;
    }
}

// clause: WS-2
#[tokio::test]
async fn line_breaks_telnet_and_editing_are_control_characters() {
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    for bad in [
        "MSG a\nMSG b",
        "MSG a\n",
        "MSG a\r\n",
        "\n",
        "MSG a\r",
        "MSG a\r\0",
        "MSG a\u{b}b",
        "MSG a\u{85}b",
        "MSG a\u{2028}b",
        "MSG \u{202e}b",
        "MSG ab\u{8}",
        "MSG ab\u{7f}",
        "MSG ab\u{15}MSG c",
        "\u{4}",
        "MSG \u{1b}[A",
        "MSG \0",
        "x\u{8}",
    ] {
        ws.send(bad).await;
        ws.expect("ERR * control-char ").await;
    }
    // Telnet's bytes: in UTF-8 they are letters, and stay those.
    ws.send("MSG \u{ff}\u{f6}").await;
    ws.expect("OK MSG 1 ").await;
    assert!(line.expect("MSG 1 ").await.ends_with(" web \u{ff}\u{f6}"));
    line.expect_nothing().await;
}

// clause: WS-1
#[tokio::test]
async fn a_fragmented_message_is_one_line() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::open(address).await;
    let whole = "PING grüße \u{1f375}!".as_bytes();
    // Cut at each byte, also within characters, with a ping between.
    for cut in 0..=whole.len() {
        ws.bytes(masked(TEXT_BEGINS, &whole[..cut])).await;
        ws.bytes(masked(PING, &[cut as u8])).await;
        ws.expect_pong(&[cut as u8]).await;
        ws.bytes(masked(CONTINUES, b"")).await;
        ws.bytes(masked(CONTINUES_AND_ENDS, &whole[cut..])).await;
        assert_eq!(ws.line().await, "OK PING grüße \u{1f375}!");
    }
    // Many fragments of one byte.
    let long = format!("PING {}", "x".repeat(LINE_BYTES - "PING ".len()));
    let mut frames = masked(TEXT_BEGINS, b"");
    long.bytes().for_each(|byte| frames.extend(masked(CONTINUES, &[byte])));
    frames.extend(masked(CONTINUES_AND_ENDS, b""));
    ws.bytes(frames).await;
    assert_eq!(ws.line().await, format!("OK {long}"));
}

#[tokio::test]
async fn frames_may_be_cut_anywhere() {
    let (_server, address) = usual_bridge();
    let mut ws = Ws::join(address, "web").await;
    let mut bytes = Vec::new();
    for number in 1..=20 {
        bytes.extend(masked(TEXT, format!("MSG {}", "x".repeat(number * 9)).as_bytes()));
        bytes.extend(masked(PING, format!("{number}").as_bytes()));
        bytes.extend(masked(TEXT_BEGINS, b"MSG in"));
        bytes.extend(masked(CONTINUES_AND_ENDS, b" two"));
    }
    let mut random = Random(7);
    let mut rest = &bytes[..];
    ws.0.get_mut().set_nodelay(true).expect("no delay");
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(9) as usize));
        ws.bytes(piece).await;
        tokio::task::yield_now().await;
        rest = after;
    }
    let (mut said, mut pongs) = (0, Vec::new());
    while said < 40 {
        match ws.frame().await.expect("a frame") {
            (PONG, payload) => pongs.push(payload),
            (first, payload) => {
                assert_eq!(first, TEXT);
                said += 1;
                let expected = format!("OK MSG {said} ");
                assert!(payload.starts_with(expected.as_bytes()), "{}", payload.escape_ascii());
            }
        }
    }
    // The last pong may come after the last reply; a pong may answer for pings before it.
    ws.send("PING fence").await;
    while let Some((first, payload)) = ws.frame().await
        && first == PONG
    {
        pongs.push(payload);
    }
    assert_eq!(pongs.last(), Some(&b"20".to_vec()));
}

#[tokio::test]
async fn many_lines_in_one_segment_are_published_in_order() {
    const MESSAGES: usize = 500;
    let (server, address) = usual_bridge();
    let mut line = Client::join(server.address, "LOBBY", "line").await;
    let mut ws = Ws::join(address, "web").await;
    line.expect("JOINED web").await;
    let lines: Vec<_> = (1..=MESSAGES).map(|number| format!("MSG number {number}")).collect();
    ws.bytes(masked_lines(lines.iter().map(String::as_str))).await;
    for id in 1..=MESSAGES {
        ws.expect(&format!("OK MSG {id} ")).await;
        assert!(line.expect(&format!("MSG {id} ")).await.ends_with(&format!(" web number {id}")));
    }
    // Also right behind the handshake, and with the end of it all.
    let mut http = Http::reach(address).await;
    let script = ["JOIN LOBBY hasty 0", "MSG one", "MSG two", "PING", "QUIT", "MSG three"];
    http.send([handshake("localhost", "").as_bytes(), &masked_lines(script)].concat()).await;
    assert_eq!(http.answer(false).await.status, 101);
    let mut ws = Ws(http.0);
    for beginning in ["HELLO ", "OK JOIN LOBBY hasty ", "OK MSG 501 ", "OK MSG 502 ", "OK PING"] {
        ws.expect(beginning).await;
    }
    ws.expect("OK QUIT").await;
    ws.expect("BYE quit ").await;
    ws.expect_close(1000).await;
    for beginning in ["JOINED hasty", "MSG 501 ", "MSG 502 ", "LEFT hasty quit"] {
        line.expect(beginning).await;
    }
    line.expect_nothing().await;
}

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

// The end.

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
