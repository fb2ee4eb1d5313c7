//! All integration tests, in one binary.

mod class;
mod clauses;
mod client;
mod layers;
mod order;
mod seats;
mod transcripts;
