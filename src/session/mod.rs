//! One conversation: lines in, replies and events out, over any stream.
//!
//! A session works in turns. A turn writes what the room's log has, then executes what one read
//! brought. While output waits, nothing is read: a client that sends must read as well.

mod closing;
mod commands;
mod end;
mod execute;
mod output;
mod pace;
mod stall;
mod wire;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::bulletin::{News, Subscription};
use crate::config::Config;
use crate::metrics::Limit;
use crate::protocol::limits::{KEEPALIVE_IDLE, LINE_BYTES, STOP_QUIET, TEXT_BYTES};
use crate::protocol::{LeftReason, NoticeKind};
use crate::room::{Cursor, Ended, Followed, Hub, Outlet, Seat, Visit};
use crate::transport::{Answer, Outbox, Received, Transport};
use closing::Stop;
pub(crate) use closing::turn_away;
pub(crate) use end::End;
use output::deliver;
use pace::Pace;
use stall::Stall;

/// One connection's conversation.
pub(crate) struct Session<T> {
    transport: T,
    /// What was read and is not executed yet: one read's worth at most.
    inbox: VecDeque<Received>,
    outbox: Outbox<Cursor>,
    /// What the room may write to while the session sleeps.
    outlet: Option<Arc<Outlet>>,
    hub: Hub,
    seat: Option<Seat>,
    news: Subscription,
    visit: Visit,
    pace: Pace,
    /// The client's input has ended, and he stays to listen.
    input_ended: bool,
    /// While the first line has begun: when it must have ended. After the client's end of file: when
    /// to look whether he is still there.
    alarm: Option<Pin<Box<Sleep>>>,
    /// While output waits, and from when writing fails.
    stall: Option<Box<Stall>>,
    stop: Option<Box<Stop>>,
    talk: bool,
    stay: bool,
    operator: bool,
    has_resumed: bool,
    /// The client waits for its pace, which is counted.
    is_slowed: bool,
    counts: Counts,
}

/// What a session knows of its connection when it begins.
pub(crate) struct Opening {
    pub(crate) hub: Hub,
    pub(crate) news: Subscription,
    pub(crate) visit: Visit,
    /// Whether the client is paced when the configuration doesn't say.
    pub(crate) is_stranger: bool,
}

