//! Where connections are admitted, and where their conversations are kept track of.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, info_span};

use crate::bulletin::Bulletin;
use crate::metrics::Limit;
#[cfg(feature = "web")]
use crate::protocol::limits::{QR_REST, QR_WAITING};
use crate::protocol::limits::{STOP, TURNED_AWAY};
use crate::room::{Hub, Visit, Visitors};
use crate::session::{End, Opening, Session, turn_away};
use crate::transport::Transport;

/// Cheap to clone: every clone is the same reception.
#[derive(Debug, Clone)]
pub(crate) struct Reception(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hub: Hub,
    bulletin: Bulletin,
    visitors: Visitors,
    /// Connections that may still come.
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    /// Whose QR code is being made, and the line of those who wait for theirs.
    #[cfg(feature = "web")]
    qr_code: tokio::sync::Mutex<()>,
    /// Requests for QR codes that may still come.
    #[cfg(feature = "web")]
    qr_codes: Semaphore,
    tasks: TaskTracker,
    /// The server takes nobody in any more.
    stopping: CancellationToken,
    /// Ends what has not ended by itself when the server has stopped.
    abort: CancellationToken,
    /// The same for conversations, which look here when they are woken.
    is_aborting: AtomicBool,
    connections: AtomicU64,
}

/// A connection's place among those that there may be.
#[derive(Debug)]
pub(crate) struct Admission {
    visit: Visit,
    _place: OwnedSemaphorePermit,
}

/// Where a connection is while it shakes hands.
#[cfg(feature = "tls")]
#[derive(Debug)]
pub(crate) enum Place {
    /// Among those that there may be.
    Admitted(Admission),
    /// Among those that are told that there is no place.
    TurnedAway(OwnedSemaphorePermit),
}

impl Reception {
    pub(crate) fn new(hub: Hub) -> Reception {
        let places = hub.config().max_connections.min(Semaphore::MAX_PERMITS);
        Reception(Arc::new(Inner {
            hub,
            bulletin: Bulletin::default(),
            visitors: Visitors::default(),
            places: Arc::new(Semaphore::new(places)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            #[cfg(feature = "web")]
            qr_code: tokio::sync::Mutex::default(),
            #[cfg(feature = "web")]
            qr_codes: Semaphore::new(QR_WAITING),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            abort: CancellationToken::new(),
            is_aborting: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        }))
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Connections at this moment.
    pub(crate) fn connections(&self) -> usize {
        self.0.bulletin.connections()
    }

    /// Finds a place for a connection; `None` if a limit is reached, which is counted.
    pub(crate) fn admit(&self, address: Option<SocketAddr>) -> Option<Admission> {
        let Ok(place) = self.0.places.clone().try_acquire_owned() else {
            self.turned_away(address, Limit::MaxConnections);
            return None;
        };
        Some(Admission { visit: self.count(address)?, _place: place })
    }

    fn count(&self, address: Option<SocketAddr>) -> Option<Visit> {
        let most = self.0.hub.config().max_per_address;
        let visit = self.0.visitors.enter(address.map(|address| address.ip()), most);
        visit.map_err(|_| self.turned_away(address, Limit::MaxPerAddress)).ok()
    }

    /// Counts and logs that a connection finds no place.
    pub(crate) fn turned_away(&self, peer: Option<SocketAddr>, limit: Limit) {
        debug!(?peer, limit = limit.as_str(), "turned away");
        self.hub().metrics().reached(limit);
    }

    /// The same place for a connection whose address shows late.
    #[cfg(feature = "web")]
    pub(crate) fn move_to(&self, address: SocketAddr, admission: Admission) -> Option<Admission> {
        Some(Admission { visit: self.count(Some(address))?, ..admission })
    }

    /// Lets one be told that there is no place; `None` if too many are being told, which is counted.
    pub(crate) fn may_turn_away(&self) -> Option<OwnedSemaphorePermit> {
        let permit = self.0.turned_away.clone().try_acquire_owned();
        permit.map_err(|_| self.hub().metrics().reached(Limit::TurnedAway)).ok()
    }

    /// Waits until one more QR code may be made, in the order of asking. False if too many wait.
    #[cfg(feature = "web")]
    pub(crate) async fn wait_for_qr_code(&self) -> bool {
        let Ok(_waiting) = self.0.qr_codes.try_acquire() else {
            self.hub().metrics().reached(Limit::QrCodes);
            return false;
        };
        let turn = match self.0.qr_code.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                self.hub().metrics().reached(Limit::QrCodes);
                self.0.qr_code.lock().await
            }
        };
        tokio::time::sleep(QR_REST).await;
        drop(turn);
        true
    }

