//! A connection's turns: what comes before what, what comes together, and what is skipped.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parlor::Config;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{Random, TestServer};
use crate::support::{
    Client, VERBS, WIDE, attach, message, number, pass, say, seat, seconds, settle,
};

/// Bytes of the longest text.
const TEXT_BYTES: usize = 1800;
/// Bytes that a room keeps for readers beyond its history.
const ROOM_BYTES: usize = 16 << 20;
/// What each line counts besides its bytes there.
const ENTRY_BYTES: usize = 96;

/// A text as long as it may be.
fn long() -> String {
    "x".repeat(TEXT_BYTES)
}

/// What one member gets of a room's messages: each in its place, or counted by a gap.
#[derive(Debug, Default)]
struct Account {
    /// The latest id that is accounted for.
    last: u64,
    heard: u64,
    said: u64,
    skipped: u64,
    gaps: u64,
}

impl Account {
    /// Books a line; false if it is about no message.
    fn book(&mut self, line: &str) -> bool {
        if line.starts_with("MSG ") {
            assert_eq!(message(line).0, self.last + 1, "a hole or a double: {self:?}");
            (self.last, self.heard) = (self.last + 1, self.heard + 1);
        } else if line.starts_with("OK MSG ") {
            assert_eq!(number(line, 2), self.last + 1, "not at its place: {self:?}");
            (self.last, self.said) = (self.last + 1, self.said + 1);
        } else if line.starts_with("GAP ") {
            let messages = number(line, 1);
            (self.last, self.skipped) = (self.last + messages, self.skipped + messages);
            self.gaps += 1;
        } else {
            return false;
        }
        true
    }
}

// clause: REPLY-5, REPLY-4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stands_between_the_data_lines_of_a_reply_and_its_ok() {
    const ROUNDS: usize = 150;
    let server = TestServer::start(Config::default());
    let done = Arc::new(AtomicBool::new(false));
    let talkers: Vec<_> = (0..3)
        .map(|talker| {
            let (hub, done) = (server.server.hub().clone(), done.clone());
            tokio::spawn(async move {
                let mut visits = 0;
                while !done.load(Ordering::Relaxed) {
                    let seat = hub.join("LOBBY", &format!("talker{talker}")).expect("a seat");
                    say(&seat, 3, "and so on").await;
                    visits += 1;
                    tokio::task::yield_now().await;
                }
                visits
            })
        })
        .collect();

    let mut asker = Client::tcp(&server).await.join("LOBBY", "asker").await;
    let mut account: Option<Account> = None;
    let mut events = 0;
    for round in 0..ROUNDS {
        let asked = ["WHO", "HISTORY 50", "HELP", "HISTORY"][round % 4];
        let word = ["USER ", "MSG ", "HELP ", "MSG "][round % 4];
        let mut lines = asker.ask(asked).await;
        let reply = lines.pop().expect("a reply");
        assert!(reply.starts_with("OK "), "{reply}");
        let data = lines.split_off(lines.len() - number(&reply, 2) as usize);
        assert!(data.iter().all(|line| line.starts_with(word)), "{asked}: {data:?}");
        if word == "MSG " {
            assert!(data.is_sorted_by_key(|line| message(line).0), "{data:?}");
            let ids = data.windows(2).map(|two| message(&two[1]).0 - message(&two[0]).0);
            assert!(ids.into_iter().all(|step| step == 1), "an event among {data:?}");
        }
        // And no data line among the events.
        for line in lines {
            if line.starts_with("MSG ") {
                let first = message(&line).0 - 1;
                account.get_or_insert(Account { last: first, ..Account::default() }).book(&line);
                events += 1;
            } else {
                assert!(line.starts_with("JOINED ") || line.starts_with("LEFT "), "{line}");
            }
        }
    }
    assert!(events > ROUNDS, "only {events} messages came meanwhile");
    done.store(true, Ordering::Relaxed);
    for talker in talkers {
        assert!(talker.await.expect("a talker") > 0);
    }
}

