//! How it ends when it is told to.

use super::*;

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
