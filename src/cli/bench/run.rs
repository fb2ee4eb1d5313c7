//! One run, from the first connection to the last check.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use parlor::protocol::limits::{BENCH_CATCH_UP, BENCH_PATIENCE};
use tokio_util::sync::CancellationToken;

use super::crowd::{Crowd, Shared};
use super::report::{Latency, Report};
use super::room::{Plan, Room, nth_due};
use super::target::cpu_time;
use super::wire::Door;
use super::{Bench, Failure, NO_SERVER, WINDOW, failed, pace};

/// How often the progress is shown, and the server's silence looked at.
const TICK: Duration = Duration::from_millis(100);

/// What is known at one moment.
struct Mark {
    at: Instant,
    server_cpu: Option<Duration>,
    bench_cpu: Option<Duration>,
    deliveries: u64,
}

struct Run {
    crowd: Crowd,
    server: Option<u32>,
    bar: ProgressBar,
}

/// How a stage ended that was not done.
enum Unfinished {
    /// Its time is over.
    Late,
    /// A connection failed, or all are silent.
    Broken(String),
}

/// Measures the server behind this door.
///
/// Fails where the members don't come in, or `stop` ends it before they are; what happens later is
/// in the report.
pub(super) async fn run(
    bench: &Bench,
    door: Door,
    server: Option<u32>,
    stop: &CancellationToken,
) -> Result<Report, Failure> {
    let (rooms, members) = (bench.rooms as usize, bench.members as usize);
    let plan = match bench.rate {
        Some(rate) => Plan::Rate(rate),
        None => Plan::Window(bench.window.map_or(WINDOW, |window| window as usize)),
    };
    let address = door.address;
    let crowd = Crowd::new(door, rooms, members, plan).map_err(failed)?;
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    let mut run = Run { crowd, server, bar };
    tokio::select! {
        biased;
        () = stop.cancelled() => {
            return Err(failed("stopped before anything was measured".to_owned()));
        }
        joined = run.join(rooms, rooms * (members + 1)) => if let Err(text) = joined {
            return Err((ExitCode::from(NO_SERVER), format!("{address} can't be measured: {text}")));
        }
    }
    let (begin, end, talked) = run.talk(bench, stop).await;
    let drained = match talked {
        Ok(()) => run.drain().await,
        Err(text) => Err(text),
    };
    run.bar.finish_and_clear();
    run.crowd.count_losses();
    Ok(run.report(bench, plan, [&begin, &end], drained.err()))
}

impl Run {
    /// Everybody comes in, and is told that everybody has.
    async fn join(&mut self, rooms: usize, seats: usize) -> Result<(), String> {
        self.bar.set_length(seats as u64);
        self.crowd.admit(0..rooms);
        self.join_up_to(rooms).await?;
        self.crowd.admit(rooms..seats);
        self.join_up_to(seats).await?;
        self.crowd.stages.full.cancel();
        let settled = |shared: &Shared| shared.settled == seats;
        self.until(None, settled, |bar, _| bar.set_message("settling")).await.map_err(text)
    }

    async fn join_up_to(&mut self, seats: usize) -> Result<(), String> {
        let show = |bar: &ProgressBar, shared: &Shared| {
            bar.set_position(shared.joined as u64);
            bar.set_message(format!("{} joined", shared.joined));
        };
        self.until(None, |shared| shared.joined == seats, show).await.map_err(text)
    }

