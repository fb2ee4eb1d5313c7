//! What travels, in the log: for a lab.

use std::fmt::Display;

use tracing::info;

use crate::protocol::BadLine;
use crate::room::Hub;

/// Logs a line, with escapes visible.
pub(super) fn trace(hub: &Hub, way: &str, line: &impl Display) {
    if hub.config().trace_wire {
        info!(target: "parlor::wire", "{way} {}", line.to_string().escape_debug());
    }
}

/// The same for a line that is no text.
pub(super) fn trace_bad(hub: &Hub, why: BadLine, bytes: &[u8]) {
    if hub.config().trace_wire {
        let mut line = String::new();
        for chunk in bytes.utf8_chunks() {
            line.extend(chunk.valid().escape_debug());
            line.extend(chunk.invalid().escape_ascii().map(char::from));
        }
        // Of one that is too long nothing is kept.
        let line = if bytes.is_empty() { why.code().as_str() } else { &line };
        info!(target: "parlor::wire", "< {line}");
    }
}
