use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, TryLockError, Weak};

use tokio::time::Instant;

use super::sync::{Mutex, MutexGuard};
use super::timetable::{Appointment, Ending, Timetable};
use super::{
    Entered, Head, Keeper, KeptRoom, Ordered, Promise, Refusal, Room, Seat, Shared, Visit,
};
use crate::config::Config;
use crate::metrics::{Limit, Metrics};
use crate::protocol::limits::{
    CODE_MAX_CHARS, CODE_MIN_CHARS, CODE_REST, CODES_RESTING, TOTAL_BACKLOG_BYTES, UNENTERED,
};
use crate::protocol::{BadCode, Name, RoomCode};

/// All rooms, by their codes. Cheap to clone: every clone is the same hub.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Inner>);

/// The same hub, for its rooms: they don't keep it.
#[derive(Debug)]
pub(super) struct WeakHub(Weak<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// The first lock in the order: a room's may be taken under it.
    rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
struct Rooms {
    by_code: HashMap<RoomCode, Arc<Room>>,
    resting: Resting,
    /// How many codes of each length are in use or at rest.
    taken: [usize; CODE_MAX_CHARS + 1],
}

/// Codes that were in use and are not given out again for a while.
#[derive(Debug, Default)]
struct Resting {
    codes: HashSet<RoomCode>,
    /// In the order in which they began to rest.
    order: VecDeque<(RoomCode, Appointment)>,
}

impl Hub {
    /// A hub without a server: rooms for programs. Of the configuration it takes what concerns
    /// rooms.
    ///
    /// What is said there is in memory only, whatever [`Config::store`] says: a store is opened by
    /// [`Server::bind`](crate::Server::bind).
    pub fn new(config: Config) -> Hub {
        Hub::kept(config, None, Vec::new())
    }

    /// A hub whose rooms are kept, with those that were kept before. Armed seats are held for
    /// [`RESTART_HOLD`] from now on.
    pub(crate) fn kept(config: Config, keeper: Option<Keeper>, kept: Vec<KeptRoom>) -> Hub {
        let hub = Arc::new_cyclic(|this| {
            let (shared, rooms) = Hub::restore(config, keeper, kept, WeakHub(this.clone()));
            Inner { shared, rooms: Mutex::new(rooms) }
        });
        let hub = Hub(hub);
        hub.relieve(hub.rooms());
        hub
    }

    fn restore(
        config: Config,
        keeper: Option<Keeper>,
        mut kept: Vec<KeptRoom>,
        hub: WeakHub,
    ) -> (Arc<Shared>, Rooms) {
        let shared = Shared {
            config,
            timetable: Timetable::default(),
            metrics: Metrics::default(),
            tell_bytes: AtomicUsize::new(0),
            backlog: AtomicUsize::new(0),
            history: AtomicUsize::new(0),
            replies: AtomicUsize::new(0),
            unkept: AtomicUsize::new(0),
            spoken: AtomicU64::new(0),
            keeper,
            hub,
        };
        let shared = Arc::new(shared);
        let mut rooms = Rooms::default();
        // Who was the lobby once and isn't any more waits in the store until he is again.
        let is_away = |head: &Head| head.is_lobby && shared.config.lobby != Some(head.code);
        // Who was silent for longest before is so now.
        kept.sort_by_key(|kept| kept.head.last_time);
        for kept in kept.into_iter().filter(|kept| !is_away(&kept.head)) {
            let (code, is_lobby) = (kept.head.code, shared.config.lobby == Some(kept.head.code));
            let room = Room::restore(kept, is_lobby, shared.clone());
            rooms.taken[code.as_str().len()] += usize::from(!is_lobby);
            rooms.by_code.insert(code, room);
        }
        if let Some(code) = shared.config.lobby
            && !rooms.by_code.contains_key(&code)
        {
            rooms.by_code.insert(code, Room::new(code, true, shared.clone()));
        }
        (shared, rooms)
    }

    /// Makes an empty room. It is gone if nobody joins within 10 minutes.
    ///
    /// In a server with a store the room may not be stored yet when this returns.
    ///
    /// Fails with [`Refusal::Busy`] if there are as many rooms as there may be.
    pub fn create(&self) -> Result<RoomCode, Refusal> {
        Ok(self.make_room(&Visit::exempt())?.0.code)
    }

    /// The code of the room that always exists, if there is one.
    pub fn lobby(&self) -> Option<RoomCode> {
        self.config().lobby
    }

    /// Enters a room under a name.
    ///
    /// Fails if the code or the name is malformed, there is no such room, it is locked or full,
    /// or somebody in it has a name that reads like this one.
    pub fn join(&self, code: &str, name: &str) -> Result<Seat, Refusal> {
        let name = Name::parse(name)?;
        Seat::take(self, self.find(code)?, name, Visit::exempt())
    }

    /// Ends all rooms: members without a connection learn that the server has stopped.
    pub(crate) fn shut_down(&self) {
        let rooms: Vec<_> = self.rooms().by_code.values().cloned().collect();
        rooms.iter().for_each(|room| room.shut_down());
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.shared.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Rooms at this moment, the lobby among them.
    pub(crate) fn rooms_now(&self) -> usize {
        self.rooms().by_code.len()
    }

    /// The room, and when it may be told of.
    pub(crate) fn make_room(&self, visit: &Visit) -> Ordered<Arc<Room>> {
        self.expire(Instant::now());
        self.0.shared.may_order()?;
        let unentered = visit.make_room().map_err(|_| self.busy(Limit::UnenteredRooms))?;
        let config = self.config();
        let mut rooms = self.rooms();
        let lobbies = usize::from(config.lobby.is_some());
        if rooms.by_code.len() - lobbies >= config.max_rooms {
            return Err(self.busy(Limit::MaxRooms));
        }
        let code = rooms.free_code(config);
        let room = Room::new(code, false, self.0.shared.clone());
        let promise = room.await_people(unentered, Instant::now() + UNENTERED);
        rooms.by_code.insert(code, room.clone());
        rooms.taken[code.as_str().len()] += 1;
        Ok((room, promise))
    }

    fn busy(&self, limit: Limit) -> Refusal {
        self.metrics().reached(limit);
        Refusal::Busy
    }

    /// Waits until a room that was made is kept; if it can't be, it is gone.
    pub(crate) async fn founded(&self, room: &Arc<Room>, promise: Promise) -> Result<(), Refusal> {
        room.kept(promise.place).await;
        if !promise.is_broken() {
            return Ok(());
        }
        if room.give_up() {
            self.remove(room);
        }
        Err(Refusal::Storage)
    }

    /// Ends the queue of what is to be kept.
    pub(crate) fn close_keeper(&self) {
        self.0.shared.keeper.iter().for_each(Keeper::close);
    }

    pub(crate) async fn enter(
        &self,
        code: &str,
        name: Name,
        latest: usize,
        pass_lock: bool,
        visit: Visit,
    ) -> Result<Entered, Refusal> {
        Seat::enter(self, self.find(code)?, name, latest, pass_lock, visit).await
    }

    /// Enters a room that was just made: nobody else knows its code.
    pub(crate) fn enter_made(
        &self,
        room: Arc<Room>,
        name: Name,
        visit: Visit,
    ) -> Result<Seat, Refusal> {
        Seat::take(self, room, name, visit)
    }

    pub(crate) async fn resume(
        &self,
        code: &str,
        token: &str,
        last_id: u64,
        visit: Visit,
    ) -> Result<Entered, Refusal> {
        Seat::retake(self, self.find(code)?, token, last_id, visit).await
    }

    fn find(&self, code: &str) -> Result<Arc<Room>, Refusal> {
        self.expire(Instant::now());
        let lobby = self.config().lobby.filter(|lobby| lobby.as_str().eq_ignore_ascii_case(code));
        let code = lobby.ok_or(BadCode).or_else(|_| RoomCode::parse(code))?;
        self.rooms().by_code.get(&code).cloned().ok_or(Refusal::NoSuchRoom)
    }

    /// Takes a closed room out, if it is still that room; its code rests.
    pub(super) fn remove(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms();
        if !rooms.by_code.get(&room.code).is_some_and(|known| Arc::ptr_eq(known, room)) {
            return;
        }
        rooms.by_code.remove(&room.code);
        let rest = if room.was_entered() { CODE_REST } else { UNENTERED };
        let timetable = &self.0.shared.timetable;
        let end = timetable.add(Instant::now() + rest, Ending::Rest(room.code));
        if let Some((forgotten, end)) = rooms.resting.add(room.code, end) {
            rooms.taken[forgotten.as_str().len()] -= 1;
            timetable.call_off(end);
            self.metrics().reached(Limit::CodesResting);
        }
    }

    /// Ends what is due: seats and rooms that were waited for in vain, codes that have rested.
    pub(crate) fn expire(&self, now: Instant) {
        while let Some(ending) = self.0.shared.timetable.take_due(now) {
            match ending {
                Ending::Seat(room, key) => {
                    if let Some(room) = room.upgrade().filter(|room| room.expire(key)) {
                        self.remove(&room);
                    }
                }
                Ending::Room { room, .. } => {
                    if let Some(room) = room.upgrade().filter(|room| room.give_up()) {
                        self.remove(&room);
                    }
                }
                Ending::Rest(code) => {
                    let mut rooms = self.rooms();
                    if rooms.resting.remove(code) {
                        rooms.taken[code.as_str().len()] -= 1;
                    }
                }
            }
        }
    }

    /// Ends what is due, for ever.
    pub(crate) async fn keep_expiring(&self) {
        loop {
            self.0.shared.timetable.due().await;
            self.expire(Instant::now());
        }
    }

    /// Where rooms keep too much for slow readers, all together: takes it from under the slowest
    /// of the room that keeps most.
    fn relieve(&self, rooms: MutexGuard<'_, Rooms>) {
        let rooms: Vec<_> = {
            let all = rooms.by_code.values().cloned().collect();
            drop(rooms);
            all
        };
        self.relieve_history(&rooms);
        let shared = &self.0.shared;
        let over = || {
            let backlog = shared.backlog.load(Ordering::Relaxed);
            backlog.checked_sub(TOTAL_BACKLOG_BYTES).filter(|over| *over > 0)
        };
        while let Some(over) = over() {
            let kept = |room: &&Arc<Room>| room.backlog.load(Ordering::Relaxed);
            match rooms.iter().max_by_key(kept).filter(|room| kept(room) > 0) {
                Some(room) => room.shrink_backlog(over.max(RELIEF_BYTES)),
                // What is over belongs to rooms that are ending.
                None => break,
            }
        }
    }

    /// Where the histories of all rooms are too much together: takes the oldest messages of the
    /// rooms that have been silent for longest.
    fn relieve_history(&self, rooms: &[Arc<Room>]) {
        let shared = &self.0.shared;
        let most = shared.config.max_history;
        if shared.history.load(Ordering::Relaxed) <= most {
            return;
        }
        shared.metrics.reached(Limit::MaxHistory);
        let mut rooms: Vec<_> = rooms.iter().collect();
        rooms.sort_by_cached_key(|room| room.spoke_at.load(Ordering::Relaxed));
        // Some more than must be, so that it isn't looked for again at the next message.
        let most = most - (most / HISTORY_RELIEF).min(most);
        for room in rooms {
            let over = shared.history.load(Ordering::Relaxed).saturating_sub(most);
            if over == 0 {
                break;
            }
            if room.history.load(Ordering::Relaxed) > 0 {
                room.shrink_history(over);
            }
        }
    }

    /// Bytes of the histories of all rooms.
    pub(crate) fn history_bytes(&self) -> usize {
        self.0.shared.history.load(Ordering::Relaxed)
    }

    /// Bytes that wait to be kept in all rooms.
    #[cfg(test)]
    pub(super) fn unkept_bytes(&self) -> usize {
        self.0.shared.unkept.load(Ordering::Relaxed)
    }

    /// Counts what waits for one who doesn't read, in place of what was counted for him before.
    pub(crate) fn count_replies(&self, before: usize, now: usize) {
        self.0.shared.replies.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Bytes that wait for all of them.
    pub(crate) fn waiting_replies(&self) -> usize {
        self.0.shared.replies.load(Ordering::Relaxed)
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes taken at once when all rooms together keep too much, so that it isn't looked for again
/// at the next message.
const RELIEF_BYTES: usize = 1 << 20;

/// This part of all history is taken at once.
const HISTORY_RELIEF: usize = 32;

impl WeakHub {
    /// Where all rooms together keep too much: takes some of it away. A room does this after every
    /// change, without its own lock. Where the rooms are being looked at, maybe by the one who has
    /// made the change, the next change does it.
    pub(super) fn relieve(&self) {
        let Some(hub) = self.0.upgrade().map(Hub) else { return };
        let rooms = match hub.0.rooms.try_lock() {
            Ok(rooms) => rooms,
            Err(TryLockError::Poisoned(rooms)) => rooms.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        hub.relieve(rooms);
    }
}

impl Rooms {
    /// A code that is neither in use nor at rest. When half of all codes of a length are taken, a
    /// longer one: so guessing one takes as long as ever, and finding a free one ends soon.
    fn free_code(&self, config: &Config) -> RoomCode {
        let mut chars = config.code_length.clamp(CODE_MIN_CHARS, CODE_MAX_CHARS);
        while chars < CODE_MAX_CHARS && self.taken[chars] >= RoomCode::count(chars) / 2 {
            chars += 1;
        }
        loop {
            let code = RoomCode::random(chars, |bytes| config.random.fill(bytes));
            let in_use = self.by_code.contains_key(&code) || config.lobby == Some(code);
            if !in_use && !self.resting.codes.contains(&code) {
                return code;
            }
        }
    }
}

impl Resting {
    /// Lets a code rest; returns the one that is forgotten for it, if there are too many.
    fn add(&mut self, code: RoomCode, end: Appointment) -> Option<(RoomCode, Appointment)> {
        self.codes.insert(code);
        self.order.push_back((code, end));
        if self.order.len() <= CODES_RESTING {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.codes.remove(&oldest.0).then_some(oldest)
    }

    fn remove(&mut self, code: RoomCode) -> bool {
        let removed = self.codes.remove(&code);
        while self.order.pop_front_if(|(code, _)| !self.codes.contains(code)).is_some() {}
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_more_than_a_million_resting_codes_the_first_is_forgotten_and_that_is_counted() {
        let hub = Hub::new(Config::default());
        let code = |number: usize| {
            RoomCode::random(CODE_MAX_CHARS, |bytes| {
                (0..).zip(bytes).for_each(|(at, byte)| *byte = (number >> (4 * at)) as u8 & 15);
            })
        };
        let timetable = &hub.0.shared.timetable;
        let end = timetable.add(Instant::now() + CODE_REST, Ending::Rest(code(0)));
        for number in 0..CODES_RESTING {
            let mut rooms = hub.rooms();
            rooms.taken[CODE_MAX_CHARS] += 1;
            assert_eq!(rooms.resting.add(code(number), end), None);
        }
        let told = |times: usize| {
            let line = format!("{{limit=\"codes-resting\"}} {times}\n");
            assert!(hub.metrics().write(0, 0, 0).contains(&line));
        };
        told(0);
        let room = hub.create().unwrap();
        drop(hub.join(room.as_str(), "ann").unwrap());
        told(1);
        let rooms = hub.rooms();
        assert!(rooms.resting.codes.contains(&room));
        assert!(!rooms.resting.codes.contains(&code(0)));
        assert_eq!(rooms.resting.codes.len(), CODES_RESTING);
    }
}
