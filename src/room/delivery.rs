//! Delivery: what is new in a room's log goes to those who sleep.
//!
//! Whose session has lent its outlet is written to at once, by whoever made the news. All others
//! are woken, and follow the log by themselves.

use std::sync::Arc;
use std::task::Waker;

use tokio::runtime::Handle;

use super::log::{Cursor, Log};
use super::members::Presence;
use super::outlet::Outlet;
use super::{Room, SeatKey, Shared, State};
use crate::protocol::Framing;
use crate::protocol::limits::{BATCH_BYTES, DELIVERERS, SLEEPERS_AT_ONCE};

/// A few sleepers who are served together.
#[derive(Debug, Default)]
struct Round {
    batch: Batch,
    claims: Vec<Claim>,
    wakers: Vec<Waker>,
    /// Counted among the room's deliverers.
    is_task: bool,
}

/// A sleeper who is written to. He isn't in the queue meanwhile.
#[derive(Debug)]
struct Claim {
    key: SeatKey,
    outlet: Arc<Outlet>,
    framing: Framing,
    /// Bytes written; `None`: he is awake, and goes on by himself.
    written: Option<usize>,
}

/// The lines that follow a place in the log, put together once for all who stand there.
#[derive(Debug, Default)]
struct Batch {
    from: Cursor,
    /// Bytes of each line without its ending, and the place behind it. A silent place has no
    /// line.
    lines: Vec<(Option<usize>, Cursor)>,
    /// The same lines in each framing that somebody needs.
    bytes: [Vec<u8>; Framing::COUNT],
}

impl Room {
    /// Delivers what is new. A few sleepers are served at once; where there are many, a task goes
    /// on, and ends when nobody is due.
    pub(super) fn deliver(&self) {
        let mut round = Round::default();
        if !self.begin(&mut round) {
            return;
        }
        round.run();
        if !self.finish(&mut round) {
            return;
        }
        match (Handle::try_current(), self.this.upgrade()) {
            (Ok(runtime), Some(room)) => {
                round.is_task = self.add_deliverer();
                if round.is_task {
                    runtime.spawn(room.keep_delivering(round));
                }
            }
            _ => self.deliver_all(round),
        }
    }

    async fn keep_delivering(self: Arc<Room>, mut round: Round) {
        while self.begin(&mut round) {
            round.run();
            tokio::task::yield_now().await;
        }
    }

    fn deliver_all(&self, mut round: Round) {
        while self.begin(&mut round) {
            round.run();
        }
    }

    /// Finishes a round, and begins the next one. False if nobody is due.
    fn begin(&self, round: &mut Round) -> bool {
        let mut state = self.lock_state();
        round.settle(&mut state, &self.shared);
        round.claim(&mut state);
        self.account(&state);
        let is_over = round.claims.is_empty() && round.wakers.is_empty();
        if is_over && round.is_task {
            // Under the lock: who finds enough deliverers at work can rely on them.
            state.deliverers -= 1;
        }
        !is_over
    }

    /// Finishes a round. False if nobody else is due.
    fn finish(&self, round: &mut Round) -> bool {
        let mut state = self.lock_state();
        round.settle(&mut state, &self.shared);
        self.account(&state);
        let is_due = state.sleepers.are_due();
        drop(state);
        round.wake();
        is_due
    }

    fn add_deliverer(&self) -> bool {
        let mut state = self.lock_state();
        let may_add = state.deliverers < DELIVERERS;
        state.deliverers += usize::from(may_add);
        may_add
    }
}

impl Round {
    /// Takes the next few sleepers out of the queue who stand at the same place of the log.
    fn claim(&mut self, state: &mut State) {
        self.batch.begin(Cursor::default());
        let State { log, members, sleepers, .. } = state;
        while self.claims.len() + self.wakers.len() < SLEEPERS_AT_ONCE
            && let Some(slot) = sleepers.next_due()
        {
            let Some(member) = members.get_mut(slot) else { continue };
            let Presence::Here(cursor) = member.presence else { continue };
            match &member.outlet {
                // What waits for him alone he puts in its place by himself.
                Some((outlet, framing)) if member.mailbox.is_empty() => {
                    if self.claims.is_empty() {
                        self.batch.begin(cursor);
                    } else if self.batch.from != cursor {
                        sleepers.put_back(slot);
                        break;
                    }
                    if self.batch.prepare(log, *framing) {
                        let key = SeatKey { slot, generation: member.generation };
                        let (outlet, framing) = (outlet.clone(), *framing);
                        self.claims.push(Claim { key, outlet, framing, written: None });
                    } else {
                        self.wakers.extend(member.waker.clone());
                    }
                }
                _ => self.wakers.extend(member.waker.clone()),
            }
        }
    }

