//! A hostile world: limits that are reached and counted, and faults that stay where they are.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use parlor::{Clock, Config, Random, Seat};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

use crate::binary::{Daemon, Plain, soon};
use crate::client::TestServer;
use crate::support::{Client, WIDE, attach, pass, seconds, settle};

/// How often a limit was reached, as the metrics tell.
pub(crate) fn reached(metrics: &str, limit: &str) -> u64 {
    value(metrics, &format!("parlor_limit_reached_total{{limit=\"{limit}\"}}"))
}

fn value(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().expect("a number")
}

/// Clients with this address, to which limits apply.
async fn stranger(server: &TestServer) -> Client {
    Client::from(server, "192.0.2.1:5000").await.patient()
}

// clause: LIMIT-1, LIMIT-2, LIMIT-3, LIMIT-4, LIMIT-5
#[tokio::test(start_paused = true)]
async fn every_limit_that_is_reached_is_counted_by_its_name() {
    let mut config = Config::default();
    (config.max_connections, config.max_per_address) = (6, 2);
    (config.max_rooms, config.max_members, config.burst) = (65, 2, 200);
    config.history = 2;
    let server = TestServer::start(config);
    let is_counted = |limit: &str, times: u64| {
        let metrics = server.server.metrics();
        assert_eq!(reached(&metrics, limit), times, "{limit}: {metrics}");
    };
    let mut ann = stranger(&server).await.join("LOBBY", "ann").await;
    for forgotten in [0, 0, 1, 2] {
        ann.ask("MSG hello").await;
        is_counted("history", forgotten);
    }
    let mut other = stranger(&server).await;
    let mut third = Client::over(attach(&server, Some("192.0.2.1:5000"), WIDE)).patient();
    assert!(third.line().await.starts_with("BYE busy "));
    is_counted("max-per-address", 1);
    let mut local = Client::pipe(&server, WIDE).await.patient().join("LOBBY", "local").await;
    ann.expect("JOINED local").await;
    other.send("JOIN LOBBY other").await;
    other.expect("ERR JOIN room-full ").await;
    is_counted("max-members", 1);

    for _ in 0..64 {
        other.send("CREATE").await;
        other.expect("OK CREATE ").await;
    }
    other.send("CREATE").await;
    other.expect("ERR CREATE busy ").await;
    is_counted("unentered-rooms", 1);
    local.send("CREATE").await;
    local.expect("OK CREATE ").await;
    local.send("CREATE").await;
    local.expect("ERR CREATE busy ").await;
    is_counted("max-rooms", 1);

    other.send(&"x".repeat(5000)).await;
    other.expect("ERR * line-too-long ").await;
    is_counted("line", 1);
    for _ in 0..21 {
        other.send("JOIN BBBB other").await;
        other.expect("ERR JOIN no-such-room ").await;
    }
    is_counted("guesses", 0);
    other.send("JOIN BBBB other").await;
    other.expect("ERR JOIN no-such-room ").await;
    is_counted("guesses", 1);
    local.ask("HOLD 60").await;
    drop(local);
    settle().await;
    for _ in 0..100 {
        ann.send("TELL local psst").await;
        ann.expect("OK TELL local").await;
    }
    ann.send("TELL local psst").await;
    ann.expect("ERR TELL slow-down ").await;
    is_counted("tells", 1);
    is_counted("rate", 0);
    ann.send(&"PING\n".repeat(200)).await;
    settle().await;
    is_counted("rate", 1);

    let pipes: Vec<_> = (0..4).map(|_| attach(&server, None, WIDE)).collect();
    settle().await;
    let mut late = Client::over(attach(&server, None, WIDE)).patient();
    assert!(late.line().await.starts_with("BYE busy "));
    is_counted("max-connections", 1);
    drop(pipes);
    settle().await;
    let narrow = attach(&server, None, 64);
    settle().await;
    is_counted("send-buffer", 1);
    is_counted("stall", 0);
    pass(seconds(32)).await;
    is_counted("stall", 1);
    drop(narrow);
}

