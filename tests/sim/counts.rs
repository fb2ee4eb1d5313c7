//! What happened in a run, so that nobody takes an idle simulation for a passed one.

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) said: u64,
    pub(crate) heard: u64,
    pub(crate) resumed: u64,
    pub(crate) expired: u64,
    pub(crate) gaps: u64,
    pub(crate) crashes: u64,
    /// Lives of a server that was told to stop, and had ended before its crash.
    pub(crate) stops: u64,
    /// Commands that a stopping server had no time for.
    pub(crate) late: u64,
    pub(crate) replaced: u64,
    /// Seats that outlived a crash, and were taken again; those that did not.
    pub(crate) outlived: u64,
    pub(crate) forgotten: u64,
    /// Messages that were stored, but not acknowledged before a crash; those that were lost in it.
    pub(crate) stored: u64,
    pub(crate) dropped: u64,
    /// Messages, and other commands, that were answered `storage`.
    pub(crate) unsaid: u64,
    pub(crate) undone: u64,
    /// Seats whose end could not be stored at first, and was before a crash.
    pub(crate) retried: u64,
    /// Rooms that somebody came back to first.
    pub(crate) reopened: u64,
    /// Tokens of seats that had ended, and opened nothing.
    pub(crate) dead_tokens: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Counts) {
        let mut other = *other;
        let pairs = self.all().into_iter().zip(other.all());
        pairs.for_each(|(count, more)| *count += *more);
    }

    pub(crate) fn are_all_there(mut self) -> bool {
        self.all().iter().all(|count| **count > 0)
    }

    fn all(&mut self) -> [&mut u64; 18] {
        let Counts { said, heard, resumed, expired, gaps, crashes, replaced, .. } = self;
        let Counts { outlived, forgotten, stored, dropped, unsaid, undone, retried, .. } = self;
        let Counts { reopened, stops, late, dead_tokens, .. } = self;
        [
            said,
            heard,
            resumed,
            expired,
            gaps,
            crashes,
            replaced,
            outlived,
            forgotten,
            stored,
            dropped,
            unsaid,
            undone,
            retried,
            reopened,
            stops,
            late,
            dead_tokens,
        ]
    }
}
