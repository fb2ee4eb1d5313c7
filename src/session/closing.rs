//! How a connection ends: a server that is stopping, the last words, and the close.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Sleep;

use super::stall::Stall;
use super::{End, Session};
use crate::metrics::Limit;
use crate::protocol::limits::{LINGER, STOP_QUIET, STOP_READING};
use crate::protocol::{
    Bye, ByeReason, Command, Event, LeftReason, NoticeKind, Reject, Reply, Verb,
};
use crate::room::{Ended, Hub};
use crate::transport::{Outbox, Received, Transport};

/// The times of a server that is stopping.
pub(super) struct Stop {
    /// Then the session ends, whatever is still to be read.
    pub(super) at: Pin<Box<Sleep>>,
    /// Nothing has come for a moment: what was sent before the stop has been read.
    pub(super) quiet: Pin<Box<Sleep>>,
}

impl<T: Transport> Session<T> {
    /// The server is told to end: everybody is told, and hurries.
    pub(super) fn begin_to_stop(&mut self) {
        if self.stop.is_none() {
            self.notice(NoticeKind::Shutdown, "The server is stopping.");
            self.pace.lift();
            self.stop = Some(Box::new(Stop::new()));
        }
    }

    /// Completes when a stopping server has no time for more.
    pub(super) fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match &mut self.stop {
            Some(stop) => stop.at.as_mut().poll(cx).map(|()| End::Shutdown),
            None => Poll::Pending,
        }
    }

    /// The same, where the server may be told to stop meanwhile.
    pub(super) fn poll_stopping(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.news.poll_stopping(cx) {
            self.begin_to_stop();
        }
        self.poll_stop(cx)
    }

    /// Answers what a stopping server has no time for.
    fn refuse_rest(&mut self) {
        for received in std::mem::take(&mut self.inbox) {
            match received {
                Received::Bad(why, ..) => self.reject(&why.into()),
                Received::Line(line, _) => {
                    let verb = Command::parse(&line, self.seat.is_some(), self.talk)
                        .and_then(|_| Command::verb_of(&line, self.talk));
                    let answer = verb.map(Reject::shutting_down);
                    self.reject(&answer.unwrap_or_else(|mistake| mistake));
                }
                _ => {}
            }
        }
    }

    /// Whether the client can come back after this end, and ask for what he was not sent.
    fn can_resume(&self, end: &End) -> bool {
        let stops = match end {
            End::Quit | End::Eof => return false,
            End::Gone(bye) => bye.reason == ByeReason::Shutdown,
            end => matches!(end, End::Shutdown),
        };
        self.seat.as_ref().is_some_and(|seat| seat.can_resume(stops))
    }

    /// Answers every message that was ordered, though not all is read that comes before it. But who
    /// can come back is told of none ahead of one that he was not sent: he would not ask for that.
    /// False if the rest is not answered, nor is to be what follows it: `RESUME` tells of them.
    pub(super) async fn answer_messages(&mut self, end: &End) -> bool {
        let in_order = self.can_resume(end);
        let Some(seat) = &mut self.seat else { return true };
        let said = seat.take_unmet(in_order).await;
        let is_all = !seat.has_unmet();
        for said in said {
            match said {
                Ok(said) => self.say(&Reply::from(said)),
                Err(why) => self.reject(&Reject::new(Verb::Msg, why.code(), why.to_string())),
            }
        }
        is_all
    }

    /// The last words, in the order in which they must be said; then the stream is closed.
    pub(super) async fn part(&mut self, end: &End) {
        let asked_for = matches!(end, End::Quit | End::Eof);
        if !asked_for && !self.can_resume(end) {
            self.outbox.drop_backlog();
        }
        let is_all = self.answer_messages(end).await;
        if is_all && matches!(end, End::Shutdown) {
            self.refuse_rest();
        }
        if let Some(seat) = self.seat.take() {
            match end {
                // That is answered as well.
                End::Quit => seat.leave().await,
                End::Eof => drop(seat.ends(Ended::Left(LeftReason::Eof))),
                End::Shutdown => drop(seat.ends(Ended::Silently)),
                _ => drop(seat.ends(Ended::Left(LeftReason::Lost))),
            }
        }
        match end.bye() {
            Some(bye) => self.say(&Event::Bye(bye)),
            None if matches!(end, End::Http) => self.outbox.raw(not_http(&self.hub).as_bytes()),
            None => {}
        }
        // Who has read nothing for long will not begin now.
        let is_hurried = matches!(end, End::Slow(_) | End::Idle | End::Shutdown);
        self.stall = None;
        let mut time = is_hurried.then(|| Box::pin(tokio::time::sleep(LINGER)));
        poll_fn(|cx| {
            if time.is_none() && (self.stop.is_some() || self.news.poll_stopping(cx)) {
                time = Some(Box::pin(tokio::time::sleep(STOP_READING)));
            }
            let is_over = time.as_mut().is_some_and(|time| time.as_mut().poll(cx).is_ready());
            if is_over { Poll::Ready(()) } else { self.poll_last_words(cx) }
        })
        .await;
        // What was given up may have been half written.
        let is_written = self.outbox.is_empty() && !self.outbox.is_broken();
        let _ = tokio::time::timeout(LINGER, self.transport.close(is_written)).await;
    }
}

impl<T: Transport> Session<T> {
    /// Writes everything that waits, unless the client doesn't read. While it does, it counts as all that
    /// waits for those who don't.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.transport.poll_send(cx, &mut self.outbox) {
                Poll::Ready(Ok(0)) => return Poll::Ready(()),
                Poll::Ready(Ok(written)) => {
                    self.count_written(written as u64);
                    self.stall = None;
                }
                Poll::Ready(Err(_)) => {
                    self.outbox.give_up();
                    return Poll::Ready(());
                }
                Poll::Pending => break,
            }
        }
        let stall = || Box::new(Stall::new(&self.hub, &self.outbox));
        let stall = self.stall.get_or_insert_with(stall);
        if self.transport.take_progress() {
            stall.begin_again(&self.outbox);
        }
        let limit = ready!(stall.poll(cx, &self.outbox));
        // A stall is counted where it ends the conversation, which has ended.
        if limit == Limit::Replies {
            self.hub.metrics().reached(limit);
        }
        self.give_up_output();
        Poll::Ready(())
    }
}

impl Stop {
    fn new() -> Stop {
        Stop {
            at: Box::pin(tokio::time::sleep(STOP_READING)),
            quiet: Box::pin(tokio::time::sleep(STOP_QUIET)),
        }
    }
}

/// Tells a client that there is no place for him, and closes.
pub(crate) async fn turn_away<T: Transport>(mut transport: T) {
    let mut outbox: Outbox<()> = Outbox::new(T::FRAMING);
    outbox.line(&Event::Bye(Bye::new(ByeReason::Busy)));
    let farewell = async {
        write_all(&mut outbox, &mut transport).await;
        transport.close(true).await;
    };
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

/// Writes everything that waits, or as much as can be written.
async fn write_all<M: Copy>(outbox: &mut Outbox<M>, transport: &mut impl Transport) {
    poll_fn(|cx| {
        loop {
            if let Ok(0) | Err(_) = ready!(transport.poll_send(cx, outbox)) {
                return Poll::Ready(());
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
