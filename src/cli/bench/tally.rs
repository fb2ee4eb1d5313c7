//! What all members together got.

use std::time::Duration;

use hdrhistogram::Histogram;
use parlor::protocol::limits::BENCH_FAULTS;

use super::room::Seat;

/// Latencies are kept to three digits, up to a minute; what is longer counts as a minute.
const LATENCY_MAX: Duration = Duration::from_secs(60);

pub(super) struct Tally {
    pub(super) deliveries: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) out_of_order: u64,
    /// Came with another text, name or id than was sent.
    pub(super) altered: u64,
    /// The first faults in words.
    pub(super) faults: Vec<String>,
    /// Nanoseconds from when a message was due to its delivery.
    latency: Histogram<u64>,
    /// Reads that brought something: a sign of life.
    pub(super) reads: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Tally, String> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX.as_nanos() as u64, 3);
        Ok(Tally {
            deliveries: 0,
            lost: 0,
            doubled: 0,
            out_of_order: 0,
            altered: 0,
            faults: Vec::new(),
            latency: latency.map_err(|error| error.to_string())?,
            reads: 0,
        })
    }

    pub(super) fn delivered(&mut self, latency: Duration) {
        self.deliveries += 1;
        self.latency.saturating_record(latency.as_nanos() as u64);
    }

    /// Remembers what happened to a seat, as long as few faults are told.
    pub(super) fn fault(&mut self, seat: &Seat, what: impl FnOnce() -> String) {
        if self.faults.len() < BENCH_FAULTS {
            self.faults.push(format!("{seat}: {}", what()));
        }
    }

    /// Microseconds within which this share of the deliveries came, 0 to 1; 0 if there were none.
    pub(super) fn latency_us(&self, share: f64) -> f64 {
        match self.latency.is_empty() {
            true => 0.0,
            false => self.latency.value_at_quantile(share) as f64 / 1e3,
        }
    }
}
