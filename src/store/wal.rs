//! The log beside a store, in which SQLite has what it has not put into the file yet.
//!
//! SQLite takes its frames up to the first whose sum is wrong, and says nothing of those behind
//! it. That is right where the power failed in the middle of the last commit; but a damaged log
//! must not look like an older one. So there is a [`Mark`] of what was acknowledged.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::ops::Range;
use std::path::Path;

use super::mark::Mark;
use super::sqlite::beside;

/// What is wrong with the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) damage: Option<String>,
    /// The last commit, and nothing else, is not whole.
    pub(super) unfinished: Option<Unfinished>,
}

/// What is known of a last commit that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// It lies behind the mark.
    Unacknowledged,
    /// There is no mark.
    Unmarked,
}

/// Bytes of the log's head, and of the head of each frame.
pub(super) const HEAD: usize = 32;
const FRAME_HEAD: usize = 24;
/// Where the salts of the log stand in its head.
pub(super) const SALTS: Range<usize> = 16..24;
/// The log's first bytes; the last bit tells the order of bytes of its sums.
const MAGIC: u32 = 0x377f_0682;

/// Looks for what was acknowledged and is lost, and for frames that were written after one whose
/// sum is wrong.
pub(super) fn check(file: &Path) -> io::Result<Torn> {
    let mark = Mark::read(file)?;
    match File::open(beside(file, "-wal")) {
        Ok(log) => frames(BufReader::new(log), mark),
        Err(error) if error.kind() == ErrorKind::NotFound => frames(io::empty(), mark),
        Err(error) => Err(error),
    }
}

fn frames(mut log: impl Read, mark: Option<Mark>) -> io::Result<Torn> {
    let damaged = |found: &str| Torn { damage: Some(found.to_owned()), unfinished: None };
    let mut head = [0; HEAD];
    if !fill(&mut log, &mut head)? {
        // SQLite writes the head before the first commit.
        return Ok(match mark {
            None => Torn::default(),
            Some(_) => damaged(
                "its log (-wal) is missing. If another program has put that into the file, remove \
                 the mark (-mark) too",
            ),
        });
    }
    let magic = word(&head, 0);
    let big_endian = magic & 1 == 1;
    let sums = sum((0, 0), &head[..24], big_endian);
    if magic & !1 != MAGIC || sums != (word(&head, 24), word(&head, 28)) {
        return Ok(damaged("the head of its log is wrong"));
    }
    let page = word(&head, 8) as usize;
    if !page.is_power_of_two() || !(512..=65536).contains(&page) {
        return Ok(damaged("the head of its log is wrong"));
    }
    let unfinished = mark.map_or(Unfinished::Unmarked, |_| Unfinished::Unacknowledged);
    // Of an earlier log everything is in the file.
    let mark = mark.filter(|mark| head[SALTS] == mark.salts);
    let mut frame = vec![0; FRAME_HEAD + page];
    let mut sums = sums;
    let (mut whole, mut taken) = (0, 0);
    // Commits that end in a frame that SQLite doesn't take.
    let (mut is_broken, mut commits) = (false, 0);
    while fill(&mut log, &mut frame)? {
        let is_of_now = frame[8..16] == head[SALTS];
        let is_commit = word(&frame, 4) != 0;
        if !is_broken {
            sums = sum(sum(sums, &frame[..8], big_endian), &frame[FRAME_HEAD..], big_endian);
            is_broken = !is_of_now || sums != (word(&frame, 16), word(&frame, 20));
        }
        whole += u32::from(!is_broken);
        if is_commit && !is_broken {
            taken = whole;
        }
        // Behind the end stand frames of an older log; those have other salts.
        commits += u32::from(is_broken && is_of_now && is_commit);
    }
    if mark.is_some_and(|mark| taken < mark.frames) {
        return Ok(damaged("the end of its log is lost, which was acknowledged"));
    }
    Ok(match commits {
        0 => Torn::default(),
        1 => Torn { damage: None, unfinished: Some(unfinished) },
        _ => damaged(&format!("{commits} commits in its log can't be read")),
    })
}

