//! The one who writes: a thread that commits what has gathered, and lets it be seen then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::mark::Marker;
use super::place::Place;
use super::rows;
use super::sqlite::leave_log;
use crate::protocol::limits::{STORE_BATCH, STORE_RETRY};
use crate::room::{Head, KeptRoom, Record, Room};

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    marker: Marker,
    place: Place,
    written: Written,
    /// Rooms of which something could not be written, in an order that is the same in each run.
    again: BTreeMap<u64, Arc<Room>>,
    trouble: Option<Trouble>,
}

/// Since something could not be written. It lasts until all could for a while, so that a disk with
/// room for little things only isn't told of again and again.
#[derive(Debug)]
struct Trouble {
    /// When all is tried again that could not be written.
    retry_at: Instant,
    /// Something could not be written since the last time.
    failed: bool,
}

/// What the store has.
#[derive(Debug)]
struct Written {
    /// The ids from which on messages are stored, by the numbers of rooms.
    first_ids: HashMap<u64, u64>,
    /// How many rooms there are, and a number above those of all that there were.
    rooms: u64,
    next_room: u64,
}

/// What a commit makes of that.
#[derive(Debug)]
struct After {
    /// Of the rooms that it changes; `None`: the room is gone.
    first_ids: Vec<(u64, Option<u64>)>,
    rooms: u64,
    next_room: u64,
}

/// What is committed together.
#[derive(Debug, Default)]
struct Changes {
    /// `None`: the room is gone.
    rooms: BTreeMap<u64, Option<Head>>,
    /// Rooms in which something was said. They forget a message for each new one.
    spoken: BTreeSet<u64>,
}

/// Messages that are deleted at once, at least, when a room keeps them no more in which people talk.
const TRIM: u64 = 64;

impl Writer {
    pub(super) fn new(
        connection: Connection,
        file: &Path,
        kept: &[KeptRoom],
        next_room: u64,
    ) -> Writer {
        let first_ids = kept.iter().map(|room| (room.number, room.head.first_id)).collect();
        let written = Written { first_ids, rooms: kept.len() as u64, next_room };
        let (marker, place) = (Marker::new(file), Place::new(file));
        Writer { connection, marker, place, written, again: BTreeMap::new(), trouble: None }
    }

    /// Writes until the queue is closed and empty; then `end` is dropped.
    pub(super) fn start(
        mut self,
        records: Receiver<Record>,
        end: oneshot::Sender<()>,
    ) -> io::Result<()> {
        let runtime = Handle::current();
        let write = move || {
            // Rooms with many members are delivered to by tasks.
            let _runtime = runtime.enter();
            let _watch = Watch;
            while let Some(batch) = self.gather(&records) {
                self.keep(batch);
            }
            let batch = self.last_batch();
            self.keep(batch);
            self.close();
            drop(end);
        };
        thread::Builder::new().name("parlor-store".to_owned()).spawn(write).map(drop)
    }

    /// All that waits, up to [`STORE_BATCH`] records. `None` at the end.
    fn gather(&mut self, records: &Receiver<Record>) -> Option<Vec<Record>> {
        let first = match self.patience() {
            None => records.recv().ok()?,
            Some(patience) => match records.recv_timeout(patience) {
                Ok(record) => record,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
            },
        };
        Some(batch(first, records))
    }

    /// How long to wait for records: forever, or until there is something to be tried again. That is
    /// done here when it is time, however many records come.
    pub(super) fn patience(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let trouble = self.trouble.as_mut()?;
        if now >= trouble.retry_at {
            if self.again.is_empty() && !trouble.failed {
                info!("the store can be written again");
                self.trouble = None;
                return None;
            }
            self.again.values().for_each(|room| room.hand_over_again());
            *trouble = Trouble { retry_at: now + STORE_RETRY, failed: false };
        }
        Some(trouble.retry_at - now)
    }

    /// At the end, what could not be written until now. It is tried once more: nobody will later.
    pub(super) fn last_batch(&self) -> Vec<Record> {
        self.again.values().filter_map(|room| room.last_record()).collect()
    }

    /// Writes a batch with one commit: all of it or nothing.
    fn keep(&mut self, batch: Vec<Record>) {
        if !batch.is_empty() {
            let written = self.write(&batch);
            self.settle(batch, written);
        }
    }

