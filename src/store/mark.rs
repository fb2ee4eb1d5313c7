//! A mark beside the log: how much of it has been acknowledged.
//!
//! In the log alone a commit that was torn in the middle and one that was damaged later look the
//! same. So what is committed is marked before anybody is told of it, and a log that ends before
//! its mark has lost something. The mark is not synced: it is exact after a kill, and some seconds
//! old at most after a power failure.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::sqlite::beside;
use super::wal;

/// The commits up to a place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Those of the log's head: they are others when SQLite begins the log anew, and all that was
    /// in it is in the file by then.
    pub(super) salts: [u8; 8],
    pub(super) frames: u32,
}

/// Who sets the mark of a store that is open.
#[derive(Debug)]
pub(super) struct Marker {
    store: PathBuf,
    /// The log and the mark, once there was a commit.
    files: Option<(File, File)>,
    /// As it was set last.
    last: Option<Mark>,
    has_failed: bool,
}

impl Mark {
    /// The mark beside a store. One that is torn or damaged is none: then the log is all there is.
    pub(super) fn read(store: &Path) -> io::Result<Option<Mark>> {
        match fs::read(path(store)) {
            Ok(bytes) => Ok(Mark::from_bytes(&bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Mark> {
        let (content, sum) = bytes.split_at_checked(12)?;
        let (salts, frames) = content.split_at(8);
        let mark = Mark {
            salts: salts.try_into().ok()?,
            frames: u32::from_be_bytes(frames.try_into().ok()?),
        };
        (*sum == crc32fast::hash(content).to_be_bytes()).then_some(mark)
    }

    fn to_bytes(self) -> Vec<u8> {
        let content = [&self.salts[..], &self.frames.to_be_bytes()].concat();
        [&content[..], &crc32fast::hash(&content).to_be_bytes()].concat()
    }
}

impl Marker {
    pub(super) fn new(store: &Path) -> Marker {
        Marker { store: store.to_owned(), files: None, last: None, has_failed: false }
    }

    /// Marks all that is committed. Where that fails the old mark stays, which asks for less.
    pub(super) fn set(&mut self, connection: &Connection) {
        if let Err(why) = self.try_set(connection)
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!(%why, "the store's log can't be marked");
        }
    }

    fn try_set(&mut self, connection: &Connection) -> Result<(), Box<dyn std::error::Error>> {
        let frames = frames(connection)?;
        let (log, mark) = match &mut self.files {
            Some(files) => files,
            files => files.insert(open(&self.store)?),
        };
        let mut salts = [0; 8];
        log.seek(SeekFrom::Start(wal::SALTS.start as u64))?;
        log.read_exact(&mut salts)?;
        mark.seek(SeekFrom::Start(0))?;
        let now = Mark { salts, frames };
        mark.write_all(&now.to_bytes())?;
        self.last = Some(now);
        Ok(())
    }

    /// Cuts off what a commit that failed has left behind the last one. Where only its sync has
    /// failed it looks whole, and SQLite would take it after a kill.
    pub(super) fn cut_log(&mut self, connection: &Connection) {
        if let Err(why) = self.try_cut_log(connection) {
            tracing::debug!(%why, "the store's log can't be cut");
        }
    }

    fn try_cut_log(&mut self, connection: &Connection) -> Result<(), Box<dyn std::error::Error>> {
        let frames = frames(connection)?;
        let mut log =
            OpenOptions::new().read(true).write(true).open(beside(&self.store, "-wal"))?;
        let mut head = [0; wal::HEAD];
        log.read_exact(&mut head)?;
        let is_marked = self.last.is_some_and(|mark| mark.salts == head[wal::SALTS]);
        // Where SQLite begins the log anew and hasn't written its head, all of it is marked.
        let bytes = wal::bytes(&head, frames);
        if (frames > 0 || !is_marked) && log.metadata()?.len() > bytes {
            log.set_len(bytes)?;
        }
        Ok(())
    }

    /// Removes the mark: the log is about to be put into the file.
    pub(super) fn remove(self) -> io::Result<()> {
        // On the disk it must not outlive the log.
        if let Some((_, mark)) = self.files {
            mark.set_len(0)?;
            mark.sync_all()?;
        }
        remove(&self.store)
    }
}

/// The frames of the log that are committed.
fn frames(connection: &Connection) -> rusqlite::Result<u32> {
    // It does nothing but count.
    let mut count = connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?;
    count.query_row([], |row| row.get(1))
}

/// The log and the mark of a store.
fn open(store: &Path) -> io::Result<(File, File)> {
    let log = File::open(beside(store, "-wal"))?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok((log, options.open(path(store))?))
}

/// Where the mark of a store is.
pub(super) fn path(store: &Path) -> PathBuf {
    beside(store, "-mark")
}

/// Removes the mark of a store, if there is one.
pub(super) fn remove(store: &Path) -> io::Result<()> {
    match fs::remove_file(path(store)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_is_not_whole_is_none() {
        let mark = Mark { salts: *b"saltsalt", frames: 258 };
        let bytes = mark.to_bytes();
        assert_eq!(Mark::from_bytes(&bytes), Some(mark));
        for length in 0..bytes.len() {
            assert_eq!(Mark::from_bytes(&bytes[..length]), None, "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::from_bytes(&flipped), None, "bit {bit}");
        }
        assert_eq!(Mark::from_bytes(&[0; 16]), None);
    }
}
