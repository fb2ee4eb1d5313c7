//! The world of one seed: a server, clients, and the weather between them.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use parlor::{Clock, Config, Origin, Random, RoomCode, Server};
use tokio_util::sync::CancellationToken;
use turmoil::Sim;
use turmoil::net::TcpListener;

use crate::client::{Client, now};
use crate::counts::Counts;
use crate::dice::Dice;
use crate::disk::{Disk, Spell};
use crate::witness::Witness;

/// What a seed decides before anything happens.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The step of the network: the scale of all times but those of the server.
    tick: Duration,
    clients: u64,
    pub(crate) history: u64,
    rate: Option<u32>,
    /// Segments that a connection takes before it blocks.
    capacity: usize,
    /// The longest way of a segment, in ticks.
    latency: u64,
    /// How long the server waits for a client that reads nothing (PACE-4).
    pub(crate) stall: Duration,
    /// The weather is fair, and nobody is slowed: every answer comes soon.
    pub(crate) is_calm: bool,
    /// The server stores its rooms: they outlive it.
    pub(crate) is_stored: bool,
    /// The longest that a commit takes, in ticks.
    pub(crate) slowest_commit: u64,
    /// When so many commits in a hundred fail.
    pub(crate) spells: Vec<Spell>,
    pub(crate) failing: u64,
}

/// What a run has shown.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) counts: Counts,
    /// What went wrong, with what came before it.
    pub(crate) failure: Option<String>,
}

/// Ticks in which anything may happen. Then the weather is fair, and everybody finishes.
const STORMY_TICKS: u64 = 500;
/// Ticks after which somebody must hang.
const MOST_TICKS: u64 = 4000;
/// After so long a server tries again to store what it could not.
const RETRY: Duration = Duration::from_millis(500);
/// A server tells its lives apart by the seconds of `HELLO`.
const FIRST_HOLD: u64 = 30;
/// A server that is told to stop has ended then.
const LONGEST_STOP: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
enum Weather {
    /// Everything is late, and arrives in the end.
    Hold,
    Release,
    /// What is sent is lost. A connection that lost something never recovers.
    Cut,
    CutUp,
    CutDown,
    Repair,
    /// The server is told to stop; it may have ended when it crashes, or not.
    Stop,
    Crash,
    Restart,
    /// The clock on the wall is set by so many seconds.
    Clock(i64),
}

impl Plan {
    fn new(dice: &mut Dice) -> Plan {
        let (is_calm, is_stored) = (dice.percent(20), dice.percent(50));
        let mut plan = Plan {
            is_calm,
            is_stored,
            slowest_commit: dice.pick(&[2, 6, if is_calm { 6 } else { 40 }]),
            spells: Vec::new(),
            failing: dice.pick(&[100, 50]),
            stall: Duration::from_secs(30),
            tick: Duration::from_millis(dice.pick(&[5, 20, 100])),
            clients: dice.within(2..=5),
            history: dice.pick(&[3, 20, 1000]),
            rate: if is_calm { Some(0) } else { dice.pick(&[Some(0), Some(0), None]) },
            capacity: dice.pick(&[16, 64]),
            // The way there and back is shorter than a closing server waits (1 s).
            latency: dice.pick(&[1, 4, if is_calm { 4 } else { 15 }]),
        };
        if !is_calm && dice.percent(50) {
            // Longer than any weather lasts.
            plan.stall = Duration::from_secs(plan.ticks(200).as_secs());
        }
        if is_stored && !is_calm {
            plan.spells = plan.draw_spells(dice);
        }
        plan
    }

    fn draw_spells(&self, dice: &mut Dice) -> Vec<Spell> {
        let spells = dice.pick(&[0, 1, 1, 2, 3]);
        let spell = |_| {
            let from = dice.within(30..=STORMY_TICKS - 100);
            let to = from + dice.pick(&[5, 20, 90]);
            (self.ticks(from), self.ticks(to))
        };
        (0..spells).map(spell).collect()
    }

    /// Whether something may have failed to be stored within this time.
    pub(crate) fn may_fail(&self, from: Duration, to: Duration) -> bool {
        // What is ordered behind a commit that fails goes with it.
        let (slack, commit) = (self.slack(), self.commits(1));
        let mut spells = self.spells.iter();
        spells.any(|(begin, end)| *begin <= to + slack && from <= *end + commit + slack)
    }

    /// Whether all is stored that anybody has seen until now: since a spell it has been tried
    /// again, as it is at the end.
    pub(crate) fn is_kept(&self, now: Duration, has_ended: bool) -> bool {
        let retry = if has_ended { Duration::ZERO } else { RETRY };
        let again = retry + self.commits(2);
        !self.may_fail(now.saturating_sub(again), now)
    }

    /// The longest that so many commits take, one after another.
    pub(crate) fn commits(&self, commits: u64) -> Duration {
        self.ticks(commits * self.slowest_commit)
    }

    /// How much two hosts' clocks may differ.
    pub(crate) fn slack(&self) -> Duration {
        self.ticks(3)
    }

