//! A client that does what its dice say, and reports all that it sends and reads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::dice::Dice;
use crate::sitting::Sitting;
use crate::wire::{Came, Wire};
use crate::witness::{RoomKey, SeatId, Witness};
use crate::world::Plan;

/// A command that is not answered yet.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) verb: &'static str,
    pub(crate) at: Duration,
    /// The newest message of the room that anybody knew of when it was sent.
    pub(crate) known: u64,
    pub(crate) what: What,
}

/// What is to be remembered of a command.
#[derive(Debug)]
pub(crate) enum What {
    Nothing,
    Text(String),
    Name(String),
    Seconds(u64),
    /// At most so many messages.
    Latest(u64),
    Join {
        seat: SeatId,
        room: RoomKey,
        name: String,
        latest: u64,
        certain: Vec<SeatId>,
    },
    Resume {
        was_certain: bool,
    },
    /// Of a seat that has ended.
    DeadToken,
    /// Who must be there.
    Who {
        certain: Vec<(SeatId, String)>,
    },
}

pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) plan: Rc<Plan>,
    pub(crate) dice: Dice,
    pub(crate) witness: Rc<RefCell<Witness>>,
    pub(crate) names: u64,
    pub(crate) texts: u64,
    pub(crate) wire: Option<Wire>,
    /// Connections that have ended without a sign to the server.
    pub(crate) vanished: Rc<RefCell<Vec<Wire>>>,
    /// Which life of the server the connection is with; 0 until its `HELLO`.
    pub(crate) life: u64,
    /// The reason of the `BYE`.
    pub(crate) bye: Option<String>,
    pub(crate) pending: VecDeque<Sent>,
    /// When something came, or could have come.
    pub(crate) heard_at: Duration,
    /// Since then it has read what came.
    pub(crate) reads_since: Duration,
    /// Data lines of the oldest command that is not answered.
    pub(crate) data: Vec<String>,
    pub(crate) sitting: Option<Sitting>,
    /// The last armed seat that has ended, with its token.
    pub(crate) dead: Option<(SeatId, RoomKey, String)>,
}

impl Client {
    pub(crate) fn new(
        number: u64,
        plan: Rc<Plan>,
        dice: Dice,
        witness: Rc<RefCell<Witness>>,
        vanished: Rc<RefCell<Vec<Wire>>>,
    ) -> Client {
        Client {
            number,
            plan,
            dice,
            witness,
            names: 0,
            texts: 0,
            wire: None,
            vanished,
            life: 0,
            bye: None,
            pending: VecDeque::new(),
            heard_at: Duration::ZERO,
            reads_since: Duration::ZERO,
            data: Vec::new(),
            sitting: None,
            dead: None,
        }
    }

    /// A whole life: until the end of the plan as the dice say, then once more in order.
    pub(crate) async fn live(mut self) -> turmoil::Result {
        self.wait(self.plan.ticks(1)).await;
        while now() < self.plan.calm_from() {
            match (&self.wire, &self.sitting) {
                (None, _) => self.connect().await,
                (Some(_), Some(sitting)) if sitting.is_here => self.act().await,
                (Some(_), _) => self.enter().await,
            }
        }
        while !self.say_goodbye().await {}
        Ok(())
    }

    /// In fair weather everybody gets in, hears all, and goes. False if it has to be tried again.
    async fn say_goodbye(&mut self) -> bool {
        if self.wire.is_none() {
            self.connect().await;
        }
        if self.wire.is_some() && !self.sitting.as_ref().is_some_and(|sitting| sitting.is_here) {
            self.enter().await;
        }
        if !self.sitting.as_ref().is_some_and(|sitting| sitting.is_here) {
            return false;
        }
        self.say();
        self.who();
        self.send("HISTORY", " 1000", What::Latest(1000));
        self.send("PING", "", What::Nothing);
        self.until_answered().await;
        if self.wire.is_none() || self.sitting.is_none() {
            return false;
        }
        self.quit().await;
        true
    }

