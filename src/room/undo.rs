//! What could not be kept is taken back as if it had not been done.

use super::State;
use super::members::{Hold, Private};
use crate::protocol::Name;

/// How a change is taken back that could not be kept.
#[derive(Debug)]
pub(super) enum Undo {
    /// It stands: who has left has left. Only that it isn't stored yet is told.
    Nothing,
    /// A room that nobody knows yet; who made it lets it go.
    Founding,
    Locked(bool),
    /// The seat of him who entered then.
    Seat {
        slot: usize,
        entered: u64,
        before: Before,
    },
}

/// What a seat was before a change.
#[derive(Debug)]
pub(super) enum Before {
    Called(Name),
    Armed(Option<Box<Hold>>),
    /// With what he was still to be told about it.
    Muted(bool, Option<Private>),
}

impl State {
    /// Takes one change back. False if it stands.
    pub(super) fn undo(&mut self, undo: Undo) -> bool {
        match undo {
            Undo::Nothing => return false,
            Undo::Founding => {}
            Undo::Locked(locked) => self.locked = locked,
            Undo::Seat { slot, entered, before } => {
                // Who has left since has left as he was then.
                let Some(member) = self.members.entered_as(slot, entered) else { return false };
                match before {
                    Before::Called(name) => self.members.rename(slot, name),
                    Before::Armed(hold) => {
                        self.members.disarm(slot);
                        if let Some(hold) = hold {
                            self.members.arm(slot, hold.token, hold.seconds);
                        }
                    }
                    Before::Muted(muted, notice) => {
                        member.muted = muted;
                        member.take_muting();
                        notice.into_iter().for_each(|notice| member.put_back(notice));
                    }
                }
            }
        }
        true
    }
}
