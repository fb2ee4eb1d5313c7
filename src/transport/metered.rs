//! What comes in and goes out is counted below those who don't tell: TLS, and a crate's frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::limits::READ_BYTES;

/// A stream that counts what is read from it and written to it, and pauses after each
/// [`READ_BYTES`]: its reader gets the time to look at the count, however long it goes on by itself.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    /// What was read from the stream already, and comes first. There is seldom any, so it takes one
    /// word.
    #[allow(clippy::box_collection, reason = "a connection shall be small")]
    first: Option<Box<Bytes>>,
    /// Bytes that may be read before the next pause.
    left: usize,
    meter: Meter,
}

/// The counts of a stream. Cheap to clone: every clone has the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Bytes read since they were last asked for.
    read: AtomicUsize,
    /// The same of bytes written.
    #[cfg(feature = "tls")]
    written: AtomicUsize,
}

impl Meter {
    /// Bytes read since the last call.
    pub(super) fn take_read(&self) -> usize {
        self.0.read.swap(0, Ordering::Relaxed)
    }

    /// Bytes written since the last call.
    #[cfg(feature = "tls")]
    pub(super) fn take_written(&self) -> usize {
        self.0.written.swap(0, Ordering::Relaxed)
    }

    fn count_written(&self, written: &Poll<io::Result<usize>>) {
        #[cfg(feature = "tls")]
        if let Poll::Ready(Ok(bytes)) = written {
            self.0.written.fetch_add(*bytes, Ordering::Relaxed);
        }
        #[cfg(not(feature = "tls"))]
        let _ = written;
    }
}

impl<S> Metered<S> {
    /// `first`: what was read from the stream already. It counts when it is read here.
    pub(crate) fn new(stream: S, first: Vec<u8>) -> Metered<S> {
        let first = (!first.is_empty()).then(|| Box::new(first.into()));
        Metered { stream, first, left: READ_BYTES, meter: Meter::default() }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    #[cfg(feature = "tls")]
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            self.left = READ_BYTES;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if let Some(first) = &mut self.first {
            buffer.put_slice(&first.split_to(first.len().min(buffer.remaining())));
            self.first.take_if(|first| first.is_empty());
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        }
        let read = buffer.filled().len() - before;
        self.meter.0.read.fetch_add(read, Ordering::Relaxed);
        self.left = self.left.saturating_sub(read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.meter.count_written(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.meter.count_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
