//! W5: at the memory ceiling nothing is under-counted, nothing large is lost, no byte is over.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Two windows: the shortest, which forgets first, and one that outlasts every test.
const TWO: [u64; 2] = [60, 86_400];
/// Slices of the shortest window are this wide: lateness within W2.
const SLICE_S: u32 = 12;
/// Room for one or two segments of slots and one of fine rings.
const TINY: u64 = 260 * 1024;

/// A small deterministic source of numbers, so that a failing case is its seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        key(self.0).0 % limit
    }
}

/// A table at its ceiling, with the log of every key beside it.
struct Flood {
    table: Table,
    budget: Budget,
    logs: HashMap<u64, Log>,
    now: u32,
}

impl Flood {
    fn new(limit_bytes: u64, promote_at: u64) -> Self {
        Self {
            table: Table::new(spec(&TWO, promote_at)),
            budget: Budget::new(limit_bytes),
            logs: HashMap::new(),
            now: START,
        }
    }

    /// Adds an event `late_s` behind the newest, and checks what W5 promises of it.
    fn add(&mut self, n: u64, late_s: u32, amount: u64) -> Seen {
        let at = self.now - late_s;
        let added = self.table.add_and_read(key(n), Tick(at), amount, &mut self.budget);
        let log = self.logs.entry(n).or_default();
        log.0.push((at, amount));
        for (w, &span) in TWO.iter().enumerate() {
            let exact = log.exact(span, added.newest);
            assert!(added.lo[w] <= exact, "key {n}: lo {} > {exact}", added.lo[w]);
            let said_late = added.late_windows & (1 << w) != 0;
            assert!(exact <= added.hi[w] || said_late, "key {n}: {exact} > hi {}", added.hi[w]);
        }
        let used = self.budget.used_bytes();
        assert!(used <= self.budget.limit_bytes(), "{used} bytes");
        assert_eq!(used, self.table.bytes());
        added
    }

