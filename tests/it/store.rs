//! Rooms that survive: restarts, kills, full disks and damaged files. SQLite is the real one, in
//! real files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parlor::{Clock, Config, Refusal, Server};
use rusqlite::Connection;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tokio::process::Command;

use crate::binary::{Daemon, parlor};
use crate::client::{Random, TestServer};
use crate::support::{Client, Reader, first_field, message, number, pass, say, seat, seconds};

/// A folder with the name of a store in it.
struct Place {
    folder: TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("rooms.db");
        Place { folder, file }
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.store = Some(self.file.clone());
        config
    }

    fn server(&self) -> TestServer {
        TestServer::start(self.config())
    }

    fn command(&self) -> Command {
        let store = format!("sqlite:{}", self.file.display());
        parlor(&["--listen", "127.0.0.1:0", "--store", &store])
    }

    /// The real program.
    async fn daemon(&self) -> Daemon {
        Daemon::spawn(self.command()).await
    }

    /// Why a server doesn't start.
    fn refused(&self) -> String {
        Server::bind(self.config()).expect_err("a store that can't be opened").to_string()
    }

    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path()).expect("a folder");
        let name = |file: fs::DirEntry| file.file_name().into_string().expect("UTF-8");
        files.map(|file| name(file.expect("a file"))).collect()
    }
}

/// How often something is tried; a variable can say more.
fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |times| times.parse().expect("a number"))
}

async fn connect(daemon: &Daemon) -> Client {
    let stream = tokio::net::TcpStream::connect(daemon.addr()).await.expect("a connection");
    Client::over(stream).greeted().await
}

async fn kill(daemon: Daemon) {
    daemon.signal("KILL");
    daemon.wait().await;
}

// clause: STORE-3
#[tokio::test]
async fn after_a_kill_armed_members_find_everything_as_it_was() {
    let place = Place::new();
    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await;
    let code = ann.create("ann").await;
    let ann_token = ann.hold(60).await;
    let mut ben = connect(&daemon).await.join(&code, "ben").await;
    let ben_token = ben.hold(60).await;
    let cat = connect(&daemon).await.join(&code, "cat").await;
    let mut kim = connect(&daemon).await.join(&code, "kim").await;
    let kim_token = kim.hold(60).await;
    assert_eq!(ben.ask("MSG hello").await.pop().expect("a reply").split(' ').nth(2), Some("1"));
    ann.send("MSG hello ben\nMUTE ben\nKICK kim\nLOCK\nNICK Annie").await;
    ann.expect("JOINED ben").await;
    ann.expect("JOINED cat").await;
    ann.expect("JOINED kim").await;
    ann.expect("MSG 1 ").await;
    ann.expect("OK MSG 2 ").await;
    for done in ["OK MUTE ben", "OK KICK kim", "OK LOCK", "OK NICK Annie"] {
        ann.expect(done).await;
    }
    let mut dan = connect(&daemon).await;
    let closed = dan.create("dan").await;
    dan.ask("CLOSE").await;
    let created = connect(&daemon).await.ask("CREATE").await;
    let empty = first_field(&created[0]["OK CREATE ".len()..]);
    kill(daemon).await;
    drop(cat);

    let daemon = place.daemon().await;
    let mut ann = connect(&daemon).await;
    let resumed = ann.ask(&format!("RESUME {code} {ann_token} 0")).await;
    let [first, second, reply] = &resumed[..] else { panic!("{resumed:?}") };
    assert_eq!((message(first), message(second)), ((1, "hello"), (2, "hello ben")));
    assert_eq!(*reply, format!("OK RESUME {code} Annie 2 2 2 1"));
    let users = ann.ask("WHO").await;
    assert_eq!(users, ["USER Annie here host", "USER ben held muted", "OK WHO 2"]);
    let mut other = connect(&daemon).await;
    let gone = other.ask(&format!("RESUME {code} {kim_token} 0")).await;
    assert!(gone[0].starts_with("ERR RESUME bad-token "), "{gone:?}");
    let locked = other.ask(&format!("JOIN {code} eve")).await;
    assert!(locked[0].starts_with("ERR JOIN room-locked "), "{locked:?}");
    let none = other.ask(&format!("JOIN {closed} eve")).await;
    assert!(none[0].starts_with("ERR JOIN no-such-room "), "{none:?}");
    let resumed = other.ask(&format!("RESUME {code} {ben_token} 1")).await;
    assert_eq!(message(&resumed[0]), (2, "hello ben"));
    assert_eq!(resumed[1], format!("OK RESUME {code} ben 2 2 1 1"));
    // Nothing is given twice.
    assert_eq!(ann.ask("MSG again").await[0].split(' ').nth(2), Some("3"));
    // A room without a seat waits for its people.
    connect(&daemon).await.join(empty, "fay").await;
}