    /// Writes to those who were claimed, and wakes the others. No lock may be held.
    fn run(&mut self) {
        let Round { batch, claims, .. } = self;
        for Claim { outlet, framing, written, .. } in claims {
            let reached = |written| batch.reached(written, *framing);
            *written = outlet.write(batch.from, batch.bytes(*framing), reached);
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Notes how far the claimed have come. Who has all sleeps on.
    fn settle(&mut self, state: &mut State, shared: &Shared) {
        let State { log, members, sleepers, .. } = state;
        let from = self.batch.from;
        let was_written = !self.claims.is_empty();
        for Claim { key, framing, written, .. } in self.claims.drain(..) {
            let Some(written) = written else { continue };
            let (next, _) = self.batch.reached(written, framing);
            shared.metrics.bytes_out.add(written as u64);
            shared.metrics.deliveries.add(next.place - from.place);
            let member = members.get_mut(key.slot);
            let Some(member) = member.filter(|member| member.generation == key.generation) else {
                continue;
            };
            let sleeps_on = written == self.batch.bytes(framing).len();
            if !sleeps_on {
                self.wakers.extend(member.waker.clone());
            }
            // Whoever has woken meanwhile may have gone on.
            if let Presence::Here(cursor) = &mut member.presence
                && *cursor == from
            {
                log.advance(from, next);
                *cursor = next;
                if sleeps_on {
                    sleepers.add(&mut member.ticket, key.slot);
                }
            }
        }
        // What has come meanwhile they don't have. Who was woken looks by himself: to rouse him
        // again for nothing would never end.
        if was_written && self.batch.to() != log.end() {
            sleepers.rouse();
        }
    }
}

impl Batch {
    fn begin(&mut self, from: Cursor) {
        self.from = from;
        self.lines.clear();
        self.bytes.iter_mut().for_each(Vec::clear);
    }

    /// Behind the last line.
    fn to(&self) -> Cursor {
        self.lines.last().map_or(self.from, |(_, behind)| *behind)
    }

    fn bytes(&self, framing: Framing) -> &[u8] {
        &self.bytes[framing.index()]
    }

    /// Puts the lines together in a framing. False if there are none, or some are kept no more.
    fn prepare(&mut self, log: &Log, framing: Framing) -> bool {
        let bytes = &mut self.bytes[framing.index()];
        if !bytes.is_empty() {
            return true;
        }
        let Some(entries) = log.tail_from(self.from) else { return false };
        let is_first = self.lines.is_empty();
        // All framings have the same lines.
        let most = if is_first { usize::MAX } else { self.lines.len() };
        for (place, entry) in (self.from.place..).zip(entries.take(most)) {
            if is_first && bytes.len() > BATCH_BYTES {
                break;
            }
            let line = (!entry.is_silent).then(|| entry.line.content());
            if let Some(line) = line {
                let (header, ending) = framing.around(line.len());
                bytes.extend_from_slice(header.as_slice());
                bytes.extend_from_slice(line);
                bytes.extend_from_slice(ending.as_bytes());
            }
            if is_first {
                let behind = Cursor { place: place + 1, id: entry.id };
                self.lines.push((line.map(<[u8]>::len), behind));
            }
        }
        !self.lines.is_empty()
    }

    /// How far somebody has come with so many bytes, and what is left of the line that he has a
    /// part of.
    fn reached(&self, written: usize, framing: Framing) -> (Cursor, &[u8]) {
        let bytes = self.bytes(framing);
        if written == bytes.len() {
            return (self.to(), &[]);
        }
        let (mut next, mut end) = (self.from, 0);
        for (line, behind) in &self.lines {
            if end >= written {
                break;
            }
            if let Some(line) = *line {
                let (header, ending) = framing.around(line);
                end += header.as_slice().len() + line + ending.len();
            }
            next = *behind;
        }
        (next, &bytes[written..end.max(written)])
    }
}
