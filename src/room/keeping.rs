//! Keeping: order it, keep it, then deliver it.
//!
//! With a keeper, what changes in a room is ordered under the room's lock and handed over to the
//! keeper there, so that the records of a room are in order. Lines enter the log, where readers
//! see them, when they are kept. Each has its place in the log from the beginning: what could not
//! be kept leaves an empty place.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::keeper::{Fate, Head, Promise, Record};
use super::members::Member;
use super::undo::{Before, Undo};
use super::{Closed, Refusal, Room, SeatKey, State};
use crate::protocol::limits::UNKEPT_ENTRY_BYTES;
use crate::protocol::{Line, Name, Time};

/// A room's side of it.
#[derive(Debug)]
pub(super) struct Keeping {
    number: u64,
    /// Records of an earlier epoch are void: something before them was not kept.
    pub(super) epoch: u64,
    unkept: VecDeque<Unkept>,
    /// What `unkept` takes.
    bytes: usize,
    /// How many of `unkept` are messages.
    messages: u64,
    /// The keys of names that `unkept` gives up, with the slots of those who do, and how often.
    given_up: BTreeMap<Box<str>, (usize, usize)>,
    /// Where those begin that the change under way has ordered.
    fresh: usize,
    /// Records handed over of which nothing is known yet.
    pub(super) outstanding: usize,
    /// Seats that the change under way has changed or ended.
    changed: Vec<usize>,
    ended: Vec<u64>,
    /// As it was handed over last; `None`: all must be handed over.
    head: Option<Head>,
    is_gone: bool,
    place_in_queue: Option<OwnedSemaphorePermit>,
    has_news: bool,
    news: Arc<Notify>,
}

/// A place of the log that is not to be seen yet.
#[derive(Debug)]
struct Unkept {
    author: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Message {
        id: u64,
        line: Line,
        slot: usize,
        entered: u64,
        fate: Fate,
    },
    /// `promised`: it goes with the next promise, if that can't be kept.
    Line {
        line: Line,
        promised: bool,
    },
    Promise(Fate, Undo),
}

impl Unkept {
    fn cost(&self) -> usize {
        let line = match &self.what {
            What::Message { line, .. } | What::Line { line, .. } => line.len(),
            What::Promise(..) => 0,
        };
        line + UNKEPT_ENTRY_BYTES
    }
}

impl Room {
    pub(super) fn is_kept(&self) -> bool {
        self.shared.keeper.is_some()
    }

    /// Waits for a place in the keeper's queue.
    pub(super) async fn place_in_queue(&self) -> Option<OwnedSemaphorePermit> {
        let keeper = self.shared.keeper.as_ref()?;
        keeper.places.clone().acquire_owned().await.ok()
    }

    /// Refuses a seat to somebody who would have to wait behind too much that is to be kept.
    pub(super) fn may_arrive(&self, state: &State) -> Result<(), Refusal> {
        let must_wait = state.end_place() > state.log.end().place;
        if must_wait { self.shared.may_order() } else { Ok(()) }
    }

    /// Whether all is kept that has a place before this one.
    pub(super) fn has_kept(&self, place: u64) -> bool {
        !self.is_kept() || self.lock_state().log.end().place >= place
    }

    /// Whether something was ordered that is still to be kept.
    pub(super) fn has_unkept(&self) -> bool {
        let state = self.lock_state();
        state.keeping.as_ref().is_some_and(|keeping| !keeping.unkept.is_empty())
    }

    /// Waits until all is kept, or taken back, that has a place before this one.
    pub(super) async fn kept(&self, place: u64) {
        if !self.is_kept() {
            return;
        }
        let news = self.lock_state().keeping.as_ref().map(|keeping| keeping.news.clone());
        let Some(news) = news else { return };
        loop {
            // What comes from here on counts.
            let next = news.notified();
            if self.has_kept(place) {
                return;
            }
            next.await;
        }
    }

