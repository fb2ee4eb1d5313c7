//! A store in a file of SQLite: who may open it, and how it is made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::rows::{self, Loaded};
use super::wal::Unfinished;
use super::{Kind, StoreError, mark, salvage, wal};

/// The first bytes of every file of SQLite.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Where the application's number stands in them.
const APPLICATION: std::ops::Range<usize> = 68..72;
/// The number of parlor's files: `prlr`.
const PARLOR: i32 = i32::from_be_bytes(*b"prlr");
/// The tables as this version knows them.
const VERSION: i64 = MIGRATIONS.len() as i64;
/// What makes each version of the tables from the one before it.
const MIGRATIONS: &[&str] = &[rows::TABLES];

/// Opens a store, which is made if there is none, and loads it. A damaged one is opened as well;
/// nothing is changed in it.
pub(super) fn open(file: &Path) -> Result<(Connection, Loaded), StoreError> {
    let failed = |kind| StoreError::new(file, kind);
    if !file.try_exists().map_err(|error| failed(Kind::Io(error)))? {
        create(file)?;
    }
    // Before SQLite has the file: its locks go when anybody in this program closes it.
    check_owner(file).map_err(failed)?;
    let torn = wal::check(file).map_err(|error| failed(Kind::Io(error)))?;
    let (connection, damage) = match connect(file).map_err(failed)? {
        Connected::Sound(connection) => (connection, None),
        Connected::Damaged(connection, found) => (connection, Some(found)),
    };
    let mut loaded = rows::load(&connection);
    loaded.damage.other = damage.or(torn.damage).or(loaded.damage.other);
    if loaded.damage.is_nothing()
        && let Some(found) = inspect(&connection)
    {
        loaded.damage.other = Some(found);
    }
    match torn.unfinished {
        None => {}
        Some(Unfinished::Unacknowledged) => tracing::warn!(
            "the last commit in the store's log is not whole and was not taken; nobody had been \
             told of it"
        ),
        Some(Unfinished::Unmarked) => tracing::warn!(
            "the last commit in the store's log is not whole and was not taken; it isn't known \
             whether anybody had been told of it: the latest messages may be missing"
        ),
    }
    if loaded.damage.is_nothing() {
        leave_log(&connection, false).map_err(|error| failed(Kind::Sqlite(error)))?;
    }
    Ok((connection, loaded))
}

enum Connected {
    Sound(Connection),
    /// What SQLite says.
    Damaged(Connection, String),
}

/// The file that a link leads to: SQLite has its log beside that one.
pub(super) fn resolve(file: &Path) -> PathBuf {
    match (fs::canonicalize(file), fs::read_link(file)) {
        (Ok(target), Ok(_)) => target,
        // Where nothing is yet.
        (Err(_), Ok(target)) => file.parent().unwrap_or(Path::new("")).join(target),
        (_, Err(_)) => file.to_owned(),
    }
}

/// The file must be a store of parlor, as far as its beginning tells.
fn check_owner(file: &Path) -> Result<(), Kind> {
    let mut beginning = Vec::new();
    let read = File::open(file)
        .and_then(|file| file.take(APPLICATION.end as u64).read_to_end(&mut beginning));
    read.map_err(Kind::Io)?;
    if beginning.is_empty() {
        return Err(Kind::Empty);
    }
    let is_ours = beginning.starts_with(MAGIC)
        && beginning.get(APPLICATION) == Some(&PARLOR.to_be_bytes()[..]);
    if is_ours { Ok(()) } else { Err(Kind::Foreign) }
}

fn connect(file: &Path) -> Result<Connected, Kind> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(Kind::Sqlite)?;
    // A store that is refused stays as it is, its log too.
    leave_log(&connection, true).map_err(Kind::Sqlite)?;
    match prepare(&mut connection) {
        Ok(VERSION) => Ok(Connected::Sound(connection)),
        Ok(newer) => Err(Kind::Newer(newer)),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Err(Kind::InUse),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Ok(Connected::Damaged(connection, error.to_string()))
            }
            _ => Err(Kind::Sqlite(error)),
        },
    }
}

/// Whether closing leaves the log beside the file, or puts it into it.
pub(super) fn leave_log(connection: &Connection, leave: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave).map(drop)
}

/// Takes the file for this process alone, and returns the version of its tables.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let version = |connection: &Connection| {
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
    };
    if version(connection)? > VERSION {
        return version(connection);
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    migrate(connection, MIGRATIONS)?;
    version(connection)
}