    /// `keys` new keys of one row each, some seconds apart.
    fn pour(&mut self, keys: std::ops::Range<u64>) {
        for n in keys {
            self.now += u32::from(n % 16 == 0);
            self.add(n, 0, 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_flood_of_keys_hides_no_count_of_any_key(
        seed: u64,
        promote_at in prop_oneof![Just(20u64), Just(2000), Just(u64::MAX)],
        late in prop_oneof![Just(SLICE_S), Just(3600)],
    ) {
        let (mut flood, mut numbers) = (Flood::new(TINY, promote_at), Numbers(seed));
        for step in 0..12_000u64 {
            flood.now += u32::from(numbers.below(4) == 0);
            let late_s = u32::try_from(numbers.below(u64::from(late) + 1)).unwrap();
            // One in eight events is of a planted key, which drips; the rest are of the flood.
            let planted = step % 8 == 0;
            let n = if planted { numbers.below(16) } else { 100 + numbers.below(8000) };
            let added = flood.add(n, late_s, if planted { 40 } else { numbers.below(3) });
            if late == SLICE_S {
                prop_assert_eq!(added.late_windows, 0, "within W2 nothing is late");
            }
        }
        prop_assert!(flood.budget.evicted() > 1000, "{:?}", flood.budget);
        prop_assert!(flood.budget.degraded());
    }
}

#[test]
fn large_counters_are_never_evicted_and_stay_exact() {
    let mut flood = Flood::new(TINY, 100);
    for n in 0..50 {
        assert!(flood.add(n, 0, 200).promoted_now);
    }
    flood.pour(1000..40_000);
    assert!(flood.budget.evicted() > 10_000);
    for n in 0..50 {
        let reading = flood.table.read(key(n)).unwrap();
        assert_eq!((reading.lo[1], reading.hi[1], reading.estimated), (200, 200, false));
    }
    assert_eq!(flood.table.promoted(), 50);
}

#[test]
fn a_pinned_key_is_not_evicted_and_an_unpinned_one_is() {
    let mut flood = Flood::new(TINY, u64::MAX);
    flood.add(0, 0, 1);
    flood.add(1, 0, 1);
    assert!(flood.table.pin(key(0)));
    assert!(!flood.table.pin(key(2)), "a key without a slot cannot be pinned");
    flood.pour(1000..40_000);
    assert!(flood.table.state(key(0)).is_some());
    assert!(flood.table.state(key(1)).is_none());
    flood.table.unpin(key(0));
    flood.pour(40_000..80_000);
    assert!(flood.table.state(key(0)).is_none());
}

#[test]
fn the_smallest_and_then_the_oldest_give_way() {
    let mut flood = Flood::new(TINY, u64::MAX);
    for n in 0..100 {
        flood.add(n, 0, 50);
    }
    flood.pour(1000..20_000);
    let kept = (0..100).filter(|&n| flood.table.state(key(n)).is_some()).count();
    assert!(kept >= 95, "{kept} of the 100 larger keys are left");
}

#[test]
fn an_evicted_key_that_comes_back_is_estimated_with_what_it_had() {
    let mut flood = Flood::new(TINY, u64::MAX);
    flood.add(0, 0, 30);
    // Larger ones, so that it is the first to go.
    for n in 1000..6000 {
        flood.add(n, 0, 31);
    }
    assert!(flood.table.state(key(0)).is_none());
    let gone = flood.table.read(key(0)).unwrap();
    assert!(gone.hi[1] >= 30 && gone.lo[1] == 0 && gone.estimated, "{gone:?}");
    let added = flood.add(0, 0, 5);
    assert!(added.new_key && added.estimated);
    assert!(added.hi[1] >= 35 && added.lo[1] == 5, "{added:?}");
}

#[test]
fn a_key_that_finds_no_fine_ring_is_counted_in_full_and_reported_once() {
    // The promoted share is below one segment of rings.
    let mut flood = Flood::new(TINY / 2, 100);
    let added = flood.add(0, 0, 70_000);
    assert!(added.promoted && added.promoted_now && added.estimated);
    assert_eq!((added.lo[1], added.hi[1]), (0, 70_000));
    let added = flood.add(0, 0, 70_000);
    assert!(added.promoted && !added.promoted_now);
    assert_eq!(added.hi[1], 140_000);
    assert_eq!((flood.budget.refused_promotions(), flood.budget.sketched()), (2, 2));
    assert_eq!(flood.table.promoted(), 0);
    flood.budget.set_limit_bytes(1 << 30);
    let added = flood.add(0, 0, 100);
    assert_eq!((flood.table.promoted(), added.lo[1], added.hi[1]), (1, 100, 140_100));
    assert!(!added.promoted_now, "reported before");
}

#[test]
fn a_key_that_finds_no_slot_is_counted_in_the_sketch() {
    // Promoted keys fill the one segment of slots that there is.
    let mut flood = Flood::new(8 << 20, 1);
    flood.pour(0..1024);
    flood.budget.set_limit_bytes(0);
    let mut budget = std::mem::replace(&mut flood.budget, Budget::new(0));
    for _ in 0..3 {
        let added = flood.table.add_and_read(key(5000), Tick(flood.now), 7, &mut budget);
        assert!(added.estimated && added.promoted && !added.new_key && !added.promoted_now);
    }
    assert_eq!(flood.table.keys(), 1024);
    let reading = flood.table.read(key(5000)).unwrap();
    assert_eq!((reading.lo, reading.hi[..2].to_vec()), ([0; 4], vec![21, 21]));
    let until = flood.table.above_until(key(5000), 1, 20).unwrap();
    assert!(until > Tick(flood.now) && until.0 - flood.now <= 86_400 + 86_400 / 5);
    assert!(!flood.table.pin(key(5000)));
}

#[test]
fn keys_out_of_every_window_give_way_without_degrading() {
    let mut flood = Flood::new(TINY, u64::MAX);
    for day in 0..30 {
        flood.now += 2 * 86_400;
        flood.pour(10_000 * day..10_000 * day + 200);
    }
    let capacity = flood.table.keys() as u64;
    assert_eq!(flood.budget.expired(), 30 * 200 - capacity, "{:?}", flood.budget);
    assert!(!flood.budget.degraded() && flood.budget.evicted() == 0);
}

#[test]
fn the_rings_of_keys_out_of_every_window_are_taken_over() {
    let mut flood = Flood::new(TINY, 10);
    for day in 0..20 {
        flood.now += 2 * 86_400;
        for n in 0..40 {
            let added = flood.add(day * 1000 + n, 0, 20);
            assert!(added.promoted_now && !added.estimated, "day {day}, key {n}");
        }
    }
    assert_eq!((flood.table.promoted(), flood.budget.refused_promotions()), (64, 0));
    // Without its ring a key reads as of the time it lost it, when nothing of it counted.
    let reading = flood.table.read(key(0)).unwrap();
    assert_eq!(reading.hi, [0; 4]);
    assert_eq!(flood.logs[&0].exact(TWO[1], reading.newest), 0);
    // A key that lost its ring is an ordinary one again, and is promoted anew.
    let added = flood.add(0, 0, 20);
    assert!(added.promoted_now && !added.new_key);
    assert_eq!((added.lo[1], added.hi[1]), (20, 20));
}

#[test]
fn the_ring_of_a_pinned_key_is_never_taken_over() {
    let mut flood = Flood::new(TINY, 10);
    flood.add(0, 0, 20);
    flood.table.pin(key(0));
    for day in 1..20 {
        flood.now += 2 * 86_400;
        for n in 0..40 {
            flood.add(day * 1000 + n, 0, 20);
        }
    }
    assert_eq!(flood.table.read(key(0)).unwrap().hi[1], 20);
    assert!(flood.table.state(key(0)).unwrap().fine.is_some());
}

#[test]
fn time_told_by_known_keys_lets_others_expire() {
    let mut flood = Flood::new(TINY, 10);
    for n in 0..64 {
        flood.add(n, 0, 20);
    }
    // Unpromoted so far, and the only one that is still heard of.
    flood.add(100, 0, 1);
    flood.now += 2 * 86_400;
    let added = flood.add(100, 0, 20);
    assert!(added.promoted_now && !added.estimated && !added.new_key);
}

#[test]
fn a_new_key_of_which_the_sketch_holds_nothing_is_estimated_once() {
    let mut flood = Flood::new(TINY, u64::MAX);
    let mut n = 0;
    while flood.budget.evicted() < 2 {
        flood.add(n, 0, 1);
        n += 1;
    }
    let met = (n..n + 50).map(|n| {
        assert!(flood.add(n, 0, 1).estimated);
        // It is small, and the next one may take its place; this one has a slot for now.
        flood.add(n, 0, 1).estimated
    });
    assert!(met.filter(|&still| still).count() < 50, "those that meet others in all rows stay so");
}

#[test]
fn degradation_ends_when_what_was_evicted_is_out_of_every_window() {
    let mut flood = Flood::new(TINY, u64::MAX);
    flood.pour(0..10_000);
    assert!(flood.budget.degraded());
    assert!(flood.add(3, 0, 1).estimated);
    let sketched = flood.table.sketch.as_ref().unwrap().latest();
    // The window, the slice across its edge and the grace for keys that are behind.
    flood.now = sketched.0 + 86_400 + 86_400 / 5 + 3600;
    flood.add(20_000, 0, 1);
    assert!(flood.budget.degraded(), "at the bound it is still kept");
    flood.now += 1;
    flood.add(20_001, 0, 1);
    assert!(!flood.budget.degraded());
    assert!(!flood.add(3, 0, 1).estimated);
}

#[test]
fn tables_share_one_budget_and_each_has_its_floor() {
    let mut budget = Budget::new(1 << 20);
    let mut tables: Vec<Table> = (0..4).map(|_| Table::new(spec(&TWO, u64::MAX))).collect();
    for table in &mut tables {
        for n in 0..20_000 {
            table.add_and_read(key(n), Tick(START), 1, &mut budget);
        }
    }
    assert_eq!(budget.used_bytes(), tables.iter().map(Table::bytes).sum::<u64>());
    assert!(tables.iter().all(|table| table.keys() >= 1024));
    let over = budget.used_bytes().saturating_sub(budget.limit_bytes());
    assert!(over <= 3 * Table::BYTES_MIN, "only the floors of the later three are granted over it");
}
