//! Under systemd: its sockets, its notifications, and its opinion of the unit.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::{Child, Command};

use crate::binary::{Daemon, Plain, output, parlor, soon};

/// The unit's exposure must be below 2.0; systemd-analyze counts in tenths and stops at more.
const EXPOSURE: &str = "--threshold=19";

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd")
}

/// An address of this machine that no other test has: the tool can't take any free port.
fn own_address() -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 77, high, low.clamp(1, 254)], 7777))
}

/// Starts the program as systemd does when somebody comes, with named sockets.
fn activated(sockets: &[(SocketAddr, &str)], args: &[&str]) -> Command {
    let mut command = Command::new("systemd-socket-activate");
    for (address, _) in sockets {
        command.arg("-l").arg(address.to_string());
    }
    let names: Vec<_> = sockets.iter().map(|(_, name)| *name).collect();
    command.arg("--fdname").arg(names.join(":")).arg(env!("CARGO_BIN_EXE_parlor")).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Connects as soon as somebody listens there.
async fn reach(command: &mut Command, address: SocketAddr) -> (Child, Plain) {
    let child = start(command, address).await;
    (child, Plain::reach(address).await)
}

/// Starts the tool; the program starts with the first connection.
async fn start(command: &mut Command, address: SocketAddr) -> Child {
    let mut child = command.spawn().expect("systemd-socket-activate; apt-get install systemd");
    // The tool says where it listens before it waits for a connection.
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains("Listening on") && line.contains(&address.to_string()) {
                return;
            }
        }
        panic!("it doesn't listen on {address}");
    };
    soon("the sockets", listening).await;
    // The program must not wait for a reader of its logs.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    child
}

#[tokio::test]
async fn sockets_of_systemd_are_served_by_their_names() {
    let lines = own_address();
    let web = SocketAddr::new(lines.ip(), 7778);
    let mut command = activated(&[(web, "web"), (lines, "line")], &[]);
    // The first one has come before the server was there.
    let (mut child, mut first) = reach(&mut command, lines).await;
    first.expect("HELLO parlor/1 ...").await;
    let mut page = Plain::reach(web).await;
    page.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(page.rest().await.ends_with("\r\n\r\nok\n"));
    Plain::in_lobby(lines, "second").await;
    crate::binary::signal("TERM", child.id().expect("it runs"));
    first.expect("NOTICE shutdown ...").await;
    assert!(soon("its end", child.wait()).await.expect("a status").success());
}

#[tokio::test]
async fn one_socket_is_for_lines_and_there_are_no_others() {
    let address = SocketAddr::new(own_address().ip(), 7779);
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("ports.json");
    let file = file.to_str().expect("UTF-8");
    let mut command = activated(&[(address, "parlor.socket")], &["--ports-file", file]);
    let (_child, mut first) = reach(&mut command, address).await;
    first.expect("HELLO parlor/1 ...").await;
    let ports = std::fs::read_to_string(file).expect("the ports file");
    assert_eq!(ports, format!("{{\"line\":[\"{address}\"],\"web\":[]}}\n"));
}

#[tokio::test]
async fn flags_that_contradict_the_sockets_are_bad_usage() {
    let address = SocketAddr::new(own_address().ip(), 7780);
    for (name, flag) in [("line", "--public"), ("web", "--no-web")] {
        let mut command = activated(&[(address, name)], &[flag]);
        let mut child = start(&mut command, address).await;
        // Who comes may meet a program that has ended already.
        let _nobody = TcpStream::connect(address).await;
        let status = soon("its end", child.wait()).await.expect("a status");
        assert_eq!(status.code(), Some(2), "{flag}");
    }
}

#[tokio::test]
async fn systemd_is_told_when_it_listens_and_when_it_stops() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let told = async || {
        let mut bytes = [0; 100];
        let read = soon("a notification", socket.recv(&mut bytes)).await.expect("received");
        String::from_utf8_lossy(&bytes[..read]).trim_end().to_owned()
    };
    let mut command = parlor(&["--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let daemon = Daemon::spawn(command).await;
    assert_eq!(told().await, "READY=1");
    let mut member = Plain::in_lobby(daemon.addr(), "member").await;
    // `systemctl reload` must not end a server that has no certificate.
    daemon.signal("HUP");
    daemon.stderr_shows("SIGHUP reads the certificate anew; there is none").await;
    daemon.terminate();
    assert_eq!(told().await, "STOPPING=1");
    member.expect("NOTICE shutdown ...").await;
    member.expect("BYE shutdown ...").await;
    drop(member);
    assert!(daemon.wait().await.0.success());
}

#[tokio::test]
async fn the_unit_is_exposed_below_2() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--no-pager", "--offline=true", EXPOSURE]);
    analyze.arg(units().join("parlor.service"));
    let output = output(analyze).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Overall exposure level for parlor.service: "), "{output:?}");
    assert!(output.status.success(), "{text}");
}

#[tokio::test]
async fn the_unit_is_not_started_anew_when_that_cannot_help() {
    let unit = std::fs::read_to_string(units().join("parlor.service")).expect("a unit");
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name));
    let final_codes: Vec<_> =
        value("RestartPreventExitStatus=").expect("codes").split(' ').collect();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let taken = taken.local_addr().expect("an address").to_string();
    for (args, is_final) in [
        (["--rate", "many"], true),
        (["--listen", &taken], true),
        (["--store", "sqlite:/nowhere/rooms.db"], false),
    ] {
        let code = output(parlor(&args)).await.status.code().expect("an exit code").to_string();
        assert_eq!(final_codes.contains(&&*code), is_final, "{args:?}: {code}");
    }
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn the_store_that_the_unit_tells_of_is_in_its_own_directory() {
    let unit = std::fs::read_to_string(units().join("parlor.service")).expect("a unit");
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    let state = format!("/var/lib/{}/", value("StateDirectory="));
    assert_eq!(value("WorkingDirectory="), format!("%S/{}", value("StateDirectory=")));
    let store = value("#Environment=PARLOR_STORE=");
    assert!(store.strip_prefix("sqlite:").is_some_and(|file| file.starts_with(&state)), "{store}");
    let folder = TempDir::new().expect("a folder");
    let here = folder.path().to_str().expect("UTF-8");
    let mut command = parlor(&["--listen", "127.0.0.1:0"]);
    command.env("PARLOR_STORE", store.replace(&state, &format!("{here}/")));
    let daemon = Daemon::spawn(command).await;
    assert!(folder.path().join("rooms.db").exists());
    daemon.terminate();
    assert!(daemon.wait().await.0.success());
}

#[tokio::test]
async fn systemd_understands_every_line_of_the_units() {
    let folder = TempDir::new().expect("a folder");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    for name in ["parlor.service", "parlor.socket", "parlor-web.socket"] {
        let unit = std::fs::read_to_string(units().join(name)).expect("a unit");
        let unit = unit.replace("/usr/local/bin/parlor", env!("CARGO_BIN_EXE_parlor"));
        let file = folder.path().join(name);
        std::fs::write(&file, unit).expect("written");
        verify.arg(file);
    }
    let output = output(verify).await;
    let complaints = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<_> = complaints.lines().filter(|line| line.contains("parlor")).collect();
    assert!(output.status.success() && ours.is_empty(), "{complaints}");
}