    /// What the rooms of a life of the server belong to.
    pub(crate) fn world_of(&self, life: u64) -> u64 {
        if self.is_stored { 0 } else { life }
    }

    pub(crate) fn ticks(&self, ticks: u64) -> Duration {
        self.tick * ticks as u32
    }

    pub(crate) fn stall_ticks(&self) -> u64 {
        (self.stall.as_millis() / self.tick.as_millis()) as u64
    }

    pub(crate) fn calm_from(&self) -> Duration {
        self.ticks(STORMY_TICKS)
    }

    /// How long a client waits for an answer before it breaks off.
    pub(crate) fn patience(&self) -> Duration {
        self.ticks(90)
    }

    /// Seconds of `HOLD` that are over before the end, or not.
    pub(crate) fn longest_hold(&self) -> u64 {
        self.ticks(STORMY_TICKS / 3).as_secs().max(2)
    }
}

/// The life of the server that a `HELLO` is from.
pub(crate) fn life_of(hello: &str) -> Option<u64> {
    let (_, hold) = hello.strip_prefix("HELLO parlor/1 ")?.split_once("hold=")?;
    hold.split(' ').next()?.parse::<u64>().ok()?.checked_sub(FIRST_HOLD)
}

/// Everything that a seed brings about.
pub(crate) fn run(seed: u64) -> Outcome {
    let mut dice = Dice::new(seed);
    let plan = Rc::new(Plan::new(&mut dice));
    let witness = Rc::new(RefCell::new(Witness::new(plan.clone())));
    // It outlives the simulation.
    let vanished = Rc::new(RefCell::new(Vec::new()));
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        .rng_seed(dice.throw())
        .tick_duration(plan.tick)
        .simulation_duration(plan.ticks(MOST_TICKS))
        .max_message_latency(plan.ticks(plan.latency))
        .tcp_capacity(plan.capacity)
        .enable_random_order()
        .build();
    let skew = Arc::new(AtomicI64::new(0));
    let stop = Rc::new(RefCell::new(CancellationToken::new()));
    house(&mut sim, &plan, &witness, (skew.clone(), stop.clone()), dice.fork());
    for number in 1..=plan.clients {
        let (plan, witness, vanished) = (plan.clone(), witness.clone(), vanished.clone());
        let client = Client::new(number, plan, dice.fork(), witness, vanished);
        sim.client(format!("c{number}"), client.live());
    }
    let mut forecast = forecast(&plan, &mut dice);
    // The earliest stands last.
    forecast.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
    let ended = loop {
        while let Some((_, client, weather)) =
            forecast.pop_if(|(at, _, _)| plan.ticks(*at) <= sim.elapsed())
        {
            witness.borrow_mut().note(format!("{:?} {weather:?} {client}", sim.elapsed()));
            turn(&mut sim, plan.clients, client, weather, (&skew, &stop), &witness);
        }
        match sim.step() {
            Ok(false) if witness.borrow().has_complaints() => break Ok(()),
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        }
    };
    let mut witness = witness.borrow_mut();
    if let Err(error) = ended {
        witness.complain(error);
    }
    witness.close();
    let failure = witness.has_complaints().then(|| format!("{plan:?}\n{}", witness.story()));
    Outcome { trace: witness.trace_hash(), counts: witness.counts, failure }
}

/// The server's host. Every time it is started it is a new server, which remembers nothing but what
/// is on its disk.
fn house(
    sim: &mut Sim<'_>,
    plan: &Rc<Plan>,
    witness: &Rc<RefCell<Witness>>,
    (skew, stop): (Arc<AtomicI64>, Rc<RefCell<CancellationToken>>),
    mut dice: Dice,
) {
    let lives = Rc::new(Cell::new(0));
    let disk = plan.is_stored.then(|| Disk::new(dice.fork()));
    let dice = Arc::new(Mutex::new(dice));
    let (plan, witness) = (plan.clone(), witness.clone());
    sim.host("server", move || {
        lives.set(lives.get() + 1);
        let mut config = config(&plan, lives.get(), skew.clone(), dice.clone());
        disk.iter().for_each(|disk| disk.put_into(&mut config, &plan));
        let token = CancellationToken::new();
        *stop.borrow_mut() = token.clone();
        let (plan, witness) = (plan.clone(), witness.clone());
        async move {
            let server = Server::bind(config)?;
            let stopping = token.clone().cancelled_owned();
            let serving = tokio::task::spawn_local(server.clone().serve(stopping));
            let listener = TcpListener::bind(("0.0.0.0", crate::PORT)).await?;
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                failed = accept(&server, &listener, &witness) => return Ok(failed?),
            }
            drop(listener);
            let told = now();
            let has_ended = serving.await.is_ok() && now() <= told + LONGEST_STOP + plan.slack();
            witness.borrow_mut().hold_true(has_ended, || format!("told to stop at {told:?}"));
            witness.borrow_mut().has_ended();
            pending().await
        }
    });
}