#[tokio::test]
async fn time_does_not_go_back_over_a_restart() {
    let place = Place::new();
    let mut config = place.config();
    let later = SystemTime::now() + Duration::from_secs(3600);
    config.clock = Clock::new(move || later);
    let server = TestServer::start(config);
    let said = seat(&server, "ann").say("late").await.expect("a message");
    server.stop().await;
    let server = place.server();
    let ann = seat(&server, "ann");
    let again = ann.say("early").await.expect("a message");
    assert_eq!((again.id, again.time), (said.id + 1, said.time));
    drop(ann);
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_keeps_no_more_history_than_a_room_may_have() {
    let place = Place::new();
    let mut config = place.config();
    config.history = 10;
    let server = TestServer::start(config.clone());
    let ann = seat(&server, "ann");
    say(&ann, 200, "word").await;
    drop(ann);
    server.stop().await;
    let stored = || {
        let connection = Connection::open(&place.file).expect("a store");
        let count = connection.query_row("SELECT count(*) FROM messages", [], |row| row.get(0));
        count.expect("a number")
    };
    let before: i64 = stored();
    assert!((10..100).contains(&before), "{before}");
    let server = TestServer::start(config);
    let mut ben = Client::tcp(&server).await;
    let lines = ben.ask("JOIN LOBBY ben 1000").await;
    assert_eq!((lines.len(), message(&lines[0]).0), (11, 191));
    server.stop().await;
}

// clause: STORE-3
#[tokio::test]
async fn held_seats_and_empty_rooms_end_10_minutes_after_a_restart() {
    let place = Place::new();
    let server = place.server();
    let mut ann = Client::tcp(&server).await;
    let code = ann.create("ann").await;
    ann.hold(1).await;
    let mut empty = Vec::new();
    for _ in 0..2 {
        let created = Client::tcp(&server).await.ask("CREATE").await;
        empty.push(first_field(&created[0]["OK CREATE ".len()..]).to_owned());
    }
    server.stop().await;
    let server = place.server();
    let hub = server.server.hub();
    // From here on nothing has to wait for the store before the time has passed.
    tokio::time::pause();
    pass(seconds(599)).await;
    assert!(hub.join(&empty[0], "x").is_ok());
    let mut ben = hub.join(&code, "ben").expect("the room is there");
    pass(seconds(2)).await;
    assert_eq!(hub.join(&empty[1], "x").unwrap_err(), Refusal::NoSuchRoom);
    let left = ben.next().await;
    assert!(matches!(left, Some(parlor::Event::Left { name, .. }) if name == "ann"));
}

#[tokio::test]
async fn a_store_is_for_its_owner_and_for_one_parlor_at_a_time() {
    let place = Place::new();
    let server = place.server();
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(&place.file).expect("a file").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
    // Another process: locks of files are between those.
    let second = crate::binary::output(place.command()).await;
    let text = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("is in use: another parlor stores there"), "{text}");
    server.stop().await;
    assert_eq!(place.files(), ["rooms.db"]);
}

