//! The Helm chart: what can be known of it from its files, what Helm makes of it, and what a real
//! control plane, a real Prometheus and a real Kafka make of that.
//!
//! Tools are made by `tests/chart/tools.sh`. Without them the tests that need one say so and pass,
//! unless `CI` or `EXFILWATCH_REQUIRE_CHART_TOOLS=1` makes that a failure.
#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod helm;
mod openapi;
mod plane;
#[path = "../it/process.rs"]
mod process;
mod tools;
mod yaml;

mod alerts;
mod cluster;
mod dashboards;
mod docs;
mod linters;
mod refusals;
mod renderings;
mod schema;