    /// Talks with a connection, or tells it that there is no place.
    pub(crate) fn welcome<T>(&self, transport: T, address: Option<SocketAddr>) -> JoinHandle<()>
    where
        T: Transport + Send + 'static,
    {
        match self.admit(address) {
            Some(admission) => self.spawn(self.clone().converse(transport, address, admission)),
            None => {
                let permit = self.may_turn_away();
                self.spawn(async move {
                    // Past even this bound the connection is closed without a word.
                    if let Some(_permit) = permit {
                        turn_away(transport).await;
                    }
                })
            }
        }
    }

    /// A place for a connection that must shake hands before it can be welcomed. `None`: it is
    /// closed without a word.
    #[cfg(feature = "tls")]
    pub(crate) fn find_place(&self, address: SocketAddr) -> Option<Place> {
        match self.admit(Some(address)) {
            Some(admission) => Some(Place::Admitted(admission)),
            None => self.may_turn_away().map(Place::TurnedAway),
        }
    }

    /// Talks with a connection that has a place, or tells it that there is none.
    #[cfg(feature = "tls")]
    pub(crate) async fn converse_at(
        self,
        place: Place,
        transport: impl Transport,
        address: SocketAddr,
    ) {
        match place {
            Place::Admitted(admission) => self.converse(transport, Some(address), admission).await,
            Place::TurnedAway(_permit) => turn_away(transport).await,
        }
    }

    /// A whole conversation, with its lines in the log.
    pub(crate) fn converse<T: Transport>(
        self,
        transport: T,
        address: Option<SocketAddr>,
        admission: Admission,
    ) -> impl Future<Output = ()> {
        let connection = self.0.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let opening = Opening {
            hub: self.0.hub.clone(),
            news: self.0.bulletin.subscribe(),
            is_stranger: !admission.visit.is_exempt(),
            visit: admission.visit.clone(),
        };
        let mut session = Session::new(transport, opening);
        info!(connection, peer = address.map(display), "connected");
        async move {
            // Whose lines they are that the wire's trace shows. Else nobody pays for a span.
            let span = self.hub().config().trace_wire;
            let span = span.then(|| Box::new(info_span!("connection", connection)));
            let mut conversation = pin!(session.run());
            let ended = poll_fn(|cx| match self.0.is_aborting.load(Ordering::Relaxed) {
                true => Poll::Ready(None),
                false => {
                    let _entered = span.as_ref().map(|span| span.enter());
                    conversation.as_mut().poll(cx).map(Some)
                }
            });
            match ended.await {
                Some((end, counts)) => {
                    if matches!(end, End::Tls) {
                        info!(connection, "a TLS hello came on a port that speaks plain lines");
                    }
                    if let Some(limit) = end.limit() {
                        self.hub().metrics().reached(limit);
                    }
                    let (reason, lines, messages) = (end.as_str(), counts.lines, counts.messages);
                    let (bytes_in, bytes_out) = (counts.bytes_in, counts.bytes_out);
                    info!(connection, reason, lines, messages, bytes_in, bytes_out, "ended");
                }
                None => info!(connection, reason = "aborted", "ended"),
            }
            drop(admission);
        }
    }

    /// Runs a task that the server waits for when it stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.0.tasks.spawn(task)
    }

    /// What happened so far, in Prometheus' text format.
    pub(crate) fn metrics(&self) -> String {
        let hub = self.hub();
        hub.metrics().write(self.connections(), hub.rooms_now(), hub.history_bytes())
    }

    /// Completes when the server takes nobody in any more.
    #[cfg(any(feature = "tls", feature = "web"))]
    pub(crate) async fn stopping(&self) {
        self.0.stopping.cancelled().await;
    }

    /// Tells everybody, and returns when all tasks have ended: by themselves, or in the end by
    /// force.
    pub(crate) async fn stop(&self) {
        info!(connections = self.connections(), "stopping");
        self.0.stopping.cancel();
        self.0.bulletin.stop();
        self.0.tasks.close();
        let have_ended = tokio::time::timeout(STOP, self.0.tasks.wait()).await.is_ok();
        // Before anybody is cut off: a room that its people are cut off from stays in the store.
        self.hub().shut_down();
        if !have_ended {
            self.0.abort.cancel();
            self.0.is_aborting.store(true, Ordering::Relaxed);
            self.0.bulletin.stop();
            self.0.tasks.wait().await;
        }
    }
}

#[cfg(test)]
impl Reception {
    /// One of a server that is set to nothing in particular.
    pub(crate) fn usual() -> Reception {
        Reception::new(Hub::new(Default::default()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::transport::LineStream;

    /// An idle connection is its task, its socket and its seat, and the task is the most of it.
    #[tokio::test]
    async fn the_task_of_a_connection_is_small() {
        let reception = Reception::usual();
        let (_there, here) = tokio::io::duplex(1);
        let admission = reception.admit(None).unwrap();
        let lines: LineStream<DuplexStream> = LineStream::new(here, true);
        let conversation = reception.converse(lines, None, admission);
        let bytes = size_of_val(&conversation);
        assert!(bytes <= 736, "{bytes} bytes");
    }
}
