//! Replay: what would have fired? Files or stdin through the same router and engines, no Kafka.
//!
//! Deterministic: the same inputs, configuration and `--as-of` give the same alerts with the same
//! ids. Several inputs are merged by event time; one input is taken in its own order.

mod records;
