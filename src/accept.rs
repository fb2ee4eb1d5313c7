//! Accepting connections, also when the system has no file left for them.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::task::Poll;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::door::Door;
use crate::metrics::Limit;
use crate::protocol::limits::{ACCEPT_REST, READ_BYTES, TURNED_AWAY_READS};
use crate::reception::Reception;

/// Accepts connections for ever.
pub(crate) async fn accept(reception: Reception, door: Door, listener: TcpListener) {
    // A file that is held back: a connection that there is none for can still be told so.
    let mut spare = hold_back();
    let mut was_warned = false;
    loop {
        let error = match listener.accept().await {
            Ok((stream, address)) => {
                door.open(&reception, stream, address);
                was_warned = false;
                continue;
            }
            // The peer was gone before it was accepted: the next one is not.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => error,
        };
        let Some(file) = spare.take() else {
            // Trying again at once would only spin.
            tokio::time::sleep(ACCEPT_REST).await;
            spare = hold_back();
            continue;
        };
        drop(file);
        spare = match accept_now(&listener).await {
            // The system wants a file even to say that nobody is there.
            Poll::Pending => hold_back(),
            Poll::Ready(accepted) => {
                if !was_warned {
                    warn!(%error, "cannot accept");
                    was_warned = true;
                }
                accepted.ok().and_then(|(stream, peer)| {
                    reception.turned_away(Some(peer), Limit::Files);
                    // Closed, its file would be anybody's: it is held back until the next comes.
                    part(stream, &door.busy(&reception)).ok()
                })
            }
        };
    }
}

fn hold_back() -> Option<Socket> {
    Socket::new(Domain::IPV4, Type::DGRAM, None).ok()
}

/// Who stands before the door now; pending if nobody does.
async fn accept_now(listener: &TcpListener) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
}

/// Says the last words at once, and ends the connection for its peer.
fn part(stream: TcpStream, words: &str) -> io::Result<Socket> {
    let mut stream = stream.into_std()?;
    // To close while bytes are unread would take the words from the peer.
    let mut bytes = [0; READ_BYTES];
    for _ in 0..TURNED_AWAY_READS {
        if !stream.read(&mut bytes).is_ok_and(|bytes| bytes > 0) {
            break;
        }
    }
    stream.write_all(words.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    Ok(stream.into())
}
