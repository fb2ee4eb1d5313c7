//! Rooms: a room is a log, a member is a cursor in it. Knows no socket.
//!
//! Order of locks: the hub's rooms, then a room's state, then the timetable or the visitors.
//! No lock is held across an await.

mod hub;
mod log;
mod members;
mod refusal;
mod seat;
mod timetable;
mod visitors;
mod wake_up;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

pub use hub::Hub;
pub(crate) use log::Cursor;
use log::{Log, Missed};
pub(crate) use members::SeatKey;
use members::{Member, Members, Presence, Private};
pub use refusal::Refusal;
pub(crate) use seat::{Ended, Entered, Resumed};
pub use seat::{Said, Seat};
use timetable::{Appointment, Ending, Timetable};
pub(crate) use visitors::{Unentered, Visit, Visitors};
use wake_up::WakeUp;

use crate::config::Config;
use crate::protocol::limits::{
    FOLLOW_LINES, HISTORY_BYTES, ROOM_BACKLOG_BYTES, TELL_BYTES, TELLS_WAITING,
};
use crate::protocol::{
    Bye, ByeReason, Event, HistoryRange, LeftReason, Line, Name, NoticeKind, RoomCode, Text,
    TokenHash, User,
};

/// What all rooms of a hub share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) timetable: Timetable,
    /// Bytes that wait in mailboxes.
    tell_bytes: AtomicUsize,
    /// Bytes that rooms keep for readers who are behind.
    backlog: AtomicUsize,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) code: RoomCode,
    is_lobby: bool,
    shared: Arc<Shared>,
    /// What this room has added to the shared backlog; written under the state's lock.
    backlog: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    members: Members,
    wake_up: WakeUp,
    locked: bool,
    /// Set once and for good. Whoever comes later finds no such room.
    closed: Option<Closed>,
    /// Until somebody enters: what counts for the creator's address, and when the room goes.
    unentered: Option<(Unentered, Appointment)>,
    entered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The last seat has ended, or nobody came.
    Empty,
    ByHost,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub(crate) enum Followed {
    /// A line of the log, and where it stands.
    Entry(Line, Cursor),
    /// A line that stands in no log, or in none that can be read again.
    Line(Line),
    /// A message of his own is at its place.
    Own(Said),
    /// So many messages of others are lost to him.
    Gap(u64),
}

/// Where a reader is, and which of his own messages he hasn't met in the log yet.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) next: Cursor,
    /// What one read of a connection brought, at most.
    pub(crate) unmet: VecDeque<Said>,
}

/// What was done, and the place in the log behind which it is answered.
pub(crate) type Ordered<T> = Result<(T, u64), Refusal>;

impl Room {
    fn new(code: RoomCode, is_lobby: bool, shared: Arc<Shared>) -> Room {
        let state = State {
            log: Log::new(shared.config.history, HISTORY_BYTES),
            members: Members::default(),
            wake_up: WakeUp::default(),
            locked: false,
            closed: None,
            unentered: None,
            entered: is_lobby,
        };
        Room { code, is_lobby, shared, backlog: AtomicUsize::new(0), state: Mutex::new(state) }
    }