    /// Lets everybody see what was written, or takes back what could not be.
    pub(super) fn settle(&mut self, batch: Vec<Record>, written: rusqlite::Result<()>) {
        match written {
            Ok(()) => {
                for record in batch {
                    self.again.remove(&record.number);
                    record.kept();
                }
            }
            Err(why) => {
                self.failed(&why);
                for record in batch {
                    // Where one was taken back, those behind it are void.
                    if record.is_void() {
                        continue;
                    }
                    let (number, is_gone) = (record.number, record.is_gone);
                    let room = record.not_kept();
                    // A room that is gone before the store knows of it is nothing to be stored.
                    match is_gone && !self.written.first_ids.contains_key(&number) {
                        true => self.again.remove(&number),
                        false => self.again.insert(number, room),
                    };
                }
            }
        }
    }

    fn failed(&mut self, why: &rusqlite::Error) {
        let trouble = self.trouble.get_or_insert_with(|| {
            error!(error = %why, "the store can't be written: messages are refused");
            Trouble { retry_at: Instant::now() + STORE_RETRY, failed: true }
        });
        trouble.failed = true;
    }

    pub(super) fn write(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        // Nothing is done to files that are others'.
        self.place.check().map_err(moved)?;
        let written = self.try_write(batch);
        if written.is_err() {
            self.marker.cut_log(&self.connection);
        }
        written
    }

    fn try_write(&mut self, batch: &[Record]) -> rusqlite::Result<()> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let mut changes = Changes::default();
        for record in batch {
            changes.write(&transaction, record)?;
        }
        let after = self.written.after(&transaction, changes)?;
        transaction.commit()?;
        self.written.take(after);
        self.marker.set(&self.connection);
        Ok(())
    }

    /// Closes the file, with all in it that was in the log.
    fn close(self) {
        if !self.again.is_empty() {
            let rooms = self.again.len();
            warn!(rooms, "who has left these rooms last, or closed them, is not stored");
        }
        if self.place.has_other_log() {
            warn!("another store is in the place of this one, which is left as it is");
            // SQLite would remove its log.
            if leave_log(&self.connection, true).is_err() {
                std::mem::forget(self.connection);
            }
            return;
        }
        if let Err(why) = self.marker.remove() {
            warn!(%why, "the mark of the store's log can't be removed");
        }
        if let Err((_, why)) = self.connection.close() {
            warn!(%why, "the store can't be closed");
        }
    }
}

/// A record, and all that waits behind it, up to [`STORE_BATCH`]; of these, what may be kept.
pub(super) fn batch(first: Record, records: &Receiver<Record>) -> Vec<Record> {
    let rest = records.try_iter().take(STORE_BATCH - 1);
    std::iter::once(first).chain(rest).filter(|record| !record.is_void()).collect()
}

/// As SQLite has it.
fn moved(why: io::Error) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY_DBMOVED);
    rusqlite::Error::SqliteFailure(code, Some(why.to_string()))
}

/// Tells when the one who writes ends by a fault.
struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if thread::panicking() {
            error!("the store has failed: nothing can be stored until the server is started again");
        }
    }
}

impl Changes {
    fn write(&mut self, connection: &Connection, record: &Record) -> rusqlite::Result<()> {
        let room = record.number;
        if record.is_gone {
            for table in ["messages", "seats", "rooms"] {
                let delete = format!("DELETE FROM {table} WHERE room = ?1");
                connection.prepare_cached(&delete)?.execute([room as i64])?;
            }
            self.rooms.insert(room, None);
            return Ok(());
        }
        if record.all_seats {
            connection
                .prepare_cached("DELETE FROM seats WHERE room = ?1")?
                .execute([room as i64])?;
        }
        if !record.messages.is_empty() {
            self.spoken.insert(room);
        }
        for (id, line) in &record.messages {
            rows::write_message(connection, room, *id, line)?;
        }
        for seat in &record.seats {
            rows::write_seat(connection, room, seat)?;
        }
        for seat in &record.ended {
            connection
                .prepare_cached("DELETE FROM seats WHERE room = ?1 AND seat = ?2")?
                .execute([room as i64, *seat as i64])?;
        }
        self.rooms.insert(room, Some(record.head));
        Ok(())
    }
}

