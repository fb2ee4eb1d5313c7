//! The log that a kill leaves beside a store: flips, cuts, and files that are missing. None of it
//! is served silently.

use std::fs;
use std::path::PathBuf;

use parlor::Server;

use super::damage::{served, try_damaged};
use super::{Place, connect, kill, times};
use crate::client::{Random, TestServer};

const ENDINGS: [&str; 3] = ["", "-wal", "-mark"];

/// What a kill has left, and what is served from it.
struct Killed {
    place: Place,
    files: Vec<Vec<u8>>,
    /// What is asked, then what is answered.
    wanted: Vec<String>,
    /// What would be served without the last commit.
    before: Vec<String>,
}

impl Killed {
    /// A store that was killed after so many messages, one a commit, and a last one. In a room of
    /// its own stands what the first commits have put into the file.
    async fn after(messages: usize) -> Killed {
        let place = Place::new();
        let daemon = place.daemon().await;
        let mut ann = connect(&daemon).await.join("LOBBY", "ann").await;
        ann.hold(600).await;
        let mut ben = connect(&daemon).await;
        let code = ben.create("ben").await;
        let mut cat = connect(&daemon).await.join(&code, "cat").await;
        let mut wanted = Vec::new();
        for client in [&mut ben, &mut cat] {
            client.send("HOLD 600").await;
            let held = client.reply().await.pop().expect("a reply");
            let token = held.split(' ').nth(2).expect("a token");
            wanted.push(format!("RESUME {code} {token} 0"));
            client.ask("MSG in another room").await;
        }
        for n in 0..messages {
            ann.ask(&format!("MSG {n}")).await;
        }
        // Nothing is written now.
        let files = place.read(ENDINGS);
        let said = ann.ask("MSG the last word").await;
        assert!(said[0].starts_with("OK MSG "), "{said:?}");
        kill(daemon).await;
        let mut killed = Killed { files, wanted, before: Vec::new(), place };
        killed.before = killed.serve().await;
        killed.files = killed.place.read(ENDINGS);
        let served = killed.serve().await;
        assert!(served.len() == killed.before.len() + 1 && served != killed.before);
        killed.wanted.extend(served);
        killed
    }

    async fn serve(&mut self) -> Vec<String> {
        let after = self.place.read(ENDINGS);
        self.restore();
        let server = self.place.server();
        let served = served(&server, &self.wanted[..2]).await;
        server.stop().await;
        self.place.write(ENDINGS, &after);
        served
    }

    fn restore(&self) {
        self.place.write(ENDINGS, &self.files);
    }

    fn part(&self, ending: &str) -> PathBuf {
        self.place.beside(ending)
    }

