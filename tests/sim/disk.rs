//! The disk of a seed: a file that outlives the server's lives, commits that take their time, and
//! spells in which they fail.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlor::Config;
use tempfile::TempDir;

use crate::client::now;
use crate::dice::Dice;
use crate::world::Plan;

pub(crate) struct Disk {
    /// Removed in the end.
    folder: TempDir,
    dice: Arc<Mutex<Dice>>,
}

/// From then to then commits fail.
pub(crate) type Spell = (Duration, Duration);

impl Disk {
    pub(crate) fn new(dice: Dice) -> Disk {
        // In memory, if there is such a place: nothing here tries the real disk.
        let folder = match Path::new("/dev/shm") {
            memory if memory.is_dir() => TempDir::with_prefix_in("parlor-sim-", memory),
            _ => TempDir::with_prefix("parlor-sim-"),
        };
        Disk { folder: folder.expect("a folder"), dice: Arc::new(Mutex::new(dice)) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("rooms.db")
    }

    /// Has a server store there.
    pub(crate) fn put_into(&self, config: &mut Config, plan: &Plan) {
        config.store = Some(self.file());
        let (dice, slowest, tick) = (self.dice.clone(), plan.slowest_commit, plan.ticks(1));
        let (spells, failing) = (plan.spells.clone(), plan.failing);
        config.disk = parlor::Disk::new(move || {
            let mut dice = dice.lock().expect("no panic");
            let time = tick * dice.within(0..=slowest) as u32;
            let at = now() + time / 2;
            let is_bad = spells.iter().any(|(from, to)| (*from..*to).contains(&at));
            if is_bad && dice.percent(failing) { Err(time) } else { Ok(time) }
        });
    }
}
