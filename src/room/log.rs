//! A room's log: one sequence of lines, read by cursors.

use std::collections::VecDeque;

use crate::protocol::limits::ENTRY_BYTES;
use crate::protocol::{Line, Time};

/// Where a reader stands in a log: sixteen bytes, whatever he has not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    /// The place of the next line to read.
    pub(crate) place: u64,
    /// The id of the latest message before it.
    pub(crate) id: u64,
}

/// One line of the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) line: Line,
    /// Its id if it is a message, else that of the latest message before it.
    pub(crate) id: u64,
    pub(crate) is_message: bool,
    /// Only a place: it has no line, and nobody is sent anything.
    pub(crate) is_silent: bool,
    /// Whose doing it is: he isn't sent the event of it.
    pub(crate) author: u64,
    /// How many cursors stand here.
    readers: u32,
}

/// What a reader missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed {
    /// The first id that he didn't get.
    pub(crate) first: u64,
    /// One past the last.
    pub(crate) end: u64,
}

/// The log keeps two overlapping things:
///
/// - the *history*, the latest messages, for those who come or come back. Its ids have no holes;
/// - the *tail*, every line (messages and presence) from the first that a connected reader still
///   needs. Each entry counts the cursors that stand at it, so finding the slowest reader costs
///   nothing: the front of the tail goes when no cursor stands there.
#[derive(Debug)]
pub(crate) struct Log {
    history: VecDeque<Line>,
    history_bytes: usize,
    /// The most messages and bytes of `history`.
    most_messages: usize,
    most_bytes: usize,
    tail: VecDeque<Entry>,
    /// The place of the tail's first entry.
    base: u64,
    /// How many cursors stand behind the last entry.
    readers_at_end: u32,
    last_id: u64,
    last_time: Option<Time>,
    /// What those lines of the tail take that are not in the history as well.
    backlog: usize,
}

impl Log {
    pub(crate) fn new(most_messages: usize, most_bytes: usize) -> Log {
        Log {
            history: VecDeque::new(),
            history_bytes: 0,
            most_messages,
            most_bytes,
            tail: VecDeque::new(),
            base: 0,
            readers_at_end: 0,
            last_id: 0,
            last_time: None,
            backlog: 0,
        }
    }

    /// A log as it was kept: its latest messages, the last of which has the id `last_id`. Of what
    /// was lost an empty line has the place.
    pub(crate) fn restore(
        mut self,
        history: VecDeque<Line>,
        last_id: u64,
        time: Option<Time>,
    ) -> Log {
        (self.last_id, self.last_time) = (last_id, time);
        self.history_bytes = history.iter().map(Line::len).sum();
        self.history = history;
        while self.has_too_much() {
            let Some(line) = self.history.pop_front() else { break };
            self.history_bytes -= line.len();
        }
        self
    }

    /// The time of the latest message.
    pub(crate) fn last_time(&self) -> Option<Time> {
        self.last_time
    }

    /// The id of the latest message; 0 if there is none.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Behind the last line.
    pub(crate) fn end(&self) -> Cursor {
        Cursor { place: self.base + self.tail.len() as u64, id: self.last_id }
    }

    /// The id and time of the next message. Time never goes back in a room.
    pub(crate) fn next_message(&mut self, now: Time) -> (u64, Time) {
        let time = self.last_time.map_or(now, |last| last.max(now));
        self.last_time = Some(time);
        (self.last_id + 1, time)
    }

    /// Adds the message with the id of [`next_message`](Log::next_message).
    pub(crate) fn push_message(&mut self, line: Line, author: u64) {
        self.last_id += 1;
        self.history_bytes += line.len();
        self.history.push_back(line.clone());
        self.push(line, true, false, author);
        while self.has_too_much() {
            self.forget_oldest();
        }
    }

    /// Adds a line that is not kept for those who come later.
    pub(crate) fn push_presence(&mut self, line: Line, author: u64) {
        self.backlog += cost(&line);
        self.push(line, false, false, author);
    }

    /// Adds a place without a line.
    pub(crate) fn push_silent(&mut self, author: u64) {
        let line = Line::of(&"");
        self.backlog += cost(&line);
        self.push(line, false, true, author);
    }

    fn push(&mut self, line: Line, is_message: bool, is_silent: bool, author: u64) {
        let readers = std::mem::take(&mut self.readers_at_end);
        let id = self.last_id;
        self.tail.push_back(Entry { line, id, is_message, is_silent, author, readers });
        self.forget_what_nobody_needs();
    }

    /// Adds a reader who has read all.
    pub(crate) fn enter(&mut self) -> Cursor {
        self.readers_at_end += 1;
        self.end()
    }

    /// Moves a reader; what nobody needs any more goes.
    pub(crate) fn advance(&mut self, from: Cursor, to: Cursor) {
        if from != to {
            *self.readers_at(from) -= 1;
            *self.readers_at(to) += 1;
            self.forget_what_nobody_needs();
        }
    }

    /// Takes a reader away.
    pub(crate) fn leave(&mut self, cursor: Cursor) {
        *self.readers_at(cursor) -= 1;
        self.forget_what_nobody_needs();
    }

