//! What a client makes of an `ERR`, and when there may be one.

use crate::client::{Client, Sent, What, now};

impl Client {
    /// Something that was asked for was not done, and there must be a reason.
    pub(crate) fn error(&mut self, sent: Sent, code: &str) {
        let is_seated = self.sitting.as_ref().is_some_and(|sitting| sitting.is_here);
        let mut witness = self.witness.borrow_mut();
        let was_muted = self.sitting.as_ref().is_some_and(|own| witness.seat(own.seat).mute_sent);
        let may_fail = self.plan.may_fail(sent.at, now());
        let is_late = code == "shutting-down" && witness.is_stopping(self.life);
        witness.counts.late += u64::from(is_late);
        let is_right = match (sent.verb, code, &sent.what) {
            ("JOIN", _, What::Join { seat, room, name, certain, .. }) => {
                witness.seat(*seat).is_over = true;
                match code {
                    "name-taken" => !name.starts_with('c'),
                    "no-such-room" => {
                        witness.board.retain(|known| known != room);
                        !witness.is_waiting(room)
                            && !certain.iter().any(|seat| witness.is_certain(*seat, now()))
                    }
                    _ => is_late,
                }
            }
            ("RESUME", "no-such-room" | "bad-token", What::DeadToken) => {
                witness.counts.dead_tokens += 1;
                true
            }
            ("RESUME", "no-such-room" | "bad-token", What::Resume { was_certain }) => {
                let seat = self.sitting.as_ref().map(|sitting| sitting.seat);
                !was_certain || !seat.is_some_and(|seat| witness.is_certain(seat, now()))
            }
            ("MSG", _, What::Text(text)) => {
                witness.refused(text.clone());
                witness.counts.unsaid += u64::from(code == "storage");
                match code {
                    "muted" => was_muted,
                    "storage" => may_fail,
                    "not-in-room" => !is_seated,
                    _ => is_late,
                }
            }
            ("CREATE" | "HOLD" | "NICK" | "MUTE" | "UNMUTE" | "KICK" | "CLOSE", "storage", _) => {
                witness.counts.undone += 1;
                if let ("KICK", What::Name(name), Some(own)) =
                    (sent.verb, &sent.what, &mut self.sitting)
                {
                    // He is out all the same.
                    own.members.iter_mut().for_each(|members| members.retain(|own| own != name));
                }
                may_fail
            }
            (_, "not-in-room", _) => !is_seated,
            ("TELL", "muted", _) => was_muted,
            ("TELL" | "KICK" | "MUTE" | "UNMUTE", "no-such-user", _) => true,
            // Somebody else's name has become one's own.
            ("TELL" | "KICK" | "MUTE" | "UNMUTE", "bad-args", What::Name(name)) => {
                let own = self.sitting.as_ref().map(|own| own.seat);
                own.is_some_and(|own| witness.seat(own).has_name(name))
            }
            ("KICK" | "MUTE" | "UNMUTE" | "CLOSE", "not-host", _) => true,
            ("NICK", "name-taken", What::Name(name)) => !name.starts_with('c'),
            _ => is_late,
        };
        witness.hold_true(is_right, || format!("an error without a reason: {} {code}", sent.verb));
        drop(witness);
        if matches!(sent.what, What::Resume { .. }) && !is_late {
            self.give_up_seat();
        }
    }
}
