//! What must be one step, tried in many orders of its threads: `scripts/test schedules`.
//!
//! Shuttle runs one thread at a time and changes at every lock by chance. It also finds where all
//! threads wait: a lost wake-up shows as that.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;
use tokio::time::Instant;

use super::*;
use crate::config::{Clock, Random};
use crate::protocol::{Ending as LineEnding, Framing, LeftReason, Text};

/// Schedules that each test tries.
const SCHEDULES: usize = 2_000;
/// Seconds for which seats are held here.
const HOLD: u64 = 30;

fn try_schedules(test: fn()) {
    shuttle::check_random(test, SCHEDULES);
}

/// A hub without a lobby, in which nothing depends on the world outside.
fn hub() -> Hub {
    let mut config = Config::default();
    config.lobby = None;
    config.clock = Clock::new(|| SystemTime::UNIX_EPOCH);
    let next = std::sync::atomic::AtomicU8::new(0);
    config.random = Random::new(move |bytes| {
        bytes.fill_with(|| next.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    });
    Hub::new(config)
}

/// A room with one member.
fn room() -> (Hub, String, Seat) {
    let hub = hub();
    let code = hub.create().unwrap().to_string();
    let first = hub.join(&code, "ann").unwrap();
    (hub, code, first)
}

fn resume(hub: &Hub, code: &str, token: &str) -> Result<Entered, Refusal> {
    block_on(hub.resume(code, token, 0, Visit::exempt()))
}

fn arm(seat: &mut Seat) -> String {
    seat.hold(HOLD).unwrap().0.to_string()
}

fn break_off(seat: Seat) {
    drop(seat.ends(Ended::Left(LeftReason::Lost)));
}

/// What a member has not read yet.
fn unread(seat: &mut Seat) -> Vec<String> {
    let mut lines = Vec::new();
    seat.follow(u64::MAX, |followed| lines.extend(line_of(&followed))).unwrap();
    lines
}

fn line_of(followed: &Followed<'_>) -> Option<String> {
    match followed {
        Followed::Entry(line, _) | Followed::Line(line) => Some(line.as_str().to_owned()),
        Followed::Own(_) | Followed::Gap(_) | Followed::Unkept => None,
    }
}

#[test]
fn a_join_against_the_last_leave_enters_an_open_room_or_finds_none() {
    try_schedules(|| {
        let (hub, code, ann) = room();
        let leaving = thread::spawn(move || break_off(ann));
        let joining = ["kim", "lee"].map(|name| {
            let (hub, code) = (hub.clone(), code.clone());
            thread::spawn(move || hub.join(&code, name))
        });
        let joined = joining.map(|joining| joining.join().unwrap());
        leaving.join().unwrap();
        for entered in &joined {
            match entered {
                Ok(seat) => assert!(block_on(seat.say("hello")).is_ok()),
                Err(refusal) => assert_eq!(*refusal, Refusal::NoSuchRoom),
            }
        }
        let members = joined.iter().flatten().count();
        assert_eq!(hub.rooms_now(), usize::from(members > 0));
        for seat in joined.iter().flatten() {
            assert_eq!(seat.who().unwrap().0.len(), members);
        }
        drop(joined);
        assert_eq!(hub.rooms_now(), 0);
    });
}

#[test]
fn a_name_is_taken_once() {
    try_schedules(|| {
        let (hub, code, ann) = room();
        let joining = ["kim", "Kim"].map(|name| {
            let (hub, code) = (hub.clone(), code.clone());
            thread::spawn(move || hub.join(&code, name))
        });
        let [one, other] = joining.map(|joining| joining.join().unwrap());
        assert!(one.is_ok() != other.is_ok());
        assert_eq!(one.or(other).unwrap().who().unwrap().0.len(), 2);
        drop(ann);
    });
}

#[test]
fn of_a_resume_and_the_expiry_one_happens() {
    try_schedules(|| {
        let (hub, code, mut ann) = room();
        let mut bob = hub.join(&code, "bob").unwrap();
        let token = arm(&mut bob);
        break_off(bob);
        let after = Instant::now() + Duration::from_secs(HOLD + 1);
        let expiring = thread::spawn({
            let hub = hub.clone();
            move || hub.expire(after)
        });
        let resumed = resume(&hub, &code, &token);
        expiring.join().unwrap();
        let left = unread(&mut ann).contains(&"LEFT bob lost".to_owned());
        let members = ann.who().unwrap().0.len();
        match resumed {
            Ok(entered) => {
                assert_eq!((left, members, entered.seat.gone()), (false, 2, None));
                // What it was called off for does not happen later.
                hub.expire(after + Duration::from_secs(HOLD));
                assert_eq!(entered.seat.gone(), None);
            }
            Err(refusal) => assert_eq!((refusal, left, members), (Refusal::BadToken, true, 1)),
        }
    });
}

#[test]
fn the_last_seat_is_resumed_or_its_room_is_gone() {
    try_schedules(|| {
        let (hub, code, mut ann) = room();
        let token = arm(&mut ann);
        break_off(ann);
        let after = Instant::now() + Duration::from_secs(HOLD + 1);
        let expiring = thread::spawn({
            let hub = hub.clone();
            move || hub.expire(after)
        });
        let joining = thread::spawn({
            let (hub, code) = (hub.clone(), code.clone());
            move || hub.join(&code, "kim")
        });
        let resumed = resume(&hub, &code, &token);
        expiring.join().unwrap();
        let joined = joining.join().unwrap();
        if let Err(refusal) = &resumed {
            assert!(matches!(refusal, Refusal::BadToken | Refusal::NoSuchRoom), "{refusal:?}");
        }
        let is_there = resumed.is_ok() || joined.is_ok();
        assert_eq!(hub.rooms_now(), usize::from(is_there));
        drop(resumed.map(|entered| entered.seat.ends(Ended::Left(LeftReason::Quit))));
        drop(joined);
        assert_eq!(hub.rooms_now(), 0);
    });
}

#[test]
fn of_two_resumes_one_has_the_seat_and_the_other_is_told() {
    try_schedules(|| {
        let (hub, code, mut ann) = room();
        let token = arm(&mut ann);
        let other = thread::spawn({
            let (hub, code, token) = (hub.clone(), code.clone(), token.clone());
            move || resume(&hub, &code, &token).unwrap().seat
        });
        let seats = [ann, resume(&hub, &code, &token).unwrap().seat, other.join().unwrap()];
        let replaced = Some(Refusal::Gone(Bye::new(ByeReason::Replaced)));
        let [old, one, another] = seats.each_ref().map(Seat::gone);
        assert_eq!(old, replaced);
        assert!([(&None, &replaced), (&replaced, &None)].contains(&(&one, &another)));
    });
}

#[test]
fn what_the_replay_does_not_show_never_runs() {
    try_schedules(|| {
        let (hub, code, mut ann) = room();
        let token = arm(&mut ann);
        let speaking = thread::spawn(move || {
            let texts = ["one", "two"].map(|text| Text::new(text).unwrap());
            (block_on(ann.publish(&texts)).is_ok(), ann)
        });
        let Entered { seat, lines, said, .. } = resume(&hub, &code, &token).unwrap();
        let (is_said, _ann) = speaking.join().unwrap();
        let all = if is_said { 2 } else { 0 };
        assert_eq!((lines.len(), said), (all, all as u64));
        assert_eq!(block_on(seat.say("three")).unwrap().id, said + 1);
    });
}

#[test]
fn a_follower_is_woken_for_every_message() {
    try_schedules(|| {
        let (hub, code, ann) = room();
        let bob = hub.join(&code, "bob").unwrap();
        let mut kim = hub.join(&code, "kim").unwrap();
        let speaking = [ann, bob].map(|seat| {
            thread::spawn(move || {
                block_on(seat.say("one")).unwrap();
                block_on(seat.say("two")).unwrap();
                seat
            })
        });
        let following = thread::spawn(move || {
            for next in 1..=4 {
                match block_on(kim.next()) {
                    Some(Event::Msg { id, .. }) => assert_eq!(id, next),
                    other => panic!("{other:?}"),
                }
            }
            kim
        });
        let _kim = following.join().unwrap();
        let _speakers = speaking.map(|speaking| speaking.join().unwrap());
    });
}

/// A connection that takes as many bytes as it likes.
#[derive(Default)]
struct Pipe {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
    writers: AtomicU8,
}

impl Pipe {
    fn write(&self, bytes: &[u8], most: usize) -> usize {
        assert_eq!(self.writers.fetch_add(1, Ordering::SeqCst), 0, "two writers at once");
        self.bytes.lock().unwrap().extend_from_slice(&bytes[..most]);
        self.writers.fetch_sub(1, Ordering::SeqCst);
        self.more.notify_all();
        most
    }

    fn wait_for_lines(&self, count: usize) {
        let mut bytes = self.bytes.lock().unwrap();
        while bytes.iter().filter(|byte| **byte == b'\n').count() < count {
            bytes = self.more.wait(bytes).unwrap();
        }
    }
}

impl Sink for Arc<Pipe> {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match thread_rng().gen_range(0..=bytes.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            // More often than not a line fits.
            most => Ok(self.write(bytes, if most % 2 == 0 { most } else { bytes.len() })),
        }
    }
}