    /// Changes the log and starts a server: it refuses, or serves all.
    async fn is_refused(&self, log: &[u8], what: &str) -> bool {
        self.restore();
        fs::write(self.part("-wal"), log).expect("written");
        try_damaged(&self.place, &self.wanted, what).await
    }
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

/// Bytes of SQLite's frames: a head and a page.
const FRAME: usize = 24 + 4096;

/// Flips and cuts anywhere and, as often, in the last commit: in the last frames before the end.
async fn try_log(killed: &Killed, end: usize, random: &mut Random, flips: usize, cuts: usize) {
    let log = &killed.files[1];
    let last = (end - 3 * FRAME) as u64 * 8;
    let bits = end as u64 * 8;
    for n in 0..flips {
        let bit = if n % 2 == 0 { random.below(bits) } else { last + random.below(bits - last) };
        let flipped = flip(log, bit as usize);
        assert!(killed.is_refused(&flipped, "flip").await, "bit {bit} of {end} bytes");
    }
    for n in 0..cuts {
        let length = if n % 2 == 0 {
            random.below(end as u64)
        } else {
            last / 8 + random.below((bits - last) / 8)
        };
        let cut = &log[..length as usize];
        assert!(killed.is_refused(cut, "cut").await, "{length} of {end} bytes");
    }
}

// clause: STORE-1
#[tokio::test]
async fn nothing_acknowledged_is_lost_silently_from_a_log_that_is_flipped_or_cut() {
    let mut random = Random(17);
    let (flips, cuts) = (times("PARLOR_FLIPS", 200), times("PARLOR_TRUNCATIONS", 50));
    let killed = Killed::after(40).await;
    let end = killed.files[1].len();
    try_log(&killed, end, &mut random, flips / 2, cuts / 2).await;
    // SQLite has begun this log anew: behind its end stand frames of the one before.
    let killed = Killed::after(400).await;
    let end = end_of_log(&killed.files[1]);
    assert!(end + 10 * FRAME < killed.files[1].len(), "the log was not begun anew");
    try_log(&killed, end, &mut random, flips / 2, cuts / 2).await;
    // Those are of no use any more.
    let flipped = flip(&killed.files[1], (end + 5 * FRAME) * 8);
    assert!(!killed.is_refused(&flipped, "an old frame").await);
}

/// Where the frames end that have the salts of the log's head.
fn end_of_log(log: &[u8]) -> usize {
    let frames = log[32..].chunks_exact(FRAME);
    32 + FRAME * frames.take_while(|frame| frame[8..16] == log[16..24]).count()
}

#[tokio::test]
async fn a_damaged_mark_does_no_harm() {
    let killed = Killed::after(10).await;
    let mark = &killed.files[2];
    let mut random = Random(19);
    for _ in 0..10 {
        let bit = random.below(mark.len() as u64 * 8) as usize;
        killed.restore();
        fs::write(killed.part("-mark"), flip(mark, bit)).expect("written");
        let is_refused = try_damaged(&killed.place, &killed.wanted, "flipped mark").await;
        assert!(!is_refused, "bit {bit}");
    }
}

#[tokio::test]
async fn without_its_mark_a_damaged_log_loses_its_last_commit_at_most_and_tells() {
    let killed = Killed::after(40).await;
    let log = &killed.files[1];
    let mut random = Random(23);
    let last = (log.len() - 2 * FRAME) * 8;
    for n in 0..20 {
        killed.restore();
        fs::remove_file(killed.part("-mark")).expect("removed");
        let range = if n % 2 == 0 { 0 } else { last };
        let bit = range + random.below((log.len() * 8 - range) as u64) as usize;
        fs::write(killed.part("-wal"), flip(log, bit)).expect("written");
        let Ok(server) = Server::bind(killed.place.config()) else { continue };
        let server = TestServer::of(server);
        let got = served(&server, &killed.wanted[..2]).await;
        server.stop().await;
        assert_eq!(got, killed.before, "bit {bit}");
    }
    killed.restore();
    fs::remove_file(killed.part("-mark")).expect("removed");
    fs::write(killed.part("-wal"), flip(log, log.len() * 8 - 9)).expect("written");
    let daemon = killed.place.daemon().await;
    let told = "it isn't known whether anybody had been told of it: the latest messages may be";
    daemon.stderr_shows(told).await;
}

#[tokio::test]
async fn a_store_and_its_log_are_not_taken_without_each_other() {
    let killed = Killed::after(10).await;
    fs::remove_file(killed.part("-wal")).expect("removed");
    let why = killed.place.refused();
    assert!(why.contains("its log (-wal) is missing"), "{why}");
    // As it says, where another program has put the log into the file.
    fs::remove_file(killed.part("-mark")).expect("removed");
    killed.place.server().stop().await;

    killed.restore();
    fs::remove_file(killed.part("")).expect("removed");
    let why = killed.place.refused();
    assert!(why.contains("is missing, but its log"), "{why}");
    assert!(!killed.part("").exists());
    fs::remove_file(killed.part("-wal")).expect("removed");
    killed.place.server().stop().await;
    assert_eq!(killed.place.files(), ["rooms.db"]);
}

#[tokio::test]
async fn salvage_goes_on_with_a_store_whose_log_has_lost_its_end() {
    let killed = Killed::after(40).await;
    let log = &killed.files[1];
    assert!(killed.is_refused(&log[..log.len() - FRAME], "cut").await);
    let mut config = killed.place.config();
    config.salvage = true;
    let server = TestServer::start(config);
    assert_eq!(served(&server, &killed.wanted[..2]).await, killed.before);
    server.stop().await;
    let files = killed.place.files();
    for ending in ENDINGS {
        let is_aside = |name: &String| name.contains(".damaged-") && name.ends_with(ending);
        assert!(files.iter().any(is_aside), "{ending}: {files:?}");
    }
    // From now on it is a store as any other.
    let server = killed.place.server();
    assert_eq!(served(&server, &killed.wanted[..2]).await, killed.before);
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_a_link_leads_to_is_guarded_as_any_other() {
    let killed = Killed::after(40).await;
    let Place { file, .. } = &killed.place;
    let link = killed.place.folder.path().join("link.db");
    std::os::unix::fs::symlink("rooms.db", &link).expect("a link");
    let mut config = killed.place.config();
    config.store = Some(link.clone());
    let mut log = killed.files[1].clone();
    let middle = log.len() / 2;
    log[middle] ^= 1;
    fs::write(killed.place.beside("-wal"), log).expect("written");
    let why = Server::bind(config.clone()).expect_err("a damaged log").to_string();
    assert!(why.contains("is damaged: "), "{why}");
    // Nothing is there yet.
    for ending in ENDINGS {
        fs::remove_file(killed.place.beside(ending)).ok();
    }
    TestServer::start(config).stop().await;
    assert!(file.exists() && link.is_symlink());
}
