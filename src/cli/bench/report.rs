//! What is printed at the end.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// All that was measured. It is shown as a few aligned lines.
pub(super) struct Report {
    pub(super) rooms: u32,
    pub(super) members: u32,
    /// Messages in flight in a room, or none: there was a rate.
    pub(super) window: Option<usize>,
    /// Messages a second in a room.
    pub(super) rate: Option<u64>,
    pub(super) web_socket: bool,
    /// How long was measured.
    pub(super) time: Duration,
    pub(super) messages: u64,
    pub(super) deliveries: u64,
    /// Those within `time`; the others came just after it.
    pub(super) deliveries_in_time: u64,
    /// CPU time within `time`, where it is known.
    pub(super) server_cpu: Option<Duration>,
    pub(super) bench_cpu: Option<Duration>,
    pub(super) latency: Latency,
    pub(super) unsent: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) out_of_order: u64,
    pub(super) altered: u64,
    pub(super) faults: Vec<String>,
}

/// In microseconds, from when a message was due to each delivery.
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Report {
    /// Every message came to everybody once, in order and unharmed, and nothing broke.
    pub(super) fn is_exact(&self) -> bool {
        let counts = [self.lost, self.doubled, self.out_of_order, self.altered];
        counts.iter().all(|count| *count == 0) && self.faults.is_empty()
    }

    fn deliveries_per_second(&self) -> f64 {
        self.deliveries_in_time as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Microseconds of the server's CPU for each delivery.
    fn cpu_us(&self) -> Option<f64> {
        let cpu = self.server_cpu.filter(|_| self.deliveries_in_time > 0)?;
        Some(cpu.as_secs_f64() * 1e6 / self.deliveries_in_time as f64)
    }

    /// Percent of one core.
    fn percent(&self, cpu: Option<Duration>) -> Option<f64> {
        Some(100.0 * cpu?.as_secs_f64() / self.time.as_secs_f64().max(f64::MIN_POSITIVE))
    }

    pub(super) fn json(&self) -> Value {
        let Latency { p50, p99, p999, max } = self.latency;
        json!({
            "exact": self.is_exact(),
            "rooms": self.rooms,
            "members": self.members,
            "window": self.window,
            "rate": self.rate,
            "transport": if self.web_socket { "ws" } else { "tcp" },
            "seconds": thousandths(self.time.as_secs_f64()),
            "messages": self.messages,
            "deliveries": self.deliveries,
            "deliveries_per_second": thousandths(self.deliveries_per_second()),
            "server_cpu_us_per_delivery": self.cpu_us().map(thousandths),
            "server_cpu_percent": self.percent(self.server_cpu).map(thousandths),
            "bench_cpu_percent": self.percent(self.bench_cpu).map(thousandths),
            "latency_us": { "p50": p50, "p99": p99, "p99.9": p999, "max": max },
            "unsent": self.unsent,
            "lost": self.lost,
            "doubled": self.doubled,
            "out_of_order": self.out_of_order,
            "altered": self.altered,
            "faults": self.faults,
        })
    }
}

fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<16}{value}");
        let transport = if self.web_socket { "WebSocket" } else { "TCP" };
        let plan = match (self.window, self.rate) {
            (Some(messages), _) => format!("{messages} in flight"),
            (_, rate) => format!("{} a second", rate.unwrap_or_default()),
        };
        let size = format!("{} of {} members, {transport}", self.rooms, self.members);
        line("rooms", format!("{size}, messages in each: {plan}"))?;
        line("time", format!("{:.1} s", self.time.as_secs_f64()))?;
        line("messages", self.messages.to_string())?;
        let rate = self.deliveries_per_second();
        line("deliveries", format!("{}, {rate:.0} a second", self.deliveries))?;
        if let (Some(each), Some(percent)) = (self.cpu_us(), self.percent(self.server_cpu)) {
            line("server's CPU", format!("{each:.3} us a delivery, {percent:.0} % of a core"))?;
        }
        if let Some(percent) = self.percent(self.bench_cpu) {
            line("bench's CPU", format!("{percent:.0} % of a core"))?;
        }
        for (name, us) in [
            ("p50", self.latency.p50),
            ("p99", self.latency.p99),
            ("p99.9", self.latency.p999),
            ("max", self.latency.max),
        ] {
            line(name, format!("{us:.0} us"))?;
        }
        if self.unsent > 0 {
            line("unsent", format!("{} were due: the rate is too high for here", self.unsent))?;
        }
        for (name, count) in [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("out of order", self.out_of_order),
            ("altered", self.altered),
        ] {
            line(name, count.to_string())?;
        }
        Ok(())
    }
}
