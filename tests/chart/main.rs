//! The Helm chart: what can be known of it from its files, what Helm makes of it, and what a real
//! control plane, a real Prometheus and a real Kafka make of that.
//!
//! Tools are made by `tests/chart/tools.sh`. Without them the tests that need one say so and pass,
//! unless `CI` or `EXFILWATCH_REQUIRE_CHART_TOOLS=1` makes that a failure.
#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "../it/events.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod events;
#[path = "../it/http.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod http;
#[path = "../it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the program use more of it")]
mod kafka;
#[path = "../it/process.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod process;
#[path = "../it/service.rs"]
#[allow(dead_code, reason = "the tests of the program use more of it")]
mod service;

mod helm;
mod openapi;
mod plane;
mod tools;
mod yaml;

mod alerts;
mod cluster;
mod dashboards;
mod docs;
mod linters;
mod live;
mod pods;
mod refusals;
mod renderings;
mod schema;
