//! What is spoken on a port, and how a connection gets from there to a conversation.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::protocol::{Bye, ByeReason, Event};
use crate::reception::Reception;
use crate::transport::LineStream;
#[cfg(all(feature = "tls", feature = "web"))]
use crate::transport::Meter;
#[cfg(feature = "web")]
use crate::transport::Socket;
#[cfg(feature = "web")]
use crate::web;

/// What is spoken on a port.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    Lines,
    #[cfg(feature = "web")]
    Web(web::Entrance),
}

impl Door {
    /// What a connection is told for which the system has no file; nothing where TLS is spoken.
    pub(crate) fn busy(self, reception: &Reception) -> String {
        if reception.hub().config().speaks_tls() {
            return String::new();
        }
        match self {
            Door::Lines => format!("{}\n", Event::Bye(Bye::new(ByeReason::Busy))),
            #[cfg(feature = "web")]
            Door::Web(_) => web::busy(),
        }
    }

    /// Lets in a connection that was accepted.
    pub(crate) fn open(self, reception: &Reception, stream: TcpStream, peer: SocketAddr) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &reception.hub().config().tls {
            // Who shakes hands has a place already, or one among those who are turned away.
            if let Some(place) = reception.find_place(peer) {
                let (reception, tls) = (reception.clone(), tls.clone());
                reception.clone().spawn(locked::open(self, reception, tls, place, stream, peer));
            }
            return;
        }
        match self {
            Door::Lines => drop(reception.welcome(LineStream::over(stream), Some(peer))),
            #[cfg(feature = "web")]
            Door::Web(entrance) => {
                let socket = Socket::new(stream);
                reception.spawn(web::serve(reception.clone(), entrance, socket, peer));
            }
        }
    }
}

#[cfg(all(feature = "tls", feature = "web"))]
impl web::Stream for Box<locked::Stream<Socket>> {
    fn socket(&self) -> Option<Socket> {
        None
    }

    fn meter(&self) -> Option<Meter> {
        Some(self.get_ref().0.meter().clone())
    }
}

/// A door with TLS before it.
#[cfg(feature = "tls")]
mod locked {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::time::{Instant, timeout, timeout_at};
    use tracing::info;

    use super::Door;
    use crate::metrics::Limit;
    use crate::protocol::limits::LINGER;
    use crate::protocol::{Bye, ByeReason, Event};
    use crate::reception::{Place, Reception};
    use crate::tls::{Tls, TlsStream};
    use crate::transport::{LineStream, Metered, Sealed, Socket, Transport};
    #[cfg(feature = "web")]
    use crate::web;

    /// TLS, and below it the meter of what it takes.
    pub(super) type Stream<S> = TlsStream<Metered<S>>;

    /// The first byte of every TLS handshake.
    const HANDSHAKE: u8 = 0x16;

    pub(super) async fn open(
        door: Door,
        reception: Reception,
        tls: Tls,
        place: Place,
        stream: TcpStream,
        peer: SocketAddr,
    ) {
        let stream = tokio::select! {
            biased;
            () = reception.stopping() => return,
            // What a handshake needs is given back when it is done.
            stream = Box::pin(shake_hands(door, &reception, &tls, stream, peer)) => stream,
        };
        let Some(stream) = stream.map(Box::new) else { return };
        match door {
            Door::Lines => {
                let socket = stream.get_ref().0.get_ref().clone();
                reception.converse_at(place, lines(stream, Some(socket)), peer).await;
            }
            #[cfg(feature = "web")]
            Door::Web(entrance) => {
                // Without a WebSocket none is needed any more, and a WebSocket finds one again.
                drop(place);
                web::serve(reception, entrance, stream, peer).await;
            }
        }
    }

    fn lines<S>(
        stream: Box<Stream<S>>,
        socket: Option<Socket>,
    ) -> Sealed<LineStream<Box<Stream<S>>>> {
        let meter = stream.get_ref().0.meter().clone();
        Sealed::new(LineStream::new(stream, true), meter, socket)
    }

