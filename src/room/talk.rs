//! What members do while they are in a room.

use std::sync::atomic::Ordering;

use tokio::sync::OwnedSemaphorePermit;

use super::members::{Member, Private};
use super::{Before, Ordered, Promise, Refusal, Room, Said, SeatKey, State, Undo, Unmet};
use crate::metrics::Limit;
use crate::protocol::limits::{TELL_BYTES, TELLS_WAITING};
use crate::protocol::{Event, HistoryRange, Line, Name, Text, TokenHash, User};

impl Room {
    /// `place` is the one in the keeper's queue, if there is a keeper.
    pub(super) fn publish(
        &self,
        key: SeatKey,
        texts: &[Text<'_>],
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Vec<Unmet>, Refusal> {
        self.change(|state| {
            // First, because a clock of the program's own may panic: then nothing is half done.
            let now = self.shared.config.clock.now();
            let member = state.seat(key)?;
            if member.muted {
                return Err(Refusal::Muted);
            }
            self.shared.may_order()?;
            member.said += texts.len() as u64;
            self.speak();
            let name = member.name.clone();
            // Who speaks is awake: his own message need not wake him.
            let mut ticket = std::mem::take(&mut member.ticket);
            state.sleepers.remove(&mut ticket);
            let mut buffer = String::with_capacity(128);
            let said = texts.iter().map(|text| {
                let (id, time) = state.next_message(now);
                let (name, text) = (name.as_str().into(), text.as_str().into());
                let line = Line::encode(&Event::Msg { id, time, name, text }, &mut buffer);
                let promise = state.order_message(id, line, key);
                Unmet { said: Said { id, time }, promise }
            });
            let said = said.collect();
            state.seat_changed(key.slot);
            state.queue_in(place);
            state.sleepers.rouse();
            Ok(said)
        })
    }

    pub(super) fn tell(&self, key: SeatKey, to: &Name, text: Text<'_>) -> Ordered<Name> {
        self.change(|state| {
            let member = state.seat(key)?;
            if member.muted {
                return Err(Refusal::Muted);
            }
            let from = member.name.clone();
            let slot = state.find_other(key, to)?;
            let (_, time) = state.next_message(self.shared.config.clock.now());
            let (name, text) = (from.as_str().into(), text.as_str().into());
            let line = Line::of(&Event::Tell { time, name, text });
            let place = state.end_place();
            let State { members, woken, .. } = state;
            let member = members.get_mut(slot).ok_or(Refusal::NoSuchUser)?;
            let over_all = self.shared.tell_bytes.load(Ordering::Relaxed) + line.len();
            if member.tells_waiting() >= TELLS_WAITING || over_all > TELL_BYTES {
                self.shared.metrics.reached(Limit::Tells);
                return Err(Refusal::SlowDown);
            }
            self.shared.tell_bytes.fetch_add(line.len(), Ordering::Relaxed);
            member.mailbox.push_back(Private { place, line, notice: None });
            woken.extend(member.waker.clone());
            Ok((member.name.clone(), Promise::at(place)))
        })
    }

    /// Where the promise is broken, some of it has been taken back since.
    pub(super) fn who(&self, key: SeatKey) -> Ordered<Vec<User>> {
        self.change(|state| {
            state.seat(key)?;
            let user = |(slot, member): (usize, &Member)| User {
                name: member.name.clone(),
                held: !member.is_here(),
                host: state.members.host == Some(slot),
                muted: member.muted,
            };
            let users = state.members.in_order().into_iter().map(user).collect();
            match state.is_in_doubt() {
                true => Ok((users, state.promise(key.generation, Undo::Nothing))),
                false => Ok((users, Promise::at(state.end_place()))),
            }
        })
    }

    pub(super) fn history(&self, key: SeatKey, range: HistoryRange) -> Ordered<Vec<Line>> {
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
            // What is still to be kept comes behind it.
            Ok((lines, Promise::at(log.end().place)))
        })
    }

    pub(super) fn rename(&self, key: SeatKey, name: Name) -> Ordered<Name> {
        self.change(|state| {
            let old = state.seat(key)?.name.clone();
            if state.is_taken(&name, Some(key.slot)) {
                return Err(Refusal::NameTaken);
            }
            if name == old {
                return Ok((name, Promise::at(state.end_place())));
            }
            self.shared.may_order()?;
            let event = Event::Renamed { old: old.as_str().into(), new: name.as_str().into() };
            state.publish_presence(&event, key.generation);
            state.members.rename(key.slot, name.clone());
            state.seat_changed(key.slot);
            let entered = state.members.get(key.slot).map_or(0, Member::entered);
            let undo = Undo::Seat { slot: key.slot, entered, before: Before::Called(old) };
            Ok((name, state.promise(key.generation, undo)))
        })
    }

    pub(super) fn arm(&self, key: SeatKey, token: TokenHash, seconds: u64) -> Ordered<()> {
        self.change(|state| {
            let member = state.seat(key)?;
            self.shared.may_order()?;
            let (entered, hold) = (member.entered(), member.hold.take());
            state.members.arm(key.slot, token, seconds);
            state.seat_changed(key.slot);
            let undo = Undo::Seat { slot: key.slot, entered, before: Before::Armed(hold) };
            Ok(((), state.promise(key.generation, undo)))
        })
    }

    /// The end of what is ordered.
    pub(super) fn end(&self, key: SeatKey) -> Result<((), u64), Refusal> {
        let mut state = self.lock_state();
        state.seat(key)?;
        Ok(((), state.end_place()))
    }
}
