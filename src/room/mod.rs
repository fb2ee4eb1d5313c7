//! Rooms: a room is a log, a member is a cursor in it. Knows no socket.
//!
//! Order of locks: the hub's rooms, then a room's state, then the timetable, the visitors or the
//! pen of an outlet.
//! No lock is held across an await.

mod delivery;
mod hosting;
mod hub;
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only a store reads records"))]
mod keeper;
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only a store reads records"))]
mod keeping;
mod log;
mod members;
mod outlet;
mod presence;
mod reading;
mod refusal;
#[cfg(all(test, feature = "schedules"))]
mod schedules;
mod seat;
mod sleepers;
mod sync;
mod talk;
mod timetable;
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only a store takes back"))]
mod undo;
mod visitors;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::task::Waker;

use tokio::time::Instant;

pub use hub::Hub;
use hub::WeakHub;
#[cfg(feature = "sqlite")]
pub(crate) use keeper::Record;
pub(crate) use keeper::{Head, Keeper, KeptRoom, KeptSeat, Promise};
use keeping::Keeping;
pub(crate) use log::Cursor;
use log::Log;
pub(crate) use members::SeatKey;
use members::{Member, Members, Presence, Private};
pub(crate) use outlet::{Outlet, Sink};
use reading::Bed;
pub(crate) use reading::{Followed, Reading, Unmet};
pub use refusal::Refusal;
pub(crate) use seat::{Ended, Entered};
pub use seat::{Said, Seat};
use sleepers::Sleepers;
use sync::{Mutex, MutexGuard};
use timetable::{Appointment, Ending, Timetable};
use undo::{Before, Undo};
pub(crate) use visitors::{Unentered, Visit, Visitors};

use crate::config::Config;
use crate::metrics::{Limit, Metrics};
use crate::protocol::limits::{
    HISTORY_BYTES, RESTART_HOLD, ROOM_BACKLOG_BYTES, TOTAL_BACKLOG_BYTES, TOTAL_UNKEPT_BYTES,
};
use crate::protocol::{Bye, ByeReason, Event, Line, Name, NoticeKind, RoomCode};

/// What all rooms of a hub share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) timetable: Timetable,
    pub(crate) metrics: Metrics,
    /// Bytes that wait in mailboxes.
    tell_bytes: AtomicUsize,
    /// Bytes that rooms keep for readers who are behind.
    backlog: AtomicUsize,
    /// Bytes of the histories of all rooms.
    history: AtomicUsize,
    /// Bytes that wait to be kept in all rooms.
    unkept: AtomicUsize,
    /// Bytes of replies that wait for those who don't read.
    replies: AtomicUsize,
    /// Runs of messages that were said in any room.
    spoken: AtomicU64,
    /// Where rooms are kept beyond the server's life; `None`: nowhere.
    keeper: Option<Keeper>,
    /// All rooms, for as long as there is a hub.
    hub: WeakHub,
}

/// One room.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) code: RoomCode,
    is_lobby: bool,
    /// For the tasks that deliver.
    this: Weak<Room>,
    shared: Arc<Shared>,
    /// What this room has added to the shared backlog; written under the state's lock.
    backlog: AtomicUsize,
    /// The same of the shared bytes of history.
    history: AtomicUsize,
    /// The same of the bytes that wait to be kept.
    unkept: AtomicUsize,
    /// When something was said here last, by the order over all rooms; it may lag a little.
    spoke_at: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    log: Log,
    members: Members,
    sleepers: Sleepers,
    /// Who is to be woken once the lock is given back, asleep or not.
    woken: Vec<Waker>,
    /// Tasks that deliver.
    deliverers: usize,
    locked: bool,
    /// Set once and for good. Whoever comes later finds no such room.
    closed: Option<Closed>,
    /// Until somebody enters: when the room goes.
    unentered: Option<Appointment>,
    entered: bool,
    /// What was ordered and is not kept yet; `None`: all counts as kept at once.
    keeping: Option<Box<Keeping>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// The last seat has ended, or nobody came.
    Empty,
    ByHost,
    /// The server has stopped.
    Shutdown,
}

/// What was done, and when that may be answered.
pub(crate) type Ordered<T> = Result<(T, Promise), Refusal>;

impl Room {
    fn new(code: RoomCode, is_lobby: bool, shared: Arc<Shared>) -> Arc<Room> {
        let state = State {
            log: Log::new(shared.config.history, HISTORY_BYTES),
            members: Members::default(),
            sleepers: Sleepers::default(),
            woken: Vec::new(),
            deliverers: 0,
            locked: false,
            closed: None,
            unentered: None,
            entered: is_lobby,
            keeping: shared.keeper.as_ref().map(|keeper| Box::new(keeper.found())),
        };
        Arc::new_cyclic(|this| Room {
            code,
            is_lobby,
            this: this.clone(),
            shared,
            backlog: AtomicUsize::new(0),
            history: AtomicUsize::new(0),
            unkept: AtomicUsize::new(0),
            spoke_at: AtomicU64::new(0),
            state: Mutex::new(state),
        })
    }

