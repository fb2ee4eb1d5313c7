//! A link that is cut: the real program in one network namespace, clients in another. Needs root;
//! without it `scripts/test` says that this is left out.

use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::binary::{Daemon, Program, unset};
use crate::support::first_field;

/// How long sent bytes may stay unacknowledged where a stall may take a second.
const UNACKNOWLEDGED: Duration = Duration::from_secs(11);
/// The kernel's timer is no exact one, and machines are busy.
const AT_LATEST: Duration = Duration::from_secs(30);
const ADDRESS: &str = "10.77.0.1:7777";

/// Two namespaces with a link between them. They are gone with the value.
struct Net {
    here: String,
    there: String,
}

fn ip(words: &str) -> Output {
    let mut ip = std::process::Command::new("ip");
    let output = ip.args(words.split(' ')).output();
    output.unwrap_or_else(|error| panic!("ip doesn't start ({error}): apt-get install iproute2"))
}

impl Net {
    /// `None` where namespaces can't be made.
    fn new() -> Option<Net> {
        let name = |side| format!("parlor-{}-{side}", std::process::id());
        let net = Net { here: name("here"), there: name("there") };
        let Net { here, there } = &net;
        let made = ip(&format!("netns add {here}"));
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr).into_owned();
            println!("left out: no network namespace can be made, which needs root: {why}");
            return None;
        }
        for words in [
            format!("netns add {there}"),
            format!("link add name cut0 netns {here} type veth peer name cut0 netns {there}"),
            format!("-n {here} address add 10.77.0.1/24 dev cut0"),
            format!("-n {there} address add 10.77.0.2/24 dev cut0"),
            // Who is here too comes over it.
            format!("-n {here} link set lo up"),
            format!("-n {here} link set cut0 up"),
            format!("-n {there} link set cut0 up"),
        ] {
            let done = ip(&words);
            assert!(done.status.success(), "ip {words}: {done:?}");
        }
        Some(net)
    }

    /// A program in one of the namespaces.
    fn within(namespace: &str, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]).args(args);
        unset(command)
    }

    async fn daemon(&self) -> Daemon {
        let args = ["--listen", ADDRESS, "--stall", "1"];
        Daemon::spawn(Net::within(&self.here, env!("CARGO_BIN_EXE_parlor"), &args)).await
    }

    async fn netcat(namespace: &str, address: SocketAddr) -> Program {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let command = Net::within(namespace, "nc.openbsd", &[&host, &port]);
        let mut nc = Program::spawn("netcat-openbsd", "nc.openbsd", command);
        nc.expect("HELLO parlor/1 ...").await;
        nc
    }

    /// Somebody in the lobby.
    async fn join(namespace: &str, address: SocketAddr, name: &str) -> Program {
        let mut nc = Net::netcat(namespace, address).await;
        nc.types(format!("JOIN LOBBY {name} 0\n")).await;
        nc.expect(&format!("OK JOIN LOBBY {name} ...")).await;
        nc
    }

    /// From now on nothing comes through, and nobody is told.
    fn cut(&self) {
        let down = ip(&format!("-n {} link set cut0 down", self.there));
        assert!(down.status.success(), "{down:?}");
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            ip(&format!("netns delete {name}"));
        }
    }
}

/// Arms a seat for a minute, and returns its token.
async fn hold(nc: &mut Program) -> String {
    nc.types("HOLD 60\n").await;
    nc.shows("OK HOLD ").await;
    first_field(&nc.shows("\n").await).to_owned()
}

/// Takes as long as sent bytes may stay unacknowledged.
// clause: HOLD-3, RESUME-3
#[tokio::test]
async fn who_is_gone_without_a_word_can_resume_at_once_and_costs_nothing_after_11_seconds() {
    let Some(net) = Net::new() else { return };
    let daemon = net.daemon().await;
    let mut ann = Net::join(&net.here, daemon.addr(), "ann").await;
    let files = daemon.files();
    let mut bob = Net::join(&net.there, daemon.addr(), "bob").await;
    let bob_token = hold(&mut bob).await;
    let mut dan = Net::join(&net.there, daemon.addr(), "dan").await;
    let dan_token = hold(&mut dan).await;
    let mut eve = Net::join(&net.there, daemon.addr(), "eve").await;
    for name in ["bob", "dan", "eve"] {
        ann.expect(&format!("JOINED {name}")).await;
    }
    ann.types("MSG heard\n").await;
    ann.expect("OK MSG 1 _").await;
    eve.expect("MSG 1 _ ann heard").await;

    net.cut();
    let cut = Instant::now();
    // The server has no idea of it yet, and needs none.
    let mut dan = Net::netcat(&net.here, daemon.addr()).await;
    dan.types(format!("RESUME LOBBY {dan_token} 1\n")).await;
    dan.expect("OK RESUME LOBBY dan 1 4 0 0").await;
    dan.types("MSG from elsewhere\n").await;
    dan.expect("OK MSG 2 _").await;
    ann.expect("MSG 2 _ dan from elsewhere").await;
    assert!(cut.elapsed() < UNACKNOWLEDGED, "at once: {:?}", cut.elapsed());

    let shown = ann.shows_within(AT_LATEST, "LEFT eve lost\n").await;
    let noticed = cut.elapsed();
    println!("noticed after {noticed:?}");
    assert_eq!(shown, "LEFT eve lost\n", "armed seats are held");
    assert!(noticed >= UNACKNOWLEDGED - Duration::from_secs(1), "too early: {noticed:?}");
    // Bob's connection began to be silent in the same moment, and ends a moment before or after.
    loop {
        ann.types("WHO\n").await;
        ann.expect("USER ann here").await;
        let user = ann.shows("\n").await;
        ann.expect("USER dan here").await;
        ann.expect("OK WHO 3").await;
        if user == "USER bob held\n" {
            break;
        }
        assert_eq!(user, "USER bob here\n");
        assert!(cut.elapsed() < AT_LATEST, "{user}");
    }
    // Only those who are here have a connection: the others' are freed, that of dan too.
    while daemon.files() > files + 1 {
        assert!(cut.elapsed() < AT_LATEST, "{} files, not {files} and one", daemon.files());
        tokio::task::yield_now().await;
    }
    let mut bob = Net::netcat(&net.here, daemon.addr()).await;
    bob.types(format!("RESUME LOBBY {bob_token} 1\n")).await;
    bob.expect("MSG 2 _ dan from elsewhere").await;
    bob.expect("OK RESUME LOBBY bob 2 3 1 0").await;
}
