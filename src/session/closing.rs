//! The last words of a connection, and its close.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::outbox::Outbox;
use crate::protocol::limits::{LINGER, READ_BYTES};
use crate::protocol::{Bye, ByeReason, Event};

/// Tells a client that there is no place for him, and closes.
pub(crate) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut outbox = Outbox::default();
    outbox.line(&Event::Bye(Bye::new(ByeReason::Busy)));
    let farewell = async {
        write_rest(&mut outbox, &mut stream).await;
        drain(&mut stream).await;
    };
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

/// Writes everything that waits, and returns how many bytes that was.
pub(super) async fn write_rest(outbox: &mut Outbox, stream: &mut (impl AsyncWrite + Unpin)) -> u64 {
    let mut bytes = 0;
    poll_fn(|cx| {
        while !outbox.is_empty() {
            match ready!(outbox.poll_write(stream, cx)) {
                Ok(written) => bytes += written as u64,
                Err(_) => outbox.give_up(),
            }
        }
        Poll::Ready(bytes)
    })
    .await
}

/// Closes the writing side and reads on until the peer closes too: a close while bytes are unread
/// would take the last line from it.
pub(super) async fn drain(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    if stream.shutdown().await.is_err() {
        return;
    }
    poll_fn(|cx| {
        loop {
            let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut bytes)) {
                Ok(()) if !bytes.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// The answer to an HTTP request on the line port.
pub(super) fn not_http() -> String {
    let body = "This port speaks the line protocol of parlor, not HTTP.\n\
                Talk to it with: nc HOST PORT, then type HELP and Enter.\n";
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
