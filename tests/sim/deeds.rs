//! What a client does while it is connected, by chance.

use crate::client::{Client, What, now};
use crate::sitting::message_of;
use crate::wire::{Came, Wire};
use crate::witness::RoomKey;

impl Client {
    pub(crate) fn join(&mut self, room: RoomKey) {
        let name = self.some_name();
        let latest = self.dice.pick(&[0, 1, 5, 100, 1000]);
        let seat = self.witness.borrow_mut().sit_down(room.clone(), &name, now());
        let certain = self.witness.borrow().certain(&room, now());
        let certain = certain.into_iter().map(|(seat, _)| seat).collect();
        let arguments = format!(" {} {name} {latest}", room.code);
        self.send("JOIN", &arguments, What::Join { seat, room, name, latest, certain });
        // Who doesn't wait for the answer sends these to whatever it will be.
        if self.dice.percent(50) {
            self.witness.borrow_mut().seat(seat).hold_sent = true;
            self.hold();
            self.who();
        }
        if self.dice.percent(30) {
            self.say();
        }
    }

    /// Something that members do.
    pub(crate) async fn act(&mut self) {
        // Where commits fail, what several do at once is taken back together.
        if self.plan.may_fail(now(), now()) && self.dice.percent(30) {
            self.hold();
            if self.dice.percent(50) {
                self.nick();
            }
            self.rule(&["KICK", "KICK", "MUTE", "UNMUTE"]);
        }
        match self.dice.within(0..=99) {
            0..=34 => (0..self.dice.within(1..=6)).for_each(|_| self.say()),
            35..=44 => self.who(),
            45..=52 => self.hold(),
            53..=58 => self.history(),
            59..=62 => self.nick(),
            63..=66 => self.tell(),
            67..=70 => self.send("PING", "", What::Nothing),
            71..=73 => self.rule(&["KICK", "MUTE", "UNMUTE"]),
            74..=79 => self.stall().await,
            80..=84 => self.break_off("breaks off"),
            85..=86 => self.half_close().await,
            87 | 92..=94 => self.leave(),
            88 => self.quit().await,
            89..=91 => self.take_over().await,
            _ => {}
        }
        let pause = self.dice.pick(&[0, 0, 1, 1, 2, 5, 5, 15, 40, 120]);
        self.wait(self.plan.ticks(pause)).await;
    }

    pub(crate) fn say(&mut self) {
        let text = self.new_text("says");
        self.send("MSG", &format!(" {text}"), What::Text(text.clone()));
    }

    fn tell(&mut self) {
        let Some(name) = self.somebody() else { return };
        let text = self.new_text("tells");
        self.witness.borrow_mut().tell_sent(text.clone());
        self.send("TELL", &format!(" {name} {text}"), What::Name(name.clone()));
    }

    pub(crate) fn who(&mut self) {
        let room = self.room();
        let certain = room.map(|room| self.witness.borrow().certain(&room, now()));
        self.send("WHO", "", What::Who { certain: certain.unwrap_or_default() });
    }

    fn hold(&mut self) {
        let seconds = self.dice.within(1..=self.plan.longest_hold());
        if let Some(sitting) = &self.sitting {
            let mut witness = self.witness.borrow_mut();
            let seat = witness.seat(sitting.seat);
            seat.hold_sent = true;
            seat.hold = seat.hold.map(|hold| hold.min(seconds));
        }
        self.send("HOLD", &format!(" {seconds}"), What::Seconds(seconds));
    }

    fn history(&mut self) {
        let latest = self.dice.pick(&[0, 1, 10, 1000]);
        self.send("HISTORY", &format!(" {latest}"), What::Latest(latest));
    }

    fn nick(&mut self) {
        let name = self.some_name();
        if let Some(sitting) = &self.sitting {
            self.witness.borrow_mut().rename_sent(sitting.seat, &name);
        }
        self.send("NICK", &format!(" {name}"), What::Name(name.clone()));
    }

