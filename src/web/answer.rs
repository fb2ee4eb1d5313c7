//! What the bridge answers.

#[cfg(feature = "tls")]
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use qrcodegen::{QrCode, QrCodeEcc};

use super::Answer;
use super::guard::Refused;
use crate::protocol::limits::QR_BYTES;
use crate::reception::Reception;

const PLAIN: &str = "text/plain; charset=utf-8";
const FULL: &str = "The server is full. Try again later.\n";
const RETRY_AFTER_SECS: &str = "10";

/// One of the page's files.
pub(super) fn file(kind: &'static str, bytes: &'static [u8]) -> Answer {
    with_type(StatusCode::OK, kind, Bytes::from_static(bytes))
}

pub(super) fn text(status: StatusCode, text: &'static str) -> Answer {
    with_type(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

/// A refusal; the connection is closed after it.
pub(super) fn refusal(why: Refused) -> Answer {
    let (status, why) = match why {
        Refused::Method => (StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n"),
        Refused::Body => (StatusCode::BAD_REQUEST, "Send no body.\n"),
        Refused::NoHost => (StatusCode::BAD_REQUEST, "Say in one Host which one you mean.\n"),
        Refused::OtherHost => (
            StatusCode::MISDIRECTED_REQUEST,
            "This host is not served here. Use localhost, or start parlor with --public.\n",
        ),
        Refused::Origin => {
            (StatusCode::FORBIDDEN, "Pages of this origin may not come in; see --allow-origin.\n")
        }
        Refused::NoUpgrade => (
            StatusCode::UPGRADE_REQUIRED,
            "Here is a WebSocket, version 13, that speaks the lines of PROTOCOL.md.\n",
        ),
        Refused::BadUpgrade => (StatusCode::BAD_REQUEST, "This is no WebSocket handshake.\n"),
    };
    let answer = with(text(status, why), header::CONNECTION, "close");
    match status {
        StatusCode::METHOD_NOT_ALLOWED => with(answer, header::ALLOW, "GET, HEAD"),
        StatusCode::UPGRADE_REQUIRED => {
            let answer = with(answer, header::UPGRADE, "websocket");
            with(answer, header::SEC_WEBSOCKET_VERSION, "13")
        }
        _ => answer,
    }
}

/// There is no place for one more.
pub(super) fn full() -> Answer {
    let answer = text(StatusCode::SERVICE_UNAVAILABLE, FULL);
    with(with(answer, header::CONNECTION, "close"), header::RETRY_AFTER, RETRY_AFTER_SECS)
}

/// The same for a connection whose request is not waited for.
pub(crate) fn busy() -> String {
    let length = FULL.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\n\
         Content-Type: {PLAIN}\r\n\
         Content-Length: {length}\r\n\
         Retry-After: {RETRY_AFTER_SECS}\r\n\
         Connection: close\r\n\r\n{FULL}"
    )
}

/// The end of a WebSocket's handshake.
pub(super) fn switch(key: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = with(with(answer, header::UPGRADE, "websocket"), header::CONNECTION, "Upgrade");
    with(answer, header::SEC_WEBSOCKET_ACCEPT, key)
}

pub(super) fn metrics(reception: &Reception) -> Answer {
    with_type(StatusCode::OK, "text/plain; version=0.0.4", reception.metrics().into())
}

/// The answer to a request without TLS where TLS is spoken. `here`: the address that was asked.
#[cfg(feature = "tls")]
pub(crate) fn not_https(here: SocketAddr) -> String {
    let body = format!("This port speaks HTTPS. The page for browsers is at https://{here}/\n");
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\n\
         Content-Type: {PLAIN}\r\n\
         Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

/// The QR code of a percent-encoded text, as an SVG. The connection is closed after it, so that
/// nobody lays in a stock of requests.
pub(super) fn qr_code(query: &str) -> Answer {
    let code = percent_decoded(query)
        .filter(|text| !text.is_empty() && text.len() <= QR_BYTES)
        .and_then(|text| QrCode::encode_text(&text, QrCodeEcc::Medium).ok());
    let answer = match code {
        Some(code) => with_type(StatusCode::OK, "image/svg+xml", svg(&code).into()),
        None => text(StatusCode::BAD_REQUEST, "Ask for /qr.svg? and a text of 1 to 200 bytes.\n"),
    };
    with(answer, header::CONNECTION, "close")
}

/// Too many wait for theirs.
pub(super) fn no_qr_code() -> Answer {
    let why = "Too many ask for QR codes at this moment. Try again.\n";
    let answer = text(StatusCode::SERVICE_UNAVAILABLE, why);
    with(with(answer, header::CONNECTION, "close"), header::RETRY_AFTER, "1")
}

/// Black squares on white, with the quiet zone of four modules that ISO/IEC 18004 wants.
fn svg(code: &QrCode) -> String {
    const QUIET: i32 = 4;
    let side = code.size() + 2 * QUIET;
    let mut path = String::new();
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            path.push_str(&format!("M{},{}h1v1h-1z", x + QUIET, y + QUIET));
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0,0h{side}v{side}h-{side}z\"/>\
         <path d=\"{path}\"/></svg>\n"
    )
}

fn percent_decoded(query: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = query.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Adds what every answer says to browsers: nothing from elsewhere, nothing guessed, nothing told.
pub(super) fn protect(answer: Answer, embed_origins: &[String]) -> Answer {
    let framing = match embed_origins {
        [] => "'none'".to_owned(),
        origins => origins.join(" "),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors {framing}; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let answer = with(answer, header::CONTENT_SECURITY_POLICY, &policy);
    let answer = with(answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let answer = with(answer, header::REFERRER_POLICY, "no-referrer");
    let answer = with(answer, header::CACHE_CONTROL, "no-cache");
    if embed_origins.is_empty() { with(answer, header::X_FRAME_OPTIONS, "DENY") } else { answer }
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    with(answer, header::CONTENT_TYPE, kind)
}

fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    // A value that isn't one is left out: it can only come from the configuration.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded() {
        assert_eq!(percent_decoded("http%3A%2F%2Fx%2F%23BKTW").unwrap(), "http://x/#BKTW");
        for bad in ["%", "%4", "%zz", "%ff", "%+4"] {
            assert_eq!(percent_decoded(bad), None, "{bad}");
        }
    }
}
