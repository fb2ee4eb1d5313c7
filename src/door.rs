//! What is spoken on a port, and how a connection gets from there to a conversation.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::protocol::{Bye, ByeReason, Event};
use crate::reception::Reception;
use crate::transport::LineStream;
#[cfg(feature = "web")]
use crate::transport::Socket;
#[cfg(feature = "web")]
use crate::web;

/// What is spoken on a port.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    Lines,
    #[cfg(feature = "web")]
    Web(web::Entrance),
}

impl Door {
    /// What a connection is told for which the system has no file; nothing where TLS is spoken.
    pub(crate) fn busy(&self, reception: &Reception) -> String {
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
    pub(crate) fn open(&self, reception: &Reception, stream: TcpStream, peer: SocketAddr) {
        #[cfg(feature = "tls")]
        if let Some(tls) = &reception.hub().config().tls {
            // Who shakes hands has a place already, or one among those who are turned away.
            if let Some(place) = reception.find_place(peer) {
                let (reception, tls) = (reception.clone(), tls.clone());
                reception.clone().spawn(locked::open(
                    self.clone(),
                    reception,
                    tls,
                    place,
                    stream,
                    peer,
                ));
            }
            return;
        }
        match self {
            Door::Lines => drop(reception.welcome(LineStream::over(stream), Some(peer))),
            #[cfg(feature = "web")]
            Door::Web(entrance) => {
                let socket = Socket::new(stream);
                reception.spawn(web::serve(reception.clone(), entrance.clone(), socket, peer));
            }
        }
    }
}

#[cfg(all(feature = "tls", feature = "web"))]
impl web::Stream for Box<crate::tls::TlsStream<TcpStream>> {
    fn socket(&self) -> Option<Socket> {
        None
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
    use crate::transport::{LineStream, Transport};
    #[cfg(feature = "web")]
    use crate::web;

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
            stream = Box::pin(shake_hands(&door, &reception, &tls, stream, peer)) => stream,
        };
        let Some(stream) = stream.map(Box::new) else { return };
        match door {
            Door::Lines => reception.converse_at(place, LineStream::new(stream, true), peer).await,
            #[cfg(feature = "web")]
            Door::Web(entrance) => {
                // Without a WebSocket none is needed any more, and a WebSocket finds one again.
                drop(place);
                web::serve(reception, entrance, stream, peer).await;
            }
        }
    }

    /// Waits for the client's first byte and, if that begins a handshake, for the rest of it.
    async fn shake_hands(
        door: &Door,
        reception: &Reception,
        tls: &Tls,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Option<TlsStream<TcpStream>> {
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
    async fn tell(door: &Door, mut stream: TcpStream) {
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
}
