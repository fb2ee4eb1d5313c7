//! The honest clients: each says something twice a second, and hears all that the others of its
//! room say. Some break their connection now and then, and come back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ledger::Ledger;
use crate::program::Program;
use crate::wire::{Port, Wire};

/// Clients in a room that the attackers don't know.
const IN_PRIVATE: usize = 14;
/// Clients in the lobby, among those who never read.
const IN_LOBBY: usize = 6;
/// All of them. Every second one comes by WebSocket.
pub(crate) const CLIENTS: usize = IN_PRIVATE + IN_LOBBY;
/// From one message of a client to its next.
const PERIOD: Duration = Duration::from_millis(500);
/// Of the clients in private every third breaks its connection so often, and is away so long. In the
/// lobby it would miss what the flood pushes out of the history.
const BREAKS: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_millis(300);
/// How long the last messages may take to come.
const PATIENCE: Duration = Duration::from_secs(15);

/// All honest clients, at work.
pub(crate) struct Honest {
    pub(crate) ledger: Arc<Ledger>,
    work: Vec<JoinHandle<Client>>,
    stop: watch::Sender<bool>,
}

impl Honest {
    pub(crate) async fn enter(program: &Program) -> Honest {
        let ledger = Arc::new(Ledger::new(CLIENTS));
        let ports = [Port::Line(program.line), Port::Web(program.web)];
        let mut room = String::new();
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let enter = match number {
                0 => format!("CREATE {}", name(number)),
                _ if number < IN_PRIVATE => format!("JOIN {room} {} 0", name(number)),
                _ => format!("JOIN LOBBY {} 0", name(number)),
            };
            let client = Client::enter(number, ports[number % 2], enter, ledger.clone()).await;
            let client = client.expect("an honest client comes in");
            if number == 0 {
                room.clone_from(&client.code);
            }
            clients.push(client);
        }
        let (stop, stopped) = watch::channel(false);
        let work = clients.into_iter().map(|client| tokio::spawn(client.work(stopped.clone())));
        Honest { work: work.collect(), ledger, stop }
    }

    /// Everybody says nothing more and waits until all is heard.
    pub(crate) async fn finish(&mut self) {
        self.stop.send_replace(true);
        // Nobody goes before all have heard everything: others would hear of that as well.
        let mut clients = Vec::new();
        for work in self.work.drain(..) {
            clients.push(work.await.expect("an honest client"));
        }
    }
}

struct Client {
    number: usize,
    port: Port,
    wire: Wire,
    code: String,
    /// `None` for who never breaks his connection.
    token: Option<String>,
    ledger: Arc<Ledger>,
    /// The highest id that has come.
    last: u64,
    /// Messages of each client that have come, one's own in a replay.
    heard: Vec<usize>,
    /// Messages that are acknowledged.
    accepted: usize,
    /// Numbers of those that are not.
    unanswered: VecDeque<usize>,
    /// When the client came back for the last time.
    back: Option<Instant>,
    is_silent: bool,
}

fn name(number: usize) -> String {
    format!("honest{number}")
}

fn text(client: usize, number: usize) -> String {
    // Of every length that is usual.
    format!("{client} {number} {}", "so it goes ".repeat(number % 12))
}

impl Client {
    async fn enter(
        number: usize,
        port: Port,
        enter: String,
        ledger: Arc<Ledger>,
    ) -> Result<Client, String> {
        let mut wire = Wire::connect(port).await?;
        let entered = wire.ask(enter).await?;
        let fields: Vec<_> = entered.split(' ').collect();
        let last = fields.get(4).and_then(|id| id.parse().ok()).unwrap_or(0);
        let code = fields.get(2).filter(|_| fields[0] == "OK").ok_or(&entered)?.to_string();
        let mut client = Client {
            number,
            port,
            wire,
            code,
            token: None,
            ledger,
            last,
            heard: vec![0; CLIENTS],
            accepted: 0,
            unanswered: VecDeque::new(),
            back: None,
            is_silent: false,
        };
        if number < IN_PRIVATE && number % 3 == 1 {
            let held = client.wire.ask("HOLD 120".to_owned()).await?;
            let token = held.strip_prefix("OK HOLD ").and_then(|rest| rest.split(' ').next());
            client.token = Some(token.ok_or(&held)?.to_owned());
        }
        Ok(client)
    }

    async fn work(mut self, mut stop: watch::Receiver<bool>) -> Client {
        if let Err(fault) = self.talk(&mut stop).await {
            self.ledger.fault(format!("{}: {fault}", name(self.number)));
            // Nobody waits for him.
            self.be_silent();
        }
        self
    }