// clause: LIMIT-1
#[tokio::test(start_paused = true)]
async fn past_256_that_are_being_turned_away_one_more_is_closed_without_a_word() {
    let mut config = Config::default();
    config.max_connections = 0;
    let server = TestServer::start(config);
    // They don't read what they are told.
    let deaf: Vec<_> = (0..256).map(|_| attach(&server, None, 4)).collect();
    settle().await;
    let mut one_more = Client::over(attach(&server, None, WIDE)).patient();
    assert_eq!(one_more.rest().await, [""; 0]);
    let metrics = server.server.metrics();
    assert_eq!((reached(&metrics, "turned-away"), reached(&metrics, "max-connections")), (1, 257));
    drop(deaf);
    settle().await;
    let mut later = Client::over(attach(&server, None, WIDE)).patient();
    assert!(later.line().await.starts_with("BYE busy "));
}

// clause: LIMIT-4, LIMIT-5
#[tokio::test(start_paused = true)]
async fn who_makes_rooms_that_nobody_enters_can_still_connect() {
    let mut config = Config::default();
    config.max_per_address = 2;
    let server = TestServer::start(config);
    for _ in 0..10 {
        let mut ann = stranger(&server).await;
        ann.ask("CREATE").await;
        ann.send("QUIT").await;
        assert_eq!(ann.rest().await.len(), 2);
        settle().await;
    }
}

// clause: PACE-4
#[tokio::test(start_paused = true)]
async fn a_stall_may_take_as_long_as_the_operator_says() {
    for stall in [1, 300] {
        let mut config = Config::default();
        config.stall = stall;
        let server = TestServer::start(config);
        let narrow = attach(&server, None, 16);
        settle().await;
        pass(Duration::from_millis(stall * 1000 - 500)).await;
        assert_eq!(reached(&server.server.metrics(), "stall"), 0);
        // Somebody who reads a little has a stall of his own again.
        let mut narrow = Client::over(narrow).patient();
        narrow.reader.bytes(8).await;
        settle().await;
        pass(Duration::from_millis(stall * 1000 - 500)).await;
        assert_eq!(reached(&server.server.metrics(), "stall"), 0);
        // Its last words take a moment too, in vain.
        pass(seconds(4)).await;
        assert_eq!(reached(&server.server.metrics(), "stall"), 1);
    }
}

/// What the replies may be together that wait for those who don't read, and what each may have
/// besides.
const REPLIES: usize = 64 << 20;
const EACH: usize = 64 << 10;

/// A long name of long letters: the answer to WHO is long where many have such.
fn long_name(mut number: usize) -> String {
    let letter = |_| {
        let letter = char::from_u32(0x12000 + number as u32 % 64).expect("a letter");
        number /= 64;
        letter
    };
    (0..20).map(letter).collect()
}

/// A room of many members with long names, and more connections than may wait for the answer to WHO
/// and not read it.
struct Crowd {
    server: TestServer,
    members: Vec<Seat>,
    host: Client,
    reader: Client,
    deaf: Vec<Client>,
    /// Bytes of the answer to WHO, at least.
    reply: usize,
}

impl Crowd {
    async fn gather() -> Crowd {
        let server = TestServer::start(Config::default());
        let hub = server.server.hub();
        let mut host = Client::pipe(&server, WIDE).await.patient();
        let code = host.create("host").await;
        let join = |number| hub.join(&code, &long_name(number)).expect("a seat");
        let members: Vec<_> = (0..3000).map(join).collect();
        let reply = members.iter().map(|seat| seat.name().as_str().len() + 11).sum();
        let enter = async |name: &str| {
            let client = Client::pipe(&server, 4 << 10).await.patient();
            client.join(&code, name).await
        };
        let reader = enter("reader").await;
        let mut deaf = Vec::new();
        for number in 0..REPLIES / reply + 100 {
            deaf.push(enter(&format!("deaf{number}")).await);
        }
        let mut crowd = Crowd { server, members, host, reader, deaf, reply };
        crowd.host.fence().await;
        crowd.reader.fence().await;
        crowd.reader.send("WHO").await;
        for deaf in &mut crowd.deaf {
            deaf.send("WHO").await;
        }
        settle().await;
        crowd
    }

