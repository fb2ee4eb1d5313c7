//! How connections end: by others, by the server's end, and for strangers on the port.

use std::time::Duration;

use parlor::Config;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::TestServer;
use crate::support::{Client, WIDE, attach, message, number, pass, say, seat, seconds, settle};

/// Bytes of the longest text.
const TEXT_BYTES: usize = 1800;

/// The line must begin so, and a text must follow.
fn assert_begins(line: Option<&String>, beginning: &str) {
    let line = line.map_or("nothing", String::as_str);
    let text = line.strip_prefix(beginning).unwrap_or_default();
    assert!(!text.trim().is_empty(), "{line:.200}\n  came instead of {beginning}");
}

/// A host, and a guest of his whose pipe is narrow.
async fn host_and_guest(server: &TestServer, bytes: usize) -> (Client, Client, String) {
    let mut host = Client::pipe(server, WIDE).await;
    let code = host.create("host").await;
    let guest = Client::pipe(server, bytes).await.join(&code, "guest").await;
    host.expect("JOINED guest").await;
    (host, guest, code)
}

/// How somebody else ends a guest's connection, and what the guest is told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cause {
    Kick,
    Close,
    Resume,
}

impl Cause {
    const ALL: [Cause; 3] = [Cause::Kick, Cause::Close, Cause::Resume];

    fn bye(self) -> &'static str {
        match self {
            Cause::Kick => "BYE kicked enough ",
            Cause::Close => "BYE closed ",
            Cause::Resume => "BYE replaced ",
        }
    }
}

struct Ending {
    host: Client,
    code: String,
    token: String,
}

impl Ending {
    async fn begin(&mut self, server: &TestServer, cause: Cause) {
        match cause {
            Cause::Kick => self.host.send("KICK guest enough of that").await,
            Cause::Close => self.host.send("CLOSE").await,
            Cause::Resume => {
                let mut other = Client::pipe(server, WIDE).await;
                other.send(&format!("RESUME {} {} 0", self.code, self.token)).await;
                other.reply().await;
            }
        }
        settle().await;
    }
}

// clause: BYE-3, BYE-2
#[tokio::test(start_paused = true)]
async fn a_bye_of_others_follows_the_half_line_and_not_the_backlog() {
    for cause in Cause::ALL {
        let server = TestServer::start(Config::default());
        let (host, mut guest, code) = host_and_guest(&server, 512).await;
        let token = guest.hold(600).await;
        let mut ending = Ending { host, code, token };
        // The pipe holds a part of the first; the others were still to be sent.
        let text = "x".repeat(TEXT_BYTES);
        for _ in 0..50 {
            ending.host.ask(&format!("MSG {text}")).await;
        }
        settle().await;
        // Not executed: nothing is read while that waits.
        guest.send("PING never").await;
        ending.begin(&server, cause).await;
        let rest = guest.rest().await;
        assert_eq!(message(&rest[0]), (1, &*text), "{cause:?}");
        assert_begins(rest.get(1), cause.bye());
        assert_eq!(rest.len(), 2, "{cause:?}");
    }
}

// clause: BYE-3
#[tokio::test(start_paused = true)]
async fn a_bye_of_others_follows_the_replies_of_what_was_executed() {
    for cause in Cause::ALL {
        let server = TestServer::start(Config::default());
        let (host, mut guest, code) = host_and_guest(&server, 512).await;
        let token = guest.hold(600).await;
        let mut ending = Ending { host, code, token };
        let text = "x".repeat(TEXT_BYTES);
        for _ in 0..5 {
            ending.host.ask(&format!("MSG {text}")).await;
            guest.expect("MSG ").await;
        }
        // The first data line fills the pipe; all four are executed by then.
        guest.writer.bytes(b"HISTORY\nWHO\nMSG mine\nPING last\n").await;
        settle().await;
        for _ in 0..50 {
            ending.host.ask(&format!("MSG {text}")).await;
        }
        settle().await;
        guest.send("PING never").await;
        ending.begin(&server, cause).await;
        let rest = guest.rest().await;
        for id in 1..=5 {
            assert_eq!(message(&rest[id as usize - 1]).0, id, "{cause:?}");
        }
        assert_eq!(
            rest[5..9],
            ["OK HISTORY 5", "USER host here host", "USER guest here", "OK WHO 2"]
        );
        assert!(rest[9].starts_with("OK MSG 6 "), "{}", rest[9]);
        assert_eq!(rest[10], "OK PING last");
        assert_begins(rest.get(11), cause.bye());
        assert_eq!(rest.len(), 12, "{cause:?}: {:?}", &rest[12..]);
    }
}