    /// Does something under the room's lock; wakes whom it concerns after the lock is given back.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, due) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let result = change(&mut state);
            state.log.shrink_backlog(ROOM_BACKLOG_BYTES);
            self.account(&state);
            (result, state.wake_up.take_due())
        };
        due.wake();
        result
    }

    fn account(&self, state: &State) {
        let (now, before) = (state.log.backlog(), self.backlog.load(Ordering::Relaxed));
        if now != before {
            self.backlog.store(now, Ordering::Relaxed);
            self.shared.backlog.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Counts an empty room for its creator, and lets it go if nobody comes.
    fn await_people(self: &Arc<Room>, unentered: Unentered, at: Instant) {
        let ending = Ending::Room(Arc::downgrade(self));
        let appointment = self.shared.timetable.add(at, ending);
        self.change(|state| state.unentered = Some((unentered, appointment)));
    }

    /// Closes the room if nobody has entered it.
    fn give_up(&self) -> bool {
        self.change(|state| {
            let nobody_came = !state.entered && state.closed.is_none();
            if nobody_came {
                state.close(Closed::Empty);
            }
            nobody_came
        })
    }

    fn was_entered(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).entered
    }

    fn join(&self, name: Name, latest: usize, pass_lock: bool) -> Result<Joined, Refusal> {
        self.change(|state| {
            if state.closed.is_some() {
                return Err(Refusal::NoSuchRoom);
            }
            if state.locked && !pass_lock {
                return Err(Refusal::RoomLocked);
            }
            if state.members.is_taken(&name) {
                return Err(Refusal::NameTaken);
            }
            if state.members.seats() >= self.shared.config.max_members {
                return Err(Refusal::RoomFull);
            }
            if let Some((_, appointment)) = state.unentered.take() {
                self.shared.timetable.call_off(appointment);
            }
            state.entered = true;
            let joined = Event::Joined { name: name.as_str().into() };
            let generation = state.members.next_generation();
            state.publish_presence(&joined, generation);
            let cursor = state.log.enter();
            let key = state.members.add(name, generation, cursor);
            if state.members.host.is_none() && !self.is_lobby {
                state.members.host = Some(key.slot);
            }
            let first = (cursor.id + 1).saturating_sub(latest as u64);
            let lines = state.log.kept(first, cursor.id).map(|(_, line)| line.clone()).collect();
            Ok(Joined { key, cursor, members: state.members.seats(), lines })
        })
    }

    fn resume(&self, token: &TokenHash, last_id: u64) -> Result<Retaken, Refusal> {
        self.change(|state| {
            if state.closed.is_some() {
                return Err(Refusal::NoSuchRoom);
            }
            let slot = state.members.slot_of_token(token).ok_or(Refusal::BadToken)?;
            if last_id > state.log.last_id() {
                return Err(Refusal::BadId);
            }
            let generation = state.members.next_generation();
            let members = state.members.seats();
            let State { log, members: all, wake_up, .. } = state;
            let member = all.get_mut(slot).ok_or(Refusal::BadToken)?;
            match std::mem::replace(&mut member.presence, Presence::Here(log.end())) {
                Presence::Here(cursor) => log.leave(cursor),
                Presence::Held { expiry, .. } => self.shared.timetable.call_off(expiry),
                Presence::Out(_) => {}
            }
            let cursor = log.enter();
            member.generation = generation;
            wake_up.stay_awake(member.ticket.take());
            wake_up.wake(member.waker.take());

            let first = log.first_kept().max(last_id + 1);
            let mut lines = Vec::new();
            if first > last_id + 1 {
                lines.push(Line::of(&Event::Gap { messages: first - last_id - 1 }));
            }
            lines.extend(log.kept(first, cursor.id).map(|(_, line)| line.clone()));
            let tells = std::mem::take(&mut member.mailbox);
            self.shared.forget_tells(&tells);
            let tells = tells.into_iter().filter(|private| private.notice.is_none());
            lines.extend(tells.map(|tell| tell.line));
            let key = SeatKey { slot, generation };
            Ok(Retaken {
                key,
                cursor,
                name: member.name.clone(),
                members,
                lines,
                said: member.said,
            })
        })
    }

    /// Ends the seat of a connection, or holds it. True if the room went with it.
    fn leave(self: &Arc<Room>, key: SeatKey, how: &Ended, visit: Visit) -> bool {
        self.change(|state| {
            if state.seat(key).is_err() {
                return state.forget_out(key);
            }
            let reason = match *how {
                Ended::Silently => return state.forget(key.slot),
                Ended::Left(reason) => reason,
            };
            let may_hold = matches!(reason, LeftReason::Eof | LeftReason::Lost);
            if may_hold && self.hold_seat(state, key, visit) {
                return false;
            }
            self.end_seat(state, key.slot, reason, key.generation)
        })
    }

    /// Keeps the seat of a connection that is gone, if it is armed.
    fn hold_seat(self: &Arc<Room>, state: &mut State, key: SeatKey, visit: Visit) -> bool {
        let Some(member) = state.members.get_mut(key.slot) else { return false };
        let Some(hold) = &member.hold else { return false };
        let at = Instant::now() + Duration::from_secs(hold.seconds);
        let expiry = self.shared.timetable.add(at, Ending::Seat(Arc::downgrade(self), key));
        let held = Presence::Held { expiry, _visit: visit };
        // Presence during a break isn't told, so notices go; what somebody said stays.
        member.mailbox.retain(|private| private.notice.is_none());
        member.waker = None;
        state.wake_up.stay_awake(member.ticket.take());
        if let Presence::Here(cursor) = std::mem::replace(&mut member.presence, held) {
            state.log.leave(cursor);
        }
        true
    }

    /// Ends a held seat that nobody resumed. True if the room went with it.
    fn expire(&self, key: SeatKey) -> bool {
        self.change(|state| {
            let held = |member: &mut Member| matches!(member.presence, Presence::Held { .. });
            let expired = state.seat(key).is_ok_and(held);
            expired && self.end_seat(state, key.slot, LeftReason::Lost, NOBODY)
        })
    }

    fn end_seat(&self, state: &mut State, slot: usize, reason: LeftReason, author: u64) -> bool {
        let Some(member) = state.members.get(slot) else { return false };
        let left = Line::of(&Event::Left { name: member.name.as_str().into(), reason });
        self.send_out(state, slot, Bye::new(ByeReason::Closed));
        state.members.free(slot);
        if state.members.seats() == 0 && !self.is_lobby {
            state.close(Closed::Empty);
            return true;
        }
        state.publish_line(left, author);
        self.find_host(state);
        false
    }

    /// Takes a member out; what he sat on stays until his connection has learned why.
    fn send_out(&self, state: &mut State, slot: usize, bye: Bye<'static>) -> Option<Presence> {
        let before = state.members.send_out(slot, bye)?;
        if let Presence::Here(cursor) = before {
            state.log.leave(cursor);
        }
        let member = state.members.get_mut(slot)?;
        self.shared.forget_tells(&std::mem::take(&mut member.mailbox));
        state.wake_up.stay_awake(member.ticket.take());
        state.wake_up.wake(member.waker.take());
        Some(before)
    }

    /// The host after the host is who has been seated longest.
    fn find_host(&self, state: &mut State) {
        if state.members.host.is_none() && !self.is_lobby {
            state.members.host = state.members.eldest();
            if let Some(slot) = state.members.host {
                let text = "You are the host now: LOCK, UNLOCK, KICK, MUTE, UNMUTE, CLOSE.";
                state.notify(slot, NoticeKind::Host, text);
            }
        }
    }

    fn publish(&self, key: SeatKey, texts: &[Text<'_>]) -> Result<Vec<Said>, Refusal> {
        self.change(|state| {
            let member = state.seat(key)?;
            if member.muted {
                return Err(Refusal::Muted);
            }
            member.said += texts.len() as u64;
            let (name, ticket) = (member.name.clone(), member.ticket.take());
            // Who speaks is awake: his own message need not wake him.
            state.wake_up.stay_awake(ticket);
            let said = texts.iter().map(|text| {
                let (id, time) = state.log.next_message(self.shared.config.clock.now());
                let (name, text) = (name.as_str().into(), text.as_str().into());
                let line = Line::of(&Event::Msg { id, time, name, text });
                state.log.push_message(line, key.generation);
                Said { id, time }
            });
            let said = said.collect();
            state.wake_up.wake_everybody();
            Ok(said)
        })
    }

    fn tell(&self, key: SeatKey, to: &Name, text: Text<'_>) -> Ordered<Name> {
        self.change(|state| {
            let member = state.seat(key)?;
            if member.muted {
                return Err(Refusal::Muted);
            }
            let from = member.name.clone();
            let slot = state.find_other(key, to)?;
            let (_, time) = state.log.next_message(self.shared.config.clock.now());
            let (name, text) = (from.as_str().into(), text.as_str().into());
            let line = Line::of(&Event::Tell { time, name, text });
            let State { members, wake_up, log, .. } = state;
            let member = members.get_mut(slot).ok_or(Refusal::NoSuchUser)?;
            let over_all = self.shared.tell_bytes.load(Ordering::Relaxed) + line.len();
            if member.tells_waiting() >= TELLS_WAITING || over_all > TELL_BYTES {
                return Err(Refusal::SlowDown);
            }
            self.shared.tell_bytes.fetch_add(line.len(), Ordering::Relaxed);
            let place = log.end().place;
            member.mailbox.push_back(Private { place, line, notice: None });
            wake_up.wake(member.waker.clone());
            Ok((member.name.clone(), place))
        })
    }

    fn who(&self, key: SeatKey) -> Ordered<Vec<User>> {
        self.change(|state| {
            state.seat(key)?;
            let user = |(slot, member): (usize, &Member)| User {
                name: member.name.clone(),
                held: !member.is_here(),
                host: state.members.host == Some(slot),
                muted: member.muted,
            };
            let users = state.members.in_order().into_iter().map(user).collect();
            Ok((users, state.log.end().place))
        })
    }

    fn history(&self, key: SeatKey, range: HistoryRange) -> Ordered<Vec<Line>> {
        self.change(|state| {
            state.seat(key)?;
            let log = &state.log;
            let all = |n: Option<u64>| n.unwrap_or(u64::MAX);
            let (first, last) = match range {
                HistoryRange::Latest { n } => {
                    ((log.last_id() + 1).saturating_sub(all(n)), log.last_id())
                }
                HistoryRange::Before { id, n } => {
                    let last = id.saturating_sub(1).min(log.last_id());
                    ((last + 1).saturating_sub(all(n)), last)
                }
                HistoryRange::After { id, n } => {
                    let first = id.saturating_add(1).max(log.first_kept());
                    (first, first.saturating_add(all(n)).saturating_sub(1))
                }
            };
            let lines = log.kept(first, last).map(|(_, line)| line.clone()).collect();
            Ok((lines, log.end().place))
        })
    }

    fn rename(&self, key: SeatKey, name: Name) -> Ordered<Name> {
        self.change(|state| {
            let old = state.seat(key)?.name.clone();
            // Either key may be of one's own name and the other of somebody else's.
            let taken = state.members.slots_of(&name).any(|slot| slot != key.slot);
            if taken {
                return Err(Refusal::NameTaken);
            }
            if name != old {
                let (old, new) = (old.as_str().into(), name.as_str().into());
                state.publish_presence(&Event::Renamed { old, new }, key.generation);
                state.members.rename(key.slot, name.clone());
            }
            Ok((name, state.log.end().place))
        })
    }

    fn arm(&self, key: SeatKey, token: TokenHash, seconds: u64) -> Ordered<()> {
        self.change(|state| {
            state.seat(key)?;
            state.members.arm(key.slot, token, seconds);
            Ok(((), state.log.end().place))
        })
    }

    fn lock(&self, key: SeatKey, operator: bool, locked: bool) -> Ordered<()> {
        self.change(|state| {
            state.rule(key, operator)?;
            if state.locked != locked {
                state.locked = locked;
                let (kind, text) = match locked {
                    true => {
                        (NoticeKind::Locked, "The host has locked the room: nobody else can join.")
                    }
                    false => (NoticeKind::Unlocked, "The host has unlocked the room."),
                };
                state.publish_presence(&Event::Notice { kind, text: text.into() }, key.generation);
            }
            Ok(((), state.log.end().place))
        })
    }

    fn kick(&self, key: SeatKey, operator: bool, name: &Name, reason: &str) -> Ordered<Name> {
        self.change(|state| {
            state.rule(key, operator)?;
            let slot = state.find_other(key, name)?;
            let name = state.members.get(slot).ok_or(Refusal::NoSuchUser)?.name.clone();
            let mut bye = Bye::new(ByeReason::Kicked);
            if !reason.is_empty() {
                bye.text = reason.to_owned().into();
            }
            if let Some(Presence::Held { expiry, .. }) = self.send_out(state, slot, bye) {
                self.shared.timetable.call_off(expiry);
                state.members.free(slot);
            }
            let left = Event::Left { name: name.as_str().into(), reason: LeftReason::Kicked };
            state.publish_presence(&left, key.generation);
            self.find_host(state);
            Ok((name, state.log.end().place))
        })
    }

    fn mute(&self, key: SeatKey, operator: bool, name: &Name, muted: bool) -> Ordered<Name> {
        self.change(|state| {
            state.rule(key, operator)?;
            let slot = state.find_other(key, name)?;
            let member = state.members.get_mut(slot).ok_or(Refusal::NoSuchUser)?;
            let name = member.name.clone();
            if member.muted != muted {
                member.muted = muted;
                match muted {
                    true => state.notify(
                        slot,
                        NoticeKind::Muted,
                        "The host has muted you; you may listen.",
                    ),
                    false => state.notify(slot, NoticeKind::Unmuted, "You may speak again."),
                }
            }
            Ok((name, state.log.end().place))
        })
    }

    fn close(&self, key: SeatKey, operator: bool) -> Result<(), Refusal> {
        self.change(|state| {
            state.rule(key, operator)?;
            if self.is_lobby {
                return Err(Refusal::Lobby);
            }
            state.close(Closed::ByHost);
            Ok(())
        })
    }

    /// The end of the log.
    fn end(&self, key: SeatKey) -> Ordered<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seat(key)?;
        Ok(((), state.log.end().place))
    }

    /// Takes what follows a reader's cursor, [`FOLLOW_LINES`] at most; what stands before it he
    /// has. If there is nothing, `waker` is called when there is.
    fn follow(
        &self,
        key: SeatKey,
        reading: &mut Reading,
        waker: Option<&Waker>,
        out: &mut VecDeque<Followed>,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seat(key)?;
        let State { log, members, wake_up, .. } = &mut *state;
        let Some(member) = members.get_mut(key.slot) else { return Ok(()) };
        loop {
            if let Presence::Here(cursor) = &mut member.presence {
                log.advance(*cursor, reading.next);
                *cursor = reading.next;
            }
            let before = reading.next;
            let mut letters = Letters { mailbox: &mut member.mailbox, shared: &self.shared };
            reading.take(log, key.generation, &mut letters, out);
            // What is one's own doing passes unseen.
            if reading.next == before || !out.is_empty() {
                break;
            }
        }
        if out.is_empty()
            && let Some(waker) = waker
        {
            if !member.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                member.waker = Some(waker.clone());
            }
            wake_up.sleep(&mut member.ticket, waker);
        }
        self.account(&state);
        Ok(())
    }

    /// Takes bytes from under the readers furthest behind.
    fn shrink_backlog(&self, by: usize) {
        self.change(|state| state.log.shrink_backlog(state.log.backlog().saturating_sub(by)));
    }
}

