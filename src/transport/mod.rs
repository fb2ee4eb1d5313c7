//! What a session needs of a connection, and no more. Knows no room.

mod lines;
mod telnet;

pub use lines::{Ending, LineDecoder, Received};
pub(crate) use telnet::Answer;
