//! All integration tests, in one binary.

mod binary;
mod class;
mod clauses;
mod client;
mod examples;
mod layers;
mod order;
mod seats;
mod stalls;
mod transcripts;