/// The part of a session that follows the room: it writes while it is awake, and lends its outlet
/// to the room while it sleeps.
struct Follower {
    seat: Seat,
    pipe: Arc<Pipe>,
    outlet: Arc<Outlet>,
    is_over: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Follower {
    fn new(seat: Seat) -> Follower {
        let pipe = Arc::new(Pipe::default());
        let outlet: Arc<Outlet> = Outlet::new(pipe.clone());
        Follower { seat, pipe, outlet, is_over: Arc::default(), waker: Arc::default() }
    }

    fn run(mut self) -> Seat {
        block_on(poll_fn(|cx| {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            loop {
                if let Some(report) = self.outlet.take_back() {
                    self.seat.go_to(report.next);
                    self.pipe.write(&report.half, report.half.len());
                }
                if self.is_over.load(Ordering::SeqCst) {
                    return Poll::Ready(());
                }
                let mut bytes = Vec::new();
                let outlet = Some((&self.outlet, Framing::Lines(LineEnding::Lf)));
                let followed = self.seat.poll_follow(cx, outlet, |followed| {
                    bytes.extend(line_of(&followed).unwrap().into_bytes());
                    bytes.push(b'\n');
                });
                match followed {
                    Poll::Ready(followed) => followed.unwrap(),
                    Poll::Pending => return Poll::Pending,
                }
                self.pipe.write(&bytes, bytes.len());
            }
        }));
        self.seat
    }
}

/// Two speakers, and followers who lend their outlets.
fn speak_to(names: &[&str], tells: bool) {
    let (hub, code, ann) = room();
    let bob = hub.join(&code, "bob").unwrap();
    let mut seats: Vec<_> = names.iter().map(|name| hub.join(&code, name).unwrap()).collect();
    seats.iter_mut().for_each(|seat| drop(unread(seat)));
    let followers: Vec<_> = seats.into_iter().map(Follower::new).collect();
    let ends: Vec<_> = followers
        .iter()
        .map(|own| (own.pipe.clone(), own.is_over.clone(), own.waker.clone()))
        .collect();
    let following: Vec<_> =
        followers.into_iter().map(|own| thread::spawn(move || own.run())).collect();
    let speaking = [(ann, tells), (bob, false)].map(|(seat, tells)| {
        thread::spawn(move || {
            block_on(seat.say("one")).unwrap();
            if tells {
                block_on(seat.tell("kim", "for you alone")).unwrap();
            }
            block_on(seat.say("two")).unwrap();
            seat
        })
    });
    let speaking = speaking.map(|speaking| speaking.join().unwrap());
    for (number, (pipe, is_over, waker)) in ends.iter().enumerate() {
        let told = usize::from(tells && number == 0);
        pipe.wait_for_lines(4 + told);
        is_over.store(true, Ordering::SeqCst);
        waker.lock().unwrap().take().into_iter().for_each(Waker::wake);
    }
    let _seats: Vec<_> = following.into_iter().map(|follower| follower.join().unwrap()).collect();
    for (number, (pipe, ..)) in ends.iter().enumerate() {
        must_have_all(&pipe.bytes.lock().unwrap(), usize::from(tells && number == 0));
    }
    drop(speaking);
}

/// Four messages in their order, whole, and so many `TELL`s anywhere between them.
fn must_have_all(bytes: &[u8], tells: usize) {
    let text = std::str::from_utf8(bytes).unwrap();
    let (told, said): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("TELL "));
    let ids: Vec<_> = said.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(ids, ["1", "2", "3", "4"], "{text}");
    assert!(said.iter().all(|line| line.ends_with(" one") || line.ends_with(" two")), "{text}");
    assert_eq!(told.len(), tells, "{text}");
}

#[test]
fn a_lent_outlet_gets_every_line_once_from_one_writer_at_a_time() {
    try_schedules(|| speak_to(&["kim"], false));
}

#[test]
fn two_lent_outlets_get_what_two_speakers_say() {
    try_schedules(|| speak_to(&["kim", "lee"], false));
}

#[test]
fn a_private_line_finds_its_place_in_a_lent_outlet() {
    try_schedules(|| speak_to(&["kim"], true));
}
