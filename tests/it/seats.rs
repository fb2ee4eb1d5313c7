//! A seat survives a broken connection, and nobody notices.

use std::time::Duration;

use parlor::{Config, Event, Refusal};
use tokio::io::AsyncWriteExt;

use crate::client::{Client, TestServer};

/// The code of a new room, and the one who made it.
async fn room(server: &TestServer) -> (Client, String) {
    let mut owner = Client::connect(server.address).await;
    owner.send("CREATE owner").await;
    let rest = owner.expect("OK CREATE ").await;
    let code = rest.split(' ').next().expect("a code").to_owned();
    (owner, code)
}

async fn resume(
    server: &TestServer,
    code: &str,
    token: &str,
    last: u64,
) -> (Client, Vec<String>, String) {
    let mut client = Client::connect(server.address).await;
    client.send(&format!("RESUME {code} {token} {last}")).await;
    let mut replay = Vec::new();
    loop {
        let line = client.line().await;
        match line.strip_prefix("OK RESUME ") {
            Some(reply) => return (client, replay, reply.to_owned()),
            None => replay.push(line),
        }
    }
}

/// What is left of `MSG id time name text`.
fn id_and_text(line: &str) -> (u64, String) {
    let fields: Vec<_> = line.splitn(5, ' ').collect();
    assert_eq!((fields[0], fields.len()), ("MSG", 5), "{line}");
    (fields[1].parse().expect("an id"), fields[4].to_owned())
}

#[tokio::test]
async fn the_only_member_resumes_ten_times_from_broken_and_from_open_connections() {
    let server = TestServer::start(Config::default());
    let (mut owner, code) = room(&server).await;
    let token = owner.hold(60).await;
    let mut said = 0;
    let mut still_open = Vec::new();
    for round in 0..10 {
        for _ in 0..3 {
            said += 1;
            owner.send(&format!("MSG message {said}")).await;
            owner.expect(&format!("OK MSG {said} ")).await;
        }
        if round % 2 == 0 {
            drop(owner);
        } else {
            still_open.push(owner);
        }
        // He knows all but the latest two.
        let (client, replay, reply) = resume(&server, &code, &token, said - 2).await;
        let expected: Vec<_> = (said - 1..=said).map(|id| (id, format!("message {id}"))).collect();
        assert_eq!(replay.iter().map(|line| id_and_text(line)).collect::<Vec<_>>(), expected);
        assert_eq!(reply, format!("{code} owner {said} 1 2 {said}"));
        owner = client;
        if let Some(mut old) = still_open.pop() {
            old.expect("BYE replaced ").await;
            assert_eq!(old.line_or_end().await, None);
        }
    }
    owner.send("HISTORY").await;
    for id in 1..=said {
        assert_eq!(id_and_text(&owner.line().await), (id, format!("message {id}")));
    }
    owner.expect(&format!("OK HISTORY {said}")).await;
    owner.send("WHO").await;
    owner.expect("USER owner here host").await;
    owner.expect("OK WHO 1").await;
    server.stop().await;
}

#[tokio::test]
async fn nobody_sees_a_member_resume() {
    let server = TestServer::start(Config::default());
    let (mut owner, code) = room(&server).await;
    let mut member = Client::join(server.address, &code, "member").await;
    owner.expect("JOINED member").await;
    let token = member.hold(60).await;
    let mut last = 0;
    for round in 0..10u64 {
        let old = (round % 2 == 0).then_some(member);
        owner.send(&format!("MSG during break {round}")).await;
        owner.expect("OK MSG ").await;
        let (client, replay, _) = resume(&server, &code, &token, last).await;
        // From an open connection the message may have come before the break as well: it was not
        // read there, so the replay has it.
        let ids: Vec<_> = replay.iter().map(|line| id_and_text(line).0).collect();
        assert_eq!(ids, [last + 1]);
        member = client;
        member.send(&format!("MSG back {round}")).await;
        last += 2;
        member.expect(&format!("OK MSG {last} ")).await;
        assert_eq!(id_and_text(&owner.line().await), (last, format!("back {round}")));
        drop(old);
    }
    owner.expect_nothing().await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unused_hold_ends_in_exactly_one_left_and_the_room_goes_with_the_last() {
    let server = TestServer::start(Config::default());
    let hub = server.server.hub().clone();
    let code = hub.create().expect("a room");
    let mut watcher = hub.join(code.as_str(), "watcher").expect("a seat");
    let (mut here, there) = tokio::io::duplex(4096);
    server.server.attach(there);
    let script = format!("JOIN {code} member\nHOLD 120\n");
    here.write_all(script.as_bytes()).await.expect("a write");
    let joined = Event::Joined { name: "member".into() };
    assert_eq!(watcher.next().await, Some(joined));
    // One write is one turn: whoever sees him join has his HOLD before the end of his input.
    drop(here);
    let left = watcher.next().await.expect("an event");
    assert_eq!(left.to_string(), "LEFT member lost");
    let nothing_more = tokio::time::timeout(Duration::from_secs(3600), watcher.next()).await;
    assert!(nothing_more.is_err(), "{nothing_more:?}");
    drop(watcher);
    let gone = hub.join(code.as_str(), "late").expect_err("the room is gone");
    assert_eq!(gone, Refusal::NoSuchRoom);
    server.stop().await;
}
