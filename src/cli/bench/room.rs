//! What each room was sent, and what each of its members must get: every message once, in order,
//! with the text that was sent.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parlor::protocol::limits::{BENCH_IN_FLIGHT, BENCH_MISSING, BENCH_TEXT_BYTES};

use super::tally::Tally;

/// The name of each room's publisher.
pub(super) const PUBLISHER: &str = "bench";

/// When messages are sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Plan {
    /// So many are in flight at a time: sent, and not everybody has them yet.
    Window(usize),
    /// So many are sent a second, whether or not the last ones have arrived.
    Rate(u64),
}

/// How long after the first one the nth of `rate` things a second is due.
pub(super) fn nth_due(nth: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(nth) * NANOS / u128::from(rate)) as u64)
}

const NANOS: u128 = 1_000_000_000;

/// A room with its publisher's messages. Their ids are 1, 2, 3, ...: nobody else speaks there.
pub(super) struct Room {
    pub(super) code: String,
    plan: Plan,
    /// The members and the publisher.
    seats: usize,
    /// When the first message is due, and from when on none is.
    time: Option<(Instant, Instant)>,
    sent: u64,
    /// The latest messages, up to `sent`: those that not everybody has.
    in_flight: VecDeque<Message>,
    /// The publisher's task, which waits for something to send.
    publisher: Option<Waker>,
}

struct Message {
    /// `MSG` and the text.
    line: [u8; COMMAND.len() + BENCH_TEXT_BYTES],
    due: Instant,
    /// Seats that it has not come to.
    missing: usize,
}

impl Message {
    fn text(&self) -> &[u8] {
        &self.line[COMMAND.len()..]
    }
}

const COMMAND: &[u8] = b"MSG ";

/// One connection's place in a room.
pub(super) struct Seat {
    pub(super) room: usize,
    /// 0 is the publisher.
    pub(super) number: usize,
    /// The id that comes next.
    next: u64,
    /// Ids that were passed over; the latest may still come.
    missing: Vec<u64>,
    /// Further ones, past what is remembered.
    more_missing: u64,
    /// The latest answer to something else than a `MSG`.
    pub(super) answer: Option<String>,
}

impl Room {
    pub(super) fn new(plan: Plan, members: usize) -> Room {
        Room {
            code: String::new(),
            plan,
            seats: members + 1,
            time: None,
            sent: 0,
            in_flight: VecDeque::new(),
            publisher: None,
        }
    }

    pub(super) fn start(&mut self, first: Instant, end: Instant) {
        self.time = Some((first, end));
        self.wake();
    }

    /// From now on nothing is due any more.
    pub(super) fn stop(&mut self, now: Instant) {
        if let Some((_, end)) = &mut self.time {
            *end = now.min(*end);
        }
        self.wake();
    }

    /// Lets the publisher look what is due.
    pub(super) fn wake(&mut self) {
        if let Some(publisher) = self.publisher.take() {
            publisher.wake();
        }
    }

    /// Wakes this task when something may be sent.
    pub(super) fn publish_from(&mut self, cx: &Context<'_>) {
        self.publisher = Some(cx.waker().clone());
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages that were due before the end and have not been sent.
    pub(super) fn unsent(&self) -> u64 {
        match (self.plan, self.time) {
            (Plan::Rate(rate), Some((first, end))) => {
                let time = end.saturating_duration_since(first).as_nanos();
                let due = (time * u128::from(rate)).div_ceil(NANOS) as u64;
                due.saturating_sub(self.sent)
            }
            _ => 0,
        }
    }

    /// When the next message is due, if it may be sent now.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let (first, end) = self.time?;
        let due = match self.plan {
            Plan::Window(messages) if self.in_flight.len() < messages => now,
            Plan::Rate(rate) if self.in_flight.len() < BENCH_IN_FLIGHT => {
                first + nth_due(self.sent, rate)
            }
            _ => return None,
        };
        (due < end && due <= now).then_some(due)
    }

    /// Takes down that the next message is sent, and returns the line that sends it.
    pub(super) fn send(&mut self, due: Instant) -> &[u8] {
        self.sent += 1;
        let since = self.time.map_or(Duration::ZERO, |(first, _)| due - first).as_micros();
        let mut line = [b'.'; COMMAND.len() + BENCH_TEXT_BYTES];
        line[..COMMAND.len()].copy_from_slice(COMMAND);
        // Two numbers fit.
        let _ = write!(&mut line[COMMAND.len()..], "{} {since} ", self.sent);
        self.in_flight.push_back(Message { line, due, missing: self.seats });
        self.in_flight.back().map_or(&[], |message| &message.line)
    }