/// What a connection did, for the log.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) messages: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl<T: Transport> Session<T> {
    pub(crate) fn new(transport: T, opening: Opening) -> Session<T> {
        let Opening { hub, news, visit, is_stranger } = opening;
        let config = hub.config();
        let default_rate = if is_stranger { Config::RATE } else { 0 };
        let pace = Pace::new(config.rate.unwrap_or(default_rate), config.burst);
        Session {
            transport,
            inbox: VecDeque::new(),
            outbox: Outbox::new(T::FRAMING),
            outlet: None,
            hub,
            seat: None,
            news,
            visit,
            pace,
            input_ended: false,
            alarm: None,
            stall: None,
            stop: None,
            talk: false,
            stay: false,
            operator: false,
            has_resumed: false,
            is_slowed: false,
            counts: Counts::default(),
        }
    }

    /// The whole conversation, from the greeting to the last line.
    ///
    /// What happens now and then has its memory in a box of its own: an idle connection has none.
    pub(crate) async fn run(&mut self) -> (End, Counts) {
        let hold = self.hub.config().hold;
        self.say(&format_args!(
            "HELLO parlor/1 line={LINE_BYTES},text={TEXT_BYTES},hold={hold} \
             Type HELP, or: CREATE yourname | JOIN code yourname"
        ));
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        Box::pin(self.part(&end)).await;
        (end, self.counts)
    }

    /// One turn. What the room adds while it goes on waits for the next one.
    async fn turn(&mut self) -> Result<(), End> {
        self.flush().await?;
        poll_fn(|cx| self.poll_turn(cx)).await?;
        if !self.inbox.is_empty() {
            Box::pin(self.work()).await?;
        }
        Ok(())
    }

    /// Writes what the room has until now, then executes what one read brought.
    async fn work(&mut self) -> Result<(), End> {
        self.write_turn().await?;
        self.execute_inbox().await
    }

    /// Writes everything up to the end that the log has now, also what a full pipe gave back.
    async fn write_turn(&mut self) -> Result<(), End> {
        let Some(seat) = &self.seat else { return self.flush().await };
        let ((), end) = seat.end()?;
        loop {
            self.catch_up(end).await?;
            self.flush().await?;
            if self.seat.as_ref().is_none_or(|seat| seat.has_reached(end)) {
                return Ok(());
            }
        }
    }

    /// Waits until there is something to write or to execute.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        self.wake_up();
        if self.is_forsaken() {
            return Poll::Ready(Err(End::Broken));
        }
        let mut something = !self.outbox.is_empty();
        if let Poll::Ready(end) = self.poll_stop(cx) {
            return Poll::Ready(Err(end));
        }
        while let Poll::Ready(news) = self.news.poll_news(cx) {
            // What the room has came first: who announces may have come in before.
            if let Poll::Ready(result) = self.poll_follow(cx, false) {
                result?;
            }
            self.hear(news);
            something = true;
        }
        if self.pace.poll_allows(cx).is_ready() {
            // What a read may bring of the transport's own is not to stand in half a line.
            if self.inbox.is_empty() && self.outbox.is_empty() && !self.input_ended {
                if let Poll::Ready(result) = self.poll_read(cx) {
                    result?;
                    something = true;
                }
            } else if !self.inbox.is_empty() {
                something = true;
            }
            self.is_slowed = false;
        } else {
            if !std::mem::replace(&mut self.is_slowed, true) {
                self.hub.metrics().reached(Limit::Rate);
            }
            // He isn't read now, and what he sent may bring nothing to write: nothing else tells.
            if !self.outbox.is_broken() && self.transport.has_failed() {
                self.give_up_output();
            }
        }
        if self.counts.lines == 0 && self.poll_first_line(cx).is_ready() {
            return Poll::Ready(Err(End::Idle));
        }
        if self.input_ended {
            self.look_for_client(cx);
        }
        // The last, because the session may fall asleep.
        if let Poll::Ready(result) = self.poll_follow(cx, !something) {
            result?;
            something = true;
        }
        if something {
            return Poll::Ready(Ok(()));
        }
        // What he said is answered in its place, while there is time.
        if self.stop.is_some() && self.seat.as_ref().is_some_and(Seat::has_unmet) {
            return Poll::Pending;
        }
        match &mut self.stop {
            Some(stop) => stop.quiet.as_mut().poll(cx).map(|()| Err(End::Shutdown)),
            None if self.outbox.is_broken() && self.input_ended => Poll::Ready(Err(End::Broken)),
            None => {
                // An idle connection keeps no memory for what it has done.
                if self.inbox.is_empty() {
                    self.inbox = VecDeque::new();
                }
                self.outbox.shrink();
                if !self.outbox.is_broken() {
                    self.stall = None;
                }
                Poll::Pending
            }
        }
    }

    /// Whether the connection has been broken for as long as a stall may take. What was received runs
    /// until then: at its pace all of it may take very long, and nobody is there to wait for it.
    pub(super) fn is_forsaken(&mut self) -> bool {
        if !self.outbox.is_broken() {
            return false;
        }
        let stall = || Box::new(Stall::new(&self.hub, &self.outbox));
        self.stall.get_or_insert_with(stall).is_over()
    }

    /// Who begins a line must end it some time. Silence is no offence.
    fn poll_first_line(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.inbox.is_empty() || !self.transport.has_begun_line() {
            self.alarm = None;
            return Poll::Pending;
        }
        let seconds = self.hub.config().first_command;
        let time = || Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
        self.alarm.get_or_insert_with(time).as_mut().poll(cx)
    }

    /// Who stays after his end of file is read no more, which would tell that he is gone: the system
    /// is asked now and then, and finds that out by keep-alive.
    fn look_for_client(&mut self, cx: &mut Context<'_>) {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(KEEPALIVE_IDLE)));
        let mut is_due = false;
        while alarm.as_mut().poll(cx).is_ready() {
            alarm.as_mut().reset(Instant::now() + KEEPALIVE_IDLE);
            is_due = true;
        }
        if is_due && self.transport.has_failed() {
            self.give_up_output();
        }
    }

    /// What the room has for this member. If there is nothing, and nothing else to do, the room
    /// gets the outlet.
    fn poll_follow(&mut self, cx: &mut Context<'_>, may_sleep: bool) -> Poll<Result<(), End>> {
        let Some(seat) = &mut self.seat else { return Poll::Pending };
        let may_lend = may_sleep && self.stop.is_none() && self.transport.is_between_frames();
        let outlet = self.outlet.as_ref().filter(|_| may_lend);
        let outlet = outlet.map(|outlet| (outlet, self.outbox.framing()));
        let out = |followed: Followed<'_>| deliver(&self.hub, &mut self.outbox, followed);
        seat.poll_follow(cx, outlet, out).map_err(End::from)
    }

    fn take_seat(&mut self, seat: Seat) {
        // Who traces the wire wants to see every line here.
        let socket = self.transport.socket().filter(|_| !self.hub.config().trace_wire);
        self.outlet = socket.map(|socket| Outlet::new(socket.clone()));
        self.seat = Some(seat.ends(Ended::Left(LeftReason::Lost)));
    }

    /// Takes the outlet back from the room, with what it has begun to write.
    fn wake_up(&mut self) {
        let Some(report) = self.outlet.as_ref().and_then(|outlet| outlet.take_back()) else {
            return;
        };
        self.counts.bytes_out += report.bytes;
        if let Some(seat) = &mut self.seat {
            seat.go_to(report.next);
        }
        if !report.half.is_empty() {
            self.outbox.raw(&report.half);
        }
    }

    /// One read, taken apart.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let intake = match ready!(self.transport.poll_receive(cx, &mut self.inbox)) {
            Ok(intake) => intake,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Poll::Ready(Err(End::Frame));
            }
            Err(_) => return Poll::Ready(Err(End::Broken)),
        };
        self.counts.bytes_in += intake.bytes as u64;
        self.hub.metrics().bytes_in.add(intake.bytes as u64);
        self.pace.spend(intake.surcharge as usize);
        for answer in intake.answers {
            match answer {
                Answer::Option(bytes) => self.outbox.raw(&bytes),
                Answer::Here => self.notice(NoticeKind::Here, "parlor is here."),
            }
        }
        if let Some(stop) = &mut self.stop {
            stop.quiet.as_mut().reset(Instant::now() + STOP_QUIET);
        }
        Poll::Ready(Ok(()))
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Announcement(line) => self.share(line),
            News::Stopping => self.begin_to_stop(),
        }
    }
}
