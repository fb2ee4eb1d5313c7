//! All integration tests, in one binary.

mod bench;
mod binary;
mod bridge;
mod class;
mod clauses;
mod client;
mod command_line;
mod cut;
mod endless;
mod examples;
mod floods;
mod grammar;
mod hostile;
mod layers;
mod library;
mod limits;
mod order;
mod pace;
mod real_clients;
mod seats;
mod slow_http;
mod soup;
mod stalls;
mod stopping;
#[cfg(feature = "sqlite")]
mod store;
mod support;
mod systemd;
mod tls;
mod transcripts;
mod turns;
mod wall_clock;
