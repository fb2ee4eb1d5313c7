//! The program itself: its arguments, its environment, its exit codes, its signals and its logs.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::binary::{
    Daemon, Plain, Program, assert_lines, fits, gather, output, parlor, read_ports, signal, soon,
};
use crate::support::{Client, web_socket};

const ANY_PORT: &str = "127.0.0.1:0";

/// Runs the program, which must fail: its exit code and what it wrote to stderr.
async fn failure(command: Command) -> (Option<i32>, String) {
    let output = output(command).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nothing belongs on stdout");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (output.status.code(), stderr)
}

/// Runs the program, which must only print something.
async fn printed(args: &[&str]) -> String {
    let output = output(parlor(args)).await;
    assert_eq!(output.status.code(), Some(0), "{args:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The addresses under which others on the network know this machine.
fn network_addresses() -> Vec<IpAddr> {
    let hostname = std::process::Command::new("hostname").arg("-I").output();
    let hostname = hostname.expect("hostname -I (Debian's package hostname)");
    let addresses = String::from_utf8(hostname.stdout).expect("UTF-8");
    let addresses = addresses.split_whitespace().map(|word| word.parse().expect("an address"));
    addresses.filter(|ip| !matches!(ip, IpAddr::V4(ip) if ip.is_link_local())).collect()
}

fn secret_file(folder: &TempDir, name: &str, content: &str) -> String {
    let file = folder.path().join(name);
    std::fs::write(&file, content).expect("written");
    file.display().to_string()
}

// What it prints.

#[tokio::test]
async fn help_names_a_variable_for_every_flag() {
    for args in [&["--help"][..], &["serve", "--help"]] {
        let help = printed(args).await;
        let mut flags: Vec<(String, String)> = Vec::new();
        for line in help.lines().map(str::trim) {
            // Single dashes begin lists of values as well.
            if ["--", "-h,", "-V,"].iter().any(|dash| line.starts_with(dash)) {
                let flag = line.split_whitespace().find(|word| word.starts_with("--"));
                flags.push((flag.expect("a long flag").to_owned(), String::new()));
            } else if let Some((_, text)) = flags.last_mut() {
                text.push_str(line);
            }
        }
        flags.retain(|(flag, _)| !["--help", "--version"].contains(&flag.as_str()));
        assert!(flags.len() >= 17, "{flags:#?}");
        for (flag, text) in &flags {
            let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
            assert!(text.contains(&format!("[env: PARLOR_{variable}=")), "{flag}: {text}");
        }
    }
}

#[tokio::test]
async fn help_has_examples_that_can_be_run() {
    let help = printed(&["--help"]).await;
    let (_, examples) = help.split_once("Examples:\n").expect("examples");
    let (examples, rest) = examples.split_once("\n\n").expect("a paragraph");
    let starts = examples.lines().filter_map(|line| line.find("parlor").map(|at| &line[at..]));
    let commands: Vec<_> = starts.map(|line| line.split("  ").next().unwrap_or(line)).collect();
    assert!(commands.len() >= 5, "{examples}");
    for command in commands {
        // A flag that there isn't would be refused.
        let args: Vec<_> = command.split_whitespace().skip(1).chain(["--version"]).collect();
        assert!(printed(&args).await.starts_with("parlor "), "{command}");
    }
    assert!(help.contains("nc 127.0.0.1 7777"), "{help}");
    assert!(rest.contains("Exit codes: 0 "), "{rest}");
}

#[tokio::test]
async fn version_and_short_help_are_told() {
    let version = concat!("parlor ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(printed(&["--version"]).await, version);
    assert_eq!(printed(&["-V"]).await, version);
    assert!(printed(&["-h"]).await.contains("Usage: parlor"));
    assert!(printed(&["help"]).await.contains("Examples:"));
}

// Where it listens.

#[tokio::test]
async fn it_listens_on_every_address_and_writes_the_ports_down() {
    let args = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", "localhost:0"];
    let mut variable = parlor(&["serve"]);
    variable.env("PARLOR_LISTEN", "127.0.0.1:0,[::1]:0,localhost:0");
    for command in [parlor(&args), variable] {
        let daemon = Daemon::spawn(command).await;
        let [v4, v6, localhost] = daemon.addrs() else { panic!("{:?}", daemon.addrs()) };
        assert!(v4.is_ipv4() && v6.is_ipv6() && localhost.ip().is_loopback());
        let json = std::fs::read_to_string(daemon.folder().join("ports.json")).expect("the file");
        let expected = format!(r#"{{"line":["{v4}","{v6}","{localhost}"],"web":[]}}"#);
        assert_eq!(json.trim_end(), expected);
        let stderr = daemon.stderr_shows("To stop it").await;
        for address in daemon.addrs() {
            assert!(stderr.contains(&format!("nc {} {}\n", address.ip(), address.port())));
            Plain::connect(*address).await;
        }
    }
}

#[tokio::test]
async fn one_address_is_written_down_alone() {
    let daemon = Daemon::start(&[]).await;
    let json = std::fs::read_to_string(daemon.folder().join("ports.json")).expect("the file");
    let expected = format!(r#"{{"line":["127.0.0.1:{}"],"web":[]}}"#, daemon.addr().port());
    assert_eq!(json.trim_end(), expected);
}

#[tokio::test]
async fn the_ports_file_appears_whole_in_place_of_an_old_one() {
    let folder = TempDir::new().expect("a folder");
    let (file, witness) = (folder.path().join("ports.json"), folder.path().join("witness"));
    std::fs::write(&file, "old").expect("written");
    std::fs::hard_link(&file, &witness).expect("a second name for the old file");
    let mut command = parlor(&["--listen", ANY_PORT]);
    command.env("PARLOR_PORTS_FILE", &file);
    let mut child = command.spawn().expect("started");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    soon("a line", lines.next_line()).await.expect("read");
    // It was moved there and not written there: nobody has seen the half of it.
    assert_eq!(std::fs::read_to_string(&witness).expect("read"), "old");
    let new = std::fs::read_to_string(&file).expect("read");
    assert!(new.starts_with(r#"{"line":["127.0.0.1:"#), "{new}");
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 2, "nothing is left over");
}

#[tokio::test]
async fn all_interfaces_are_told_with_the_addresses_that_others_need() {
    let daemon = Daemon::start(&["--listen", "0.0.0.0:0", "--listen", "[::]:0"]).await;
    let stderr = daemon.stderr_shows("To stop it").await;
    let [_, v4, v6] = daemon.addrs() else { panic!("{:?}", daemon.addrs()) };
    let told = |ip: IpAddr, port: u16| stderr.contains(&format!(" nc {ip} {port}\n"));
    for port in [v4.port(), v6.port()] {
        assert!(told([127, 0, 0, 1].into(), port), "{stderr}");
    }
    for ip in network_addresses() {
        assert_eq!(told(ip, v4.port()), ip.is_ipv4(), "{ip}: {stderr}");
        assert!(told(ip, v6.port()), "{ip}: {stderr}");
        Plain::connect((ip, v6.port()).into()).await;
    }
    assert!(!stderr.contains("--public"), "it is public: {stderr}");
    Plain::connect(([127, 0, 0, 1], v6.port()).into()).await;
}

/// The only test that uses the port 7777.
#[tokio::test]
async fn without_arguments_it_serves_this_machine_and_with_public_the_network() {
    let free = TcpListener::bind(("0.0.0.0", 7777)).map(drop);
    free.expect("port 7777 is taken on this machine: this test needs it");
    let mut daemon = Daemon::spawn(parlor(&[])).await;
    assert_eq!(daemon.addrs(), [SocketAddr::from(([127, 0, 0, 1], 7777))]);
    let stderr = daemon.stderr_shows("To stop it").await;
    for text in [" nc 127.0.0.1 7777\n", "--public", "CREATE yourname"] {
        assert!(stderr.contains(text), "{text:?}: {stderr}");
    }

    let mut variable = parlor(&[]);
    variable.env("PARLOR_PUBLIC", "1");
    for command in [parlor(&["--public"]), variable] {
        // The connection that is open now doesn't keep the next daemon from its port.
        let mut plain = Plain::connect(([127, 0, 0, 1], 7777).into()).await;
        daemon.terminate();
        plain.rest().await;
        drop(plain);
        assert_eq!(daemon.wait().await.0.code(), Some(0));

        daemon = Daemon::spawn(command).await;
        let stderr = daemon.stderr_shows("To stop it").await;
        for ip in [IpAddr::from([127, 0, 0, 1])].into_iter().chain(network_addresses()) {
            assert!(stderr.contains(&format!(" nc {ip} 7777\n")), "{ip}: {stderr}");
            Plain::connect((ip, 7777).into()).await;
        }
    }
    let (code, stderr) = failure(parlor(&[])).await;
    assert_eq!(code, Some(3), "{stderr}");
}

// What is refused.

#[tokio::test]
async fn a_port_in_use_is_exit_code_3_and_a_way_out() {
    let taken = TcpListener::bind(ANY_PORT).expect("a port");
    let address = taken.local_addr().expect("an address");
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ports.json").display().to_string();
    let listen = ["--listen", ANY_PORT, "--listen", &address.to_string()];
    for format in ["text", "json"] {
        let more = ["--ports-file", &file, "--log-format", format];
        let (code, stderr) = failure(parlor(&[&listen[..], &more].concat())).await;
        assert_eq!(code, Some(3), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&format!("port {} is in use", address.port())), "{stderr}");
        assert!(stderr.contains("--listen 127.0.0.1:0"), "{stderr}");
        assert!(!Path::new(&file).exists(), "not all listen, so no port is told");
    }
}

#[tokio::test]
async fn bad_usage_is_exit_code_2_and_says_what_is_wrong() {
    let folder = TempDir::new().expect("a folder");
    let (empty, blank) =
        (secret_file(&folder, "empty", ""), secret_file(&folder, "blank", " \r\n"));
    let several = secret_file(&folder, "several", "let me in\nplease\n");
    let escape = secret_file(&folder, "escape", "\x1b[A\n");
    let long = secret_file(&folder, "long", &"x".repeat(1801));
    let cases: [(&[&str], &str); 22] = [
        (&["--frobnicate"], "--frobnicate"),
        (&["frobnicate"], "frobnicate"),
        (&["--listen", "nonsense"], "ADDR:PORT"),
        (&["--listen", "127.0.0.1"], "ADDR:PORT"),
        (&["--listen", "127.0.0.1:70000"], "ADDR:PORT"),
        (&["--listen"], "--listen"),
        (&["--listen", ANY_PORT, "--public"], "--public"),
        (&["--rate", "fast"], "--rate"),
        (&["--burst", "0"], "--burst"),
        (&["--hold", "0"], "--hold"),
        (&["--hold", "601"], "--hold"),
        (&["--code-length", "3"], "--code-length"),
        (&["--code-length", "17"], "--code-length"),
        (&["--lobby", "no spaces"], "--lobby"),
        (&["--max-members", "-1"], "-1"),
        (&["--log-format", "xml"], "json"),
        (&["--oper-secret-file", &empty], "secret is empty"),
        (&["--oper-secret-file", &blank], "secret is empty"),
        (&["--oper-secret-file", &several], "secret is one line"),
        (&["--oper-secret-file", &escape], "secret can't be sent"),
        (&["--oper-secret-file", &long], "secret can't be sent"),
        (&["--oper-secret-file", "/no/such/file"], "/no/such/file"),
    ];
    for (args, text) in cases {
        let (code, stderr) = failure(parlor(args)).await;
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(text), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_bad_environment_is_exit_code_2_and_says_what_is_wrong() {
    let cases = [
        ("RUST_LOG", "parlor=loud", "RUST_LOG"),
        ("RUST_LOG", "==", "RUST_LOG"),
        ("PARLOR_LISTEN", "nonsense", "ADDR:PORT"),
        ("PARLOR_LISTEN", "127.0.0.1:0,nonsense", "ADDR:PORT"),
        ("PARLOR_HOLD", "long", "invalid digit"),
        ("PARLOR_HOLD", "601", "1..=600"),
        ("PARLOR_MAX_ROOMS", "-1", "invalid digit"),
        ("PARLOR_LOBBY", " ", "1 to 16"),
        ("PARLOR_LOG_FORMAT", "xml", "json"),
        ("PARLOR_ALLOW_ORIGIN", "example.org", "https://example.org"),
        ("PARLOR_OPER_SECRET", " ", "secret is empty"),
        ("PARLOR_OPER_SECRET", "let me in\nplease", "secret is one line"),
    ];
    for (variable, value, text) in cases {
        for first in [&[][..], &["serve"]] {
            let mut command = parlor(first);
            command.env(variable, value);
            let (code, stderr) = failure(command).await;
            assert_eq!(code, Some(2), "{variable}={value}: {stderr}");
            assert!(stderr.contains(text), "{variable}={value}: {stderr}");
            assert!(stderr.contains(variable), "{variable}={value}: {stderr}");
        }
    }
    let mut command = parlor(&[]);
    command.env("PARLOR_OPER_SECRET_FILE", "/no/such/file");
    assert!(failure(command).await.1.contains("/no/such/file"));
    // What the flag says is the flag's mistake.
    for args in [["--hold", "long"], ["--hold=long", "--no-web"]] {
        let mut command = parlor(&args);
        command.env("PARLOR_HOLD", "longer");
        let (code, stderr) = failure(command).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--hold") && !stderr.contains("PARLOR_HOLD"), "{stderr}");
    }
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let help = printed(&["--help"]).await;
    let variables: Vec<&str> =
        help.split("[env: ").skip(1).filter_map(|rest| Some(rest.split_once('=')?.0)).collect();
    assert!(variables.len() >= 17, "{variables:?}");
    let empty = |args: &[&str]| {
        let mut command = parlor(args);
        for variable in variables.iter().chain(&["PARLOR_OPER_SECRET"]) {
            command.env(variable, "");
        }
        command
    };
    for first in [&[][..], &["serve"]] {
        // Any ports: those of its own are another test's.
        let args = [first, &["--listen", ANY_PORT, "--web", ANY_PORT]].concat();
        let daemon = Daemon::spawn(empty(&args)).await;
        let mut plain = Plain::in_lobby(daemon.addr(), "ann").await;
        plain.send("OPER \nOPER x\nHOLD\n").await;
        plain.expect("ERR OPER bad-args ...").await;
        plain.expect("ERR OPER bad-secret ...").await;
        plain.expect("OK HOLD _ 30").await;
        // Nothing is wrong with them before the secret is looked for.
        let args = [first, &["--public", "--oper-secret-file", "/no/such/file"]].concat();
        let (code, stderr) = failure(empty(&args)).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("/no/such/file"), "{stderr}");
    }
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_bad_usage_and_not_passed_over() {
    let not_utf8 = OsStr::from_bytes(b"caf\xe9");
    for variable in ["RUST_LOG", "PARLOR_OPER_SECRET", "PARLOR_LOBBY"] {
        let mut command = parlor(&["--listen", ANY_PORT]);
        command.env(variable, not_utf8);
        let (code, stderr) = failure(command).await;
        assert_eq!(code, Some(2), "{variable}: {stderr}");
        assert!(stderr.contains(&format!("{variable} is not UTF-8")), "{stderr}");
    }
}

#[tokio::test]
async fn what_the_system_refuses_is_exit_code_1_in_one_line() {
    let cases: [(&[&str], &str); 2] = [
        (&["--listen", ANY_PORT, "--ports-file", "/no/such/folder/ports.json"], "/no/such/folder"),
        // An address for documentation, which no machine has.
        (&["--listen", "203.0.113.1:0"], "203.0.113.1:0"),
    ];
    for (args, text) in cases {
        let (code, stderr) = failure(parlor(args)).await;
        assert_eq!(code, Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(text), "{stderr}");
    }
}

// What can be set.

/// What somebody sees who connects while somebody else stays: everything up to the end.
async fn second_conversation(daemon: &Daemon, first: &str, second: &str) -> String {
    let mut staying = Plain::connect(daemon.addr()).await;
    staying.send(format!("{first}PING\n")).await;
    while staying.line().await != "OK PING\n" {}
    let mut plain = Plain::reach(daemon.addr()).await;
    plain.send(second).await;
    plain.end_input().await;
    plain.rest().await
}

#[tokio::test]
async fn every_flag_works_and_so_does_its_variable() {
    let folder = TempDir::new().expect("a folder");
    let file = secret_file(&folder, "secret", "let me in\r\n");
    // The flag and its value, what the first says, what the second says, and what he then sees.
    let cases = [
        ("--lobby", "Class", "", "JOIN cLASS ann 0\n", "OK JOIN CLASS ann 0 1 0"),
        ("--no-lobby", "", "", "JOIN LOBBY ann 0\n", "ERR JOIN bad-code ..."),
        ("--hold", "77", "", "", "HELLO parlor/1 line=2048,text=1800,hold=77 ..."),
        ("--history", "2", "", "CREATE a\nMSG 1\nMSG 2\nMSG 3\nHISTORY\n", "OK HISTORY 2"),
        ("--max-members", "1", "JOIN LOBBY ann\n", "JOIN LOBBY bob\n", "ERR JOIN room-full ..."),
        ("--max-rooms", "1", "CREATE ann\n", "CREATE bob\n", "ERR CREATE busy ..."),
        ("--max-connections", "1", "", "", "BYE busy ..."),
        ("--oper-secret-file", &file, "", "OPER let me in\n", "OK OPER"),
    ];
    for (flag, value, first, second, form) in cases {
        let args = if value.is_empty() { vec![flag] } else { vec![flag, value] };
        let by_flag = Daemon::start(&args).await;
        let mut variable = parlor(&["--listen", ANY_PORT]);
        let name = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
        variable.env(format!("PARLOR_{name}"), if value.is_empty() { "1" } else { value });
        let by_variable = Daemon::spawn(variable).await;
        for daemon in [by_flag, by_variable] {
            let shown = second_conversation(&daemon, first, second).await;
            assert!(shown.lines().any(|line| fits(form, line)), "{flag}: {form:?} in {shown}");
        }
    }
}

#[tokio::test]
async fn room_codes_are_as_long_as_wanted() {
    let daemon = Daemon::start(&["--code-length", "9"]).await;
    let mut plain = Plain::connect(daemon.addr()).await;
    plain.send("CREATE\n").await;
    assert_eq!(plain.expect("OK CREATE _").await.len(), "OK CREATE ".len() + 9);
}

#[tokio::test]
async fn the_operators_secret_can_be_a_variable() {
    let mut command = parlor(&["--listen", ANY_PORT]);
    command.env("PARLOR_OPER_SECRET", "let me in");
    let daemon = Daemon::spawn(command).await;
    let mut plain = Plain::connect(daemon.addr()).await;
    plain.send("OPER let me\nOPER let me in\n").await;
    plain.expect("ERR OPER bad-secret ...").await;
    plain.expect("OK OPER").await;
}

#[tokio::test]
async fn a_flag_beats_its_variable() {
    let mut command = parlor(&["--listen", ANY_PORT, "--hold", "9"]);
    command.env("PARLOR_HOLD", "8").env("PARLOR_LISTEN", "192.0.2.1:1");
    let daemon = Daemon::spawn(command).await;
    let shown = second_conversation(&daemon, "", "JOIN LOBBY ann\nHOLD\n").await;
    let last = shown.lines().nth_back(1).expect("lines");
    assert!(fits("OK HOLD _ 9", last), "{shown}");
}

#[tokio::test]
async fn a_variable_that_says_no_is_as_if_it_were_not_there() {
    for no in ["0", "false", "no", "off", ""] {
        let mut command = parlor(&["--listen", ANY_PORT]);
        for variable in ["PARLOR_PUBLIC", "PARLOR_NO_LOBBY", "PARLOR_TRACE_WIRE"] {
            command.env(variable, no);
        }
        let daemon = Daemon::spawn(command).await;
        Plain::in_lobby(daemon.addr(), "ann").await;
        daemon.terminate();
        let stderr = daemon.wait().await.1;
        assert!(!stderr.contains("HELLO"), "{no:?}: {stderr}");
    }
}

#[tokio::test]
async fn who_is_faster_than_the_rate_is_slowed_and_nothing_is_lost() {
    let by_flag = parlor(&["--listen", ANY_PORT, "--rate", "20", "--burst", "5"]);
    let mut by_variable = parlor(&["--listen", ANY_PORT]);
    by_variable.env("PARLOR_RATE", "20").env("PARLOR_BURST", "5");
    for command in [by_flag, by_variable] {
        let daemon = Daemon::spawn(command).await;
        let mut plain = Plain::connect(daemon.addr()).await;
        let lines: String = (1..=30).map(|n| format!("PING {n}\n")).collect();
        let start = Instant::now();
        plain.send(lines).await;
        for n in 1..=30 {
            plain.expect(&format!("OK PING {n}")).await;
        }
        // 5 at once, and 25 of 20 a second.
        let took = start.elapsed();
        assert!((1.0..10.0).contains(&took.as_secs_f64()), "{took:?}");
    }
}

#[tokio::test]
async fn one_address_of_the_network_is_limited_and_this_machine_is_not() {
    for ip in network_addresses() {
        let listen = SocketAddr::from((ip, 0)).to_string();
        let daemon =
            Daemon::start(&["--listen", &listen, "--max-per-address", "1", "--burst", "9"]).await;
        let mut here = Plain::connect(daemon.addr()).await;
        Plain::connect(daemon.addr()).await;
        let elsewhere = daemon.addrs()[1];
        let mut first = Plain::connect(elsewhere).await;
        let mut second = Plain::reach(elsewhere).await;
        second.expect("BYE busy ...").await;
        assert_eq!(second.rest().await, "");

        let lines = "PING\n".repeat(20);
        let start = Instant::now();
        first.send(&lines).await;
        here.send(&lines).await;
        for _ in 0..20 {
            first.expect("OK PING").await;
            here.expect("OK PING").await;
        }
        let took = start.elapsed();
        assert!(took > Duration::from_secs(1), "9 at once, and 11 of 10 a second: {took:?}");
    }
}

// How it ends.

/// Checks what a connection got that had sent so many PINGs: all replies, one notice, BYE.
fn assert_farewell(rest: &str, pings: usize) {
    let replies: Vec<&str> = rest.lines().filter(|line| line.starts_with("OK PING ")).collect();
    let wanted: Vec<String> = (1..=pings).map(|n| format!("OK PING {n}")).collect();
    assert_eq!(replies, wanted);
    let notices = rest.lines().filter(|line| fits("NOTICE shutdown ...", line)).count();
    assert_eq!(notices, 1, "{rest}");
    let last = rest.lines().last().unwrap_or_default();
    assert!(fits("BYE shutdown ...", last), "{rest}");
    assert!(!rest.contains("LEFT "), "{rest}");
}

fn pings(lines: usize) -> String {
    (1..=lines).map(|n| format!("PING {n}\n")).collect()
}

#[tokio::test]
async fn sigterm_and_sigint_say_goodbye_to_everybody() {
    for name in ["TERM", "INT"] {
        let daemon = Daemon::start(&[]).await;
        let mut ann = Plain::in_lobby(daemon.addr(), "ann").await;
        let mut bob = Plain::in_lobby(daemon.addr(), "bob").await;
        let mut outside = Plain::connect(daemon.addr()).await;
        ann.expect("JOINED bob").await;
        for plain in [&mut ann, &mut bob, &mut outside] {
            plain.send(pings(200)).await;
        }
        let start = Instant::now();
        daemon.signal(name);
        for mut plain in [ann, bob, outside] {
            assert_farewell(&plain.rest().await, 200);
        }
        let again = TcpStream::connect(daemon.addr()).await.map_err(|error| error.kind());
        assert!(matches!(again, Err(std::io::ErrorKind::ConnectionRefused)), "{again:?}");
        let (status, stderr) = daemon.wait().await;
        assert_eq!(status.code(), Some(0), "{name}: {stderr}");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn lines_sent_before_the_end_are_answered_in_spite_of_the_pace() {
    let daemon = Daemon::start(&["--rate", "1", "--burst", "1"]).await;
    let mut plain = Plain::connect(daemon.addr()).await;
    plain.send(pings(60)).await;
    plain.expect("OK PING 1").await;
    let start = Instant::now();
    daemon.terminate();
    assert_farewell(&format!("OK PING 1\n{}", plain.rest().await), 60);
    drop(plain);
    assert_eq!(daemon.wait().await.0.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// Connects, asks for more than any pipe takes, and never reads. It lasts as long as the value.
async fn stubborn(address: SocketAddr) -> tokio::task::JoinHandle<TcpStream> {
    let mut stream = soon("a connection", TcpStream::connect(address)).await.expect("connected");
    tokio::spawn(async move {
        let written = stream.write_all("HELP\n".repeat(100_000).as_bytes()).await;
        drop(written);
        stream
    })
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_keep_it_from_ending() {
    let daemon = Daemon::start(&[]).await;
    let _stubborn = stubborn(daemon.addr()).await;
    let mut plain = Plain::connect(daemon.addr()).await;
    let start = Instant::now();
    daemon.terminate();
    assert_farewell(&plain.rest().await, 0);
    let (status, stderr) = daemon.wait().await;
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second, code) in [("TERM", "TERM", 143), ("INT", "INT", 130), ("TERM", "INT", 130)]
    {
        let daemon = Daemon::start(&[]).await;
        let _stubborn = stubborn(daemon.addr()).await;
        let mut plain = Plain::connect(daemon.addr()).await;
        daemon.signal(first);
        plain.expect("NOTICE shutdown ...").await;
        daemon.signal(second);
        // The shell's number for a program that a signal has ended.
        assert_eq!(daemon.wait().await.0.code(), Some(code));
    }
}

// What it logs.

#[tokio::test]
async fn json_logs_are_one_object_a_line_with_the_counts_of_each_connection() {
    let by_flag = parlor(&["--listen", ANY_PORT, "--log-format", "json"]);
    let mut by_variable = parlor(&["--listen", ANY_PORT]);
    by_variable.env("PARLOR_LOG_FORMAT", "json");
    for command in [by_flag, by_variable] {
        let daemon = Daemon::spawn(command).await;
        let mut connections = Vec::new();
        for (script, reason, lines, messages) in [
            ("JOIN LOBBY ann\nMSG one\nMSG two\nBOGUS\n", "eof", 4, 2),
            ("MSG nowhere\nPING\nQUIT\n", "quit", 3, 0),
        ] {
            let mut plain = Plain::reach(daemon.addr()).await;
            let peer = plain.local_addr().to_string();
            plain.send(script).await;
            plain.end_input().await;
            let bytes = plain.rest().await.len();
            connections.push((peer, reason, lines, messages, script.len(), bytes));
        }
        daemon.terminate();
        let (_, stderr) = daemon.wait().await;

        let parse = |line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line}"));
        let events: Vec<Value> = stderr.lines().map(parse).collect();
        assert!(events.iter().all(|event| event.is_object() && event["level"].is_string()));
        for (n, (peer, reason, lines, messages, bytes_in, bytes_out)) in (1..).zip(&connections) {
            let of_it = |event: &&Value| event["fields"]["connection"] == n;
            let own: Vec<&Value> = events.iter().filter(of_it).collect();
            let [connected, ended] = own[..] else { panic!("{own:#?}") };
            assert_eq!(connected["fields"]["message"], "connected");
            assert_eq!(connected["fields"]["peer"], *peer);
            let expected = serde_json::json!({
                "message": "ended", "connection": n, "reason": reason,
                "lines": lines, "messages": messages, "bytes_in": bytes_in, "bytes_out": bytes_out,
            });
            assert_eq!(ended["fields"], expected);
        }
        let listening = &events[0]["fields"];
        assert_eq!(listening["message"], "listening");
        assert!(listening["address"].as_str().is_some_and(|text| text.starts_with("127.0.0.1:")));
    }
}

#[tokio::test]
async fn no_text_no_token_and_no_code_is_ever_logged() {
    for format in ["text", "json"] {
        let mut command = parlor(&["--listen", ANY_PORT, "--log-format", format]);
        // Long codes, so that none is in a time or a port by chance.
        command.args(["--code-length", "16", "--lobby", "NARWHAL"]);
        command.env("RUST_LOG", "trace").env("PARLOR_OPER_SECRET", "capybara");
        let daemon = Daemon::spawn(command).await;

        let mut ann = Plain::connect(daemon.addr()).await;
        ann.send("CREATE ann\nHOLD\n").await;
        let created = ann.expect("OK CREATE _ ann").await;
        let held = ann.expect("OK HOLD _ 30").await;
        let word = |line: &str| line.split(' ').nth(2).expect("a field").to_owned();
        let (code, token) = (word(&created), word(&held));

        let mut bob = Plain::connect(daemon.addr()).await;
        bob.send(format!("JOIN {code} bob\nTALK on\nzebra\n/HOLD\n/PING okapi\n")).await;
        bob.expect("OK JOIN ...").await;
        bob.expect("OK TALK on").await;
        bob.expect("OK MSG ...").await;
        let second_token = word(&bob.expect("OK HOLD _ 30").await);
        bob.expect("OK PING okapi").await;
        ann.send("MSG wombat\nTELL bob quokka\nBOGUS lemur\nMSG ibex \x1b\nMSG tapir \u{202e}\n")
            .await;
        ann.send(format!("MSG {}\nHISTORY\n", "dingo".repeat(500))).await;
        ann.send(b"MSG \xfe vicuna\nOPER gibbon\nOPER capybara\nANNOUNCE ocelot\n").await;
        ann.send("LOCK\nMUTE bob\nKICK bob axolotl\nPING end\n").await;
        while ann.line().await != "OK PING end\n" {}
        bob.rest().await;

        let mut cat = Plain::connect(daemon.addr()).await;
        cat.send("JOIN NARWHAL cat\nLEAVE\nJOIN BCDFGHJKMNPQRSTV cat\n").await;
        cat.send(format!("RESUME {code} iguana-iguana-iguana-iguana 0\nJOIN {code} cat\n")).await;
        cat.send(format!("RESUME {code} {token} 0\nCLOSE\n")).await;
        let seen = cat.rest().await;
        for form in ["OK RESUME _ ann ...", "OK CLOSE", "BYE closed ..."] {
            assert!(seen.lines().any(|line| fits(form, line)), "{form}: {seen}");
        }
        ann.rest().await;
        daemon.terminate();
        let (_, stderr) = daemon.wait().await;

        assert_eq!(stderr.matches("connected").count(), 3, "it does log: {stderr}");
        let log = stderr.to_lowercase();
        let texts = "zebra okapi wombat quokka lemur ibex tapir dingo vicuna gibbon ocelot axolotl";
        let secrets = [&code, &token, &second_token, "bcdfghjkmnpqrstv"];
        let words = texts.split(' ').chain(["narwhal", "capybara", "iguana"]);
        for secret in words.chain(secrets.map(|secret| secret as &str)) {
            assert!(!log.contains(&secret.to_lowercase()), "{secret} is in the log: {stderr}");
        }
    }
}

/// The crates below log each frame, if they are let.
#[tokio::test]
async fn no_text_token_or_code_of_a_web_socket_is_in_the_log() {
    for wanted in ["trace", "info,tungstenite::protocol=trace,tokio_tungstenite=debug"] {
        let mut command = parlor(&["--listen", ANY_PORT, "--web", ANY_PORT]);
        command.args(["--code-length", "16"]).env_remove("PARLOR_NO_WEB").env("RUST_LOG", wanted);
        let daemon = Daemon::spawn(command).await;
        let mut ann = Client::over(web_socket(daemon.web_addr()).await).greeted().await;
        let code = ann.create("ann").await;
        let token = ann.hold(30).await;
        let mut bob = Client::over(web_socket(daemon.web_addr()).await).greeted().await;
        bob = bob.join(&code, "bob").await;
        ann.ask("MSG wombat").await;
        bob.expect("MSG 1 ").await;
        bob.ask("PING okapi").await;
        bob.ask(&"dingo".repeat(1000)).await;
        bob.ask(&format!("RESUME {code} {token} 0")).await;
        for mut client in [ann, bob] {
            client.send("QUIT").await;
            client.rest().await;
        }
        daemon.terminate();
        let (_, log) = daemon.wait().await;
        assert_eq!(log.matches("connected").count(), 2, "it does log: {log}");
        for secret in [&*code, &token, "wombat", "okapi", "dingo"] {
            assert!(!log.contains(secret), "{secret} is in the log: {log}");
        }
    }
}

#[tokio::test]
async fn traced_lines_show_both_ways_with_escapes_visible() {
    let by_flag = parlor(&["--listen", ANY_PORT, "--trace-wire", "--log-format", "json"]);
    let mut by_variable = parlor(&["--listen", ANY_PORT]);
    by_variable.env("PARLOR_TRACE_WIRE", "1").env("RUST_LOG", "off");
    for (command, is_json) in [(by_flag, true), (by_variable, false)] {
        let daemon = Daemon::spawn(command).await;
        let mut bob = Plain::in_lobby(daemon.addr(), "bob").await;
        let mut ann = Plain::connect(daemon.addr()).await;
        ann.send(b"JOIN LOBBY ann 0\nMSG a\tb\nMSG \x1b[31mred\nMSG \xfe\x1b \xe2\x98\x95\xe2\n")
            .await;
        ann.send(format!("MSG {}\nPING \u{2615}\n", "dingo".repeat(500))).await;
        ann.end_input().await;
        ann.rest().await;
        bob.expect("JOINED ann").await;
        bob.expect("MSG 1 _ ann a\tb").await;
        drop(bob);
        daemon.terminate();
        let (_, stderr) = daemon.wait().await;

        assert!(!stderr.contains(['\x1b', '\t']), "nothing raw: {stderr:?}");
        let text = |line: &str| match is_json {
            true => serde_json::from_str::<Value>(line)
                .ok()
                .and_then(|event| Some(event["fields"]["message"].as_str()?.to_owned()))
                .unwrap_or_default(),
            false => line.to_owned(),
        };
        let log: Vec<String> = stderr.lines().map(text).collect();
        for traced in [
            "> HELLO parlor/1 line=2048",
            "< JOIN LOBBY ann 0",
            "> OK JOIN LOBBY ann 0 2 0",
            "> JOINED ann",
            r"< MSG a\tb",
            "> OK MSG 1 ",
            r" ann a\tb",
            r"< MSG \u{1b}[31mred",
            "> ERR * control-char ",
            "< MSG \\xfe\\u{1b} \u{2615}\\xe2",
            "> ERR * not-utf8 ",
            "< line-too-long",
            "> ERR * line-too-long ",
            "< PING \u{2615}",
            "> OK PING \u{2615}",
            "> BYE eof ",
        ] {
            assert!(log.iter().any(|line| line.contains(traced)), "{traced:?} in {log:#?}");
        }
    }
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_those_who_want_them() {
    let mut command = parlor(&["--listen", ANY_PORT]);
    command.env("RUST_LOG", "trace");
    let daemon = Daemon::spawn(command).await;
    Plain::connect(daemon.addr()).await;
    daemon.stderr_shows("ended").await;
    daemon.terminate();
    assert!(!daemon.wait().await.1.contains('\x1b'), "a pipe is no terminal");

    for (no_color, has_colours) in [("", true), ("1", false)] {
        let parlor = env!("CARGO_BIN_EXE_parlor");
        let command =
            format!("env NO_COLOR={no_color} RUST_LOG=info '{parlor}' --listen {ANY_PORT}");
        let mut terminal = Program::on_terminal("coreutils", &command);
        let told = terminal.shows("To stop it").await;
        let (_, told) = told.split_once("nc 127.0.0.1 ").expect("a port");
        let port: u16 = told.lines().next().and_then(|port| port.parse().ok()).expect("a port");
        let mut plain = Plain::connect(([127, 0, 0, 1], port).into()).await;
        terminal.types("\x03").await;
        assert_farewell(&plain.rest().await, 0);
        drop(plain);
        let (status, log) = terminal.wait().await;
        assert_eq!(status.code(), Some(0), "Ctrl-C stops it: {log}");
        assert!(log.contains("connected"), "{log}");
        assert_eq!(log.contains("\x1b["), has_colours, "NO_COLOR={no_color:?}: {log:?}");
    }
}

/// As where somebody has typed Ctrl-S, or pages through them: the pipe stays open.
#[tokio::test]
async fn it_serves_on_while_nobody_reads_its_logs() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ports.json");
    let args = ["--listen", ANY_PORT, "--log-format", "json", "--trace-wire", "--ports-file"];
    let mut child = parlor(&args).arg(&file).spawn().expect("started");
    let mut stderr = child.stderr.take().expect("a pipe");
    let mut first = [0; 20];
    soon("a line", stderr.read_exact(&mut first)).await.expect("read");
    let address = read_ports(&file, "line")[0];
    // Of each line there are two in the log, and the pipe holds a few hundred.
    let mut plain = Plain::in_lobby(address, "ann").await;
    for _ in 0..100 {
        plain.send(&"PING here\n".repeat(100)).await;
        for _ in 0..100 {
            assert_eq!(plain.line().await, "OK PING here\n");
        }
    }
    // Now somebody reads them again, and what is new comes too.
    let mut shown = gather(stderr);
    while !shown.borrow().contains("\"reason\":\"quit\"") {
        let mut plain = Plain::in_lobby(address, "ben").await;
        plain.send("QUIT\n").await;
        plain.rest().await;
    }
    signal("TERM", child.id().expect("it runs"));
    assert!(soon("the end", child.wait()).await.expect("it ran").success());
    while soon("the end of the logs", shown.changed()).await.is_ok() {}
    assert!(shown.borrow().contains("lines of this log are lost"));
}

#[tokio::test]
async fn it_serves_on_when_nobody_reads_its_logs_any_more() {
    let mut child = parlor(&["--listen", ANY_PORT]).spawn().expect("started");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut port = None;
    while port.is_none() {
        let line = soon("a line", stderr.next_line()).await.expect("read").expect("a line");
        port =
            line.split_once("nc 127.0.0.1 ").map(|(_, port)| port.parse::<u16>().expect("a port"));
    }
    drop(stderr);
    let mut plain = Plain::in_lobby(([127, 0, 0, 1], port.unwrap_or_default()).into(), "ann").await;
    plain.send("MSG still here\nQUIT\n").await;
    let forms = ["OK MSG 1 _", "OK QUIT", "BYE quit ..."];
    assert_lines("without a reader of logs", &plain.rest().await, &forms);
    drop(plain);
    signal("TERM", child.id().expect("it runs"));
    let status = soon("the daemon's end", child.wait()).await.expect("its status");
    assert_eq!(status.code(), Some(0));
}

// The bridge.

#[tokio::test]
async fn the_bridge_is_told_in_the_ports_file_and_to_people() {
    let mut command = parlor(&["--listen", ANY_PORT, "--web", ANY_PORT]);
    command.env_remove("PARLOR_NO_WEB");
    let daemon = Daemon::spawn(command).await;
    let ports = std::fs::read(daemon.folder().join("ports.json")).expect("the ports file");
    let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
    let web = ports["web"][0].as_str().expect("an address");
    daemon.stderr_shows(&format!("In a browser:        http://{web}/\n")).await;
    let mut plain = Plain::reach(web.parse().expect("an address")).await;
    plain.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let answer = plain.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_contradicts_itself_about_the_bridge_is_bad_usage() {
    for args in [["--no-web", "--web", ANY_PORT], ["--public", "--web", ANY_PORT]] {
        let (code, stderr) = failure(parlor(&args)).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--web"), "{stderr}");
    }
    let (code, stderr) = failure(parlor(&["--allow-origin", "example.org"])).await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("https://example.org"), "{stderr}");
}
