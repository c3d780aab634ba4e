//! W2: order does not matter within a slice's lateness, and states add slice-wise. W3: lateness.

use proptest::prelude::*;

use super::*;

const W: usize = 0;

/// A table of one 1 h window (coarse slices of 720 s, fine ones of 120 s) and its budget.
fn hour(promote_at: u64) -> (Table, Budget) {
    (Table::new(spec(&[3600], promote_at)), unlimited())
}

proptest! {
    #[test]
    fn any_order_within_the_rings_gives_the_same_slices(
        events in prop::collection::vec((0u32..12, 0u64..50), 1..60),
        seed: u64,
        promoted: bool,
    ) {
        // All within one coarse slice of the shortest window (12 s) of the newest tick, which is
        // known from the start, as the newest of two events in any order would be.
        let mut shuffled: Vec<_> = events.clone();
        shuffled.sort_by_key(|&(at, amount)| key(seed ^ u64::from(at) << 32 ^ amount));
        let run = |events: &[(u32, u64)]| {
            let promote_at = if promoted { 1 } else { u64::MAX };
            let (mut table, mut budget) = (Table::new(spec(&SPANS, promote_at)), unlimited());
            table.add_and_read(key(1), Tick(START), 1, &mut budget);
            for &(at, amount) in events {
                let tick = Tick(START + 1000 + at);
                let added = table.add_and_read(key(1), tick, amount, &mut budget);
                assert_eq!(added.late_windows, 0);
            }
            // Brought to one newest tick, so that the rings end alike.
            table.add_and_read(key(1), Tick(START + 1012), 0, &mut budget);
            table.state(key(1)).unwrap()
        };
        prop_assert_eq!(run(&events), run(&shuffled));
    }

    /// W2: what two tables counted apart is what one would have counted.
    #[test]
    fn merging_two_states_is_counting_both(
        events in prop::collection::vec((0u32..20_000, 0u64..40, any::<bool>()), 1..60),
    ) {
        let (mut whole, mut budget) = hour(u64::MAX);
        let (mut left, _) = hour(u64::MAX);
        let (mut right, _) = hour(u64::MAX);
        for &(at, amount, to_left) in &events {
            let at = Tick(START + at);
            whole.add(key(1), at, amount, &mut budget);
            let half = if to_left { &mut left } else { &mut right };
            half.add(key(1), at, amount, &mut budget);
        }
        if let Some(state) = right.state(key(1)) {
            left.merge(key(1), &state, &mut budget);
        }
        // The rings of a half may have held a slice that the whole's were already past; both are
        // past it now.
        prop_assert_eq!(left.state(key(1)), whole.state(key(1)));
    }

    #[test]
    fn a_state_merged_into_an_empty_table_reads_the_same(
        events in prop::collection::vec((0u32..20_000, 0u64..400), 1..60),
        promote_at in prop_oneof![Just(u64::MAX), 1u64..2000],
    ) {
        let (mut table, mut budget) = hour(promote_at);
        for &(at, amount) in &events {
            table.add_and_read(key(1), Tick(START + at), amount, &mut budget);
        }
        let (mut restored, _) = hour(promote_at);
        restored.merge(key(1), &table.state(key(1)).unwrap(), &mut budget);
        prop_assert_eq!(restored.state(key(1)), table.state(key(1)));
        prop_assert_eq!(restored.read(key(1)), table.read(key(1)));
    }
}

#[test]
fn what_overflows_a_small_counter_in_a_merge_is_still_counted() {
    let (mut table, mut budget) = hour(u64::MAX);
    table.add_and_read(key(1), Tick(START), 60_000, &mut budget);
    let state = table.state(key(1)).unwrap();
    table.merge(key(1), &state, &mut budget);
    let reading = table.read(key(1)).unwrap();
    assert!(reading.hi[W] >= 120_000 && reading.lo[W] <= 120_000, "{reading:?}");
    assert!(reading.estimated);
}

#[test]
fn a_late_event_counts_as_long_as_its_slice_is_held_and_not_one_tick_more() {
    let (mut table, mut budget) = hour(u64::MAX);
    // START is the first tick of a slice; six slices are held: it and the five before.
    table.add_and_read(key(1), Tick(START), 1, &mut budget);
    let oldest = START - 5 * 720;
    let added = table.add_and_read(key(1), Tick(oldest), 10, &mut budget);
    assert!(!added.too_late && added.late_windows == 0);
    assert_eq!(added.hi[W], 11, "the oldest slice is still across the window's edge");
    let before = table.state(key(1));
    let added = table.add_and_read(key(1), Tick(oldest - 1), 100, &mut budget);
    assert!(added.too_late && added.late_windows == 1);
    assert_eq!((added.newest, added.hi[W]), (Tick(START), 11));
    assert_eq!(table.state(key(1)), before, "nothing changed");
}

#[test]
fn a_late_event_of_a_promoted_key_counts_as_long_as_its_fine_slice_is_held() {
    let (mut table, mut budget) = hour(1);
    table.add_and_read(key(1), Tick(START), 1, &mut budget);
    let oldest = START - 30 * 120;
    assert!(!table.add_and_read(key(1), Tick(oldest), 10, &mut budget).too_late);
    let before = table.state(key(1));
    assert!(table.add_and_read(key(1), Tick(oldest - 1), 100, &mut budget).too_late);
    assert_eq!(table.state(key(1)), before, "nothing changed");
}

#[test]
fn a_late_event_names_each_window_that_is_past_it() {
    let (mut table, mut budget) = (Table::new(spec(&SPANS, u64::MAX)), unlimited());
    table.add_and_read(key(1), Tick(START), 1, &mut budget);
    for (late_s, windows) in [(59, 0b0000), (100, 0b0001), (5000, 0b0011), (200_000, 0b0111)] {
        let added = table.add_and_read(key(1), Tick(START - late_s), 1, &mut budget);
        assert_eq!((added.late_windows, added.too_late), (windows, false), "{late_s} s late");
    }
    let added = table.add_and_read(key(1), Tick(START - 40 * 86_400), 1, &mut budget);
    assert_eq!((added.late_windows, added.too_late), (0b1111, true));
    // Each window counts the events that were not late for it; START itself is in all of them.
    assert_eq!(added.hi, [2, 3, 4, 5]);
}

#[test]
fn a_new_key_is_never_late() {
    let (mut table, mut budget) = hour(u64::MAX);
    table.add_and_read(key(1), Tick(START), 1, &mut budget);
    let added = table.add_and_read(key(2), Tick(5), 1, &mut budget);
    assert!(added.new_key && !added.too_late);
    assert_eq!((added.newest, added.hi[W]), (Tick(5), 1));
}
