//! `kill -9` under load, with members on both transports.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::{Place, connect, kill, times};
use crate::binary::Daemon;
use crate::client::Random;
use crate::support::{Client, Reader, number, web_socket};

/// Commands that each member sends at once in each round.
const STEPS: u64 = 400;

/// Messages by their ids: time and text.
type Messages = BTreeMap<u64, (String, String)>;

/// A member of a daemon that is killed, and what he knows.
struct Member {
    room: String,
    name: &'static str,
    /// His n-th command, from 0 on.
    step: fn(&str, u64) -> Option<String>,
    token: String,
    over_web: bool,
    /// Commands that were acknowledged, and all that were sent.
    done: u64,
    sent: u64,
    /// Messages of his own that he knows of.
    said: u64,
    /// The highest id that he has seen.
    last: u64,
    /// What was shown to him or acknowledged since it was looked at.
    messages: Messages,
}

/// Says something.
fn says(name: &str, n: u64) -> Option<String> {
    Some(format!("MSG {name}-{}", n + 1))
}

/// Changes his name, mutes or unmutes eve, says something; and so on.
fn reigns(name: &str, n: u64) -> Option<String> {
    let turn = n / 3;
    Some(match n % 3 {
        0 => format!("NICK {name}{}", turn + 1),
        1 if turn.is_multiple_of(2) => "MUTE eve".to_owned(),
        1 => "UNMUTE eve".to_owned(),
        _ => format!("MSG {name}-{}", turn + 1),
    })
}

fn listens(_: &str, _: u64) -> Option<String> {
    None
}

impl Member {
    fn new(room: &str, name: &'static str, step: fn(&str, u64) -> Option<String>) -> Member {
        Member {
            room: room.to_owned(),
            name,
            step,
            token: String::new(),
            over_web: false,
            done: 0,
            sent: 0,
            said: 0,
            last: 0,
            messages: Messages::new(),
        }
    }

    async fn connect(&self, daemon: &Daemon) -> Client {
        match self.over_web {
            true => Client::over(web_socket(daemon.web_addr()).await).greeted().await,
            false => connect(daemon).await,
        }
    }

    /// The next message in the room's order.
    fn note(&mut self, id: u64, time: &str, text: &str) {
        assert_eq!(id, self.last + 1, "{}: {text}", self.name);
        self.last = id;
        self.messages.insert(id, (time.to_owned(), text.to_owned()));
    }

    fn hear(&mut self, line: &str) {
        let fields: Vec<_> = line.splitn(5, ' ').collect();
        match fields[..] {
            ["OK", "MSG", id, time] => {
                let said = (self.step)(self.name, self.done).expect("a step");
                self.note(
                    id.parse().expect("an id"),
                    time,
                    said.strip_prefix("MSG ").expect("MSG"),
                );
                self.said += 1;
                self.done += 1;
            }
            ["OK", "NICK" | "MUTE" | "UNMUTE", _] => self.done += 1,
            ["MSG", id, time, _, text] => self.note(id.parse().expect("an id"), time, text),
            ["GAP", count] => self.last += count.parse::<u64>().expect("a number"),
            ["ERR", ..] => panic!("{}: {line}", self.name),
            _ => {}
        }
    }

    /// Reads what comes until so many commands are acknowledged.
    async fn read(&mut self, reader: &mut Reader, done: u64) {
        while self.done < done {
            let line = reader.line().await.expect("the daemon runs");
            self.hear(&line);
        }
    }

    /// Comes back: all that he knows is there, and he learns which of his commands were done.
    async fn resume(&mut self, client: &mut Client) {
        let ask = format!("RESUME {} {} {}", self.room, self.token, self.last);
        let lines = client.ask(&ask).await;
        let (reply, lines) = lines.split_last().expect("a reply");
        assert!(reply.starts_with("OK RESUME "), "{}: {reply} to {ask}", self.name);
        let has_gap = lines.first().is_some_and(|line| line.starts_with("GAP "));
        let (known, said) = (self.said, number(reply, 7));
        let mut own = (!has_gap).then_some(known);
        for line in lines {
            self.hear(line);
            let text = line.splitn(5, ' ').nth(4).unwrap_or_default();
            if let Some(n) = text.strip_prefix(self.name).and_then(|n| n.strip_prefix('-')) {
                let n: u64 = n.parse().expect("a number");
                assert!(own.is_none_or(|own| n == own + 1), "{}: {n} after {own:?}", self.name);
                own = Some(n);
            }
        }
        assert!(own.is_none_or(|own| own == said), "{}: {own:?} of {said}", self.name);
        assert_eq!(number(reply, 4), self.last, "{}", self.name);
        self.said = said;
        let users = client.ask("WHO").await;
        let done = self.steps(reply, &users);
        assert!((self.done..=self.sent).contains(&done), "{}: {done} of {}", self.name, self.sent);
        self.done = done;
    }

