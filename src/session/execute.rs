//! Executes what one read brought, line by line.

use std::future::poll_fn;
use std::task::Poll;

use super::wire::{trace, trace_bad};
use super::{End, Session};
use crate::metrics::Limit;
use crate::protocol::{BadLine, Command, Ending, Verb};
use crate::room::Seat;
use crate::transport::{Received, Transport};

impl<T: Transport> Session<T> {
    /// Executes what one read brought, as far as the client's pace allows.
    pub(super) async fn execute_inbox(&mut self) -> Result<(), End> {
        while !self.inbox.is_empty() && self.pace.allows() && !self.is_forsaken() {
            self.go_on().await?;
            if !self.publish_messages().await? {
                self.execute_next().await?;
            }
            self.flush_if_much().await?;
        }
        Ok(())
    }

    /// Ends where a stopping server has no time for more.
    async fn go_on(&mut self) -> Result<(), End> {
        poll_fn(|cx| match self.poll_stopping(cx) {
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Publishes an unbroken run of messages together; their replies stand at their places in the
    /// log. False if no message is next.
    async fn publish_messages(&mut self) -> Result<bool, End> {
        let Some(Received::Line(_, ending)) = self.inbox.front() else { return Ok(false) };
        self.adopt_ending(*ending).await?;
        let Some(seat) = &mut self.seat else { return Ok(false) };
        let mut texts = Vec::new();
        for received in self.inbox.make_contiguous().iter() {
            let Received::Line(line, ending) = received else { break };
            // Another ending begins another run.
            if ending.is_some_and(|ending| ending != self.outbox.ending()) || !self.pace.allows() {
                break;
            }
            let Ok(Command::Msg(text)) = Command::parse(line, true, self.talk) else { break };
            trace(&self.hub, "<", line);
            self.pace.spend(1);
            texts.push(text);
        }
        let messages = texts.len();
        if messages == 0 {
            return Ok(false);
        }
        let published = seat.publish(&texts).await;
        self.counts.lines += messages as u64;
        match published {
            Ok(()) => {
                self.inbox.drain(..messages);
                self.counts.messages += messages as u64;
                self.hub.metrics().messages.add(messages as u64);
            }
            Err(refusal) => {
                for _ in 0..messages {
                    self.refuse(Verb::Msg, refusal.clone()).await?;
                    self.inbox.pop_front();
                }
            }
        }
        Ok(true)
    }

    /// Executes one line that is no message.
    async fn execute_next(&mut self) -> Result<(), End> {
        let Some(received) = self.inbox.pop_front() else { return Ok(()) };
        let executed = self.execute_received(&received).await;
        if matches!(executed, Err(End::Shutdown)) {
            // It had to wait, and has no time for it: that is its answer.
            self.inbox.push_front(received);
        }
        executed
    }

    async fn execute_received(&mut self, received: &Received) -> Result<(), End> {
        match received {
            Received::Blank(ending) => {
                trace(&self.hub, "<", &"");
                self.begin_line(*ending).await?;
            }
            Received::Bad(why, bytes, ending) => {
                trace_bad(&self.hub, *why, bytes);
                self.begin_line(*ending).await?;
                self.settle().await?;
                if *why == BadLine::TooLong {
                    self.hub.metrics().reached(Limit::Line);
                }
                self.reject(&(*why).into());
            }
            Received::Line(line, ending) => {
                trace(&self.hub, "<", line);
                self.begin_line(*ending).await?;
                self.execute(line).await?;
            }
            Received::Http => {
                self.counts.lines += 1;
                return Err(End::Http);
            }
            Received::Tls => return Err(End::Tls),
            Received::Closed => {
                self.settle().await?;
                return Err(End::Eof);
            }
            Received::Eof => {
                self.settle().await?;
                self.input_ended = true;
                if !self.stay {
                    return Err(End::Eof);
                }
            }
        }
        Ok(())
    }

    async fn begin_line(&mut self, ending: Option<Ending>) -> Result<(), End> {
        self.pace.spend(1);
        self.counts.lines += 1;
        self.adopt_ending(ending).await
    }

    /// Replies end as their lines did: those to earlier lines come first if that changes.
    async fn adopt_ending(&mut self, ending: Option<Ending>) -> Result<(), End> {
        let ending = ending.unwrap_or(self.outbox.ending());
        if ending != self.outbox.ending() {
            self.settle().await?;
            self.outbox.set_ending(ending);
        }
        Ok(())
    }

    async fn execute(&mut self, line: &str) -> Result<(), End> {
        let command = match Command::parse(line, self.seat.is_some(), self.talk) {
            Ok(command) => command,
            Err(reject) => {
                self.settle().await?;
                self.reject(&reject);
                return Ok(());
            }
        };
        // With a store: what was ordered before is kept before anything else is done.
        if self.seat.as_ref().is_some_and(Seat::has_unkept) {
            self.settle().await?;
        }
        match command {
            Command::Create { .. } | Command::Join { .. } | Command::Resume { .. } => {
                self.enter(command).await
            }
            Command::Lock
            | Command::Unlock
            | Command::Kick { .. }
            | Command::Mute(_)
            | Command::Unmute(_)
            | Command::Close => self.rule(command).await,
            Command::Oper { .. } | Command::Announce(_) => self.operate(command).await,
            Command::Msg(_)
            | Command::Tell { .. }
            | Command::Who
            | Command::History(_)
            | Command::Nick(_)
            | Command::Hold { .. }
            | Command::Leave => self.take_part(command).await,
            _ => self.attend(command).await,
        }
    }
}
