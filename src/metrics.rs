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
    /// How often each limit was reached, by its place in [`Limit::ALL`].
    limits: [Counter; Limit::ALL.len()],
}

macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $name:literal,)*) => {
        /// What a client can run into. Where there is a flag, the limit has its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            pub(crate) const ALL: &[Limit] = &[$(Limit::$limit,)*];

            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Limit::$limit => $name,)*
                }
            }
        }
    };
}

limits! {
    /// Connections: one more was turned away.
    MaxConnections = "max-connections",
    /// Connections and held seats of one address: one more was turned away.
    MaxPerAddress = "max-per-address",
    /// Files that the system gives: a connection was turned away for want of one.
    Files = "files",
    /// Connections that are being told that there is no place: one more was closed without a word.
    TurnedAway = "turned-away",
    /// Rooms: one more was refused.
    MaxRooms = "max-rooms",
    /// Rooms of one address that nobody has entered: one more was refused.
    UnenteredRooms = "unentered-rooms",
    /// Codes at rest: the one that has rested longest was forgotten.
    CodesResting = "codes-resting",
    /// Members of a room: one more was refused.
    MaxMembers = "max-members",
    /// Bytes of a line: one that was longer was refused.
    Line = "line",
    /// Bytes of a frame of a WebSocket: one that was longer ended its connection.
    Frame = "frame",
    /// Bytes of the head of a request: one that was longer was refused.
    Head = "head",
    /// Lines a second: a client was made to wait.
    Rate = "rate",
    /// Messages of a room's history: it forgot its oldest.
    History = "history",
    /// Bytes of history over all rooms: the oldest were forgotten.
    MaxHistory = "max-history",
    /// Bytes that wait to be stored: a command was refused.
    Unkept = "unkept",
    /// `TELL`s that wait: one more was refused.
    Tells = "tells",
    /// What the store takes: something was refused because it could not be kept.
    Storage = "storage",
    /// Wrong guesses of an address: a look-up was made to wait.
    Guesses = "guesses",
    /// What the kernel takes for a client who doesn't read: output had to wait.
    SendBuffer = "send-buffer",
    /// Bytes of replies that wait for those who don't read: the connection of one was ended.
    Replies = "replies",
    /// How long output may wait: the connection was ended.
    Stall = "stall",
    /// How long a first line may take that has begun: the connection was ended.
    FirstCommand = "first-command",
    /// Requests of a connection in a second: one was made to wait.
    Requests = "requests",
    /// QR codes at one time: a request was made to wait, or to come again.
    QrCodes = "qr-codes",
    /// How long a TLS handshake or the head of a request may take: the connection was ended.
    Handshake = "handshake",
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
    /// Counts that a limit was reached.
    pub(crate) fn reached(&self, limit: Limit) {
        // In the order of their declaration, as in `ALL`.
        self.limits[limit as usize].add(1);
    }

    /// Writes them in Prometheus' text format, version 0.0.4.
    pub(crate) fn write(&self, connections: usize, rooms: usize, history: usize) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, help: &str, value: u64| {
            // Writing to a String doesn't fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        let gauge = "gauge";
        put("parlor_connections", gauge, "Connections at this moment.", connections as u64);
        put("parlor_rooms", gauge, "Rooms at this moment, the lobby among them.", rooms as u64);
        put("parlor_history_bytes", gauge, "Bytes of history over all rooms.", history as u64);
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
        let name = "parlor_limit_reached_total";
        let _ = writeln!(text, "# HELP {name} Times that a limit was reached, by its name.");
        let _ = writeln!(text, "# TYPE {name} counter");
        for (limit, counter) in Limit::ALL.iter().zip(&self.limits) {
            let _ = writeln!(text, "{name}{{limit=\"{}\"}} {}", limit.as_str(), counter.get());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_told_in_the_metrics_and_in_the_readme() {
        let metrics = Metrics::default();
        for (times, limit) in (1..).zip(Limit::ALL) {
            (0..times).for_each(|_| metrics.reached(*limit));
        }
        let text = metrics.write(0, 0, 0);
        let told: Vec<_> = text.lines().filter(|line| line.contains("{limit=")).collect();
        let (_, table) = include_str!("../README.md").split_once("| `limit` |").expect("a table");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let rows: Vec<_> = rows.map(|row| row.split('`').nth(1).expect("a name")).collect();
        let names: Vec<_> = Limit::ALL.iter().map(|limit| limit.as_str()).collect();
        assert_eq!(rows, names, "the table of README.md");
        let wanted = (1..)
            .zip(&names)
            .map(|(times, name)| format!("parlor_limit_reached_total{{limit=\"{name}\"}} {times}"));
        assert_eq!(told, wanted.collect::<Vec<_>>());
    }
}