    /// Lets time pass, and takes what comes.
    pub(crate) async fn wait(&mut self, time: Duration) {
        if self.wire.is_none() {
            return tokio::time::sleep(time).await;
        }
        let end = now() + time;
        while let Some(left) = end.checked_sub(now()).filter(|left| !left.is_zero()) {
            let Some(wire) = &mut self.wire else { return };
            let came = wire.exchange(left, false).await;
            self.take(came);
            self.must_have_heard();
            let oldest = self.pending.front().map(|sent| sent.at.max(self.heard_at));
            if oldest.is_some_and(|at| now() > at + self.plan.patience()) {
                self.loses_patience("no answer");
            }
        }
    }

    async fn until_answered(&mut self) {
        while self.wire.is_some() && !self.pending.is_empty() {
            self.wait(self.plan.ticks(2)).await;
        }
    }

    /// Where the weather is fair, who reads hears soon what others know, unasked.
    fn must_have_heard(&self) {
        let Some(sitting) = self.sitting.as_ref().filter(|sitting| sitting.is_here) else { return };
        let since = self.witness.borrow().known_since(&sitting.room, sitting.last + 1);
        let soon = self.plan.patience() / 2;
        let since = since.map(|since| since.max(self.reads_since).max(self.heard_at));
        let listens = self.wire.is_some() && self.bye.is_none();
        if self.plan.is_calm && listens && since.is_some_and(|at| now() > at + soon) {
            self.complain(format!("has not heard {} of {:?}", sitting.last + 1, sitting.room));
        }
    }

    /// Breaks off because nothing comes. Where the weather is always fair, that must not be.
    pub(crate) fn loses_patience(&mut self, why: &str) {
        // After a BYE nothing is answered.
        if self.plan.is_calm && self.bye.is_none() {
            self.complain(format!("{why}: {:?}", self.pending.front()));
        }
        self.break_off(why);
    }

    fn take(&mut self, came: Came) {
        if came == Came::Something {
            self.heard_at = now();
        }
        while let Some(line) = self.wire.as_mut().and_then(Wire::line) {
            match String::from_utf8(line) {
                Ok(line) => {
                    self.note(&format!("< {line}"));
                    self.read(&line);
                }
                Err(error) => self.complain(format!("not UTF-8: {error}")),
            }
        }
        if came == Came::End {
            self.break_off("ended");
        }
    }

    pub(crate) async fn connect(&mut self) {
        let pause = self.dice.within(1..=20);
        self.wait(self.plan.ticks(pause)).await;
        let patience = self.plan.patience();
        // Small pieces take their time.
        let shortest = if self.plan.is_calm { 400 } else { 7 };
        let cut = self.dice.pick(&[1 << 16, 1 << 16, 400, shortest]);
        self.wire = Wire::connect(patience, cut).await;
        (self.life, self.bye, self.reads_since) = (0, None, now());
        if self.wire.is_some() {
            self.note("connected");
            let end = now() + patience;
            while self.wire.is_some() && self.life == 0 && self.bye.is_none() {
                self.wait(self.plan.ticks(2)).await;
                if self.life == 0 && now() >= end {
                    self.loses_patience("no greeting");
                }
            }
        }
    }

    /// The connection is gone, by whose doing ever.
    pub(crate) fn break_off(&mut self, why: &str) {
        self.note(why);
        if let Some(wire) = self.wire.take() {
            // As when a machine loses its power, or in the middle of a line its process.
            if wire.is_mid_line() || self.dice.percent(30) {
                self.vanished.borrow_mut().push(wire);
            }
        }
        self.data.clear();
        let unanswered = self.pending.drain(..);
        let texts = unanswered.filter_map(|sent| match (sent.verb, sent.what) {
            ("MSG", What::Text(text)) => Some((text, sent.at)),
            ("JOIN", What::Join { seat, .. }) => {
                self.witness.borrow_mut().seat(seat).is_broken = true;
                None
            }
            _ => None,
        });
        let texts: Vec<_> = texts.collect();
        let Some(sitting) = &mut self.sitting else { return };
        sitting.unanswered.extend(texts);
        sitting.members = None;
        sitting.is_here = false;
        self.witness.borrow_mut().seat(sitting.seat).is_broken = true;
        let comes_back = matches!(self.bye.as_deref(), None | Some("eof" | "slow" | "shutdown"));
        if sitting.token.is_none() || !comes_back {
            self.give_up_seat();
        }
    }

