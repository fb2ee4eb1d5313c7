//! Following a room: what comes after a cursor.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::log::{Cursor, Log, Missed};
use super::members::{Presence, Private};
use super::{Outlet, Promise, Refusal, Room, Said, SeatKey, Shared, State};
use crate::protocol::limits::FOLLOW_LINES;
use crate::protocol::{Framing, Line};

/// What a reader gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Followed<'a> {
    /// A line of the log, and where it stands.
    Entry(&'a Line, Cursor),
    /// A line that stands in no log, or in none that can be read again.
    Line(&'a Line),
    /// A message of his own is at its place.
    Own(Said),
    /// A message of his own could not be kept: nobody has seen it.
    Unkept,
    /// So many messages of others are lost to him.
    Gap(u64),
}

/// How somebody is found again who sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bed<'a> {
    pub(crate) waker: &'a Waker,
    /// What the room may write to meanwhile, with the framing of the lines.
    pub(crate) outlet: Option<(&'a Arc<Outlet>, Framing)>,
}

/// Where a reader is, and which of his own messages he hasn't met in the log yet.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) next: Cursor,
    /// What one read of a connection brought, at most.
    pub(crate) unmet: VecDeque<Unmet>,
}

/// A message of one's own that was ordered.
#[derive(Debug)]
pub(crate) struct Unmet {
    pub(crate) said: Said,
    pub(crate) promise: Promise,
}

impl Room {
    /// Takes what follows a reader's cursor, up to the place `end` and [`FOLLOW_LINES`] at most;
    /// what stands before the cursor he has. False if there is nothing.
    /// `out` is called under the room's lock. If there is nothing, he can sleep
    /// until there is.
    pub(super) fn follow(
        &self,
        key: SeatKey,
        reading: &mut Reading,
        end: u64,
        bed: Option<Bed<'_>>,
        mut out: impl FnMut(Followed<'_>),
    ) -> Result<bool, Refusal> {
        let mut state = self.lock_state();
        state.seat(key)?;
        let State { log, members, sleepers, keeping, .. } = &mut *state;
        let Some(member) = members.get_mut(key.slot) else { return Ok(false) };
        let is_something = Cell::new(false);
        let mut out = |followed: Followed<'_>| {
            is_something.set(true);
            out(followed);
        };
        loop {
            if let Presence::Here(cursor) = &mut member.presence {
                log.advance(*cursor, reading.next);
                *cursor = reading.next;
            }
            let before = reading.next;
            let mut letters = Letters { mailbox: &mut member.mailbox, shared: &self.shared };
            reading.take(log, key.generation, end, &mut letters, &mut out);
            // What is one's own doing passes unseen.
            if reading.next == before || is_something.get() {
                break;
            }
        }
        if !is_something.get()
            && let Some(Bed { waker, outlet }) = bed
        {
            if !member.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                member.waker = Some(waker.clone());
            }
            // His own lines, which only he can tell from those of others, may still be to come.
            let is_author =
                keeping.as_ref().is_some_and(|keeping| keeping.is_author(key.generation));
            let outlet = outlet.filter(|_| !is_author);
            match (outlet, &mut member.outlet) {
                (None, known) => *known = None,
                (Some((_, framing)), Some((_, known))) => *known = framing,
                (Some((outlet, framing)), known) => *known = Some((outlet.clone(), framing)),
            }
            if let Some((outlet, _)) = outlet {
                outlet.lend(reading.next);
            }
            sleepers.add(&mut member.ticket, key.slot);
        }
        self.account(&state);
        Ok(is_something.get())
    }
}

/// A mailbox on its way to its owner.
struct Letters<'a> {
    mailbox: &'a mut VecDeque<Private>,
    shared: &'a Shared,
}

impl Letters<'_> {
    /// Delivers what belongs before the line at `place`.
    fn deliver(&mut self, place: u64, out: &mut impl FnMut(Followed<'_>)) {
        while let Some(private) = self.mailbox.pop_front_if(|private| private.place <= place) {
            self.shared.forget_tells([&private]);
            out(Followed::Line(&private.line));
        }
    }
}

impl Reading {
    /// Takes what follows, with one's own messages as [`Followed::Own`].
    fn take(
        &mut self,
        log: &Log,
        author: u64,
        end: u64,
        letters: &mut Letters<'_>,
        out: &mut impl FnMut(Followed<'_>),
    ) {
        if log.tail_from(self.next).is_none() {
            let (missed, kept, to) = log.catch_up(self.next);
            // Of the places he passes, those that are no message's were presence lines.
            let lost_presence = to.place - self.next.place > to.id - self.next.id;
            self.tell_gap(missed, lost_presence, out);
            for (id, line) in kept {
                self.tell_unkept(out);
                out(self.meet(id).map_or(Followed::Line(line), Followed::Own));
            }
            self.next = to;
        }
        let Some(entries) = log.tail_from(self.next) else { return };
        for entry in entries.take(FOLLOW_LINES) {
            let at = self.next;
            if at.place >= end {
                break;
            }
            letters.deliver(at.place, out);
            self.next = Cursor { place: at.place + 1, id: entry.id };
            if entry.is_silent {
                if entry.author == author {
                    self.tell_unkept(out);
                }
            } else if entry.author != author {
                out(Followed::Entry(&entry.line, at));
            } else if entry.is_message {
                self.tell_unkept(out);
                self.meet(entry.id).map(Followed::Own).into_iter().for_each(&mut *out);
            }
        }
        letters.deliver(self.next.place, out);
    }

    /// One's own message with this id, if it is the next that wasn't met.
    fn meet(&mut self, id: u64) -> Option<Said> {
        self.unmet.pop_front_if(|unmet| unmet.said.id == id).map(|unmet| unmet.said)
    }

    /// Tells of one's own messages, next in order, that could not be kept.
    fn tell_unkept(&mut self, out: &mut impl FnMut(Followed<'_>)) {
        while self.unmet.pop_front_if(|unmet| unmet.promise.is_broken()).is_some() {
            out(Followed::Unkept);
        }
    }

    /// Tells what was missed in parts, around one's own messages: every one of those is met.
    fn tell_gap(
        &mut self,
        missed: Missed,
        lost_presence: bool,
        out: &mut impl FnMut(Followed<'_>),
    ) {
        let mut from = missed.first;
        let mut told = false;
        self.tell_unkept(out);
        while let Some(Unmet { said, .. }) =
            self.unmet.pop_front_if(|unmet| unmet.said.id < missed.end)
        {
            if said.id > from {
                out(Followed::Gap(said.id - from));
                told = true;
            }
            out(Followed::Own(said));
            from = said.id + 1;
            self.tell_unkept(out);
        }
        // Who lost only presence lines is told so.
        if missed.end > from || lost_presence && !told {
            out(Followed::Gap(missed.end - from));
        }
    }
}
