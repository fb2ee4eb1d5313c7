//! How a room wakes those who wait for its log.

use std::task::Waker;

/// The tasks that wait for a room's next line.
///
/// It lives under the room's lock, beside what they wait for: who found nothing under that lock
/// is on the list before anything can be added. Waking happens after the lock is given back, and
/// a task that has not run since its last wake-up is not on the list, so it isn't woken twice.
#[derive(Debug, Default)]
pub(crate) struct WakeUp {
    /// Counts how often the list was taken.
    round: u64,
    sleepers: Vec<Option<Waker>>,
    due: Vec<Waker>,
    everybody: bool,
}

/// Where a member's waker stands on the list of a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    round: u64,
    index: usize,
}

/// Wakers to call once the room's lock is given back.
#[must_use]
#[derive(Debug)]
pub(crate) struct Due {
    some: Vec<Waker>,
    all: Vec<Option<Waker>>,
}

impl WakeUp {
    /// Puts a member's waker on the list, once.
    pub(crate) fn sleep(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) {
        match ticket {
            Some(ticket) if ticket.round == self.round => {
                let place = &mut self.sleepers[ticket.index];
                if !place.as_ref().is_some_and(|known| known.will_wake(waker)) {
                    *place = Some(waker.clone());
                }
            }
            _ => {
                *ticket = Some(Ticket { round: self.round, index: self.sleepers.len() });
                self.sleepers.push(Some(waker.clone()));
            }
        }
    }

    /// Takes a member's waker off the list: he is awake, or gone.
    pub(crate) fn stay_awake(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket.filter(|ticket| ticket.round == self.round) {
            self.sleepers[ticket.index] = None;
        }
    }

    /// Everybody is to be woken.
    pub(crate) fn wake_everybody(&mut self) {
        self.everybody = true;
    }

    /// This one is to be woken, on the list or not.
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.due.extend(waker);
    }

    /// Whom to wake now.
    pub(crate) fn take_due(&mut self) -> Due {
        let some = std::mem::take(&mut self.due);
        let all = match std::mem::take(&mut self.everybody) {
            true => {
                self.round += 1;
                std::mem::take(&mut self.sleepers)
            }
            false => Vec::new(),
        };
        Due { some, all }
    }
}

impl Due {
    /// Wakes them. No lock may be held.
    pub(crate) fn wake(self) {
        self.some.into_iter().for_each(Waker::wake);
        self.all.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_sleeps_twice_is_woken_once_and_who_is_awake_not_at_all() {
        let counts: [Arc<Count>; 3] = Default::default();
        let mut wake_up = WakeUp::default();
        let mut tickets = [None; 3];
        for (count, ticket) in counts.iter().zip(&mut tickets) {
            let waker = Waker::from(count.clone());
            wake_up.sleep(ticket, &waker);
            wake_up.sleep(ticket, &waker);
        }
        wake_up.stay_awake(tickets[2]);
        wake_up.wake_everybody();
        wake_up.take_due().wake();
        // Nobody is on the new list.
        wake_up.stay_awake(tickets[0]);
        wake_up.wake_everybody();
        wake_up.take_due().wake();
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [1, 1, 0]);
    }
}