#[tokio::test]
async fn a_newer_store_and_what_is_none_are_refused_and_not_touched() {
    let place = Place::new();
    place.server().stop().await;
    let set = |pragma: &str| {
        let connection = Connection::open(&place.file).expect("a store");
        connection.execute_batch(pragma).expect("a pragma");
    };
    set("PRAGMA user_version = 99");
    assert!(place.refused().contains("written by a newer parlor (format 99)"));
    set("PRAGMA user_version = 1; PRAGMA application_id = 7");
    assert!(place.refused().contains("is no store of parlor"));
    for (content, why) in [(&b"My diary.\n"[..], "is no store of parlor"), (b"", "is empty")] {
        fs::write(&place.file, content).expect("a file");
        assert!(place.refused().contains(why), "{}", place.refused());
        assert_eq!(fs::read(&place.file).expect("a file"), content);
    }
    fs::remove_file(&place.file).expect("removed");
    fs::create_dir(&place.file).expect("a folder");
    assert!(place.refused().starts_with("cannot open the store"));
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_a_clear_line_and_an_exit_code() {
    let place = Place::new();
    for wrong in ["rooms.db", "sqlite:", "redis:here"] {
        let output = crate::binary::output(parlor(&["--store", wrong])).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("it is written memory or sqlite:FILE"), "{text}");
    }
    place.server().stop().await;
    let mut bytes = fs::read(&place.file).expect("a store");
    bytes.truncate(bytes.len() - 1);
    fs::write(&place.file, bytes).expect("written");
    let output = crate::binary::output(place.command()).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("is damaged: ") && text.contains("--salvage"), "{text}");
}

/// What a member of a killed daemon knows.
#[derive(Default)]
struct Known {
    token: String,
    sent: u64,
    said: u64,
    /// The highest id that he has seen.
    last: u64,
    /// What was shown to him or acknowledged in this round, by its id.
    messages: BTreeMap<u64, String>,
}

impl Known {
    fn note(&mut self, id: u64, text: &str) {
        self.last = self.last.max(id);
        let before = self.messages.insert(id, text.to_owned());
        assert!(before.is_none_or(|before| before == text), "{id} was two messages");
    }

    /// Reads what comes until so many messages are acknowledged.
    async fn read(&mut self, reader: &mut Reader, name: &str, acknowledged: u64) {
        while self.said < acknowledged {
            let line = reader.line().await.expect("the daemon runs");
            self.hear(&line, name);
        }
    }

    fn hear(&mut self, line: &str, name: &str) {
        if line.starts_with("OK MSG ") {
            self.said += 1;
            self.note(number(line, 2), &format!("{name}-{}", self.said));
        } else if line.starts_with("MSG ") {
            let (id, text) = message(line);
            self.note(id, text);
        }
    }
}

// clause: STORE-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_shown_is_lost_or_doubled_by_kills_under_load() {
    const LINES: u64 = 400;
    let names = ["ann", "ben", "cat"];
    let mut random = Random(7);
    let place = Place::new();
    let mut known: Vec<Known> = names.iter().map(|_| Known::default()).collect();
    let mut all = BTreeMap::new();
    for round in 0..times("PARLOR_KILLS", 30) {
        let daemon = place.daemon().await;
        let mut clients = Vec::new();
        for (name, known) in names.iter().zip(&mut known) {
            let mut client = connect(&daemon).await;
            if round == 0 {
                client = client.join("LOBBY", name).await;
                known.token = client.hold(600).await;
            } else {
                resume(&mut client, known, name).await;
            }
            clients.push(client);
        }
        let enough = random.below(LINES - 50);
        let talks =
            clients.into_iter().zip(&mut known).zip(names).map(|((client, known), name)| {
                let target = known.said + enough;
                let lines: String = (known.said + 1..=known.said + LINES)
                    .map(|n| format!("MSG {name}-{n}\n"))
                    .collect();
                known.sent = known.said + LINES;
                async move {
                    let Client { mut reader, mut writer } = client;
                    // Who sends must read as well.
                    let sending = tokio::spawn(async move {
                        writer.bytes(lines.as_bytes()).await;
                        writer
                    });
                    known.read(&mut reader, name, target).await;
                    (reader, sending)
                }
            });
        let open = futures_util::future::join_all(talks).await;
        kill(daemon).await;
        for ((mut reader, sending), (known, name)) in
            open.into_iter().zip(known.iter_mut().zip(names))
        {
            drop(sending.await);
            // What was still under way counts as well, but for half a line.
            let rest = String::from_utf8(reader.all().await).expect("UTF-8");
            let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().for_each(|line| known.hear(line, name));
        }
        for known in &mut known {
            for (id, text) in std::mem::take(&mut known.messages) {
                let same = all.get(&id).is_none_or(|before| *before == text);
                assert!(same, "{id} was two messages");
                all.insert(id, text);
            }
        }
    }
    check_history(&place, &all).await;
}