impl Shared {
    /// Counts what waited in a mailbox as delivered or gone.
    fn forget_tells<'a>(&self, privates: impl IntoIterator<Item = &'a Private>) {
        let tells = privates.into_iter().filter(|private| private.notice.is_none());
        let bytes: usize = tells.map(|tell| tell.line.len()).sum();
        self.tell_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.backlog.fetch_sub(*self.backlog.get_mut(), Ordering::Relaxed);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.forget_tells(state.members.mailboxes());
    }
}

/// The author of what nobody did.
const NOBODY: u64 = 0;

/// A seat that was just taken.
struct Joined {
    key: SeatKey,
    cursor: Cursor,
    members: usize,
    lines: Vec<Line>,
}

/// A seat that was just taken again.
struct Retaken {
    key: SeatKey,
    cursor: Cursor,
    name: Name,
    members: usize,
    lines: Vec<Line>,
    said: u64,
}

impl State {
    /// The member whose key this is, if it still opens the seat.
    fn seat(&mut self, key: SeatKey) -> Result<&mut Member, Refusal> {
        if self.closed.is_some() {
            return Err(Refusal::Gone(Bye::new(ByeReason::Closed)));
        }
        let member = self.members.get_mut(key.slot);
        match member.filter(|member| member.generation == key.generation) {
            None => Err(Refusal::Gone(Bye::new(ByeReason::Replaced))),
            Some(Member { presence: Presence::Out(bye), .. }) => Err(Refusal::Gone(bye.clone())),
            Some(member) => Ok(member),
        }
    }

