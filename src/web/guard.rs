//! Who may ask for what.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Request};

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Method,
    Body,
    NoHost,
    OtherHost,
    Origin,
    /// Not a request for a WebSocket.
    NoUpgrade,
    /// One for a WebSocket that can't be.
    BadUpgrade,
}

/// An address that the bridge listens on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entrance {
    /// Only this machine can come: a name that isn't of this machine is a trick.
    is_local: bool,
}

impl Entrance {
    pub(crate) fn at(address: SocketAddr) -> Entrance {
        Entrance { is_local: address.ip().is_loopback() }
    }
}

pub(super) fn check_method(request: &Request<Incoming>) -> Result<(), Refused> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refused::Method),
    }
}

/// Nothing here takes a body.
pub(super) fn check_body(request: &Request<Incoming>) -> Result<(), Refused> {
    if request.body().is_end_stream() { Ok(()) } else { Err(Refused::Body) }
}

/// Against DNS rebinding: a page of elsewhere whose name suddenly means this machine.
pub(super) fn check_host(
    request: &Request<Incoming>,
    entrance: Entrance,
    trust_proxy: bool,
) -> Result<(), Refused> {
    // Two of them may mean two things to a proxy and to this server (RFC 9112, 3.2).
    let Some(host) = only(request.headers(), header::HOST) else {
        return Err(Refused::NoHost);
    };
    if !entrance.is_local || trust_proxy || is_local_name(without_port(host)) {
        Ok(())
    } else {
        Err(Refused::OtherHost)
    }
}

/// The page that opens the WebSocket must be this server's own, or allowed by name. A program
/// sends no Origin and is admitted: it could send any. `is_https`: the page can only have come over
/// TLS.
pub(super) fn check_origin(
    headers: &HeaderMap,
    is_https: bool,
    allowed: &[String],
) -> Result<(), Refused> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let origin = text(headers, header::ORIGIN).unwrap_or_default();
    let host = text(headers, header::HOST).unwrap_or_default();
    let own = origin.split_once("://").is_some_and(|(scheme, authority)| {
        let port = match scheme {
            "http" if !is_https => ":80",
            "https" => ":443",
            _ => return false,
        };
        let full = |name: &str| match without_port(name).len() == name.len() {
            true => format!("{name}{port}"),
            false => name.to_owned(),
        };
        full(authority).eq_ignore_ascii_case(&full(host))
    });
    if own || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        Ok(())
    } else {
        Err(Refused::Origin)
    }
}

/// The handshake of RFC 6455, 4.2.1; returns the client's key.
pub(super) fn check_handshake(request: &Request<Incoming>) -> Result<String, Refused> {
    let headers = request.headers();
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name);
        let mut tokens = values.iter().filter_map(|value| value.to_str().ok());
        tokens.any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case(token)))
    };
    let upgrades = has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket");
    let key = only(headers, header::SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
    if text(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") || !upgrades {
        return Err(Refused::NoUpgrade);
    }
    match key {
        Some(key) if request.method() == Method::GET => Ok(key.to_owned()),
        _ => Err(Refused::BadUpgrade),
    }
}

/// The client's address as the proxy tells it: the last one, which the proxy itself has seen.
pub(super) fn forwarded_for(request: &Request<Incoming>, proxy: SocketAddr) -> SocketAddr {
    let forwarded = request.headers().get_all("x-forwarded-for").iter().next_back();
    let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    match last.and_then(|address| parse_address(address.trim())) {
        Some(address) => SocketAddr::new(address, proxy.port()),
        None => proxy,
    }
}

/// An address with a port or without: some proxies tell it, and IPv6 is in brackets then.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok();
    let address = text.parse().ok().or_else(|| Some(with_port()?.ip()));
    address.or_else(|| Some(bare()?.into()))
}

/// Base64 of 16 bytes.
fn is_key(key: &str) -> bool {
    const DIGITS: usize = 22;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix("==");
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(is_digit))
}

/// The value of a header that comes once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)?.to_str().ok()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// A host without its port: `[::1]:7778` is `[::1]`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.bytes().all(|b| b.is_ascii_digit()) => {
            name
        }
        _ => host,
    }
}

fn is_local_name(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let local_address = bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    local_address || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    // clause: WS-4
    #[test]
    fn over_tls_the_own_origin_is_one_of_https() {
        let check = |origin: &str, host: &str, is_https: bool| {
            let values = [(header::ORIGIN, origin), (header::HOST, host)];
            let headers = values.map(|(name, value)| (name, value.parse().unwrap()));
            check_origin(&headers.into_iter().collect(), is_https, &["http://a.example".to_owned()])
        };
        for (origin, host, is_own) in [
            ("https://chat.example", "chat.example", true),
            ("https://chat.example", "chat.example:443", true),
            ("https://chat.example:443", "chat.example", true),
            ("https://chat.example:7778", "chat.example:7778", true),
            ("https://chat.example", "chat.example:80", false),
            // It may be another's page, at port 80.
            ("http://chat.example", "chat.example", false),
            ("http://chat.example:443", "chat.example:443", false),
            ("http://chat.example:7778", "chat.example:7778", false),
            // It is allowed by name.
            ("http://a.example", "chat.example", true),
        ] {
            assert_eq!(check(origin, host, true).is_ok(), is_own, "{origin} at {host}");
        }
        // TLS may end before this server.
        for origin in ["http://chat.example", "https://chat.example"] {
            assert_eq!(check(origin, "chat.example", false), Ok(()), "{origin}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LocalHost:7778", "127.0.0.1:7778", "127.1.2.3", "[::1]:7778"] {
            assert!(is_local_name(without_port(host)), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "192.0.2.1:7778", "[::2]", ""] {
            assert!(!is_local_name(without_port(host)), "{host}");
        }
    }
}
