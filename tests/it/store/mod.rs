//! Rooms that survive: restarts, kills, full disks and damaged files. SQLite is the real one, in
//! real files.

mod damage;
mod full_disk;
mod kills;
mod log;
mod moved;
mod restart;
mod return_of_all;
mod start;
mod sync;

use std::fs;
use std::path::PathBuf;

use parlor::{Config, Server};
use tempfile::TempDir;
use tokio::process::Command;

use crate::binary::{Daemon, parlor};
use crate::client::TestServer;
use crate::support::Client;

/// A folder with the name of a store in it.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) file: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("rooms.db");
        Place { folder, file }
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        config.store = Some(self.file.clone());
        config
    }

    pub(crate) fn server(&self) -> TestServer {
        TestServer::start(self.config())
    }

    pub(crate) fn command(&self) -> Command {
        let store = format!("sqlite:{}", self.file.display());
        let listen = ["--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"];
        let mut command = parlor(&[&listen[..], &["--store", &store]].concat());
        command.env_remove("PARLOR_NO_WEB");
        command
    }

    /// The real program.
    pub(crate) async fn daemon(&self) -> Daemon {
        Daemon::spawn(self.command()).await
    }

    /// Why a server doesn't start.
    pub(crate) fn refused(&self) -> String {
        Server::bind(self.config()).expect_err("a store that can't be opened").to_string()
    }

    /// The file whose name goes on like this.
    pub(crate) fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(ending);
        name.into()
    }

    /// What is in such files; nothing where there is none.
    pub(crate) fn read(&self, endings: [&str; 3]) -> Vec<Vec<u8>> {
        endings.map(|ending| fs::read(self.beside(ending)).unwrap_or_default()).into()
    }

    /// Puts that there; where there was nothing there will be no file.
    pub(crate) fn write(&self, endings: [&str; 3], contents: &[Vec<u8>]) {
        for (ending, content) in endings.iter().zip(contents) {
            let file = self.beside(ending);
            match content.is_empty() {
                true => fs::remove_file(file).unwrap_or_default(),
                false => fs::write(file, content).expect("written"),
            }
        }
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path()).expect("a folder");
        let name = |file: fs::DirEntry| file.file_name().into_string().expect("UTF-8");
        files.map(|file| name(file.expect("a file"))).collect()
    }
}

/// How often something is tried; a variable can say more.
pub(crate) fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |times| times.parse().expect("a number"))
}

pub(crate) async fn connect(daemon: &Daemon) -> Client {
    let stream = tokio::net::TcpStream::connect(daemon.addr()).await.expect("a connection");
    Client::over(stream).greeted().await
}

/// Returns what it has written to stderr.
pub(crate) async fn kill(daemon: Daemon) -> String {
    daemon.signal("KILL");
    daemon.wait().await.1
}
