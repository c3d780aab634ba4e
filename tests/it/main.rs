//! Integration tests by behaviour: the real binary as a process, on a real Apache Kafka.
//!
//! The modules at the top are the harness; those below hold the tests.
#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod kafka;
mod process;

mod harness;
