//! The fault matrix on real processes and a real Kafka: something happens to a deployment while
//! events flow, and the outcome is that of an offline fold.
//!
//! The short form runs with the other tests. `EXFILWATCH_FAULTS=release` runs the release figures
//! and `EXFILWATCH_FAULTS=release/20` a twentieth of them, to try the way there. `EXFILWATCH_SEED`
//! repeats a run. Each row says what came of it in one line of JSON on standard error, and adds
//! that line to `target/tmp/faults.ndjson`.

mod blocked;
mod brokers;
mod flow;
mod gaps;
mod group;
mod members;
mod membership;
mod outcome;
mod positions;
mod transactions;
mod watch;

use std::{
    env,
    time::{Duration, Instant},
};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
struct Form {
    /// What the release figures are divided by; none: the short form.
    part: Option<usize>,
}

impl Form {
    /// As the environment says.
    fn now() -> Self {
        let text = env::var("EXFILWATCH_FAULTS").unwrap_or_default();
        let part = match text.split_once('/').unwrap_or((&text, "1")) {
            ("" | "short", _) => None,
            ("release", part) => Some(part.parse().expect("release/N")),
            _ => panic!("EXFILWATCH_FAULTS={text}: expected short, release or release/N"),
        };
        Self { part }
    }

    /// A number of things: so many in the short form, so many in a release.
    fn of(self, short: usize, release: usize) -> usize {
        self.part.map_or(short, |part| release.div_ceil(part))
    }

    /// What is the same in a part of a release as in all of it.
    fn size(self, short: usize, release: usize) -> usize {
        self.part.map_or(short, |_| release)
    }

    /// A length of time.
    fn time(self, short_s: u64, release_s: u64) -> Duration {
        Duration::from_secs(self.part.map_or(short_s, |part| release_s.div_ceil(part as u64)))
    }

    fn as_str(self) -> &'static str {
        match self.part {
            None => "short",
            Some(1) => "release",
            Some(_) => "part of release",
        }
    }
}

/// A sequence that is the same for the same seed (`SplitMix64`).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    /// `EXFILWATCH_SEED`, or the one that everybody gets.
    fn seed() -> u64 {
        env::var("EXFILWATCH_SEED").map_or(7, |seed| seed.parse().expect("a number"))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap()
    }

    /// Some time between two.
    fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_millis()).unwrap();
        from + Duration::from_millis(self.below(span.max(1)))
    }
}

/// Waits for `holds`; panics, naming `what`, after `at_most`.
fn until(what: &str, at_most: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + at_most;
    while !holds() {
        assert!(Instant::now() < deadline, "no {what} within {at_most:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
