//! What a client makes of the lines it reads, and what they must be.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::{Client, Sent, What, now};
use crate::witness::{Message, RoomKey, SeatId};

/// A seat from its owner's side.
#[derive(Debug)]
pub(crate) struct Sitting {
    pub(crate) seat: SeatId,
    pub(crate) room: RoomKey,
    /// The life of the server in which it was taken last.
    pub(crate) life: u64,
    pub(crate) name: String,
    /// The highest id seen, all lower ones seen too.
    pub(crate) last: u64,
    /// Messages acknowledged, or found to have arrived, since the seat was taken.
    pub(crate) accepted: u64,
    /// Texts that were sent and not answered when the connection broke, and when they were sent.
    pub(crate) unanswered: Vec<(String, Duration)>,
    /// Everybody in the room, oneself included; `None` until `WHO` has told.
    pub(crate) members: Option<BTreeSet<String>>,
    pub(crate) token: Option<String>,
    pub(crate) is_here: bool,
    pub(crate) is_host: bool,
    /// It was the room's first, and so is the host's while it lasts.
    is_founder: bool,
}

impl Client {
    /// One line of the server's.
    pub(crate) fn read(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if self.bye.is_some() || (self.life == 0) != (word == "HELLO") {
            return self.complain(format!("out of place: {line}"));
        }
        let answers = self.pending.front().map(|sent| sent.verb);
        match word {
            "HELLO" => self.life = crate::world::life_of(line).unwrap_or_default(),
            "OK" => self.answer(rest, true),
            "ERR" => self.answer(rest, false),
            "BYE" => self.farewell(rest),
            "NOTICE" => self.notice(rest),
            "USER" => self.data.push(line.to_owned()),
            _ if matches!(answers, Some("JOIN" | "RESUME" | "HISTORY")) => {
                self.data.push(line.to_owned());
            }
            _ => {
                if !self.data.is_empty() {
                    self.complain(format!("within an answer: {line}"));
                }
                self.event(line);
            }
        }
    }

    fn notice(&mut self, rest: &str) {
        let Some(sitting) = &mut self.sitting else { return };
        sitting.is_host |= rest.starts_with("host ");
        let seat = sitting.seat;
        if rest.starts_with("muted ") {
            let mut witness = self.witness.borrow_mut();
            let was_asked_for = witness.seat(seat).mute_sent;
            witness.hold_true(was_asked_for, || "muted by nobody".into());
        }
    }

    fn farewell(&mut self, rest: &str) {
        let reason = rest.split(' ').next().unwrap_or_default();
        let seat = self.sitting.as_ref().map(|sitting| (sitting.seat, sitting.room.clone()));
        // Who has joined is a member, also while he waits for his answer.
        let joining = self.pending.iter().find_map(|sent| match &sent.what {
            What::Join { seat, room, .. } => Some((*seat, room.clone())),
            _ => None,
        });
        let is_right = match (reason, seat.or(joining)) {
            ("quit" | "eof" | "slow", _) => true,
            ("shutdown", _) => self.witness.borrow().is_stopping(self.life),
            ("kicked", Some((seat, _))) => self.witness.borrow_mut().seat(seat).kick_sent,
            ("closed", Some((_, room))) => self.witness.borrow().is_closing(&room),
            _ => false,
        };
        if !is_right {
            self.complain(format!("a BYE without a reason: {rest}"));
        }
        if let Some(sitting) = &self.sitting {
            let mut witness = self.witness.borrow_mut();
            match reason {
                "quit" => witness.ended(sitting.seat, self.life, now()),
                "kicked" => witness.ended(sitting.seat, self.life, now() + self.plan.commits(2)),
                "shutdown" if sitting.is_here => witness.was_shut_down(&sitting.room, self.life),
                _ => {}
            }
        }
        self.bye = Some(reason.to_owned());
    }