    /// How many of his commands were done, by what is there of each kind.
    fn steps(&self, reply: &str, users: &[String]) -> u64 {
        if (self.step)(self.name, 0).is_none_or(|step| step.starts_with("MSG ")) {
            return self.said;
        }
        let name = reply.split(' ').nth(3).expect("a name");
        let named = name.strip_prefix(self.name).expect("his name");
        let named = if named.is_empty() { 0 } else { named.parse().expect("a number") };
        assert!(users.contains(&format!("USER {name} here host")), "{users:?}");
        let is_muted =
            users.iter().any(|user| user.starts_with("USER eve ") && user.ends_with("muted"));
        let is_odd = |count: u64| count % 2 == 1;
        match named - self.said {
            0 => {
                assert_eq!(is_muted, is_odd(self.said), "{reply}: {users:?}");
                3 * self.said
            }
            1 if is_muted == is_odd(named) => 3 * self.said + 2,
            1 => 3 * self.said + 1,
            _ => panic!("{reply}: {users:?}"),
        }
    }
}

/// What all have seen of a room.
#[derive(Default)]
struct Seen {
    messages: Messages,
    ids: HashMap<String, u64>,
}

impl Seen {
    fn add(&mut self, messages: Messages) {
        for (id, message) in messages {
            let twin = *self.ids.entry(message.1.clone()).or_insert(id);
            assert_eq!(twin, id, "{message:?} was said twice");
            let known = self.messages.entry(id).or_insert_with(|| message.clone());
            assert_eq!(*known, message, "{id} was two messages");
        }
    }

    fn check_times(&self) {
        let times: Vec<_> = self.messages.values().map(|(time, _)| time).collect();
        assert!(times.is_sorted(), "time went back");
    }
}

/// Two rooms with their members, who have armed their seats.
async fn take_seats(daemon: &Daemon) -> Vec<Member> {
    let mut members = Vec::new();
    for name in ["ann", "ben", "cat"] {
        let mut member = Member::new("LOBBY", name, says);
        let mut client = connect(daemon).await.join("LOBBY", name).await;
        member.token = client.hold(600).await;
        members.push(member);
    }
    let mut dan = Member::new("", "dan", reigns);
    let mut client = connect(daemon).await;
    dan.room = client.create("dan").await;
    dan.token = client.hold(600).await;
    let mut eve = Member::new(&dan.room, "eve", listens);
    eve.token = connect(daemon).await.join(&dan.room, "eve").await.hold(600).await;
    members.extend([dan, eve]);
    members
}

/// Everybody sends; when each has had so many acknowledgements the daemon is killed. What was
/// under way counts as well, but for half a line.
async fn talk_and_kill(daemon: Daemon, clients: Vec<Client>, members: &mut [Member], enough: u64) {
    let talks = clients.into_iter().zip(members.iter_mut()).map(|(client, member)| {
        let steps =
            (member.done..member.done + STEPS).filter_map(|n| (member.step)(member.name, n));
        let lines: Vec<_> = steps.collect();
        member.sent = member.done + lines.len() as u64;
        let target = member.done + enough.min(lines.len() as u64);
        async move {
            let Client { mut reader, mut writer } = client;
            // Who sends must read as well.
            let sending = tokio::spawn(async move {
                let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
                writer.bytes(lines.as_bytes()).await;
                writer
            });
            member.read(&mut reader, target).await;
            (reader, sending)
        }
    });
    let open = futures_util::future::join_all(talks).await;
    let stderr = kill(daemon).await;
    // A commit that a kill has torn is known to be nobody's.
    assert!(!stderr.contains("it isn't known"), "{stderr}");
    for ((mut reader, sending), member) in open.into_iter().zip(members) {
        drop(sending.await);
        let rest = String::from_utf8(reader.all().await).expect("UTF-8");
        let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().for_each(|line| member.hear(line));
    }
}

// clause: STORE-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_or_shown_is_lost_or_doubled_by_kills_under_load() {
    let mut random = Random(7);
    let place = Place::new();
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut starts = Vec::new();
    let rounds = times("PARLOR_KILLS", 30);
    let mut daemon = place.daemon().await;
    let mut members = take_seats(&daemon).await;
    for _ in 0..rounds {
        let mut clients = Vec::new();
        for member in &mut members {
            member.over_web ^= random.below(3) == 0;
            let mut client = member.connect(&daemon).await;
            member.resume(&mut client).await;
            clients.push(client);
        }
        talk_and_kill(daemon, clients, &mut members, random.below(STEPS - 50)).await;
        for member in &mut members {
            let seen = seen.entry(member.room.clone()).or_default();
            seen.add(std::mem::take(&mut member.messages));
        }
        let start = Instant::now();
        daemon = place.daemon().await;
        connect(&daemon).await;
        starts.push(start.elapsed());
    }
    for member in &mut members {
        let mut client = member.connect(&daemon).await;
        member.resume(&mut client).await;
        let seen = seen.entry(member.room.clone()).or_default();
        seen.add(std::mem::take(&mut member.messages));
    }
    kill(daemon).await;
    seen.values().for_each(Seen::check_times);
    report(rounds, &members, starts);
}

fn report(rounds: usize, members: &[Member], mut starts: Vec<Duration>) {
    starts.sort_unstable();
    let done: u64 = members.iter().map(|member| member.done).sum();
    let said: u64 = members.iter().map(|member| member.said).sum();
    println!(
        "{rounds} kills, {done} commands done, {said} of them messages, none lost or doubled; to \
         the greeting {:?} at the median, {:?} at most",
        starts[starts.len() / 2],
        starts[starts.len() - 1],
    );
}
