//! What can be set, with the defaults that need no setting.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::protocol::limits::{
    CODE_MIN_CHARS, FIRST_COMMAND_SECS, HANDSHAKE_SECS, HISTORY_MESSAGES, SEND_BUFFER_BYTES,
    STALL_SECS, TOTAL_HISTORY_BYTES,
};
use crate::protocol::{RoomCode, Time};
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// How a server behaves. Every field has a default; set those that matter.
///
/// ```
/// let mut config = parlor::Config::default();
/// config.listen = vec!["127.0.0.1:0".parse().unwrap()];
/// config.history = 50;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; port 0 is any free port, an empty list no TCP at all.
    pub listen: Vec<SocketAddr>,
    /// Where the bridge for browsers listens; it needs the feature `web`.
    pub web: Vec<SocketAddr>,
    /// Speak TLS on every port of `listen` and `web`, and nothing else; it needs the feature `tls`.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
    /// Origins besides its own whose pages may open the bridge's WebSocket: `https://example.org`.
    pub allow_origins: Vec<String>,
    /// Origins whose pages may show the page in a frame; nobody may if there are none.
    pub embed_origins: Vec<String>,
    /// Whether a proxy stands before the bridge, which is believed in `X-Forwarded-For`.
    pub trust_proxy: bool,
    /// Lines a second that a client may send in the long run; 0 is no limit. `None`: 10, and no
    /// limit for loopback, pipes and Unix sockets.
    pub rate: Option<u32>,
    /// Lines that a client may send at once before `rate` counts; at least 1.
    pub burst: u32,
    /// Seconds that `HOLD` keeps a seat when it doesn't say how many; 1 to 600.
    pub hold: u64,
    /// Messages of history a room keeps (never more than 1 MiB of them).
    pub history: usize,
    /// Bytes of history over all rooms, counted in encoded `MSG` lines. Past it the room that has
    /// been silent for longest loses its oldest messages first.
    pub max_history: usize,
    /// Characters of a new room's code; 4 to 16.
    pub code_length: usize,
    /// The room that always exists; `None` for none.
    pub lobby: Option<RoomCode>,
    /// What `OPER` wants to hear; `None`: nobody is an operator.
    pub oper_secret: Option<String>,
    /// Connections at one time, plain HTTP ones to the bridge among them.
    pub max_connections: usize,
    /// Connections and held seats of one address; loopback is exempt.
    pub max_per_address: usize,
    /// Seconds within which the first line of a connection must end, once it has begun.
    pub first_command: u64,
    /// Seconds that a client may take for a TLS handshake, and for the head of an HTTP request.
    pub handshake: u64,
    /// Seconds that a connection may accept no byte while output waits for it.
    pub stall: u64,
    /// Bytes that the kernel may hold for a reader who doesn't read. Linux doubles it, up to a bound
    /// of its own (`net.core.wmem_max`).
    pub send_buffer: usize,
    /// Rooms at one time, the lobby not counted.
    pub max_rooms: usize,
    /// Seats of one room.
    pub max_members: usize,
    /// The file in which a server stores its rooms; `None`: they are in memory only. It needs the
    /// feature `sqlite`.
    pub store: Option<PathBuf>,
    /// Whether a damaged store is replaced by what is sound in it. The damaged file is kept.
    pub salvage: bool,
    /// Log every line both ways, texts and tokens included: for a lab.
    pub trace_wire: bool,
    /// What time it is.
    pub clock: Clock,
    /// Where codes and tokens come from.
    pub random: Random,
    /// How the commits of a store go.
    pub disk: Disk,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, Config::PORT))],
            web: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
            allow_origins: Vec::new(),
            embed_origins: Vec::new(),
            trust_proxy: false,
            rate: None,
            burst: 100,
            hold: 30,
            history: HISTORY_MESSAGES,
            max_history: TOTAL_HISTORY_BYTES,
            code_length: CODE_MIN_CHARS,
            lobby: RoomCode::lobby("LOBBY").ok(),
            oper_secret: None,
            max_connections: 10_000,
            max_per_address: 2_000,
            first_command: FIRST_COMMAND_SECS,
            handshake: HANDSHAKE_SECS,
            stall: STALL_SECS,
            send_buffer: SEND_BUFFER_BYTES,
            max_rooms: 100_000,
            max_members: 10_000,
            store: None,
            salvage: false,
            trace_wire: false,
            clock: Clock::default(),
            random: Random::default(),
            disk: Disk::default(),
        }
    }
}

impl Config {
    /// The port of the line protocol.
    pub const PORT: u16 = 7777;
    /// The port of the bridge.
    pub const WEB_PORT: u16 = 7778;
    /// Lines a second for clients that are paced, if [`rate`](Config::rate) doesn't say.
    pub const RATE: u32 = 10;

    pub(crate) fn speaks_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// Tells the time; the system's, or one's own for tests and simulations.
///
/// Only the times that messages show come from here. Waiting is measured by tokio's clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

/// Fills slices with random bytes; from the system, or one's own for tests and simulations.
#[derive(Clone)]
pub struct Random(Arc<Fill>);

type Fill = dyn Fn(&mut [u8]) + Send + Sync;

/// How the commits of a [`store`](Config::store) go: by default as the file system has it, in a
/// thread of their own. One's own is for simulations.
///
/// With one's own, a task of the runtime in which the server was bound writes the store, and all
/// its waiting is by tokio's clock. What is committed is in the file as ever.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "there is no store to write"))]
pub struct Disk(pub(crate) Option<Arc<Commit>>);

pub(crate) type Commit = dyn Fn() -> Result<Duration, Duration> + Send + Sync;

impl Clock {
    /// A clock of one's own.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Time {
        Time::from((self.0)())
    }
}

impl Random {
    /// A source of one's own. Codes and tokens are as hard to guess as its bytes.
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Random {
        Random(Arc::new(fill))
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        (self.0)(bytes);
    }
}

impl Disk {
    /// A disk of one's own. It is asked how long the next commit takes, from 2 ms on: `Ok` if it
    /// succeeds, `Err` if it fails as on a full disk. Where there is nothing to commit, it is asked
    /// again.
    ///
    /// In the first half of that time gathers what is committed. In the second half it is in the
    /// file, unless the commit fails, and nobody has learned of it yet.
    pub fn new(commit: impl Fn() -> Result<Duration, Duration> + Send + Sync + 'static) -> Disk {
        Disk(Some(Arc::new(commit)))
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new(SystemTime::now)
    }
}

impl Default for Random {
    fn default() -> Random {
        // On Linux this fails only where the system has no randomness at all: then no code and no
        // token may be given out.
        Random::new(|bytes| getrandom::fill(bytes).expect("the system's randomness"))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock(..)")
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Disk(..)" } else { "Disk" })
    }
}