    /// How many were ended for what they let wait. No more than must be, and no fewer.
    fn ended(&self) -> usize {
        let metrics = self.server.server.metrics();
        assert_eq!(reached(&metrics, "stall"), 0);
        let ended = reached(&metrics, "replies") as usize;
        let left = (self.deaf.len() - ended) * (self.reply - EACH);
        assert!(left <= REPLIES, "{left} bytes wait, and {ended} were ended");
        // The memory of a growing reply is up to twice its bytes.
        assert!(left * 2 + 4 * self.reply > REPLIES, "{left} bytes wait, and {ended} were ended");
        ended
    }
}

// clause: LIMIT-9
#[tokio::test(start_paused = true)]
async fn past_the_bound_of_all_replies_who_does_not_read_ends_as_slow_and_who_reads_does_not() {
    let mut crowd = Crowd::gather().await;
    // Who takes a little now and then is one who reads.
    let mut read = Vec::new();
    for _ in 0..10 {
        read.extend(crowd.reader.reader.bytes(2 << 10).await);
        pass(Duration::from_millis(900)).await;
    }
    let ended = crowd.ended();
    let end = format!("\nOK WHO {}\n", crowd.members.len() + crowd.deaf.len() + 2);
    while !read.ends_with(end.as_bytes()) {
        read.extend(crowd.reader.reader.bytes(1).await);
    }
    // The others who are left have lost nothing either.
    let mut whole = 0;
    for deaf in &mut crowd.deaf {
        deaf.send("QUIT").await;
        let all = String::from_utf8_lossy(&deaf.reader.all().await).into_owned();
        whole += usize::from(all.contains("\nOK WHO ") && all.contains("\nBYE quit "));
    }
    assert_eq!(whole, crowd.deaf.len() - ended);
}

// clause: LIMIT-9
#[tokio::test(start_paused = true)]
async fn the_bound_of_all_replies_holds_for_those_too_whose_last_words_wait() {
    let mut crowd = Crowd::gather().await;
    crowd.host.send("CLOSE").await;
    crowd.host.expect("OK CLOSE").await;
    pass(seconds(9)).await;
    crowd.ended();
}

#[tokio::test]
async fn the_system_holds_for_a_client_who_does_not_read_what_the_operator_says() {
    let mut held = Vec::new();
    for send_buffer in [4 << 10, 160 << 10] {
        let mut config = Config::default();
        config.send_buffer = send_buffer;
        let server = TestServer::start(config);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 << 10).expect("a buffer");
        let mut deaf = socket.connect(server.address).await.expect("a connection");
        let mut asks = "HELP\n".repeat(1 << 10);
        // A server that writes nothing more reads nothing more.
        while reached(&server.server.metrics(), "send-buffer") == 0 {
            tokio::select! {
                written = deaf.write(asks.as_bytes()) => {
                    drop(asks.drain(..written.expect("written")));
                }
                () = tokio::task::yield_now() => {}
            }
        }
        held.push(value(&server.server.metrics(), "parlor_sent_bytes_total"));
        drop(deaf);
        server.stop().await;
    }
    let [little, much] = held[..] else { panic!("{held:?}") };
    assert!(little < 64 << 10 && much > 128 << 10, "{held:?}");
}

/// This thread is the server's as well: while it only writes, nobody reads.
#[tokio::test]
async fn the_system_holds_little_of_what_is_sent_and_not_read() {
    let server = TestServer::start(Config::default());
    let hasty = TcpStream::connect(server.address).await.expect("a connection");
    while hasty.try_write(&[b'x'; 1 << 10]).is_ok() {}
    let held = unread(server.address, hasty.local_addr().expect("an address"));
    // Linux doubles the 32 KiB that it was told.
    assert!((8 << 10..=64 << 10).contains(&held), "{held} bytes");
}