/// Talks with everybody who comes.
async fn accept(
    server: &Server,
    listener: &TcpListener,
    witness: &Rc<RefCell<Witness>>,
) -> io::Result<()> {
    loop {
        let (stream, address) = listener.accept().await?;
        let mut origin = Origin::default();
        (origin.address, origin.telnet) = (Some(address), true);
        let conversation = server.attach_from(stream, origin);
        let witness = witness.clone();
        tokio::task::spawn_local(async move {
            if conversation.await.is_err_and(|error| error.is_panic()) {
                witness.borrow_mut().complain("a conversation has panicked".into());
            }
        });
    }
}

fn config(plan: &Plan, life: u64, skew: Arc<AtomicI64>, dice: Arc<Mutex<Dice>>) -> Config {
    let mut config = Config::default();
    config.listen = Vec::new();
    config.hold = FIRST_HOLD + life;
    config.history = plan.history as usize;
    config.rate = plan.rate;
    config.stall = plan.stall.as_secs();
    // After a restart codes that were used may be given out again: so long ones never are.
    config.code_length = 10;
    config.lobby = RoomCode::lobby(crate::LOBBY).ok();
    config.clock = Clock::new(move || {
        let seconds = 1_700_000_000 + skew.load(Ordering::Relaxed);
        let since = Duration::from_secs(seconds.unsigned_abs());
        SystemTime::UNIX_EPOCH + since + turmoil::sim_elapsed().unwrap_or_default()
    });
    config.random = Random::new(move |bytes| dice.lock().expect("no panic").fill(bytes));
    config
}

/// When which weather begins at which client's link; the server's own has the number 0.
fn forecast(plan: &Plan, dice: &mut Dice) -> Vec<(u64, u64, Weather)> {
    let mut forecast = Vec::new();
    if plan.is_calm {
        return forecast;
    }
    for client in 1..=plan.clients {
        let mut at = dice.within(10..=200);
        while at < STORMY_TICKS {
            let lasts = dice.pick(&[3, 20, 60, 150]);
            let (begin, end) = dice.pick(&[
                (Weather::Hold, Weather::Release),
                (Weather::Hold, Weather::Release),
                (Weather::Cut, Weather::Repair),
                (Weather::CutUp, Weather::Repair),
                (Weather::CutDown, Weather::Repair),
            ]);
            forecast.push((at, client, begin));
            forecast.push(((at + lasts).min(STORMY_TICKS), client, end));
            at += lasts + dice.within(20..=250);
        }
    }
    if !plan.is_stored && dice.percent(30) {
        let at = dice.within(100..=STORMY_TICKS - 50);
        end_life(at, dice, &mut forecast);
    }
    let mut at = dice.within(60..=300);
    while plan.is_stored && at <= STORMY_TICKS - 50 {
        at = end_life(at, dice, &mut forecast) + dice.within(20..=300);
    }
    if dice.percent(30) {
        let seconds = dice.pick(&[-3600, -1, 3600]);
        forecast.push((dice.within(50..=STORMY_TICKS), 0, Weather::Clock(seconds)));
    }
    forecast
}

/// Ends a life of the server; returns when the next begins.
fn end_life(mut at: u64, dice: &mut Dice, forecast: &mut Vec<(u64, u64, Weather)>) -> u64 {
    if dice.percent(40) {
        forecast.push((at, 0, Weather::Stop));
        at += dice.pick(&[1, 10, 50, 150]);
    }
    forecast.push((at, 0, Weather::Crash));
    at += dice.within(1..=40);
    forecast.push((at, 0, Weather::Restart));
    at
}

fn turn(
    sim: &mut Sim<'_>,
    clients: u64,
    client: u64,
    weather: Weather,
    (skew, stop): (&AtomicI64, &RefCell<CancellationToken>),
    witness: &Rc<RefCell<Witness>>,
) {
    let client = format!("c{client}");
    let client = client.as_str();
    match weather {
        Weather::Hold => sim.hold(client, "server"),
        Weather::Release => sim.release(client, "server"),
        Weather::Cut => sim.partition(client, "server"),
        Weather::CutUp => sim.partition_oneway(client, "server"),
        Weather::CutDown => sim.partition_oneway("server", client),
        Weather::Repair => sim.repair(client, "server"),
        Weather::Stop => {
            witness.borrow_mut().stop();
            stop.borrow().cancel();
        }
        Weather::Crash => {
            // As when the power goes: nothing is sent any more. The order in which a runtime drops
            // its tasks, and so their sockets, is not the same in each run.
            let clients: Vec<_> = (1..=clients).map(|number| format!("c{number}")).collect();
            clients.iter().for_each(|client| sim.partition(client.as_str(), "server"));
            sim.crash("server");
            clients.iter().for_each(|client| sim.repair(client.as_str(), "server"));
            let at = sim.elapsed();
            witness.borrow_mut().crash(at);
        }
        Weather::Restart => sim.bounce("server"),
        Weather::Clock(seconds) => {
            skew.fetch_add(seconds, Ordering::Relaxed);
        }
    }
}
