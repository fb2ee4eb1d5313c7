//! Who is in a room.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use slab::Slab;

use super::KeptSeat;
use super::log::Cursor;
use super::outlet::Outlet;
use super::sleepers::Ticket;
use super::timetable::Appointment;
use super::visitors::Visit;
use crate::protocol::{Bye, Framing, Line, Name, NoticeKind, TokenHash};

/// Names a seat and the connection that sits on it. When another connection takes the seat over,
/// the generation changes and the old key opens nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeatKey {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: Name,
    /// Counts entries: who entered earlier has the smaller number.
    entered: u64,
    pub(crate) generation: u64,
    pub(crate) presence: Presence,
    pub(crate) muted: bool,
    /// Messages accepted from this seat since it was taken.
    pub(crate) said: u64,
    /// What a broken connection leaves behind, if the seat is armed.
    pub(crate) hold: Option<Box<Hold>>,
    /// What waits for this member alone, in the order of the places in the log where it belongs.
    pub(crate) mailbox: VecDeque<Private>,
    pub(crate) waker: Option<Waker>,
    /// What the room writes to while he sleeps, and how; `None`: he must be woken.
    pub(crate) outlet: Option<(Arc<Outlet>, Framing)>,
    pub(crate) ticket: Ticket,
}

#[derive(Debug)]
pub(crate) enum Presence {
    /// Connected; his reader stands at the cursor.
    Here(Cursor),
    /// The connection is gone, the seat is kept until the appointment.
    Held(Box<Held>),
    /// No member any more. The slot is kept until the connection has learned why.
    Out(Box<Bye<'static>>),
}

/// A seat that waits for its member.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) expiry: Appointment,
    /// It counts for the address that the member came from.
    pub(crate) _visit: Visit,
}

/// An armed seat: how long it is held, and the hash of the token that opens it.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) token: TokenHash,
    pub(crate) seconds: u64,
}

/// A line for one member.
#[derive(Debug)]
pub(crate) struct Private {
    /// It comes before the log's line of this place.
    pub(crate) place: u64,
    pub(crate) line: Line,
    /// Of a notice at most one of a kind waits: the latest counts. `None`: a `TELL`.
    pub(crate) notice: Option<NoticeKind>,
}

/// The members of a room, with the indexes that find them. A member is found by his slot, by
/// either key of his name, or by his token.
#[derive(Debug, Default)]
pub(crate) struct Members {
    slots: Slab<Member>,
    names: BTreeMap<Box<str>, usize>,
    tokens: BTreeMap<TokenHash, usize>,
    /// Members here or held; slots of those who are out don't count.
    seats: usize,
    generations: u64,
    /// The slot of the host.
    pub(crate) host: Option<usize>,
}

impl Members {
    pub(crate) fn seats(&self) -> usize {
        self.seats
    }

    /// Who has this name, or one that reads like it.
    pub(crate) fn slot_of(&self, name: &Name) -> Option<usize> {
        self.slots_of(name).next()
    }

    /// The same for each key of the name: they can be of several members.
    pub(crate) fn slots_of(&self, name: &Name) -> impl Iterator<Item = usize> {
        name.keys().filter_map(|key| self.names.get(&key).copied())
    }