    /// Waits for the client's first byte and, if that begins a handshake, for the rest of it.
    async fn shake_hands(
        door: Door,
        reception: &Reception,
        tls: &Tls,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<Stream<Socket>> {
        let patience = Duration::from_secs(reception.hub().config().handshake);
        let deadline = Instant::now() + patience;
        let mut first = [0];
        let is_handshake = match timeout_at(deadline, stream.peek(&mut first)).await {
            Ok(Ok(_)) => first[0] == HANDSHAKE,
            Ok(Err(_)) => return None,
            // Somebody who waits for a greeting, as plain clients do.
            Err(_) => {
                reception.hub().metrics().reached(Limit::Handshake);
                false
            }
        };
        if !is_handshake {
            info!(%peer, "a client without TLS came on a port that speaks TLS");
            let _ = timeout(LINGER, tell(door, stream)).await;
            return None;
        }
        let is_web = !matches!(door, Door::Lines);
        let stream = Metered::new(Socket::new(stream), Vec::new());
        match timeout_at(deadline, tls.accept(stream, is_web)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => info!(%peer, %error, "a TLS handshake failed"),
            Err(_) => {
                reception.hub().metrics().reached(Limit::Handshake);
                info!(%peer, "a TLS handshake took too long");
            }
        }
        None
    }

    /// Tells a plain client how to come in.
    async fn tell(door: Door, mut stream: TcpStream) {
        let Ok(here) = stream.local_addr() else { return };
        let (host, port) = (here.ip().to_canonical(), here.port());
        let hint = match door {
            Door::Lines => {
                let text = format!("This port speaks TLS. Come by: ncat --ssl {host} {port}");
                let bye = Bye { reason: ByeReason::Closed, text: text.into() };
                format!("{}\n", Event::Bye(bye))
            }
            #[cfg(feature = "web")]
            Door::Web(_) => web::not_https(SocketAddr::new(host, port)),
        };
        if stream.write_all(hint.as_bytes()).await.is_ok() {
            LineStream::new(stream, false).close(true).await;
        }
    }

    #[cfg(all(test, feature = "mkcert"))]
    mod tests {
        use std::collections::VecDeque;
        use std::future::poll_fn;
        use std::sync::Arc;
        use std::task::Poll;

        use tokio::io::{AsyncReadExt, Join, ReadHalf, SimplexStream, WriteHalf, join, simplex};
        use tokio_rustls::rustls::pki_types::ServerName;
        use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
        use tokio_rustls::{TlsConnector, client};

        use super::*;
        use crate::protocol::limits::{
            LINE_BYTES, PACE_BYTES, READ_BYTES, TLS_AHEAD_BYTES, TLS_BUFFER_BYTES, TLS_PACE_BYTES,
        };
        use crate::protocol::{Ending, Framing};
        use crate::transport::{Outbox, Received};

        type Pipe = Join<ReadHalf<SimplexStream>, WriteHalf<SimplexStream>>;
        type Lines = Sealed<LineStream<Box<Stream<Pipe>>>>;
        type Client = client::TlsStream<Pipe>;

        /// Both ends of a pipe with TLS, which holds so many bytes on the way in and on the way out.
        async fn pair(into: usize, out: usize) -> (Lines, Client) {
            let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let folder = tempfile::TempDir::new().unwrap();
            let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            std::fs::write(&cert, pair.cert.pem()).unwrap();
            std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
            let tls = Tls::load(cert, key).unwrap();

            let mut roots = RootCertStore::empty();
            roots.add(pair.cert.der().clone()).unwrap();
            let provider = Arc::new(crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider);
            let config = config.with_safe_default_protocol_versions().unwrap();
            let config = config.with_root_certificates(roots).with_no_client_auth();
            let connector = TlsConnector::from(Arc::new(config));

            let ((reader, their_writer), (their_reader, writer)) = (simplex(into), simplex(out));
            let (here, there) = (join(reader, writer), join(their_reader, their_writer));
            let name = ServerName::try_from("localhost").unwrap();
            let (server, client) = tokio::join!(
                tls.accept(Metered::new(here, Vec::new()), false),
                connector.connect(name, there),
            );
            (lines(Box::new(server.unwrap()), None), client.unwrap())
        }

        /// What some records cost beyond one for each line, and how many lines they are. `piece`: so
        /// many bytes come at a time.
        async fn cost<'a>(
            records: impl IntoIterator<Item = &'a [u8]>,
            piece: usize,
        ) -> (u32, usize) {
            let (mut server, mut client) = pair(piece, 1 << 20).await;
            let (mut cost, mut lines) = (0, 0);
            let reading = async {
                let mut inbox = VecDeque::new();
                while !matches!(inbox.back(), Some(Received::Eof)) {
                    lines += inbox.drain(..).count();
                    let intake = poll_fn(|cx| server.poll_receive(cx, &mut inbox)).await.unwrap();
                    cost += intake.surcharge;
                    // Whoever must pay is not read for long before he does.
                    assert!(intake.surcharge <= 2 + (READ_BYTES / PACE_BYTES) as u32);
                }
                lines += inbox.len() - 1;
            };
            let writing = async {
                for record in records {
                    client.write_all(record).await.unwrap();
                    client.flush().await.unwrap();
                }
                client.shutdown().await.unwrap();
            };
            tokio::join!(reading, writing);
            (cost, lines)
        }

        // clause: PACE-2, TLS-1
        #[tokio::test]
        async fn a_line_over_tls_costs_as_much_as_without() {
            let longest = [&[b'x'; LINE_BYTES][..], b"\n"].concat();
            for (line, times) in [(&b"PING\n"[..], 5000), (&longest, 100), (b"\n", 5000)] {
                let lines = line.repeat(times);
                for piece in [1000, 1 << 20] {
                    assert_eq!(cost([line].repeat(times), piece).await, (0, times), "one by one");
                    assert_eq!(cost([&lines[..]], piece).await, (0, times), "all at once");
                }
            }
            let endless = [b'x'; 100 * PACE_BYTES];
            assert_eq!(cost([&endless[..]], 1 << 20).await, (99, 1));
            // As people type it, where each key is sent alone.
            let typed = [&[b'x'; 150][..], b"\n"].concat().repeat(100);
            assert_eq!(cost(typed.chunks(1), 1 << 20).await, (0, 100));
        }

        // clause: PACE-2
        #[tokio::test]
        async fn records_of_nearly_nothing_cost_more_than_their_lines() {
            const RECORDS: usize = 10_000;
            const RECORD_BYTES: usize = 23;
            let bytes = [b'x'; RECORDS];
            let wanted = (RECORDS * RECORD_BYTES - TLS_AHEAD_BYTES) / TLS_PACE_BYTES;
            for piece in [10, 1 << 20] {
                let (cost, lines) = cost(bytes.chunks(1), piece).await;
                let is_right = (wanted - 2..wanted + 2).contains(&(cost as usize));
                assert!(is_right, "{cost}, not {wanted}, by {piece}");
                assert_eq!(lines, 1);
            }
        }

        // clause: PACE-4
        #[tokio::test(start_paused = true)]
        async fn who_reads_slowly_what_tls_holds_is_not_ended() {
            let reception = Reception::usual();
            let (server, mut client) = pair(1 << 20, 1 << 10).await;
            let admission = reception.admit(None).unwrap();
            let talk = reception.clone().converse(server, None, admission);
            let talk = tokio::spawn(talk);
            client.write_all(b"HELP\nHELP\nHELP\n").await.unwrap();
            client.flush().await.unwrap();
            // It takes minutes; a record is some 40 of these.
            let stream = &mut client.get_mut().0;
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_secs(29)).await;
                stream.read_exact(&mut [0; 64]).await.unwrap();
            }
            assert!(!talk.is_finished());
            talk.await.unwrap();
            assert!(reception.metrics().contains("{limit=\"stall\"} 1\n"));
        }

        /// All that waits may be held by TLS: a client who reads it slowly accepts bytes all the same.
        // clause: PACE-4
        #[tokio::test]
        async fn what_a_slow_reader_takes_of_what_tls_holds_is_told() {
            let (mut server, mut client) = pair(1 << 20, 1 << 10).await;
            let mut outbox: Outbox<()> = Outbox::new(Framing::Lines(Ending::Lf));
            outbox.raw(&[b'x'; TLS_BUFFER_BYTES / 2]);
            let mut fill = async || {
                poll_fn(|cx| {
                    while let Poll::Ready(written) = server.poll_send(cx, &mut outbox) {
                        assert!(written.unwrap() > 0, "it waits until all is gone");
                    }
                    Poll::Ready(())
                })
                .await;
                (server.take_progress(), outbox.len())
            };
            assert_eq!(fill().await, (true, 0));
            assert_eq!(fill().await, (false, 0), "he reads nothing");
            for _ in 0..10 {
                // Below TLS he reads byte by byte, as his system may.
                client.get_mut().0.read_exact(&mut [0; 100]).await.unwrap();
                assert_eq!(fill().await, (true, 0));
                assert_eq!(fill().await, (false, 0));
            }
        }
    }
}