/// Comes back, and learns which of his messages arrived.
async fn resume(client: &mut Client, known: &mut Known, name: &str) {
    let lines = client.ask(&format!("RESUME LOBBY {} 0", known.token)).await;
    let (reply, lines) = lines.split_last().expect("a reply");
    assert!(reply.starts_with("OK RESUME "), "{reply}");
    assert!(number(reply, 4) >= known.last, "{reply} after {}", known.last);
    let said = number(reply, 7);
    assert!((known.said..=known.sent).contains(&said), "{said} of {}", known.said);
    known.said = said;
    let mut own = 0;
    for line in lines.iter().filter(|line| line.starts_with("MSG ")) {
        let (id, text) = message(line);
        known.note(id, text);
        if let Some(n) = text.strip_prefix(name).and_then(|n| n.strip_prefix('-')) {
            let n: u64 = n.parse().expect("a number");
            assert!(own == 0 || n == own + 1, "{n} after {own}");
            own = n;
        }
    }
    assert!(own == 0 || own == said, "{own} of {said}");
}

/// The latest messages are those that were seen.
async fn check_history(place: &Place, all: &BTreeMap<u64, String>) {
    let daemon = place.daemon().await;
    let mut client = connect(&daemon).await;
    let lines = client.ask("JOIN LOBBY zoe 1000").await;
    let mut seen = 0;
    for line in &lines[..lines.len() - 1] {
        let (id, text) = message(line);
        seen += usize::from(all.get(&id).is_some_and(|known| known == text));
        assert!(all.get(&id).is_none_or(|known| known == text), "{id} is another message");
    }
    assert!(seen > 100, "{seen}");
    let newest = number(&lines[lines.len() - 1], 4);
    assert!(newest >= *all.last_key_value().expect("messages").0);
}

// clause: STORE-2
#[tokio::test]
async fn a_full_disk_refuses_messages_and_shows_them_to_nobody_until_there_is_room() {
    let place = Place::new();
    place.server().stop().await;
    // A file that may not grow is as good as a full disk; the signal that tells so is ignored.
    let store = format!("sqlite:{}", place.file.display());
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_parlor")]);
    command.args(["--listen", "127.0.0.1:0", "--no-web", "--store", &store]);
    command.stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let daemon = Daemon::spawn(command).await;
    let mut ann = connect(&daemon).await.join("LOBBY", "ann").await;
    let token = ann.hold(60).await;
    let mut ben = connect(&daemon).await.join("LOBBY", "ben").await;
    ann.expect("JOINED ben").await;
    assert!(ann.ask("MSG before").await[0].starts_with("OK MSG 1 "));
    ben.expect("MSG 1 ").await;
    let process = Pid::from_raw(daemon.process() as i32);
    let room = |bytes: Option<u64>| {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(process, Resource::Fsize, limit).expect("a limit");
    };
    room(Some(1));
    for _ in 0..3 {
        for command in ["MSG lost", "HOLD 50", "NICK Annie", "CREATE"] {
            let replies = ann.ask(command).await;
            let wanted = format!("ERR {} storage ", first_field(command));
            assert!(replies[0].starts_with(&wanted), "{command}: {replies:?}");
        }
    }
    assert_eq!(ben.fence().await, [] as [&str; 0]);
    assert_eq!(ben.ask("HISTORY").await.len(), 2);
    room(None);
    let again = std::time::Instant::now();
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

/// A closed store with two rooms, and what is served from it.
async fn filled(place: &Place) -> Vec<String> {
    let server = place.server();
    let ann = seat(&server, "ann");
    say(&ann, 150, "something that takes some room in the file").await;
    let mut ben = Client::tcp(&server).await;
    let code = ben.create("ben").await;
    let token = ben.hold(600).await;
    for _ in 0..50 {
        ben.ask("MSG and more of it in another room").await;
    }
    let mut cat = Client::tcp(&server).await.join(&code, "cat").await;
    let other = cat.hold(600).await;
    drop(ann);
    server.stop().await;
    let wanted = vec![format!("RESUME {code} {token} 0"), format!("RESUME {code} {other} 0")];
    let server = place.server();
    let served = served(&server, &wanted).await;
    server.stop().await;
    assert_eq!(served.len(), 151 + 51 + 51);
    [wanted, served].concat()
}

/// All that a server has.
async fn served(server: &TestServer, resume: &[String]) -> Vec<String> {
    let mut lines = Client::tcp(server).await.ask("JOIN LOBBY zoe 1000").await;
    for resume in resume {
        lines.extend(Client::tcp(server).await.ask(resume).await);
    }
    lines
}

/// Starts a server with a file that was changed: it refuses, or it has all as it was.
async fn try_damaged(place: &Place, wanted: &[String], what: &str) -> bool {
    match Server::bind(place.config()) {
        Err(error) => {
            assert!(error.store().is_some(), "{error}");
            true
        }
        Ok(server) => {
            let server = TestServer::of(server);
            let got = served(&server, &wanted[..2]).await;
            server.stop().await;
            assert_eq!(got, wanted[2..], "{what}");
            false
        }
    }
}

#[tokio::test]
async fn no_flipped_bit_is_served() {
    let place = Place::new();
    let wanted = filled(&place).await;
    let sound = fs::read(&place.file).expect("a store");
    let mut random = Random(11);
    let mut refused = 0;
    let flips = times("PARLOR_FLIPS", 200);
    for _ in 0..flips {
        let bit = random.below(sound.len() as u64 * 8) as usize;
        let mut damaged = sound.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&place.file, damaged).expect("written");
        refused += usize::from(try_damaged(&place, &wanted, &format!("bit {bit}")).await);
        forget_log(&place.file);
    }
    // What isn't refused was in a part of the file that isn't used.
    assert!(refused > flips / 4, "{refused} of {flips}");
}

