//! parlor
mod bulletin;
mod config;
pub mod protocol;
mod room;
mod server;
mod session;
mod transport;

pub use config::{Clock, Config, Random};
pub use protocol::Event;
pub use room::{Hub, Refusal, Said, Seat};
pub use server::{BindError, Origin, Server};
pub use transport::{Ending, LineDecoder, Received};
