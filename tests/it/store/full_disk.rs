//! No room on the disk: what is refused, and that it works again by itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::{Place, connect, kill};
use crate::binary::{Daemon, Plain, parlor, run_by, soon};
use crate::support::{Client, first_field, message, number};

/// The real program, which ignores the signal that tells that a file may not grow.
fn growing(place: &Place) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    run_by(shell, &place.command())
}

/// Lets the files of a running daemon grow, or not.
fn may_grow(daemon: &Daemon, may: bool) {
    let process = Pid::from_raw(daemon.process() as i32);
    let limit = Rlimit { current: (!may).then_some(1), maximum: None };
    prlimit(process, Resource::Fsize, limit).expect("a limit");
}

// clause: STORE-2
#[tokio::test]
async fn a_file_that_may_not_grow_refuses_messages_and_shows_them_to_nobody_until_it_may() {
    let place = Place::new();
    place.server().stop().await;
    let daemon = Daemon::spawn(growing(&place)).await;
    let mut ann = connect(&daemon).await.join("LOBBY", "ann").await;
    let token = ann.hold(60).await;
    let mut ben = connect(&daemon).await.join("LOBBY", "ben").await;
    ann.expect("JOINED ben").await;
    assert!(ann.ask("MSG before").await[0].starts_with("OK MSG 1 "));
    ben.expect("MSG 1 ").await;
    may_grow(&daemon, false);
    for _ in 0..3 {
        for command in ["MSG lost", "HOLD 50", "NICK Annie", "CREATE"] {
            let replies = ann.ask(command).await;
            let wanted = format!("ERR {} storage ", first_field(command));
            assert!(replies[0].starts_with(&wanted), "{command}: {replies:?}");
        }
    }
    let mut http = Plain::reach(daemon.web_addr()).await;
    http.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(http.rest().await.contains("{limit=\"storage\"} 12\n"));
    assert_eq!(ben.fence().await, [] as [&str; 0]);
    assert_eq!(ben.ask("HISTORY").await.len(), 2);
    may_grow(&daemon, true);
    let again = Instant::now();
    let said = loop {
        let reply = ann.ask("MSG after").await.remove(0);
        if reply.starts_with("OK MSG ") {
            break reply;
        }
        assert!(again.elapsed() < Duration::from_secs(1), "{reply}");
    };
    assert_eq!(number(&said, 2), 2);
    assert!(ben.line().await.ends_with(" ann after"));
    kill(daemon).await;
    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await;
    let resumed = ann.ask(&format!("RESUME LOBBY {token} 0")).await;
    assert_eq!((message(&resumed[0]).1, message(&resumed[1]).1), ("before", "after"));
    assert_eq!(resumed[2], "OK RESUME LOBBY ann 2 1 2 2");
}

/// A room of its own with a host, and a member with a seat that is held; the code and his token.
async fn hosted(daemon: &Daemon, host: &str, guest: &str) -> (Client, Client, String, String) {
    let mut host_client = connect(daemon).await;
    let made = host_client.ask(&format!("CREATE {host}")).await.remove(0);
    let code = made.split(' ').nth(2).expect("a code").to_owned();
    host_client.hold(60).await;
    let mut guest_client = connect(daemon).await.join(&code, guest).await;
    host_client.expect(&format!("JOINED {guest}")).await;
    let token = guest_client.hold(60).await;
    (host_client, guest_client, code, token)
}

// clause: STORE-2, HOST-6, HOST-9
#[tokio::test]
async fn who_is_put_out_while_the_disk_is_full_is_out_and_it_is_stored_however_much_others_say() {
    let place = Place::new();
    let daemon = Daemon::spawn(growing(&place)).await;
    let (mut ann, mut ben, code, token) = hosted(&daemon, "ann", "ben").await;
    let (mut sam, mut kim, closed, _) = hosted(&daemon, "sam", "kim").await;
    let mut talker = connect(&daemon).await.join("LOBBY", "talker").await;
    may_grow(&daemon, false);
    for command in ["LOCK", "MUTE ben"] {
        for _ in 0..2 {
            let reply = ann.ask(command).await.remove(0);
            let wanted = format!("ERR {} storage ", first_field(command));
            assert!(reply.starts_with(&wanted), "{reply}");
        }
    }
    assert_eq!(ben.fence().await, [] as [&str; 0]);
    assert!(ann.ask("KICK ben").await[0].starts_with("ERR KICK storage Done, "));
    ben.expect("BYE kicked ").await;
    assert!(ann.ask("KICK ben").await[0].starts_with("ERR KICK no-such-user "));
    sam.send("CLOSE").await;
    sam.expect("ERR CLOSE storage Done, ").await;
    sam.expect("BYE closed ").await;
    kim.expect("BYE closed ").await;
    may_grow(&daemon, true);
    // Others leave the store no pause.
    let others = async {
        loop {
            talker.ask("MSG And another one.").await;
        }
    };
    tokio::select! {
        _ = daemon.stderr_shows("the store can be written again") => {}
        () = others => {}
    }
    kill(daemon).await;
    assert_out(&place, &code, &token, &closed).await;
}

