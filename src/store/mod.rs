//! Where rooms also live: in memory alone, or in a file as well.
//!
//! The seam is the room's: it hands records to a [`Keeper`](crate::room::Keeper) and takes back
//! what was kept. A store writes the records, and reads the rooms at the start.

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(feature = "sqlite")]
mod mark;
#[cfg(feature = "sqlite")]
mod place;
#[cfg(feature = "sqlite")]
mod rows;
#[cfg(feature = "sqlite")]
mod salvage;
#[cfg(feature = "sqlite")]
mod simulated;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod wal;
#[cfg(feature = "sqlite")]
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::config::Disk;
use crate::protocol::limits::STORE_CLOSE;
use crate::room::{Keeper, KeptRoom};

/// A store that is open.
#[derive(Debug)]
pub(crate) struct Store {
    /// Completes when the writer has ended.
    ended: oneshot::Receiver<()>,
}

/// Why a store can't be opened. Nothing has been changed then.
#[derive(Debug)]
pub struct StoreError {
    file: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "there is no store to fail"))]
pub(crate) enum Kind {
    /// The library was built without it.
    #[cfg(not(feature = "sqlite"))]
    Missing,
    InUse,
    Newer(i64),
    Foreign,
    Empty,
    /// There is a log, but not the file that it belongs to.
    LogAlone,
    /// What was found, for people.
    Damaged(String),
    /// It was being salvaged when that was interrupted: the damaged file is here.
    HalfSalvaged(PathBuf),
    Io(io::Error),
    #[cfg(feature = "sqlite")]
    Sqlite(rusqlite::Error),
}

/// Opens the store in a file, which is made if there is none, and loads it. With `salvage` a
/// damaged one is replaced by what is sound in it.
///
/// Must be called in a tokio runtime: what is kept is delivered there.
#[cfg(feature = "sqlite")]
pub(crate) fn open(
    file: &Path,
    salvage: bool,
    disk: &Disk,
) -> Result<(Store, Keeper, Vec<KeptRoom>), StoreError> {
    let file = &sqlite::resolve(file);
    let (connection, loaded) = sqlite::open(file)?;
    let (connection, loaded) = match loaded.damage.is_nothing() {
        true => (connection, loaded),
        false if salvage => salvage::salvage(file, connection, loaded)?,
        false => return Err(StoreError::new(file, Kind::Damaged(loaded.damage.to_string()))),
    };
    let next_room = loaded.rooms.iter().map(|room| room.number + 1).max().unwrap_or(1);
    let (keeper, records) = Keeper::new(next_room.max(loaded.next_room));
    let (end, ended) = oneshot::channel();
    let writer = writer::Writer::new(connection, file, &loaded.rooms, loaded.next_room);
    let started = match disk.0.clone() {
        None => writer.start(records, end).map_err(Kind::Io),
        Some(commit) => writer.simulate(records, end, commit).map_err(Kind::Sqlite),
    };
    started.map_err(|kind| StoreError::new(file, kind))?;
    Ok((Store { ended }, keeper, loaded.rooms))
}

/// There is no store in this build.
#[cfg(not(feature = "sqlite"))]
pub(crate) fn open(
    file: &Path,
    _salvage: bool,
    _disk: &Disk,
) -> Result<(Store, Keeper, Vec<KeptRoom>), StoreError> {
    Err(StoreError::new(file, Kind::Missing))
}

impl Store {
    /// Waits until all is written that was handed over, and the file is closed; [`STORE_CLOSE`] at most.
    pub(crate) async fn ended(self) {
        if tokio::time::timeout(STORE_CLOSE, self.ended).await.is_err() {
            tracing::warn!("the store takes too long to close");
        }
    }
}

impl StoreError {
    fn new(file: &Path, kind: Kind) -> StoreError {
        StoreError { file: file.to_owned(), kind }
    }

    /// The file that was to be opened.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file is a store that is damaged; [`Config::salvage`](crate::Config::salvage)
    /// goes on with what is sound in it.
    pub fn is_damaged(&self) -> bool {
        matches!(self.kind, Kind::Damaged(_))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.kind {
            #[cfg(not(feature = "sqlite"))]
            Kind::Missing => write!(f, "cannot store in {file}: this build has no SQLite"),
            Kind::InUse => write!(
                f,
                "{file} is in use: another parlor stores there. Stop that one, or take another file"
            ),
            Kind::Newer(version) => write!(
                f,
                "{file} was written by a newer parlor (format {version}): start that one, or take \
                 another file. Nothing was changed"
            ),
            Kind::Foreign => write!(
                f,
                "{file} is no store of parlor, or its beginning is destroyed. Take another file, \
                 or move this one away to begin a new store. Nothing was changed"
            ),
            Kind::Empty => {
                write!(f, "{file} is empty, and a store never is. Remove it to begin a new store")
            }
            Kind::LogAlone => write!(
                f,
                "{file} is missing, but its log {file}-wal is there: bring the file back, or move \
                 the log away to begin a new store"
            ),
            Kind::Damaged(found) => write!(
                f,
                "{file} is damaged: {found}. Nothing was changed. To go on with what is sound, \
                 start once with --salvage; the damaged file is kept beside the new one"
            ),
            Kind::HalfSalvaged(damaged) => write!(
                f,
                "{file} was being salvaged when that was interrupted: what is sound is in \
                 {file}.part, and the damaged file is {}. Give one of them the name {file}",
                damaged.display()
            ),
            Kind::Io(error) => write!(f, "cannot open the store {file}: {error}"),
            #[cfg(feature = "sqlite")]
            Kind::Sqlite(error) => write!(f, "cannot open the store {file}: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Io(error) => Some(error),
            #[cfg(feature = "sqlite")]
            Kind::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}