/// Brings the tables to the version that the steps make: all of them or none.
fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    // The lock is taken here, and kept.
    let behavior = TransactionBehavior::Immediate;
    let transaction = connection.transaction_with_behavior(behavior)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).unwrap_or_default();
    for step in steps.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    if done < steps.len() {
        transaction.pragma_update(None, "user_version", steps.len() as i64)?;
    }
    transaction.commit()
}

/// What SQLite finds in its own structures; `None` if that is nothing.
fn inspect(connection: &Connection) -> Option<String> {
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match found {
        Ok(found) if found == "ok" => None,
        Ok(found) => Some(found),
        Err(error) => Some(error.to_string()),
    }
}

/// Makes a new store: beside its place, and then there at once, so that nobody sees half of one.
fn create(file: &Path) -> Result<(), StoreError> {
    let failed = |kind| StoreError::new(file, kind);
    // SQLite would put the log of another file into the new one.
    if beside(file, "-wal").try_exists().map_err(|error| failed(Kind::Io(error)))? {
        return Err(failed(Kind::LogAlone));
    }
    if let Some(damaged) = salvage::interrupted(file).map_err(|error| failed(Kind::Io(error)))? {
        return Err(failed(Kind::HalfSalvaged(damaged)));
    }
    mark::remove(file).map_err(|error| failed(Kind::Io(error)))?;
    let part = beside(file, ".part");
    // A link doesn't replace what another process has put there meanwhile.
    let made = make(&part).and_then(|()| fs::hard_link(&part, file).map_err(Kind::Io));
    // On a full disk there may be half of one, and what SQLite has written beside it.
    fs::remove_file(beside(&part, "-journal")).ok();
    let removed = fs::remove_file(&part).map_err(Kind::Io);
    made.and(removed).map_err(failed)
}

/// Makes an empty store that only its owner may read: it holds codes and texts.
pub(super) fn make(file: &Path) -> Result<(), Kind> {
    let removed = fs::remove_file(file);
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(Kind::Io(error));
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(file).map_err(Kind::Io)?);
    let fill = || {
        let mut connection = Connection::open(file)?;
        connection.pragma_update(None, "application_id", PARLOR)?;
        migrate(&mut connection, MIGRATIONS)?;
        rows::write_total(&connection, 0, 0)
    };
    fill().map_err(Kind::Sqlite)
}

/// A name beside the file's.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Opens a store that was just made.
pub(super) fn open_made(file: &Path) -> Result<Connection, Kind> {
    match connect(file)? {
        Connected::Sound(connection) => {
            leave_log(&connection, false).map_err(Kind::Sqlite)?;
            Ok(connection)
        }
        Connected::Damaged(_, found) => Err(Kind::Damaged(found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    fn words(connection: &Connection) -> rusqlite::Result<Vec<(String, Option<i64>)>> {
        let mut select = connection.prepare("SELECT word, length FROM words")?;
        select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    const FIRST: &str = "CREATE TABLE words (word TEXT); INSERT INTO words VALUES ('capybara')";
    const SECOND: &str = "ALTER TABLE words ADD COLUMN length INTEGER";
    const THIRD: &str = "UPDATE words SET length = length(word)";

    #[test]
    fn an_older_store_is_brought_up_step_by_step_with_what_it_has() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[FIRST]).unwrap();
        assert_eq!(version(&connection), 1);
        migrate(&mut connection, &[FIRST, SECOND, THIRD]).unwrap();
        assert_eq!(version(&connection), 3);
        assert_eq!(words(&connection).unwrap(), [("capybara".to_owned(), Some(8))]);
        migrate(&mut connection, &[FIRST, SECOND, THIRD]).unwrap();
        assert_eq!(version(&connection), 3);
    }

    #[test]
    fn a_migration_that_fails_half_way_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[FIRST]).unwrap();
        let broken = "UPDATE words SET length = 1; UPDATE nothing SET length = 2";
        migrate(&mut connection, &[FIRST, SECOND, broken]).unwrap_err();
        assert_eq!(version(&connection), 1);
        assert!(words(&connection).is_err(), "the second step stayed");
        // Later it can go on from there.
        migrate(&mut connection, &[FIRST, SECOND, THIRD]).unwrap();
        assert_eq!(words(&connection).unwrap(), [("capybara".to_owned(), Some(8))]);
    }
}
