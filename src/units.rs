//! Units and identifiers as types: times, spans, partitions, offsets, key hashes.
//!
//! Never here: a clock. A time is always handed in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC; may be negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EventTime(i64);

impl EventTime {
    /// The earliest time a window can hold: the epoch.
    pub const EPOCH: Self = Self(0);

    /// A time from milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This time moved later by `span_ms` milliseconds, saturating.
    #[must_use]
    pub const fn plus_millis(self, span_ms: i64) -> Self {
        Self(self.0.saturating_add(span_ms))
    }

    /// The whole second this time falls in, clamped to what a tick can hold.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick(u32::try_from(self.0.div_euclid(1000).max(0)).unwrap_or(u32::MAX))
    }
}

/// Whole seconds since the epoch: the resolution in which windows are exact. Reaches to 2106.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Tick(pub u32);

impl Tick {
    /// The start of this second.
    #[must_use]
    pub fn time(self) -> EventTime {
        EventTime(i64::from(self.0) * 1000)
    }
}

/// Length of a sliding window: 1 min to 30 d, a multiple of 30 s so that both W/5 and W/30 are
/// whole ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct WindowSpan(u32);

impl WindowSpan {
    /// Shortest window: one minute.
    pub const MIN: Self = Self(60);
    /// Longest window: thirty days.
    pub const MAX: Self = Self(30 * 24 * 3600);
    /// Every span is a multiple of this many seconds.
    pub const STEP_S: u32 = 30;

    /// A window of `span_s` seconds.
    ///
    /// # Errors
    /// Shorter than [`Self::MIN`], longer than [`Self::MAX`], or no multiple of [`Self::STEP_S`].
    pub const fn from_secs(span_s: u64) -> Result<Self, SpanError> {
        if span_s < Self::MIN.0 as u64 {
            return Err(SpanError::TooShort { span_s });
        }
        if span_s > Self::MAX.0 as u64 {
            return Err(SpanError::TooLong { span_s });
        }
        if !span_s.is_multiple_of(Self::STEP_S as u64) {
            return Err(SpanError::NotAMultiple { span_s });
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX above")]
        Ok(Self(span_s as u32))
    }

    /// Seconds in the window.
    #[must_use]
    pub const fn secs(self) -> u32 {
        self.0
    }

    /// Seconds in one coarse slice, W/5.
    #[must_use]
    pub const fn coarse_s(self) -> u32 {
        self.0 / 5
    }

    /// Seconds in one fine slice, W/30.
    #[must_use]
    pub const fn fine_s(self) -> u32 {
        self.0 / 30
    }
}

impl TryFrom<u64> for WindowSpan {
    type Error = SpanError;

    fn try_from(span_s: u64) -> Result<Self, SpanError> {
        Self::from_secs(span_s)
    }
}

impl From<WindowSpan> for u64 {
    fn from(span: WindowSpan) -> Self {
        span.0.into()
    }
}

impl fmt::Display for WindowSpan {
    /// The span as rules write it: `90s`, `1h`, `24h`, `30d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s % 86_400 == 0 && s > 86_400 => write!(f, "{}d", s / 86_400),
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

/// Why a number of seconds is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Below [`WindowSpan::MIN`].
    #[error("{span_s} s is shorter than the 60 s of the shortest window")]
    TooShort {
        /// What was given, in seconds.
        span_s: u64,
    },
    /// Above [`WindowSpan::MAX`].
    #[error("{span_s} s is longer than the 30 d of the longest window")]
    TooLong {
        /// What was given, in seconds.
        span_s: u64,
    },
    /// Would cut a slice short.
    #[error("{span_s} s is no multiple of 30 s, so its slices would not be whole seconds")]
    NotAMultiple {
        /// What was given, in seconds.
        span_s: u64,
    },
}

/// A Kafka partition number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// A Kafka offset within a partition.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Offset(pub i64);

/// Keyed 64-bit hash of a group key: decides its partition and its slot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The events partition a key belongs to, of `partitions`.
    ///
    /// Multiply-shift on the upper half, so that the lower bits stay free for the table.
    #[must_use]
    pub const fn partition(self, partitions: u32) -> u32 {
        (((self.0 >> 32) * partitions as u64) >> 32) as u32
    }
}
