//! Wakes the publishers when their messages are due.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use tokio::sync::Notify;

use super::crowd::Load;
use super::room::nth_due;

/// All rooms take turns on one even beat. It ends only where there can be no thread.
pub(super) async fn beat(load: &Load, rate: u64, first: Instant) -> io::Result<()> {
    let rooms = load.borrow().rooms.len() as u64;
    let rate = rate * rooms;
    let ticks = Arc::new(Notify::new());
    let watch = Arc::downgrade(&ticks);
    thread::Builder::new().spawn(move || tick(&watch, rate, first))?;
    let mut next = 0;
    loop {
        ticks.notified().await;
        let now = Instant::now();
        while first + nth_due(next, rate) <= now {
            load.borrow_mut().rooms[(next % rooms) as usize].wake();
            next += 1;
        }
    }
}

/// Tells when something is due, as long as somebody listens. A thread's sleep is exact to some ten
/// microseconds; the runtime's timers count milliseconds, which is long beside a delivery.
fn tick(listener: &Weak<Notify>, rate: u64, first: Instant) {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut next = 0;
    while let Some(ticks) = listener.upgrade() {
        ticks.notify_one();
        let now = Instant::now();
        while first + nth_due(next, rate) <= now {
            next += 1;
        }
        thread::sleep((first + nth_due(next, rate)).saturating_duration_since(now));
    }
}