#[tokio::test]
async fn no_truncated_store_is_served() {
    let place = Place::new();
    let wanted = filled(&place).await;
    let sound = fs::read(&place.file).expect("a store");
    let mut random = Random(13);
    let lengths = times("PARLOR_TRUNCATIONS", 50);
    for _ in 0..lengths {
        let length = random.below(sound.len() as u64) as usize;
        fs::write(&place.file, &sound[..length]).expect("written");
        assert!(try_damaged(&place, &wanted, &format!("{length} bytes")).await, "{length}");
        forget_log(&place.file);
    }
}

fn forget_log(file: &Path) {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    fs::remove_file(log).ok();
}

#[tokio::test]
async fn salvage_goes_on_with_what_is_sound() {
    let place = Place::new();
    let server = place.server();
    let mut ann = Client::tcp(&server).await.join("LOBBY", "ann").await;
    let token = ann.hold(600).await;
    for text in ["one", "a capybara", "three"] {
        ann.ask(&format!("MSG {text}")).await;
    }
    server.stop().await;
    let mut bytes = fs::read(&place.file).expect("a store");
    let at = bytes.windows(8).position(|window| window == b"capybara").expect("the text");
    bytes[at] ^= 1;
    fs::write(&place.file, &bytes).expect("written");
    let why = place.refused();
    let wanted = "is damaged: lost are 0 rooms, 1 messages and 0 held seats. Nothing was changed.";
    assert!(why.contains(wanted) && why.contains("--salvage"), "{why}");
    assert!(fs::read(&place.file).expect("a store") == bytes);

    let mut config = place.config();
    config.salvage = true;
    let server = TestServer::start(config);
    let resumed = Client::tcp(&server).await.ask(&format!("RESUME LOBBY {token} 0")).await;
    let [gap, first, third, reply] = &resumed[..] else { panic!("{resumed:?}") };
    assert_eq!(gap, "GAP 1");
    assert_eq!((message(first), message(third)), ((1, "one"), (3, "three")));
    assert_eq!(reply, "OK RESUME LOBBY ann 3 1 3 3");
    assert_eq!(seat(&server, "ben").say("four").await.expect("a message").id, 4);
    server.stop().await;
    let files = place.files();
    let is_aside =
        |name: &&String| name.starts_with("rooms.db.damaged-") && !name.ends_with("-wal");
    let aside = files.iter().find(is_aside).expect("the old one");
    assert!(fs::read(place.folder.path().join(aside)).expect("the old one") == bytes);
    // From now on it is a store as any other.
    let server = place.server();
    let lines = Client::tcp(&server).await.ask("JOIN LOBBY zoe 9").await;
    assert_eq!(lines.len(), 4);
    server.stop().await;
}