    /// What happens in the room. Ids rise by one, or by what a `GAP` says.
    pub(crate) fn event(&mut self, line: &str) {
        let fields: Vec<_> = line.splitn(5, ' ').collect();
        let Some(sitting) = &mut self.sitting else {
            return self.complain(format!("an event without a seat: {line}"));
        };
        let room = sitting.room.clone();
        let mut witness = self.witness.borrow_mut();
        let is_right = match fields[..] {
            ["MSG", _, _, name, text] => {
                let Some((id, message)) = message_of(line) else {
                    return witness.complain(format!("no message: {line}"));
                };
                let is_next = id == sitting.last + 1;
                let is_member = sitting.members.iter().all(|members| members.contains(name));
                let is_mine = self.pending.iter().any(|sent| sent.is_text(text));
                sitting.last = id;
                witness.message(&room, id, message);
                witness.counts.heard += 1;
                is_next && is_member && !is_mine
            }
            ["GAP", messages] => {
                sitting.last += messages.parse().unwrap_or(0);
                sitting.members = None;
                witness.counts.gaps += 1;
                true
            }
            ["TELL", _, _, ..] => {
                witness.tell_arrived(line.splitn(4, ' ').last().unwrap_or_default());
                true
            }
            ["JOINED", name] => sitting.members.iter_mut().all(|members| {
                let is_new = !members.iter().any(|other| other.eq_ignore_ascii_case(name));
                members.insert(name.to_owned());
                is_new
            }),
            ["LEFT", name, reason] => {
                witness.left(&room, name, reason, self.life);
                sitting.members.iter_mut().all(|members| members.remove(name))
            }
            ["RENAMED", old, new] => sitting.members.iter_mut().all(|members| {
                let was_there = members.remove(old);
                let is_new = !members.iter().any(|other| other.eq_ignore_ascii_case(new));
                members.insert(new.to_owned());
                was_there && is_new
            }),
            _ => false,
        };
        let who = self.number;
        witness.hold_true(is_right, || format!("{:?} c{who}: not so: {line}", now()));
    }

    fn answer(&mut self, rest: &str, is_ok: bool) {
        let fields: Vec<_> = rest.split(' ').collect();
        let Some(sent) = self.pending.pop_front() else {
            return self.complain(format!("nobody has asked: {rest}"));
        };
        if fields[0] != sent.verb {
            return self.complain(format!("{} is answered {rest}", sent.verb));
        }
        let (verb, at, known) = (sent.verb, sent.at, sent.known);
        if !is_ok {
            return self.error(sent, fields.get(1).copied().unwrap_or_default());
        }
        let is_right = self.ok(sent, &fields);
        if is_right != Some(true) {
            self.complain(format!("not so: OK {rest}"));
        }
        // Whoever is answered has seen all that anybody had seen when he asked.
        if let Some(sitting) = &self.sitting {
            let mut witness = self.witness.borrow_mut();
            let seat = witness.seat(sitting.seat);
            seat.is_answered = true;
            seat.alive_at = seat.alive_at.max(at);
            let last = sitting.last;
            drop(witness);
            if last < known && !self.is_hurried() {
                self.complain(format!("{verb}: {last} seen, not {known}"));
            }
        }
    }

    /// Whether the answer is what it must be; `None` if it has not its form.
    fn ok(&mut self, sent: Sent, fields: &[&str]) -> Option<bool> {
        let data = std::mem::take(&mut self.data);
        match (sent.what, fields) {
            (What::Name(name), ["CREATE", code, made]) => {
                let world = self.plan.world_of(self.life);
                let room = RoomKey { world, code: (*code).to_owned() };
                let mut witness = self.witness.borrow_mut();
                let seat = witness.sit_down(room.clone(), &name, sent.at);
                witness.board.push(room.clone());
                let is_right = name == *made;
                self.sitting = Some(Sitting::new(seat, room, self.life, name, 0, true));
                Some(is_right)
            }
            (What::Join { seat, room, name, latest, .. }, ["JOIN", code, made, last, _, lines]) => {
                let mut witness = self.witness.borrow_mut();
                witness.counts.reopened += u64::from(witness.is_waiting(&room));
                drop(witness);
                let last = last.parse().ok()?;
                let count = latest.min(last).min(self.plan.history);
                let is_right = room.code == *code && name == *made && is_count(lines, &data);
                let is_history = self.is_history(&room, &data, count, last);
                self.sitting = Some(Sitting::new(seat, room, self.life, name, last, false));
                Some(is_right && is_history)
            }
            (What::Resume { .. }, ["RESUME", code, name, last, _, lines, said]) => {
                let is_right = is_count(lines, &data);
                let sitting = self.sitting.as_ref()?;
                let is_seat = sitting.room.code == *code
                    && sitting.room.world == self.plan.world_of(self.life);
                let resumed = self.resumed(name, last.parse().ok()?, said.parse().ok()?, &data);
                Some(is_right && is_seat && resumed)
            }
            (what, fields) => self.member_ok(Sent { what, ..sent }, fields, data),
        }
    }