// clause: STORE-2
#[tokio::test]
async fn who_was_put_out_last_is_out_after_a_stop_if_the_disk_has_room_then() {
    let place = Place::new();
    let daemon = Daemon::spawn(growing(&place)).await;
    let (mut ann, mut ben, code, token) = hosted(&daemon, "ann", "ben").await;
    let (mut sam, mut kim, closed, _) = hosted(&daemon, "sam", "kim").await;
    may_grow(&daemon, false);
    assert!(ann.ask("KICK ben").await[0].starts_with("ERR KICK storage Done, "));
    ben.expect("BYE kicked ").await;
    sam.send("CLOSE").await;
    sam.expect("ERR CLOSE storage Done, ").await;
    for client in [&mut ben, &mut sam, &mut kim] {
        client.rest().await;
    }
    drop((ben, sam, kim));
    daemon.terminate();
    ann.expect("NOTICE shutdown ").await;
    may_grow(&daemon, true);
    drop(ann);
    let (status, stderr) = daemon.wait().await;
    assert!(status.success() && !stderr.contains("is not stored"), "{stderr}");
    assert_out(&place, &code, &token, &closed).await;
}

/// After a restart one room is as it was but for ben, and one is closed.
async fn assert_out(place: &Place, code: &str, token: &str, closed: &str) {
    let daemon = place.daemon().await;
    let mut ben = connect(&daemon).await;
    let reply = ben.ask(&format!("RESUME {code} {token} 0")).await.remove(0);
    assert!(reply.starts_with("ERR RESUME bad-token "), "{reply}");
    let reply = ben.ask(&format!("JOIN {closed} ben")).await.remove(0);
    assert!(reply.starts_with("ERR JOIN no-such-room "), "{reply}");
    assert!(ben.ask(&format!("JOIN {code} ben")).await.last().unwrap().starts_with("OK JOIN "));
}

/// A small disk in memory, in a name space of its own: it goes when the program does that holds it.
struct Disk {
    holder: Child,
}

impl Disk {
    /// `None` where this user may not mount one: then the limit of a file is all that is tried.
    async fn of(mebibytes: u32) -> Option<Disk> {
        let mount = format!("mount -t tmpfs -o size={mebibytes}m parlor /mnt && echo && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &mount]).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().expect("unshare starts");
        let mut shown = [0];
        let stdout = holder.stdout.as_mut().expect("a pipe");
        let mounted = soon("a disk", stdout.read_exact(&mut shown)).await.is_ok();
        if !mounted {
            println!("This user may not mount a disk: not tried.");
        }
        mounted.then_some(Disk { holder })
    }

    fn process(&self) -> u32 {
        self.holder.id().expect("it runs")
    }

    fn file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/root/mnt/{name}", self.process()).into()
    }

    fn bytes(&self, name: &str) -> u64 {
        fs::metadata(self.file(name)).expect("a file").len()
    }

    /// The real program with its store there.
    fn command(&self) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args([&format!("--mount=/proc/{}/ns/mnt", self.process()), "--"]);
        run_by(nsenter, &parlor(&["--listen", "127.0.0.1:0", "--store", "sqlite:/mnt/rooms.db"]))
    }

    async fn daemon(&self) -> Daemon {
        Daemon::spawn(self.command()).await
    }

    /// Takes up to so many bytes of it.
    fn fill(&self, bytes: usize) {
        let block = vec![1; bytes];
        // What fits is written.
        fs::write(self.file("filler"), block).ok();
    }

    fn free(&self) {
        fs::remove_file(self.file("filler")).expect("removed");
    }
}

/// Who talks until the disk is full, and who listens.
struct Talk {
    ann: Client,
    ben: Client,
    token: String,
    /// What was acknowledged.
    kept: BTreeMap<u64, String>,
    count: u64,
}

/// Lines that are sent at once.
const RUN: usize = 20;

impl Talk {
    async fn begin(daemon: &Daemon) -> Talk {
        let mut ann = connect(daemon).await.join("LOBBY", "ann").await;
        let token = ann.hold(600).await;
        let ben = connect(daemon).await.join("LOBBY", "ben").await;
        ann.expect("JOINED ben").await;
        Talk { ann, ben, token, kept: BTreeMap::new(), count: 0 }
    }

