//! Integration tests by behaviour: the real binary as a process, on a real Apache Kafka.
//!
//! The modules at the top are the harness; those below hold the tests.
#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod arrow;
mod events;
mod findings;
mod http;
mod kafka;
mod process;
mod proxy;
mod service;
mod steps;

mod canary;
mod checkpoints;
mod configuration;
mod dead_letters;
mod delivery;
mod detection;
mod faults;
mod harness;
mod lifecycle;
mod observability;
mod reload;
mod rights;
mod tls;
mod tokens;
mod topics;
