//! The demo: a support organisation at ordinary work, one insider, and the real pipeline.
//!
//! `organisation` makes the events and `theft` the truth about them; both are pure and seeded, so
//! that one seed gives the same bytes everywhere. The truth is never in an event.

pub mod calendar;
pub mod chance;
pub mod chart;
pub mod files;
pub mod journal;
pub mod limits;
pub mod organisation;
pub mod staff;
pub mod tally;
pub mod theft;
pub mod view;
pub mod wire;