    /// What hosts do; who is none tries it now and then.
    fn rule(&mut self, verbs: &[&'static str]) {
        let Some(sitting) = &self.sitting else { return };
        if !sitting.is_host && !self.dice.percent(10) {
            return;
        }
        let room = sitting.room.clone();
        if self.dice.percent(4) {
            self.witness.borrow_mut().close_sent(&room);
            return self.send("CLOSE", "", What::Nothing);
        }
        let Some(name) = self.somebody().filter(|name| name.starts_with('c')) else { return };
        let verb = self.dice.pick(verbs);
        self.witness.borrow_mut().rule_sent(&room, &name, |seat| match verb {
            "KICK" => seat.kick_sent = true,
            _ => seat.mute_sent = true,
        });
        self.send(verb, &format!(" {name}"), What::Name(name.clone()));
    }

    fn leave(&mut self) {
        if let Some(sitting) = &self.sitting {
            self.witness.borrow_mut().seat(sitting.seat).quit_sent = true;
        }
        self.send("LEAVE", "", What::Nothing);
    }

    /// Reads nothing for a while.
    async fn stall(&mut self) {
        let longest = 400;
        let ticks = match self.plan.stall_ticks() {
            // It ends where the server has just lost its patience.
            stall if stall < longest && self.dice.percent(20) => stall + self.dice.within(0..=20),
            _ => self.dice.pick(&[5, 20, 60, longest]),
        };
        let mut time = self.plan.ticks(ticks);
        if self.plan.is_calm {
            // Some time the server ends the connection, and the simulated network loses the
            // end of a stream that is full.
            time = time.min(self.plan.stall / 2);
        }
        let end = now() + time;
        self.note("stalls");
        if let Some(sitting) = &self.sitting {
            self.witness.borrow_mut().seat(sitting.seat).is_broken = true;
        }
        while let (Some(wire), Some(left)) = (&mut self.wire, end.checked_sub(now())) {
            if left.is_zero() {
                break;
            }
            match wire.exchange(left, true).await {
                Came::End => self.break_off("broken"),
                _ => break,
            }
        }
        (self.heard_at, self.reads_since) = (now(), now());
    }

    async fn half_close(&mut self) {
        if let Some(sitting) = &self.sitting {
            let mut witness = self.witness.borrow_mut();
            let seat = witness.seat(sitting.seat);
            (seat.eof_sent, seat.is_broken) = (true, true);
        }
        self.note("ends its side");
        let Some(wire) = &mut self.wire else { return };
        let closing = tokio::time::timeout(self.plan.ticks(5), wire.half_close());
        if !matches!(closing.await, Ok(Ok(()))) {
            return self.break_off("broken");
        }
        self.wait(self.plan.patience()).await;
        if self.wire.is_some() {
            self.break_off("hears no end");
        }
    }

    pub(crate) async fn quit(&mut self) {
        if let Some(sitting) = &self.sitting {
            self.witness.borrow_mut().seat(sitting.seat).quit_sent = true;
        }
        self.send("QUIT", "", What::Nothing);
        let sent = now();
        while self.wire.is_some() && now() < sent.max(self.heard_at) + self.plan.patience() {
            self.wait(self.plan.ticks(2)).await;
        }
        if self.wire.is_some() {
            self.loses_patience("hears no end");
        }
        self.give_up_seat();
    }

    /// Comes back on a new connection while the old one still looks alive.
    async fn take_over(&mut self) {
        let Some(seat) = self.sitting.as_ref().filter(|sitting| sitting.token.is_some()) else {
            return;
        };
        let (seat, old, life) = (seat.seat, self.wire.take(), self.life);
        self.break_off("takes over");
        self.connect().await;
        self.enter().await;
        let now_on = self.sitting.as_ref().filter(|sitting| sitting.is_here);
        let resumed = now_on.filter(|sitting| sitting.seat == seat);
        let room = resumed.map(|sitting| sitting.room.clone());
        if let Some(old) = old {
            self.hear_out(old, life, room).await;
            self.reads_since = now();
        }
    }

    /// The old connection to a seat that is resumed hears nothing but the truth, and in the end
    /// why it ends.
    async fn hear_out(&mut self, mut old: Wire, life: u64, room: Option<RoomKey>) {
        let mut is_told = room.is_none();
        while room.is_some() && old.exchange(self.plan.patience(), false).await == Came::Something {
            while let Some(line) = old.line() {
                let line = String::from_utf8_lossy(&line);
                self.note(&format!("(old) < {line}"));
                let mut witness = self.witness.borrow_mut();
                if let (Some(room), Some((id, message))) = (&room, message_of(&line)) {
                    witness.message(room, id, message);
                } else if line.starts_with("BYE ") {
                    let is_right = match line.split(' ').nth(1) {
                        Some("replaced") => true,
                        // Before that it may have been too slow, or the server have stopped.
                        Some("slow") => !self.plan.is_calm,
                        Some("shutdown") => witness.is_stopping(life),
                        _ => false,
                    };
                    witness.hold_true(is_right, || format!("to a replaced one: {line}"));
                    witness.counts.replaced += 1;
                    is_told = true;
                }
            }
        }
        if self.plan.is_calm && !is_told {
            self.complain("replaced, and not told".into());
        }
        self.vanished.borrow_mut().push(old);
    }

    pub(crate) fn new_name(&mut self) -> String {
        self.names += 1;
        format!("c{}n{}", self.number, self.names)
    }

    /// A name of one's own, or one that others like as well.
    fn some_name(&mut self) -> String {
        match self.dice.percent(15) {
            true => self.dice.pick(&["ann", "Ann", "bob", "BOB"]).to_owned(),
            false => self.new_name(),
        }
    }

    fn new_text(&mut self, verb: &str) -> String {
        self.texts += 1;
        let padding = self.dice.pick(&[0, 0, 0, 30, 300, 1700]);
        format!("c{} {verb} {}{}", self.number, self.texts, ".".repeat(padding))
    }

    /// Another member.
    fn somebody(&mut self) -> Option<String> {
        let sitting = self.sitting.as_ref()?;
        let members = sitting.members.iter().flatten().filter(|name| **name != sitting.name);
        let members: Vec<_> = members.cloned().collect();
        (!members.is_empty()).then(|| self.dice.pick(&members))
    }
}
