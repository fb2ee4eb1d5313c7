//! A connection's writing side, which its session lends to the room while it sleeps.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};

use super::log::Cursor;
use super::sync::{Mutex, MutexGuard};

/// What takes bytes without waiting.
pub(crate) trait Sink: Send + Sync {
    /// Writes what fits at once. An error means that nothing was written.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// Every seat has its own. A message for a hundred sleepers wakes none of them: the room writes it for them. While a
/// session is awake it alone writes, so no line ever stands inside another.
pub(crate) struct Outlet<S: ?Sized = dyn Sink> {
    /// Held for one write that doesn't wait, at most. No lock is taken under it.
    pen: Mutex<Pen>,
    sink: S,
}

#[derive(Debug, Default)]
struct Pen {
    /// Whether the room may write.
    is_lent: bool,
    /// What the session hears when it takes the pen back.
    report: Option<Report>,
}

/// What the room has done for a session that slept.
#[derive(Debug)]
pub(crate) struct Report {
    /// How far the reader has been written to.
    pub(crate) next: Cursor,
    /// The rest of the line before `next`, where the connection took only a part of it.
    pub(crate) half: Box<[u8]>,
    /// Bytes written.
    pub(crate) bytes: u64,
}

impl<S: Sink + 'static> Outlet<S> {
    pub(crate) fn new(sink: S) -> Arc<Outlet> {
        Arc::new(Outlet { pen: Mutex::default(), sink })
    }
}

impl Outlet {
    /// Lends the pen to the room, which writes what follows `next`.
    pub(super) fn lend(&self, next: Cursor) {
        let mut pen = self.pen();
        pen.is_lent = true;
        pen.report = Some(Report { next, half: Box::default(), bytes: 0 });
    }

    /// Takes the pen back; `None` if the session has it already.
    pub(crate) fn take_back(&self) -> Option<Report> {
        let mut pen = self.pen();
        pen.is_lent = false;
        pen.report.take()
    }

    /// Writes what follows `from` for a sleeper, and returns how many bytes; `None` if the session
    /// has the pen, or had it and has come further. `reached` tells how far he has come with so many, and what is left of a line.
    pub(super) fn write<'a>(
        &self,
        from: Cursor,
        bytes: &'a [u8],
        reached: impl FnOnce(usize) -> (Cursor, &'a [u8]),
    ) -> Option<usize> {
        let mut pen = self.pen();
        let Pen { is_lent: true, report: Some(report) } = &mut *pen else { return None };
        if report.next != from {
            return None;
        }
        // A broken connection shows itself to the session.
        let written = self.sink.try_write(bytes).unwrap_or(0);
        let (next, half) = reached(written);
        report.next = next;
        report.half = half.into();
        report.bytes += written as u64;
        // Who can take no more is woken, and writes by himself.
        pen.is_lent = written == bytes.len();
        Some(written)
    }

    fn pen(&self) -> MutexGuard<'_, Pen> {
        self.pen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("pen", &self.pen).finish_non_exhaustive()
    }
}