/// Bytes that have come over a connection and nobody has read yet, as the system tells.
fn unread(receiver: SocketAddr, sender: SocketAddr) -> usize {
    let ends = format!(":{:04X} 0100007F:{:04X} ", receiver.port(), sender.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections");
    let row = table.lines().find(|row| row.contains(&ends)).expect("this connection");
    // After the ends come the state and, in hex, `bytes to send:bytes to read`.
    let queues = row.split_whitespace().nth(4).and_then(|queues| queues.split_once(':'));
    usize::from_str_radix(queues.expect("queues").1, 16).expect("bytes")
}

// clause: STAY-1
#[tokio::test]
async fn who_stays_is_missed_when_the_system_finds_him_gone() {
    let server = TestServer::start(Config::default());
    let connections = || value(&server.server.metrics(), "parlor_connections");
    let stream = TcpStream::connect(server.address).await.expect("a connection");
    stream.set_zero_linger().expect("a reset at its end");
    let mut client = Client::over(stream).greeted().await;
    client.ask("STAY").await;
    client.writer.end().await;
    tokio::time::pause();
    pass(seconds(150)).await;
    assert_eq!(connections(), 1);
    drop(client);
    pass(seconds(61)).await;
    assert_eq!(connections(), 0);
}

/// What this daemon's ports file says of the bridge.
fn web_address(daemon: &Daemon) -> SocketAddr {
    let json = std::fs::read(daemon.folder().join("ports.json")).expect("the ports file");
    let ports: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    ports["web"][0].as_str().and_then(|web| web.parse().ok()).expect("an address")
}

// clause: LIMIT-1
#[tokio::test]
async fn past_the_file_limit_all_are_told_so_and_the_others_talk_on() {
    const MORE: usize = 100;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 60 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_parlor")]);
    command.args(["--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PARLOR_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped());
    let daemon = Daemon::spawn(command).await;
    let web = web_address(&daemon);
    let mut inside = Vec::new();
    loop {
        let mut plain = Plain::reach(daemon.addr()).await;
        let line = plain.line().await;
        if line.starts_with("BYE busy ") {
            assert_eq!(plain.rest().await, "");
            break;
        }
        assert!(line.starts_with("HELLO "), "{line}");
        inside.push(plain);
        assert!(inside.len() < 60, "more connections than files");
    }
    for number in 0..MORE {
        let mut plain = Plain::reach(if number % 2 == 0 { daemon.addr() } else { web }).await;
        let beginning = if number % 2 == 0 { "BYE busy " } else { "HTTP/1.1 503 " };
        let words = plain.rest().await;
        assert!(words.starts_with(beginning), "{number}: {words:?}");
    }
    for (number, plain) in inside.iter_mut().enumerate() {
        plain.send(format!("PING {number}\n")).await;
        plain.expect(&format!("OK PING {number}")).await;
    }
    // One line in the log, not one for each of them.
    let log = daemon.stderr_shows("cannot accept").await;
    assert_eq!(log.matches("cannot accept").count(), 2, "one a port: {log}");
    // A place that is free is given.
    inside.truncate(10);
    for plain in &mut inside {
        plain.send("PING\n").await;
        plain.expect("OK PING").await;
    }
    let mut again = Plain::reach(daemon.addr()).await;
    while again.line().await.starts_with("BYE busy ") {
        again = Plain::reach(daemon.addr()).await;
    }
    let mut http = Plain::reach(web).await;
    http.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(reached(&http.rest().await, "files") > MORE as u64);
}

/// Sends a line over and over, as fast as the server takes it, and reads all that comes.
/// What it returns counts the bytes that came.
async fn flood(mut client: Plain, line: &'static str) -> watch::Receiver<usize> {
    let (came, counted) = watch::channel(0);
    client.send(line.repeat(100)).await;
    let (mut reader, mut writer) = client.into_stream().into_split();
    tokio::spawn(async move {
        let much = line.repeat(1000);
        while writer.write_all(much.as_bytes()).await.is_ok() {}
    });
    tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = reader.read(&mut bytes).await {
            came.send_modify(|came| *came += read);
        }
    });
    counted
}

// clause: TURN-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_little_is_answered_beside_those_who_flood() {
    let daemon = Daemon::start(&[]).await;
    let mut floods = Vec::new();
    for line in ["PING hello\n", "HELP\n", "MSG hello\n", "MSG hello\n"] {
        let mut client = Plain::connect(daemon.addr()).await;
        client.send("CREATE flood\n").await;
        floods.push(flood(client, line).await);
    }
    for flood in &mut floods {
        soon("a flood", flood.wait_for(|came| *came > 1 << 16)).await.expect("it flows");
    }
    let mut ann = Plain::in_lobby(daemon.addr(), "ann").await;
    let mut bob = Plain::in_lobby(daemon.addr(), "bob").await;
    ann.expect("JOINED bob").await;
    let before: Vec<_> = floods.iter().map(|flood| *flood.borrow()).collect();
    for number in 1..=20 {
        ann.send(format!("MSG {number}\nPING {number}\n")).await;
        ann.expect(&format!("OK MSG {number} _")).await;
        ann.expect(&format!("OK PING {number}")).await;
        bob.expect(&format!("MSG {number} _ ann {number}")).await;
    }
    // Nor did the floods stand still meanwhile.
    for (flood, before) in floods.iter_mut().zip(before) {
        soon("a flood", flood.wait_for(|came| *came > before)).await.expect("it flows");
    }
}