    async fn talk(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        // Each at another moment.
        let phase = |period: Duration| period * (self.number as u32 + 1) / CLIENTS as u32;
        let mut due = Instant::now() + phase(PERIOD);
        let mut breaks = Instant::now() + BREAKS + phase(BREAKS);
        let may_break = self.token.is_some();
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                line = self.wire.line() => self.take(line)?,
                () = tokio::time::sleep_until(due.into()) => {
                    self.say(due).await?;
                    due += PERIOD;
                }
                () = tokio::time::sleep_until(breaks.into()), if may_break => {
                    self.come_back().await?;
                    breaks = Instant::now() + BREAKS;
                    // What was due meanwhile nobody could say.
                    due = due.max(Instant::now());
                }
            }
        }
        self.hear_the_rest().await
    }

    async fn say(&mut self, due: Instant) -> Result<(), String> {
        let number = self.accepted + self.unanswered.len();
        self.ledger.says(self.number, number, due);
        self.unanswered.push_back(number);
        self.wire.send(format!("MSG {}", text(self.number, number))).await
    }

    /// Reads until everything has come that the others of the room have said, and nothing else.
    async fn hear_the_rest(&mut self) -> Result<(), String> {
        let until = tokio::time::Instant::now() + PATIENCE;
        while !self.has_all() {
            let tick = tokio::time::sleep(Duration::from_millis(10));
            tokio::select! {
                biased;
                line = self.wire.line() => self.take(line)?,
                () = tokio::time::sleep_until(until) => return Err(self.what_is_missing()),
                () = tick => {}
            }
        }
        self.wire.send("PING all".to_owned()).await?;
        loop {
            match self.wire.line().await {
                Some(pong) if pong == "OK PING all" => return Ok(()),
                line => self.take(line)?,
            }
        }
    }

    fn has_all(&mut self) -> bool {
        if self.unanswered.is_empty() {
            self.be_silent();
        }
        let everybody_is_silent = self.ledger.read().silent == CLIENTS;
        everybody_is_silent && self.fellows().all(|fellow| self.has_all_of(fellow))
    }

    fn be_silent(&mut self) {
        if !std::mem::replace(&mut self.is_silent, true) {
            self.ledger.read().silent += 1;
        }
    }

    fn fellows(&self) -> impl Iterator<Item = usize> + use<> {
        let room = if self.number < IN_PRIVATE { 0..IN_PRIVATE } else { IN_PRIVATE..CLIENTS };
        let me = self.number;
        room.filter(move |number| *number != me)
    }

    fn has_all_of(&self, fellow: usize) -> bool {
        self.heard[fellow] == self.ledger.said(fellow)
    }

    fn what_is_missing(&self) -> String {
        let of = |fellow| format!("{}/{}", self.heard[fellow], self.ledger.said(fellow));
        let missing = self.fellows().filter(|fellow| !self.has_all_of(*fellow));
        let missing: Vec<_> = missing.map(of).collect();
        format!("after {PATIENCE:?} {} without answer, heard {missing:?}", self.unanswered.len())
    }

    /// Breaks the connection, is away for a while, and takes the seat again.
    async fn come_back(&mut self) -> Result<(), String> {
        self.wire = Wire::Broken;
        tokio::time::sleep(AWAY).await;
        self.back = Some(Instant::now());
        self.wire = Wire::connect(self.port).await?;
        let token = self.token.as_deref().unwrap_or_default();
        let resume = format!("RESUME {} {token} {}", self.code, self.last);
        self.wire.send(resume).await?;
        let said: usize = loop {
            let line = self.wire.line().await;
            let resumed = line.as_deref().and_then(|line| line.strip_prefix("OK RESUME "));
            match resumed {
                Some(resumed) => {
                    let said = resumed.split(' ').nth(5).and_then(|said| said.parse().ok());
                    break said.ok_or_else(|| format!("OK RESUME {resumed}"))?;
                }
                None => self.take(line)?,
            }
        };
        self.ledger.read().resumes += 1;
        // One's own that came in the replay, and no others, have arrived.
        if self.accepted != said {
            return Err(format!("{} are acknowledged or replayed of {said}", self.accepted));
        }
        for _ in 0..self.unanswered.len() {
            self.unanswered.pop_back();
        }
        Ok(())
    }

    fn take(&mut self, line: Option<String>) -> Result<(), String> {
        let line = line.ok_or("the connection is closed")?;
        let fields: Vec<_> = line.splitn(5, ' ').collect();
        match fields[..] {
            ["MSG", id, _, speaker, said] => {
                self.see(id)?;
                self.hear(speaker, said)
            }
            ["OK", "MSG", id, _] => {
                self.see(id)?;
                let number = self.unanswered.pop_front().ok_or("an answer to nothing")?;
                self.accepted = number + 1;
                Ok(())
            }
            ["JOINED" | "LEFT" | "RENAMED" | "TELL", ..] => Ok(()),
            _ => Err(format!("{line:.200}")),
        }
    }

    /// Ids have no holes, whoever said it.
    fn see(&mut self, id: &str) -> Result<(), String> {
        let next = self.last + 1;
        if id.parse() != Ok(next) {
            return Err(format!("id {id} came instead of {next}"));
        }
        self.last = next;
        Ok(())
    }

    fn hear(&mut self, speaker: &str, said: &str) -> Result<(), String> {
        let honest = speaker.strip_prefix("honest").and_then(|number| number.parse().ok());
        let Some(honest) = honest.filter(|number| *number < CLIENTS) else { return Ok(()) };
        if honest == self.number {
            // In a replay: it has arrived, though its answer hasn't.
            let number = self.unanswered.pop_front().ok_or("a message of one's own twice")?;
            self.accepted = number + 1;
            return same(said, &text(honest, number));
        }
        let number = self.heard[honest];
        self.heard[honest] += 1;
        self.ledger.heard(honest, number, self.back);
        same(said, &text(honest, number))
    }
}

fn same(said: &str, wanted: &str) -> Result<(), String> {
    if said == wanted { Ok(()) } else { Err(format!("{said:?} came instead of {wanted:?}")) }
}
