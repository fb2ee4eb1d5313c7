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
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::line_stream::drain;
use super::metered::Metered;
use super::{Intake, Outbox, Received, Socket, Transport, lines};
use crate::protocol::Framing;
use crate::protocol::limits::{
    FRAME_BYTES, FRAMES_A_READ, PACE_BYTES, PING_INTERVAL, WEB_SOCKET_BUFFER_BYTES,
};

/// Bytes of the header of a client's frame, as long as it may be here: two, two of length, a mask.
const HEADER_BYTES: usize = 8;

/// A WebSocket after its handshake.
pub(crate) struct WebSocket<S> {
    frames: WebSocketStream<Metered<S>>,
    /// The stream, if it is a socket with nothing around it.
    socket: Option<Socket>,
    /// A frame of the crate's is half written.
    is_flushing: bool,
    pings: Interval,
    /// Bytes read since the last message.
    unfinished: usize,
    /// Bytes read that belong to no message yet, whatever control frames came between them.
    begun: usize,
    /// What they have cost already, in lines.
    charged: usize,
    /// What the peer did wrong, if it did.
    close_code: CloseCode,
    /// How the input has ended, told once what came before is executed.
    failed: Option<io::Error>,
    /// The peer has sent its close frame; the crate has the answer ready.
    is_closing: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebSocket<S> {
    /// `socket`: the stream, if it is a socket with nothing around it. `read`: what was read from
    /// it behind the handshake.
    pub(crate) async fn new(stream: S, socket: Option<Socket>, read: Vec<u8>) -> WebSocket<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(WEB_SOCKET_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WEB_SOCKET_BUFFER_BYTES)
            .max_message_size(Some(FRAME_BYTES))
            .max_frame_size(Some(FRAME_BYTES));
        let stream = Metered::new(stream, read);
        let frames = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
        let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        WebSocket {
            frames,
            socket,
            is_flushing: false,
            pings,
            unfinished: 0,
            begun: 0,
            charged: 0,
            close_code: CloseCode::Normal,
            failed: None,
            is_closing: false,
        }
    }

    /// A silent peer is asked whether it is there, and proxies see that the connection is used.
    fn poll_ping(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut socket = Pin::new(&mut self.frames);
        while self.pings.poll_tick(cx).is_ready() {
            if let Poll::Ready(ready) = socket.as_mut().poll_ready(cx) {
                ready?;
                socket.as_mut().start_send(Message::Ping(Bytes::new()))?;
            }
        }
        Ok(())
    }