// clause: PACE-5
#[tokio::test(start_paused = true)]
async fn a_first_line_that_has_begun_must_end_within_a_minute() {
    let server = TestServer::start(Config::default());
    let mut silent = Client::pipe(&server, WIDE).await.patient();
    // Telnet's greeting is no line, and neither is an empty one.
    silent.writer.bytes(b"\xff\xfd\x03\r\n").await;
    let mut human = Client::pipe(&server, WIDE).await.patient();
    pass(seconds(3600)).await;
    // Somebody whose keys come one by one, for less than a minute.
    for byte in b"PING hello" {
        human.writer.bytes(&[*byte]).await;
        pass(seconds(5)).await;
    }
    human.send("").await;
    human.expect("OK PING hello").await;
    // Later lines may take as long as they like.
    human.writer.bytes(b"PI").await;
    let mut dribbling = Client::pipe(&server, WIDE).await.patient();
    for _ in 0..11 {
        dribbling.writer.bytes(b"x").await;
        pass(seconds(5)).await;
    }
    assert_eq!(reached(&server.server.metrics(), "first-command"), 0);
    pass(seconds(6)).await;
    let rest = dribbling.rest().await;
    assert!(rest.len() == 1 && rest[0].starts_with("BYE idle "), "{rest:?}");
    drop(dribbling);
    settle().await;
    assert_eq!(reached(&server.server.metrics(), "first-command"), 1);
    pass(seconds(3600)).await;
    human.send("NG").await;
    human.expect("OK PING").await;
    silent.reader.bytes(3).await;
    assert_eq!(silent.fence().await, [""; 0]);
}

// clause: LINE-10, REPLY-1
#[tokio::test]
async fn an_ssh_client_runs_nothing_and_is_told_so() {
    let server = TestServer::start(Config::default());
    let mut ann = Client::tcp(&server).await.join("LOBBY", "ann").await;
    let mut ssh = Client::tcp(&server).await;
    ssh.send("SSH-2.0-OpenSSH_9.2p1 Debian-2\r").await;
    ssh.expect("ERR * unknown-command ").await;
    // The packet that follows at once: a length, a cookie, names of algorithms.
    let packet = b"\0\0\x05\xdc\x06\x14\xd8\xbd\x9a\x10\x77\xe3\0\0\0\xe6curve25519-sha256,ecdh";
    ssh.writer.bytes(&[&packet[..], b"\n"].concat()).await;
    ssh.expect("ERR * not-utf8 ").await;
    assert_eq!(ssh.fence().await, [""; 0]);
    assert_eq!(ann.fence().await, [""; 0]);
}

// Faults within.

/// Something that goes wrong once, when a test says so.
#[derive(Clone, Default)]
struct Fault(Arc<AtomicBool>);

impl Fault {
    fn arm(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn strike(&self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "this panic is part of a test");
    }
}

