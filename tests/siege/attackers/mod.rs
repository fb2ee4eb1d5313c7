//! The attackers: thousands of connections that do everything wrong at once.
//!
//! They have threads of their own, which give way to everything else on the machine: out in the
//! world attackers don't share the server's processor.

mod dice;
mod enemy;
mod members;
mod raw;
mod strangers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use enemy::Enemy;

/// Rooms of the attackers' own. In each somebody says as much as he may.
const ROOMS: usize = 40;
/// How long the first attackers take to come, all together.
const MARCH: Duration = Duration::from_secs(2);
/// How long an attacker rests whose attack has ended. Without it, how much memory the server takes
/// would tell how fast attackers come here and now, and no first siege would show it beforehand.
const REST: Duration = Duration::from_millis(500);
/// How long all may take to be gone.
const RETREAT: Duration = Duration::from_secs(10);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal, $name:literal;)*) => {
        /// What an attacker does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            pub(crate) const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// How many do it at one time.
            pub(crate) fn number(self) -> usize {
                match self {
                    $(Kind::$kind => $number,)*
                }
            }

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// Joins a room, or the lobby, and never reads.
    Silent = 5000, "readers that never read";
    /// Says as much as is taken; every second in the lobby doesn't read.
    Talker = 60, "floods of MSG";
    Renamer = 40, "floods of NICK";
    /// Asks for long answers; every second doesn't read them.
    Asker = 40, "floods of WHO, HISTORY";
    /// Tells somebody who doesn't read.
    Teller = 10, "floods of TELL";
    /// Comes, makes rooms, leaves, breaks off with a held seat.
    Visitor = 20, "comers and goers";
    Guesser = 40, "guessers";
    /// A byte now and then, on the line port.
    LineDribbler = 500, "slowloris, lines";
    /// The same in the head of a request.
    WebDribbler = 500, "slowloris, web";
    Babbler = 40, "garbage";
    /// A line, a frame, a message or a head of 500 MiB.
    Endless = 20, "lines of 500 MiB";
    /// Connects and is gone.
    Knocker = 100, "open and close";
    /// Asks the bridge for pages.
    Browser = 20, "floods of HTTP";
}

/// What attackers of one kind have done.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    connections: AtomicU64,
    lines: AtomicU64,
    bytes: AtomicU64,
}

impl Deeds {
    pub(crate) fn read(&self) -> [u64; 3] {
        [&self.connections, &self.lines, &self.bytes].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What all attackers know.
#[derive(Debug)]
pub(crate) struct Field {
    line: SocketAddr,
    web: SocketAddr,
    /// Codes of the attackers' rooms, where there is one.
    rooms: Vec<Mutex<Option<String>>>,
    deeds: Vec<Deeds>,
}

impl Field {
    pub(crate) fn deeds(&self, kind: Kind) -> &Deeds {
        &self.deeds[kind as usize]
    }

    fn room(&self, number: usize) -> Option<String> {
        self.rooms[number % ROOMS].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_room(&self, number: usize, code: Option<String>) {
        *self.rooms[number % ROOMS].lock().unwrap_or_else(PoisonError::into_inner) = code;
    }
}

/// All attackers, at work.
pub(crate) struct Army {
    runtime: Runtime,
    pub(crate) field: Arc<Field>,
}

impl Army {
    pub(crate) fn attack(line: SocketAddr, web: SocketAddr, strength: f64) -> Army {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("attackers")
            .on_thread_start(|| {
                // On Linux this is for the thread alone. Where it may not be, they are rivals.
                rustix::process::setpriority_process(None, 19).ok();
            })
            .enable_all()
            .build()
            .expect("a runtime");
        let rooms = (0..ROOMS).map(|_| Mutex::new(None)).collect();
        let deeds = Kind::ALL.iter().map(|_| Deeds::default()).collect();
        let field = Arc::new(Field { line, web, rooms, deeds });
        for &kind in Kind::ALL {
            let enemies = (kind.number() as f64 * strength) as usize;
            for number in 0..enemies {
                let enemy = Enemy::new(kind, number, field.clone());
                runtime.spawn(enemy.go_on(MARCH.mul_f64(number as f64 / enemies as f64)));
            }
        }
        Army { runtime, field }
    }

    /// All break off where they are.
    pub(crate) async fn withdraw(self) -> Arc<Field> {
        let Army { runtime, field } = self;
        let gone = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(RETREAT));
        gone.await.expect("all attackers are gone");
        field
    }
}
