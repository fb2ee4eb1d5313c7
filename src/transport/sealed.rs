//! Lines within TLS: what TLS itself takes is paid for as well, and what it gives on is told.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};

use super::metered::Meter;
use super::{Intake, Outbox, Received, Socket, Transport};
use crate::protocol::Framing;
use crate::protocol::limits::{TLS_AHEAD_BYTES, TLS_PACE_BYTES};

/// A transport over TLS, and the meter of what is below that.
#[derive(Debug)]
pub(crate) struct Sealed<T> {
    transport: T,
    meter: Meter,
    /// The connection below TLS, if it is known.
    socket: Option<Socket>,
    /// Bytes read that no line has paid for yet.
    unpaid: usize,
}

impl<T> Sealed<T> {
    pub(crate) fn new(transport: T, meter: Meter, socket: Option<Socket>) -> Sealed<T> {
        // The handshake is paid for.
        meter.take_read();
        Sealed { transport, meter, socket, unpaid: 0 }
    }

    /// What bytes cost beyond the lines that they brought. Records may be empty, or nearly so: then
    /// they are no lines, but work.
    fn charge(&mut self, bytes: usize, lines: usize) -> u32 {
        self.unpaid = (self.unpaid + bytes).saturating_sub(lines * TLS_PACE_BYTES);
        // What a record holds comes when all of it is there.
        let more = self.unpaid.saturating_sub(TLS_AHEAD_BYTES) / TLS_PACE_BYTES;
        self.unpaid -= more * TLS_PACE_BYTES;
        more as u32
    }
}

impl<T: Transport> Transport for Sealed<T> {
    const FRAMING: Framing = T::FRAMING;

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Received>,
    ) -> Poll<io::Result<Intake>> {
        let before = inbox.len();
        let received = self.transport.poll_receive(cx, inbox);
        let bytes = self.meter.take_read();
        let lines = |intake: &Intake| inbox.len() - before + intake.surcharge as usize;
        match received {
            Poll::Ready(Ok(mut intake)) => {
                intake.surcharge += self.charge(bytes, lines(&intake));
                Poll::Ready(Ok(intake))
            }
            Poll::Pending => match self.charge(bytes, 0) {
                0 => Poll::Pending,
                surcharge => Poll::Ready(Ok(Intake { surcharge, ..Intake::default() })),
            },
            failed => failed,
        }
    }

    fn poll_send<M: Copy>(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox<M>,
    ) -> Poll<io::Result<usize>> {
        self.transport.poll_send(cx, outbox)
    }

    fn take_progress(&mut self) -> bool {
        self.meter.take_written() > 0
    }

    fn socket(&self) -> Option<&Socket> {
        self.transport.socket()
    }

    fn has_failed(&self) -> bool {
        self.socket.as_ref().is_some_and(Socket::has_failed)
    }

    fn is_between_frames(&self) -> bool {
        self.transport.is_between_frames()
    }

    fn has_begun_line(&self) -> bool {
        self.transport.has_begun_line()
    }

    fn close(&mut self, is_between_lines: bool) -> impl Future<Output = ()> + Send {
        self.transport.close(is_between_lines)
    }
}
