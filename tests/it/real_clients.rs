//! Real clients against the real binary: what people have on their machines must work as they
//! expect it to.
//!
//! A client that isn't installed fails its test with the name of its package; `scripts/test`
//! installs them all.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

use crate::binary::{Daemon, Plain, Program, assert_lines, fits, soon};

/// Debian's packages and how their clients are called: those that end their sending side at the
/// end of their input, and go on reading.
const HALF_CLOSING: [(&str, &str); 7] = [
    ("netcat-openbsd", "nc.openbsd -N HOST PORT"),
    ("netcat-openbsd", "nc.openbsd -q0 HOST PORT"),
    ("netcat-openbsd", "nc.openbsd -q2 HOST PORT"),
    ("netcat-traditional", "nc.traditional -q2 HOST PORT"),
    ("ncat", "ncat HOST PORT"),
    ("socat", "socat -t5 - TCP:HOST:PORT"),
    ("socat", "socat -t5 STDIO TCP4:HOST:PORT,nodelay"),
];

/// Those that don't tell the server about the end of their input.
const NEVER_CLOSING: [(&str, &str); 4] = [
    ("netcat-openbsd", "nc.openbsd HOST PORT"),
    ("netcat-traditional", "nc.traditional HOST PORT"),
    ("ncat", "ncat --no-shutdown HOST PORT"),
    ("curl", "curl -sN telnet://HOST:PORT"),
];

/// Those that close both ways at the end of their input.
const CLOSING: [(&str, &str); 3] = [
    ("netcat-traditional", "nc.traditional -q0 HOST PORT"),
    ("ncat", "ncat --send-only HOST PORT"),
    ("bash", "bash -c cat>/dev/tcp/HOST/PORT"),
];

/// Those that turn LF into CR LF.
const CRLF: [(&str, &str); 3] = [
    ("netcat-openbsd", "nc.openbsd -C -N HOST PORT"),
    ("netcat-traditional", "nc.traditional -C -q2 HOST PORT"),
    ("ncat", "ncat -C HOST PORT"),
];

/// Those that people hold a conversation with.
const CONVERSING: [(&str, &str); 5] = [
    ("netcat-openbsd", "nc.openbsd HOST PORT"),
    ("netcat-traditional", "nc.traditional HOST PORT"),
    ("ncat", "ncat HOST PORT"),
    ("socat", "socat - TCP:HOST:PORT"),
    ("curl", "curl -sN -T. telnet://HOST:PORT"),
];

const SCRIPT: &str = "CREATE ann\n\
    MSG one\n\
    MSG zwei \u{e4}\u{f6}\u{fc} \u{2615}\n\
    WHO\n\
    HISTORY\n\
    PING a  b\n\
    MSG\n\
    hello all\n\
    MSG arrow \x1b[D\n\
    \n\
    TALK\n\
    three\n\
    /LEAVE\n\
    /PING end\n";

const REPLIES: [&str; 18] = [
    "HELLO parlor/1 ...",
    "OK CREATE _ ann",
    "OK MSG 1 _",
    "OK MSG 2 _",
    "USER ann here host",
    "OK WHO 1",
    "MSG 1 _ ann one",
    "MSG 2 _ ann zwei \u{e4}\u{f6}\u{fc} \u{2615}",
    "OK HISTORY 2",
    "OK PING a  b",
    "ERR MSG empty-text ...",
    "ERR * unknown-command ...",
    "ERR * control-char ...",
    "OK TALK on",
    "OK MSG 3 _",
    "OK LEAVE _",
    "OK PING end",
    "BYE eof ...",
];

/// Starts a client; HOST and PORT stand for the address.
pub(crate) fn start(package: &str, command: &str, address: SocketAddr) -> Program {
    let filled = fill(command, address);
    let mut words = filled.split_whitespace();
    let mut child = Command::new(words.next().unwrap_or_default());
    child.args(words);
    Program::spawn(package, command, child)
}

/// Puts an address into a command.
pub(crate) fn fill(command: &str, address: SocketAddr) -> String {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    command.replace("HOST", &host).replace("PORT", &port)
}

/// Pipes a script into a client, and returns what it shows until it ends.
pub(crate) async fn pipe(mut client: Program, script: &str) -> String {
    let mut stdin = client.take_input();
    let script = script.to_owned();
    // Written while the output is read, as a shell's pipe does it. A client that has ended takes
    // no more; its output tells.
    let written = tokio::spawn(async move { stdin.write_all(script.as_bytes()).await });
    let shown = client.rest().await;
    drop(soon("the script to be read", written).await);
    shown
}