    pub(crate) fn give_up_seat(&mut self) {
        if let Some(Sitting { seat, room, token, .. }) = self.sitting.take() {
            self.witness.borrow_mut().seat(seat).is_over = true;
            self.dead = token.map(|token| (seat, room, token)).or(self.dead.take());
        }
    }

    /// Tries the token of a seat that has ended. It opens nothing.
    async fn try_dead_token(&mut self) {
        let Some((seat, room, token)) = self.dead.take() else { return };
        let is_dead = self.witness.borrow().is_dead(seat, self.life);
        if is_dead && room.world == self.plan.world_of(self.life) {
            self.send("RESUME", &format!(" {} {token} 0", room.code), What::DeadToken);
            self.until_answered().await;
        }
    }

    /// Takes a seat: the old one, if there is one, or a new one.
    pub(crate) async fn enter(&mut self) {
        if self.wire.is_none() {
            return;
        }
        if let Some(sitting) = &self.sitting {
            let (room, token) = (sitting.room.clone(), sitting.token.clone().unwrap_or_default());
            let mut witness = self.witness.borrow_mut();
            let was_certain = sitting.room.world == self.plan.world_of(self.life)
                && witness.is_certain(sitting.seat, now());
            witness.resume_sent(sitting.seat);
            drop(witness);
            let arguments = format!(" {} {token} {}", room.code, sitting.last);
            self.send("RESUME", &arguments, What::Resume { was_certain });
        } else {
            self.try_dead_token().await;
            let world = self.plan.world_of(self.life);
            let known = self.witness.borrow().board.clone();
            let known: Vec<_> = known.into_iter().filter(|room| room.world == world).collect();
            let lobby = RoomKey { world, code: crate::LOBBY.to_owned() };
            let room = match self.dice.within(0..=19) {
                0 => Some(lobby),
                1..=4 if known.len() < 2 => None,
                _ => known.last().cloned(),
            };
            if room.is_none() && self.number > 1 && self.dice.percent(70) {
                // Somebody else may tell of a room.
                return self.wait(self.plan.ticks(5)).await;
            }
            match room {
                Some(room) => self.join(room),
                None => {
                    let name = self.new_name();
                    self.send("CREATE", &format!(" {name}"), What::Name(name));
                }
            }
        }
        self.until_answered().await;
    }

    pub(crate) fn room(&self) -> Option<RoomKey> {
        let joining = self.pending.iter().find_map(|sent| match &sent.what {
            What::Join { room, .. } => Some(room.clone()),
            _ => None,
        });
        joining.or_else(|| Some(self.sitting.as_ref()?.room.clone()))
    }

    pub(crate) fn send(&mut self, verb: &'static str, arguments: &str, what: What) {
        let Some(wire) = &mut self.wire else { return };
        wire.send(&format!("{verb}{arguments}"));
        let shown = &arguments[..arguments.len().min(60)];
        self.note(&format!("> {verb}{shown}"));
        let room = match &what {
            What::Join { room, .. } => Some(room.clone()),
            _ => self.room(),
        };
        let known = room.map_or(0, |room| self.witness.borrow().newest(&room));
        self.pending.push_back(Sent { verb, at: now(), known, what });
    }

    pub(crate) fn note(&self, what: &str) {
        let line = format!("{:?} c{} {what}", now(), self.number);
        self.witness.borrow_mut().note(line);
    }

    pub(crate) fn complain(&self, complaint: String) {
        let complaint = format!("{:?} c{}: {complaint}", now(), self.number);
        self.witness.borrow_mut().complain(complaint);
    }
}

/// Time since the simulation began.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
