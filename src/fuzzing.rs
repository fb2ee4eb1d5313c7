//! Ways in for the fuzz targets, who see what nobody else does; see `fuzz/`.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::reception::Reception;
use crate::room::Hub;
pub use crate::store::fuzzing as store;
use crate::transport::{Answer, LineDecoder, Received, Socket};
use crate::web;

/// Feeds a decoder. Returns what telnet wants to hear at once: `None` is the line that shows that
/// somebody is here.
pub fn feed_telnet(
    decoder: &mut LineDecoder,
    mut bytes: &[u8],
    out: &mut VecDeque<Received>,
) -> Vec<Option<[u8; 3]>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        bytes = &bytes[decoder.feed_some(bytes, out, &mut answers)..];
    }
    let shown = answers.into_iter().map(|answer| match answer {
        Answer::Option(bytes) => Some(bytes),
        Answer::Here => None,
    });
    shown.collect()
}

/// The bridge of a server that listens nowhere.
#[derive(Debug)]
pub struct Bridge(Reception);

impl Bridge {
    /// A bridge of its own. Must be used in a tokio runtime.
    pub fn new(config: Config) -> Bridge {
        Bridge(Reception::new(Hub::new(config)))
    }

    /// Serves what comes over a stream as if it came from this machine to a port of this machine.
    /// The handle tells when that has ended, but for a WebSocket.
    pub fn open(&self, stream: DuplexStream) -> JoinHandle<()> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, Config::WEB_PORT));
        let serving = web::serve(self.0.clone(), web::Entrance::at(here), stream, here);
        self.0.spawn(serving)
    }
}

impl web::Stream for DuplexStream {
    fn socket(&self) -> Option<Socket> {
        None
    }
}
