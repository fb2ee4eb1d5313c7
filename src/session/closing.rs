//! The last words of a connection, and its close.

use std::future::poll_fn;
use std::task::{Poll, ready};

use crate::protocol::limits::LINGER;
use crate::protocol::{Bye, ByeReason, Event};
use crate::room::Hub;
use crate::transport::{Outbox, Transport};

/// Tells a client that there is no place for him, and closes.
pub(crate) async fn turn_away<T: Transport>(mut transport: T) {
    let mut outbox: Outbox<()> = Outbox::new(T::FRAMING);
    outbox.line(&Event::Bye(Bye::new(ByeReason::Busy)));
    let farewell = async {
        write_rest(&mut outbox, &mut transport).await;
        transport.close(true).await;
    };
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

/// Writes everything that waits, and returns how many bytes that was.
pub(super) async fn write_rest<M: Copy>(
    outbox: &mut Outbox<M>,
    transport: &mut impl Transport,
) -> u64 {
    let mut bytes = 0;
    poll_fn(|cx| {
        loop {
            match ready!(transport.poll_send(cx, outbox)) {
                Ok(0) => return Poll::Ready(bytes),
                Ok(written) => bytes += written as u64,
                Err(_) => {
                    outbox.give_up();
                    return Poll::Ready(bytes);
                }
            }
        }
    })
    .await
}

/// The answer to an HTTP request on the line port.
pub(super) fn not_http(hub: &Hub) -> String {
    let (netcat, scheme) = match hub.config().speaks_tls() {
        true => ("ncat --ssl", "https"),
        false => ("nc", "http"),
    };
    let page = match hub.config().web.first() {
        Some(page) if page.ip().is_unspecified() => {
            format!("The page for browsers is at port {} of this host.\n", page.port())
        }
        Some(page) => format!("The page for browsers is at {scheme}://{page}/\n"),
        None => String::new(),
    };
    let body = format!(
        "This port speaks the line protocol of parlor, not HTTP.\n{page}\
         Or talk to it with: {netcat} HOST PORT, then type HELP and Enter.\n"
    );
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
