//! What the honest clients have said and heard, and how long it took.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Faults that are told in words.
const FAULTS: usize = 20;

/// Shared by all honest clients.
pub(crate) struct Ledger(Mutex<Pages>);

pub(crate) struct Pages {
    /// When each message of each client was due, by its number.
    due: Vec<Vec<Instant>>,
    /// Clients that say nothing more, and whose every message is acknowledged.
    pub(crate) silent: usize,
    /// The siege: what was due in it is measured.
    from: Option<Instant>,
    until: Option<Instant>,
    /// Microseconds from when a message was due until another client had it.
    pub(crate) latencies: Histogram<u64>,
    /// Microseconds from when a message was due until its client sent it.
    pub(crate) lateness: Histogram<u64>,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) resumes: u64,
    pub(crate) replayed: u64,
    pub(crate) faults: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(clients: usize) -> Ledger {
        Ledger(Mutex::new(Pages {
            due: vec![Vec::new(); clients],
            silent: 0,
            from: None,
            until: None,
            latencies: histogram(),
            lateness: histogram(),
            messages: 0,
            deliveries: 0,
            resumes: 0,
            replayed: 0,
            faults: Vec::new(),
        }))
    }

    pub(crate) fn read(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on deliveries are measured.
    pub(crate) fn begin(&self) {
        self.read().from = Some(Instant::now());
    }

    /// What is due from now on is not measured.
    pub(crate) fn end(&self) {
        self.read().until = Some(Instant::now());
    }

    /// A client says its message of this number, which was due then; or says it once more.
    pub(crate) fn says(&self, client: usize, number: usize, due: Instant) {
        let mut pages = self.read();
        let is_new = pages.due[client].len() == number;
        pages.due[client].truncate(number);
        pages.due[client].push(due);
        if is_new && pages.measures(due) {
            let late = due.elapsed().as_micros() as u64;
            pages.lateness.saturating_record(late);
            pages.messages += 1;
        }
    }

    /// Messages that a client has said.
    pub(crate) fn said(&self, client: usize) -> usize {
        self.read().due[client].len()
    }

    /// Another client has got a message. Who was away at the time waits from his return on.
    pub(crate) fn heard(&self, speaker: usize, number: usize, back: Option<Instant>) {
        let now = Instant::now();
        let mut pages = self.read();
        let Some(due) = pages.due[speaker].get(number).copied() else { return };
        if pages.measures(due) {
            let waits_from = back.map_or(due, |back| back.max(due));
            let took = now.saturating_duration_since(waits_from).as_micros() as u64;
            pages.latencies.saturating_record(took);
            pages.deliveries += 1;
            pages.replayed += u64::from(waits_from > due);
        }
    }

    pub(crate) fn fault(&self, fault: String) {
        let faults = &mut self.read().faults;
        if faults.len() < FAULTS {
            faults.push(fault);
        }
    }
}

impl Pages {
    /// Whether what was due then counts.
    fn measures(&self, due: Instant) -> bool {
        self.from.is_some_and(|from| due >= from) && self.until.is_none_or(|until| due < until)
    }

    /// The time within which so many of a hundred deliveries came.
    pub(crate) fn within(&self, percent: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(percent / 100.0))
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("a histogram")
}