// clause: BYE-3
#[tokio::test(start_paused = true)]
async fn a_bye_of_others_does_not_wait_for_events_before_a_reply() {
    for cause in Cause::ALL {
        let server = TestServer::start(Config::default());
        let (host, mut guest, code) = host_and_guest(&server, 512).await;
        let token = guest.hold(600).await;
        let speaker = server.server.hub().join(&code, "speaker").expect("a seat");
        guest.expect("JOINED speaker").await;
        let mut ending = Ending { host, code, token };
        let text = "x".repeat(TEXT_BYTES);
        // One turn has a message to write and a line to execute; while it writes, more is said.
        say(&speaker, 1, &text).await;
        guest.send("PING done").await;
        settle().await;
        say(&speaker, 5, &text).await;
        guest.expect("MSG 1 ").await;
        settle().await;
        ending.begin(&server, cause).await;
        let rest = guest.rest().await;
        assert_eq!(message(&rest[0]).0, 2, "{cause:?}");
        assert_eq!(rest[1], "OK PING done", "{cause:?}");
        assert_begins(rest.get(2), cause.bye());
        assert_eq!(rest.len(), 3, "{cause:?}");
    }
}

// clause: BYE-3, GAP-2
#[tokio::test(start_paused = true)]
async fn every_accepted_message_is_acknowledged_before_a_bye_of_others() {
    // What is executed of a read before its replies must be taken.
    const RUN: u64 = 128;
    for cause in Cause::ALL {
        let server = TestServer::start(Config::default());
        let (host, mut guest, code) = host_and_guest(&server, 4096).await;
        let token = guest.hold(600).await;
        let mut ending = Ending { host, code, token };
        // More than the pipe holds replies for.
        guest.writer.bytes("MSG x\n".repeat(RUN as usize).as_bytes()).await;
        settle().await;
        for _ in 0..RUN {
            ending.host.expect("MSG ").await;
        }
        ending.host.ask("MSG and more").await;
        ending.begin(&server, cause).await;
        let rest = guest.rest().await;
        for id in 1..=RUN {
            assert_eq!(number(&rest[id as usize - 1], 2), id, "{cause:?}");
        }
        assert_begins(rest.get(RUN as usize), cause.bye());
        assert_eq!(rest.len() as u64, RUN + 1, "{cause:?}");
    }
}

// clause: BYE-3, HOST-6
#[tokio::test(start_paused = true)]
async fn a_kicked_member_is_gone_for_others_though_he_does_not_read() {
    let server = TestServer::start(Config::default());
    // The reply to the JOIN has not been read, nor anything after it.
    let mut host = Client::pipe(&server, WIDE).await;
    let code = host.create("host").await;
    let text = "x".repeat(TEXT_BYTES);
    for _ in 0..5 {
        host.ask(&format!("MSG {text}")).await;
    }
    let mut guest = Client::pipe(&server, 512).await;
    guest.send(&format!("JOIN {code} guest")).await;
    host.expect("JOINED guest").await;
    host.ask("KICK guest enough of that").await;
    assert_eq!(host.ask("WHO").await, ["USER host here host", "OK WHO 1"]);
    let mut namesake = Client::pipe(&server, WIDE).await.join(&code, "guest").await;
    host.expect("JOINED guest").await;
    let rest = guest.rest().await;
    assert_eq!(rest[5], format!("OK JOIN {code} guest 5 2 5"));
    assert_begins(rest.get(6), "BYE kicked enough ");
    assert_eq!(rest.len(), 7);
    assert_eq!(namesake.fence().await, [""; 0]);
}

