//! All integration tests, in one binary.

mod clauses;
mod transcripts;
