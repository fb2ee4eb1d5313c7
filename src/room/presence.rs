//! Coming and going: who joins, breaks off, comes back, leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::log::Cursor;
use super::members::{Held, Member, Presence};
use super::timetable::Ending;
use super::{Closed, Ended, NOBODY, Refusal, Room, SeatKey, State, Undo, Visit};
use crate::metrics::Limit;
use crate::protocol::{Bye, ByeReason, Event, LeftReason, Line, Name, TokenHash};

/// A seat that somebody has taken, for the first time or again.
pub(super) struct Taken {
    pub(super) key: SeatKey,
    pub(super) cursor: Cursor,
    pub(super) name: Name,
    /// Seats of the room, this one included.
    pub(super) members: usize,
    /// What stands before the reply.
    pub(super) lines: Vec<Line>,
    /// Messages accepted from this seat.
    pub(super) said: u64,
    replay: Replay,
    /// What is told is known only when the room has kept all up to this place.
    pub(super) unkept: Option<u64>,
}

/// What somebody who takes a seat is told of what was said before.
#[derive(Debug, Clone, Copy)]
pub(super) enum Replay {
    /// So many messages, or all that are kept.
    Latest(usize),
    /// All after this id, and what was told him alone.
    After(u64),
}

impl Taken {
    fn new(key: SeatKey, cursor: Cursor, name: Name, replay: Replay) -> Taken {
        let (members, lines, said) = (0, Vec::new(), 0);
        Taken { key, cursor, name, members, lines, said, replay, unkept: None }
    }
}

impl Room {
    pub(super) fn join(
        &self,
        name: Name,
        latest: usize,
        pass_lock: bool,
    ) -> Result<Taken, Refusal> {
        self.change(|state| {
            if state.closed.is_some() {
                return Err(Refusal::NoSuchRoom);
            }
            self.may_arrive(state)?;
            if state.locked && !pass_lock {
                return Err(Refusal::RoomLocked);
            }
            if state.is_taken(&name, None) {
                return Err(Refusal::NameTaken);
            }
            if state.members.seats() >= self.shared.config.max_members {
                self.shared.metrics.reached(Limit::MaxMembers);
                return Err(Refusal::RoomFull);
            }
            if let Some(appointment) = state.unentered.take() {
                self.shared.timetable.call_off(appointment);
            }
            state.entered = true;
            let joined = Event::Joined { name: name.as_str().into() };
            let generation = state.members.next_generation();
            state.publish_presence(&joined, generation);
            let cursor = state.log.enter();
            let key = state.members.add(name.clone(), generation, cursor);
            if state.members.host.is_none() && !self.is_lobby {
                state.members.host = Some(key.slot);
            }
            let mut taken = Taken::new(key, cursor, name, Replay::Latest(latest));
            self.look_back(state, &mut taken);
            Ok(taken)
        })
    }

    pub(super) fn resume(&self, token: &TokenHash, last_id: u64) -> Result<Taken, Refusal> {
        self.change(|state| {
            if state.closed.is_some() {
                return Err(Refusal::NoSuchRoom);
            }
            let slot = state.members.slot_of_token(token).ok_or(Refusal::BadToken)?;
            self.may_arrive(state)?;
            if last_id > state.log.last_id() {
                return Err(Refusal::BadId);
            }
            let generation = state.members.next_generation();
            let State { log, members: all, sleepers, woken, .. } = state;
            let member = all.get_mut(slot).ok_or(Refusal::BadToken)?;
            match std::mem::replace(&mut member.presence, Presence::Here(log.end())) {
                Presence::Here(cursor) => log.leave(cursor),
                Presence::Held(held) => self.shared.timetable.call_off(held.expiry),
                Presence::Out(_) => {}
            }
            let cursor = log.enter();
            member.generation = generation;
            member.outlet = None;
            sleepers.remove(&mut member.ticket);
            woken.extend(member.waker.take());
            let key = SeatKey { slot, generation };
            let name = member.name.clone();
            let mut taken = Taken::new(key, cursor, name, Replay::After(last_id));
            self.look_back(state, &mut taken);
            Ok(taken)
        })
    }

    /// Replays what was said before a seat was taken, or says when that will be known: not before
    /// all is kept that was ordered until then, a former connection's messages among it.
    fn look_back(&self, state: &mut State, taken: &mut Taken) {
        let end = state.end_place();
        match end > taken.cursor.place {
            true => taken.unkept = Some(end),
            false => self.replay(state, taken),
        }
    }