    /// A room as it was kept. Its armed seats are held, and without one it waits for its people.
    fn restore(kept: KeptRoom, is_lobby: bool, shared: Arc<Shared>) -> Arc<Room> {
        let KeptRoom { number, head, messages, seats } = kept;
        let room = Room::new(head.code, is_lobby, shared);
        let at = Instant::now() + RESTART_HOLD;
        {
            let mut state = room.lock_state();
            let log = Log::new(room.shared.config.history, HISTORY_BYTES);
            state.log = log.restore(messages, head.last_id, head.last_time);
            (state.locked, state.entered) = (head.locked, true);
            let timetable = &room.shared.timetable;
            if seats.is_empty() && !is_lobby {
                let (room, _counts) = (Arc::downgrade(&room), Unentered::exempt());
                state.unentered = Some(timetable.add(at, Ending::Room { room, _counts }));
            }
            for seat in seats {
                let ending = |key| Ending::Seat(Arc::downgrade(&room), key);
                state.members.restore(seat, |key| timetable.add(at, ending(key)));
            }
            state.members.host = state.members.slot_of_seat(head.host);
            room.find_host(&mut state);
            state.keeping = Some(Box::new(Keeping::restore(number, head)));
            room.account(&state);
        }
        room.speak();
        room
    }

    /// Does something under the room's lock, and hands it to the keeper, if there is one. After the
    /// lock is given back, delivers what is new.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        if self.shared.keeper.is_none() {
            return self.apply(change);
        }
        self.apply(|state| {
            state.begin_change();
            let result = change(state);
            self.hand_over(state);
            result
        })
    }

    fn apply<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, woken, kept, is_news) = {
            let mut state = self.lock_state();
            let oldest = state.log.first_kept();
            let result = change(&mut state);
            if state.log.first_kept() > oldest {
                self.shared.metrics.reached(Limit::History);
            }
            state.log.shrink_backlog(ROOM_BACKLOG_BYTES);
            self.account(&state);
            let kept = state.keeping.as_mut().and_then(|keeping| keeping.take_news());
            (result, std::mem::take(&mut state.woken), kept, state.sleepers.are_due())
        };
        woken.into_iter().for_each(Waker::wake);
        kept.into_iter().for_each(|kept| kept.notify_waiters());
        if is_news {
            self.deliver();
        }
        if self.shared.keeps_too_much() {
            self.shared.hub.relieve();
        }
        result
    }

    /// A poisoned lock is taken all the same: no change leaves a state half done that is harmful.
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, state: &State) {
        let (now, before) = (state.log.backlog(), self.backlog.load(Ordering::Relaxed));
        if now != before {
            self.backlog.store(now, Ordering::Relaxed);
            self.shared.backlog.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
        let (now, before) = (state.log.history_bytes(), self.history.load(Ordering::Relaxed));
        if now != before {
            self.history.store(now, Ordering::Relaxed);
            self.shared.history.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
        if let Some(keeping) = &state.keeping {
            let (now, before) = (keeping.unkept_bytes(), self.unkept.load(Ordering::Relaxed));
            self.unkept.store(now, Ordering::Relaxed);
            self.shared.unkept.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// Notes that something is said here now.
    fn speak(&self) {
        let at = self.shared.spoken.fetch_add(1, Ordering::Relaxed) + 1;
        self.spoke_at.store(at, Ordering::Relaxed);
    }

    /// Counts an empty room for its creator, and lets it go if nobody comes.
    fn await_people(self: &Arc<Room>, unentered: Unentered, at: Instant) -> Promise {
        let ending = Ending::Room { room: Arc::downgrade(self), _counts: unentered };
        let appointment = self.shared.timetable.add(at, ending);
        self.change(|state| {
            state.unentered = Some(appointment);
            state.promise(NOBODY, Undo::Founding)
        })
    }

    /// Closes the room if nobody has entered it.
    fn give_up(&self) -> bool {
        self.change(|state| {
            let Some(appointment) = state.unentered.take() else { return false };
            // It counts for its creator until then.
            self.shared.timetable.call_off(appointment);
            state.close(Closed::Empty);
            true
        })
    }

    /// Ends the room because the server has stopped.
    fn shut_down(&self) {
        self.change(|state| state.close(Closed::Shutdown));
    }

    /// Whether a seat is armed and this connection's, in a room that goes on, after a restart if the
    /// server stops.
    fn can_resume(&self, key: SeatKey, stops: bool) -> bool {
        if stops && !self.is_kept() {
            return false;
        }
        let state = self.lock_state();
        let member =
            state.members.get(key.slot).filter(|member| member.generation == key.generation);
        let is_armed = member.is_some_and(|member| member.hold.is_some());
        is_armed && !matches!(state.closed, Some(Closed::Empty | Closed::ByHost))
    }

    fn was_entered(&self) -> bool {
        self.lock_state().entered
    }

    /// Takes so many bytes of the oldest history, or all.
    fn shrink_history(&self, by: usize) {
        let mut state = self.lock_state();
        state.begin_change();
        state.log.shrink_history(by);
        state.log.shrink_backlog(ROOM_BACKLOG_BYTES);
        if self.is_kept() {
            // No restart shall bring back more than there is place for.
            self.hand_over(&mut state);
        }
        self.account(&state);
    }

    /// Takes bytes from under the readers furthest behind.
    fn shrink_backlog(&self, by: usize) {
        let mut state = self.lock_state();
        let most = state.log.backlog().saturating_sub(by);
        state.log.shrink_backlog(most);
        self.account(&state);
    }
}

impl Shared {
    /// Refuses to order more where too much waits to be kept already: a disk that hangs takes no
    /// memory without a bound. Who leaves has left all the same.
    fn may_order(&self) -> Result<(), Refusal> {
        if self.unkept.load(Ordering::Relaxed) <= TOTAL_UNKEPT_BYTES {
            return Ok(());
        }
        self.metrics.reached(Limit::Unkept);
        Err(Refusal::Storage)
    }

    /// Whether all rooms together keep more than they may.
    fn keeps_too_much(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > TOTAL_BACKLOG_BYTES
            || self.history.load(Ordering::Relaxed) > self.config.max_history
    }

    /// Counts what waited in a mailbox as delivered or gone.
    fn forget_tells<'a>(&self, privates: impl IntoIterator<Item = &'a Private>) {
        let tells = privates.into_iter().filter(|private| private.notice.is_none());
        let bytes: usize = tells.map(|tell| tell.line.len()).sum();
        self.tell_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.backlog.fetch_sub(*self.backlog.get_mut(), Ordering::Relaxed);
        self.shared.history.fetch_sub(*self.history.get_mut(), Ordering::Relaxed);
        self.shared.unkept.fetch_sub(*self.unkept.get_mut(), Ordering::Relaxed);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.shared.forget_tells(state.members.mailboxes());
    }
}

/// The author of what nobody did.
const NOBODY: u64 = 0;

impl State {
    /// The member whose key this is, if it still opens the seat.
    fn seat(&mut self, key: SeatKey) -> Result<&mut Member, Refusal> {
        let closed = self.closed;
        let gone = |bye| Err(Refusal::Gone(bye));
        let member = self.members.get_mut(key.slot);
        match (member.filter(|member| member.generation == key.generation), closed) {
            (_, Some(Closed::Shutdown)) => gone(Bye::new(ByeReason::Shutdown)),
            (None, _) => gone(Bye::new(ByeReason::Replaced)),
            // Who was kicked is told so, also where the room has closed since.
            (Some(Member { presence: Presence::Out(bye), .. }), _) => gone(Bye::clone(bye)),
            (Some(_), Some(_)) => gone(Bye::new(ByeReason::Closed)),
            (Some(member), None) => Ok(member),
        }
    }

    /// Whether a name reads like that of a member, he of a slot excepted, or like one that he gives
    /// up: it is his until it is kept that it isn't.
    fn is_taken(&self, name: &Name, own: Option<usize>) -> bool {
        // Either key may be of one's own name and the other of somebody else's.
        let given_up = || self.keeping.as_ref().is_some_and(|keeping| keeping.has_name(name, own));
        self.members.slots_of(name).any(|slot| Some(slot) != own) || given_up()
    }

    /// Another member, by name.
    fn find_other(&self, key: SeatKey, name: &Name) -> Result<usize, Refusal> {
        match self.members.slot_of(name) {
            None => Err(Refusal::NoSuchUser),
            Some(slot) if slot == key.slot => Err(Refusal::Yourself),
            Some(slot) => Ok(slot),
        }
    }

    fn publish_presence(&mut self, event: &Event<'_>, author: u64) {
        self.publish_line(Line::of(event), author);
    }

    fn publish_line(&mut self, line: Line, author: u64) {
        match &mut self.keeping {
            Some(keeping) => keeping.order_line(line, author),
            None => self.log.push_presence(line, author),
        }
        self.sleepers.rouse();
    }

    fn notify(&mut self, slot: usize, kind: NoticeKind, text: &'static str) {
        let place = self.end_place();
        if let Some(member) = self.members.get_mut(slot) {
            member.notify(place, kind, Line::of(&Event::Notice { kind, text: text.into() }));
            self.woken.extend(member.waker.clone());
        }
    }

    fn close(&mut self, why: Closed) {
        self.closed = Some(why);
        self.unentered = None;
        self.sleepers.rouse();
    }

    /// Lets go of the slot of a member who is out, once his connection has learned why.
    fn forget_out(&mut self, key: SeatKey) -> bool {
        let member = self.members.get(key.slot);
        let is_out = |member: &&Member| {
            member.generation == key.generation && matches!(member.presence, Presence::Out(_))
        };
        if member.filter(is_out).is_some() {
            self.members.free(key.slot);
        }
        false
    }

    /// Stops counting a reader without telling anybody: the server is stopping.
    fn forget(&mut self, slot: usize) -> bool {
        if let Some(member) = self.members.get_mut(slot) {
            self.sleepers.remove(&mut member.ticket);
            member.waker = None;
        }
        false
    }
}
