//! What a siege came to: a table for people, and what must be so.

use std::fmt;
use std::time::Duration;

use crate::P99;
use crate::attackers::{Field, Kind};
use crate::cage::{self, Cage};
use crate::honest::CLIENTS;
use crate::ledger::Ledger;
use crate::program::{Memory, Program};

/// Limits that the attackers must have run into, else they were none.
const LIMITS: &[&str] = &[
    "first-command",
    "guesses",
    "handshake",
    "history",
    "line",
    "rate",
    "send-buffer",
    "stall",
    "tells",
];

/// The most that there was of each at one time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Peaks {
    connections: u64,
    resident: u64,
    sockets: u64,
}

impl Peaks {
    pub(crate) async fn sample(&mut self, program: &Program) {
        let connections = program.metrics().await["parlor_connections"];
        self.connections = self.connections.max(connections);
        self.resident = self.resident.max(program.memory("VmRSS"));
        self.sockets = self.sockets.max(program.cage.as_ref().map_or(0, Cage::sockets));
    }
}

pub(crate) struct Report<'a> {
    pub(crate) time: Duration,
    pub(crate) field: &'a Field,
    pub(crate) ledger: &'a Ledger,
    pub(crate) program: &'a Program,
    pub(crate) before: Memory,
    pub(crate) after: Memory,
    pub(crate) peaks: Peaks,
    /// How often each limit was reached in the siege.
    pub(crate) reached: Vec<(String, u64)>,
}

impl Report<'_> {
    /// What must be so.
    pub(crate) fn check(&self) {
        let log = self.program.log_end();
        let pages = self.ledger.read();
        assert!(pages.faults.is_empty(), "{:#?}\n{log}", pages.faults);
        assert_eq!(self.kills(), 0, "killed for want of memory\n{log}");
        let highest = self.program.memory("VmHWM");
        assert!(highest < cage::LIMIT, "the server took {} MiB", highest >> 20);
        let p99 = pages.within(99.0);
        assert!(p99 < P99, "one of 100 deliveries took {p99:?} or more");
        let seconds = self.time.as_secs();
        let wanted = seconds * CLIENTS as u64;
        assert!(pages.deliveries > wanted, "only {} deliveries in {seconds} s", pages.deliveries);
        assert!(pages.resumes > 0 && pages.replayed > 0, "nobody came back");
        // Whether it was a siege at all.
        for kind in Kind::ALL {
            let [connections, _, bytes] = self.field.deeds(*kind).read();
            let did = connections >= kind.number() as u64 && (bytes > 0 || *kind == Kind::Knocker);
            assert!(did, "{}: {connections} connections, {bytes} bytes", kind.name());
        }
        let readers = Kind::Silent.number() as u64;
        assert!(self.peaks.connections > readers, "{} connections at most", self.peaks.connections);
        for limit in LIMITS {
            let times =
                self.reached.iter().find(|(name, _)| name == limit).map(|(_, times)| *times);
            assert!(times.is_some_and(|times| times > 0), "nobody reached the limit {limit}");
        }
        let (before, after) = (self.before, self.after);
        assert!(
            after.resident * 10 <= before.resident * 11,
            "memory went from {before} to {after}"
        );
        assert!(
            after.proportional * 10 <= before.proportional * 11,
            "memory went from {before} to {after}"
        );
    }

    fn kills(&self) -> u64 {
        self.program.cage.as_ref().map_or(0, Cage::kills)
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs();
        match &self.program.cage {
            Some(cage) => writeln!(f, "{seconds} s in {cage}")?,
            None => writeln!(f, "{seconds} s, without a memory cgroup: only measured")?,
        }
        writeln!(
            f,
            "{:>6} {:<24} {:>11} {:>11} {:>11}",
            "", "attackers", "connections", "lines", "MiB sent"
        )?;
        for kind in Kind::ALL {
            let [connections, lines, bytes] = self.field.deeds(*kind).read();
            let (number, name) = (kind.number(), kind.name());
            writeln!(
                f,
                "{number:>6} {name:<24} {connections:>11} {lines:>11} {:>11.1}",
                mib(bytes)
            )?;
        }
        let reached: Vec<_> = self
            .reached
            .iter()
            .filter(|(_, times)| *times > 0)
            .map(|(name, times)| format!("{name} {times}"))
            .collect();
        writeln!(f, "limits reached: {}", reached.join(", "))?;
        let pages = self.ledger.read();
        writeln!(
            f,
            "{CLIENTS} honest clients: {} messages, {} deliveries, {} of them after one of {} returns",
            pages.messages, pages.deliveries, pages.replayed, pages.resumes,
        )?;
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| ms(pages.within(percent)));
        let max = ms(Duration::from_micros(pages.latencies.max()));
        writeln!(
            f,
            "a delivery: p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}, at most {max:.2} ms"
        )?;
        let late = |quantile| ms(Duration::from_micros(pages.lateness.value_at_quantile(quantile)));
        writeln!(
            f,
            "of that the clients were late themselves: p50 {:.2}, p99 {:.2}, at most {:.2} ms",
            late(0.5),
            late(0.99),
            late(1.0)
        )?;
        writeln!(
            f,
            "memory: {} before, {:.1} MiB at most, {} after",
            self.before,
            mib(self.program.memory("VmHWM")),
            self.after
        )?;
        writeln!(
            f,
            "at most {} connections, {:.1} MiB resident while it lasted",
            self.peaks.connections,
            mib(self.peaks.resident)
        )?;
        if let Some(cage) = &self.program.cage {
            writeln!(
                f,
                "cgroup: {:.1} MiB at most, {:.1} MiB in sockets, {} killed",
                mib(cage.peak()),
                mib(self.peaks.sockets),
                cage.kills()
            )?;
        }
        write!(f, "log: {:.1} MiB", mib(self.program.log_bytes()))?;
        pages.faults.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MiB resident ({:.1} proportional)",
            mib(self.resident),
            mib(self.proportional)
        )
    }
}
