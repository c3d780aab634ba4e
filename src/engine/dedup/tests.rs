//! Against a list that is searched from end to end; and what comes back from blocks.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::window::Bytes;

/// Content and id by small numbers, of hashes that often agree in the bits an index looks at.
fn fingerprint(content: u64, id: u64) -> Fingerprint {
    Fingerprint { content: [(content % 5) << 24, content], id: ((id % 3) << 24) | id }
}

fn at(ms: i64) -> EventTime {
    EventTime::from_millis(ms)
}

/// What [`Dedup`] must say, in as few words as possible.
struct Naive {
    capacity: usize,
    known: VecDeque<(u64, u64)>,
    evicted: u64,
}

impl Naive {
    fn see(&mut self, content: u64, id: u64) -> Sighting {
        if self.known.contains(&(content, id)) {
            return Sighting::Repeated;
        }
        let reused = self.known.iter().any(|(_, known)| *known == id);
        self.known.push_back((content, id));
        self.cut(self.capacity);
        if reused { Sighting::Reused } else { Sighting::New }
    }

    fn cut(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.known.len() > capacity {
            self.known.pop_front();
            self.evicted += 1;
        }
    }
}

/// Saves every block and puts it back, in any order, with some blocks twice.
fn restored(dedup: &mut Dedup, capacity: usize) -> Dedup {
    let mut restoring = RestoringDedup::begin(dedup.shape()).unwrap();
    for block in (0..dedup.blocks()).rev().chain(0..dedup.blocks()) {
        restoring.block(block, &mut Bytes(&dedup.save(block))).unwrap();
    }
    restoring.finish(capacity).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn it_says_what_a_search_of_the_last_rows_says_also_after_a_restore(
        capacity in 1..14_usize,
        rows in prop::collection::vec((0..40_u64, 0..6_u64, 0..40_usize), 1..200),
    ) {
        let mut dedup = Dedup::new(capacity);
        let mut naive = Naive { capacity, known: VecDeque::new(), evicted: 0 };
        for (number, (content, id, act)) in rows.into_iter().enumerate() {
            // An event has one id, so ids differ only where contents do.
            let content = content * 6 + id;
            let seen = dedup.see(fingerprint(content, id), at(i64::try_from(number).unwrap()));
            prop_assert_eq!(seen, naive.see(content, id));
            let size = naive.capacity;
            let size = match act {
                0..4 => size,
                4 => size + 3,
                5 => size.saturating_sub(3).max(1),
                _ => continue,
            };
            dedup = restored(&mut dedup, size);
            naive.cut(size);
            prop_assert_eq!((dedup.len(), dedup.evicted()), (naive.known.len(), naive.evicted));
        }
        let kept = dedup.in_order().map(|entry| entry.fingerprint.content[1]);
        prop_assert!(kept.eq(naive.known.iter().map(|(content, _)| *content)));
    }
}

#[test]
fn the_oldest_gives_way_at_the_bound_and_not_before() {
    let mut dedup = Dedup::new(8);
    for n in 0..8 {
        assert_eq!(dedup.see(fingerprint(n, n), at(0)), Sighting::New);
    }
    assert_eq!(dedup.see(fingerprint(0, 0), at(0)), Sighting::Repeated);
    assert_eq!((dedup.len(), dedup.evicted()), (8, 0));
    assert_eq!(dedup.see(fingerprint(8, 8), at(0)), Sighting::New);
    assert_eq!((dedup.len(), dedup.evicted()), (8, 1));
    assert_eq!(dedup.see(fingerprint(1, 1), at(0)), Sighting::Repeated);
    assert_eq!(dedup.see(fingerprint(0, 0), at(0)), Sighting::New, "it was forgotten");
}

#[test]
fn a_client_that_never_changes_its_id_is_one_entry_among_ids_and_never_a_repeat() {
    let mut dedup = Dedup::new(1000);
    for n in 0..10_000 {
        let expected = if n == 0 { Sighting::New } else { Sighting::Reused };
        // Hashes as they are in life; what a row costs is the length of a run in the index.
        let content = [(n + 1_u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), n];
        assert_eq!(dedup.see(Fingerprint { content, id: 7 }, at(0)), expected);
        assert_eq!(dedup.by_id.taken(), 1);
    }
    assert_eq!((dedup.len(), dedup.by_content.taken()), (1000, 1000));
}

#[test]
fn the_horizon_is_the_age_of_the_oldest_once_one_was_forgotten() {
    let mut dedup = Dedup::new(2);
    assert_eq!(dedup.horizon_ms(at(0)), None);
    for n in 0..2 {
        dedup.see(fingerprint(n, n), at(1000 * i64::try_from(n).unwrap()));
        assert_eq!(dedup.horizon_ms(at(1000)), None, "everything is known");
    }
    dedup.see(fingerprint(2, 2), at(2000));
    assert_eq!(dedup.horizon_ms(at(2500)), Some(1500));
    let restored = restored(&mut dedup, 2);
    assert_eq!(restored.horizon_ms(at(2500)), Some(1500));
    assert_eq!(restored.horizon_ms(at(0)), Some(0), "a clock behind the broker's");
}

#[test]
fn memory_is_taken_whole_at_the_first_row_and_64_bytes_each_at_a_power_of_two() {
    let mut dedup = Dedup::new(1 << 12);
    assert_eq!(dedup.bytes(), 0);
    for n in 0..1 << 13 {
        dedup.see(fingerprint(n, n), at(0));
        assert_eq!(dedup.bytes(), 64 << 12);
    }
}

#[test]
fn turned_off_it_forgets_what_was_saved() {
    let mut dedup = Dedup::new(5);
    (0..7).for_each(|n| _ = dedup.see(fingerprint(n, n), at(0)));
    let off = restored(&mut dedup, 0);
    assert_eq!((off.len(), off.evicted(), off.bytes()), (0, 7, 0));
}

#[test]
fn blocks_that_changed_are_named_once_and_those_of_no_ring_refused() {
    let mut dedup = Dedup::new(10);
    (0..5).for_each(|n| _ = dedup.see(fingerprint(n, n), at(0)));
    assert_eq!(dedup.take_changes(), [0, 1]);
    assert!(dedup.take_changes().is_empty());
    (5..11).for_each(|n| _ = dedup.see(fingerprint(n, n), at(0)));
    dedup.save(1);
    assert_eq!(dedup.take_changes(), [0, 2], "the ring has begun anew");
    let shape = dedup.shape();
    let missing = RestoringDedup::begin(shape).unwrap().finish(10);
    assert!(missing.unwrap_err().to_string().contains("block 0"));
    let mut short = RestoringDedup::begin(shape).unwrap();
    let bytes = dedup.save(0);
    assert!(short.block(0, &mut Bytes(&bytes[1..])).is_err());
    (0..3).for_each(|block| short.block(block, &mut Bytes(&bytes)).unwrap());
    assert!(short.finish(10).is_err(), "the last block is of two");
}
