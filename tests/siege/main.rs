//! Everything at once: the real program in a cgroup of 512 MiB, some 6,300 attackers of thirteen
//! kinds, and twenty honest clients who must not notice.
//!
//! - `PARLOR_SIEGE_SECS=300`: so long, after the first siege that warms the server up.
//!
//! What is held: nothing is killed; every acknowledged message comes to everybody in its room once,
//! in order and unaltered, and numbers have no holes, also for those whose connection breaks and who
//! come back; 99 of 100 deliveries take less than 100 ms, counted from when the message was due; and
//! afterwards the server's memory is within 10 % of what it was before.
//!
//! *Before* is after a first siege with half as many attackers again: what an allocator keeps once it
//! has grown is not lost. glibc gives little of it back (measured: of 140 MiB that are resident
//! afterwards 2.5 MiB are in use), so this finds what grows from siege to siege, and the limit of the
//! cgroup what grows in one.
//!
//! Attackers are in this process, on threads that give way to the server and to the honest clients,
//! who have a thread of their own: in the world no attacker shares the server's processor. How late
//! the honest clients themselves were is told as well, and counts in their deliveries.
//!
//! This machine's addresses are not paced by default, so the server is given the rate that strangers
//! have. Its times are shorter than by default, so that each is reached in a short siege too.

mod attackers;
mod cage;
mod honest;
mod ledger;
mod program;
mod report;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use attackers::{Army, Field};
use cage::Cage;
use honest::Honest;
use program::Program;
use report::{Peaks, Report};

const FLAGS: &[&str] = &[
    "--listen=127.0.0.1:0",
    "--web=127.0.0.1:0",
    // The bridge believes that attackers come from elsewhere.
    "--trust-proxy",
    "--rate=10",
    "--stall=5",
    "--first-command=5",
    // Honest clients whose connection breaks must find a place.
    "--max-connections=15000",
    // What the system holds for all who never read must fit.
    "--send-buffer=16",
];
/// Seconds of a siege that does not say how many.
const SIEGE_SECS: u64 = 20;
/// The first siege, which isn't measured.
const WARM_UP: Duration = Duration::from_secs(20);
const SAMPLED_EVERY: Duration = Duration::from_millis(500);
/// How long the server may take to see the last attackers off.
const PATIENCE: Duration = Duration::from_secs(60);
const P99: Duration = Duration::from_millis(100);

#[test]
fn honest_clients_lose_nothing_while_everything_attacks_at_once() {
    let seconds = std::env::var("PARLOR_SIEGE_SECS").ok();
    let seconds = seconds.map_or(SIEGE_SECS, |text| text.parse().expect("PARLOR_SIEGE_SECS"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(besiege(Duration::from_secs(seconds)));
}

async fn besiege(time: Duration) {
    let mut program = Program::start(Cage::build(), FLAGS).await;
    let mut honest = Honest::enter(&program).await;
    let mut peaks = Peaks::default();
    attack(&program, WARM_UP, 1.5, &mut peaks).await;
    see_off(&program).await;
    let before = program.settled().await;
    let limits = program.metrics().await;

    honest.ledger.begin();
    let mut peaks = Peaks::default();
    let field = attack(&program, time, 1.0, &mut peaks).await;
    honest.ledger.end();
    see_off(&program).await;
    let after = program.settled().await;
    honest.finish().await;

    let now = program.metrics().await;
    let mut reached: Vec<_> = now
        .iter()
        .filter_map(|(name, value)| {
            let limit =
                name.strip_prefix("parlor_limit_reached_total{limit=\"")?.strip_suffix("\"}")?;
            Some((limit.to_owned(), value - limits.get(name).copied().unwrap_or(0)))
        })
        .collect();
    reached.sort();
    let report = Report {
        time,
        field: &field,
        ledger: &honest.ledger,
        program: &program,
        before,
        after,
        peaks,
        reached,
    };
    println!("{report}");
    report.check();
    assert!(program.stop().await.success(), "{}", program.log_end());
}

/// All attackers, or so many times as many, for so long.
async fn attack(program: &Program, time: Duration, strength: f64, peaks: &mut Peaks) -> Arc<Field> {
    let army = Army::attack(program.line, program.web, strength);
    let end = Instant::now() + time;
    while Instant::now() < end {
        tokio::time::sleep(SAMPLED_EVERY).await;
        peaks.sample(program).await;
    }
    army.withdraw().await
}

/// Waits until the server has nobody left but the honest clients.
async fn see_off(program: &Program) {
    let since = Instant::now();
    loop {
        let connections = program.metrics().await["parlor_connections"];
        // Those whose connection is just broken come back; and this question is one.
        if connections <= honest::CLIENTS as u64 + 1 {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{connections} connections are left");
        tokio::time::sleep(SAMPLED_EVERY).await;
    }
}