/// Stops a server in the background; the handle returns how long that took.
fn stop(server: TestServer) -> JoinHandle<Duration> {
    let start = Instant::now();
    tokio::spawn(async move {
        server.stop().await;
        start.elapsed()
    })
}

/// All that a connection is told at the server's end, if nothing else is to be said.
fn assert_farewell(lines: &[String]) {
    assert_begins(lines.first(), "NOTICE shutdown ");
    assert_begins(lines.get(1), "BYE shutdown ");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

// clause: SHUT-1
#[tokio::test(start_paused = true)]
async fn at_the_end_every_connection_is_told_and_nobody_leaves() {
    let server = TestServer::start(Config::default());
    let mut host = Client::pipe(&server, WIDE).await;
    let code = host.create("host").await;
    let mut armed = Client::pipe(&server, WIDE).await.join(&code, "armed").await;
    armed.hold(600).await;
    let mut talking = Client::pipe(&server, WIDE).await.join(&code, "talking").await;
    talking.ask("TALK on").await;
    let mut staying = Client::pipe(&server, WIDE).await.join(&code, "staying").await;
    staying.ask("STAY").await;
    staying.writer.end().await;
    let mut half = Client::pipe(&server, WIDE).await.join(&code, "half").await;
    half.writer.bytes(b"MSG not finish").await;
    let mut outside = Client::pipe(&server, WIDE).await;
    let mut stranger = Client::from(&server, "192.0.2.1:5000").await;
    settle().await;
    let stopping = stop(server);
    for (client, before) in [
        (&mut host, 4),
        (&mut armed, 3),
        (&mut talking, 2),
        (&mut staying, 1),
        (&mut half, 0),
        (&mut outside, 0),
        (&mut stranger, 0),
    ] {
        let mut lines = client.rest().await;
        let joined: Vec<_> = lines.drain(..before).collect();
        assert!(joined.iter().all(|line| line.starts_with("JOINED ")), "{joined:?}");
        assert_farewell(&lines);
    }
    let took = stopping.await.expect("the server ends");
    assert!(took < seconds(2), "{took:?}");
}

// clause: SHUT-1
#[tokio::test]
async fn over_tcp_the_end_is_told_too_and_takes_no_time() {
    let server = TestServer::start(Config::default());
    let mut clients = Vec::new();
    for number in 0..20 {
        let client = Client::tcp(&server).await;
        let name = format!("member{number}");
        clients.push(if number % 2 == 0 { client } else { client.join("LOBBY", &name).await });
    }
    for client in &mut clients {
        client.fence().await;
    }
    let stopping = stop(server);
    for client in &mut clients {
        assert_farewell(&client.rest().await);
    }
    drop(clients);
    let took = stopping.await.expect("the server ends");
    assert!(took < seconds(2), "{took:?}");
}

// clause: SHUT-1
#[tokio::test(start_paused = true)]
async fn lines_sent_before_the_end_are_answered_each_in_its_order() {
    const LINES: u64 = 2000;
    for (address, way) in [(None, "unpaced"), (Some("192.0.2.1:5000"), "paced")] {
        for seen in [true, false] {
            let server = TestServer::start(Config::default());
            let mut client = Client::over(attach(&server, address, WIDE)).greeted().await;
            client = client.join("LOBBY", "sender").await;
            let lines: String =
                (0..LINES).map(|line| format!("MSG {line}\nPING {line}\n")).collect();
            client.writer.bytes(lines.as_bytes()).await;
            if seen {
                settle().await;
            }
            let stopping = stop(server);
            let mut lines = client.rest().await;
            let bye = lines.pop();
            assert_begins(bye.as_ref(), "BYE shutdown ");
            let notices = lines.iter().filter(|line| line.starts_with("NOTICE shutdown "));
            assert_eq!(notices.count(), 1);
            lines.retain(|line| !line.starts_with("NOTICE shutdown "));
            assert_eq!(lines.len() as u64, 2 * LINES, "{way}, seen: {seen}");
            for (number, two) in (0..).zip(lines.chunks(2)) {
                let said = two[0].starts_with(&format!("OK MSG {} ", number + 1));
                let pinged = two[1] == format!("OK PING {number}");
                assert!(said || two[0].starts_with("ERR MSG shutting-down "), "{}", two[0]);
                assert!(pinged || two[1].starts_with("ERR PING shutting-down "), "{}", two[1]);
            }
            let took = stopping.await.expect("the server ends");
            assert!(took < seconds(10), "{took:?}");
        }
    }
}

// clause: SHUT-1
#[tokio::test(start_paused = true)]
async fn what_is_said_before_the_end_reaches_the_others() {
    let server = TestServer::start(Config::default());
    let mut listener = Client::pipe(&server, WIDE).await.join("LOBBY", "listener").await;
    let mut sender = Client::pipe(&server, WIDE).await.join("LOBBY", "sender").await;
    listener.expect("JOINED sender").await;
    let lines: String = (0..500).map(|line| format!("MSG {line}\n")).collect();
    sender.writer.bytes(lines.as_bytes()).await;
    let stopping = stop(server);
    let heard = listener.rest().await;
    let said = sender.rest().await;
    let accepted = said.iter().filter(|line| line.starts_with("OK MSG ")).count();
    let messages: Vec<_> = heard.iter().filter(|line| line.starts_with("MSG ")).collect();
    assert!(messages.len() == accepted && accepted == 500, "{} of {accepted}", messages.len());
    assert!(!heard.iter().any(|line| line.starts_with("LEFT ")), "{heard:?}");
    stopping.await.expect("the server ends");
}

// clause: SHUT-1
#[tokio::test(start_paused = true)]
async fn the_end_comes_within_10_seconds_though_nobody_reads() {
    let server = TestServer::start(Config::default());
    // With a full pipe: one of events, one of replies, one armed, one already put out.
    let (mut host, _guest, code) = host_and_guest(&server, 64).await;
    let mut armed = Client::pipe(&server, 64).await.join(&code, "armed").await;
    armed.hold(600).await;
    let _kicked = Client::pipe(&server, 64).await.join(&code, "kicked").await;
    let mut asking = Client::pipe(&server, 64).await;
    asking.writer.as_much_as_fits("HELP\n".repeat(1000).as_bytes()).await;
    for _ in 0..10 {
        host.ask("MSG nobody reads this").await;
    }
    settle().await;
    host.ask("KICK kicked").await;
    // And one who has not even read his greeting.
    let _deaf = attach(&server, None, 1);
    settle().await;
    let took = stop(server).await.expect("the server ends");
    assert!(took <= seconds(10), "{took:?}");
    assert!(!host.rest().await.iter().any(|line| line.starts_with("LEFT ")));
}

// clause: SHUT-1
#[tokio::test(start_paused = true)]
async fn the_end_comes_within_10_seconds_though_somebody_never_stops_sending() {
    let server = TestServer::start(Config::default());
    let client = Client::pipe(&server, 4096).await.join("LOBBY", "sender").await;
    let sending = tokio::spawn(async move {
        let Client { mut reader, mut writer } = client;
        let writing = tokio::spawn(async move {
            loop {
                writer.bytes(b"PING\n").await;
                // One line each 10 ms is never quiet.
                pass(Duration::from_millis(10)).await;
            }
        });
        let mut lines = Vec::new();
        while let Some(line) = reader.line().await {
            lines.push(line);
        }
        writing.abort();
        lines
    });
    pass(seconds(1)).await;
    let took = stop(server).await.expect("the server ends");
    assert!(took <= seconds(10), "{took:?}");
    let lines = sending.await.expect("lines");
    assert_begins(lines.last(), "BYE shutdown ");
    assert_eq!(lines.iter().filter(|line| line.starts_with("NOTICE shutdown ")).count(), 1);
}

// clause: SHUT-1, REPLY-2
#[tokio::test(start_paused = true)]
async fn lines_that_wait_for_a_reader_are_answered_at_the_end() {
    let server = TestServer::start(Config::default());
    let speaker = seat(&server, "speaker");
    say(&speaker, 200, &"x".repeat(TEXT_BYTES)).await;
    let mut client = Client::pipe(&server, 1024).await.join("LOBBY", "late").await;
    // So much is to be written for the first that the others wait.
    client.writer.bytes(b"HISTORY\nPING one\n\nmsg two\nNONSENSE\n").await;
    settle().await;
    let stopping = stop(server);
    // Nothing is read until the server has lost its patience.
    pass(Duration::from_millis(4500)).await;
    let lines = client.rest().await;
    let (notices, lines): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.starts_with("NOTICE shutdown "));
    assert_eq!(notices.len(), 1);
    let replies = &lines[200..];
    assert_eq!(replies.first().map(String::as_str), Some("OK HISTORY 200"), "{replies:?}");
    assert_begins(replies.get(1), "ERR PING shutting-down ");
    assert_begins(replies.get(2), "ERR MSG shutting-down ");
    assert_begins(replies.get(3), "ERR * unknown-command ");
    assert_begins(replies.get(4), "BYE shutdown ");
    assert_eq!(replies.len(), 5, "{replies:?}");
    stopping.await.expect("the server ends");
}