/// A stream whose reading can panic.
struct Faulty {
    stream: DuplexStream,
    fault: Fault,
}

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.fault.strike();
        }
        read
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_connection_ends_that_one_and_its_seat_by_the_usual_rules() {
    let server = TestServer::start(Config::default());
    let mut watcher = Client::pipe(&server, WIDE).await.patient().join("LOBBY", "watcher").await;
    for armed in [false, true] {
        let fault = Fault::default();
        let (here, stream) = tokio::io::duplex(WIDE);
        let conversation = server.server.attach(Faulty { stream, fault: fault.clone() });
        let client = Client::over(here).patient().greeted().await;
        let mut client = client.join("LOBBY", "unlucky").await;
        watcher.expect("JOINED unlucky").await;
        let token = if armed { Some(client.hold(60).await) } else { None };
        client.ask("MSG so far").await;
        watcher.expect("MSG ").await;
        fault.arm();
        client.send("MSG too late").await;
        assert!(conversation.await.is_err_and(|end| end.is_panic()));
        assert_eq!(client.rest().await, [""; 0]);
        if let Some(token) = token {
            assert_eq!(watcher.fence().await, [""; 0]);
            let mut again = Client::pipe(&server, WIDE).await.patient();
            let replay = again.ask(&format!("RESUME LOBBY {token} 1")).await;
            assert!(replay[1].starts_with("OK RESUME LOBBY unlucky 2 2 1 1"), "{replay:?}");
            again.ask("LEAVE").await;
            watcher.expect("LEFT unlucky quit").await;
        } else {
            watcher.expect("LEFT unlucky lost").await;
        }
        watcher.ask("WHO").await;
    }
    settle().await;
    assert!(server.server.metrics().contains("parlor_connections 1\n"));
    watcher.send("MSG life goes on").await;
    watcher.expect("OK MSG 3 ").await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_under_a_lock_ends_one_connection_and_nobody_else_notices() {
    let (clock, random) = (Fault::default(), Fault::default());
    let mut config = Config::default();
    let fault = clock.clone();
    config.clock = Clock::new(move || {
        fault.strike();
        SystemTime::now()
    });
    let fault = random.clone();
    let next = std::sync::atomic::AtomicU8::new(0);
    config.random = Random::new(move |bytes| {
        fault.strike();
        bytes.fill_with(|| next.fetch_add(1, Ordering::Relaxed));
    });
    let server = TestServer::start(config);
    let mut watcher = Client::pipe(&server, WIDE).await.patient();
    let code = watcher.create("watcher").await;
    // The room's lock, and then that of all rooms.
    for (fault, line) in [(&clock, "MSG hello\nMSG again"), (&random, "LEAVE\nCREATE other")] {
        let mut client = Client::pipe(&server, WIDE).await.patient().join(&code, "unlucky").await;
        watcher.expect("JOINED unlucky").await;
        fault.arm();
        client.send(line).await;
        let rest = client.rest().await;
        assert!(rest.len() < 2, "{rest:?}");
        watcher.expect("LEFT unlucky ").await;
    }
    let mut other = Client::pipe(&server, WIDE).await.patient().join(&code, "other").await;
    watcher.expect("JOINED other").await;
    other.send("MSG hello").await;
    other.expect("OK MSG 1 ").await;
    assert!(watcher.line().await.ends_with(" other hello"));
    assert_eq!(watcher.ask("WHO").await.last().expect("a reply"), "OK WHO 2");
    other.ask("LEAVE").await;
    other.create("other").await;
    server.stop().await;
}

// clause: ROOM-9
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_years_changes_no_order_and_no_wait() {
    const YEARS: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let is_back = Arc::new(AtomicBool::new(false));
    let mut config = Config::default();
    let jumped = is_back.clone();
    config.clock = Clock::new(move || {
        let now = SystemTime::UNIX_EPOCH + 2 * YEARS;
        if jumped.load(Ordering::SeqCst) { now - YEARS } else { now }
    });
    let server = TestServer::start(config);
    let mut ann = Client::pipe(&server, WIDE).await.patient().join("LOBBY", "ann").await;
    let mut bob = Client::pipe(&server, WIDE).await.patient().join("LOBBY", "bob").await;
    ann.expect("JOINED bob").await;
    ann.send("MSG before").await;
    let before = ann.expect("OK MSG 1 ").await;
    bob.expect("MSG 1 ").await;
    bob.hold(60).await;
    is_back.store(true, Ordering::SeqCst);
    ann.send("MSG after").await;
    assert_eq!(ann.expect("OK MSG 2 ").await, before);
    bob.expect("MSG 2 ").await;
    let shown = ann.ask("HISTORY").await;
    assert!(shown[0].ends_with(" before") && shown[1].ends_with(" after"), "{shown:?}");
    // A held seat ends when it should, neither now nor in years.
    drop(bob);
    pass(seconds(59)).await;
    assert_eq!(ann.fence().await, [""; 0]);
    pass(seconds(2)).await;
    assert_eq!(ann.fence().await, ["LEFT bob lost"]);
}