    /// The next message; what waits to be written by the crate goes first. A pong that is half
    /// written would else have a line of ours in it.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let mut frames = Pin::new(&mut self.frames);
        let flushed = frames.as_mut().poll_flush(cx);
        self.is_flushing = flushed.is_pending();
        if let Err(error) = ready!(flushed) {
            return Poll::Ready(Some(Err(error)));
        }
        let message = frames.poll_next(cx);
        let read = self.frames.get_ref().meter().take_read();
        self.unfinished += read;
        self.begun += read;
        message
    }

    /// Takes a message; false if it is the last.
    fn take(
        &mut self,
        message: Option<Result<Message, Error>>,
        intake: &mut Intake,
        inbox: &mut VecDeque<Received>,
    ) -> bool {
        match message {
            Some(Ok(Message::Text(text))) => {
                intake.bytes += text.len();
                self.end_frame(text.len());
                // Of the bytes read so many at most are of what follows.
                let framed = self.unfinished.saturating_sub(WEB_SOCKET_BUFFER_BYTES + HEADER_BYTES);
                intake.surcharge += self.charge(text.len().max(framed));
                inbox.push_back(lines::checked(text.as_str().to_owned(), None));
            }
            // A ping has cost as much as a line; its pong is written by the crate.
            Some(Ok(Message::Ping(bytes) | Message::Pong(bytes))) => {
                intake.surcharge += 1;
                self.end_frame(bytes.len());
            }
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                self.close_code = CloseCode::Unsupported;
                self.failed = Some(io::ErrorKind::InvalidData.into());
                return false;
            }
            Some(Err(error)) => {
                self.failed = Some(self.mistake(error));
                return false;
            }
            Some(Ok(Message::Close(_))) | None => {
                self.is_closing = true;
                inbox.push_back(Received::Closed);
                return false;
            }
        }
        (self.unfinished, self.charged) = (0, 0);
        true
    }

    /// A frame has ended that brought so many bytes. A message in fragments had more headers, which
    /// stay counted; that only tells before the first line.
    fn end_frame(&mut self, bytes: usize) {
        let header = if bytes < 126 { HEADER_BYTES - 2 } else { HEADER_BYTES };
        self.begun = self.begun.saturating_sub(header + bytes);
    }

    /// What a message of so many bytes costs beyond one line, and has not cost yet.
    fn charge(&mut self, bytes: usize) -> u32 {
        let steps = bytes.saturating_sub(1) / PACE_BYTES;
        let more = steps.saturating_sub(self.charged);
        self.charged += more;
        more as u32
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
            match self.poll_message(cx) {
                Poll::Ready(message) => {
                    something = true;
                    if !self.take(message, &mut intake, inbox) {
                        break;
                    }
                }
                // Fragments without an end are paid for like an endless line.
                Poll::Pending => {
                    let bytes = self.unfinished.saturating_sub(HEADER_BYTES);
                    intake.surcharge += self.charge(bytes);
                    if !something && intake.surcharge == 0 {
                        return Poll::Pending;
                    }
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

    fn has_begun_line(&self) -> bool {
        self.begun > 0
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
        Error::Capacity(_) => io::Error::new(io::ErrorKind::FileTooLarge, error),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::protocol::limits::{LINE_BYTES, READ_BYTES};

    /// A frame as a client sends it, masked with nothing.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u16;
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            _ => frame.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    /// What some frames cost beyond one for each line, and how many lines they are. `piece`: so
    /// many bytes come at a time.
    async fn cost(frames: &[u8], piece: usize) -> (u32, usize) {
        let (here, mut there) = tokio::io::duplex(piece);
        let mut socket = WebSocket::new(here, None, Vec::new()).await;
        let (mut cost, mut lines) = (0, 0);
        let reading = async {
            let mut inbox = VecDeque::new();
            while let Ok(intake) = poll_fn(|cx| socket.poll_receive(cx, &mut inbox)).await {
                cost += intake.surcharge;
                // Whoever must pay is not read for long before he does.
                assert!(intake.surcharge <= 1 + (READ_BYTES / PACE_BYTES) as u32);
                lines += inbox.drain(..).count();
            }
        };
        let writing = async {
            there.write_all(frames).await.unwrap();
            drop(there);
        };
        tokio::join!(reading, writing);
        (cost, lines)
    }

    #[tokio::test]
    async fn a_frame_costs_as_much_as_its_line() {
        let line = |bytes: usize| frame(0x81, &vec![b'x'; bytes]);
        for piece in [1, 100, 1 << 20] {
            for (bytes, more) in [(0, 0), (LINE_BYTES, 0), (LINE_BYTES + 1, 1), (FRAME_BYTES, 3)] {
                assert_eq!(cost(&line(bytes), piece).await, (more, 1), "{bytes} by {piece}");
            }
            let many = [line(LINE_BYTES), line(3)].concat().repeat(20);
            assert_eq!(cost(&many, piece).await, (0, 40), "by {piece}");
        }
    }

    /// Whether a line has begun when a client has sent so much, of which the first came with his
    /// handshake and the rest in pieces.
    async fn has_begun(frames: &[u8], with_handshake: usize, piece: usize) -> bool {
        let (first, rest) = frames.split_at(with_handshake.min(frames.len()));
        let (here, mut there) = tokio::io::duplex(1 << 20);
        let mut socket = WebSocket::new(here, None, first.to_vec()).await;
        let mut inbox = VecDeque::new();
        for piece in [&[][..]].into_iter().chain(rest.chunks(piece)) {
            there.write_all(piece).await.unwrap();
            poll_fn(|cx| {
                while socket.poll_receive(cx, &mut inbox).is_ready() {
                    inbox.clear();
                }
                Poll::Ready(())
            })
            .await;
        }
        socket.has_begun_line()
    }

    // clause: PACE-5
    #[tokio::test]
    async fn a_message_has_begun_until_it_ends_whatever_comes_between() {
        let (pong, longest) = (frame(0x8a, b""), frame(0x89, &[b'x'; 125]));
        let (begins, ends) = (frame(0x01, b"PI"), frame(0x80, b"NG"));
        let long = frame(0x81, &[b'x'; LINE_BYTES]);
        for (frames, wanted) in [
            (vec![], false),
            (vec![&begins], true),
            (vec![&begins, &pong], true),
            (vec![&pong, &begins, &longest, &pong, &pong], true),
            (vec![&begins, &ends, &long, &begins, &pong], true),
            (vec![&pong, &longest], false),
            (vec![&long, &pong], false),
            (vec![&frame(0x81, b""), &pong], false),
        ] {
            let frames = frames.into_iter().flatten().copied().collect::<Vec<_>>();
            for with_handshake in [0, 1, 6, 7, 8, 100, 1 << 20] {
                for piece in [1, 7, 1 << 20] {
                    let has_begun = has_begun(&frames, with_handshake, piece).await;
                    assert_eq!(has_begun, wanted, "{frames:x?} {with_handshake} {piece}");
                }
            }
        }
        assert!(has_begun(&pong[..1], 0, 1).await);
    }

    #[tokio::test]
    async fn what_came_with_the_handshake_costs_what_it_costs_else() {
        let line = frame(0x81, &[b'x'; LINE_BYTES + 1]);
        let mut socket = WebSocket::new(tokio::io::empty(), None, line.repeat(3)).await;
        let mut inbox = VecDeque::new();
        let intake = poll_fn(|cx| socket.poll_receive(cx, &mut inbox)).await.unwrap();
        assert_eq!((intake.surcharge, inbox.len()), (3, 3));
    }

    // clause: WS-5
    #[tokio::test]
    async fn fragments_of_nothing_cost_like_an_endless_line() {
        const FRAGMENTS: usize = 10_000;
        let mut frames = frame(0x01, b"");
        (0..FRAGMENTS).for_each(|_| frames.extend(frame(0x00, b"")));
        let wanted = (frames.len() / PACE_BYTES) as u32;
        for piece in [1, 100, 1 << 20] {
            let (cost, lines) = cost(&frames, piece).await;
            // What the end of file cuts off is not paid for.
            let unpaid = (READ_BYTES / PACE_BYTES) as u32;
            assert!((wanted - unpaid..=wanted).contains(&cost), "{cost} of {wanted} by {piece}");
            assert_eq!(lines, 0);
        }
    }
}