// clause: REPLY-1, BYE-3, SHUT-1
#[tokio::test(start_paused = true)]
async fn what_is_done_is_answered_in_its_order_though_its_reply_had_to_wait() {
    for is_kicked in [false, true] {
        let server = TestServer::start(Config::default());
        let (mut host, mut guest, code) = host_and_guest(&server, 512).await;
        let speaker = server.server.hub().join(&code, "speaker").expect("a seat");
        guest.expect("JOINED speaker").await;
        let text = "x".repeat(TEXT_BYTES);
        say(&speaker, 40, &text).await;
        for _ in 0..40 {
            guest.expect("MSG ").await;
        }
        // While the data lines are read more is said, which stands before what is done next.
        guest.writer.bytes(b"HISTORY\nMSG mine\nNICK other\nWHO\nMSG not said\n").await;
        settle().await;
        // It is more than is taken at once.
        say(&speaker, 300, "and another one").await;
        for _ in 0..40 {
            guest.expect("MSG ").await;
        }
        guest.expect("OK HISTORY 40").await;
        settle().await;
        let stopping = match is_kicked {
            true => {
                host.ask("KICK other enough of that").await;
                None
            }
            false => Some(stop(server)),
        };
        pass(Duration::from_millis(4500)).await;
        let mut lines = guest.rest().await;
        lines.retain(|line| !line.starts_with("MSG ") && !line.starts_with("NOTICE shutdown "));
        assert!(lines[0].starts_with("OK MSG 341 "), "{lines:?}");
        assert_eq!(lines[1], "OK NICK other");
        match stopping {
            None => assert_begins(lines.get(2), "BYE kicked enough "),
            Some(stopping) => {
                assert_begins(lines.get(2), "ERR WHO shutting-down ");
                assert_begins(lines.get(3), "ERR MSG shutting-down ");
                assert_begins(lines.get(4), "BYE shutdown ");
                stopping.await.expect("the server ends");
            }
        }
        assert_eq!(lines.len(), if is_kicked { 3 } else { 5 }, "{lines:?}");
    }
}

