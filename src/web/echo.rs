//! For tests of the framing only: a WebSocket that says again what it hears, at a path that there
//! is only with the feature `echo`. Its frames are read and written as those of a session.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, ready};

use crate::protocol::Reject;
use crate::protocol::limits::LINGER;
use crate::transport::{Outbox, Received, Transport};

/// Where it answers.
pub(super) const PATH: &str = "/echo";

/// Says every line again until the input ends, then closes as a session does. Of lines that are no
/// lines of the protocol it says why, unless their bytes are known.
pub(super) async fn converse<T: Transport>(mut transport: T) {
    let mut outbox: Outbox<()> = Outbox::new(T::FRAMING);
    let mut inbox = VecDeque::new();
    let mut is_over = false;
    while !is_over {
        is_over = poll_fn(|cx| transport.poll_receive(cx, &mut inbox)).await.is_err();
        for received in inbox.drain(..) {
            match received {
                Received::Line(line, _) => outbox.line(&line),
                Received::Blank(_) => outbox.line(&""),
                Received::Bad(why, bytes, _) => match str::from_utf8(&bytes) {
                    Ok(line) if !line.is_empty() => outbox.line(&line),
                    _ => outbox.line(&Reject::from(why)),
                },
                _ => is_over = true,
            }
        }
        let written = poll_fn(|cx| {
            while ready!(transport.poll_send(cx, &mut outbox))? > 0 {}
            Poll::Ready(std::io::Result::Ok(()))
        });
        // Who is gone may have sent more.
        if written.await.is_err() {
            outbox.give_up();
        }
    }
    let _ = tokio::time::timeout(LINGER, transport.close(outbox.is_empty())).await;
}
