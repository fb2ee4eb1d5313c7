//! What a room hands over to be kept, and gets back after a restart.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::keeping::Keeping;
use super::members::Member;
use super::{Room, State};
use crate::protocol::limits::STORE_QUEUE;
use crate::protocol::{Line, Name, RoomCode, Time, TokenHash};

/// Who keeps rooms: the sending side of his queue.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Runs of messages wait for a place in the queue. What is else handed over is one record a
    /// connection or seat, because its reply waits, or because the seat has ended. `None`: nothing
    /// is kept any more. Its lock may be taken while a room's is held; it takes no other.
    queue: Mutex<Option<Sender<Record>>>,
    pub(super) places: Arc<Semaphore>,
    /// Names rooms for as long as they live; a code may be given out again.
    next_room: AtomicU64,
}

/// What one change of a room leaves to be kept: all of it or nothing.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) room: Arc<Room>,
    pub(super) epoch: u64,
    /// Behind the last line that is seen once this is kept.
    pub(super) place: u64,
    pub(crate) number: u64,
    pub(crate) head: Head,
    /// The room has ended: only that is to be kept.
    pub(crate) is_gone: bool,
    /// With their ids, in order.
    pub(crate) messages: Vec<(u64, Line)>,
    /// Armed seats that have changed, and the numbers of those that have ended.
    pub(crate) seats: Vec<KeptSeat>,
    pub(crate) ended: Vec<u64>,
    /// `seats` are all that there are.
    pub(crate) all_seats: bool,
    pub(super) _place_in_queue: Option<OwnedSemaphorePermit>,
    /// Whether it is known what became of it.
    pub(super) is_settled: bool,
}

/// What is kept of a room besides its messages and seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) code: RoomCode,
    pub(crate) is_lobby: bool,
    pub(crate) locked: bool,
    /// The number of the host's seat if it is armed, else 0.
    pub(crate) host: u64,
    /// How many seats are armed.
    pub(crate) seats: u64,
    /// What has a smaller id need not be kept.
    pub(crate) first_id: u64,
    pub(crate) last_id: u64,
    pub(crate) last_time: Option<Time>,
}

/// An armed seat as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptSeat {
    /// Who entered earlier has the smaller number.
    pub(crate) number: u64,
    pub(crate) name: Name,
    pub(crate) token: TokenHash,
    pub(crate) seconds: u64,
    pub(crate) muted: bool,
    pub(crate) said: u64,
}

/// A room as it was kept.
#[derive(Debug, Clone)]
pub(crate) struct KeptRoom {
    pub(crate) number: u64,
    pub(crate) head: Head,
    /// Without holes up to `head.last_id`; an empty line stands for a message that is lost.
    pub(crate) messages: VecDeque<Line>,
    pub(crate) seats: Vec<KeptSeat>,
}

/// When something that was ordered may be answered, and how it ended then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Promise {
    pub(crate) place: u64,
    pub(super) fate: Option<Fate>,
}

/// Whether it was kept, once that is known.
pub(super) type Fate = Arc<OnceLock<bool>>;

impl Keeper {
    /// A keeper, and the end of the queue that he reads. The rooms he has known have numbers below
    /// `next_room`.
    pub(crate) fn new(next_room: u64) -> (Keeper, Receiver<Record>) {
        let (sender, records) = channel();
        let places = Arc::new(Semaphore::new(STORE_QUEUE));
        let (queue, next_room) = (Mutex::new(Some(sender)), AtomicU64::new(next_room));
        (Keeper { queue, places, next_room }, records)
    }

    /// Takes no more; what is in the queue is still kept.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(super) fn found(&self) -> Keeping {
        Keeping::new(self.next_room.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn keep(&self, record: Record) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let left = match &*queue {
            Some(queue) => queue.send(record).err().map(|unsent| unsent.0),
            None => Some(record),
        };
        // Who hands it over has the room's lock, and settles it.
        left.map(|mut record| record.is_settled = true).is_none()
    }
}

impl Record {
    /// Whether something before it could not be kept: then it must not be kept either.
    pub(crate) fn is_void(&self) -> bool {
        let state = self.room.lock_state();
        state.keeping.as_ref().is_none_or(|keeping| keeping.epoch != self.epoch)
    }

    /// Lets everybody see it.
    pub(crate) fn kept(mut self) {
        self.is_settled = true;
        self.room.apply(|state| {
            if let Some(keeping) = &mut state.keeping
                && keeping.epoch == self.epoch
            {
                keeping.outstanding -= 1;
                let is_last = keeping.outstanding == 0;
                state.reveal(if is_last { u64::MAX } else { self.place });
            }
        });
    }

    /// Takes it back, with all that the room has ordered since. Returns the room, which must be
    /// handed over again.
    pub(crate) fn not_kept(self) -> Arc<Room> {
        self.room.clone()
    }
}

/// What nobody has kept is taken back.
impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_settled && !self.is_void() {
            self.room.apply(State::take_back);
        }
    }
}

impl Promise {
    /// Something that was done, and is answered behind a place.
    pub(super) fn at(place: u64) -> Promise {
        Promise { place, fate: None }
    }

    /// Whether it could not be kept. It is known once its place is reached.
    pub(crate) fn is_broken(&self) -> bool {
        self.fate.as_ref().is_some_and(|fate| fate.get() == Some(&false))
    }
}

impl Member {
    /// What is kept of the seat, if it is armed.
    pub(super) fn kept(&self) -> Option<KeptSeat> {
        let hold = self.hold.as_ref()?;
        Some(KeptSeat {
            number: self.entered(),
            name: self.name.clone(),
            token: hold.token,
            seconds: hold.seconds,
            muted: self.muted,
            said: self.said,
        })
    }
}