    /// A reader whose entry was taken from under him stands at the front of what is left.
    fn readers_at(&mut self, cursor: Cursor) -> &mut u32 {
        let index = cursor.place.saturating_sub(self.base) as usize;
        self.tail.get_mut(index).map_or(&mut self.readers_at_end, |entry| &mut entry.readers)
    }

    /// The entries from a cursor on, if they are still there.
    pub(crate) fn tail_from(&self, cursor: Cursor) -> Option<impl Iterator<Item = &Entry>> {
        let index = cursor.place.checked_sub(self.base)?;
        Some(self.tail.range((index as usize).min(self.tail.len())..))
    }

    /// For a reader who has been overtaken: what is lost to him for good, the messages that the
    /// history still has up to where the tail begins, and the cursor there.
    pub(crate) fn catch_up(
        &self,
        cursor: Cursor,
    ) -> (Missed, impl Iterator<Item = (u64, &Line)>, Cursor) {
        let to = Cursor { place: self.base, id: self.before_tail() };
        let first = self.first_kept().clamp(cursor.id + 1, to.id + 1);
        let missed = Missed { first: cursor.id + 1, end: first };
        (missed, self.kept(first, to.id), to)
    }

    /// The messages with ids from `first` to `last` that are kept, oldest first.
    pub(crate) fn kept(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &Line)> {
        let kept = self.first_kept();
        let from = first.clamp(kept, self.last_id + 1);
        let end = (last.min(self.last_id) + 1).max(from);
        let lines = self.history.range((from - kept) as usize..(end - kept) as usize);
        (from..).zip(lines).filter(|(_, line)| !line.is_lost())
    }

    /// The id of the oldest message that is kept; one past the newest if none is.
    pub(crate) fn first_kept(&self) -> u64 {
        self.last_id + 1 - self.history.len() as u64
    }

    /// Bytes that are kept only for readers who are behind.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog
    }

    /// Takes entries from under the readers furthest behind until the backlog is at most `most`.
    pub(crate) fn shrink_backlog(&mut self, most: usize) {
        while self.backlog > most && !self.tail.is_empty() {
            self.pop_front();
        }
        self.forget_what_nobody_needs();
    }

    /// Bytes of the history.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Takes the oldest messages out of the history, at least so many bytes or all. Who is still
    /// reading gets them all the same.
    pub(crate) fn shrink_history(&mut self, by: usize) {
        let most = self.history_bytes.saturating_sub(by);
        while self.history_bytes > most {
            self.forget_oldest();
        }
        if self.history.is_empty() {
            self.history = VecDeque::new();
        }
    }

    fn forget_oldest(&mut self) {
        let id = self.first_kept();
        if let Some(line) = self.history.pop_front() {
            self.history_bytes -= line.len();
            if id > self.before_tail() {
                self.backlog += cost(&line);
            }
        }
    }

    fn has_too_much(&self) -> bool {
        self.history.len() > self.most_messages || self.history_bytes > self.most_bytes
    }

    fn forget_what_nobody_needs(&mut self) {
        while self.tail.front().is_some_and(|entry| entry.readers == 0) {
            self.pop_front();
        }
        if self.tail.is_empty() && self.tail.capacity() > TAIL_CAPACITY_KEPT {
            self.tail = VecDeque::new();
        }
    }

    fn pop_front(&mut self) {
        let first_kept = self.first_kept();
        if let Some(entry) = self.tail.pop_front() {
            self.base += 1;
            *self.readers_at(Cursor { place: self.base, id: 0 }) += entry.readers;
            if !entry.is_message || entry.id < first_kept {
                self.backlog -= cost(&entry.line);
            }
        }
    }

    /// The id of the latest message before the tail.
    fn before_tail(&self) -> u64 {
        self.tail.front().map_or(self.last_id, |entry| entry.id - u64::from(entry.is_message))
    }
}

/// What a line takes that is kept for readers alone.
fn cost(line: &Line) -> usize {
    line.len() + ENTRY_BYTES
}

