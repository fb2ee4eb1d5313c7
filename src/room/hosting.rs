//! What the host of a room does, or an operator in his place.

use super::members::Presence;
use super::{Before, Closed, Ordered, Refusal, Room, SeatKey, State, Undo};
use crate::protocol::{Bye, ByeReason, Event, LeftReason, Name, NoticeKind};

impl Room {
    /// The host after the host is who has been seated longest.
    pub(super) fn find_host(&self, state: &mut State) {
        if state.members.host.is_none() && !self.is_lobby {
            state.members.host = state.members.eldest();
            if let Some(slot) = state.members.host {
                let text = "You are the host now: LOCK, UNLOCK, KICK, MUTE, UNMUTE, CLOSE.";
                state.notify(slot, NoticeKind::Host, text);
            }
        }
    }

    pub(super) fn lock(&self, key: SeatKey, operator: bool, locked: bool) -> Ordered<()> {
        self.change(|state| {
            state.rule(key, operator)?;
            self.shared.may_order()?;
            let mut undo = Undo::Nothing;
            if state.locked != locked {
                state.locked = locked;
                undo = Undo::Locked(!locked);
                let (kind, text) = match locked {
                    true => {
                        (NoticeKind::Locked, "The host has locked the room: nobody else can join.")
                    }
                    false => (NoticeKind::Unlocked, "The host has unlocked the room."),
                };
                state.publish_presence(&Event::Notice { kind, text: text.into() }, key.generation);
            }
            Ok(((), state.promise(key.generation, undo)))
        })
    }

    pub(super) fn kick(
        &self,
        key: SeatKey,
        operator: bool,
        name: &Name,
        reason: &str,
    ) -> Ordered<Name> {
        self.change(|state| {
            state.rule(key, operator)?;
            let slot = state.find_other(key, name)?;
            let name = state.members.get(slot).ok_or(Refusal::NoSuchUser)?.name.clone();
            let mut bye = Bye::new(ByeReason::Kicked);
            if !reason.is_empty() {
                bye.text = reason.to_owned().into();
            }
            if let Some(Presence::Held(held)) = self.send_out(state, slot, bye) {
                self.shared.timetable.call_off(held.expiry);
                state.members.free(slot);
            }
            let left = Event::Left { name: name.as_str().into(), reason: LeftReason::Kicked };
            state.publish_presence(&left, key.generation);
            self.find_host(state);
            Ok((name, state.promise(key.generation, Undo::Nothing)))
        })
    }

    pub(super) fn mute(
        &self,
        key: SeatKey,
        operator: bool,
        name: &Name,
        muted: bool,
    ) -> Ordered<Name> {
        self.change(|state| {
            state.rule(key, operator)?;
            let slot = state.find_other(key, name)?;
            self.shared.may_order()?;
            let member = state.members.get_mut(slot).ok_or(Refusal::NoSuchUser)?;
            let name = member.name.clone();
            let is_change = member.muted != muted;
            let mut undo = Undo::Nothing;
            if is_change {
                member.muted = muted;
                let before = Before::Muted(!muted, member.take_muting());
                undo = Undo::Seat { slot, entered: member.entered(), before };
                state.seat_changed(slot);
            }
            let promise = state.promise(key.generation, undo);
            if is_change {
                // The notice stands behind the promise: it is read when that is kept.
                match muted {
                    true => state.notify(
                        slot,
                        NoticeKind::Muted,
                        "The host has muted you; you may listen.",
                    ),
                    false => state.notify(slot, NoticeKind::Unmuted, "You may speak again."),
                }
            }
            Ok((name, promise))
        })
    }

    pub(super) fn close(&self, key: SeatKey, operator: bool) -> Ordered<()> {
        self.change(|state| {
            state.rule(key, operator)?;
            if self.is_lobby {
                return Err(Refusal::Lobby);
            }
            state.close(Closed::ByHost);
            Ok(((), state.promise(key.generation, Undo::Nothing)))
        })
    }
}

impl State {
    /// Whether this member may act as host.
    fn rule(&mut self, key: SeatKey, operator: bool) -> Result<(), Refusal> {
        self.seat(key)?;
        match operator || self.members.host == Some(key.slot) {
            true => Ok(()),
            false => Err(Refusal::NotHost),
        }
    }
}