impl Written {
    /// Writes the rows of rooms, and deletes messages that they keep no more.
    fn after(&self, connection: &Connection, changes: Changes) -> rusqlite::Result<After> {
        let (rooms, next_room) = (self.rooms, self.next_room);
        let mut after = After { first_ids: Vec::new(), rooms, next_room };
        for (room, head) in changes.rooms {
            let known = self.first_ids.get(&room).copied();
            let Some(mut head) = head else {
                after.rooms -= u64::from(known.is_some());
                after.first_ids.push((room, None));
                continue;
            };
            after.rooms += u64::from(known.is_none());
            after.next_room = after.next_room.max(room + 1);
            let first = known.unwrap_or(head.first_id);
            let least = if changes.spoken.contains(&room) { TRIM } else { 1 };
            if head.first_id >= first + least {
                connection
                    .prepare_cached("DELETE FROM messages WHERE room = ?1 AND id < ?2")?
                    .execute([room as i64, head.first_id as i64])?;
            } else {
                head.first_id = first;
            }
            after.first_ids.push((room, Some(head.first_id)));
            rows::write_room(connection, room, &head)?;
        }
        if (after.rooms, after.next_room) != (rooms, next_room) {
            rows::write_total(connection, after.rooms, after.next_room)?;
        }
        Ok(after)
    }

    /// Takes over what has been committed.
    fn take(&mut self, after: After) {
        (self.rooms, self.next_room) = (after.rooms, after.next_room);
        for (room, first_id) in after.first_ids {
            match first_id {
                Some(first_id) => self.first_ids.insert(room, first_id),
                None => self.first_ids.remove(&room),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::room::{Hub, Keeper, Visit};

    /// A hub whose records come here, and who would write them.
    fn writer() -> (Hub, Receiver<Record>, Writer) {
        let (keeper, records) = Keeper::new(1);
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(rows::TABLES).unwrap();
        let writer = Writer::new(connection, Path::new("nowhere"), &[], 1);
        (Hub::kept(Config::default(), Some(keeper), Vec::new()), records, writer)
    }

    fn full() -> rusqlite::Error {
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        rusqlite::Error::SqliteFailure(full, None)
    }

    #[tokio::test]
    async fn of_rooms_that_a_full_disk_has_refused_nothing_is_left() {
        let (hub, records, mut writer) = writer();
        for _ in 0..10 {
            let (room, promise) = hub.make_room(&Visit::exempt()).unwrap();
            writer.settle(records.try_iter().collect(), Err(full()));
            assert_eq!(writer.again.len(), 1);
            hub.founded(&room, promise).await.unwrap_err();
            writer.settle(records.try_iter().collect(), Err(full()));
            assert_eq!(writer.again.len(), 0);
            assert_eq!(Arc::strong_count(&room), 1);
        }
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_tried_once_more_at_the_end() {
        let (hub, records, mut writer) = writer();
        let mut sam = hub.join("LOBBY", "sam").unwrap();
        sam.hold(9).unwrap();
        let batch: Vec<_> = records.try_iter().collect();
        writer.write(&batch).unwrap();
        writer.settle(batch, Ok(()));
        drop(sam);
        writer.settle(records.try_iter().collect(), Err(full()));
        hub.close_keeper();
        for last in [Err(full()), Ok(())] {
            let batch = writer.last_batch();
            assert_eq!(batch.len(), 1);
            assert!(batch[0].all_seats && batch[0].seats.is_empty());
            writer.settle(batch, last);
        }
        assert_eq!(writer.last_batch().len(), 0);
    }

    #[tokio::test]
    async fn what_is_void_is_not_written() {
        let (hub, records, mut writer) = writer();
        let mut sam = hub.join("LOBBY", "sam").unwrap();
        sam.hold(9).unwrap();
        sam.lock(true, true).unwrap();
        let first = records.try_recv().unwrap();
        writer.settle(vec![first], Err(full()));
        let next = records.recv().unwrap();
        assert!(next.is_void());
        sam.hold(9).unwrap();
        let batch = batch(next, &records);
        assert_eq!(batch.iter().map(|record| record.head.locked).collect::<Vec<_>>(), [false]);
        writer.write(&batch).unwrap();
        writer.settle(batch, Ok(()));
        assert_eq!(writer.again.len(), 0);
    }
}
