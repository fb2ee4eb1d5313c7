//! The bridge: brings browsers into the rooms. It serves one small page and a WebSocket that
//! speaks the protocol, one line a text frame.

mod answer;
#[cfg(feature = "echo")]
mod echo;
mod guard;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

pub(crate) use answer::busy;
#[cfg(feature = "tls")]
pub(crate) use answer::not_https;
pub(crate) use guard::Entrance;

use crate::metrics::Limit;
use crate::protocol::limits::{HEADER_BYTES, LINGER, REQUESTS, REQUESTS_WINDOW};
use crate::reception::{Admission, Reception};
#[cfg(feature = "tls")]
use crate::transport::{Meter, Sealed};
use crate::transport::{Socket, WebSocket};

type Answer = Response<Full<Bytes>>;

/// A connection to the bridge that is no WebSocket yet.
struct Caller {
    reception: Reception,
    entrance: Entrance,
    peer: SocketAddr,
    /// Its place among all connections, until its WebSocket takes it.
    place: Mutex<Option<Admission>>,
    turns: Mutex<Turns>,
}

/// When a connection's requests are answered: some at once, and the next when a while has passed.
struct Turns {
    until: Instant,
    /// Requests that may be answered until then.
    left: u32,
}

/// What HTTP travels over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The connection, if it is a socket with nothing around it.
    fn socket(&self) -> Option<Socket>;

    /// The meter below TLS, if there is TLS around the connection.
    #[cfg(feature = "tls")]
    fn meter(&self) -> Option<Meter> {
        None
    }
}

impl Stream for Socket {
    fn socket(&self) -> Option<Socket> {
        Some(self.clone())
    }
}

/// Serves one connection to the bridge.
pub(crate) async fn serve<S: Stream>(
    reception: Reception,
    entrance: Entrance,
    stream: S,
    peer: SocketAddr,
) {
    // Whose connection it is that a proxy makes shows in the request.
    let address = (!reception.hub().config().trust_proxy).then_some(peer);
    let (place, turned_away) = match reception.admit(address) {
        Some(admission) => (Some(admission), None),
        None => {
            // Past even this bound the connection is closed without a word.
            let Some(permit) = reception.may_turn_away() else { return };
            (None, Some(permit))
        }
    };
    let turns = Mutex::new(Turns::new(Instant::now()));
    let caller = Caller { reception, entrance, peer, place: Mutex::new(place), turns };
    let reception = &caller.reception;
    let bridge =
        service_fn(|request| async { Ok::<_, Infallible>(caller.answer::<S>(request).await) });
    let mut http = http1::Builder::new();
    http.keep_alive(turned_away.is_none());
    // Who has said all, as `nc -N` does after a request, still gets the whole answer.
    http.half_close(true);
    // Without the timer the timeout would do nothing.
    let patience = Duration::from_secs(reception.hub().config().handshake);
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    http.max_buf_size(HEADER_BYTES).max_header_size(HEADER_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), bridge).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        () = reception.stopping() => {
            // An answer may be on its way. Half a request has no claim to one.
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LINGER, connection).await;
        }
        result = connection.as_mut() => {
            if let Err(error) = result {
                if error.is_timeout() {
                    reception.hub().metrics().reached(Limit::Handshake);
                } else if error.is_parse_too_large() {
                    reception.hub().metrics().reached(Limit::Head);
                }
                debug!(%peer, %error, "an HTTP connection broke");
            }
        }
    }
}

impl Turns {
    fn new(from: Instant) -> Turns {
        Turns { until: from + REQUESTS_WINDOW, left: REQUESTS }
    }

    /// When the next request is answered; `None` is at once. Each waits for those before it.
    fn next(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let turn = (self.left == 0).then_some(self.until).filter(|turn| *turn > now);
        if self.left == 0 || self.until <= now {
            *self = Turns::new(turn.unwrap_or(now));
        }
        self.left -= 1;
        turn
    }
}

impl Caller {
    /// Finds the answer to a request.
    async fn answer<S: Stream>(&self, request: Request<Incoming>) -> Answer {
        self.wait_for_turn().await;
        let config = self.reception.hub().config();
        let refused = guard::check_method(&request)
            .and_then(|()| guard::check_body(&request))
            .and_then(|()| guard::check_host(&request, self.entrance, config.trust_proxy));
        let answer = match refused {
            Err(why) => answer::refusal(why),
            Ok(()) => self.route::<S>(request).await,
        };
        answer::protect(answer, &config.embed_origins)
    }