    /// Whether this member may act as host.
    fn rule(&mut self, key: SeatKey, operator: bool) -> Result<(), Refusal> {
        self.seat(key)?;
        match operator || self.members.host == Some(key.slot) {
            true => Ok(()),
            false => Err(Refusal::NotHost),
        }
    }

    /// Another member, by name.
    fn find_other(&self, key: SeatKey, name: &Name) -> Result<usize, Refusal> {
        match self.members.slot_of(name) {
            None => Err(Refusal::NoSuchUser),
            Some(slot) if slot == key.slot => Err(Refusal::Yourself),
            Some(slot) => Ok(slot),
        }
    }

    fn publish_presence(&mut self, event: &Event<'_>, author: u64) {
        self.publish_line(Line::of(event), author);
    }

    fn publish_line(&mut self, line: Line, author: u64) {
        self.log.push_presence(line, author);
        self.wake_up.wake_everybody();
    }

    fn notify(&mut self, slot: usize, kind: NoticeKind, text: &'static str) {
        if let Some(member) = self.members.get_mut(slot) {
            let place = self.log.end().place;
            member.notify(place, kind, Line::of(&Event::Notice { kind, text: text.into() }));
            self.wake_up.wake(member.waker.clone());
        }
    }

    fn close(&mut self, why: Closed) {
        self.closed = Some(why);
        self.unentered = None;
        self.wake_up.wake_everybody();
    }