    /// The publishers talk, for their time or until `stop`.
    async fn talk(
        &mut self,
        bench: &Bench,
        stop: &CancellationToken,
    ) -> (Mark, Mark, Result<(), String>) {
        let load = self.crowd.load.clone();
        let begin = self.mark();
        let end = begin.at + bench.duration;
        let rooms = u64::from(bench.rooms);
        for (room, nth) in load.borrow_mut().rooms.iter_mut().zip(0..) {
            // Rooms take turns.
            let turn = bench.rate.map_or(Duration::ZERO, |rate| nth_due(nth, rate * rooms));
            room.start(begin.at + turn, end);
        }
        let beats = async {
            match bench.rate {
                Some(rate) => pace::beat(&load, rate, begin.at).await,
                None => std::future::pending().await,
            }
        };
        self.bar.set_length(bench.duration.as_millis() as u64);
        let show = |bar: &ProgressBar, shared: &Shared| {
            let seconds = begin.at.elapsed().as_secs_f64();
            bar.set_position((seconds * 1e3) as u64);
            let rate = shared.tally.deliveries as f64 / seconds;
            bar.set_message(format!("{rate:.0} deliveries a second"));
        };
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => {
                load.borrow_mut().rooms.iter_mut().for_each(|room| room.stop(Instant::now()));
                Ok(())
            }
            result = self.until(Some(end), |_| false, show) => match result {
                Err(Unfinished::Broken(text)) => Err(text),
                _ => Ok(()),
            },
            result = beats => result.map_err(|error| error.to_string()),
        };
        (begin, self.mark(), result)
    }

    /// What was due is said, and comes to everybody: a fence tells that nothing is on its way.
    async fn drain(&mut self) -> Result<(), String> {
        let load = self.crowd.load.clone();
        load.borrow_mut().rooms.iter_mut().for_each(Room::wake);
        self.bar.set_message("waiting for the last ones");
        let late = Instant::now() + BENCH_CATCH_UP;
        let all_sent = |shared: &Shared| shared.rooms.iter().all(|room| room.unsent() == 0);
        match self.until(Some(late), all_sent, |_, _| {}).await {
            Err(Unfinished::Broken(text)) => return Err(text),
            Ok(()) | Err(Unfinished::Late) => {}
        }
        let (publishers, seats) = (load.borrow().rooms.len(), load.borrow().seats.len());
        self.crowd.stages.said.cancel();
        let said = |shared: &Shared| shared.ended == publishers;
        self.until(None, said, |_, _| {}).await.map_err(text)?;
        self.crowd.stages.over.cancel();
        self.until(None, |shared| shared.ended == seats, |_, _| {}).await.map_err(text)
    }

    /// Waits until it is done, the time is over, or a connection fails or all are silent.
    async fn until(
        &mut self,
        end: Option<Instant>,
        done: impl Fn(&Shared) -> bool,
        show: impl Fn(&ProgressBar, &Shared),
    ) -> Result<(), Unfinished> {
        let Crowd { load, tasks, stages, .. } = &mut self.crowd;
        let mut ticks = tokio::time::interval(TICK);
        let mut heard = (load.borrow().tally.reads, Instant::now());
        let late = async {
            match end {
                Some(end) => tokio::time::sleep_until(end.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut late = std::pin::pin!(late);
        while !done(&load.borrow()) {
            tokio::select! {
                biased;
                Some(ended) = tasks.join_next() => {
                    let result = ended.map_err(std::io::Error::other).and_then(|result| result);
                    result.map_err(|error| Unfinished::Broken(error.to_string()))?;
                }
                () = stages.moved.notified() => {}
                () = &mut late => return Err(Unfinished::Late),
                _ = ticks.tick() => {
                    let shared = load.borrow();
                    show(&self.bar, &shared);
                    if heard.0 != shared.tally.reads {
                        heard = (shared.tally.reads, Instant::now());
                    } else if heard.1.elapsed() > BENCH_PATIENCE {
                        let seconds = BENCH_PATIENCE.as_secs();
                        let text = format!("the server has said nothing for {seconds} s");
                        return Err(Unfinished::Broken(text));
                    }
                }
            }
        }
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            server_cpu: self.server.and_then(cpu_time),
            bench_cpu: cpu_time(std::process::id()),
            deliveries: self.crowd.load.borrow().tally.deliveries,
        }
    }

    fn report(
        &self,
        bench: &Bench,
        plan: Plan,
        [begin, end]: [&Mark; 2],
        broken: Option<String>,
    ) -> Report {
        let shared = self.crowd.load.borrow();
        let (rooms, tally) = (&shared.rooms, &shared.tally);
        let spent = |cpu: fn(&Mark) -> Option<Duration>| cpu(end)?.checked_sub(cpu(begin)?);
        let (window, rate) = match plan {
            Plan::Window(window) => (Some(window), None),
            Plan::Rate(rate) => (None, Some(rate)),
        };
        Report {
            rooms: bench.rooms,
            members: bench.members,
            window,
            rate,
            web_socket: bench.web_socket(),
            time: end.at - begin.at,
            messages: rooms.iter().map(Room::sent).sum(),
            deliveries: tally.deliveries,
            deliveries_in_time: end.deliveries - begin.deliveries,
            server_cpu: spent(|mark| mark.server_cpu),
            bench_cpu: spent(|mark| mark.bench_cpu),
            latency: Latency {
                p50: tally.latency_us(0.5),
                p99: tally.latency_us(0.99),
                p999: tally.latency_us(0.999),
                max: tally.latency_us(1.0),
            },
            unsent: rooms.iter().map(Room::unsent).sum(),
            lost: tally.lost,
            doubled: tally.doubled,
            out_of_order: tally.out_of_order,
            altered: tally.altered,
            faults: broken.into_iter().chain(tally.faults.iter().cloned()).collect(),
        }
    }
}

fn text(unfinished: Unfinished) -> String {
    match unfinished {
        Unfinished::Late => "its time is over".to_owned(),
        Unfinished::Broken(text) => text,
    }
}
