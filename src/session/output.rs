//! What a session writes: what the room has, its replies, and what becomes of them where the client
//! doesn't read.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use super::stall::Stall;
use super::wire::trace;
use super::{End, Session};
use crate::metrics::Limit;
use crate::protocol::limits::FLUSH_BYTES;
use crate::protocol::{ErrorCode, Event, Line, NoticeKind, Reject, Reply, Verb};
use crate::room::{Cursor, Followed, Hub, Refusal, Sink};
use crate::transport::{Outbox, Socket, Transport};

impl<T: Transport> Session<T> {
    /// Writes everything that waits.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            match self.transport.poll_send(cx, &mut self.outbox) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(written)) => {
                    self.count_written(written as u64);
                    self.stall = None;
                }
                // From now on output counts as written: what was received runs all the same.
                Poll::Ready(Err(_)) => {
                    self.give_up_output();
                    break;
                }
                Poll::Pending => return self.poll_blocked(cx).map(Err),
            }
        }
        if !self.outbox.is_broken() && self.stall.as_ref().is_none_or(|stall| !stall.is_put_off) {
            self.stall = None;
        }
        Poll::Ready(Ok(()))
    }

    /// The client doesn't read. What it has not begun to get stays in the log.
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut is_put_off = false;
        if let Some(seat) = &mut self.seat {
            if let Some(cursor) = self.outbox.take_back() {
                seat.go_to(cursor);
                is_put_off = self.outbox.is_empty();
            }
            if let Some(gone) = seat.gone() {
                return Poll::Ready(gone.into());
            }
        }
        if let Poll::Ready(end) = self.poll_stopping(cx) {
            return Poll::Ready(end);
        }
        let stall = self.stall.get_or_insert_with(|| {
            self.hub.metrics().reached(Limit::SendBuffer);
            Box::new(Stall::new(&self.hub, &self.outbox))
        });
        if self.transport.take_progress() {
            stall.begin_again(&self.outbox);
        }
        stall.is_put_off |= is_put_off;
        let limit = ready!(stall.poll(cx, &self.outbox));
        if limit == Limit::Replies {
            self.give_up_output();
        }
        Poll::Ready(End::Slow(limit))
    }

    /// Gives up what waits for a client who doesn't read, or can't, his last words too.
    pub(super) fn give_up_output(&mut self) {
        self.outbox.give_up();
        self.stall = None;
    }

    /// Takes from the log up to a place.
    pub(super) async fn catch_up(&mut self, place: u64) -> Result<(), End> {
        loop {
            // What is taken next tells the log that the lines before it are written.
            if self.outbox.has_entries() {
                self.flush().await?;
            }
            let Some(seat) = &mut self.seat else { return Ok(()) };
            seat.follow(place, |followed| deliver(&self.hub, &mut self.outbox, followed))?;
            if seat.has_reached(place) {
                return Ok(());
            }
            if seat.must_wait_for(place) {
                self.flush().await?;
                if let Some(seat) = &self.seat {
                    seat.kept(place).await;
                }
            }
        }
    }

    pub(super) async fn flush_if_much(&mut self) -> Result<(), End> {
        if self.outbox.len() > FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    pub(super) fn count_written(&mut self, bytes: u64) {
        self.counts.bytes_out += bytes;
        self.hub.metrics().bytes_out.add(bytes);
    }

    /// Answers a line with an error.
    pub(super) fn reject(&mut self, reject: &Reject) {
        count_refusal(&self.hub, reject);
        self.say(reject);
    }

    /// Adds a line of this connection's own to the outbox.
    pub(super) fn say(&mut self, line: &impl Display) {
        trace(&self.hub, ">", line);
        self.outbox.line(line);
    }

    /// Adds a line to the outbox that others get as well.
    pub(super) fn share(&mut self, line: Line) {
        trace(&self.hub, ">", &line.as_str());
        self.outbox.shared(line, None);
    }

    pub(super) fn notice(&mut self, kind: NoticeKind, text: &'static str) {
        self.say(&Event::Notice { kind, text: text.into() });
    }
}

fn count_refusal(hub: &Hub, reject: &Reject) {
    hub.metrics().refusals.add(1);
    if reject.code == ErrorCode::Storage {
        hub.metrics().reached(Limit::Storage);
    }
}

/// Puts what a reader follows into his outbox.
pub(super) fn deliver(hub: &Hub, outbox: &mut Outbox<Cursor>, followed: Followed<'_>) {
    hub.metrics().deliveries.add(1);
    let (line, at) = match followed {
        Followed::Entry(line, at) => (line, Some(at)),
        Followed::Line(line) => (line, None),
        Followed::Own(said) => {
            let reply = Reply::from(said);
            trace(hub, ">", &reply);
            return outbox.line(&reply);
        }
        Followed::Unkept => {
            let why = Refusal::Storage;
            let reject = Reject::new(Verb::Msg, why.code(), why.to_string());
            count_refusal(hub, &reject);
            trace(hub, ">", &reject);
            return outbox.line(&reject);
        }
        Followed::Gap(messages) => {
            hub.metrics().gaps.add(1);
            let gap = Event::Gap { messages };
            trace(hub, ">", &gap);
            return outbox.line(&gap);
        }
    };
    trace(hub, ">", &line.as_str());
    outbox.shared(line.clone(), at);
}

impl Sink for Socket {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Socket::try_write(self, bytes)
    }
}
