//! What a session needs of a connection, and no more. Knows no room.

mod line_stream;
mod lines;
#[cfg(any(feature = "tls", feature = "web"))]
mod metered;
mod outbox;
#[cfg(feature = "tls")]
mod sealed;
mod socket;
mod telnet;
#[cfg(feature = "web")]
mod web_socket;

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

pub(crate) use line_stream::LineStream;
pub use lines::{LineDecoder, Received};
#[cfg(all(feature = "tls", feature = "web"))]
pub(crate) use metered::Meter;
#[cfg(feature = "tls")]
pub(crate) use metered::Metered;
pub(crate) use outbox::Outbox;
#[cfg(feature = "tls")]
pub(crate) use sealed::Sealed;
pub(crate) use socket::Socket;
pub(crate) use telnet::Answer;
#[cfg(feature = "web")]
pub(crate) use web_socket::WebSocket;

use crate::protocol::Framing;

/// A connection that brings lines and takes lines.
pub(crate) trait Transport {
    /// What is put around lines on their way out.
    const FRAMING: Framing;

    /// Reads once; what that completes is added to `inbox`, the end of the input as well. A frame
    /// that is too long fails with [`io::ErrorKind::FileTooLarge`].
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Received>,
    ) -> Poll<io::Result<Intake>>;

    /// Writes once; `Ok(0)` if nothing waits, here or in the stream.
    fn poll_send<M: Copy>(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox<M>,
    ) -> Poll<io::Result<usize>>;

    /// Whether bytes went on since the last call, also such of which
    /// [`poll_send`](Transport::poll_send) doesn't tell: TLS holds some, and waits until all are gone.
    fn take_progress(&mut self) -> bool {
        false
    }

    /// The connection below, if others may write to it while the session sleeps.
    fn socket(&self) -> Option<&Socket>;

    /// Whether the system knows that the connection is broken.
    fn has_failed(&self) -> bool {
        self.socket().is_some_and(Socket::has_failed)
    }

    /// Whether nothing of the transport's own is half written.
    fn is_between_frames(&self) -> bool {
        true
    }

    /// Whether a line, or a frame, has begun to come and has not ended.
    fn has_begun_line(&self) -> bool;

    /// Closes the writing side and reads on until the peer closes too: a close while bytes are
    /// unread would take the last line from it. `is_between_lines`: no line is half written.
    fn close(&mut self, is_between_lines: bool) -> impl Future<Output = ()> + Send;
}

/// What one read was, beside the lines it completed.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) bytes: usize,
    /// What it cost beyond one for each line.
    pub(crate) surcharge: u32,
    /// What telnet wants to hear at once.
    pub(crate) answers: Vec<Answer>,
}