    /// Comes back to a daemon that has all that was acknowledged, and nothing else.
    async fn resume(&mut self, daemon: &Daemon) {
        self.ann = connect(daemon).await;
        let lines = self.ann.ask(&format!("RESUME LOBBY {} 0", self.token)).await;
        let (reply, lines) = lines.split_last().expect("a reply");
        let newest = *self.kept.last_key_value().expect("messages").0;
        assert_eq!(number(reply, 4), newest, "{reply}");
        assert_eq!(number(reply, 7), newest, "{reply}");
        let messages =
            lines.iter().filter(|line| line.starts_with("MSG ")).map(|line| message(line));
        let got: Vec<_> = messages.map(|(id, text)| (id, text.to_owned())).collect();
        assert!(got.len() > 100, "{}", got.len());
        let wanted = self.kept.iter().skip(self.kept.len() - got.len());
        assert!(got.iter().map(|(id, text)| (id, text)).eq(wanted));
        self.ben = connect(daemon).await.join("LOBBY", "ben").await;
        self.ann.expect("JOINED ben").await;
    }

    /// Says some texts; how many were refused. Ben has seen the others, and nothing else.
    async fn say(&mut self) -> usize {
        let first = self.count;
        let text = |n: u64| format!("{n} {}", "much ".repeat(300));
        let lines: String =
            (first..first + RUN as u64).map(|n| format!("MSG {}\n", text(n))).collect();
        self.count += RUN as u64;
        self.ann.writer.bytes(lines.as_bytes()).await;
        let (mut refused, mut wanted) = (0, Vec::new());
        for n in first..first + RUN as u64 {
            let reply = self.ann.reply().await.pop().expect("a reply");
            if reply.starts_with("ERR MSG storage ") {
                refused += 1;
                continue;
            }
            assert!(reply.starts_with("OK MSG "), "{reply}");
            let id = number(&reply, 2);
            assert!(self.kept.insert(id, text(n)).is_none(), "{id} was given twice");
            wanted.push((id, text(n)));
        }
        let lines = self.ben.fence().await;
        assert!(
            lines
                .iter()
                .map(|line| message(line))
                .eq(wanted.iter().map(|(id, text)| (*id, &text[..])))
        );
        refused
    }

    /// Says things until nothing is kept any more.
    async fn fill(&mut self) {
        while self.say().await < RUN {
            assert!(self.count < 20_000, "this disk is never full");
        }
    }

    /// It works again, by itself and soon.
    async fn works_again(&mut self) {
        let again = Instant::now();
        while self.say().await > 0 {
            assert!(again.elapsed() < Duration::from_secs(1));
        }
    }
}

// clause: STORE-2
#[tokio::test]
async fn on_a_full_disk_what_was_acknowledged_stays_and_it_works_again_when_there_is_room() {
    let Some(disk) = Disk::of(4).await else { return };
    disk.fill(2 << 20);
    let daemon = disk.daemon().await;
    let mut talk = Talk::begin(&daemon).await;
    talk.fill().await;
    disk.free();
    talk.works_again().await;
    // Killed while it is full, and started so.
    disk.fill(4 << 20);
    talk.fill().await;
    kill(daemon).await;
    let daemon = disk.daemon().await;
    talk.resume(&daemon).await;
    assert_eq!(talk.say().await, RUN);
    disk.free();
    talk.works_again().await;
    // Stopped while it is full.
    disk.fill(4 << 20);
    talk.fill().await;
    daemon.terminate();
    let (status, stderr) = daemon.wait().await;
    assert!(status.success(), "{stderr}");
    let daemon = disk.daemon().await;
    talk.resume(&daemon).await;
    disk.free();
    talk.works_again().await;
}

/// Bytes of the frames that SQLite puts into the file at once, when it can.
const CHECKPOINT: u64 = 1000 * (24 + 4096);

// clause: STORE-2
#[tokio::test]
async fn a_log_that_does_not_fit_into_the_file_waits_for_room() {
    let Some(disk) = Disk::of(8).await else { return };
    let daemon = disk.daemon().await;
    let mut talk = Talk::begin(&daemon).await;
    // Room for the log to be put into the file, but not for what the file needs then.
    disk.fill((8 << 20) - CHECKPOINT as usize - (600 << 10));
    talk.fill().await;
    let (file, log) = (disk.bytes("rooms.db"), disk.bytes("rooms.db-wal"));
    assert!(log > CHECKPOINT && file < 1 << 20, "a file of {file}, a log of {log} bytes");
    kill(daemon).await;
    let daemon = disk.daemon().await;
    talk.resume(&daemon).await;
    assert_eq!(talk.say().await, RUN);
    disk.free();
    talk.works_again().await;
    assert!(disk.bytes("rooms.db") > 1 << 20, "the log was put into the file");
    kill(daemon).await;
    talk.resume(&disk.daemon().await).await;
}

#[tokio::test]
async fn a_new_store_on_a_full_disk_is_a_clear_line() {
    let Some(disk) = Disk::of(1).await else { return };
    disk.fill(2 << 20);
    let output = crate::binary::output(disk.command()).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("cannot open the store /mnt/rooms.db: "), "{text}");
    assert!(text.contains("full"), "{text}");
    let files = fs::read_dir(disk.file("")).expect("a folder").count();
    assert_eq!(files, 1, "nothing is left but the filler");
    disk.free();
    kill(disk.daemon().await).await;
}
