//! The reference model: what the contract lets clients see, given what all of them have seen.
//!
//! It knows nothing of the server. Each client reports what it sends and what it reads; the
//! witness holds every report against all earlier ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::client::now;

/// A room, and the life of the server it belongs to: rooms in memory end with the server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoomKey {
    pub(crate) life: u64,
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
    /// A command that was sent at this time has been executed by the one who sits here.
    pub(crate) alive_at: Duration,
    /// Its owner has given it up.
    pub(crate) is_over: bool,
    pub(crate) quit_sent: bool,
    pub(crate) eof_sent: bool,
    pub(crate) kick_sent: bool,
    pub(crate) mute_sent: bool,
    /// Its connection may have broken.
    pub(crate) is_broken: bool,
}

/// Numbers a seat.
pub(crate) type SeatId = usize;

#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// The messages of each room, with the time at which somebody first knew of it.
    rooms: BTreeMap<RoomKey, BTreeMap<u64, (Duration, Message)>>,
    /// Where each text was said. All texts of a run differ.
    texts: BTreeMap<String, (RoomKey, u64)>,
    refused: BTreeSet<String>,
    /// Texts of `TELL`s that were sent, and whether they have arrived.
    tells: BTreeMap<String, bool>,
    seats: Vec<Seat>,
    closing: BTreeSet<RoomKey>,
    /// Codes that clients have told each other.
    pub(crate) board: Vec<RoomKey>,
    /// How much two hosts' clocks may differ.
    pub(crate) slack: Duration,
    complaints: Vec<String>,
    trace: DefaultHasher,
    latest: VecDeque<String>,
    pub(crate) counts: Counts,
}

/// What happened in a run, so that nobody takes an idle simulation for a passed one.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) said: u64,
    pub(crate) heard: u64,
    pub(crate) resumed: u64,
    pub(crate) expired: u64,
    pub(crate) gaps: u64,
    pub(crate) crashes: u64,
    pub(crate) replaced: u64,
}

/// Lines of the trace that a complaint is shown with.
const SHOWN: usize = 300;

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        self.said += other.said;
        self.heard += other.heard;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.gaps += other.gaps;
        self.crashes += other.crashes;
        self.replaced += other.replaced;
    }

    pub(crate) fn are_all_there(&self) -> bool {
        let Counts { said, heard, resumed, expired, gaps, crashes, replaced } = *self;
        [said, heard, resumed, expired, gaps, crashes, replaced].iter().all(|count| *count > 0)
    }
}

impl Witness {
    pub(crate) fn new(slack: Duration) -> Witness {
        Witness { slack, ..Witness::default() }
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
        self.seats.push(Seat {
            room,
            names: vec![name.to_owned()],
            hold: None,
            alive_at: at,
            is_over: false,
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

    /// Whether a seat must still be there, whatever happens to its connection: it is armed, its
    /// time cannot be over, and nobody has ended it.
    pub(crate) fn is_certain(&self, seat: SeatId, now: Duration) -> bool {
        let seat = &self.seats[seat];
        let may_be_gone =
            seat.is_over || seat.quit_sent || seat.kick_sent || self.is_closing(&seat.room);
        !may_be_gone
            && seat
                .hold
                .is_some_and(|hold| now + self.slack < seat.alive_at + Duration::from_secs(hold))
    }

    /// Seats that must be in a room, with the only name that they can have.
    pub(crate) fn certain(&self, room: &RoomKey, now: Duration) -> Vec<(SeatId, String)> {
        let seats = self.seats.iter().enumerate().filter(|(_, seat)| seat.room == *room);
        let named = seats.filter(|(id, seat)| seat.names.len() == 1 && self.is_certain(*id, now));
        named.map(|(id, seat)| (id, seat.names[0].clone())).collect()
    }

    /// Somebody has read that a member has left.
    pub(crate) fn left(&mut self, room: &RoomKey, name: &str, reason: &str, now: Duration) {
        self.counts.expired += u64::from(reason == "lost");
        // A name that several have had tells nothing about any of them.
        let mut seats = self.seats.iter().filter(|seat| seat.room == *room && seat.has_name(name));
        let (Some(seat), None) = (seats.next(), seats.next()) else { return };
        let is_over_time = |hold| now + self.slack >= seat.alive_at + Duration::from_secs(hold);
        let is_right = match reason {
            "quit" => seat.quit_sent,
            "eof" => (seat.eof_sent || seat.is_broken) && seat.hold.is_none(),
            "kicked" => seat.kick_sent,
            "lost" => seat.hold.map_or(seat.is_broken, is_over_time),
            _ => false,
        };
        let seat = format!("{seat:?}");
        self.hold_true(is_right, || format!("LEFT {name} {reason} at {now:?}, but {seat}"));
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
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}