    /// Replays it when it is known.
    pub(super) fn arrive(&self, taken: &mut Taken) -> Result<(), Refusal> {
        self.change(|state| {
            let end = state.log.end();
            if let Presence::Here(cursor) = &mut state.seat(taken.key)?.presence {
                let before = std::mem::replace(cursor, end);
                state.log.advance(before, end);
            }
            taken.cursor = end;
            // A name that could not be kept is another again.
            taken.name = state.seat(taken.key)?.name.clone();
            self.replay(state, taken);
            Ok(())
        })
    }

    fn replay(&self, state: &mut State, taken: &mut Taken) {
        taken.members = state.members.seats();
        let newest = taken.cursor.id;
        let last_id = match taken.replay {
            Replay::Latest(messages) => newest.saturating_sub(messages as u64),
            Replay::After(last_id) => last_id,
        };
        let kept = state.log.kept(last_id + 1, newest);
        taken.lines.extend(kept.map(|(_, line)| line.clone()));
        if matches!(taken.replay, Replay::After(_)) {
            self.replay_own(state, newest - last_id, taken);
        }
    }

    /// What only he is told who comes back after so many messages.
    fn replay_own(&self, state: &mut State, messages: u64, taken: &mut Taken) {
        let Some(member) = state.members.get_mut(taken.key.slot) else { return };
        let messages = messages - taken.lines.len() as u64;
        if messages > 0 {
            taken.lines.insert(0, Line::of(&Event::Gap { messages }));
        }
        let tells = std::mem::take(&mut member.mailbox);
        self.shared.forget_tells(&tells);
        let tells = tells.into_iter().filter(|private| private.notice.is_none());
        taken.lines.extend(tells.map(|tell| tell.line));
        taken.said = member.said;
    }

    /// Ends the seat of a connection, or holds it. True if the room went with it.
    pub(super) fn leave(self: &Arc<Room>, key: SeatKey, how: &Ended, visit: Visit) -> bool {
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
        let held = Presence::Held(Box::new(Held { expiry, _visit: visit }));
        // Presence during a break isn't told, so notices go; what somebody said stays.
        member.mailbox.retain(|private| private.notice.is_none());
        member.waker = None;
        member.outlet = None;
        state.sleepers.remove(&mut member.ticket);
        if let Presence::Here(cursor) = std::mem::replace(&mut member.presence, held) {
            state.log.leave(cursor);
        }
        true
    }

    /// Ends a held seat that nobody resumed. True if the room went with it.
    pub(super) fn expire(&self, key: SeatKey) -> bool {
        self.change(|state| {
            let held = |member: &mut Member| matches!(member.presence, Presence::Held(_));
            let expired = state.seat(key).is_ok_and(held);
            expired && self.end_seat(state, key.slot, LeftReason::Lost, NOBODY)
        })
    }

    fn end_seat(&self, state: &mut State, slot: usize, reason: LeftReason, author: u64) -> bool {
        let Some(member) = state.members.get(slot) else { return false };
        let is_kept = member.hold.is_some();
        let left = Line::of(&Event::Left { name: member.name.as_str().into(), reason });
        self.send_out(state, slot, Bye::new(ByeReason::Closed));
        state.members.free(slot);
        if state.members.seats() == 0 && !self.is_lobby {
            state.close(Closed::Empty);
            state.promise(author, Undo::Nothing);
            return true;
        }
        state.publish_line(left, author);
        self.find_host(state);
        if is_kept {
            state.promise(author, Undo::Nothing);
        }
        false
    }

    /// Takes a member out; what he sat on stays until his connection has learned why.
    pub(super) fn send_out(
        &self,
        state: &mut State,
        slot: usize,
        bye: Bye<'static>,
    ) -> Option<Presence> {
        state.seat_ends(slot);
        let before = state.members.send_out(slot, bye)?;
        if let Presence::Here(cursor) = before {
            state.log.leave(cursor);
        }
        let member = state.members.get_mut(slot)?;
        self.shared.forget_tells(&std::mem::take(&mut member.mailbox));
        state.sleepers.remove(&mut member.ticket);
        state.woken.extend(member.waker.take());
        Some(before)
    }
}
