//! What members do while they are in a room.

use std::sync::atomic::Ordering;

use super::members::{Member, Private};
use super::{Ordered, Refusal, Room, Said, SeatKey, State};
use crate::protocol::limits::{TELL_BYTES, TELLS_WAITING};
use crate::protocol::{Event, HistoryRange, Line, Name, Text, TokenHash, User};

impl Room {
    pub(super) fn publish(&self, key: SeatKey, texts: &[Text<'_>]) -> Result<Vec<Said>, Refusal> {
        self.change(|state| {
            let member = state.seat(key)?;
            if member.muted {
                return Err(Refusal::Muted);
            }
            member.said += texts.len() as u64;
            let name = member.name.clone();
            // Who speaks is awake: his own message need not wake him.
            let mut ticket = std::mem::take(&mut member.ticket);
            state.sleepers.remove(&mut ticket);
            let mut buffer = String::with_capacity(128);
            let said = texts.iter().map(|text| {
                let (id, time) = state.log.next_message(self.shared.config.clock.now());
                let (name, text) = (name.as_str().into(), text.as_str().into());
                let line = Line::encode(&Event::Msg { id, time, name, text }, &mut buffer);
                state.log.push_message(line, key.generation);
                Said { id, time }
            });
            let said = said.collect();
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
            let (_, time) = state.log.next_message(self.shared.config.clock.now());
            let (name, text) = (from.as_str().into(), text.as_str().into());
            let line = Line::of(&Event::Tell { time, name, text });
            let State { members, woken, log, .. } = state;
            let member = members.get_mut(slot).ok_or(Refusal::NoSuchUser)?;
            let over_all = self.shared.tell_bytes.load(Ordering::Relaxed) + line.len();
            if member.tells_waiting() >= TELLS_WAITING || over_all > TELL_BYTES {
                return Err(Refusal::SlowDown);
            }
            self.shared.tell_bytes.fetch_add(line.len(), Ordering::Relaxed);
            let place = log.end().place;
            member.mailbox.push_back(Private { place, line, notice: None });
            woken.extend(member.waker.clone());
            Ok((member.name.clone(), place))
        })
    }

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
            Ok((users, state.log.end().place))
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
            Ok((lines, log.end().place))
        })
    }

    pub(super) fn rename(&self, key: SeatKey, name: Name) -> Ordered<Name> {
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

    pub(super) fn arm(&self, key: SeatKey, token: TokenHash, seconds: u64) -> Ordered<()> {
        self.change(|state| {
            state.seat(key)?;
            state.members.arm(key.slot, token, seconds);
            Ok(((), state.log.end().place))
        })
    }

    /// The end of the log.
    pub(super) fn end(&self, key: SeatKey) -> Ordered<()> {
        let mut state = self.lock_state();
        state.seat(key)?;
        Ok(((), state.log.end().place))
    }
}
