//! The server: bind, serve, drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::accept::accept;
use crate::config::Config;
use crate::door::Door;
use crate::protocol::limits::{
    ACCEPT_BACKLOG, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, RECEIVE_BUFFER_BYTES,
    UNACKNOWLEDGED,
};
use crate::reception::Reception;
use crate::room::Hub;
use crate::store::{self, Store, StoreError};
use crate::transport::LineStream;
#[cfg(feature = "web")]
use crate::web;

/// A chat server. Cheap to clone: every clone is the same server.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let mut config = parlor::Config::default();
/// config.listen = vec!["127.0.0.1:0".parse().unwrap()];
/// let server = parlor::Server::bind(config)?;
/// println!("nc 127.0.0.1 {}", server.local_addr().unwrap().port());
/// let shutdown = async { /* until your program ends */ };
/// server.serve(shutdown).await;
/// # Ok::<(), parlor::BindError>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Server(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reception: Reception,
    /// Bound and not accepted from yet; [`Server::serve`] takes them.
    listeners: Mutex<Vec<(Door, TcpListener)>>,
    store: Mutex<Option<Store>>,
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

/// An address could not be listened on, or the store not be opened.
#[derive(Debug)]
pub struct BindError(Failed);

#[derive(Debug)]
enum Failed {
    Address(SocketAddr, io::Error),
    Store(StoreError),
}

impl Server {
    /// Binds every address of [`Config::listen`] and [`Config::web`], and opens and loads
    /// [`Config::store`], which blocks meanwhile. Must be called in a tokio runtime.
    ///
    /// Fails with the first address that can't be listened on, or because of the store.
    pub fn bind(config: Config) -> Result<Server, BindError> {
        Server::bind_with(config, Vec::new(), Vec::new())
    }

    /// The same, and takes over listeners that are bound already, by a service manager say: `lines`
    /// for the line protocol and `web` for the bridge. They come before those of the configuration.
    ///
    /// Fails as [`bind`](Server::bind), or if a listener can't be set to what the server needs.
    pub fn bind_with(
        mut config: Config,
        lines: Vec<std::net::TcpListener>,
        web: Vec<std::net::TcpListener>,
    ) -> Result<Server, BindError> {
        let mut listeners = Vec::new();
        config.listen = gather(lines, &config.listen, &config, |_| Door::Lines, &mut listeners)?;
        #[cfg(feature = "web")]
        {
            let door = |bound| Door::Web(web::Entrance::at(bound));
            config.web = gather(web, &config.web, &config, door, &mut listeners)?;
        }
        #[cfg(not(feature = "web"))]
        {
            drop(web);
            config.web = Vec::new();
        }
        // From here on the configuration tells the ports that are really bound.
        let (store, keeper, rooms) = match &config.store {
            None => (None, None, Vec::new()),
            Some(file) => {
                let opened = store::open(file, config.salvage, &config.disk);
                let (store, keeper, rooms) = opened.map_err(|why| BindError(Failed::Store(why)))?;
                (Some(store), Some(keeper), rooms)
            }
        };
        let reception = Reception::new(Hub::kept(config, keeper, rooms));
        let (listeners, store) = (Mutex::new(listeners), Mutex::new(store));
        Ok(Server(Arc::new(Inner { reception, listeners, store })))
    }

    /// The first address that lines are spoken on, with its real port; `None` if there is none.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addrs().first().copied()
    }

    /// All addresses that lines are spoken on, in the order of [`Config::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.hub().config().listen
    }

    /// All addresses of the bridge, in the order of [`Config::web`].
    pub fn web_addrs(&self) -> &[SocketAddr] {
        &self.hub().config().web
    }

    /// The rooms, for members without a connection.
    pub fn hub(&self) -> &Hub {
        self.0.reception.hub()
    }

    /// What happened so far, in Prometheus' text format; never a room, a name or an address.
    pub fn metrics(&self) -> String {
        self.0.reception.metrics()
    }

    /// Talks with a client over any stream: a pipe, a Unix socket, TLS.
    ///
    /// It has no address, counts as loopback, and has telnet off. The conversation goes on by
    /// itself until the connection ends or the server stops; the handle, which tells when, need
    /// not be kept. [`serve`](Server::serve) must be running for held seats to end in time.
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
        self.0.reception.welcome(LineStream::new(stream, origin.telnet), origin.address)
    }

    /// Serves until `shutdown` completes; then stops accepting, tells everybody, finishes what was
    /// received, and returns when all connections have ended and all is stored, within 10 seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let listeners: Vec<_> = {
            let mut bound = self.0.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *bound)
        };
        // Dropping the set ends accepting and closes the listeners.
        let mut accepting = JoinSet::new();
        for (door, listener) in listeners {
            accepting.spawn(accept(self.0.reception.clone(), door, listener));
        }
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.0.reception.hub().keep_expiring() => {}
        }
        accepting.shutdown().await;
        self.0.reception.stop().await;
        self.hub().close_keeper();
        let store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(store) = store {
            store.ended().await;
        }
    }
}

/// Adds listeners, those that are given and then those of the addresses, each with its door;
/// returns where they listen.
fn gather(
    given: Vec<std::net::TcpListener>,
    addresses: &[SocketAddr],
    config: &Config,
    door: fn(SocketAddr) -> Door,
    listeners: &mut Vec<(Door, TcpListener)>,
) -> Result<Vec<SocketAddr>, BindError> {
    let given = given.into_iter().map(|listener| {
        let address = listener.local_addr();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        (address.unwrap_or(unknown), ready(Socket::from(listener), config))
    });
    let bound = addresses.iter().map(|address| (*address, listen(*address, config)));
    let all = given.chain(bound).map(|(address, listener)| {
        let bound = listener.and_then(|listener| {
            let bound = listener.local_addr()?;
            listeners.push((door(bound), listener));
            Ok(bound)
        });
        bound.map_err(|source| BindError(Failed::Address(address, source)))
    });
    all.collect()
}

fn listen(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for old connections to be forgotten.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // All interfaces means both families.
        socket.set_only_v6(false)?;
    }
    socket.bind(&SockAddr::from(address))?;
    socket.listen(ACCEPT_BACKLOG)?;
    ready(socket, config)
}

/// Gives a listener what every accepted connection inherits from it on Linux.
fn ready(socket: Socket, config: &Config) -> io::Result<TcpListener> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        let patience = Duration::from_secs(config.stall).saturating_add(UNACKNOWLEDGED);
        socket.set_tcp_user_timeout(Some(patience))?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(config.send_buffer)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

impl BindError {
    /// The address that can't be listened on, if it is about one.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.0 {
            Failed::Address(address, _) => Some(*address),
            Failed::Store(_) => None,
        }
    }

    /// Why the store can't be opened, if it is about that.
    pub fn store(&self) -> Option<&StoreError> {
        match &self.0 {
            Failed::Address(..) => None,
            Failed::Store(why) => Some(why),
        }
    }

    /// Whether somebody else listens there.
    pub fn is_in_use(&self) -> bool {
        matches!(&self.0, Failed::Address(_, why) if why.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failed::Address(address, why) => write!(f, "cannot listen on {address}: {why}"),
            Failed::Store(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Failed::Address(_, why) => Some(why),
            Failed::Store(why) => Some(why),
        }
    }
}