    pub(crate) fn slot_of_token(&self, token: &TokenHash) -> Option<usize> {
        self.tokens.get(token).copied()
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Member> {
        self.slots.get(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Member> {
        self.slots.get_mut(slot)
    }

    /// Seats somebody. The name must be free.
    pub(crate) fn add(&mut self, name: Name, generation: u64, cursor: Cursor) -> SeatKey {
        let keys = name.keys();
        // Most members come at once and stay: room for a few more, not for as many again.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / 4 + 2);
        }
        let slot = self.slots.insert(Member {
            name,
            entered: generation,
            generation,
            presence: Presence::Here(cursor),
            muted: false,
            said: 0,
            hold: None,
            mailbox: VecDeque::new(),
            waker: None,
            outlet: None,
            ticket: Ticket::default(),
        });
        self.names.extend(keys.map(|key| (key, slot)));
        self.seats += 1;
        SeatKey { slot, generation }
    }

    /// A number that no connection in this room has had.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.generations += 1;
        self.generations
    }

    /// Seats somebody again whose seat was kept. He is away until he resumes it.
    pub(crate) fn restore(&mut self, kept: KeptSeat, expiry: impl FnOnce(SeatKey) -> Appointment) {
        let key = self.add(kept.name, kept.number, Cursor::default());
        self.generations = self.generations.max(kept.number);
        self.arm(key.slot, kept.token, kept.seconds);
        if let Some(member) = self.slots.get_mut(key.slot) {
            (member.muted, member.said) = (kept.muted, kept.said);
            let held = Held { expiry: expiry(key), _visit: Visit::exempt() };
            member.presence = Presence::Held(Box::new(held));
        }
    }

    /// The slot of the seat with this number.
    pub(crate) fn slot_of_seat(&self, number: u64) -> Option<usize> {
        self.seated().find(|(_, member)| member.entered == number).map(|(slot, _)| slot)
    }

    /// Ends a seat: nobody finds it any more. Who still sits on it is told `bye`.
    pub(crate) fn send_out(&mut self, slot: usize, bye: Bye<'static>) -> Option<Presence> {
        self.forget_token(slot);
        let member = self.slots.get_mut(slot)?;
        let before = std::mem::replace(&mut member.presence, Presence::Out(Box::new(bye)));
        for key in member.name.keys() {
            self.names.remove(&key);
        }
        self.seats -= 1;
        if self.host == Some(slot) {
            self.host = None;
        }
        Some(before)
    }

    /// Gives the slot back, once nobody holds a key to it.
    pub(crate) fn free(&mut self, slot: usize) {
        self.slots.try_remove(slot);
        if self.slots.is_empty() {
            *self = Members { generations: self.generations, ..Members::default() };
        }
    }

    pub(crate) fn rename(&mut self, slot: usize, name: Name) {
        if let Some(member) = self.slots.get_mut(slot) {
            let old = std::mem::replace(&mut member.name, name);
            for key in old.keys() {
                self.names.remove(&key);
            }
            self.names.extend(member.name.keys().map(|key| (key, slot)));
        }
    }

    /// Arms a seat.
    pub(crate) fn arm(&mut self, slot: usize, token: TokenHash, seconds: u64) {
        if let Some(member) = self.slots.get_mut(slot) {
            member.hold = Some(Box::new(Hold { token, seconds }));
            self.tokens.insert(token, slot);
        }
    }

    /// Takes it back.
    pub(crate) fn disarm(&mut self, slot: usize) {
        self.forget_token(slot);
    }

    /// The slots of armed seats.
    pub(crate) fn armed(&self) -> impl ExactSizeIterator<Item = usize> {
        self.tokens.values().copied()
    }

    /// The member of a slot, if it is still he who entered then.
    pub(crate) fn entered_as(&mut self, slot: usize, entered: u64) -> Option<&mut Member> {
        let member = self.slots.get_mut(slot).filter(|member| member.entered == entered);
        member.filter(|member| !matches!(member.presence, Presence::Out(_)))
    }

    fn forget_token(&mut self, slot: usize) {
        let member = self.slots.get_mut(slot);
        if let Some(hold) = member.and_then(|member| member.hold.take()) {
            self.tokens.remove(&hold.token);
        }
    }

    /// The slot of him who has been seated longest.
    pub(crate) fn eldest(&self) -> Option<usize> {
        self.seated().min_by_key(|(_, member)| member.entered).map(|(slot, _)| slot)
    }

    /// The members in order of entering, with their slots.
    pub(crate) fn in_order(&self) -> Vec<(usize, &Member)> {
        let mut members: Vec<_> = self.seated().collect();
        members.sort_unstable_by_key(|(_, member)| member.entered);
        members
    }

    /// What waits for anybody.
    pub(crate) fn mailboxes(&self) -> impl Iterator<Item = &Private> {
        self.slots.iter().flat_map(|(_, member)| &member.mailbox)
    }

    fn seated(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.slots.iter().filter(|(_, member)| !matches!(member.presence, Presence::Out(_)))
    }
}

impl Member {
    /// The number of his seat: who entered earlier has the smaller one.
    pub(crate) fn entered(&self) -> u64 {
        self.entered
    }

    /// Takes out what waits for him about being muted or not.
    pub(crate) fn take_muting(&mut self) -> Option<Private> {
        let is_muting = |private: &Private| {
            matches!(private.notice, Some(NoticeKind::Muted | NoticeKind::Unmuted))
        };
        let at = self.mailbox.iter().position(is_muting)?;
        self.mailbox.remove(at)
    }

    /// Puts a notice back that was taken out. Who is away isn't told.
    pub(crate) fn put_back(&mut self, notice: Private) {
        if self.is_here() {
            let at = self.mailbox.partition_point(|other| other.place < notice.place);
            self.mailbox.insert(at, notice);
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self.presence, Presence::Here(_))
    }

    pub(crate) fn tells_waiting(&self) -> usize {
        self.mailbox.iter().filter(|private| private.notice.is_none()).count()
    }

    /// Puts a notice into the mailbox in place of one of its kind. Who is away isn't told.
    pub(crate) fn notify(&mut self, place: u64, kind: NoticeKind, line: Line) {
        if self.is_here() {
            self.mailbox.retain(|private| private.notice != Some(kind));
            self.mailbox.push_back(Private { place, line, notice: Some(kind) });
        }
    }
}