    /// A line that came to a seat. Fails where the server ends the conversation or refuses a line.
    pub(super) fn hear(
        &mut self,
        seat: &mut Seat,
        line: &[u8],
        now: Instant,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(rest) = line.strip_prefix(b"MSG ") {
            self.delivered(seat, rest, now, tally);
        } else if let Some(rest) = line.strip_prefix(b"OK MSG ") {
            let (id, _) = number(rest);
            if self.place(seat, id, tally).is_some() {
                self.arrived(id);
            }
        } else if line.starts_with(b"OK ") {
            seat.answer = Some(String::from_utf8_lossy(line).into_owned());
        } else if line.starts_with(b"ERR ") || line.starts_with(b"BYE ") {
            let line = String::from_utf8_lossy(line);
            return Err(io::Error::other(format!("the server said: {line}")));
        } else if line.starts_with(b"GAP ") {
            tally.fault(seat, || {
                format!("{}: a reader who was too slow", String::from_utf8_lossy(line))
            });
        }
        Ok(())
    }

    /// `id time name text` has come.
    fn delivered(&mut self, seat: &mut Seat, rest: &[u8], now: Instant, tally: &mut Tally) {
        let (id, rest) = number(rest);
        let Some(message) = self.place(seat, id, tally) else { return };
        let mut fields = rest.splitn(3, |byte| *byte == b' ');
        let (_time, name, text) = (fields.next(), fields.next(), fields.next());
        tally.delivered(now.saturating_duration_since(message.due));
        if name != Some(PUBLISHER.as_bytes()) || text != Some(message.text()) {
            tally.altered += 1;
            let sent = String::from_utf8_lossy(message.text());
            let came = String::from_utf8_lossy(rest);
            tally.fault(seat, || format!("message {id} came as {came:?}, sent was {sent:?}"));
        }
        self.arrived(id);
    }

    /// Where an id stands in what came before it. The message, if it is new to this seat.
    fn place(&mut self, seat: &mut Seat, id: u64, tally: &mut Tally) -> Option<&Message> {
        if id == 0 || id > self.sent {
            tally.altered += 1;
            tally.fault(seat, || format!("a message came with an id that was not sent, {id}"));
            return None;
        }
        if id < seat.next {
            match seat.missing.iter().position(|missing| *missing == id) {
                Some(at) => {
                    seat.missing.swap_remove(at);
                    tally.out_of_order += 1;
                    let latest = seat.next - 1;
                    tally.fault(seat, || format!("message {id} came after message {latest}"));
                }
                None => {
                    tally.doubled += 1;
                    tally.fault(seat, || format!("message {id} came twice"));
                }
            }
            return None;
        }
        for missing in seat.next..id {
            // It is waited for no longer.
            self.arrived(missing);
            match seat.missing.len() < BENCH_MISSING {
                true => seat.missing.push(missing),
                false => seat.more_missing += 1,
            }
        }
        seat.next = id + 1;
        let first = self.sent - self.in_flight.len() as u64 + 1;
        self.in_flight.get((id - first) as usize)
    }

    /// One seat more has this message, or never will.
    fn arrived(&mut self, id: u64) {
        let first = self.sent - self.in_flight.len() as u64 + 1;
        let Some(message) = self.in_flight.get_mut((id - first) as usize) else { return };
        message.missing -= 1;
        if message.missing > 0 || id != first {
            return;
        }
        while self.in_flight.front().is_some_and(|message| message.missing == 0) {
            self.in_flight.pop_front();
        }
        self.wake();
    }
}

impl Seat {
    pub(super) fn new(room: usize, number: usize) -> Seat {
        Seat { room, number, next: 1, missing: Vec::new(), more_missing: 0, answer: None }
    }

    /// The first of the messages that haven't come, of those sent, and how many there are.
    pub(super) fn lost(&self, sent: u64) -> Option<(u64, u64)> {
        let tail = sent + 1 - self.next;
        let count = self.missing.len() as u64 + self.more_missing + tail;
        let first = self.missing.iter().min().copied().unwrap_or(self.next);
        (count > 0).then_some((first, count))
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "room {}, the publisher", self.room + 1),
            number => write!(f, "room {}, member {number}", self.room + 1),
        }
    }
}

/// The digits at the front as a number, and what follows the blank after them. 0: there are none.
fn number(bytes: &[u8]) -> (u64, &[u8]) {
    let mut number: u64 = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => number = number.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            b' ' => return (number, &bytes[at + 1..]),
            _ => return (0, bytes),
        }
    }
    (number, &[])
}