    /// Waits until all is kept that was ordered until now.
    pub(super) async fn all_kept(&self) {
        if self.is_kept() {
            let place = self.lock_state().end_place();
            self.kept(place).await;
        }
    }

    /// Hands all over again that is not a message: a record could not be kept.
    pub(crate) fn hand_over_again(&self) {
        self.change(|_| ());
    }

    pub(super) fn hand_over(&self, state: &mut State) {
        if let Some(record) = self.record(state) {
            if !self.shared.keeper.as_ref().is_some_and(|keeper| keeper.keep(record)) {
                state.take_back();
            }
        } else if state.keeping.as_ref().is_some_and(|keeping| keeping.outstanding == 0) {
            state.reveal(u64::MAX);
        }
    }

    /// What is to be kept still of a room that hands over nothing any more.
    pub(crate) fn last_record(&self) -> Option<Record> {
        let mut state = self.lock_state();
        state.begin_change();
        self.record(&mut state)
    }

    /// What the change under way leaves to be kept, if that is anything.
    fn record(&self, state: &mut State) -> Option<Record> {
        let head = state.head(self);
        let is_gone = matches!(state.closed, Some(Closed::Empty | Closed::ByHost));
        let State { keeping: Some(keeping), members, .. } = state else { return None };
        let place_in_queue = keeping.place_in_queue.take();
        let room = keeping.has_changed(head, is_gone).then(|| self.this.upgrade()).flatten()?;
        let all_seats = keeping.head.is_none();
        let slots = std::mem::take(&mut keeping.changed);
        let slots = if all_seats { members.armed().collect() } else { slots };
        let seats = slots.into_iter().filter_map(|slot| members.get(slot)?.kept()).collect();
        let fresh = keeping.unkept.range(keeping.fresh..);
        let messages = fresh.filter_map(|unkept| match &unkept.what {
            What::Message { id, line, .. } => Some((*id, line.clone())),
            _ => None,
        });
        let messages = messages.collect();
        (keeping.head, keeping.is_gone) = (Some(head), is_gone);
        keeping.outstanding += 1;
        Some(Record {
            room,
            epoch: keeping.epoch,
            place: state.log.end().place + keeping.unkept.len() as u64,
            number: keeping.number,
            head,
            is_gone,
            messages,
            seats,
            ended: std::mem::take(&mut keeping.ended),
            all_seats,
            _place_in_queue: place_in_queue,
            is_settled: false,
        })
    }
}

impl Keeping {
    pub(super) fn new(number: u64) -> Keeping {
        Keeping {
            number,
            epoch: 0,
            unkept: VecDeque::new(),
            bytes: 0,
            messages: 0,
            given_up: BTreeMap::new(),
            fresh: 0,
            outstanding: 0,
            changed: Vec::new(),
            ended: Vec::new(),
            head: None,
            is_gone: false,
            place_in_queue: None,
            has_news: false,
            news: Arc::default(),
        }
    }

    /// That of a room as it was kept.
    pub(super) fn restore(number: u64, head: Head) -> Keeping {
        Keeping { head: Some(head), ..Keeping::new(number) }
    }

    pub(super) fn order_line(&mut self, line: Line, author: u64) {
        self.order(Unkept { author, what: What::Line { line, promised: false } });
    }

    fn order(&mut self, unkept: Unkept) {
        self.bytes += unkept.cost();
        self.unkept.push_back(unkept);
    }

    /// What waits to be kept takes so many bytes.
    pub(super) fn unkept_bytes(&self) -> usize {
        self.bytes
    }

    /// Whom to tell that places were reached.
    pub(super) fn take_news(&mut self) -> Option<Arc<Notify>> {
        std::mem::take(&mut self.has_news).then(|| self.news.clone())
    }

