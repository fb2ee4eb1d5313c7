//! What a connection is still to be sent.

use std::collections::VecDeque;
use std::fmt::{Display, Write};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use crate::protocol::{Ending, Framing, Header, Line};

/// Lines in the order in which they are written. Lines of a room are shared with all other
/// readers; only what is this connection's own is copied.
///
/// `M` marks where a shared line stands in the room's log.
#[derive(Debug)]
pub(crate) struct Outbox<M> {
    pieces: VecDeque<Piece<M>>,
    /// Bytes of the front piece that are written.
    written: usize,
    /// Bytes of all pieces, the written ones included.
    bytes: usize,
    /// Lines of the log among the pieces.
    entries: usize,
    /// What is put around lines that are added now.
    framing: Framing,
    /// Writing has failed: from then on everything counts as written.
    is_broken: bool,
}

#[derive(Debug)]
enum Piece<M> {
    /// Replies, with their framing.
    Own(BytesMut),
    /// A line shared with others; where it stands in the log, unless it belongs to a reply.
    Shared { line: Line, around: (Header, &'static str), at: Option<M> },
}

/// Slices of one write: enough for what a busy room brings between two wake-ups, and small
/// enough for the stack.
const SLICES: usize = 64;

impl<M: Copy> Outbox<M> {
    pub(crate) fn new(framing: Framing) -> Outbox<M> {
        let pieces = VecDeque::new();
        Outbox { pieces, written: 0, bytes: 0, entries: 0, framing, is_broken: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes - self.written
    }

    /// Bytes of memory that what waits takes, and nobody else needs.
    pub(crate) fn cost(&self) -> usize {
        let cost = |piece: &Piece<M>| match piece {
            Piece::Own(bytes) => bytes.capacity(),
            Piece::Shared { line, .. } => size_of::<Piece<M>>() + line.share(),
        };
        self.pieces.iter().map(cost).sum()
    }

    /// Whether lines of the log wait: the log must keep them until they are written.
    pub(crate) fn has_entries(&self) -> bool {
        self.entries > 0
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// How lines end that are added now; frames have no endings.
    pub(crate) fn ending(&self) -> Ending {
        match self.framing {
            Framing::Lines(ending) => ending,
            Framing::Frames => Ending::Lf,
        }
    }

    pub(crate) fn set_ending(&mut self, ending: Ending) {
        if let Framing::Lines(now) = &mut self.framing {
            *now = ending;
        }
    }

    /// Adds a line of this connection's own.
    pub(crate) fn line(&mut self, content: &impl Display) {
        let framing = self.framing;
        self.own(|bytes| {
            let start = bytes.len();
            // Writing to a BytesMut grows it; it doesn't fail.
            let _ = write!(bytes, "{content}");
            frame(bytes, start, framing);
        });
    }

    /// Adds bytes that are no line of the protocol.
    pub(crate) fn raw(&mut self, raw: &[u8]) {
        self.own(|bytes| bytes.extend_from_slice(raw));
    }

    fn own(&mut self, add: impl FnOnce(&mut BytesMut)) {
        if self.is_broken {
            return;
        }
        if !matches!(self.pieces.back(), Some(Piece::Own(_))) {
            self.pieces.push_back(Piece::Own(BytesMut::new()));
        }
        if let Some(Piece::Own(bytes)) = self.pieces.back_mut() {
            let before = bytes.len();
            add(bytes);
            self.bytes += bytes.len() - before;
        }
    }

    /// Adds a shared line; `at` is where it stands in the log, if it can be read there again.
    pub(crate) fn shared(&mut self, line: Line, at: Option<M>) {
        if !self.is_broken {
            let around = self.framing.around(line.content().len());
            let piece = Piece::Shared { line, around, at };
            self.bytes += piece.len();
            self.entries += usize::from(at.is_some());
            self.pieces.push_back(piece);
        }
    }

    /// Takes lines of the log back from the end, as far as they are not begun; returns where they
    /// begin. So a reader who doesn't read costs a cursor and half a line.
    pub(crate) fn take_back(&mut self) -> Option<M> {
        let mut from = None;
        while let Some(Piece::Shared { at: Some(at), .. }) = self.pieces.back()
            && !(self.pieces.len() == 1 && self.written > 0)
        {
            from = Some(*at);
            self.entries -= 1;
            self.bytes -= self.pieces.pop_back().map_or(0, |piece| piece.len());
        }
        from
    }

    /// Drops the lines of the log; the one half written and all replies stay.
    pub(crate) fn drop_backlog(&mut self) {
        let mut begun = self.written > 0;
        self.pieces.retain(|piece| {
            let keep = std::mem::take(&mut begun);
            keep || !piece.is_entry()
        });
        self.bytes = self.pieces.iter().map(Piece::len).sum();
        self.entries = self.pieces.iter().filter(|piece| piece.is_entry()).count();
    }

    /// Writes once; `Ok(0)` if nothing waits, here or in the stream: TLS may hold bytes back.
    pub(crate) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.pieces.is_empty() {
            return match self.is_broken {
                true => Poll::Ready(Ok(0)),
                false => Pin::new(stream).poll_flush(cx).map_ok(|()| 0),
            };
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let used = self.fill(&mut slices);
        let result = match &slices[..used] {
            [slice] => ready!(Pin::new(stream).poll_write(cx, slice)),
            slices => ready!(Pin::new(stream).poll_write_vectored(cx, slices)),
        };
        match result {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => {
                self.consume(written);
                Poll::Ready(Ok(written))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Gives the memory of an empty outbox back.
    pub(crate) fn shrink(&mut self) {
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// From now on everything counts as written.
    pub(crate) fn give_up(&mut self) {
        *self = Outbox { is_broken: true, ..Outbox::new(self.framing) };
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut used = 0;
        let mut skip = self.written;
        for part in self.pieces.iter().flat_map(Piece::parts).filter(|part| !part.is_empty()) {
            if used == slices.len() {
                break;
            }
            match part.get(skip..).filter(|rest| !rest.is_empty()) {
                Some(rest) => {
                    slices[used] = IoSlice::new(rest);
                    (used, skip) = (used + 1, 0);
                }
                None => skip -= part.len(),
            }
        }
        used
    }

    fn consume(&mut self, written: usize) {
        self.written += written;
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.len() <= self.written) {
            self.written -= piece.len();
            self.bytes -= piece.len();
            self.entries -= usize::from(piece.is_entry());
        }
        // A large reply is given back as it goes.
        if let Some(Piece::Own(bytes)) = self.pieces.front_mut() {
            bytes.advance(self.written);
            self.bytes -= std::mem::take(&mut self.written);
        }
    }
}

/// Puts what stands around a line around the text that begins at `start`.
fn frame(bytes: &mut BytesMut, start: usize, framing: Framing) {
    let text = bytes.len() - start;
    let (header, ending) = framing.around(text);
    let header = header.as_slice();
    if !header.is_empty() {
        bytes.resize(bytes.len() + header.len(), 0);
        bytes.copy_within(start..start + text, start + header.len());
        bytes[start..start + header.len()].copy_from_slice(header);
    }
    bytes.extend_from_slice(ending.as_bytes());
}

impl<M> Piece<M> {
    fn parts(&self) -> [&[u8]; 3] {
        match self {
            Piece::Own(bytes) => [bytes, b"", b""],
            // The line has its LF already.
            Piece::Shared { line, around: (_, "\n"), .. } => [line.bytes(), b"", b""],
            Piece::Shared { line, around: (header, ending), .. } => {
                [header.as_slice(), line.content(), ending.as_bytes()]
            }
        }
    }

    fn is_entry(&self) -> bool {
        matches!(self, Piece::Shared { at: Some(_), .. })
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn lines() -> Outbox<u64> {
        Outbox::new(Framing::Lines(Ending::Lf))
    }

    /// Writes until the stream takes no more.
    async fn write(outbox: &mut Outbox<u64>, stream: &mut (impl AsyncWrite + Unpin)) {
        std::future::poll_fn(|cx| {
            while !outbox.is_empty() && outbox.poll_write(stream, cx).is_ready() {}
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn lines_end_as_the_client_ended_his_when_they_were_added() {
        let (mut here, mut there) = tokio::io::duplex(1 << 10);
        let mut outbox = lines();
        outbox.line(&"one");
        outbox.set_ending(Ending::CrLf);
        outbox.line(&"two");
        outbox.shared(Line::of(&"three"), Some(0));
        outbox.set_ending(Ending::Lf);
        outbox.shared(Line::of(&"four"), None);
        assert_eq!(outbox.len(), "one\ntwo\r\nthree\r\nfour\n".len());
        write(&mut outbox, &mut here).await;
        assert_eq!(outbox.len(), 0);
        drop(here);
        let mut all = String::new();
        there.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "one\ntwo\r\nthree\r\nfour\n");
    }

    #[tokio::test]
    async fn what_is_begun_is_never_taken_back() {
        for room in 0..12 {
            let (mut here, mut there) = tokio::io::duplex(room.max(1));
            let mut outbox = lines();
            outbox.line(&"OK");
            (0..4).for_each(|place| outbox.shared(Line::of(&place), Some(place)));
            write(&mut outbox, &mut here).await;
            let from = outbox.take_back();
            let begun = room.max(1).saturating_sub(3).div_ceil(2) as u64;
            assert_eq!(from.unwrap_or(4), begun.min(4), "{room} bytes");
            outbox.line(&"END");
            let reader = tokio::spawn(async move {
                let mut all = String::new();
                there.read_to_string(&mut all).await.unwrap();
                all
            });
            std::future::poll_fn(|cx| {
                while !outbox.is_empty() {
                    if outbox.poll_write(&mut here, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(())
            })
            .await;
            drop(here);
            let lines: String = (0..begun.min(4)).map(|place| format!("{place}\n")).collect();
            assert_eq!(reader.await.unwrap(), format!("OK\n{lines}END\n"));
        }
    }

    #[tokio::test]
    async fn the_backlog_is_dropped_but_replies_stay() {
        let (mut here, mut there) = tokio::io::duplex(4);
        let mut outbox = lines();
        outbox.shared(Line::of(&"half written"), Some(0));
        outbox.shared(Line::of(&"event"), Some(1));
        outbox.line(&"OK");
        outbox.shared(Line::of(&"data"), None);
        outbox.shared(Line::of(&"event"), Some(2));
        write(&mut outbox, &mut here).await;
        outbox.drop_backlog();
        assert_eq!(outbox.len(), "half written\nOK\ndata\n".len() - 4);
        assert_eq!(there.read_u32().await.unwrap(), u32::from_be_bytes(*b"half"));
    }

    #[tokio::test]
    async fn frames_have_the_header_of_their_length() {
        let long = "x".repeat(126);
        let mut outbox: Outbox<u64> = Outbox::new(Framing::Frames);
        outbox.line(&"OK");
        outbox.line(&long);
        outbox.shared(Line::of(&"short"), None);
        outbox.shared(Line::of(&long), None);
        let (mut here, mut there) = tokio::io::duplex(1 << 10);
        write(&mut outbox, &mut here).await;
        drop(here);
        let mut all = Vec::new();
        there.read_to_end(&mut all).await.unwrap();
        let long = [b"\x81\x7e\x00\x7e", long.as_bytes()].concat();
        assert_eq!(all, [b"\x81\x02OK", &long[..], b"\x81\x05short", &long[..]].concat());
    }
}
