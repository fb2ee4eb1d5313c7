//! One sequence for all: whatever members do, everybody gets the same messages in the same order.

use std::net::SocketAddr;
use std::sync::Arc;

use parlor::Config;
use tokio::sync::watch;

use crate::client::{Client, Random, TestServer};

const PUBLISHERS: u64 = 8;
const MEMBERS: u64 = 50;
const MESSAGES: u64 = 20_000;
/// Messages that a publisher has under way.
const WINDOW: u64 = 64;

/// What somebody has of the sequence: texts by id, from a first id on, without holes.
#[derive(Default)]
struct Sequence {
    first: u64,
    texts: Vec<String>,
}

impl Sequence {
    fn last(&self) -> u64 {
        self.first + self.texts.len() as u64 - 1
    }

    /// Adds the message of a line `MSG id time name text`.
    fn add(&mut self, id: u64, text: &str) {
        if self.texts.is_empty() {
            self.first = id;
        }
        assert_eq!(id, self.first + self.texts.len() as u64, "a hole or a double");
        self.texts.push(text.to_owned());
    }

    fn add_line(&mut self, line: &str) {
        let fields: Vec<_> = line.splitn(5, ' ').collect();
        match fields[..] {
            ["MSG", id, _, _, text] => self.add(id.parse().expect("an id"), text),
            ["JOINED" | "LEFT", ..] => {}
            _ => panic!("unexpected: {line}"),
        }
    }
}

async fn publish(address: SocketAddr, number: u64, sent: watch::Sender<u64>) -> Sequence {
    let mut client = Client::connect(address).await;
    client.send(&format!("JOIN LOBBY publisher{number} 0")).await;
    while !client.line().await.starts_with("OK JOIN ") {}
    let mine = MESSAGES / PUBLISHERS;
    let (mut said, mut acked, mut sequence) = (0, 0, Sequence::default());
    while sequence.texts.is_empty() || sequence.last() < MESSAGES {
        while said < mine && said < acked + WINDOW {
            client.send(&format!("MSG {number}-{said}")).await;
            said += 1;
        }
        let line = client.line().await;
        match line.strip_prefix("OK MSG ").and_then(|rest| rest.split_once(' ')) {
            Some((id, _)) => {
                sequence.add(id.parse().expect("an id"), &format!("{number}-{acked}"));
                acked += 1;
                sent.send_modify(|all| *all += 1);
            }
            None => sequence.add_line(&line),
        }
    }
    assert_eq!(acked, mine);
    sequence
}

/// A member who joins somewhere in the middle, stalls, breaks off and comes back.
async fn follow(address: SocketAddr, seed: u64, mut sent: watch::Receiver<u64>) -> Sequence {
    let mut random = Random(seed);
    let mut wait_until = async |messages: u64| {
        sent.wait_for(|sent| *sent >= messages.min(MESSAGES)).await.expect("publishers");
    };
    wait_until(random.below(MESSAGES / 2)).await;
    let mut client = Client::connect(address).await;
    client.send(&format!("JOIN LOBBY member{seed} {}", random.below(200))).await;
    let mut sequence = Sequence::default();
    let read_reply = async |client: &mut Client, sequence: &mut Sequence, word: &str| loop {
        let line = client.line().await;
        match line.strip_prefix(word) {
            Some(rest) => break rest.to_owned(),
            None => sequence.add_line(&line),
        }
    };
    read_reply(&mut client, &mut sequence, "OK JOIN LOBBY ").await;
    client.send("HOLD 600").await;
    let token = read_reply(&mut client, &mut sequence, "OK HOLD ").await;
    let token = token.split(' ').next().expect("a token").to_owned();
    while sequence.texts.is_empty() || sequence.last() < MESSAGES {
        match random.below(400) {
            // Stalls: reads nothing while others go on.
            0 if !sequence.texts.is_empty() => {
                wait_until(sequence.last() + random.below(3000)).await;
            }
            // Breaks off, stays away, and takes the seat again; or takes it from a connection
            // that still lives.
            1 | 2 if !sequence.texts.is_empty() => {
                let old = (random.below(2) == 0).then_some(client);
                if old.is_none() {
                    wait_until(sequence.last() + random.below(2000)).await;
                }
                client = Client::connect(address).await;
                client.send(&format!("RESUME LOBBY {token} {}", sequence.last())).await;
                read_reply(&mut client, &mut sequence, "OK RESUME LOBBY ").await;
                drop(old);
            }
            // Asks for an order that must hold in between.
            3 => {
                client.send("PING now").await;
                read_reply(&mut client, &mut sequence, "OK PING now").await;
            }
            _ => sequence.add_line(&client.line().await),
        }
    }
    sequence
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_has_one_same_sequence() {
    let mut config = Config::default();
    config.history = MESSAGES as usize;
    let server = TestServer::start(config);
    let address = server.address;

    let (sent, seen) = watch::channel(0);
    let members: Vec<_> =
        (0..MEMBERS).map(|seed| tokio::spawn(follow(address, seed, seen.clone()))).collect();
    let publishers: Vec<_> =
        (0..PUBLISHERS).map(|n| tokio::spawn(publish(address, n, sent.clone()))).collect();
    let mut sequences = Vec::new();
    for task in publishers.into_iter().chain(members) {
        sequences.push(Arc::new(task.await.expect("a sequence")));
    }

    let mut reader = Client::connect(address).await;
    reader.send("JOIN LOBBY reader 0").await;
    while !reader.line().await.starts_with("OK JOIN ") {}
    reader.send("HISTORY").await;
    let mut history = Sequence::default();
    for _ in 0..MESSAGES {
        history.add_line(&reader.line().await);
    }
    assert_eq!(reader.line().await, format!("OK HISTORY {MESSAGES}"));
    assert_eq!((history.first, history.last()), (1, MESSAGES));
    for sequence in sequences {
        assert_eq!(sequence.last(), MESSAGES);
        let same = &history.texts[sequence.first as usize - 1..];
        assert!(sequence.texts == same, "another order from {} on", sequence.first);
    }
    server.stop().await;
}