    /// Whether somebody but him of a slot gives a name up that reads like this one.
    pub(super) fn has_name(&self, name: &Name, own: Option<usize>) -> bool {
        let mut owners = name.keys().filter_map(|key| self.given_up.get(&key));
        owners.any(|(slot, _)| Some(*slot) != own)
    }

    fn give_up(&mut self, name: &Name, slot: usize) {
        for key in name.keys() {
            self.given_up.entry(key).or_insert((slot, 0)).1 += 1;
        }
    }

    /// It is kept that it is given up.
    fn forget_name(&mut self, name: &Name) {
        for key in name.keys() {
            if let Entry::Occupied(mut entry) = self.given_up.entry(key) {
                entry.get_mut().1 -= 1;
                if entry.get().1 == 0 {
                    entry.remove();
                }
            }
        }
    }

    pub(super) fn is_author(&self, author: u64) -> bool {
        self.unkept.iter().any(|unkept| unkept.author == author)
    }

    fn has_changed(&self, head: Head, is_gone: bool) -> bool {
        // Of a room that is gone nothing is kept.
        if self.is_gone || is_gone {
            return is_gone && !self.is_gone;
        }
        let is_other = |old: Head| {
            (old.locked, old.host, old.seats, old.first_id, old.last_id)
                != (head.locked, head.host, head.seats, head.first_id, head.last_id)
        };
        let seats = self.changed.len() + self.ended.len();
        seats > 0 || self.head.is_none_or(is_other)
    }
}