/// The replies of a script whose last words are others.
fn replies<'a>(last: &[&'a str]) -> Vec<&'a str> {
    let mut forms = REPLIES.to_vec();
    forms.pop();
    forms.extend(last);
    forms
}

#[tokio::test]
async fn piped_scripts_get_every_reply_and_bye_eof() {
    let daemon = Daemon::start(&[]).await;
    for (package, command) in HALF_CLOSING {
        let shown = pipe(start(package, command, daemon.addr()), SCRIPT).await;
        assert_lines(command, &shown, &REPLIES);
    }
}

#[tokio::test]
async fn a_script_ends_with_quit_where_the_client_does_not_half_close() {
    let daemon = Daemon::start(&[]).await;
    let script = format!("{SCRIPT}/QUIT\nPING never answered\n");
    for (package, command) in NEVER_CLOSING {
        let shown = pipe(start(package, command, daemon.addr()), &script).await;
        assert_lines(command, &shown, &replies(&["OK QUIT", "BYE quit ..."]));
    }
}

#[tokio::test]
async fn a_last_line_without_an_ending_is_answered() {
    let daemon = Daemon::start(&[]).await;
    for (package, command) in HALF_CLOSING {
        let shown = pipe(start(package, command, daemon.addr()), "PING one\nPING two").await;
        let forms = ["HELLO ...", "OK PING one", "OK PING two", "BYE eof ..."];
        assert_lines(command, &shown, &forms);
    }
}

#[tokio::test]
async fn what_was_sent_runs_though_the_client_closes_both_ways() {
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    for (package, command) in CLOSING {
        // More than one read takes: writing fails while the rest has still to be read.
        let said: String = (1..=500).map(|n| format!("MSG line {n} of a script\n")).collect();
        pipe(start(package, command, daemon.addr()), &format!("JOIN LOBBY brief\n{said}")).await;
        witness.expect("JOINED brief").await;
        for n in 1..=500 {
            witness.expect(&format!("MSG _ _ brief line {n} of a script")).await;
        }
        // Whether the end or the break was seen first is the kernel's choice.
        let left = witness.expect("LEFT brief _").await;
        assert!(left.ends_with(" eof") || left.ends_with(" lost"), "{command}: {left}");
    }
}

#[tokio::test]
async fn a_shell_without_a_client_gets_every_reply() {
    let daemon = Daemon::start(&[]).await;
    let talk = fill("exec 3<>/dev/tcp/HOST/PORT; cat >&3; cat <&3", daemon.addr());
    let mut bash = Command::new("bash");
    bash.args(["-c", &talk]);
    let script = format!("{SCRIPT}/QUIT\n");
    let shown = pipe(Program::spawn("bash", "bash", bash), &script).await;
    assert_lines("bash", &shown, &replies(&["OK QUIT", "BYE quit ..."]));
}

#[tokio::test]
async fn crlf_clients_get_crlf_back() {
    let daemon = Daemon::start(&[]).await;
    for (package, command) in CRLF {
        let mut client = start(package, command, daemon.addr());
        let hello = client.shows("\n").await;
        assert!(!hello.ends_with("\r\n"), "{command}: nothing was sent before {hello:?}");
        // A line at a time: in a script nc.traditional changes only the last ending of a read.
        for line in ["JOIN LOBBY ann 0\n", "MSG one\n", "MSG\n", "PING\n", "LEAVE\n"] {
            client.types(line).await;
            let reply = client.shows("\n").await;
            assert!(reply.ends_with("\r\n"), "{command}: {reply:?}");
        }
        drop(client.take_input());
        let bye = client.rest().await;
        assert!(bye.starts_with("BYE eof ") && bye.ends_with("\r\n"), "{command}: {bye:?}");
    }
}

#[tokio::test]
async fn a_long_paste_gets_every_reply() {
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    let client = start("netcat-openbsd", "nc.openbsd -N HOST PORT", daemon.addr());
    let lines: String = (1..=500).map(|n| format!("MSG line {n} of a long paste\n")).collect();
    let script = format!("JOIN LOBBY paster\n{lines}");
    let shown = pipe(client, &script).await;
    let mut forms = vec!["HELLO ...".to_owned(), "OK JOIN LOBBY paster 0 2 0".to_owned()];
    forms.extend((1..=500).map(|n| format!("OK MSG {n} _")));
    forms.push("BYE eof ...".to_owned());
    assert_lines("a paste", &shown, &forms.iter().map(String::as_str).collect::<Vec<_>>());
    witness.expect("JOINED paster").await;
    for n in 1..=500 {
        witness.expect(&format!("MSG {n} _ paster line {n} of a long paste")).await;
    }
    witness.expect("LEFT paster eof").await;
}