    async fn route<S: Stream>(&self, request: Request<Incoming>) -> Answer {
        match request.uri().path() {
            // A full server is alive, and its operators look at it.
            "/healthz" => answer::text(StatusCode::OK, "ok\n"),
            "/metrics" => answer::metrics(&self.reception),
            _ if !self.has_place() => answer::full(),
            "/" => answer::file("text/html; charset=utf-8", include_bytes!("assets/index.html")),
            "/parlor.js" => {
                answer::file("text/javascript; charset=utf-8", include_bytes!("assets/parlor.js"))
            }
            "/parlor.css" => {
                answer::file("text/css; charset=utf-8", include_bytes!("assets/parlor.css"))
            }
            "/qr.svg" => self.qr_code(request.uri().query().unwrap_or_default()).await,
            "/ws" => self.upgrade::<S>(request),
            #[cfg(feature = "echo")]
            echo::PATH => self.upgrade::<S>(request),
            _ => answer::text(StatusCode::NOT_FOUND, "There is nothing here. The page is at /\n"),
        }
    }

    /// A connection may send requests without waiting for their answers, and for ever.
    async fn wait_for_turn(&self) {
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).next();
        if let Some(turn) = turn {
            self.reception.hub().metrics().reached(Limit::Requests);
            tokio::time::sleep_until(turn).await;
        }
    }

    /// Makes a QR code, when those who asked before have theirs.
    async fn qr_code(&self, text: &str) -> Answer {
        match self.reception.wait_for_qr_code().await {
            true => answer::qr_code(text),
            false => answer::no_qr_code(),
        }
    }

    /// Turns the connection into a WebSocket, and lets it into the rooms.
    fn upgrade<S: Stream>(&self, mut request: Request<Incoming>) -> Answer {
        let config = self.reception.hub().config();
        // How a page came that a proxy brings, only the proxy knows.
        let is_https = config.speaks_tls() && !config.trust_proxy;
        let key = guard::check_origin(request.headers(), is_https, &config.allow_origins)
            .and_then(|()| guard::check_handshake(&request));
        let key = match key {
            Ok(key) => derive_accept_key(key.as_bytes()),
            Err(why) => return answer::refusal(why),
        };
        let Some(mut admission) = self.take_place() else { return answer::full() };
        let mut peer = self.peer;
        if config.trust_proxy {
            peer = guard::forwarded_for(&request, peer);
            admission = match self.reception.move_to(peer, admission) {
                Some(admission) => admission,
                None => return answer::full(),
            };
        }
        #[cfg(feature = "echo")]
        let is_echo = request.uri().path() == echo::PATH;
        let upgraded = hyper::upgrade::on(&mut request);
        let reception = self.reception.clone();
        self.reception.spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            // What hyper was given comes out again, with what it has read beyond the request: a
            // few bytes of a large buffer.
            let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<S>>() else { return };
            let read = read_buf.to_vec();
            drop(read_buf);
            let stream = io.into_inner();
            let socket = stream.socket();
            #[cfg(feature = "tls")]
            let meter = stream.meter();
            let socket = WebSocket::new(stream, socket, read).await;
            #[cfg(feature = "echo")]
            if is_echo {
                return echo::converse(socket).await;
            }
            #[cfg(feature = "tls")]
            if let Some(meter) = meter {
                let socket = Sealed::new(socket, meter, None);
                return reception.converse(socket, Some(peer), admission).await;
            }
            reception.converse(socket, Some(peer), admission).await;
        });
        answer::switch(&key)
    }

    fn has_place(&self) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_place(&self) -> Option<Admission> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn past_100_requests_in_a_second_each_hundred_waits_a_second() {
        let begin = Instant::now();
        let mut turns = Turns::new(begin);
        let mut waited = Vec::new();
        for request in 0..5 * REQUESTS {
            if let Some(turn) = turns.next() {
                tokio::time::sleep_until(turn).await;
                waited.push((request, begin.elapsed().as_secs()));
            }
        }
        assert_eq!(waited, [(100, 1), (200, 2), (300, 3), (400, 4)]);
        // Silence earns no more than that.
        tokio::time::advance(100 * REQUESTS_WINDOW).await;
        assert!((0..REQUESTS).all(|_| turns.next().is_none()));
        assert_eq!(turns.next(), Some(Instant::now() + REQUESTS_WINDOW));
        // Who asks now and then never waits.
        let mut turns = Turns::new(Instant::now());
        for _ in 0..5 * REQUESTS {
            assert_eq!(turns.next(), None);
            tokio::time::advance(REQUESTS_WINDOW / REQUESTS).await;
        }
    }
}
