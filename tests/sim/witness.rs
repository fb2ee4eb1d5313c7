//! The reference model: what the contract lets clients see, given what all of them have seen.
//!
//! It knows nothing of the server. Each client reports what it sends and what it reads; the
//! witness holds every report against all earlier ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use crate::client::now;
use crate::counts::Counts;
use crate::world::Plan;

/// A room, and what it belongs to: the life of the server if it is in memory, or the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoomKey {
    pub(crate) world: u64,
    pub(crate) code: String,
}

/// A message, as all must see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) time: String,
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A seat, as its owner knows it. What he has sent counts before it is answered.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) room: RoomKey,
    /// Every name it has asked for.
    names: Vec<String>,
    /// The least number of seconds that it may be held, once `OK HOLD` has come.
    pub(crate) hold: Option<u64>,
    /// `HOLD` was sent: it may be armed.
    pub(crate) hold_sent: bool,
    /// A command that was sent at this time has been executed by the one who sits here. After a
    /// crash later than now: until then it is held at least.
    pub(crate) alive_at: Duration,
    /// The same at the end of each life of the server that is over: lines of it may be read later.
    was_alive_at: BTreeMap<u64, Duration>,
    /// Something that its owner asked was answered.
    pub(crate) is_answered: bool,
    /// Its owner has given it up.
    pub(crate) is_over: bool,
    /// Since then it is known to have ended, in the life of the server that went on. Who is kicked is
    /// told so before it is stored: then it is later.
    ended_at: Option<Duration>,
    /// The life in which it had ended, or was not armed, when the server crashed.
    past: Option<u64>,
    pub(crate) quit_sent: bool,
    pub(crate) eof_sent: bool,
    pub(crate) kick_sent: bool,
    pub(crate) mute_sent: bool,
    /// Its connection may have broken.
    pub(crate) is_broken: bool,
}

/// Numbers a seat.
pub(crate) type SeatId = usize;

#[derive(Debug)]
pub(crate) struct Witness {
    plan: Rc<Plan>,
    /// The messages of each room, with the time at which somebody first knew of it.
    rooms: BTreeMap<RoomKey, BTreeMap<u64, (Duration, Message)>>,
    /// Where each text was said. All texts of a run differ.
    texts: BTreeMap<String, (RoomKey, u64)>,
    refused: BTreeSet<String>,
    /// Texts of `TELL`s that were sent, and whether they have arrived.
    tells: BTreeMap<String, bool>,
    seats: Vec<Seat>,
    closing: BTreeSet<RoomKey>,
    /// Rooms that somebody was in when the server crashed: they wait for their people. With how
    /// many have asked to enter since.
    waiting: BTreeMap<RoomKey, u64>,
    /// Lives in which the server was told to stop, and the one that has ended by itself.
    stopping: BTreeSet<u64>,
    ended_life: Option<(u64, Duration)>,
    /// Rooms with a seat that a stop has left as it was.
    shut_down: BTreeSet<RoomKey>,
    /// Codes that clients have told each other.
    pub(crate) board: Vec<RoomKey>,
    complaints: Vec<String>,
    trace: DefaultHasher,
    latest: VecDeque<String>,
    pub(crate) counts: Counts,
}

/// How long a server holds armed seats after a restart (STORE-3).
const RESTART_HOLD: Duration = Duration::from_secs(600);
/// Lines of the trace that a complaint is shown with.
const SHOWN: usize = 300;