#[tokio::test]
async fn two_people_converse_line_by_line() {
    let daemon = Daemon::start(&[]).await;
    for (package, command) in CONVERSING {
        let mut ann = start("netcat-openbsd", "nc.openbsd -N HOST PORT", daemon.addr());
        ann.expect("HELLO parlor/1 ...").await;
        ann.types("CREATE ann\n").await;
        let created = ann.shows("\n").await;
        let code = created.split(' ').nth(2).expect("a code");

        let mut bob = start(package, command, daemon.addr());
        bob.expect("HELLO parlor/1 ...").await;
        bob.types(format!("JOIN {code} bob\n")).await;
        bob.expect(&format!("OK JOIN {code} bob 0 2 0")).await;
        ann.expect("JOINED bob").await;
        for n in 0..10 {
            let (question, answer) = (2 * n + 1, 2 * n + 2);
            ann.types(format!("MSG {n}?\n")).await;
            ann.expect(&format!("OK MSG {question} _")).await;
            bob.expect(&format!("MSG {question} _ ann {n}?")).await;
            bob.types(format!("MSG {n}!\n")).await;
            bob.expect(&format!("OK MSG {answer} _")).await;
            ann.expect(&format!("MSG {answer} _ bob {n}!")).await;
        }
        bob.types("QUIT\n").await;
        bob.expect("OK QUIT").await;
        bob.expect("BYE quit ...").await;
        ann.expect("LEFT bob quit").await;
        // Some wait for a person's next key before they end.
        drop(bob.take_input());
        assert_eq!(bob.rest().await, "", "{command}");
        drop(ann.take_input());
        assert_lines("ann", &ann.rest().await, &["BYE eof ..."]);
    }
}

#[tokio::test]
async fn an_interrupted_client_leaves_no_ghost() {
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    for (package, command) in CONVERSING {
        let mut bob = start(package, command, daemon.addr());
        bob.types("JOIN LOBBY bob 0\n").await;
        bob.shows("OK JOIN LOBBY bob ").await;
        witness.expect("JOINED bob").await;
        bob.signal("INT");
        witness.expect("LEFT bob eof").await;
    }
}

#[tokio::test]
async fn keys_that_a_client_sends_edit_the_line() {
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    let typed = "JOIN LOBBY ann 0\n\
        MSG helo\x7flo\n\
        MSG caf\u{e9}\x08e\n\
        MSG oh no\x15MSG oh yes\n\
        MSH\x08G typed\x7f\x7f\x7f\x7f\x7fread\n\
        \x7f\x08MSG last\n\
        \x04MSG never\n";
    for (package, command) in HALF_CLOSING {
        let shown = pipe(start(package, command, daemon.addr()), typed).await;
        assert_lines(
            command,
            &shown,
            &[
                "HELLO ...",
                "OK JOIN LOBBY ann ...",
                "OK MSG _ _",
                "OK MSG _ _",
                "OK MSG _ _",
                "OK MSG _ _",
                "OK MSG _ _",
                "BYE eof ...",
            ],
        );
        witness.expect("JOINED ann").await;
        for text in ["hello", "cafe", "oh yes", "read", "last"] {
            witness.expect(&format!("MSG _ _ ann {text}")).await;
        }
        witness.expect("LEFT ann eof").await;
    }
}

/// Stands between a client and the daemon, and writes down what goes through.
struct Tap {
    address: SocketAddr,
    sent: watch::Receiver<Vec<u8>>,
    received: watch::Receiver<Vec<u8>>,
}

impl Tap {
    /// Waits for one client.
    async fn before(daemon: SocketAddr) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let ((sending, sent), (receiving, received)) =
            (watch::channel(Vec::new()), watch::channel(Vec::new()));
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a client");
            let server = TcpStream::connect(daemon).await.expect("the daemon");
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                pass(from_client, to_server, sending),
                pass(from_server, to_client, receiving)
            );
        });
        Tap { address, sent, received }
    }

    /// Waits until bytes have passed so many times.
    async fn has(passed: &watch::Receiver<Vec<u8>>, bytes: &[u8], times: usize) {
        let mut passed = passed.clone();
        let has = passed.wait_for(|all| {
            all.windows(bytes.len()).filter(|window| *window == bytes).count() >= times
        });
        let what = format!("{bytes:x?} on the wire, {times} times");
        soon(&what, has).await.unwrap_or_else(|_| panic!("the end came before {what}"));
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passed: watch::Sender<Vec<u8>>) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut bytes).await {
        passed.send_modify(|all| all.extend_from_slice(&bytes[..n]));
        if to.write_all(&bytes[..n]).await.is_err() {
            break;
        }
    }
}

