//! What the server has done, in numbers.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow. Never a room, a name or an address is told.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) messages: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) gaps: Counter,
    pub(crate) refusals: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Writes them in Prometheus' text format, version 0.0.4.
    pub(crate) fn write(&self, connections: usize, rooms: usize) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String doesn't fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let gauge = "gauge";
        put("parlor_connections", gauge, "Connections at this moment.", connections as u64);
        put("parlor_rooms", gauge, "Rooms at this moment, the lobby among them.", rooms as u64);
        if let Some(bytes) = resident_bytes() {
            put("process_resident_memory_bytes", gauge, "Resident memory in bytes.", bytes);
        }
        for (name, help, counter) in [
            ("parlor_messages_total", "Messages accepted.", &self.messages),
            ("parlor_deliveries_total", "Lines given to readers of rooms.", &self.deliveries),
            ("parlor_gaps_total", "Times that a reader was told of a gap.", &self.gaps),
            ("parlor_refusals_total", "Lines answered with ERR.", &self.refusals),
            ("parlor_received_bytes_total", "Bytes received from clients.", &self.bytes_in),
            ("parlor_sent_bytes_total", "Bytes sent to clients.", &self.bytes_out),
        ] {
            put(name, "counter", help, counter.get());
        }
        text
    }
}

/// Memory of this process that is in use now; known on Linux.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}