impl State {
    pub(super) fn begin_change(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.fresh = keeping.unkept.len();
            keeping.changed.clear();
            keeping.ended.clear();
        }
    }

    /// Behind the last line that is ordered.
    pub(super) fn end_place(&self) -> u64 {
        let unkept = self.keeping.as_ref().map_or(0, |keeping| keeping.unkept.len());
        self.log.end().place + unkept as u64
    }

    /// The id and time of the next message.
    pub(super) fn next_message(&mut self, now: Time) -> (u64, Time) {
        let unkept = self.keeping.as_ref().map_or(0, |keeping| keeping.messages);
        let (id, time) = self.log.next_message(now);
        (id + unkept, time)
    }

    /// Orders the message with that id; says what becomes of it.
    pub(super) fn order_message(&mut self, id: u64, line: Line, key: SeatKey) -> Promise {
        let author = key.generation;
        let Some(keeping) = &mut self.keeping else {
            self.log.push_message(line, author);
            return Promise::at(self.log.end().place);
        };
        let fate = match keeping.unkept.back() {
            // All messages of one change have one fate.
            Some(Unkept { what: What::Message { fate, .. }, .. })
                if keeping.fresh < keeping.unkept.len() =>
            {
                fate.clone()
            }
            _ => Fate::default(),
        };
        let slot = key.slot;
        let entered = self.members.get(slot).map_or(0, Member::entered);
        let what = What::Message { id, line, slot, entered, fate: fate.clone() };
        keeping.order(Unkept { author, what });
        keeping.messages += 1;
        Promise { place: self.end_place(), fate: Some(fate) }
    }

    /// Gives the messages of this change their place in the keeper's queue.
    pub(super) fn queue_in(&mut self, place: Option<OwnedSemaphorePermit>) {
        if let Some(keeping) = &mut self.keeping {
            keeping.place_in_queue = place;
        }
    }

    /// Ends what a change orders: it may be answered behind this place.
    pub(super) fn promise(&mut self, author: u64, undo: Undo) -> Promise {
        let Some(keeping) = &mut self.keeping else { return Promise::at(self.log.end().place) };
        for unkept in keeping.unkept.range_mut(keeping.fresh..) {
            if let What::Line { promised, .. } = &mut unkept.what {
                *promised = true;
            }
        }
        if let Undo::Seat { slot, before: Before::Called(name), .. } = &undo {
            keeping.give_up(name, *slot);
        }
        let fate = Fate::default();
        keeping.order(Unkept { author, what: What::Promise(fate.clone(), undo) });
        Promise { place: self.end_place(), fate: Some(fate) }
    }

    /// Whether a name or a mute is still to be kept: it may be taken back.
    pub(super) fn is_in_doubt(&self) -> bool {
        let undo = |unkept: &Unkept| match unkept.what {
            What::Promise(_, Undo::Seat { before: Before::Called(_) | Before::Muted(..), .. }) => {
                true
            }
            What::Promise(..) | What::Message { .. } | What::Line { .. } => false,
        };
        self.keeping.as_ref().is_some_and(|keeping| keeping.unkept.iter().any(undo))
    }

    /// What is kept of this seat has become another.
    pub(super) fn seat_changed(&mut self, slot: usize) {
        if let Some(keeping) = &mut self.keeping {
            let is_armed = self.members.get(slot).is_some_and(|member| member.hold.is_some());
            keeping.changed.extend(is_armed.then_some(slot));
        }
    }

    /// This seat is about to end.
    pub(super) fn seat_ends(&mut self, slot: usize) {
        if let Some(keeping) = &mut self.keeping {
            let armed = self.members.get(slot).filter(|member| member.hold.is_some());
            keeping.ended.extend(armed.map(Member::entered));
        }
    }

    fn head(&self, room: &Room) -> Head {
        let host = self.members.host.and_then(|slot| self.members.get(slot));
        let host = host.filter(|host| host.hold.is_some());
        let unkept = self.keeping.as_ref().map_or(0, |keeping| keeping.messages);
        Head {
            code: room.code,
            is_lobby: room.is_lobby,
            locked: self.locked,
            host: host.map_or(0, Member::entered),
            seats: self.members.armed().len() as u64,
            first_id: self.log.first_kept(),
            last_id: self.log.last_id() + unkept,
            last_time: self.log.last_time(),
        }
    }

    /// Puts into the log what has a place before this one.
    pub(super) fn reveal(&mut self, place: u64) {
        let State { log, keeping: Some(keeping), sleepers, .. } = self else { return };
        while log.end().place < place
            && let Some(unkept) = keeping.unkept.pop_front()
        {
            keeping.bytes -= unkept.cost();
            let Unkept { author, what } = unkept;
            match what {
                What::Message { line, fate, .. } => {
                    keeping.messages -= 1;
                    log.push_message(line, author);
                    let _ = fate.set(true);
                }
                What::Line { line, .. } => log.push_presence(line, author),
                What::Promise(fate, undo) => {
                    if let Undo::Seat { before: Before::Called(name), .. } = undo {
                        keeping.forget_name(&name);
                    }
                    log.push_silent(author);
                    let _ = fate.set(true);
                }
            }
            keeping.has_news = true;
        }
        if keeping.has_news {
            sleepers.rouse();
        }
    }

    /// What was ordered and is not kept is taken back: messages were never said, changes not made.
    /// Comings and goings stand.
    pub(super) fn take_back(&mut self) {
        let Some(keeping) = &mut self.keeping else { return };
        keeping.epoch += 1;
        keeping.outstanding = 0;
        (keeping.messages, keeping.bytes) = (0, 0);
        (keeping.head, keeping.is_gone) = (None, false);
        keeping.given_up.clear();
        let mut unkept = std::mem::take(&mut keeping.unkept);
        let mut stands = true;
        // The latest first, so that each finds what it has left.
        for Unkept { what, .. } in unkept.iter_mut().rev() {
            match what {
                What::Promise(fate, undo) => {
                    let undo = std::mem::replace(undo, Undo::Nothing);
                    stands = !self.undo(undo);
                    let _ = fate.set(false);
                }
                What::Line { promised, .. } => *promised &= !stands,
                What::Message { slot, entered, fate, .. } => {
                    let _ = fate.set(false);
                    if let Some(member) = self.members.entered_as(*slot, *entered) {
                        member.said = member.said.saturating_sub(1);
                    }
                }
            }
        }
        for Unkept { author, what } in unkept {
            match what {
                What::Line { line, promised: false } => self.log.push_presence(line, author),
                _ => self.log.push_silent(author),
            }
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.has_news = true;
        }
        self.sleepers.rouse();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use futures_util::FutureExt;

    use super::*;
    use crate::config::Config;
    use crate::protocol::limits::TOTAL_UNKEPT_BYTES;
    use crate::protocol::{Event, HistoryRange, LeftReason, NoticeKind, Text};
    use crate::room::{Hub, Keeper, Refusal, Seat, Visit};

    /// A hub with a keeper who keeps nothing until he is told to.
    fn hub() -> (Hub, Receiver<Record>) {
        let (keeper, records) = Keeper::new(1);
        (Hub::kept(Config::default(), Some(keeper), Vec::new()), records)
    }

    /// Two members of the lobby, when that is kept.
    fn two(hub: &Hub, records: &Receiver<Record>) -> (Seat, Seat) {
        let [sam, kim] = ["sam", "kim"].map(|name| hub.join("LOBBY", name).unwrap());
        keep_all(records);
        (sam, kim)
    }

    fn keep_all(records: &Receiver<Record>) {
        records.try_iter().for_each(Record::kept);
    }

    /// What a member has to read now.
    fn heard(seat: &mut Seat) -> Vec<Event<'static>> {
        std::iter::from_fn(|| seat.next().now_or_never().flatten()).collect()
    }

    fn ids(events: &[Event<'_>]) -> Vec<u64> {
        let id = |event: &Event<'_>| match event {
            Event::Msg { id, .. } => Some(*id),
            _ => None,
        };
        events.iter().filter_map(id).collect()
    }

    #[tokio::test]
    async fn nothing_is_seen_or_acknowledged_before_it_is_kept() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        assert_eq!(heard(&mut sam).len(), 1, "kim joined");
        let mut said = Box::pin(kim.say("hello"));
        assert!(said.as_mut().now_or_never().is_none());
        let jo = hub.join("LOBBY", "jo").unwrap();
        let mut told = Box::pin(jo.say("me too"));
        assert!(told.as_mut().now_or_never().is_none());
        assert_eq!(heard(&mut sam), []);
        let mut late = Box::pin(hub.enter("LOBBY", "ann".parse_name(), 1, false, Visit::exempt()));
        assert!(late.as_mut().now_or_never().is_none());
        records.try_recv().unwrap().kept();
        assert_eq!(said.await.unwrap().id, 1);
        // What was ordered behind it waits, comings too.
        assert_eq!(ids(&heard(&mut sam)), [1]);
        keep_all(&records);
        assert_eq!(told.await.unwrap().id, 2);
        let rest = heard(&mut sam);
        assert_eq!(ids(&rest), [2]);
        assert_eq!(rest.len(), 3, "jo and ann joined");
        // Who came then is told all that was ordered before.
        let mut late = late.await.unwrap();
        assert_eq!((late.last_id, late.lines.len(), late.members), (2, 1, 4));
        assert_eq!(heard(&mut late.seat), []);
    }

    #[tokio::test]
    async fn history_comes_before_what_is_still_to_be_kept() {
        let (hub, records) = hub();
        let (sam, kim) = two(&hub, &records);
        let mut said = Box::pin(kim.say("hello"));
        assert!(said.as_mut().now_or_never().is_none());
        let (lines, promise) = sam.history(HistoryRange::Latest { n: None }).unwrap();
        assert_eq!(lines.len(), 0);
        assert!(!sam.must_wait_for(promise.place), "a message that is not in it came before it");
        keep_all(&records);
        said.await.unwrap();
    }

    #[tokio::test]
    async fn what_could_not_be_kept_was_never_said_and_its_id_is_given_again() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        heard(&mut sam);
        let mut first = Box::pin(kim.say("one"));
        let mut second = Box::pin(sam.say("two"));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        let jo = hub.join("LOBBY", "jo").unwrap();
        let failed = records.try_recv().unwrap();
        let behind = records.try_recv().unwrap();
        failed.not_kept();
        assert!(behind.is_void());
        assert_eq!(first.await, Err(Refusal::Storage));
        assert_eq!(second.await, Err(Refusal::Storage));
        assert_eq!(heard(&mut sam), [Event::Joined { name: "jo".into() }]);
        let mut again = Box::pin(kim.say("three"));
        assert!(again.as_mut().now_or_never().is_none());
        let record = records.try_recv().unwrap();
        assert!(record.all_seats && !record.is_void());
        assert_eq!(record.messages.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1]);
        record.kept();
        assert_eq!(again.await.unwrap().id, 1);
        assert_eq!(ids(&heard(&mut sam)), [1]);
        drop(jo);
    }

    #[tokio::test]
    async fn a_change_that_could_not_be_kept_is_taken_back() {
        let (hub, records) = hub();
        let (room, promise) = hub.make_room(&Visit::exempt()).unwrap();
        let enter =
            |name: &str| hub.enter_made(room.clone(), name.parse_name(), Visit::exempt()).unwrap();
        let (mut sam, mut kim) = (enter("sam"), enter("kim"));
        keep_all(&records);
        hub.founded(&room, promise).await.unwrap();
        heard(&mut sam);
        let (token, held) = sam.hold(9).unwrap();
        let ((), locked) = sam.lock(false, true).unwrap();
        let (_, muted) = sam.mute(false, &"kim".parse_name(), true).unwrap();
        let (_, named) = sam.rename("Samuel".parse_name()).unwrap();
        let (_, gone) = sam.kick(false, &"kim".parse_name(), "").unwrap();
        records.try_recv().unwrap().not_kept();
        for promise in [&held, &locked, &muted, &named, &gone] {
            assert!(promise.is_broken(), "{promise:?}");
        }
        // Who has left has left.
        assert!(matches!(heard(&mut kim)[..], [Event::Bye(_)]));
        let jo = hub.join(room.code.as_str(), "jo").expect("the room is not locked");
        let users = jo.who().unwrap().0;
        let names: Vec<_> = users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["sam", "jo"]);
        let resumed = hub.resume(room.code.as_str(), &token.to_string(), 0, Visit::exempt()).await;
        assert_eq!(resumed.unwrap_err(), Refusal::BadToken);
    }

    #[tokio::test]
    async fn what_is_taken_back_does_not_touch_who_was_kicked_since() {
        let (hub, records) = hub();
        let (sam, mut kim) = two(&hub, &records);
        let mut mia = hub.join("LOBBY", "mia").unwrap();
        let token = kim.hold(9).unwrap().0.to_string();
        keep_all(&records);
        kim.hold(60).unwrap();
        kim.rename("ann".parse_name()).unwrap();
        sam.kick(true, &"ann".parse_name(), "").unwrap();
        records.try_recv().unwrap().not_kept();
        // He left under the name that he had then.
        let renamed = Event::Renamed { old: "kim".into(), new: "ann".into() };
        let left = Event::Left { name: "ann".into(), reason: LeftReason::Kicked };
        assert_eq!(heard(&mut mia), [renamed, left]);
        let resumed = hub.resume("LOBBY", &token, 0, Visit::exempt()).await;
        assert_eq!(resumed.unwrap_err(), Refusal::BadToken);
        // Nor whoever has his place.
        drop(kim);
        let jo = hub.join("LOBBY", "jo").unwrap();
        let resumed = hub.resume("LOBBY", &token, 0, Visit::exempt()).await;
        assert_eq!(resumed.unwrap_err(), Refusal::BadToken);
        for name in ["kim", "ann"] {
            assert_eq!(sam.tell(name, "hello").await, Err(Refusal::NoSuchUser));
            drop(hub.join("LOBBY", name).unwrap());
        }
        // What is handed over then tells as many seats as it has.
        let mut heads = records.try_iter().map(|record| (record.head.seats, record.seats.len()));
        assert!(heads.all(|(told, seats)| told == seats as u64));
        drop(jo);
    }

    #[tokio::test]
    async fn whom_the_host_could_not_unmute_is_told_that_he_is_muted() {
        let (hub, records) = hub();
        let (sam, mut kim) = two(&hub, &records);
        kim.hold(9).unwrap();
        keep_all(&records);
        heard(&mut kim);
        let mute = |muted| sam.mute(true, &"kim".parse_name(), muted).unwrap();
        mute(true);
        keep_all(&records);
        sam.tell("kim", "hello").await.unwrap();
        mute(false);
        records.try_recv().unwrap().not_kept();
        let events = heard(&mut kim);
        assert!(matches!(events[0], Event::Notice { kind: NoticeKind::Muted, .. }), "{events:?}");
        assert!(matches!(events[1..], [Event::Tell { .. }]), "{events:?}");
        mute(false);
        keep_all(&records);
        mute(true);
        records.try_recv().unwrap().not_kept();
        let events = heard(&mut kim);
        assert!(matches!(events[..], [Event::Notice { kind: NoticeKind::Unmuted, .. }]));
    }

    #[tokio::test]
    async fn a_name_is_given_to_nobody_else_until_it_is_kept_that_it_is_given_up() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        sam.hold(9).unwrap();
        keep_all(&records);
        let (_, promise) = sam.rename("Samuel".parse_name()).unwrap();
        assert_eq!(hub.join("LOBBY", "Sam").map(drop), Err(Refusal::NameTaken));
        assert_eq!(sam.rename("Sammy".parse_name()).map(drop), Ok(()));
        assert_eq!(sam.rename("sam".parse_name()).map(drop), Ok(()), "it is his own");
        assert_eq!(sam.rename("Samuel".parse_name()).map(drop), Ok(()));
        records.try_recv().unwrap().not_kept();
        assert!(promise.is_broken());
        assert_eq!(kim.who().unwrap().0[0].name.as_str(), "sam");
        sam.rename("Samuel".parse_name()).unwrap();
        keep_all(&records);
        drop(hub.join("LOBBY", "Sam").unwrap());
    }

    #[tokio::test]
    async fn a_seat_is_resumed_when_it_is_known_what_it_has_said() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        let token = sam.hold(9).unwrap().0.to_string();
        keep_all(&records);
        sam.publish(&[Text::new("kept").unwrap()]).await.unwrap();
        let kept = records.try_recv().unwrap();
        sam.publish(&[Text::new("lost").unwrap()]).await.unwrap();
        let lost = records.try_recv().unwrap();
        let mut resumed = Box::pin(hub.resume("LOBBY", &token, 0, Visit::exempt()));
        assert!(resumed.as_mut().now_or_never().is_none());
        kept.kept();
        assert!(resumed.as_mut().now_or_never().is_none());
        lost.not_kept();
        let resumed = resumed.await.unwrap();
        assert_eq!((resumed.said, resumed.last_id, resumed.lines.len()), (1, 1, 1));
        drop(kim);
    }

    #[tokio::test]
    async fn what_who_tells_is_in_doubt_while_a_name_is_still_to_be_kept() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        sam.hold(9).unwrap();
        keep_all(&records);
        sam.rename("Samuel".parse_name()).unwrap();
        let (users, promise) = kim.who().unwrap();
        assert_eq!(users[0].name.as_str(), "Samuel");
        records.try_recv().unwrap().not_kept();
        assert!(promise.is_broken(), "nobody was ever called so");
        let (users, promise) = kim.who().unwrap();
        assert_eq!(users[0].name.as_str(), "sam");
        assert!(!promise.is_broken() && !kim.must_wait_for(promise.place));
    }

    #[tokio::test]
    async fn a_seat_is_resumed_under_the_name_that_it_has_then() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        let token = sam.hold(9).unwrap().0.to_string();
        keep_all(&records);
        sam.rename("Samuel".parse_name()).unwrap();
        let mut resumed = Box::pin(hub.resume("LOBBY", &token, 0, Visit::exempt()));
        assert!(resumed.as_mut().now_or_never().is_none());
        records.try_recv().unwrap().not_kept();
        assert_eq!(resumed.await.unwrap().seat.name().as_str(), "sam");
        drop(kim);
    }

    #[tokio::test]
    async fn when_nothing_is_kept_any_more_nothing_is_said() {
        let (hub, records) = hub();
        let (mut sam, kim) = two(&hub, &records);
        heard(&mut sam);
        let mut said = Box::pin(kim.say("in the queue"));
        assert!(said.as_mut().now_or_never().is_none());
        drop(records);
        assert_eq!(said.await, Err(Refusal::Storage));
        assert_eq!(kim.say("hello").await, Err(Refusal::Storage));
        hub.close_keeper();
        assert_eq!(kim.say("hello").await, Err(Refusal::Storage));
        assert_eq!(heard(&mut sam), []);
    }

    /// A disk that hangs: nothing is known of what was handed over.
    #[tokio::test]
    async fn while_nothing_is_kept_so_much_is_ordered_and_no_more() {
        let (hub, records) = hub();
        let (mut sam, mut kim) = two(&hub, &records);
        let is_counted = || hub.metrics().write(0, 0, 0).contains("{limit=\"unkept\"} 1\n");
        assert_eq!(hub.unkept_bytes(), 0);
        kim.hold(9).unwrap();
        let mut renamed = 0;
        let refusal = loop {
            let name = if renamed % 2 == 0 { "ann" } else { "ben" };
            match kim.rename(name.parse_name()) {
                Ok(_) => renamed += 1,
                Err(refusal) => break refusal,
            }
            assert!(hub.unkept_bytes() <= TOTAL_UNKEPT_BYTES + 1024, "{renamed} names");
        };
        assert_eq!(refusal, Refusal::Storage);
        assert!(hub.unkept_bytes() > TOTAL_UNKEPT_BYTES && is_counted(), "{renamed} names");
        // At once, and elsewhere as well.
        assert_eq!(sam.say("hello").now_or_never(), Some(Err(Refusal::Storage)));
        assert_eq!(hub.create().unwrap_err(), Refusal::Storage);
        assert_eq!(hub.join("LOBBY", "jo").unwrap_err(), Refusal::Storage);
        assert_eq!(sam.lock(true, true).unwrap_err(), Refusal::Storage);
        let name = if renamed % 2 == 1 { "ann" } else { "ben" };
        assert_eq!(sam.mute(true, &name.parse_name(), true).unwrap_err(), Refusal::Storage);
        assert_eq!(sam.hold(9).unwrap_err(), Refusal::Storage);
        // Who leaves has left, and when the disk goes on all goes on.
        drop(kim);
        keep_all(&records);
        assert_eq!(hub.unkept_bytes(), 0);
        let mut said = Box::pin(sam.say("hello"));
        assert!(said.as_mut().now_or_never().is_none());
        assert!(hub.unkept_bytes() > 0);
        keep_all(&records);
        assert_eq!(said.await.unwrap().id, 1);
        // What is taken back waits no more either.
        sam.lock(true, true).unwrap();
        assert!(hub.unkept_bytes() > 0);
        records.try_iter().for_each(drop);
        assert_eq!(hub.unkept_bytes(), 0);
    }

    trait ParseName {
        fn parse_name(&self) -> Name;
    }

    impl ParseName for str {
        fn parse_name(&self) -> Name {
            Name::parse(self).unwrap()
        }
    }
}
