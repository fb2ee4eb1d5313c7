//! One attacker, who begins anew each time that his attack has ended.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::dice::Dice;
use super::raw::{Gate, Raw};
use super::{Field, Kind, REST};

pub(super) struct Enemy {
    pub(super) kind: Kind,
    pub(super) number: usize,
    pub(super) field: Arc<Field>,
    pub(super) dice: Dice,
    /// How often he has come.
    pub(super) round: u64,
}

impl Enemy {
    pub(super) fn new(kind: Kind, number: usize, field: Arc<Field>) -> Enemy {
        let dice = Dice::new(((kind as u64) << 32) | (number as u64 + 1));
        Enemy { kind, number, field, dice, round: 0 }
    }

    pub(super) async fn go_on(mut self, delay: Duration) {
        sleep(delay).await;
        loop {
            self.round += 1;
            // How it ended is the server's business.
            let _ = self.attack().await;
            sleep(REST).await;
        }
    }

    async fn attack(&mut self) -> io::Result<()> {
        match self.kind {
            Kind::Silent => self.be_silent().await,
            Kind::Talker => self.flood_with_messages().await,
            Kind::Renamer => self.flood_with_names().await,
            Kind::Asker => self.flood_with_questions().await,
            Kind::Teller => self.flood_one_member().await,
            Kind::Visitor => self.come_and_go().await,
            Kind::Guesser => self.guess().await,
            Kind::LineDribbler => self.dribble_a_line().await,
            Kind::WebDribbler => self.dribble_a_head().await,
            Kind::Babbler => self.babble().await,
            Kind::Endless => self.never_end_a_line().await,
            Kind::Knocker => self.knock().await,
            Kind::Browser => self.browse().await,
        }
    }

    pub(super) async fn connect(&mut self, gate: Gate) -> io::Result<Raw> {
        Raw::connect(gate, &self.field, self.kind, &mut self.dice).await
    }

    /// For who may come by either: every third by WebSocket.
    pub(super) fn gate(&mut self) -> Gate {
        match self.number % 3 {
            0 => self.socket(1 << 16),
            _ => Gate::Line,
        }
    }

    /// A WebSocket of one of so many addresses, none of them this machine's.
    pub(super) fn socket(&mut self, addresses: u64) -> Gate {
        let [.., high, low] = (self.dice.within(0..addresses) as u32).to_be_bytes();
        Gate::Socket { forwarded_for: Ipv4Addr::new(198, 18, high, low) }
    }

    /// A name that nobody else has.
    pub(super) fn name(&self) -> String {
        let kind = char::from(b'a' + self.kind as u8);
        format!("{kind}{}x{}", self.number, self.round)
    }

    /// The lobby, or a room of the attackers'.
    pub(super) fn room(&self) -> Option<String> {
        match self.number % 5 {
            0 => Some("LOBBY".to_owned()),
            _ => self.field.room(self.number),
        }
    }
}
