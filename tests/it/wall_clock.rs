//! A wall clock that jumps by years below the real program, by libfaketime. What measures time goes on.
//!
//! Without libfaketime the program is on this machine's clock, and the test fails; `scripts/test`
//! installs it.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::binary::{Daemon, parlor};
use crate::support::{Client, message};

/// How long a broken seat is held here.
const HOLD: Duration = Duration::from_secs(2);

/// The wall clock of a program, which a file moves; what measures time goes on as it is.
struct WallClock {
    folder: TempDir,
    file: PathBuf,
}

impl WallClock {
    /// A clock that is so much before the real one, or behind: `+3y` is three years of 365 days.
    fn set_to(offset: &str) -> WallClock {
        let folder = TempDir::new().expect("a temporary folder");
        let clock = WallClock { file: folder.path().join("offset"), folder };
        clock.jump_to(offset);
        clock
    }

    /// From now on the time is another.
    fn jump_to(&self, offset: &str) {
        // Never half a file.
        let new = self.folder.path().join("new");
        fs::write(&new, offset).and_then(|()| fs::rename(&new, &self.file)).expect("a file");
    }

    /// The real program on this clock, with a store beside it.
    async fn daemon(&self) -> Daemon {
        let store = format!("sqlite:{}", self.folder.path().join("rooms.db").display());
        let mut command = parlor(&["--listen", "127.0.0.1:0", "--store", &store]);
        command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1");
        command.env("FAKETIME_TIMESTAMP_FILE", &self.file);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Daemon::spawn(command).await
    }
}

async fn connect(address: SocketAddr) -> Client {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    Client::over(stream).greeted().await
}

/// Says something; returns its id and its time.
async fn said(client: &mut Client, text: &str) -> (u64, String) {
    client.send(&format!("MSG {text}")).await;
    let reply = client.expect("OK MSG ").await;
    let (id, time) = reply.split_once(' ').expect("an id and a time");
    (id.parse().expect("a number"), time.to_owned())
}

/// The time that is so many days of 24 hours after now, to the minute.
fn in_days(days: i64) -> String {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let then = match u32::try_from(days) {
        Ok(days) => SystemTime::now() + DAY * days,
        Err(_) => SystemTime::now() - DAY * days.unsigned_abs() as u32,
    };
    humantime::format_rfc3339_millis(then).to_string()
}

/// A time that the clock shows, give or take a minute: real time goes on.
#[track_caller]
fn assert_about(time: &str, days: i64) {
    let parse = |time: &str| humantime::parse_rfc3339(time).expect("a time");
    let (got, wanted) = (parse(time), parse(&in_days(days)));
    let apart = got.duration_since(wanted).unwrap_or_else(|before| before.duration());
    assert!(apart < Duration::from_secs(60), "{time}, {days} days from now; is faketime there?");
}

/// Lets somebody come, arm his seat, and break off; then the clock jumps. The seat ends in its time.
async fn hold_over_a_jump(clock: &WallClock, daemon: &Daemon, watcher: &mut Client, offset: &str) {
    let mut bob = connect(daemon.addr()).await.join("LOBBY", "bob").await;
    watcher.expect("JOINED bob").await;
    bob.hold(HOLD.as_secs()).await;
    let broken = Instant::now();
    drop(bob);
    while !watcher.ask("WHO").await.contains(&"USER bob held".to_owned()) {
        assert!(broken.elapsed() < HOLD, "a seat that was not seen to be held");
    }
    clock.jump_to(offset);
    watcher.expect("LEFT bob lost").await;
    let held = broken.elapsed();
    assert!(held >= HOLD, "{offset}: {held:?}");
    assert!(held < 5 * HOLD, "{offset}: {held:?}");
}

// clause: ROOM-9, HOLD-4, STORE-3
#[tokio::test]
async fn when_the_wall_clock_jumps_by_years_no_time_goes_back_and_seats_end_when_they_should() {
    const YEAR: i64 = 365;
    let clock = WallClock::set_to("+3y");
    let daemon = clock.daemon().await;
    let mut ann = connect(daemon.addr()).await.join("LOBBY", "ann").await;
    let ann_token = ann.hold(60).await;
    let mut cat = connect(daemon.addr()).await.join("LOBBY", "cat").await;
    cat.hold(60).await;
    ann.expect("JOINED cat").await;
    let mut shown = vec![said(&mut ann, "at first").await];
    assert_about(&shown[0].1, 3 * YEAR);
    for offset in ["-5y", "+8y", "+0"] {
        hold_over_a_jump(&clock, &daemon, &mut ann, offset).await;
        shown.push(said(&mut ann, offset).await);
    }
    // Back it is the time that was shown last, and forward the new one.
    assert_eq!(shown[1].1, shown[0].1);
    assert_about(&shown[2].1, 8 * YEAR);
    assert_eq!(shown[3].1, shown[2].1);

    clock.jump_to("-5y");
    daemon.signal("KILL");
    daemon.wait().await;
    let daemon = clock.daemon().await;
    let mut ann = connect(daemon.addr()).await;
    let replay = ann.ask(&format!("RESUME LOBBY {ann_token} 0")).await;
    let texts: Vec<_> = replay[..4].iter().map(|line| message(line)).collect();
    assert_eq!(texts, [(1, "at first"), (2, "-5y"), (3, "+8y"), (4, "+0")]);
    shown.push(said(&mut ann, "again").await);
    assert_eq!(shown[4].1, shown[2].1);
    hold_over_a_jump(&clock, &daemon, &mut ann, "+20y").await;
    shown.push(said(&mut ann, "at last").await);
    assert_about(&shown[5].1, 20 * YEAR);
    // She is held for 10 minutes from the restart on, not for years.
    let users = ann.ask("WHO").await;
    assert_eq!(users, ["USER ann here", "USER cat held", "OK WHO 2"]);
    let history = ann.ask("HISTORY").await;
    let told: Vec<_> = history[..6].iter().map(|line| line.split(' ').nth(2)).collect();
    let times: Vec<_> = shown.iter().map(|(_, time)| Some(time.as_str())).collect();
    assert_eq!(told, times);
    let ids: Vec<_> = shown.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
}
