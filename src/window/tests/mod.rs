//! Tests of W1 to W5 against a log of events that forgets nothing.

mod bounds;
mod ceiling;
mod growth;
mod order;

use super::*;
use crate::units::KeyHash;

/// The shortest and the longest window there are, and two between.
const SPANS: [u64; WINDOWS_MAX] = [60, 3600, 86_400, 30 * 86_400];
/// 2026-01-01: a realistic number of slices since the epoch.
const START: u32 = 1_767_225_600;

fn spec(spans: &[u64], promote_at: u64) -> TableSpec {
    let mut windows = [None; WINDOWS_MAX];
    for (window, &span) in windows.iter_mut().zip(spans) {
        *window = Some(WindowSpan::from_secs(span).unwrap());
    }
    TableSpec { windows, promote_at: [promote_at; WINDOWS_MAX] }
}

fn unlimited() -> Budget {
    Budget::new(1 << 32)
}

/// A key spread over all 64 bits, as `SipHash` would.
fn key(n: u64) -> KeyHash {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    KeyHash(x ^ (x >> 31))
}

/// What an event did, and the key's bounds after it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    added: Added,
    newest: Tick,
    lo: [u64; WINDOWS_MAX],
    hi: [u64; WINDOWS_MAX],
}

impl std::ops::Deref for Seen {
    type Target = Added;

    fn deref(&self) -> &Added {
        &self.added
    }
}

impl Table {
    fn add_and_read(&mut self, key: KeyHash, at: Tick, amount: u64, budget: &mut Budget) -> Seen {
        let added = self.add(key, at, amount, budget);
        let Reading { newest, lo, hi, promoted, .. } = self.read_at(key, at).unwrap();
        assert_eq!(added.promoted, promoted, "what is said without a reading and with one");
        // The sketch alone knows no newest tick of one key.
        let newest = if self.find(key).is_some() { newest } else { at };
        Seen { added, newest, lo, hi }
    }
}

/// Every event of one key, kept forever: what `exact` means.
#[derive(Clone, Default)]
struct Log(Vec<(u32, u64)>);

impl Log {
    /// Events with a tick in `(at - span_s, at]`.
    fn exact(&self, span_s: u64, at: Tick) -> u64 {
        let within = |tick: u32| tick <= at.0 && u64::from(tick) + span_s > u64::from(at.0);
        self.0.iter().filter(|(tick, _)| within(*tick)).map(|(_, amount)| amount).sum()
    }
}