// clause: TURN-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_write_are_published_together() {
    const ROUNDS: u64 = 20;
    const RUN: u64 = 50;
    let server = TestServer::start(Config::default());
    let start = Arc::new(tokio::sync::Barrier::new(3));
    let writers: Vec<_> = ["ann", "ben", "cat"]
        .into_iter()
        .map(|name| {
            let stream = attach(&server, None, WIDE);
            let start = start.clone();
            tokio::spawn(async move {
                let mut client = Client::over(stream).greeted().await.join("LOBBY", name).await;
                for round in 0..ROUNDS {
                    let run: String =
                        (0..RUN).map(|line| format!("MSG {name} {round} {line}\n")).collect();
                    start.wait().await;
                    client.writer.bytes(run.as_bytes()).await;
                    for _ in 0..RUN {
                        while !client.line().await.starts_with("OK MSG ") {}
                    }
                }
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for writer in writers {
        clients.push(writer.await.expect("a writer"));
    }
    let mut reader = Client::pipe(&server, WIDE).await;
    reader.send("JOIN LOBBY reader 1000").await;
    let lines = reader.reply().await;
    let texts: Vec<_> = lines.iter().filter_map(|line| line.splitn(5, ' ').nth(4)).collect();
    let texts = texts[..1000].to_vec();
    let mut runs = texts.split(|text| text.ends_with(&format!(" {}", RUN - 1))).skip(1);
    let broken = runs.find(|run| {
        let (whose, _) = run.first().unwrap_or(&"").rsplit_once(' ').unwrap_or_default();
        let own = |(line, text): (usize, &&str)| **text == format!("{whose} {line}");
        !run.is_empty() && !run.iter().enumerate().all(own)
    });
    assert_eq!(broken, None);
}

// clause: TURN-1
#[tokio::test(start_paused = true)]
async fn who_sends_and_reads_gets_all_through_the_narrowest_pipe() {
    const MESSAGES: u64 = 10_000;
    let server = TestServer::start(Config::default());
    let Client { mut reader, mut writer } =
        Client::pipe(&server, 1024).await.join("LOBBY", "sender").await;
    let sending = tokio::spawn(async move {
        for sent in 0..MESSAGES {
            writer.bytes(format!("MSG {sent}\n").as_bytes()).await;
        }
        writer
    });
    for id in 1..=MESSAGES {
        assert_eq!(number(&reader.line().await.expect("a line"), 2), id);
    }
    sending.await.expect("all is sent");
}

// clause: TURN-1
#[tokio::test(start_paused = true)]
async fn who_sends_and_does_not_read_is_stopped_and_others_are_served() {
    let server = TestServer::start(Config::default());
    let mut sender = Client::pipe(&server, 1024).await.join("LOBBY", "sender").await;
    let mut alice = Client::pipe(&server, WIDE).await.join("LOBBY", "alice").await;
    let mut bob = Client::pipe(&server, WIDE).await.join("LOBBY", "bob").await;
    alice.expect("JOINED bob").await;
    let messages: String = (1..=10_000).map(|sent| format!("MSG {sent}\n")).collect();
    let sent = sender.writer.as_much_as_fits(messages.as_bytes()).await;
    // Two full pipes, and one read that is being executed.
    assert!(sent < 20_000, "{sent} bytes were taken");
    alice.fence().await;
    bob.fence().await;
    for round in 0..100 {
        alice.send(&format!("MSG hello {round}")).await;
        alice.expect("OK MSG ").await;
        assert!(bob.line().await.ends_with(&format!("alice hello {round}")));
    }
    // Once it reads it goes on.
    let Client { mut reader, mut writer } = sender;
    let sending = tokio::spawn(async move {
        writer.bytes(&messages.as_bytes()[sent..]).await;
        writer
    });
    let mut said = 0;
    while said < 10_000 {
        let line = reader.line().await.expect("a line");
        said += u64::from(line.starts_with("OK MSG "));
    }
    sending.await.expect("all is sent");
}

// clause: TURN-1
#[tokio::test(start_paused = true)]
async fn a_line_is_executed_after_all_that_its_turn_had_to_write() {
    let server = TestServer::start(Config::default());
    let mut behind = Client::pipe(&server, 1024).await.join("LOBBY", "behind").await;
    let mut watcher = Client::pipe(&server, WIDE).await;
    let speaker = seat(&server, "speaker");
    say(&speaker, 1000, "hello").await;
    settle().await;
    watcher = watcher.join("LOBBY", "watcher").await;
    behind.send("MSG I have read all of that").await;
    behind.expect("JOINED speaker").await;
    for read in 1..=1000 {
        behind.expect("MSG ").await;
        // The next forty may be written: the pipe holds half of them, and he the other half.
        if [1, 300, 600, 800, 930].contains(&read) {
            settle().await;
            assert_eq!(watcher.fence().await, [""; 0], "executed when he had {read} of 1000 lines");
        }
    }
    behind.expect("JOINED watcher").await;
    behind.expect("OK MSG 1001 ").await;
    assert!(watcher.line().await.ends_with(" I have read all of that"));
}

// clause: TURN-1
#[tokio::test(start_paused = true)]
async fn what_the_room_adds_meanwhile_comes_after_the_reply_that_does_not_know_it() {
    let server = TestServer::start(Config::default());
    let mut behind = Client::pipe(&server, 16 << 10).await.join("LOBBY", "behind").await;
    let speaker = seat(&server, "speaker");
    say(&speaker, 600, &long()).await;
    settle().await;
    behind.send("WHO").await;
    let mut newcomers = VecDeque::new();
    let mut lines = Vec::new();
    loop {
        let line = behind.line().await;
        if lines.len() % 50 == 0 && newcomers.len() < 20 {
            newcomers.push_back(seat(&server, &format!("newcomer{}", newcomers.len())));
        }
        lines.push(line);
        if lines.last().is_some_and(|line| line.starts_with("OK WHO ")) {
            break;
        }
    }
    lines.extend(behind.fence().await);
    // Whom WHO doesn't list has come, or comes later, than the list.
    let mut members = BTreeSet::new();
    for line in &lines {
        if let Some(name) = line.strip_prefix("JOINED ") {
            members.insert(name.to_owned());
        } else if line.starts_with("OK WHO ") {
            let users = lines.iter().filter_map(|line| line.strip_prefix("USER "));
            members = users.map(|user| user.trim_end_matches(" here").to_owned()).collect();
        }
    }
    let mut truth: BTreeSet<_> =
        (0..newcomers.len()).map(|number| format!("newcomer{number}")).collect();
    truth.extend(["behind".to_owned(), "speaker".to_owned()]);
    assert_eq!(members, truth);
}

// clause: TURN-1, PING-2
#[tokio::test(start_paused = true)]
async fn other_commands_are_executed_after_the_replies_before_them() {
    let server = TestServer::start(Config::default());
    let mut host = Client::pipe(&server, WIDE).await;
    let code = host.create("host").await;
    let mut guest = Client::pipe(&server, WIDE).await.join(&code, "guest").await;
    host.expect("JOINED guest").await;
    let lines = "MSG one\nMSG two\nWHO\nMSG three\nKICK guest\nMSG four\nHISTORY 1\nPING\n";
    host.writer.bytes(lines.as_bytes()).await;
    for line in [
        "OK MSG 1 ",
        "OK MSG 2 ",
        "USER host here host",
        "USER guest here",
        "OK WHO 2",
        "OK MSG 3 ",
        "OK KICK guest",
        "OK MSG 4 ",
        "MSG 4 ",
        "OK HISTORY 1",
        "OK PING",
    ] {
        host.expect(line).await;
    }
    let heard = guest.rest().await;
    assert!(heard.last().expect("a line").starts_with("BYE kicked "), "{heard:?}");
}

// clause: TURN-2, RESUME-2, RESUME-5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_again_and_again_misses_nothing_and_says_nothing_twice() {
    const OTHERS: u64 = 4000;
    const OWN: u64 = 200;
    let mut config = Config::default();
    config.history = 100_000;
    let server = TestServer::start(config);
    let speaker = seat(&server, "speaker");
    let (said, heard) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (go, going) = tokio::sync::oneshot::channel::<()>();
    let speaking = tokio::spawn({
        let (said, heard) = (said.clone(), heard.clone());
        async move {
            going.await.ok();
            for number in 0..OTHERS {
                let id = speaker.say(&format!("speaker {number}")).await.expect("a message").id;
                said.store(id, Ordering::Release);
                // Not far ahead, so that there is always something to miss.
                while id > heard.load(Ordering::Acquire) + 100 {
                    tokio::task::yield_now().await;
                }
            }
            speaker
        }
    });

    let mut random = Random(7);
    let mut client = Client::tcp(&server).await.join("LOBBY", "commuter").await;
    let token = client.hold(600).await;
    go.send(()).expect("a speaker");
    let mut texts: Vec<String> = Vec::new();
    // What section 16 tells a client to keep.
    let mut unanswered: VecDeque<String> = VecDeque::new();
    let (mut accepted, mut next_own, mut breaks) = (0, 0, 0);
    while (texts.len() as u64) < OTHERS + OWN {
        for _ in 0..random.below(100) {
            heard.store(texts.len() as u64, Ordering::Release);
            while next_own < OWN && unanswered.len() < 5 {
                unanswered.push_back(format!("commuter {next_own}"));
                client.send(&format!("MSG commuter {next_own}")).await;
                next_own += 1;
            }
            let line = client.line().await;
            if line.starts_with("OK MSG ") {
                assert_eq!(number(&line, 2), texts.len() as u64 + 1);
                texts.push(unanswered.pop_front().expect("a message of one's own"));
                accepted += 1;
            } else {
                let (id, text) = message(&line);
                assert_eq!(id, texts.len() as u64 + 1, "a hole or a double");
                texts.push(text.to_owned());
            }
            if texts.len() as u64 == OTHERS + OWN {
                break;
            }
        }
        if random.below(2) == 0 {
            breaks += 1;
            let old = (random.below(2) == 0).then_some(client);
            client = Client::tcp(&server).await;
            let ordered_before = said.load(Ordering::Acquire);
            client.send(&format!("RESUME LOBBY {token} {}", texts.len())).await;
            let mut lines = client.reply().await;
            let reply = lines.pop().expect("a reply");
            assert!(reply.starts_with("OK RESUME LOBBY commuter "), "{reply}");
            assert_eq!(number(&reply, 6) as usize, lines.len());
            for line in &lines {
                let (id, text) = message(line);
                assert_eq!(id, texts.len() as u64 + 1, "a hole or a double in the replay");
                texts.push(text.to_owned());
            }
            let last = number(&reply, 4);
            assert_eq!(last, texts.len() as u64);
            assert!(
                last >= ordered_before,
                "{ordered_before} was said before the replay to {last}"
            );
            let arrived = number(&reply, 7) - accepted;
            unanswered.drain(..arrived as usize);
            accepted += arrived;
            let again: String = unanswered.iter().map(|text| format!("MSG {text}\n")).collect();
            client.writer.bytes(again.as_bytes()).await;
            drop(old);
        }
    }
    assert!(breaks > 20, "only {breaks} breaks");
    for (name, count) in [("speaker", OTHERS), ("commuter", OWN)] {
        let said = texts.iter().filter(|text| text.starts_with(name)).cloned();
        assert!(said.eq((0..count).map(|number| format!("{name} {number}"))), "{name}");
    }
    drop(speaking.await.expect("a speaker"));
}

/// The texts that the lobby has.
async fn history(server: &TestServer) -> Vec<String> {
    let mut reader = Client::pipe(server, WIDE).await;
    reader.send("JOIN LOBBY historian 1000").await;
    let lines = reader.reply().await;
    let lines = lines.iter().filter(|line| line.starts_with("MSG "));
    lines.map(|line| message(line).1.to_owned()).collect()
}

// clause: TURN-3
#[tokio::test(start_paused = true)]
async fn what_was_received_runs_though_nothing_can_be_written() {
    for (pipe, lines) in [(WIDE, 1000), (4096, 300)] {
        let server = TestServer::start(Config::default());
        let mut client = Client::pipe(&server, pipe).await.join("LOBBY", "hasty").await;
        let text: String = (0..lines).map(|line| format!("MSG {line}\n")).collect();
        client.writer.bytes(text.as_bytes()).await;
        drop(client);
        settle().await;
        let expected: Vec<_> = (0..lines).map(|line| line.to_string()).collect();
        assert_eq!(history(&server).await, expected);
    }
}

// clause: TURN-3
#[tokio::test(start_paused = true)]
async fn commands_of_all_kinds_run_though_nothing_can_be_written() {
    let server = TestServer::start(Config::default());
    let mut watcher = Client::pipe(&server, WIDE).await.join("LOBBY", "watcher").await;
    let mut client = Client::over(attach(&server, None, WIDE));
    let lines = "JOIN LOBBY hasty\nWHO\nHISTORY\nMSG one\nHELP\nNICK hastier\nTELL watcher psst\n\
                 MSG two\nMSG three";
    client.writer.bytes(lines.as_bytes()).await;
    drop(client);
    settle().await;
    let seen = watcher.fence().await;
    let seen: Vec<_> = seen.iter().map(|line| without_id_and_time(line)).collect();
    let expected = [
        "JOINED hasty",
        "MSG hasty one",
        "RENAMED hasty hastier",
        "TELL hasty psst",
        "MSG hastier two",
        "MSG hastier three",
    ];
    assert_eq!(seen[..6], expected.map(|line| line.replace("TELL hasty", "TELL hastier")));
    assert!(seen[6].starts_with("LEFT hastier ") && seen.len() == 7, "{seen:?}");
}

/// A message without what a test can't know.
fn without_id_and_time(line: &str) -> String {
    let fields: Vec<_> = line.split(' ').collect();
    match fields[0] {
        "MSG" => format!("MSG {}", fields[3..].join(" ")),
        "TELL" => format!("TELL {}", fields[2..].join(" ")),
        _ => line.to_owned(),
    }
}

// clause: TURN-3
#[tokio::test]
async fn what_was_received_before_a_reset_runs() {
    let server = TestServer::start(Config::default());
    let mut watcher = Client::tcp(&server).await.join("LOBBY", "watcher").await;
    for round in 0..10 {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        let lines: String = (0..200).map(|line| format!("MSG {round} {line}\n")).collect();
        // The reply to the JOIN is never read: closing then resets the connection.
        let script = format!("JOIN LOBBY hasty{round}\n{lines}");
        stream.write_all(script.as_bytes()).await.expect("a write");
        drop(stream);
        watcher.expect(&format!("JOINED hasty{round}")).await;
        for line in 0..200 {
            let heard = watcher.line().await;
            assert!(heard.ends_with(&format!(" {round} {line}")), "{heard}");
        }
        watcher.expect(&format!("LEFT hasty{round} ")).await;
    }
}

// clause: RESUME-9
#[tokio::test(start_paused = true)]
async fn after_resume_the_old_connection_says_nothing_more() {
    for wait in [0, 1, 3, 10] {
        let mut config = Config::default();
        config.rate = Some(10);
        config.burst = 20;
        let server = TestServer::start(config);
        let mut watcher = Client::pipe(&server, WIDE).await.join("LOBBY", "watcher").await;
        let mut old = Client::pipe(&server, WIDE).await.join("LOBBY", "sam").await;
        watcher.expect("JOINED sam").await;
        let token = old.hold(600).await;
        let lines: String = (0..300).map(|line| format!("MSG {line}\n")).collect();
        old.writer.bytes(lines.as_bytes()).await;
        pass(seconds(wait)).await;

        let mut new = Client::pipe(&server, WIDE).await;
        let mut replay = new.ask(&format!("RESUME LOBBY {token} 0")).await;
        let reply = replay.pop().expect("a reply");
        let said = number(&reply, 7);
        assert!(said > 0 && said < 300 - 50, "{said} of 300 were executed");
        assert_eq!(number(&reply, 4), said);
        let texts: Vec<_> = replay.iter().map(|line| message(line).1.to_owned()).collect();
        let prefix: Vec<_> = (0..said).map(|line| line.to_string()).collect();
        assert_eq!(texts, prefix);

        pass(seconds(100)).await;
        assert_eq!(new.fence().await, [""; 0]);
        assert_eq!(watcher.fence().await.len() as u64, said);
        assert_eq!(number(new.ask("MSG on").await.last().expect("a reply"), 2), said + 1);
        let last_words = old.rest().await;
        assert!(last_words.last().expect("a line").starts_with("BYE replaced "));
        assert_eq!(last_words.len() as u64 - 1, said, "each one that was accepted is acknowledged");
    }
}

// clause: RESUME-9, RESUME-3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replay_is_the_end_of_the_old_connection() {
    let server = TestServer::start(Config::default());
    for round in 0..30 {
        let name = format!("sam{round}");
        let mut old = Client::pipe(&server, WIDE).await.join("LOBBY", &name).await;
        let token = old.hold(600).await;
        let before = old.fence().await;
        assert_eq!(before, [""; 0]);
        let mut new = Client::pipe(&server, WIDE).await;
        // More than one read brings, so that the RESUME comes in between.
        let lines: String = (0..3000).map(|line| format!("MSG {line}\n")).collect();
        let resume = format!("RESUME LOBBY {token} 0\n");
        tokio::join!(old.writer.bytes(lines.as_bytes()), new.writer.bytes(resume.as_bytes()));
        let mut replay = new.reply().await;
        let reply = replay.pop().expect("a reply");
        let (last, said) = (number(&reply, 4), number(&reply, 7));
        let own = replay.iter().filter(|line| line.contains(&format!(" {name} ")));
        let texts: Vec<_> = own.map(|line| message(line).1.parse::<u64>().expect("text")).collect();
        // The history keeps the latest thousand.
        assert_eq!(texts.last().copied(), said.checked_sub(1));
        let ended = old.rest().await;
        assert!(ended.last().expect("a line").starts_with("BYE replaced "), "{ended:?}");
        assert_eq!(ended.len() as u64 - 1, said);
        // Nothing follows the replay but what is said now.
        assert_eq!(new.fence().await, [""; 0]);
        assert_eq!(number(&new.ask("MSG on").await[0], 2), last + 1);
        new.ask("LEAVE").await;
    }
}

/// Waits for the end of what one reader gets, and books it.
async fn book_all(client: &mut Client, account: &mut Account) -> Vec<String> {
    let mut others = client.fence().await;
    others.retain(|line| !account.book(line));
    others
}

// clause: GAP-2, GAP-1
#[tokio::test(start_paused = true)]
async fn a_gap_is_told_in_parts_around_ones_own_messages() {
    const RUN: u64 = 600;
    let server = TestServer::start(Config::default());
    let mut slow = Client::pipe(&server, 4096).await.join("LOBBY", "slow").await;
    let speaker = seat(&server, "speaker");
    slow.expect("JOINED speaker").await;
    let text = long();
    // One turn has three messages to write and a run to execute. The pipe is too narrow for the
    // three, and while it is full others speak: so the run comes after what they say.
    say(&speaker, 3, &text).await;
    let run: String = (0..RUN).map(|_| "MSG x\n").collect();
    slow.writer.bytes(run.as_bytes()).await;
    settle().await;
    say(&speaker, 3000, &text).await;
    let mut account = Account::default();
    for _ in 0..3 {
        assert!(account.book(&slow.line().await));
    }
    settle().await;
    say(&speaker, 10_000, &text).await;
    let rest = book_all(&mut slow, &mut account).await;
    assert_eq!(rest, [""; 0]);
    assert_eq!(account.last, 13_003 + RUN);
    assert_eq!(account.said, RUN);
    assert_eq!(account.heard + account.skipped, 13_003);
    assert!(account.skipped > 0 && account.gaps > 1, "{account:?}");
}

// clause: GAP-2, GAP-1, LIMIT-7
#[tokio::test(start_paused = true)]
async fn the_books_of_a_slow_talker_balance_whatever_he_does() {
    for seed in [1] {
        let mut random = Random(seed);
        let server = TestServer::start(Config::default());
        let mut slow = Client::pipe(&server, 4096).await.join("LOBBY", "slow").await;
        let speakers = ["ann", "ben"].map(|name| seat(&server, name));
        slow.expect("JOINED ann").await;
        slow.expect("JOINED ben").await;
        let text = long();
        let mut account = Account::default();
        let mut others = 0;
        while others < 5000 {
            match random.below(8) {
                0 => {
                    let run = 1 + random.below(20);
                    let lines = format!("MSG mine {seed}\n").repeat(run as usize);
                    slow.writer.as_much_as_fits(lines.as_bytes()).await;
                }
                1 => {
                    for _ in 0..random.below(400) {
                        if account.last < others {
                            assert!(account.book(&slow.line().await));
                        }
                    }
                }
                2 => settle().await,
                3 => {
                    let count = random.below(600);
                    others += count;
                    say(&speakers[1], count as usize, &text).await;
                }
                _ => {
                    let count = random.below(30);
                    others += count;
                    say(&speakers[0], count as usize, &text[..30]).await;
                }
            }
        }
        // In the end more than a room keeps.
        others += 9500;
        say(&speakers[0], 9500, &text).await;
        // What he has half sent is sent.
        slow.writer.bytes(b"\n").await;
        let rest = book_all(&mut slow, &mut account).await;
        assert!(rest.iter().all(|line| line.starts_with("ERR ")), "{rest:?}");
        assert_eq!(account.heard + account.skipped, others, "{account:?}");
        let said = slow.ask("MSG the last").await;
        assert_eq!(number(&said[0], 2), account.last + 1);
        assert!(account.said > 0 && account.gaps > 0, "{account:?}");
    }
}

// clause: GAP-1, LIMIT-7
#[tokio::test(start_paused = true)]
async fn a_reader_a_little_behind_loses_nothing_when_he_sends_a_command() {
    let mut config = Config::default();
    config.history = 1;
    let server = TestServer::start(config);
    let mut behind = Client::pipe(&server, 1024).await.join("LOBBY", "behind").await;
    let speaker = seat(&server, "speaker");
    behind.expect("JOINED speaker").await;
    // Much less than a room keeps for its readers.
    say(&speaker, 5000, "hello").await;
    // Nobody else reads, for whom the room would keep more.
    drop(speaker);
    settle().await;
    behind.send("PING now").await;
    let mut account = Account::default();
    while account.last < 5000 {
        let line = behind.line().await;
        assert!(account.book(&line), "{line}");
    }
    assert_eq!((account.heard, account.skipped), (5000, 0), "{account:?}");
    behind.expect("LEFT speaker quit").await;
    behind.expect("OK PING now").await;
}

/// How many long messages a room keeps for its readers besides so many bytes of other lines.
fn fills_backlog(server_line: usize, besides: usize) -> usize {
    (ROOM_BYTES - besides) / (server_line + ENTRY_BYTES)
}

// clause: GAP-3
#[tokio::test(start_paused = true)]
async fn who_lost_only_presence_gets_gap_0_and_who_is_right() {
    let mut config = Config::default();
    config.history = 1;
    let server = TestServer::start(config);
    let mut slow = Client::pipe(&server, 4096).await.join("LOBBY", "slow").await;
    let speaker = seat(&server, "speaker");
    slow.expect("JOINED speaker").await;
    // First much coming and going, of which the pipe takes little.
    const VISITS: usize = 400;
    let visitor = |visit: usize| format!("visitor_number_{visit:05}");
    let mut presence = 0;
    for visit in 0..VISITS {
        drop(seat(&server, &visitor(visit)));
        presence += format!("JOINED {0}\nLEFT {0} quit\n", visitor(visit)).len() + 2 * ENTRY_BYTES;
    }
    settle().await;
    let stayed = seat(&server, "stayed");
    // Then messages, until about half of that has no room any more.
    let text = long();
    let line = "MSG 1000 2026-11-21T19:06:00.123Z speaker \n".len() + TEXT_BYTES;
    let messages = fills_backlog(line, presence / 2);
    say(&speaker, messages, &text).await;
    settle().await;

    let lines = slow.fence().await;
    let first_gap = lines.iter().position(|line| line.starts_with("GAP ")).expect("a gap");
    assert_eq!(lines[first_gap], "GAP 0");
    let (before, after) = lines.split_at(first_gap);
    assert!(before.len() < 300 && before.iter().all(|line| !line.starts_with("MSG ")));
    let mut account = Account::default();
    let after: Vec<_> = after[1..].iter().filter(|line| !account.book(line)).collect();
    assert_eq!((account.heard, account.gaps), (messages as u64, 0), "no message is lost");
    assert_eq!(after.last().map(|line| line.as_str()), Some("JOINED stayed"));
    assert!(before.len() + after.len() < 2 * VISITS, "something was lost");
    let users = slow.ask("WHO").await;
    let expected =
        ["USER slow here", "USER speaker here", "USER stayed here", "OK WHO 3"].map(str::to_owned);
    assert_eq!(users, expected);
    drop(stayed);
    slow.expect("LEFT stayed quit").await;
}

// clause: GAP-3, GAP-2
#[tokio::test(start_paused = true)]
async fn who_lost_only_presence_and_ones_own_messages_gets_gap_0_too() {
    const RUN: usize = 600;
    let mut config = Config::default();
    config.history = 1;
    let server = TestServer::start(config);
    let mut slow = Client::pipe(&server, 4096).await.join("LOBBY", "slow").await;
    let speaker = seat(&server, "speaker");
    slow.expect("JOINED speaker").await;
    // A run whose acknowledgements are not all written, and then presence.
    slow.writer.bytes("MSG x\n".repeat(RUN).as_bytes()).await;
    settle().await;
    let own = "MSG 600 2026-11-21T19:06:00.123Z slow x\n".len() * RUN;
    let mut presence = 0;
    for visit in 0..400 {
        drop(seat(&server, &format!("visitor_number_{visit:05}")));
        presence += 2 * ("JOINED visitor_number_00000\n".len() + ENTRY_BYTES);
    }
    let line = "MSG 1000 2026-11-21T19:06:00.123Z speaker \n".len() + TEXT_BYTES;
    let messages = fills_backlog(line, presence / 2);
    say(&speaker, messages, &long()).await;
    let mut account = Account::default();
    let others = book_all(&mut slow, &mut account).await;
    assert_eq!((account.said, account.heard), (RUN as u64, messages as u64), "{account:?}");
    assert_eq!(account.skipped, 0);
    assert!(others.len() < 800, "presence was lost");
    assert_eq!(account.gaps, 1, "he is not told that he lost presence ({own} bytes of his own)");
}

// clause: ERROR-3
#[tokio::test]
async fn errors_tell_what_to_do() {
    let server = TestServer::start(Config::default());
    let mut client = Client::pipe(&server, WIDE).await;
    let mut error = async |line: &str| client.ask(line).await.pop().expect("a reply");

    let unknown = error("hello all").await;
    assert!(unknown.starts_with("ERR * unknown-command "), "{unknown}");
    assert!(unknown.contains("MSG hello all"), "{unknown}");
    // At most 60 bytes are repeated, and a character whole or not at all.
    let sixty = "y".repeat(60);
    assert!(error(&sixty).await.ends_with(&format!("MSG {sixty}")));
    let cut = error(&format!("{sixty}z")).await;
    assert!(cut.contains(&sixty) && !cut.contains('z'), "{cut}");
    for (before, c) in [(59, 'é'), (58, '€'), (59, '€'), (57, '🦀'), (58, '🦀'), (59, '🦀')]
    {
        let cut = error(&format!("{}{c}tail", "y".repeat(before))).await;
        assert!(cut.contains(&"y".repeat(before)) && !cut.contains(c), "{cut}");
    }
    let whole = error(&format!("{}€tail", "y".repeat(57))).await;
    assert!(whole.contains("y€") && !whole.contains("tail"), "{whole}");

    let control = error("MSG \x1b[A").await;
    assert!(control.starts_with("ERR * control-char "), "{control}");
    assert!(control.to_lowercase().contains("arrow keys"), "{control}");
    assert!(!control.contains("[A"), "{control}");

    client.ask("JOIN LOBBY sam").await;
    let mut other = Client::pipe(&server, WIDE).await;
    let taken = other.ask("JOIN LOBBY Sam").await.pop().expect("a reply");
    assert!(taken.starts_with("ERR JOIN name-taken "), "{taken}");
    assert!(taken.contains("90"), "{taken}");
}

// clause: ERROR-3, ERROR-2
#[tokio::test]
async fn no_other_error_repeats_what_was_sent() {
    let mut config = Config::default();
    config.oper_secret = Some("sesame".to_owned());
    let server = TestServer::start(config);
    let mut outside = Client::pipe(&server, WIDE).await;
    let mut inside = Client::pipe(&server, WIDE).await.join("LOBBY", "sam").await;
    let _other = seat(&server, "other");
    inside.expect("JOINED other").await;
    let long_text = "mark".repeat(500);
    let long_line = "mark".repeat(600);
    let mut arguments = vec![
        " mark mark mark mark".to_owned(),
        " mark!".to_owned(),
        " mark! mark".to_owned(),
        " BCDF mark! 1".to_owned(),
        " mark! sam 1".to_owned(),
        " BCDFmark sam".to_owned(),
        " LOBBY mark 9999999999999999999".to_owned(),
        " LOBBY markmarkmarkmarkmarkmark".to_owned(),
        " mark\u{202e}".to_owned(),
        " before mark".to_owned(),
        " 99999999999999999999mark".to_owned(),
    ];
    arguments.push(format!(" other {long_text}"));
    arguments.push(format!(" {long_text}"));
    arguments.push(format!(" {long_line}"));
    let mut errors = 0;
    for verb in VERBS {
        for arguments in &arguments {
            for client in [&mut outside, &mut inside] {
                let reply = client.ask(&format!("{verb}{arguments}")).await.pop();
                let reply = reply.expect("a reply");
                if reply.starts_with("ERR ") {
                    assert!(
                        !reply.to_lowercase().contains("mark"),
                        "{verb}{arguments:.80}: {reply}"
                    );
                    let text = reply.splitn(4, ' ').nth(3).unwrap_or_default();
                    assert!(!text.trim().is_empty(), "{reply}");
                    errors += 1;
                } else if reply.starts_with("OK TALK on") {
                    client.ask("/TALK off").await;
                } else if !reply.starts_with("OK PING") && !reply.starts_with("OK MSG") {
                    // What happened to be right is undone.
                    client.ask("LEAVE").await;
                }
            }
            inside.ask("JOIN LOBBY sam 0").await;
        }
    }
    assert!(errors > 400, "only {errors} errors");
    // Not even the hint repeats, where it would not help: in talk mode.
    inside.ask("TALK on").await;
    let reply = inside.ask("/markmark").await.pop().expect("a reply");
    assert!(reply.starts_with("ERR * unknown-command ") && !reply.contains("mark"), "{reply}");
}

// clause: HELP-1, HELP-2
#[tokio::test]
async fn help_is_counted_and_names_every_command() {
    let server = TestServer::start(Config::default());
    let mut client = Client::pipe(&server, WIDE).await;
    let mut lines = client.ask("HELP").await;
    assert_eq!(lines.pop().expect("a reply"), format!("OK HELP {}", lines.len()));
    assert!(!lines.is_empty());
    for line in &lines {
        let text = line.strip_prefix("HELP ").expect("a data line");
        assert!(!text.trim().is_empty() && line.len() <= 4096, "{line}");
    }
    for verb in VERBS {
        assert!(lines.iter().any(|line| line.contains(verb)), "{verb}");
        let usage = client.ask(&format!("HELP {verb}")).await;
        assert!(usage.len() == 2 && usage[0].starts_with("HELP ") && usage[0].contains(verb));
        assert_eq!(usage[1], "OK HELP 1");
    }
}
