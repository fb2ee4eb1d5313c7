//! Lines over TCP or over a WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::codec::{Framed, LinesCodec};

/// How long a connection may take to be made, with its greeting.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client's connection. Dropping it breaks it.
pub(crate) enum Wire {
    Tcp(Framed<TcpStream, LinesCodec>),
    WebSocket(Box<WebSocketStream<TcpStream>>),
    /// Between two connections.
    Broken,
}

/// Where a client connects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Port {
    Line(SocketAddr),
    Web(SocketAddr),
}

impl Wire {
    /// Connects, and reads the greeting.
    pub(crate) async fn connect(port: Port) -> Result<Wire, String> {
        let connecting = async {
            let (Port::Line(address) | Port::Web(address)) = port;
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let mut wire = match port {
                Port::Line(_) => Wire::Tcp(Framed::new(stream, LinesCodec::new())),
                Port::Web(_) => {
                    let socket = client_async(format!("ws://{address}/ws"), stream).await;
                    Wire::WebSocket(Box::new(socket.map_err(|error| error.to_string())?.0))
                }
            };
            match wire.line().await {
                Some(hello) if hello.starts_with("HELLO parlor/1 ") => Ok(wire),
                other => Err(format!("{other:?} came instead of a greeting")),
            }
        };
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no greeting within {PATIENCE:?}")),
        }
    }

    /// The next line; `None` at the end. May be given up and asked again.
    pub(crate) async fn line(&mut self) -> Option<String> {
        match self {
            Wire::Tcp(lines) => lines.next().await?.ok(),
            Wire::WebSocket(socket) => loop {
                match socket.next().await?.ok()? {
                    Message::Text(line) => return Some(line.as_str().to_owned()),
                    Message::Close(_) => return None,
                    // The server asks whether anybody is there, and is answered.
                    _ => {}
                }
            },
            Wire::Broken => None,
        }
    }

    pub(crate) async fn send(&mut self, line: String) -> Result<(), String> {
        match self {
            Wire::Tcp(lines) => lines.send(line).await.map_err(|error| error.to_string()),
            Wire::WebSocket(socket) => {
                let sent = socket.send(Message::text(line)).await;
                sent.map_err(|error| error.to_string())
            }
            Wire::Broken => Err("there is no connection".to_owned()),
        }
    }

    /// Sends a line, and returns the reply, without its data lines and the events before it.
    pub(crate) async fn ask(&mut self, line: String) -> Result<String, String> {
        self.send(line).await?;
        loop {
            match self.line().await {
                Some(reply) if reply.starts_with("OK ") || reply.starts_with("ERR ") => {
                    return Ok(reply);
                }
                Some(_) => {}
                None => return Err("the connection is closed".to_owned()),
            }
        }
    }
}
