//! Everybody comes back at once to a server that was killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpSocket;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::{Place, kill, times};
use crate::binary::Daemon;
use crate::support::{Client, number};

const MEMBERS_OF_A_ROOM: usize = 100;

/// A client from an address of its own within this machine.
async fn connect(daemon: &Daemon, number: usize) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    let [high, low] = ((number / 250) as u16).to_be_bytes();
    let from = [127, 1 + high, low, 1 + (number % 250) as u8];
    socket.bind((from, 0).into()).expect("an address");
    Client::over(socket.connect(daemon.addr()).await.expect("a connection"))
}

/// How long a client waits for the greeting before it connects again. Where more come at once than
/// the system queues, a connection can be lost that its client believes in.
const GREETING: Duration = Duration::from_secs(5);

async fn greeted(daemon: &Daemon, number: usize) -> Client {
    loop {
        let client = connect(daemon, number).await;
        if let Ok(client) = tokio::time::timeout(GREETING, client.greeted()).await {
            return client;
        }
    }
}

fn command(place: &Place) -> Command {
    let mut command = place.command();
    command.args(["--max-connections", "20000"]);
    command
}

/// People in rooms, with armed seats. Returns what they come back with, and the reply to it.
async fn take_seats(daemon: &Daemon, members: usize) -> Vec<[String; 2]> {
    let rooms = (0..members).step_by(MEMBERS_OF_A_ROOM);
    let rooms = rooms.map(|first| fill_room(daemon, first, MEMBERS_OF_A_ROOM.min(members - first)));
    let rooms: Vec<_> = futures_util::future::join_all(rooms).await;
    // All stay until the last has his seat.
    rooms.into_iter().flat_map(|(seats, _)| seats).collect()
}

/// One room of them; `first` of all are in other rooms.
async fn fill_room(
    daemon: &Daemon,
    first: usize,
    members: usize,
) -> (Vec<[String; 2]>, Vec<Client>) {
    let mut host = greeted(daemon, first).await;
    let code = host.create("m0").await;
    let mut clients = vec![host];
    for number in 1..members {
        let client = greeted(daemon, first + number).await;
        clients.push(client.join(&code, &format!("m{number}")).await);
    }
    let mut seats = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("HOLD 600").await;
        let held = client.reply().await.pop().expect("a reply");
        let token = held.split(' ').nth(2).expect("a token");
        let resume = format!("RESUME {code} {token} 0");
        seats.push([resume, format!("OK RESUME {code} m{number} 0 {members} 0 0")]);
    }
    (seats, clients)
}

/// As many files as the system gives.
fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_finds_his_seat_when_all_come_back_at_once_after_a_kill() {
    raise_files();
    let members = times("PARLOR_MEMBERS", 2000);
    let place = Place::new();
    let daemon = Daemon::spawn(command(&place)).await;
    let seats = take_seats(&daemon, members).await;
    kill(daemon).await;
    let daemon = Arc::new(Daemon::spawn(command(&place)).await);
    let begin = Instant::now();
    let mut returns = JoinSet::new();
    for (number, [resume, wanted]) in seats.into_iter().enumerate() {
        let daemon = daemon.clone();
        returns.spawn(async move {
            let mut client = greeted(&daemon, number).await;
            let lines = client.ask(&resume).await;
            assert_eq!(lines, [wanted]);
            client
        });
    }
    let mut clients = returns.join_all().await;
    println!("{members} members are back after {:?}", begin.elapsed());
    // Nobody has lost his seat to another.
    for client in clients.iter_mut().step_by(MEMBERS_OF_A_ROOM) {
        let users = client.ask("WHO").await;
        let reply = users.last().expect("a reply");
        assert_eq!(number(reply, 2) as usize, users.len() - 1);
        assert!(users.iter().all(|user| !user.contains(" held")), "{reply}");
    }
}
