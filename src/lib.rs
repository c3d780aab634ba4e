//! exfilwatch: counts records read per principal from query-result metadata on Kafka and alerts
//! while they are still leaving.
//!
//! Data flows one way: `event` (decode, identity, canonical rows) -> `window` (slice rings) ->
//! `rules` (meters, limits) -> `engine` (episodes) -> `alert` (what is published). These modules
//! are the pure core: no clock, I/O, async or logging; time is an argument. The shell (feature
//! `service`) owns sockets and clocks: `config`, `kafka`, `pipeline`, `replay`, `demo`, `cli`.

pub mod alert;
pub mod checkpoint;
pub mod engine;
pub mod event;
pub mod offsets;
pub mod rules;
pub mod units;
pub mod window;

#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod demo;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
pub mod kafka;
#[cfg(feature = "service")]
pub mod logging;
#[cfg(feature = "service")]
pub mod metrics;
#[cfg(feature = "service")]
pub mod pipeline;
#[cfg(feature = "service")]
pub mod replay;
