//! What an alert must and may be raised for: plain exact sums of the events as they were made.
//!
//! It knows nothing of partitions or of how anybody counts. An implementation that counts in slices
//! of width S is held to two sets of (principal, window): it *must* tell of those whose rows over
//! the window less S passed the limit, and *may* tell of those whose rows over the window and S
//! did. The slice less is also what events may be out of order by, as partitions drift apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::{data::Data, events::Event};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A window, and how many rows over it are too many.
pub(crate) struct Limit {
    pub(crate) window: &'static str,
    span_ms: i64,
    pub(crate) rows: u64,
}

pub(crate) const LIMITS: [Limit; 4] = [
    Limit { window: "1m", span_ms: MINUTE_MS, rows: 100_000 },
    Limit { window: "1h", span_ms: HOUR_MS, rows: 200_000 },
    Limit { window: "24h", span_ms: 24 * HOUR_MS, rows: 500_000 },
    Limit { window: "30d", span_ms: 720 * HOUR_MS, rows: 1_000_000 },
];

/// Who passed the limit of which window.
pub(crate) type Passed = BTreeSet<(String, &'static str)>;

/// How an implementation counts.
#[derive(Clone, Copy)]
pub(crate) enum Counting {
    /// All four windows, in slices of a fifth of each.
    Fifths,
    /// An hour, each event's own trailing one.
    Sliding,
    /// An hour, one that begins every so many minutes.
    Hopping(i64),
}

impl Counting {
    /// The shortest and the longest span that a count over a window may stand for.
    const fn spans_ms(self, window_ms: i64) -> (i64, i64) {
        match self {
            Self::Fifths => (window_ms - window_ms / 5, window_ms + window_ms / 5),
            Self::Sliding => (window_ms, window_ms),
            Self::Hopping(minutes) => (window_ms - minutes * MINUTE_MS, window_ms),
        }
    }

    fn limits(self) -> impl Iterator<Item = &'static Limit> {
        let all = matches!(self, Self::Fifths);
        LIMITS.iter().filter(move |limit| all || limit.span_ms == HOUR_MS)
    }
}

/// What an implementation's alerts came to.
pub(crate) struct Judged {
    pub(crate) must: usize,
    pub(crate) may: usize,
    pub(crate) told: usize,
}

/// The truth about one data set.
pub(crate) struct Oracle {
    /// Of everybody who could pass a limit at all: time and rows of each read, in order.
    histories: BTreeMap<u64, Vec<(i64, u64)>>,
    /// All rows of everybody.
    pub(crate) rows: u64,
}

impl Oracle {
    pub(crate) fn new(data: &Data) -> Self {
        let mut sums = vec![0_u64; usize::try_from(data.principals()).unwrap()];
        for event in data.all() {
            sums[usize::try_from(event.principal).unwrap()] += event.rows;
        }
        let lowest = LIMITS.iter().map(|limit| limit.rows).min().unwrap();
        let mut histories: BTreeMap<u64, Vec<(i64, u64)>> = BTreeMap::new();
        let large = |event: &Event| sums[usize::try_from(event.principal).unwrap()] > lowest;
        for event in data.all().filter(large) {
            histories.entry(event.principal).or_default().push((event.at_ms, event.rows));
        }
        Self { histories, rows: sums.iter().sum() }
    }

    /// Holds alerts to what must and may be told.
    ///
    /// # Panics
    /// One is missing or has no reason.
    pub(crate) fn judge(&self, who: &str, counting: Counting, told: &Passed) -> Judged {
        let (mut must, mut may) = (Passed::new(), Passed::new());
        for limit in counting.limits() {
            let (shortest_ms, longest_ms) = counting.spans_ms(limit.span_ms);
            for (&principal, reads) in &self.histories {
                let passed = (Event::name(principal), limit.window);
                if peak(reads, shortest_ms) > limit.rows {
                    must.insert(passed.clone());
                }
                if peak(reads, longest_ms) > limit.rows {
                    may.insert(passed);
                }
            }
        }
        let missed: Vec<_> = must.difference(told).collect();
        let baseless: Vec<_> = told.difference(&may).collect();
        assert!(missed.is_empty() && baseless.is_empty(), "{who}: {missed:?} missed, {baseless:?}");
        Judged { must: must.len(), may: may.len(), told: told.len() }
    }
}

/// The most rows within any `span_ms`.
fn peak(reads: &[(i64, u64)], span_ms: i64) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for &(at_ms, rows) in reads {
        sum += rows;
        while reads[first].0 <= at_ms - span_ms {
            sum -= reads[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}
