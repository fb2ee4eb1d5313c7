//! Attackers who sit in rooms.

use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::ROOMS;
use super::enemy::Enemy;
use super::raw::{Gate, Raw};

/// Bytes of a flood's text.
const TEXT_BYTES: usize = 1800;
/// Lines that are written at one time.
const LINES: usize = 16;
/// Who never reads breaks off himself after so many seconds, unless he was thrown out before.
const SILENCE: std::ops::Range<u64> = 6..14;
/// People who tell the same deaf one.
const TELLERS: usize = 5;

impl Enemy {
    /// Joins and reads nothing, not even the greeting.
    pub(super) async fn be_silent(&mut self) -> io::Result<()> {
        let mut raw = self.join().await?;
        let seconds = self.dice.within(SILENCE);
        sleep(Duration::from_secs(seconds)).await;
        // Who was thrown out before notices it here.
        raw.tell(&["PING"]).await
    }

    /// The first make the attackers' rooms, the others sit in the lobby.
    pub(super) async fn flood_with_messages(&mut self) -> io::Result<()> {
        let lines = vec![format!("MSG {}", "x".repeat(TEXT_BYTES)); LINES];
        if self.number < ROOMS {
            let mut raw = self.connect(Gate::Line).await?;
            let code = create(&mut raw, &self.name()).await?;
            self.field.set_room(self.number, Some(code));
            let ended = async {
                loop {
                    raw.talk(&lines).await?
                }
            }
            .await;
            self.field.set_room(self.number, None);
            return ended;
        }
        let gate = self.gate();
        let mut raw = self.connect(gate).await?;
        raw.tell(&[format!("JOIN LOBBY {}", self.name())]).await?;
        self.flood(&mut raw, &lines).await
    }

    pub(super) async fn flood_with_names(&mut self) -> io::Result<()> {
        let mut raw = self.join().await?;
        let name = self.name();
        let lines: Vec<_> = (0..LINES).map(|n| format!("NICK {name}n{}", n % 2)).collect();
        loop {
            raw.talk(&lines).await?;
        }
    }

    pub(super) async fn flood_with_questions(&mut self) -> io::Result<()> {
        let mut raw = self.join().await?;
        let lines: Vec<_> = ["WHO", "HISTORY 1000", "HELP", "WHO"].repeat(LINES / 4);
        self.flood(&mut raw, &lines).await
    }

    /// Every second reads what comes meanwhile.
    async fn flood<L: AsRef<str>>(&self, raw: &mut Raw, lines: &[L]) -> io::Result<()> {
        loop {
            match self.number % 2 {
                0 => raw.talk(lines).await?,
                _ => raw.tell(lines).await?,
            }
        }
    }

    /// Some in a room tell one who doesn't listen.
    pub(super) async fn flood_one_member(&mut self) -> io::Result<()> {
        let mut first = self.connect(Gate::Line).await?;
        let code = create(&mut first, "first").await?;
        let mut deaf = self.connect(Gate::Line).await?;
        deaf.tell(&[format!("JOIN {code} deaf"), "HOLD 1".to_owned()]).await?;
        let lines = vec![format!("TELL deaf {}", "x".repeat(TEXT_BYTES)); LINES];
        let mut others = Vec::new();
        for number in 1..TELLERS {
            let mut other = self.connect(Gate::Line).await?;
            other.tell(&[format!("JOIN {code} other{number}")]).await?;
            others.push(other);
        }
        let end = Duration::from_secs(self.dice.within(SILENCE));
        let all = async {
            loop {
                for raw in std::iter::once(&mut first).chain(&mut others) {
                    raw.talk(&lines).await?;
                }
            }
        };
        timeout(end, all).await?
    }

    /// Makes rooms and leaves them, and breaks off with a seat that is held a second.
    pub(super) async fn come_and_go(&mut self) -> io::Result<()> {
        let gate = self.gate();
        let mut raw = self.connect(gate).await?;
        let name = self.name();
        let mut lines = vec![format!("JOIN LOBBY {name} 1000"), "HOLD 1".to_owned()];
        if !self.round.is_multiple_of(4) {
            lines.extend(["LEAVE".to_owned(), format!("CREATE {name}"), "MSG one".to_owned()]);
            lines.extend(["LEAVE".to_owned(), "CREATE".to_owned(), "QUIT".to_owned()]);
        }
        raw.talk(&lines).await
    }

    async fn join(&mut self) -> io::Result<Raw> {
        let room = self.room().ok_or(io::ErrorKind::NotFound)?;
        let gate = self.gate();
        let mut raw = self.connect(gate).await?;
        raw.tell(&[format!("JOIN {room} {}", self.name())]).await?;
        Ok(raw)
    }
}

/// Makes a room; returns its code.
async fn create(raw: &mut Raw, name: &str) -> io::Result<String> {
    raw.tell(&[format!("CREATE {name}")]).await?;
    let lines = raw.read_until(&format!(" {name}\n")).await?;
    let created = lines.lines().find_map(|line| line.strip_prefix("OK CREATE "));
    let code = created.and_then(|rest| rest.split(' ').next());
    code.map(str::to_owned).ok_or_else(|| io::Error::other(lines))
}
