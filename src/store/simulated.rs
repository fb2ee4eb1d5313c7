//! The writer on a simulated disk: a task that commits when it is told to, and so does the same in
//! each run.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::sqlite::leave_log;
use super::writer::{Writer, batch};
use crate::config::Commit;
use crate::room::Record;

struct Simulated {
    writer: Writer,
    records: Receiver<Record>,
    commit: Arc<Commit>,
}

/// A disk that is always ready would let nobody else run.
const SHORTEST: Duration = Duration::from_millis(1);

impl Writer {
    /// Writes until the queue is closed and empty; then `end` is dropped. Where the runtime ends
    /// before, it is as when a machine loses its power: what was not committed is lost.
    pub(super) fn simulate(
        self,
        records: Receiver<Record>,
        end: oneshot::Sender<()>,
        commit: Arc<Commit>,
    ) -> rusqlite::Result<()> {
        // Who loses power tidies nothing up.
        leave_log(&self.connection, true)?;
        let mut simulated = Simulated { writer: self, records, commit };
        tokio::spawn(async move {
            while simulated.turn().await {}
            drop((simulated, end));
        });
        Ok(())
    }
}

impl Simulated {
    /// One commit of what has gathered, if that is anything. False after the last.
    async fn turn(&mut self) -> bool {
        let commit = (self.commit)();
        let half = (commit.unwrap_or_else(|time| time) / 2).max(SHORTEST);
        sleep(half).await;
        self.writer.patience();
        let (batch, is_last) = match self.records.try_recv() {
            Ok(first) => (batch(first, &self.records), false),
            Err(TryRecvError::Disconnected) => (self.writer.last_batch(), true),
            Err(TryRecvError::Empty) => return true,
        };
        if !batch.is_empty() {
            // SQLite itself refuses then.
            let refuses = self.writer.connection.pragma_update(None, "query_only", commit.is_err());
            let written = refuses.and_then(|()| self.writer.write(&batch));
            sleep(half).await;
            self.writer.settle(batch, written);
        }
        !is_last
    }
}
