//! What ends by itself, and when.

use std::collections::BTreeMap;
use std::sync::{PoisonError, Weak};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::sync::Mutex;
use super::{Room, SeatKey, Unentered};
use crate::protocol::RoomCode;

/// Something that ends when its time has come, unless that was called off.
#[derive(Debug)]
pub(crate) enum Ending {
    /// A held seat that nobody resumed.
    Seat(Weak<Room>, SeatKey),
    /// A room that nobody entered, which counts for its maker's address until then.
    Room { room: Weak<Room>, _counts: Unentered },
    /// The rest of a code that was in use.
    Rest(RoomCode),
}

/// Names one entry of the timetable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Appointment {
    at: Instant,
    number: u64,
}

/// All endings in the order of their times. Its lock may be taken while a room's is held; it
/// takes no other.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    endings: Mutex<Endings>,
    /// The first ending has become another one.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Endings {
    by_time: BTreeMap<Appointment, Ending>,
    next_number: u64,
}

impl Timetable {
    pub(crate) fn add(&self, at: Instant, ending: Ending) -> Appointment {
        let mut endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
        let appointment = Appointment { at, number: endings.next_number };
        endings.next_number += 1;
        endings.by_time.insert(appointment, ending);
        if endings.by_time.first_key_value().is_some_and(|(first, _)| *first == appointment) {
            self.changed.notify_one();
        }
        appointment
    }

    pub(crate) fn call_off(&self, appointment: Appointment) {
        let mut endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = endings.by_time.remove(&appointment);
        drop(endings);
        drop(ending);
    }

    /// Takes the first ending whose time has come.
    pub(crate) fn take_due(&self, now: Instant) -> Option<Ending> {
        let mut endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
        let first = endings.by_time.first_entry()?;
        (first.key().at <= now).then(|| first.remove())
    }

    /// Waits until something is due.
    pub(crate) async fn due(&self) {
        loop {
            let first = {
                let endings = self.endings.lock().unwrap_or_else(PoisonError::into_inner);
                endings.by_time.first_key_value().map(|(appointment, _)| appointment.at)
            };
            match first {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::select! {
                    biased;
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => return,
                },
                None => self.changed.notified().await,
            }
        }
    }
}