    /// Lets go of the slot of a member who is out, once his connection has learned why.
    fn forget_out(&mut self, key: SeatKey) -> bool {
        let member = self.members.get(key.slot);
        let is_out = |member: &&Member| {
            member.generation == key.generation && matches!(member.presence, Presence::Out(_))
        };
        if member.filter(is_out).is_some() {
            self.members.free(key.slot);
        }
        false
    }

    /// Stops counting a reader without telling anybody: the server is stopping.
    fn forget(&mut self, slot: usize) -> bool {
        if let Some(member) = self.members.get_mut(slot) {
            self.wake_up.stay_awake(member.ticket.take());
            member.waker = None;
        }
        false
    }
}

/// A mailbox on its way to its owner.
struct Letters<'a> {
    mailbox: &'a mut VecDeque<Private>,
    shared: &'a Shared,
}

impl Letters<'_> {
    /// Delivers what belongs before the line at `place`.
    fn deliver(&mut self, place: u64, out: &mut VecDeque<Followed>) {
        while let Some(private) = self.mailbox.pop_front_if(|private| private.place <= place) {
            self.shared.forget_tells([&private]);
            out.push_back(Followed::Line(private.line));
        }
    }
}

impl Reading {
    /// Takes what follows, with one's own messages as [`Followed::Own`].
    fn take(
        &mut self,
        log: &Log,
        author: u64,
        letters: &mut Letters<'_>,
        out: &mut VecDeque<Followed>,
    ) {
        if log.tail_from(self.next).is_none() {
            let (missed, kept, to) = log.catch_up(self.next);
            self.tell_gap(missed, out);
            for (id, line) in kept {
                let followed = self.meet(id).map_or(Followed::Line(line.clone()), Followed::Own);
                out.push_back(followed);
            }
            self.next = to;
        }
        let Some(entries) = log.tail_from(self.next) else { return };
        for entry in entries.take(FOLLOW_LINES) {
            let at = self.next;
            letters.deliver(at.place, out);
            self.next = Cursor { place: at.place + 1, id: entry.id };
            if entry.author != author {
                out.push_back(Followed::Entry(entry.line.clone(), at));
            } else if entry.is_message {
                out.extend(self.meet(entry.id).map(Followed::Own));
            }
        }
        letters.deliver(self.next.place, out);
    }

    /// One's own message with this id, if it is the next that wasn't met.
    fn meet(&mut self, id: u64) -> Option<Said> {
        self.unmet.pop_front_if(|said| said.id == id)
    }

    /// Tells what was missed in parts, around one's own messages: every one of those is met.
    fn tell_gap(&mut self, missed: Missed, out: &mut VecDeque<Followed>) {
        let mut from = missed.first;
        let mut own = 0;
        while let Some(said) = self.unmet.pop_front_if(|said| said.id < missed.end) {
            if said.id > from {
                out.push_back(Followed::Gap(said.id - from));
            }
            out.push_back(Followed::Own(said));
            (from, own) = (said.id + 1, own + 1);
        }
        // Who lost only presence lines is told so.
        if missed.end > from || own == 0 {
            out.push_back(Followed::Gap(missed.end - from));
        }
    }
}
