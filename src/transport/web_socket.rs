//! Lines over a WebSocket: each text frame is one line, both ways.
//!
//! The crate does the reading and the control frames. Lines on their way out are framed in the
//! outbox, so that all readers share their bytes; they are written between the crate's own frames
//! and never inside one: nothing is read while one of ours is half written, and the crate writes
//! only when it reads or when it is told to flush.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::line_stream::drain;
use super::{Intake, Outbox, Received, Socket, Transport, lines};
use crate::protocol::Framing;
use crate::protocol::limits::{FRAME_BYTES, FRAMES_A_READ, PING_INTERVAL, WEB_SOCKET_BUFFER_BYTES};

/// A WebSocket after its handshake.
pub(crate) struct WebSocket<S> {
    frames: WebSocketStream<S>,
    /// The stream, if it is a socket with nothing around it.
    socket: Option<Socket>,
    /// A frame of the crate's is half written.
    is_flushing: bool,
    pings: Interval,
    /// What the peer did wrong, if it did.
    close_code: CloseCode,
    /// How the input has ended, told once what came before is executed.
    failed: Option<io::Error>,
    /// The peer has sent its close frame; the crate has the answer ready.
    is_closing: bool,
}

impl WebSocket<Socket> {
    /// A TCP connection.
    pub(crate) async fn over(stream: TcpStream, read: Vec<u8>) -> WebSocket<Socket> {
        let socket = Socket::new(stream);
        let mut web_socket = WebSocket::new(socket.clone(), read).await;
        web_socket.socket = Some(socket);
        web_socket
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebSocket<S> {
    /// `read`: what was read from the stream behind the handshake.
    pub(crate) async fn new(stream: S, read: Vec<u8>) -> WebSocket<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(WEB_SOCKET_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WEB_SOCKET_BUFFER_BYTES)
            .max_message_size(Some(FRAME_BYTES))
            .max_frame_size(Some(FRAME_BYTES));
        let frames =
            WebSocketStream::from_partially_read(stream, read, Role::Server, Some(config)).await;
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        WebSocket {
            frames,
            socket: None,
            is_flushing: false,
            pings,
            close_code: CloseCode::Normal,
            failed: None,
            is_closing: false,
        }
    }

    /// A silent peer is asked whether it is there, and proxies see that the connection is used.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut frames = Pin::new(&mut self.frames);
        while self.pings.poll_tick(cx).is_ready() {
            if let Poll::Ready(ready) = frames.as_mut().poll_ready(cx) {
                ready?;
                frames.as_mut().start_send(Message::Ping(Bytes::new()))?;
            }
        }
        Ok(())
    }

    /// The connection ends by a mistake of the peer; [`close`](Transport::close) says by which.
    fn mistake(&mut self, error: Error) -> io::Error {
        self.close_code = match &error {
            Error::Capacity(_) => CloseCode::Size,
            Error::Utf8(_) => CloseCode::Invalid,
            Error::Protocol(_) => CloseCode::Protocol,
            _ => return broken(error),
        };
        broken(error)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    const FRAMING: Framing = Framing::Frames;

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Received>,
    ) -> Poll<io::Result<Intake>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if let Err(error) = self.poll_ping(cx) {
            return Poll::Ready(Err(broken(error)));
        }
        let mut intake = Intake::default();
        let mut something = false;
        while inbox.len() < FRAMES_A_READ {
            // A pong that is half written would have a line of ours in it, if this was the last.
            let flushed = Pin::new(&mut self.frames).poll_flush(cx);
            self.is_flushing = flushed.is_pending();
            match flushed {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(error))),
                Poll::Pending if something => break,
                Poll::Pending => return Poll::Pending,
            }
            let message = match Pin::new(&mut self.frames).poll_next(cx) {
                Poll::Ready(message) => message,
                Poll::Pending if something => break,
                Poll::Pending => return Poll::Pending,
            };
            something = true;
            match message {
                Some(Ok(Message::Text(text))) => {
                    intake.bytes += text.len();
                    inbox.push_back(lines::checked(text.as_str().to_owned(), None));
                }
                // A ping has cost as much as a line; its pong is written by the crate.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => intake.surcharge += 1,
                Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                    self.close_code = CloseCode::Unsupported;
                    self.failed = Some(io::ErrorKind::InvalidData.into());
                    break;
                }
                Some(Err(error)) => {
                    self.failed = Some(self.mistake(error));
                    break;
                }
                Some(Ok(Message::Close(_))) | None => {
                    self.is_closing = true;
                    inbox.push_back(Received::Closed);
                    break;
                }
            }
        }
        Poll::Ready(Ok(intake))
    }

    fn poll_send<M: Copy>(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox<M>,
    ) -> Poll<io::Result<usize>> {
        // The answer to a close frame is the last frame: lines go before it.
        if !self.is_closing {
            ready!(Pin::new(&mut self.frames).poll_flush(cx)).map_err(broken)?;
        }
        outbox.poll_write(self.frames.get_mut(), cx)
    }

    fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    fn is_between_frames(&self) -> bool {
        !self.is_flushing && !self.is_closing
    }

    async fn close(&mut self, is_between_lines: bool) {
        // A close frame never stands in the middle of another frame.
        if is_between_lines {
            let frame = CloseFrame { code: self.close_code, reason: Default::default() };
            let _ = match self.is_closing {
                true => self.frames.flush().await,
                false => self.frames.close(Some(frame)).await,
            };
            while let Some(Ok(_)) = self.frames.next().await {}
        }
        // What still comes is read: a close while bytes are unread would take the last frame.
        drain(self.frames.get_mut()).await;
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}