/// Bytes of a log with so many frames, by its head.
pub(super) fn bytes(head: &[u8; HEAD], frames: u32) -> u64 {
    HEAD as u64 + u64::from(frames) * (FRAME_HEAD as u64 + u64::from(word(head, 8)))
}

/// The next bytes; false if there are not so many.
fn fill(log: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// SQLite's sum over pairs of words.
fn sum((mut first, mut second): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |word: &[u8]| {
        let word = [word[0], word[1], word[2], word[3]];
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;
    use rusqlite::config::DbConfig;

    use super::super::mark::Marker;
    use super::*;

    /// The log of a database that was not closed, the length of a frame of it, and its mark.
    fn log() -> (Vec<u8>, usize, Option<Mark>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rooms.db");
        let connection = Connection::open(&file).unwrap();
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch("CREATE TABLE words (word TEXT)").unwrap();
        let mut marker = Marker::new(&file);
        for _ in 0..5 {
            connection.execute_batch("INSERT INTO words VALUES ('capybara')").unwrap();
            marker.set(&connection);
        }
        drop(connection);
        let log = fs::read(beside(&file, "-wal")).unwrap();
        let frame = FRAME_HEAD + word(&log, 8) as usize;
        let mark = Mark::read(&file).unwrap();
        assert_eq!(mark.unwrap().frames as usize, (log.len() - HEAD) / frame);
        (log, frame, mark)
    }

    fn torn(unfinished: Unfinished) -> Torn {
        Torn { damage: None, unfinished: Some(unfinished) }
    }

    #[test]
    fn a_log_is_sound_or_something_is_said() {
        let (log, frame, _) = log();
        assert_eq!(frames(&log[..], None).unwrap(), Torn::default());
        for at in [0, HEAD - 1, HEAD + FRAME_HEAD + 9, HEAD + frame + 20, HEAD + 2 * frame + 500] {
            let mut damaged = log.clone();
            damaged[at] ^= 4;
            assert!(frames(&damaged[..], None).unwrap().damage.is_some(), "{at}");
        }
    }

    #[test]
    fn in_a_marked_log_no_flip_and_no_cut_is_taken() {
        let (log, _, mark) = log();
        assert_eq!(frames(&log[..], mark).unwrap(), Torn::default());
        for at in 0..log.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(frames(&damaged[..], mark).unwrap().damage.is_some(), "{at}");
        }
        for length in (0..log.len()).step_by(7) {
            assert!(frames(&log[..length], mark).unwrap().damage.is_some(), "{length}");
        }
    }

    #[test]
    fn a_torn_last_commit_that_is_not_marked_is_no_damage() {
        let (mut log, frame, mark) = log();
        let mut before = mark.unwrap();
        before.frames -= 1;
        *log.last_mut().unwrap() ^= 4;
        assert_eq!(frames(&log[..], None).unwrap(), torn(Unfinished::Unmarked));
        assert_eq!(frames(&log[..], Some(before)).unwrap(), torn(Unfinished::Unacknowledged));
        for length in [log.len() - 9, log.len() - frame] {
            assert_eq!(frames(&log[..length], None).unwrap(), Torn::default());
            assert_eq!(frames(&log[..length], Some(before)).unwrap(), Torn::default());
        }
        let earlier = Mark { salts: *b"old salt", frames: 1000 };
        assert_eq!(frames(&log[..], Some(earlier)).unwrap(), torn(Unfinished::Unacknowledged));
    }

    #[test]
    fn frames_of_an_older_log_behind_the_end_are_none() {
        let (mut log, frame, mark) = log();
        let old = log.len() - 2 * frame;
        for at in [old, old + frame] {
            log[at + 8..at + 16].copy_from_slice(b"old salt");
        }
        assert_eq!(frames(&log[..], None).unwrap(), Torn::default());
        let before = mark.map(|mark| Mark { frames: mark.frames - 2, ..mark });
        assert_eq!(frames(&log[..], before).unwrap(), Torn::default());
        assert!(frames(&log[..], mark).unwrap().damage.is_some());
    }
}
