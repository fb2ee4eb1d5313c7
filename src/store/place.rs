//! Whether the files of a store are where they were: what is written to one that was moved away or
//! removed would not be there after a restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sqlite::beside;

/// Where the file of an open store and its log are.
#[derive(Debug)]
pub(super) struct Place {
    file: (PathBuf, Option<FileId>),
    /// It may be made later.
    log: (PathBuf, Option<FileId>),
}

/// The numbers of a file and of the device that it is on.
type FileId = (u64, u64);

impl Place {
    pub(super) fn new(store: &Path) -> Place {
        let [file, log] = [store.to_owned(), beside(store, "-wal")].map(|file| {
            let id = file_id(&file).ok().flatten();
            (file, id)
        });
        Place { file, log }
    }

    /// Fails if one of them is gone, or is another than it was.
    pub(super) fn check(&mut self) -> io::Result<()> {
        for (file, known) in [&mut self.file, &mut self.log] {
            let now = file_id(file)?;
            if known.is_some() && *known != now {
                let moved = "was moved away: bring it back, or start the server again";
                return Err(io::Error::other(format!("{} {moved}", file.display())));
            }
            *known = now;
        }
        Ok(())
    }

    /// Whether the log that is there is another's.
    pub(super) fn has_other_log(&self) -> bool {
        let (log, known) = &self.log;
        let now = file_id(log).ok().flatten();
        known.is_some() && now.is_some() && now != *known
    }
}

#[cfg(unix)]
fn file_id(file: &Path) -> io::Result<Option<FileId>> {
    use std::os::unix::fs::MetadataExt;

    match fs::metadata(file) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Elsewhere a file that is open can't be moved away.
#[cfg(not(unix))]
fn file_id(_: &Path) -> io::Result<Option<FileId>> {
    Ok(None)
}