// clause: SHUT-1, GUESS-1
#[tokio::test(start_paused = true)]
async fn who_waits_for_having_guessed_is_told_of_the_end_in_time() {
    // Of what one read brings, and of what many bring.
    for waiting in [30, 2000] {
        let server = TestServer::start(Config::default());
        let mut guesser = Client::from(&server, "192.0.2.1:5000").await;
        for _ in 0..21 {
            guesser.ask("JOIN BCDF guesser").await;
        }
        guesser.writer.bytes("JOIN BCDF guesser\n".repeat(waiting).as_bytes()).await;
        settle().await;
        let stopping = stop(server);
        let mut lines = guesser.rest().await;
        let bye = lines.pop();
        assert_begins(bye.as_ref(), "BYE shutdown ");
        assert!(lines.iter().any(|line| line.starts_with("NOTICE shutdown ")), "{lines:?}");
        let answers = lines.iter().filter(|line| line.starts_with("ERR JOIN "));
        assert_eq!(answers.count(), waiting);
        let took = stopping.await.expect("the server ends");
        assert!(took <= seconds(10), "{took:?}");
    }
}

/// Checks what an HTTP client gets, and that nothing of what it sent was run: it would have been
/// seen in the lobby.
async fn assert_refused(server: &TestServer, mut browser: Client, request: &str) {
    let mut watcher = Client::pipe(server, WIDE).await.join("LOBBY", "watcher").await;
    browser.writer.bytes(request.as_bytes()).await;
    let response = String::from_utf8(browser.reader.all().await).expect("text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    let mut head = head.split("\r\n");
    let status = head.next().expect("a status line");
    assert!(status.starts_with("HTTP/1.1 400 "), "{request:.60?}: {response:.200}");
    let headers: Vec<_> = head.map(|line| line.split_once(": ").expect("a header")).collect();
    let header = |name: &str| headers.iter().find(|header| header.0.eq_ignore_ascii_case(name));
    assert_eq!(header("content-length").map(|header| header.1), Some(&*body.len().to_string()));
    assert_eq!(header("connection").map(|header| header.1), Some("close"));
    assert!(!body.trim().is_empty() && response.len() < 2000, "{response}");
    assert_eq!(watcher.fence().await, [""; 0], "{request:.60?}");
    assert_eq!(watcher.ask("WHO").await, ["USER watcher here", "OK WHO 1"]);
    watcher.ask("LEAVE").await;
}

const COMMANDS: &str = "JOIN LOBBY browser\r\nMSG I was made to say this\r\n";

// clause: PORT-1
#[tokio::test(start_paused = true)]
async fn a_browser_gets_a_small_400_and_nothing_of_what_it_sent_is_run() {
    let server = TestServer::start(Config::default());
    for request in [
        "GET / HTTP/1.1\r\nHost: chat.example:7777\r\n\r\n".to_owned(),
        format!("POST /chat HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{COMMANDS}"),
        format!("OPTIONS * HTTP/1.0\n\n{COMMANDS}"),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{COMMANDS}"),
        // The first line is the first that is not empty.
        format!("\r\n\r\nPOST / HTTP/1.1\r\n\r\n{COMMANDS}"),
        format!(" \t\n\nPOST /\u{a0}\u{2003}\u{b} HTTP/1.1\r\n\r\n{COMMANDS}"),
    ] {
        assert_refused(&server, Client::pipe(&server, WIDE).await, &request).await;
        // A stream of a program's own, without telnet.
        let (here, there) = tokio::io::duplex(WIDE);
        server.server.attach(there);
        assert_refused(&server, Client::over(here).greeted().await, &request).await;
    }
}

// clause: PORT-1
#[tokio::test]
async fn a_browser_gets_its_400_over_tcp() {
    let server = TestServer::start(Config::default());
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\n\r\n{COMMANDS}");
    assert_refused(&server, Client::tcp(&server).await, &request).await;
}

// clause: PORT-1
#[tokio::test(start_paused = true)]
async fn a_request_line_that_is_too_long_for_a_line_is_a_browser_s_all_the_same() {
    let server = TestServer::start(Config::default());
    for length in [2030, 2048, 3000, 10_000] {
        let request = format!("POST /{} HTTP/1.1\r\nHost: x\r\n\r\n{COMMANDS}", "a".repeat(length));
        assert_refused(&server, Client::pipe(&server, WIDE).await, &request).await;
    }
}

// clause: PORT-1
#[tokio::test(start_paused = true)]
async fn a_request_line_is_matched_as_edited_unless_it_is_too_long() {
    let server = TestServer::start(Config::default());
    let long = format!("GET /{} HTTP/\x15", "a".repeat(2048));
    for line in ["x\x08GET / HTTP/1.1", "x\x15GET /a\x7f HTTP/1.1", &long] {
        let request = format!("{line}\r\n\r\n{COMMANDS}");
        assert_refused(&server, Client::pipe(&server, WIDE).await, &request).await;
    }
    for (line, reply) in [
        ("GET / HTTP/\x08", "ERR * unknown-command "),
        ("GET / HTTP/1.1\x15PING", "OK PING"),
        ("GET /\x0c HTTP/1.1", "ERR * control-char "),
    ] {
        let mut client = Client::pipe(&server, WIDE).await;
        client.send(line).await;
        client.expect(reply).await;
    }
}