/// A telnet on a terminal, in the lobby.
async fn telnet(address: SocketAddr) -> Program {
    let command = fill("inetutils-telnet HOST PORT", address);
    let mut telnet = Program::on_terminal("inetutils-telnet", &command);
    telnet.shows("HELLO parlor/1 ").await;
    telnet.types("JOIN LOBBY tel 0\n").await;
    telnet.shows("OK JOIN LOBBY tel ").await;
    telnet
}

#[tokio::test]
async fn telnet_shows_output_again_after_ctrl_c_and_the_room_sees_none_of_it() {
    const IP_DO_TIMING_MARK: [u8; 5] = [0xff, 0xf4, 0xff, 0xfd, 0x06];
    const WONT_TIMING_MARK: [u8; 3] = [0xff, 0xfc, 0x06];
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    let tap = Tap::before(daemon.addr()).await;
    let mut telnet = telnet(tap.address).await;
    witness.expect("JOINED tel").await;
    for time in 1..=3 {
        telnet.types("MSG never said\x03").await;
        Tap::has(&tap.sent, &IP_DO_TIMING_MARK, time).await;
        Tap::has(&tap.received, &WONT_TIMING_MARK, time).await;
        telnet.types(format!("MSG said {time}\n")).await;
        telnet.shows("OK MSG ").await;
        witness.expect(&format!("MSG _ _ tel said {time}")).await;
        witness.send(format!("MSG heard {time}\n")).await;
        witness.expect("OK MSG _ _").await;
        telnet.shows(&format!(" witness heard {time}\r\n")).await;
    }
}

#[tokio::test]
async fn typing_in_telnet_is_edited_by_backspace_and_ended_by_ctrl_d() {
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    let mut telnet = telnet(daemon.addr()).await;
    witness.expect("JOINED tel").await;
    telnet.types("MSG helo\x7flo\n").await;
    telnet.shows("OK MSG ").await;
    witness.expect("MSG 1 _ tel hello").await;
    telnet.types("MSG oh no\x15MSG oh yes\n").await;
    telnet.shows("OK MSG ").await;
    witness.expect("MSG 2 _ tel oh yes").await;
    telnet.types("\x04").await;
    assert!(telnet.rest().await.contains("BYE eof "));
    witness.expect("LEFT tel eof").await;
}

#[tokio::test]
async fn telnet_gets_crlf_and_an_answer_to_are_you_there() {
    let daemon = Daemon::start(&[]).await;
    let tap = Tap::before(daemon.addr()).await;
    let mut telnet = telnet(tap.address).await;
    telnet.types("\x1d").await;
    telnet.shows("telnet> ").await;
    telnet.types("send ayt\n").await;
    telnet.shows("NOTICE here ").await;
    telnet.types("QUIT\n").await;
    assert!(telnet.rest().await.contains("BYE quit "));
    let received = String::from_utf8_lossy(&tap.received.borrow()).into_owned();
    for line in received.split_inclusive('\n').skip(1) {
        assert!(line.ends_with("\r\n"), "{line:?}");
    }
    let sent = tap.sent.borrow().clone();
    assert_eq!(sent, b"JOIN LOBBY tel 0\r\n\xff\xf6QUIT\r\n", "{sent:x?}");
}

#[tokio::test]
async fn what_speaks_another_protocol_is_told_so_and_runs_nothing() {
    let daemon = Daemon::start(&[]).await;
    let mut witness = Plain::in_lobby(daemon.addr(), "witness").await;
    let commands = "\nJOIN LOBBY intruder\nMSG hi\n";
    // More than one read takes, and commands wherever a read may end.
    let long = commands.repeat(10_000);
    for (way, body) in [("POST", commands), ("POST", &long), ("PUT", commands), ("GET", &long)] {
        let mut curl = Command::new("curl");
        curl.args(["--http0.9", "-sS", "-X", way, "--data-binary", "@-", "-H", "Expect:"]);
        curl.arg(format!("http://{}/", daemon.addr()));
        let shown = pipe(Program::spawn("curl", "curl http://", curl), body).await;
        let (hello, response) = shown.split_once('\n').expect("lines");
        assert!(fits("HELLO parlor/1 ...", hello), "{way}: {shown}");
        assert!(response.starts_with("HTTP/1.1 400 "), "{way}: {shown}");
    }

    let mut curl = Command::new("curl");
    curl.args(["-sSk"]).arg(format!("https://{}/", daemon.addr()));
    assert_eq!(pipe(Program::spawn("curl", "curl https://", curl), "").await, "");
    daemon.stderr_shows("TLS").await;
    witness.send("WHO\n").await;
    witness.expect("USER witness here").await;
}
