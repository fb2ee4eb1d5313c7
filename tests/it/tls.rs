//! TLS: real clients, rustls as a client, and those who come without it or shake hands for ever.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use parlor::{Config, Tls};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_tungstenite::tungstenite::Message;

use crate::binary::{Daemon, Plain, Program, assert_lines, output, parlor, soon};
use crate::client::TestServer;
use crate::real_clients::{pipe, start};
use crate::support::{Client, pass, say, seat, seconds};

/// How long a client may take for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A certificate and its key, as `parlor mkcert` makes them.
struct Pair(TempDir);

impl Pair {
    async fn new() -> Pair {
        let pair = Pair(TempDir::new().expect("a folder"));
        pair.make(&["chat.example"]).await;
        pair
    }

    /// Makes the pair, in place of the one that is there.
    async fn make(&self, hosts: &[&str]) {
        let mut command = parlor(&["mkcert", "--force", "--cert"]);
        command.arg(self.cert()).arg("--key").arg(self.key()).args(hosts);
        let output = output(command).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn cert(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = parlor(&[&["--listen", "127.0.0.1:0"], args].concat());
        command.arg("--tls-cert").arg(self.cert()).arg("--tls-key").arg(self.key());
        command
    }

    async fn daemon(&self, args: &[&str]) -> Daemon {
        Daemon::spawn(self.command(args)).await
    }

    /// A daemon with a bridge, and the bridge's address.
    async fn bridge(&self) -> (Daemon, SocketAddr) {
        let mut command = self.command(&["--web", "127.0.0.1:0"]);
        command.env_remove("PARLOR_NO_WEB");
        let daemon = Daemon::spawn(command).await;
        let ports = std::fs::read(daemon.folder().join("ports.json")).expect("the ports file");
        let ports: serde_json::Value = serde_json::from_slice(&ports).expect("JSON");
        let web = ports["web"][0].as_str().expect("an address").parse().expect("an address");
        (daemon, web)
    }

    fn server(&self) -> TestServer {
        let mut config = Config::default();
        config.tls = Some(Tls::load(self.cert(), self.key()).expect("a pair"));
        TestServer::start(config)
    }

    /// A client that trusts this certificate only.
    fn connector(&self) -> TlsConnector {
        let certificate = CertificateDer::from_pem_file(self.cert()).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into()
    }

    async fn reach(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        soon("a handshake", self.connector().connect(name, stream)).await
    }

    async fn client(&self, address: SocketAddr) -> Client {
        Client::over(self.reach(address).await.expect("a handshake")).greeted().await
    }

    /// Runs curl for a path of `https://localhost`, which must be this bridge by its certificate.
    async fn curl(&self, web: SocketAddr, path: &str) -> String {
        let mut curl = Command::new("curl");
        // Where lines are spoken, a line comes before the answer.
        curl.args(["-sSi", "--http0.9", "--cacert"]).arg(self.cert());
        curl.arg(format!("https://localhost:{}{path}", web.port()));
        pipe(Program::spawn("curl", "curl https://", curl), "").await
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

// Clients.

// clause: TLS-1, TLS-3
#[tokio::test]
async fn scripts_over_tls_get_every_reply_and_bye_eof() {
    const SCRIPT: &str = "JOIN LOBBY ann 0\nMSG one\nHISTORY\nPING end\nLEAVE\n";
    let pair = Pair::new().await;
    let daemon = pair.daemon(&[]).await;
    let cert = text(&pair.cert());
    let clients = [
        ("ncat", "ncat --ssl HOST PORT".to_owned()),
        ("ncat", format!("ncat --ssl-verify --ssl-trustfile {cert} localhost PORT")),
        ("socat", format!("socat -t5 - OPENSSL:localhost:PORT,cafile={cert}")),
        ("socat", format!("socat -t5 - OPENSSL:localhost:PORT,cafile={cert},max-version=TLS1.2")),
    ];
    for (said, (package, command)) in (1..).zip(&clients) {
        let shown = pipe(start(package, command, daemon.addr()), SCRIPT).await;
        let history = (1..=said).map(|_| "MSG _ _ ann one".to_owned());
        let mut forms = vec!["HELLO ...".into(), "OK JOIN LOBBY ann ...".into()];
        forms.push("OK MSG _ _".to_owned());
        forms.extend(history);
        forms.extend([format!("OK HISTORY {said}"), "OK PING end".into()]);
        forms.extend(["OK LEAVE LOBBY".into(), "BYE eof ...".into()]);
        assert_lines(command, &shown, &forms.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

// clause: TLS-1
#[tokio::test]
async fn openssl_talks_by_tls_1_2_and_1_3_and_by_nothing_older() {
    let pair = Pair::new().await;
    let daemon = pair.daemon(&[]).await;
    let connect =
        format!("-connect localhost:PORT -verify_return_error -CAfile {}", text(&pair.cert()));
    for version in ["-tls1_2", "-tls1_3"] {
        let command = format!("openssl s_client -quiet {version} {connect}");
        let shown = pipe(start("openssl", &command, daemon.addr()), "PING one\nQUIT\n").await;
        assert_lines(&command, &shown, &["HELLO ...", "OK PING one", "OK QUIT", "BYE quit ..."]);
    }
    let command = format!("openssl s_client -quiet -tls1_1 -cipher ALL:@SECLEVEL=0 {connect}");
    let (status, shown) = start("openssl", &command, daemon.addr()).wait().await;
    assert!(!status.success() && shown.is_empty(), "{shown}");
    daemon.stderr_shows("a TLS handshake failed").await;
}

#[tokio::test]
async fn two_people_converse_over_tls() {
    let pair = Pair::new().await;
    let daemon = pair.daemon(&[]).await;
    let mut ann = start("ncat", "ncat --ssl HOST PORT", daemon.addr());
    ann.expect("HELLO parlor/1 ...").await;
    ann.types("JOIN LOBBY ann\n").await;
    ann.expect("OK JOIN LOBBY ann 0 1 0").await;
    let mut bob = pair.client(daemon.addr()).await.join("LOBBY", "bob").await;
    ann.expect("JOINED bob").await;
    for n in 0..10 {
        bob.ask(&format!("MSG {n}?")).await;
        ann.expect(&format!("MSG _ _ bob {n}?")).await;
        ann.types(format!("MSG {n}!\n")).await;
        ann.expect("OK MSG _ _").await;
        assert!(bob.line().await.ends_with(&format!(" ann {n}!")));
    }
    bob.send("QUIT").await;
    assert_eq!(bob.rest().await.len(), 2);
    ann.expect("LEFT bob quit").await;
}

#[tokio::test]
async fn the_page_and_its_websocket_come_over_https() {
    let pair = Pair::new().await;
    let (daemon, web) = pair.bridge().await;
    daemon.stderr_shows(&format!("ncat --ssl 127.0.0.1 {}\n", daemon.addr().port())).await;
    daemon.stderr_shows(&format!("In a browser:        https://{web}/\n")).await;
    let page = pair.curl(web, "/").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("</html>"), "{page}");
    assert!(pair.curl(web, "/healthz").await.ends_with("\r\n\r\nok\n"));

    let stream = pair.reach(web).await.expect("a handshake");
    let request = format!("wss://localhost:{}/ws", web.port());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a socket");
    let mut witness = pair.client(daemon.addr()).await.join("LOBBY", "witness").await;
    socket.send(Message::text("JOIN LOBBY page 0")).await.expect("sent");
    witness.expect("JOINED page").await;
    socket.send(Message::text("QUIT")).await.expect("sent");
    let mut last = String::new();
    while let Some(Ok(message)) = soon("a frame", socket.next()).await {
        if let Message::Text(line) = message {
            last = line.to_string();
        }
    }
    assert!(last.starts_with("BYE quit "), "{last}");
    witness.expect("LEFT page quit").await;
}

// clause: WS-4
#[tokio::test]
async fn over_https_the_page_is_one_of_https_unless_a_proxy_brings_it() {
    let pair = Pair::new().await;
    for (trust_proxy, origin, answer) in [
        (false, "https://chat.example", "101"),
        (false, "http://chat.example", "403"),
        (true, "https://chat.example", "101"),
        (true, "http://chat.example", "101"),
    ] {
        let mut config = Config::default();
        config.tls = Some(Tls::load(pair.cert(), pair.key()).expect("a pair"));
        config.web = vec!["0.0.0.0:0".parse().expect("an address")];
        config.trust_proxy = trust_proxy;
        let server = TestServer::start(config);
        let port = server.server.web_addrs()[0].port();
        let mut stream = pair.reach(([127, 0, 0, 1], port).into()).await.expect("a handshake");
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: chat.example\r\nOrigin: {origin}\r\nConnection: \
             Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
             dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut head = [0; "HTTP/1.1 101".len()];
        soon("an answer", stream.read_exact(&mut head)).await.expect("read");
        assert_eq!(head, *format!("HTTP/1.1 {answer}").as_bytes(), "{origin}, {trust_proxy}");
    }
}

#[tokio::test]
async fn an_http_request_among_lines_is_told_the_https_address() {
    let pair = Pair::new().await;
    let (daemon, web) = pair.bridge().await;
    let answer = pair.curl(daemon.addr(), "/").await;
    assert!(answer.contains(&format!("The page for browsers is at https://{web}/\n")), "{answer}");
    assert!(answer.contains("talk to it with: ncat --ssl HOST PORT"), "{answer}");
}

// The end of a connection.

/// More than all buffers between them hold.
#[tokio::test]
async fn who_reads_late_gets_all_up_to_the_last_line() {
    let pair = Pair::new().await;
    let server = pair.server();
    let mut late = pair.client(server.address).await.join("LOBBY", "late").await;
    let host = seat(&server, "host");
    late.expect("JOINED host").await;
    let text = "x".repeat(1000);
    say(&host, 900, &text).await;
    for _ in 0..8 {
        late.send("HISTORY").await;
    }
    late.send("QUIT").await;
    // A whole conversation of somebody else: the server has had time to fill what it can.
    let mut other = pair.client(server.address).await.join("LOBBY", "other").await;
    other.fence().await;
    let lines = late.rest().await;
    let messages = lines.iter().filter(|line| line.ends_with(&text)).count();
    assert_eq!(messages, 9 * 900);
    let last: Vec<_> = lines[lines.len() - 3..].iter().map(|line| &line[..6]).collect();
    assert_eq!(last, ["OK HIS", "OK QUI", "BYE qu"]);
    server.stop().await;
}

// clause: TLS-3
#[tokio::test]
async fn who_has_ended_his_input_and_stays_gets_events() {
    let pair = Pair::new().await;
    let server = pair.server();
    let mut client = pair.client(server.address).await.join("LOBBY", "stays").await;
    client.ask("STAY").await;
    client.writer.bytes(b"PING last line").await;
    client.writer.end().await;
    client.expect("OK PING last line").await;
    let host = seat(&server, "host");
    client.expect("JOINED host").await;
    say(&host, 1, "hello").await;
    assert!(client.line().await.ends_with(" host hello"));
    server.stop().await;
    let rest = client.rest().await;
    assert!(rest.last().is_some_and(|line| line.starts_with("BYE shutdown ")), "{rest:?}");
}

// clause: STAY-1
#[tokio::test]
async fn who_stays_is_missed_when_the_system_finds_him_gone() {
    let pair = Pair::new().await;
    let server = pair.server();
    let stream = pair.reach(server.address).await.expect("a connection");
    stream.get_ref().0.set_zero_linger().expect("a reset at its end");
    let mut client = Client::over(stream).greeted().await;
    client.ask("STAY").await;
    client.writer.end().await;
    let is_there = || server.server.metrics().contains("parlor_connections 1\n");
    tokio::time::pause();
    pass(seconds(150)).await;
    assert!(is_there());
    drop(client);
    pass(seconds(61)).await;
    assert!(!is_there());
}

// clause: TLS-3
#[tokio::test]
async fn an_end_without_close_notify_is_an_end_of_file_but_cuts_no_line() {
    let pair = Pair::new().await;
    let server = pair.server();
    let mut witness = pair.client(server.address).await.join("LOBBY", "witness").await;
    let mut stream = pair.reach(server.address).await.expect("a handshake");
    let script = b"JOIN LOBBY cut 0\nMSG whole\nMSG I do not ag";
    stream.write_all(script).await.expect("written");
    stream.flush().await.expect("flushed");
    stream.get_mut().0.shutdown().await.expect("shut down");
    let mut shown = String::new();
    // The server's close_notify has come, or this would fail.
    soon("the end", stream.read_to_string(&mut shown)).await.expect("a proper end");
    let forms = ["HELLO ...", "OK JOIN LOBBY cut ...", "OK MSG 1 _", "BYE eof ..."];
    assert_lines("cut", &shown, &forms);
    witness.expect("JOINED cut").await;
    witness.expect("MSG 1 ").await;
    witness.expect("LEFT cut eof").await;
    server.stop().await;
}

// Those without TLS, and those who never finish.

// clause: TLS-2
#[tokio::test]
async fn a_plain_client_is_told_to_use_tls() {
    let pair = Pair::new().await;
    let (daemon, web) = pair.bridge().await;
    let hint = format!(
        "BYE closed This port speaks TLS. Come by: ncat --ssl 127.0.0.1 {}\n",
        daemon.addr().port()
    );
    for (package, command) in [
        ("netcat-openbsd", "nc.openbsd HOST PORT"),
        ("netcat-traditional", "nc.traditional HOST PORT"),
        ("curl", "curl -sN telnet://HOST:PORT"),
    ] {
        let shown = pipe(start(package, command, daemon.addr()), "JOIN LOBBY plain\n").await;
        assert_eq!(shown, hint, "{command}");
    }
    // One who waits for a greeting, and one who has nothing to say.
    let began = Instant::now();
    assert_eq!(Plain::reach(daemon.addr()).await.rest().await, hint);
    assert!(began.elapsed() >= HANDSHAKE - Duration::from_millis(100), "{:?}", began.elapsed());
    let mut silent = Plain::reach(daemon.addr()).await;
    silent.end_input().await;
    assert_eq!(silent.rest().await, hint);
    // Only the former has run out of time.
    let metrics = pair.curl(web, "/metrics").await;
    assert!(metrics.contains("{limit=\"handshake\"} 1\n"), "{metrics}");
    daemon.stderr_shows("a client without TLS").await;

    let curl = "curl -si http://HOST:PORT/";
    let shown = pipe(start("curl", curl, web), "").await;
    assert!(shown.starts_with("HTTP/1.1 400 "), "{shown}");
    assert!(shown.contains(&format!(" https://{web}/\n")), "{shown}");
    assert!(pair.client(daemon.addr()).await.fence().await.is_empty());
}

// clause: TLS-2
#[tokio::test]
async fn a_thousand_slow_handshakes_end_in_5_seconds_and_disturb_nobody() {
    const SLOW: usize = 1000;
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("more files");
    let pair = Pair::new().await;
    let daemon = pair.daemon(&[]).await;
    let mut ann = pair.client(daemon.addr()).await.join("LOBBY", "ann").await;
    let began = Instant::now();
    let mut slow = Vec::new();
    for n in 0..SLOW {
        let mut client = Plain::reach(daemon.addr()).await;
        // The head of a record, cut somewhere, and the start of a hello that never ends.
        let bytes = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        client.send(&bytes[..1 + n % bytes.len()]).await;
        slow.push((Instant::now(), client));
    }
    let mut worst = Duration::ZERO;
    while began.elapsed() < HANDSHAKE / 2 {
        let asked = Instant::now();
        let mut bob = pair.client(daemon.addr()).await.join("LOBBY", "bob").await;
        ann.expect("JOINED bob").await;
        bob.send("QUIT").await;
        ann.expect("LEFT bob quit").await;
        worst = worst.max(asked.elapsed());
    }
    assert!(worst < Duration::from_secs(1), "coming and going took {worst:?}");
    for (since, mut client) in slow {
        assert_eq!(client.rest().await, "");
        assert!(since.elapsed() >= HANDSHAKE - Duration::from_millis(100), "{:?}", since.elapsed());
    }
    assert!(began.elapsed() < 3 * HANDSHAKE, "{:?}", began.elapsed());
    assert!(ann.fence().await.is_empty());
}

// clause: TLS-2, LIMIT-1
#[tokio::test]
async fn who_shakes_hands_counts_as_a_connection() {
    let pair = Pair::new().await;
    let daemon = pair.daemon(&["--max-connections", "1"]).await;
    let mut slow = Plain::reach(daemon.addr()).await;
    slow.send(b"\x16").await;
    // Connections are taken in the order in which they come.
    let refused = pair.reach(daemon.addr()).await.expect("a handshake");
    let refused = Client::over(refused).rest().await;
    assert!(matches!(&refused[..], [bye] if bye.starts_with("BYE busy ")), "{refused:?}");
    assert_eq!(slow.rest().await, "");
    let came = async {
        loop {
            let stream = pair.reach(daemon.addr()).await.expect("a handshake");
            let mut client = Client::over(stream);
            if client.line().await.starts_with("HELLO ") {
                break;
            }
        }
    };
    soon("the place to be free", came).await;
}

#[tokio::test]
async fn a_stopping_server_waits_for_no_handshake() {
    let pair = Pair::new().await;
    let daemon = pair.daemon(&[]).await;
    let mut slow = Plain::reach(daemon.addr()).await;
    slow.send(b"\x16").await;
    // It has been accepted when the next one has.
    drop(pair.client(daemon.addr()).await);
    let began = Instant::now();
    daemon.terminate();
    let (status, _) = daemon.wait().await;
    assert!(status.success());
    assert!(began.elapsed() < HANDSHAKE / 2, "{:?}", began.elapsed());
}

// Certificates.

#[tokio::test]
async fn sighup_brings_a_new_certificate_to_new_connections() {
    let pair = Pair::new().await;
    let daemon = pair.daemon(&[]).await;
    let first = std::fs::read(pair.cert()).expect("a certificate");
    let mut old = pair.client(daemon.addr()).await.join("LOBBY", "old").await;

    pair.make(&[]).await;
    assert!(pair.reach(daemon.addr()).await.is_err(), "the new one isn't served yet");
    daemon.signal("HUP");
    daemon.stderr_shows("the certificate was read anew").await;
    let mut new = pair.client(daemon.addr()).await.join("LOBBY", "new").await;
    old.expect("JOINED new").await;

    // A pair that doesn't fit changes nothing.
    std::fs::write(pair.cert(), &first).expect("written");
    daemon.signal("HUP");
    let said = daemon.stderr_shows("the old certificate stays").await;
    assert!(said.contains("does not belong to the certificate in"), "{said}");
    pair.reach(daemon.addr()).await.expect_err("the first certificate is gone");
    old.ask("MSG still here").await;
    assert!(new.line().await.ends_with(" old still here"));
}

#[tokio::test]
async fn a_pair_that_cannot_be_served_is_refused_at_the_start() {
    let (pair, other) = (Pair::new().await, Pair::new().await);
    let (cert, key) = (text(&pair.cert()), text(&pair.key()));
    let (missing, foreign) = (text(&pair.0.path().join("missing.pem")), text(&other.key()));
    for (args, wanted) in [
        (vec!["--tls-cert", &cert], "--tls-cert needs its key: give --tls-key too".to_owned()),
        (vec!["--tls-key", &key], "--tls-key needs a certificate: give --tls-cert".to_owned()),
        (
            vec!["--tls-cert", &missing, "--tls-key", &key],
            format!("cannot read {missing}: No such file"),
        ),
        (
            vec!["--tls-cert", &cert, "--tls-key", &foreign],
            format!("the key in {foreign} does not belong to the certificate in {cert}"),
        ),
        (vec!["--tls-cert", &key, "--tls-key", &key], format!("{key} holds no certificate")),
        (vec!["--tls-cert", &cert, "--tls-key", &cert], format!("{cert} holds no private key")),
        (
            vec!["--tls-cert", "/dev/null", "--tls-key", &key],
            "/dev/null holds no certificate; it must be a PEM file".to_owned(),
        ),
    ] {
        let output = output(parlor(&args)).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with(&format!("parlor: {wanted}")), "{wanted}\n{stderr}");
    }
}

#[tokio::test]
async fn mkcert_makes_a_pair_that_works_and_overwrites_only_by_force() {
    let folder = TempDir::new().expect("a folder");
    let make = |args: &[&str]| {
        let mut command = parlor(&[&["mkcert"], args].concat());
        command.current_dir(folder.path());
        output(command)
    };
    let made = make(&["Chat.Example", "192.0.2.77"]).await;
    let shown = String::from_utf8_lossy(&made.stdout);
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    assert!(shown.contains("--tls-cert parlor-cert.pem --tls-key parlor-key.pem\n"), "{shown}");
    assert!(shown.contains("ncat --ssl Chat.Example 7777\n"), "{shown}");
    let (cert, key) = (folder.path().join("parlor-cert.pem"), folder.path().join("parlor-key.pem"));
    let mode = |file: &Path| std::fs::metadata(file).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);

    let before = std::fs::read(&key).expect("a key");
    let again = make(&[]).await;
    assert_eq!(again.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&again.stderr);
    assert!(stderr.contains("parlor-cert.pem is there already; --force"), "{stderr}");
    assert_eq!(std::fs::read(&key).expect("a key"), before);
    for bad in ["two words", "", "under_score", "-dash.example", "b\u{fc}ro.example"] {
        let refused = make(&["--force", "--", bad]).await;
        assert_eq!(refused.status.code(), Some(2), "{bad:?}");
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(stderr.contains("is no name and no address of a host"), "{stderr}");
    }
    assert_eq!(std::fs::read(&key).expect("a key"), before);

    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("a mode");
    assert!(make(&["--force", "chat.example"]).await.status.success());
    assert_eq!(mode(&key), 0o600);
    assert_ne!(std::fs::read(&key).expect("a key"), before);

    let mut server = parlor(&["--listen", "127.0.0.1:0", "--tls-cert"]);
    server.arg(&cert).arg("--tls-key").arg(&key);
    let daemon = Daemon::spawn(server).await;
    for host in ["localhost", "127.0.0.1", "chat.example"] {
        let check = if host.starts_with("127") { "-verify_ip" } else { "-verify_hostname" };
        let command = format!(
            "openssl s_client -quiet -verify_return_error -CAfile {} {check} {host} -connect \
             127.0.0.1:PORT",
            text(&cert)
        );
        let shown = pipe(start("openssl", &command, daemon.addr()), "QUIT\n").await;
        assert_lines(host, &shown, &["HELLO ...", "OK QUIT", "BYE quit ..."]);
    }
}
