//! A client who doesn't read: how long that may take, and what his replies take meanwhile.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::metrics::Limit;
use crate::protocol::limits::{FLUSH_BYTES, REPLY_STALL, TOTAL_REPLY_BYTES};
use crate::room::Hub;
use crate::transport::Outbox;

/// A time in which a connection accepts no byte. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Stall {
    hub: Hub,
    /// When the connection ends, whatever it owes.
    end: Instant,
    /// When to look again.
    alarm: Pin<Box<Sleep>>,
    /// What waited is in the log again: that nothing waits is no progress.
    pub(super) is_put_off: bool,
    /// What this connection has added to the replies that wait over all.
    owed: usize,
}

impl Stall {
    pub(super) fn new<M: Copy>(hub: &Hub, outbox: &Outbox<M>) -> Stall {
        let end = Instant::now() + Duration::from_secs(hub.config().stall);
        let alarm = Box::pin(tokio::time::sleep_until(end));
        let mut stall = Stall { hub: hub.clone(), end, alarm, is_put_off: false, owed: 0 };
        stall.look_at(outbox);
        stall
    }

    /// Bytes were accepted.
    pub(super) fn begin_again<M: Copy>(&mut self, outbox: &Outbox<M>) {
        self.end = Instant::now() + Duration::from_secs(self.hub.config().stall);
        self.look_at(outbox);
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Completes with the limit that is reached: then the connection ends.
    pub(super) fn poll<M: Copy>(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Outbox<M>,
    ) -> Poll<Limit> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.is_over() {
                return Poll::Ready(Limit::Stall);
            }
            self.look_at(outbox);
            // Who ends gives back what it owes: no more end than must.
            if self.owed > 0 && self.hub.waiting_replies() > TOTAL_REPLY_BYTES {
                return Poll::Ready(Limit::Replies);
            }
        }
    }

    /// Counts what waits, beyond what every connection may have, and sets the alarm. Lines that others
    /// have let go of since cost more: so a long reply is counted again and again.
    fn look_at<M: Copy>(&mut self, outbox: &Outbox<M>) {
        let owed = outbox.cost().saturating_sub(FLUSH_BYTES);
        self.hub.count_replies(std::mem::replace(&mut self.owed, owed), owed);
        let is_long = outbox.len() > FLUSH_BYTES;
        let next = if is_long { self.end.min(Instant::now() + REPLY_STALL) } else { self.end };
        self.alarm.as_mut().reset(next);
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.hub.count_replies(self.owed, 0);
    }
}
