//! Going on with what is sound in a damaged store.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::Connection;
use tracing::warn;

use super::rows::{self, Damage, Loaded};
use super::sqlite::{self, beside};
use super::{Kind, StoreError};

/// Writes what is sound into a new store, which takes the file's name. The damaged one is kept
/// beside it.
pub(super) fn salvage(
    file: &Path,
    damaged: Connection,
    loaded: Loaded,
) -> Result<(Connection, Loaded), StoreError> {
    let replaced = replace(file, damaged, &loaded);
    let aside = replaced.map_err(|kind| StoreError::new(file, kind))?;
    let lost = loaded.damage.to_string();
    warn!("the store was damaged: {lost}; it is kept as {aside}");
    let connection = sqlite::open_made(file).map_err(|kind| StoreError::new(file, kind))?;
    let all_rooms = loaded.rooms.len() as u64;
    Ok((connection, Loaded { all_rooms, damage: Damage::default(), ..loaded }))
}

/// How the name of a damaged file goes on.
const ASIDE: &str = ".damaged-";

/// The damaged file, where one was put aside and what is sound did not get its name.
pub(super) fn interrupted(file: &Path) -> io::Result<Option<PathBuf>> {
    if !beside(file, ".part").try_exists()? {
        return Ok(None);
    }
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    let aside = beside(file, ASIDE);
    let aside = aside.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(aside) && !name.ends_with(b"-wal") && !name.ends_with(b"-mark") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn replace(file: &Path, damaged: Connection, loaded: &Loaded) -> Result<String, Kind> {
    let part = beside(file, ".part");
    sqlite::make(&part)?;
    let mut sound = sqlite::open_made(&part)?;
    write(&mut sound, loaded).map_err(Kind::Sqlite)?;
    sound.close().map_err(|(_, error)| Kind::Sqlite(error))?;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis();
    let aside = beside(file, &format!("{ASIDE}{now}"));
    // Its log stays a log.
    drop(damaged);
    fs::rename(file, &aside).map_err(Kind::Io)?;
    for ending in ["-wal", "-mark"] {
        match fs::rename(beside(file, ending), beside(&aside, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Kind::Io(error)),
            _ => {}
        }
    }
    fs::rename(&part, file).map_err(Kind::Io)?;
    Ok(aside.display().to_string())
}

fn write(connection: &mut Connection, loaded: &Loaded) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for room in &loaded.rooms {
        let mut head = room.head;
        head.seats = room.seats.len() as u64;
        rows::write_room(&transaction, room.number, &head)?;
        for (id, line) in (head.first_id..).zip(&room.messages) {
            rows::write_message(&transaction, room.number, id, line)?;
        }
        for seat in &room.seats {
            rows::write_seat(&transaction, room.number, seat)?;
        }
    }
    rows::write_total(&transaction, loaded.rooms.len() as u64, loaded.next_room)?;
    transaction.commit()
}
