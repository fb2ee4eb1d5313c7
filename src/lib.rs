//! Chat rooms over TCP that any netcat can use, as a library.
//!
//! A room is a log, a member is a cursor in it. Everybody in a room gets the same messages in the
//! same order, with ids 1, 2, 3, ... and no holes; who was away gets what he missed. The wire is
//! specified in `PROTOCOL.md`.
//!
//! # A server in your program
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let mut config = parlor::Config::default();
//! config.listen = vec!["127.0.0.1:0".parse().unwrap()];
//! let server = parlor::Server::bind(config)?;
//! println!("nc 127.0.0.1 {}", server.local_addr().unwrap().port());
//! # let ctrl_c = async {};
//! server.serve(ctrl_c).await;
//! # Ok::<(), parlor::BindError>(()) }).unwrap();
//! ```
//!
//! [`Server::attach`] talks with clients over anything else: a pipe, a Unix socket, TLS.
//!
//! # A member without a connection
//!
//! A bot takes a [`Seat`] from the server's [`Hub`], says things and waits for what happens:
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! # let hub = parlor::Hub::new(parlor::Config::default());
//! let mut bot = hub.join("LOBBY", "bot")?;
//! # let sam = hub.join("LOBBY", "sam")?; sam.say("hello").await?; drop(sam);
//! while let Some(event) = bot.next().await {
//!     if let parlor::Event::Msg { name, .. } = event {
//!         bot.say(&format!("I heard you, {name}.")).await?;
//!     }
//! #   if bot.code().as_str() == "LOBBY" { break }
//! }
//! # Ok::<(), parlor::Refusal>(()) }).unwrap();
//! ```
//!
//! # What it leaves to you
//!
//! The library has no globals, never exits the program, and installs no logger: it logs through
//! [`tracing`], never a text, a token or a room's code. Time, randomness and the pace of a store
//! can be given, see [`Clock`], [`Random`] and [`Disk`]. Without its default features it needs no
//! `clap` and no `tracing-subscriber`.

mod accept;
mod bulletin;
mod config;
mod door;
/// Ways in for the fuzz targets.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod metrics;
pub mod protocol;
mod reception;
mod room;
mod server;
mod session;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod transport;
#[cfg(feature = "web")]
mod web;

pub use config::{Clock, Config, Disk, Random};
pub use protocol::{
    Bye, ByeReason, Ending, Event, LeftReason, Name, NoticeKind, RoomCode, Text, Time,
};
pub use room::{Hub, Refusal, Said, Seat};
pub use server::{BindError, Origin, Server};
pub use store::StoreError;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub use transport::{LineDecoder, Received};
