//! The server: bind, accept, admit, drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::bulletin::Bulletin;
use crate::config::Config;
use crate::protocol::limits::{
    ACCEPT_BACKLOG, ACCEPT_REST, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES,
    SEND_BUFFER_BYTES, STOP, TURNED_AWAY, USER_TIMEOUT,
};
use crate::room::{Hub, Visit, Visitors};
use crate::session::{End, Opening, Session, turn_away};

/// A chat server. Cheap to clone: every clone is the same server.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut config = parlor::Config::default();
/// config.listen = vec!["127.0.0.1:0".parse().unwrap()];
/// let server = parlor::Server::bind(config)?;
/// println!("nc {}", server.local_addr().unwrap());
/// let shutdown = async { /* until your program ends */ };
/// server.serve(shutdown).await;
/// # Ok::<(), parlor::BindError>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Hub,
    bulletin: Bulletin,
    visitors: Visitors,
    /// Connections that may still come.
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    /// Bound and not accepted from yet; [`Server::serve`] takes them.
    listeners: Mutex<Vec<TcpListener>>,
    addresses: Vec<SocketAddr>,
    sessions: TaskTracker,
    /// Ends sessions that have not ended by themselves when the server has stopped.
    abort: CancellationToken,
    connections: AtomicU64,
}

/// Where an attached stream comes from; see [`Server::attach_from`].
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Origin {
    /// The client's address, for the limits per address. `None` counts as loopback.
    pub address: Option<SocketAddr>,
    /// Whether telnet's sequences and editing keys are taken for what they are.
    pub telnet: bool,
}

/// An address could not be listened on.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl Server {
    /// Binds every address of [`Config::listen`]. Must be called in a tokio runtime.
    ///
    /// Fails with the first address that can't be listened on.
    pub fn bind(config: Config) -> Result<Server, BindError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for &address in &config.listen {
            let bound = listen(address).and_then(|listener| {
                addresses.push(listener.local_addr()?);
                Ok(listener)
            });
            listeners.push(bound.map_err(|source| BindError { address, source })?);
        }
        Ok(Server(Arc::new(Inner {
            places: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            hub: Hub::new(config),
            bulletin: Bulletin::default(),
            visitors: Visitors::default(),
            listeners: Mutex::new(listeners),
            addresses,
            sessions: TaskTracker::new(),
            abort: CancellationToken::new(),
            connections: AtomicU64::new(0),
        })))
    }

    /// The first address that is bound, with its real port; `None` if there is none.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.addresses.first().copied()
    }

    /// All addresses that are bound, in the order of [`Config::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    /// The rooms, for members without a connection.
    pub fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Talks with a client over any stream: a pipe, a Unix socket, TLS.
    ///
    /// It has no address, counts as loopback, and has telnet off. The task ends with the
    /// connection, or when the server stops; the handle need not be kept.
    pub fn attach<S>(&self, stream: S) -> JoinHandle<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.attach_from(stream, Origin::default())
    }

    /// The same for a stream whose client has an address, or telnet: TLS of one's own, say.
    pub fn attach_from<S>(&self, stream: S, origin: Origin) -> JoinHandle<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match self.admit(origin.address) {
            Ok((place, visit)) => self.spawn(stream, origin, place, visit),
            Err(_) => self.0.sessions.spawn(turn_away(stream)),
        }
    }

    /// Serves until `shutdown` completes; then stops accepting, tells everybody, finishes what was
    /// received, and returns when all connections have ended, within 10 seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let listeners: Vec<_> = {
            let mut bound = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *bound)
        };
        // Dropping the set ends accepting and closes the listeners.
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(self.clone().accept(listener));
        }
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.0.hub.keep_expiring() => {}
        }
        accepting.shutdown().await;
        info!(connections = self.0.bulletin.connections(), "stopping");
        self.0.bulletin.stop();
        self.0.sessions.close();
        if tokio::time::timeout(STOP, self.0.sessions.wait()).await.is_err() {
            self.0.abort.cancel();
            self.0.sessions.wait().await;
        }
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => self.welcome(stream, address),
                // The peer was gone before it was accepted: the next one is not.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // No file or no memory: trying again at once would only spin.
                    warn!(%error, "cannot accept");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    fn welcome(&self, stream: TcpStream, address: SocketAddr) {
        let origin = Origin { address: Some(address), telnet: true };
        match self.admit(origin.address) {
            Ok((place, visit)) => drop(self.spawn(stream, origin, place, visit)),
            // Past even this bound the connection is closed without a word.
            Err(limit) => {
                debug!(peer = %address, limit, "turned away");
                if let Ok(permit) = self.0.turned_away.clone().try_acquire_owned() {
                    self.0.sessions.spawn(async move {
                        turn_away(stream).await;
                        drop(permit);
                    });
                }
            }
        }
    }

    /// Finds a place for a connection, or tells which limit has none.
    fn admit(
        &self,
        address: Option<SocketAddr>,
    ) -> Result<(OwnedSemaphorePermit, Visit), &'static str> {
        let place = self.0.places.clone().try_acquire_owned().map_err(|_| "max-connections")?;
        let most = self.0.hub.config().max_per_address;
        let visit = self.0.visitors.enter(address.map(|address| address.ip()), most);
        Ok((place, visit.map_err(|_| "max-per-address")?))
    }

    fn spawn<S>(
        &self,
        stream: S,
        origin: Origin,
        place: OwnedSemaphorePermit,
        visit: Visit,
    ) -> JoinHandle<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let span = match origin.address {
            Some(peer) => info_span!("connection", connection, %peer),
            None => info_span!("connection", connection),
        };
        let is_stranger = !visit.is_exempt();
        let opening = Opening {
            hub: self.0.hub.clone(),
            news: self.0.bulletin.subscribe(),
            visit,
            telnet: origin.telnet,
            is_stranger,
        };
        let abort = self.0.abort.clone();
        let conversation = async move {
            info!("connected");
            let session = Session::new(stream, opening);
            if let Some((end, counts)) = abort.run_until_cancelled(session.run()).await {
                if matches!(end, End::Tls) {
                    info!("a TLS hello came on a port that speaks plain lines");
                }
                let (reason, lines, messages) = (end.as_str(), counts.lines, counts.messages);
                let (bytes_in, bytes_out) = (counts.bytes_in, counts.bytes_out);
                info!(reason, lines, messages, bytes_in, bytes_out, "ended");
            } else {
                info!(reason = "aborted", "ended");
            }
            drop(place);
        };
        self.0.sessions.spawn(conversation.instrument(span))
    }
}

/// A listener with what every accepted connection inherits from it on Linux.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for old connections to be forgotten.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All interfaces means both families.
        socket.set_only_v6(false)?;
    }
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(ACCEPT_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl BindError {
    /// The address that can't be listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether somebody else listens there.
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
