//! How a connection ends: a server that is stopping, the last words, and the close.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::{End, Session};
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

    /// Answers what a stopping server has no time for.
    pub(super) fn refuse_rest(&mut self) {
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

    /// The last words, in the order in which they must be said; then the stream is closed.
    pub(super) async fn part(&mut self, end: &End) {
        let asked_for = matches!(end, End::Quit | End::Eof);
        if !asked_for {
            self.outbox.drop_backlog();
        }
        if let Some(mut seat) = self.seat.take() {
            // Every message that was ordered is answered.
            for said in seat.take_unmet().await {
                match said {
                    Ok(said) => self.say(&Reply::from(said)),
                    Err(why) => self.reject(&Reject::new(Verb::Msg, why.code(), why.to_string())),
                }
            }
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
        let patience = match end {
            End::Slow | End::Idle | End::Shutdown => LINGER,
            _ => Duration::from_secs(self.hub.config().stall),
        };
        let last_words = write_rest(&mut self.outbox, &mut self.transport);
        if let Ok(written) = tokio::time::timeout(patience, last_words).await {
            self.count_written(written);
        }
        let is_written = self.outbox.is_empty();
        let _ = tokio::time::timeout(LINGER, self.transport.close(is_written)).await;
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