    /// The same for what members ask.
    fn member_ok(&mut self, sent: Sent, fields: &[&str], data: Vec<String>) -> Option<bool> {
        match (sent.what, fields) {
            (What::Text(text), ["MSG", id, time]) => {
                let is_sent_away = self.is_sent_away();
                let sitting = self.sitting.as_mut()?;
                let id = id.parse().ok()?;
                let mut witness = self.witness.borrow_mut();
                let is_next = id == sitting.last + 1 || (id > sitting.last && is_sent_away);
                let is_next = is_next && id > sent.known;
                (sitting.last, sitting.accepted) = (id, sitting.accepted + 1);
                let (time, name) = ((*time).to_owned(), sitting.name.clone());
                witness.message(&sitting.room, id, Message { time, name, text });
                witness.counts.said += 1;
                Some(is_next)
            }
            (What::Who { certain }, ["WHO", lines]) => {
                Some(is_count(lines, &data) && self.is_everybody(&data, certain)?)
            }
            (What::Latest(latest), ["HISTORY", lines]) => {
                let events = data.len().checked_sub(lines.parse().ok()?)?;
                data[..events].iter().for_each(|line| self.event(line));
                let sitting = self.sitting.as_ref()?;
                let (room, mut last) = (sitting.room.clone(), sitting.last);
                if self.is_hurried() {
                    last = data.last().and_then(|line| message_of(line)).map_or(last, |(id, _)| id);
                }
                let count = latest.min(last).min(self.plan.history);
                Some(self.is_history(&room, &data[events..], count, last))
            }
            (What::Seconds(seconds), ["HOLD", token, held]) => {
                let later = self.pending.iter().filter_map(Sent::seconds).min();
                let sitting = self.sitting.as_mut()?;
                let hold = later.map_or(seconds, |later| later.min(seconds));
                self.witness.borrow_mut().seat(sitting.seat).hold = Some(hold);
                let token = (*token).to_owned();
                let is_same = sitting.token.get_or_insert(token.clone()) == &token;
                Some(is_same && *held == seconds.to_string())
            }
            (What::Name(name), ["NICK", made]) => {
                let sitting = self.sitting.as_mut()?;
                if let Some(members) = &mut sitting.members {
                    members.remove(&sitting.name);
                    members.insert(name.clone());
                }
                sitting.name.clone_from(&name);
                Some(name == *made)
            }
            (What::Name(name), ["KICK", kicked]) => {
                let members = self.sitting.as_mut()?.members.as_mut();
                Some(name == *kicked && members.is_none_or(|members| members.remove(&name)))
            }
            // Somebody may have come whose name reads alike.
            (What::Name(name), ["TELL" | "MUTE" | "UNMUTE", made]) => {
                Some(name.eq_ignore_ascii_case(made))
            }
            (What::Nothing, ["LEAVE", code]) => {
                let sitting = self.sitting.as_ref()?;
                let is_right = sitting.room.code == *code;
                self.witness.borrow_mut().ended(sitting.seat, self.life, now());
                self.give_up_seat();
                Some(is_right)
            }
            (What::Nothing, ["PING" | "QUIT" | "CLOSE"]) => Some(true),
            _ => None,
        }
    }

