//! Who waits for a room's log.

use std::collections::VecDeque;

/// The slots of members who have all that the log had when they fell asleep, those first who have
/// waited longest.
///
/// It lives under the room's lock, beside what they wait for: who found nothing under that lock
/// stands here before anything can be added.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    /// `None`: he has left.
    queue: VecDeque<Option<u32>>,
    /// One less than the number of the first ticket in the queue.
    gone: u64,
    /// At the front of the queue there may be something for so many.
    due: usize,
}

/// Where a member stands in the queue; 0 is nowhere. It counts until he is taken out at the front: a member who
/// is awake keeps his place, and nobody stands here twice.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ticket(u64);

impl Sleepers {
    /// Puts a member into the queue, if he isn't in it.
    pub(crate) fn add(&mut self, ticket: &mut Ticket, slot: usize) {
        if ticket.0 <= self.gone {
            self.queue.push_back(Some(slot as u32));
            *ticket = Ticket(self.gone + self.queue.len() as u64);
        }
    }

    /// Takes a member out for whom nothing is to be done any more.
    pub(crate) fn remove(&mut self, ticket: &mut Ticket) {
        let index = std::mem::take(ticket).0.checked_sub(self.gone + 1);
        if let Some(place) = index.and_then(|index| self.queue.get_mut(index as usize)) {
            *place = None;
        }
    }

    /// There is something new for everybody.
    pub(crate) fn rouse(&mut self) {
        self.due = self.queue.len();
    }

    pub(crate) fn are_due(&self) -> bool {
        self.due > 0
    }

    /// Takes out the first for whom there may be something.
    pub(crate) fn next_due(&mut self) -> Option<usize> {
        while self.due > 0 {
            self.due -= 1;
            self.gone += 1;
            if let Some(slot) = self.queue.pop_front().flatten() {
                return Some(slot as usize);
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > CAPACITY_KEPT {
            self.queue = VecDeque::new();
        }
        None
    }

    /// Puts back whom [`next_due`](Sleepers::next_due) took out last.
    pub(crate) fn put_back(&mut self, slot: usize) {
        self.due += 1;
        self.gone -= 1;
        self.queue.push_front(Some(slot as u32));
    }
}

/// An empty queue gives its memory back if it had room for more members than this.
const CAPACITY_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_the_queue_stands_in_it_once() {
        let mut sleepers = Sleepers::default();
        let mut tickets = [Ticket::default(); 3];
        for (slot, ticket) in tickets.iter_mut().enumerate() {
            sleepers.add(ticket, slot);
            sleepers.add(ticket, slot);
        }
        assert_eq!(sleepers.next_due(), None);
        sleepers.remove(&mut tickets[1]);
        sleepers.rouse();
        assert_eq!([(); 4].map(|()| sleepers.next_due()), [Some(0), Some(2), None, None]);
        // An old ticket takes nobody else out.
        let mut other = Ticket::default();
        sleepers.add(&mut other, 7);
        sleepers.remove(&mut tickets[0]);
        sleepers.rouse();
        assert_eq!(sleepers.next_due(), Some(7));
    }

    #[test]
    fn who_is_put_back_is_the_next() {
        let mut sleepers = Sleepers::default();
        let mut tickets = [Ticket::default(); 2];
        sleepers.add(&mut tickets[0], 0);
        sleepers.add(&mut tickets[1], 1);
        sleepers.rouse();
        assert_eq!(sleepers.next_due(), Some(0));
        sleepers.put_back(0);
        assert_eq!(sleepers.next_due(), Some(0));
        // Behind the one who still is due, and not due himself.
        sleepers.add(&mut tickets[0], 0);
        assert_eq!([sleepers.next_due(), sleepers.next_due()], [Some(1), None]);
        sleepers.rouse();
        assert_eq!(sleepers.next_due(), Some(0));
    }
}
