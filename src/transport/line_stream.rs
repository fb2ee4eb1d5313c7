//! Lines over any stream of bytes: TCP, a pipe, a Unix socket, TLS.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::{Intake, LineDecoder, Outbox, Received, Socket, Transport};
use crate::protocol::limits::READ_BYTES;
use crate::protocol::{Ending, Framing};

/// A stream of bytes whose lines the decoder finds.
#[derive(Debug)]
pub(crate) struct LineStream<S> {
    stream: S,
    /// The stream, if it is a socket with nothing around it.
    socket: Option<Socket>,
    decoder: LineDecoder,
    /// What was read and is not decoded yet. There is seldom any, so it takes one word.
    #[allow(clippy::box_collection, reason = "a connection shall be small")]
    rest: Option<Box<Vec<u8>>>,
}

impl LineStream<Socket> {
    /// A TCP connection, with telnet.
    pub(crate) fn over(stream: TcpStream) -> LineStream<Socket> {
        let socket = Socket::new(stream);
        LineStream { socket: Some(socket.clone()), ..LineStream::new(socket, true) }
    }
}

impl<S> LineStream<S> {
    /// `telnet`: its sequences and editing keys are taken for what they are.
    pub(crate) fn new(stream: S, telnet: bool) -> LineStream<S> {
        LineStream { stream, socket: None, decoder: LineDecoder::new(telnet), rest: None }
    }
}

impl<S> LineStream<S> {
    /// Takes lines out of bytes, and keeps what is left of them for the next time.
    fn decode(&mut self, bytes: &[u8], inbox: &mut VecDeque<Received>) -> Intake {
        let mut answers = Vec::new();
        let taken = self.decoder.feed_some(bytes, inbox, &mut answers);
        let rest = &bytes[taken..];
        self.rest = (!rest.is_empty()).then(|| Box::new(rest.to_vec()));
        Intake { bytes: 0, surcharge: self.decoder.take_surcharge(), answers }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for LineStream<S> {
    const FRAMING: Framing = Framing::Lines(Ending::Lf);

    /// An idle connection has no buffer: this one is on the stack.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Received>,
    ) -> Poll<io::Result<Intake>> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(Ok(self.decode(&rest, inbox)));
        }
        let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut bytes = ReadBuf::uninit(&mut bytes);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut bytes)) {
            // TLS that ends without its own last word, as ncat's does: an end of file, but anybody
            // on the way may have made it, so a line that is unfinished may have been cut.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                inbox.push_back(Received::Eof);
                return Poll::Ready(Ok(Intake::default()));
            }
            result => result?,
        }
        let bytes = bytes.filled();
        if bytes.is_empty() {
            self.decoder.finish(inbox);
        }
        Poll::Ready(Ok(Intake { bytes: bytes.len(), ..self.decode(bytes, inbox) }))
    }

    fn poll_send<M: Copy>(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox<M>,
    ) -> Poll<io::Result<usize>> {
        outbox.poll_write(&mut self.stream, cx)
    }

    fn socket(&self) -> Option<&Socket> {
        self.socket.as_ref()
    }

    fn has_begun_line(&self) -> bool {
        self.decoder.has_begun_line()
    }

    async fn close(&mut self, _is_between_lines: bool) {
        drain(&mut self.stream).await;
    }
}

/// Closes the writing side and reads on until the peer closes too.
pub(super) async fn drain(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    if stream.shutdown().await.is_err() {
        return;
    }
    poll_fn(|cx| {
        loop {
            let mut bytes = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut bytes);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut bytes)) {
                Ok(()) if !bytes.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}