    /// Whether this may be the end of the connection: then replies can come without what happened
    /// before.
    fn is_hurried(&self) -> bool {
        self.is_sent_away() || self.witness.borrow().is_stopping(self.life)
    }

    /// Whether one's own messages can be answered then without those of others before them. They
    /// can't be for who could come back: he would not ask for those.
    fn is_sent_away(&self) -> bool {
        let Some(sitting) = &self.sitting else { return false };
        let mut witness = self.witness.borrow_mut();
        let is_stopping = witness.is_stopping(self.life);
        let seat = witness.seat(sitting.seat);
        let (is_kicked, is_broken) = (seat.kick_sent, seat.is_broken);
        let is_last = is_broken || is_stopping;
        is_kicked || sitting.token.is_none() && is_last || witness.is_closing(&sitting.room)
    }

    /// Whether these are so many messages up to the last, one after another.
    pub(crate) fn is_history(
        &self,
        room: &RoomKey,
        data: &[String],
        count: u64,
        last: u64,
    ) -> bool {
        let mut witness = self.witness.borrow_mut();
        let mut is_next = |(line, id): (&String, u64)| {
            message_of(line).is_some_and(|(seen, message)| {
                witness.message(room, seen, message);
                seen == id
            })
        };
        data.len() as u64 == count && data.iter().zip(last - count + 1..).all(&mut is_next)
    }

    /// Whether these are the members: all whom the events have told of, each once, and everybody
    /// who must be there.
    fn is_everybody(&mut self, data: &[String], certain: Vec<(SeatId, String)>) -> Option<bool> {
        let is_hurried = self.is_hurried();
        let sitting = self.sitting.as_mut()?;
        let users = data.iter().map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned());
        let users: BTreeSet<String> = users.collect();
        let alike: BTreeSet<_> = users.iter().map(|name| name.to_ascii_lowercase()).collect();
        let is_told = sitting.members.iter().all(|members| *members == users);
        let role = if sitting.is_founder { " host" } else { "" };
        let own = format!("USER {} here{role}", sitting.name);
        let is_here = data.iter().any(|line| line.starts_with(&own));
        let mut witness = self.witness.borrow_mut();
        let may_be = |name: &&String| witness.may_be_there(&sitting.room, name, self.life);
        let is_past = users.iter().find(|name| !may_be(name));
        witness.hold_true(is_past.is_none(), || format!("there, of an earlier life: {is_past:?}"));
        witness.count_past(&sitting.room, self.life);
        let still = witness.certain(&sitting.room, now());
        let missing = certain.iter().find(|seat| still.contains(seat) && !users.contains(&seat.1));
        let is_told = is_told || is_hurried;
        sitting.members = Some(users);
        Some(alike.len() == data.len() && is_told && is_here && missing.is_none())
    }
}

impl Sitting {
    fn new(
        seat: SeatId,
        room: RoomKey,
        life: u64,
        name: String,
        last: u64,
        is_host: bool,
    ) -> Sitting {
        Sitting {
            seat,
            room,
            life,
            name,
            last,
            accepted: 0,
            unanswered: Vec::new(),
            members: None,
            token: None,
            is_here: true,
            is_host,
            is_founder: is_host,
        }
    }
}

impl Sent {
    fn is_text(&self, text: &str) -> bool {
        matches!(&self.what, What::Text(own) if own == text)
    }

    fn seconds(&self) -> Option<u64> {
        if let What::Seconds(seconds) = self.what { Some(seconds) } else { None }
    }
}

fn is_count(lines: &str, data: &[String]) -> bool {
    lines.parse() == Ok(data.len())
}

/// `MSG <id> <time> <name> <text>`
pub(crate) fn message_of(line: &str) -> Option<(u64, Message)> {
    let mut fields = line.strip_prefix("MSG ")?.splitn(4, ' ');
    let id = fields.next()?.parse().ok()?;
    let [time, name, text] = [fields.next()?, fields.next()?, fields.next()?].map(str::to_owned);
    Some((id, Message { time, name, text }))
}
