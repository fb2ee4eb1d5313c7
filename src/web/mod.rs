//! The bridge: brings browsers into the rooms. It serves one small page and a WebSocket that
//! speaks the protocol, one line a text frame.

mod answer;
mod guard;

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

pub(crate) use guard::Entrance;

use crate::protocol::limits::{HEADER_BYTES, HEADER_TIMEOUT, LINGER};
use crate::reception::Reception;
use crate::transport::WebSocket;

type Answer = Response<Full<Bytes>>;

/// Serves one connection to the bridge.
pub(crate) async fn serve(
    reception: Reception,
    entrance: Entrance,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let bridge = service_fn(|request| {
        let answer = route(&reception, entrance, peer, request);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    // Without the timer the timeout would do nothing.
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
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
                debug!(%peer, %error, "an HTTP connection broke");
            }
        }
    }
}

/// Finds the answer to a request.
fn route(
    reception: &Reception,
    entrance: Entrance,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Answer {
    let config = reception.hub().config();
    let refused = guard::check_method(&request)
        .and_then(|()| guard::check_body(&request))
        .and_then(|()| guard::check_host(&request, entrance, config.trust_proxy));
    let answer = match refused {
        Err(why) => answer::refusal(why),
        Ok(()) => match request.uri().path() {
            "/" => answer::file("text/html; charset=utf-8", include_bytes!("assets/index.html")),
            "/parlor.js" => {
                answer::file("text/javascript; charset=utf-8", include_bytes!("assets/parlor.js"))
            }
            "/parlor.css" => {
                answer::file("text/css; charset=utf-8", include_bytes!("assets/parlor.css"))
            }
            "/qr.svg" => answer::qr_code(request.uri().query().unwrap_or_default()),
            "/healthz" => answer::text(StatusCode::OK, "ok\n"),
            "/metrics" => answer::metrics(reception),
            "/ws" => upgrade(reception, peer, request),
            _ => answer::text(StatusCode::NOT_FOUND, "There is nothing here. The page is at /\n"),
        },
    };
    answer::protect(answer, &config.embed_origins)
}

/// Turns the connection into a WebSocket, and lets it into the rooms.
fn upgrade(reception: &Reception, peer: SocketAddr, mut request: Request<Incoming>) -> Answer {
    let config = reception.hub().config();
    let key = guard::check_origin(&request, &config.allow_origins)
        .and_then(|()| guard::check_handshake(&request));
    let key = match key {
        Ok(key) => derive_accept_key(key.as_bytes()),
        Err(why) => return answer::refusal(why),
    };
    let peer = if config.trust_proxy { guard::forwarded_for(&request, peer) } else { peer };
    let admission = match reception.admit(Some(peer)) {
        Ok(admission) => admission,
        Err(limit) => {
            debug!(%peer, limit, "turned away");
            return answer::full();
        }
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let reception = reception.clone();
    reception.clone().spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        // What hyper was given comes out again, with what it has read beyond the request.
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        let socket = WebSocket::over(parts.io.into_inner(), parts.read_buf.into()).await;
        reception.converse(socket, Some(peer), admission).await;
    });
    answer::switch(&key)
}