impl Witness {
    pub(crate) fn new(plan: Rc<Plan>) -> Witness {
        Witness {
            plan,
            rooms: BTreeMap::new(),
            texts: BTreeMap::new(),
            refused: BTreeSet::new(),
            tells: BTreeMap::new(),
            seats: Vec::new(),
            closing: BTreeSet::new(),
            waiting: BTreeMap::new(),
            stopping: BTreeSet::new(),
            ended_life: None,
            shut_down: BTreeSet::new(),
            board: Vec::new(),
            complaints: Vec::new(),
            trace: DefaultHasher::new(),
            latest: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn note(&mut self, line: String) {
        line.hash(&mut self.trace);
        if self.latest.len() == SHOWN {
            self.latest.pop_front();
        }
        self.latest.push_back(line);
    }

    pub(crate) fn complain(&mut self, complaint: String) {
        self.note(format!("!!! {complaint}"));
        self.complaints.push(complaint);
    }

    pub(crate) fn hold_true(&mut self, is_true: bool, complaint: impl FnOnce() -> String) {
        if !is_true {
            self.complain(complaint());
        }
    }

    pub(crate) fn has_complaints(&self) -> bool {
        !self.complaints.is_empty()
    }

    pub(crate) fn story(&self) -> String {
        let latest: Vec<_> = self.latest.iter().map(String::as_str).collect();
        format!("{}\n--\n{}", latest.join("\n"), self.complaints.join("\n"))
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.finish()
    }

    /// Somebody has seen a message. Everybody must see the same one, and no text twice.
    pub(crate) fn message(&mut self, room: &RoomKey, id: u64, seen: Message) {
        let place = (room.clone(), id);
        let first = self.texts.entry(seen.text.clone()).or_insert_with(|| place.clone()).clone();
        if first != place {
            self.complain(format!("said twice: {:?} as {first:?} and {place:?}", seen.text));
        }
        let known = self.rooms.entry(room.clone()).or_default();
        let (_, known) = known.entry(id).or_insert_with(|| (now(), seen.clone())).clone();
        self.hold_true(known == seen, || format!("{place:?} is {known:?} and also {seen:?}"));
    }

    /// The newest message of a room that anybody has seen or was told of.
    pub(crate) fn newest(&self, room: &RoomKey) -> u64 {
        let last = self.rooms.get(room).and_then(|messages| messages.last_key_value());
        last.map_or(0, |(id, _)| *id)
    }

    /// Since when somebody knows of a message.
    pub(crate) fn known_since(&self, room: &RoomKey, id: u64) -> Option<Duration> {
        Some(self.rooms.get(room)?.get(&id)?.0)
    }

    /// A message was answered with an error.
    pub(crate) fn refused(&mut self, text: String) {
        self.refused.insert(text);
    }

    pub(crate) fn tell_sent(&mut self, text: String) {
        self.tells.insert(text, false);
    }

    pub(crate) fn tell_arrived(&mut self, text: &str) {
        match self.tells.get_mut(text) {
            None => self.complain(format!("nobody has told {text:?}")),
            Some(true) => self.complain(format!("told twice: {text:?}")),
            Some(arrived) => *arrived = true,
        }
    }

    pub(crate) fn sit_down(&mut self, room: RoomKey, name: &str, at: Duration) -> SeatId {
        self.enter_sent(&room);
        self.seats.push(Seat {
            room,
            names: vec![name.to_owned()],
            hold: None,
            hold_sent: false,
            alive_at: at,
            is_answered: false,
            is_over: false,
            ended_at: None,
            past: None,
            was_alive_at: BTreeMap::new(),
            quit_sent: false,
            eof_sent: false,
            kick_sent: false,
            mute_sent: false,
            is_broken: false,
        });
        self.seats.len() - 1
    }

    pub(crate) fn seat(&mut self, seat: SeatId) -> &mut Seat {
        &mut self.seats[seat]
    }

    /// A seat asks for another name.
    pub(crate) fn rename_sent(&mut self, seat: SeatId, name: &str) {
        self.seats[seat].names.push(name.to_owned());
    }

    /// The host of a room is about to do something to whoever has this name.
    pub(crate) fn rule_sent(&mut self, room: &RoomKey, name: &str, rule: impl Fn(&mut Seat)) {
        let seats = self.seats.iter_mut().filter(|seat| seat.room == *room);
        seats.filter(|seat| seat.has_name(name)).for_each(rule);
    }

    pub(crate) fn close_sent(&mut self, room: &RoomKey) {
        self.closing.insert(room.clone());
    }

    pub(crate) fn is_closing(&self, room: &RoomKey) -> bool {
        self.closing.contains(room)
    }

    /// The server is told to stop.
    pub(crate) fn stop(&mut self) {
        self.stopping.insert(self.life());
    }

    /// It has stopped.
    pub(crate) fn has_ended(&mut self) {
        self.ended_life = Some((self.life(), now()));
        self.counts.stops += 1;
    }

    /// Somebody in a room was told at the end of his connection that the server stops.
    pub(crate) fn was_shut_down(&mut self, room: &RoomKey, life: u64) {
        if self.plan.is_stored && life == self.life() {
            self.shut_down.insert(room.clone());
        }
    }

    /// Whether the server was told to stop in some life.
    pub(crate) fn is_stopping(&self, life: u64) -> bool {
        self.stopping.contains(&life)
    }

    /// The server has lost its power. What was stored outlives it.
    pub(crate) fn crash(&mut self, now: Duration) {
        let life = self.life();
        self.counts.crashes += 1;
        let is_kept = match self.ended_life {
            Some((ended, at)) if ended == life => self.plan.is_kept(at, true),
            _ => self.plan.is_kept(now, false),
        };
        self.waiting.retain(|_, asked| *asked == 0);
        self.waiting.extend(std::mem::take(&mut self.shut_down).into_iter().map(|room| (room, 0)));
        for id in 0..self.seats.len() {
            if self.is_seated(id, now) {
                self.waiting.insert(self.seats[id].room.clone(), 0);
            }
            let is_certain = self.is_certain(id, now);
            let seat = &mut self.seats[id];
            seat.is_broken = true;
            seat.was_alive_at.insert(life, seat.alive_at);
            let is_over = seat.ended_at.is_some_and(|at| at <= now);
            if !seat.hold_sent || (is_over && is_kept) {
                seat.past.get_or_insert(life);
            }
            // Where its end was not stored it is back.
            seat.ended_at = seat.ended_at.filter(|_| seat.past.is_some());
            if is_certain {
                seat.alive_at = now + RESTART_HOLD;
            }
        }
    }

    /// Whether a seat must be there because its connection must.
    fn is_seated(&self, seat: SeatId, now: Duration) -> bool {
        let seat = &self.seats[seat];
        let may_be_gone = seat.is_over || seat.is_broken || seat.quit_sent || seat.kick_sent;
        let is_here = seat.is_answered && now < seat.alive_at + self.plan.stall;
        self.plan.is_stored && is_here && !may_be_gone && !self.is_closing(&seat.room)
    }

    /// Somebody asks for a seat that he had: from now on it is held as long as it is armed for.
    pub(crate) fn resume_sent(&mut self, seat: SeatId) {
        let seat = &mut self.seats[seat];
        seat.alive_at = seat.alive_at.min(now());
        let room = seat.room.clone();
        self.enter_sent(&room);
    }

    /// Somebody asks to enter a room.
    fn enter_sent(&mut self, room: &RoomKey) {
        self.waiting.entry(room.clone()).and_modify(|asked| *asked += 1);
    }

    /// Whether a room must be there for the first who comes, as it was before a crash.
    pub(crate) fn is_waiting(&self, room: &RoomKey) -> bool {
        self.waiting.get(room) == Some(&1) && !self.is_closing(room)
    }

    /// Which life of the server goes on, or was the last.
    fn life(&self) -> u64 {
        self.counts.crashes + 1
    }

    /// Whether a seat has ended that was known to, so that its token opens nothing in a life.
    pub(crate) fn is_dead(&self, seat: SeatId, life: u64) -> bool {
        self.seats[seat].is_past(life) || life == self.life() && self.seats[seat].ended_at.is_some()
    }

    /// Somebody was told in some life that a seat has ended.
    pub(crate) fn ended(&mut self, seat: SeatId, life: u64, now: Duration) {
        if life == self.life() {
            self.seats[seat].ended_at.get_or_insert(now);
        }
    }

    /// Whether there may be a member of this name in some life: a seat that did not end with an
    /// earlier one.
    pub(crate) fn may_be_there(&self, room: &RoomKey, name: &str, life: u64) -> bool {
        let mut seats = self.seats.iter().filter(|seat| seat.room == *room && !seat.is_past(life));
        seats.any(|seat| seat.has_name(name))
    }

    /// A client has seen in some life who is in a room: nobody who is past.
    pub(crate) fn count_past(&mut self, room: &RoomKey, life: u64) {
        for seat in self.seats.iter().filter(|seat| seat.room == *room && seat.is_past(life)) {
            match seat.ended_at.filter(|_| seat.hold.is_some()) {
                Some(at) => self.counts.retried += u64::from(self.plan.may_fail(at, at)),
                None => self.counts.forgotten += 1,
            }
        }
    }

    /// Whether a seat must still be there, whatever happens to its connection: it is armed, its
    /// time cannot be over, and nobody has ended it.
    pub(crate) fn is_certain(&self, seat: SeatId, now: Duration) -> bool {
        let seat = &self.seats[seat];
        let may_be_gone =
            seat.is_over || seat.quit_sent || seat.kick_sent || self.is_closing(&seat.room);
        let slack = self.plan.slack();
        let is_held = |hold| now + slack < seat.alive_at + Duration::from_secs(hold);
        !may_be_gone && seat.hold.is_some_and(is_held)
    }

    /// Seats that must be in a room, with the only name that they can have.
    pub(crate) fn certain(&self, room: &RoomKey, now: Duration) -> Vec<(SeatId, String)> {
        let seats = self.seats.iter().enumerate().filter(|(_, seat)| seat.room == *room);
        let named = seats.filter(|(id, seat)| seat.names.len() == 1 && self.is_certain(*id, now));
        named.map(|(id, seat)| (id, seat.names[0].clone())).collect()
    }

    /// Somebody has read that a member has left.
    pub(crate) fn left(&mut self, room: &RoomKey, name: &str, reason: &str, life: u64) {
        let now = now();
        self.counts.expired += u64::from(reason == "lost");
        let is_past = !self.may_be_there(room, name, life);
        self.hold_true(!is_past, || format!("LEFT {name} {reason}, of an earlier life"));
        // A name that several have had tells nothing about any of them.
        let seats = self.seats.iter().enumerate();
        let mut seats = seats.filter(|(_, seat)| seat.room == *room && seat.has_name(name));
        let (Some((id, seat)), None) = (seats.next(), seats.next()) else { return };
        let slack = self.plan.slack();
        let alive_at = *seat.was_alive_at.get(&life).unwrap_or(&seat.alive_at);
        let is_over_time = |hold| now + slack >= alive_at + Duration::from_secs(hold);
        let is_stalled = !self.plan.is_calm && now + slack >= alive_at + self.plan.stall;
        let is_right = match reason {
            "quit" => seat.quit_sent,
            "eof" => (seat.eof_sent || seat.is_broken) && seat.hold.is_none(),
            "kicked" => seat.kick_sent,
            "lost" => seat.hold.map_or(seat.is_broken || is_stalled, is_over_time),
            _ => false,
        };
        let seat = format!("{seat:?}");
        self.hold_true(is_right, || format!("LEFT {name} {reason} at {now:?}, but {seat}"));
        self.ended(id, life, now);
    }

    /// What can be told only at the end.
    pub(crate) fn close(&mut self) {
        let mut complaints = Vec::new();
        for text in &self.refused {
            if let Some(place) = self.texts.get(text) {
                complaints.push(format!("refused and said all the same: {text:?}, {place:?}"));
            }
        }
        for (room, messages) in &self.rooms {
            let pairs = messages.iter().zip(messages.iter().skip(1));
            for ((id, (_, earlier)), (_, (_, later))) in pairs {
                if earlier.time > later.time {
                    complaints.push(format!("time goes back after {id} of {room:?}"));
                }
            }
        }
        complaints.into_iter().for_each(|complaint| self.complain(complaint));
    }
}

impl Seat {
    fn is_past(&self, life: u64) -> bool {
        self.past.is_some_and(|past| past < life)
    }

    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}
