//! The members and publishers: a task for each connection, all on one thread.
//!
//! They go through stages together: all join, all are told that all have, the publishers talk, and
//! a fence tells each that nothing more can come.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use parlor::protocol::limits::{BENCH_JOINING, BENCH_READ_BYTES, BENCH_WRITE_BYTES};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::room::{PUBLISHER, Plan, Room, Seat};
use super::tally::Tally;
use super::wire::{Connection, Door};

/// What all tasks share. Nobody holds it over an await.
pub(super) type Load = RefCell<Shared>;

pub(super) struct Shared {
    pub(super) rooms: Vec<Room>,
    pub(super) seats: Vec<Seat>,
    pub(super) tally: Tally,
    /// Seats that are taken.
    pub(super) joined: usize,
    /// Seats that know that all are taken, and have been told of nothing but messages since.
    pub(super) settled: usize,
    /// Connections that have heard all, and ended.
    pub(super) ended: usize,
    /// Where every read puts its bytes.
    buffer: Vec<u8>,
}

/// The tasks, and what brings them from stage to stage.
pub(super) struct Crowd {
    pub(super) load: Rc<Load>,
    pub(super) tasks: JoinSet<io::Result<()>>,
    pub(super) stages: Rc<Stages>,
    door: Rc<Door>,
}

pub(super) struct Stages {
    /// How many may be joining at one time.
    doorway: Semaphore,
    /// All have joined.
    pub(super) full: CancellationToken,
    /// The publishers say no more.
    pub(super) said: CancellationToken,
    /// The server has taken all that they said.
    pub(super) over: CancellationToken,
    /// Somebody is a stage further.
    pub(super) moved: Notify,
}

/// What one task has.
struct Person {
    connection: Connection,
    seat: usize,
    room: usize,
    load: Rc<Load>,
}

impl Crowd {
    pub(super) fn new(
        door: Door,
        rooms: usize,
        members: usize,
        plan: Plan,
    ) -> Result<Crowd, String> {
        // The publishers come first: they make the rooms.
        let numbers = (0..=members).flat_map(|n| (0..rooms).map(move |room| Seat::new(room, n)));
        let load = Rc::new(RefCell::new(Shared {
            rooms: (0..rooms).map(|_| Room::new(plan, members)).collect(),
            seats: numbers.collect(),
            tally: Tally::new()?,
            joined: 0,
            settled: 0,
            ended: 0,
            buffer: vec![0; BENCH_READ_BYTES],
        }));
        let stages = Rc::new(Stages {
            doorway: Semaphore::new(BENCH_JOINING),
            full: CancellationToken::new(),
            said: CancellationToken::new(),
            over: CancellationToken::new(),
            moved: Notify::new(),
        });
        Ok(Crowd { load, tasks: JoinSet::new(), stages, door: Rc::new(door) })
    }

    /// Sends these to their seats. It must be called within a `LocalSet`.
    pub(super) fn admit(&mut self, seats: Range<usize>) {
        for seat in seats {
            let (door, load, stages) = (self.door.clone(), self.load.clone(), self.stages.clone());
            self.tasks.spawn_local(async move {
                let result = live(&door, seat, load.clone(), stages).await;
                result.map_err(|error| {
                    let who = load.borrow().seats[seat].to_string();
                    io::Error::other(format!("{who}: {error}"))
                })
            });
        }
    }

    /// Counts what has come to nobody, once nothing more can come.
    pub(super) fn count_losses(&self) {
        let Shared { rooms, seats, tally, .. } = &mut *self.load.borrow_mut();
        for seat in seats {
            if let Some((first, count)) = seat.lost(rooms[seat.room].sent()) {
                tally.lost += count;
                tally.fault(seat, || format!("{count} lost, the first is message {first}"));
            }
        }
    }
}

/// One connection from its beginning to its end.
async fn live(door: &Door, seat: usize, load: Rc<Load>, stages: Rc<Stages>) -> io::Result<()> {
    let permit = stages.doorway.acquire().await.map_err(io::Error::other)?;
    let connection = Connection::open(door, seat).await?;
    let (room, number) = (load.borrow().seats[seat].room, load.borrow().seats[seat].number);
    let mut person = Person { connection, seat, room, load: load.clone() };
    if number == 0 {
        let answer = person.ask(&format!("CREATE {PUBLISHER}")).await?;
        let code = answer.split(' ').nth(2).unwrap_or_default();
        load.borrow_mut().rooms[room].code = code.to_owned();
    } else {
        let code = load.borrow().rooms[room].code.clone();
        person.ask(&format!("JOIN {code} m{number} 0")).await?;
    }
    drop(permit);
    load.borrow_mut().joined += 1;
    stages.moved.notify_one();

    person.listen_until(&stages.full).await?;
    person.ask("PING settled").await?;
    load.borrow_mut().settled += 1;
    stages.moved.notify_one();

    if number == 0 {
        person.publish_until(&stages.said).await?;
    } else {
        person.listen_until(&stages.over).await?;
    }
    person.ask("PING over").await?;
    load.borrow_mut().ended += 1;
    stages.moved.notify_one();
    Ok(())
}

impl Person {
    /// Says a line, and listens until it is answered.
    async fn ask(&mut self, line: &str) -> io::Result<String> {
        self.connection.say(line.as_bytes());
        poll_fn(|cx| {
            loop {
                let answer = self.load.borrow_mut().seats[self.seat].answer.take();
                match answer {
                    Some(answer) => return Poll::Ready(Ok(answer)),
                    None => ready!(self.poll_turn(cx))?,
                }
            }
        })
        .await
    }

    async fn listen_until(&mut self, stage: &CancellationToken) -> io::Result<()> {
        let listening = poll_fn(|cx| {
            loop {
                ready!(self.poll_turn(cx))?;
            }
        });
        tokio::select! {
            biased;
            result = listening => result,
            () = stage.cancelled() => Ok(()),
        }
    }

    /// Says what is due, and listens.
    async fn publish_until(&mut self, stage: &CancellationToken) -> io::Result<()> {
        let publishing = poll_fn(|cx| {
            loop {
                self.say_what_is_due(cx);
                ready!(self.poll_turn(cx))?;
            }
        });
        tokio::select! {
            biased;
            result = publishing => result,
            () = stage.cancelled() => Ok(()),
        }
    }

    fn say_what_is_due(&mut self, cx: &Context<'_>) {
        let room = &mut self.load.borrow_mut().rooms[self.room];
        let now = Instant::now();
        room.publish_from(cx);
        while self.connection.waiting() < BENCH_WRITE_BYTES
            && let Some(due) = room.next_due(now)
        {
            self.connection.say(room.send(due));
        }
    }

    /// Writes what waits, reads once, and checks what came.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Where it can't be written now, its task is woken when it can.
        if let Poll::Ready(result) = self.connection.poll_flush(cx) {
            result?;
        }
        let Shared { rooms, seats, tally, buffer, .. } = &mut *self.load.borrow_mut();
        let (room, seat) = (&mut rooms[self.room], &mut seats[self.seat]);
        let mut now = None;
        ready!(self.connection.poll_lines(cx, buffer, |line| {
            let now = *now.get_or_insert_with(Instant::now);
            room.hear(seat, line, now, tally)
        }))?;
        tally.reads += 1;
        Poll::Ready(Ok(()))
    }
}