/// An empty tail gives its memory back if it had room for more entries than this.
const TAIL_CAPACITY_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Line {
        Line::of(&text)
    }

    fn ids<'a>(kept: impl Iterator<Item = (u64, &'a Line)>) -> Vec<u64> {
        kept.map(|(id, _)| id).collect()
    }

    #[test]
    fn history_keeps_the_latest_messages_and_bytes() {
        let mut log = Log::new(3, 20);
        (0..5).for_each(|_| log.push_message(line("four"), 1));
        assert_eq!(ids(log.kept(0, u64::MAX)), [3, 4, 5]);
        assert_eq!(ids(log.kept(4, 4)), [4]);
        assert_eq!(ids(log.kept(6, 9)), [] as [u64; 0]);
        assert_eq!(ids(log.kept(0, 2)), [] as [u64; 0]);
        log.push_message(line("0123456789012345678"), 1);
        assert_eq!(ids(log.kept(0, u64::MAX)), [6]);
        assert_eq!(log.backlog(), 0);
    }

    #[test]
    fn what_a_reader_needs_stays_until_he_has_it() {
        let mut log = Log::new(1, 1000);
        let reader = log.enter();
        log.push_presence(line("JOINED x"), 1);
        (0..3).for_each(|_| log.push_message(line("four"), 1));
        assert_eq!(log.tail_from(reader).unwrap().count(), 4);
        assert_eq!(log.backlog(), 9 + 5 + 5 + 3 * ENTRY_BYTES);
        let end = log.end();
        log.advance(reader, end);
        assert_eq!((log.backlog(), log.tail.len()), (0, 0));
        log.leave(end);
        log.push_presence(line("LEFT x quit"), 1);
        assert_eq!((log.backlog(), log.tail.len()), (0, 0));
    }

    #[test]
    fn an_overtaken_reader_learns_what_he_missed_and_gets_what_is_kept() {
        let mut log = Log::new(2, 1000);
        let reader = log.enter();
        (0..6).for_each(|_| log.push_message(line("four"), 1));
        log.shrink_backlog(5 + ENTRY_BYTES);
        assert!(log.tail_from(reader).is_none());
        // Only as much is lost as must be.
        let (missed, kept, to) = log.catch_up(reader);
        assert_eq!((missed, ids(kept), to.id), (Missed { first: 1, end: 4 }, vec![], 3));
        log.advance(reader, to);
        assert_eq!(log.tail_from(to).unwrap().map(|entry| entry.id).collect::<Vec<_>>(), [4, 5, 6]);
        log.advance(to, log.end());
        assert_eq!(log.backlog(), 0);
    }

    /// What a log does, done the slow and obvious way.
    #[derive(Debug, Clone)]
    enum Step {
        Message,
        Presence,
        Enter,
        Read(usize, usize),
        Leave(usize),
        Shrink(usize),
        Forget(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Message),
            2 => Just(Step::Presence),
            1 => Just(Step::Enter),
            4 => (0..8usize, 1..9usize).prop_map(|(who, lines)| Step::Read(who, lines)),
            1 => (0..8usize).prop_map(Step::Leave),
            1 => (0..6 * ENTRY_BYTES).prop_map(Step::Shrink),
            1 => (0..9usize).prop_map(Step::Forget),
        ]
    }

    struct Reader {
        cursor: Cursor,
        /// The next message he must get or be told of.
        next: u64,
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_reader_gets_every_message_once_or_is_told(steps in prop::collection::vec(step(), 1..80)) {
            let mut log = Log::new(3, 1000);
            let mut readers: Vec<Reader> = Vec::new();
            for step in steps {
                match step {
                    Step::Message => log.push_message(line(&format!("{}", log.last_id() + 1)), 1),
                    Step::Presence => log.push_presence(line("presence"), 1),
                    Step::Enter => {
                        let cursor = log.enter();
                        readers.push(Reader { cursor, next: log.last_id() + 1 });
                    }
                    Step::Leave(who) if who < readers.len() => log.leave(readers.remove(who).cursor),
                    Step::Read(who, lines) if who < readers.len() => read(&mut log, &mut readers[who], lines),
                    Step::Shrink(most) => log.shrink_backlog(most),
                    Step::Forget(bytes) => log.shrink_history(bytes),
                    Step::Leave(_) | Step::Read(..) => {}
                }
                check(&log, &readers);
            }
            for reader in &mut readers {
                while reader.cursor != log.end() {
                    read(&mut log, reader, 5);
                }
                prop_assert_eq!(reader.next, log.last_id() + 1);
            }
            readers.drain(..).for_each(|reader| log.leave(reader.cursor));
            prop_assert_eq!((log.backlog(), log.tail.len()), (0, 0));
        }
    }

    fn read(log: &mut Log, reader: &mut Reader, lines: usize) {
        let mut to = reader.cursor;
        if log.tail_from(to).is_none() {
            let (missed, kept, caught_up) = log.catch_up(to);
            assert_eq!(missed.first, reader.next);
            reader.next = missed.end;
            for (id, line) in kept {
                assert_eq!((id, line.as_str()), (reader.next, reader.next.to_string().as_str()));
                reader.next += 1;
            }
            to = caught_up;
        }
        for entry in log.tail_from(to).unwrap().take(lines) {
            to = Cursor { place: to.place + 1, id: entry.id };
            if entry.is_message {
                assert_eq!(
                    (entry.id, entry.line.as_str()),
                    (reader.next, reader.next.to_string().as_str())
                );
                reader.next += 1;
            }
        }
        log.advance(reader.cursor, to);
        reader.cursor = to;
    }

    fn check(log: &Log, readers: &[Reader]) {
        let first_kept = log.first_kept();
        let needed = |entry: &&Entry| !entry.is_message || entry.id < first_kept;
        let backlog: usize = log.tail.iter().filter(needed).map(|entry| cost(&entry.line)).sum();
        assert_eq!(log.backlog(), backlog);
        let counted: u32 = log.tail.iter().map(|entry| entry.readers).sum();
        assert_eq!((counted + log.readers_at_end) as usize, readers.len());
        assert!(log.tail.front().is_none_or(|entry| entry.readers > 0));
    }
}
