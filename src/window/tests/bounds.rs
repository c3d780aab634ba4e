//! W1: `lo <= exact <= hi`, and how far `hi` may be above, before and after promotion.

use proptest::prelude::*;

use super::*;

/// How far an event is from the newest one: mostly ahead by a little, sometimes idle for long,
/// sometimes late, from seconds to past every window.
fn steps() -> impl Strategy<Value = Vec<(i64, u64)>> {
    let ahead = prop_oneof![
        8 => 0i64..20,
        4 => 0i64..2000,
        3 => 0i64..60_000,
        2 => 0i64..1_500_000,
        3 => -30i64..0,
        3 => -3000i64..0,
        2 => -100_000i64..0,
        1 => -4_000_000i64..0,
    ];
    let amount = prop_oneof![8 => 0u64..5, 4 => 0u64..200, 1 => 0u64..100_000];
    prop::collection::vec((ahead, amount), 1..120)
}

/// The window without its own edges: what was counted before promotion in the one coarse slice
/// across the edge of the window that ends at `at`.
fn across_edge(before: &Log, span_s: u64, at: Tick) -> u64 {
    let coarse_s = span_s / 5;
    let edge = u64::from(at.0) - span_s;
    let first = edge / coarse_s * coarse_s;
    // The slice that both the tick before the window and the window's first tick lie in.
    if first != (edge + 1) / coarse_s * coarse_s {
        return 0;
    }
    let within = |tick: u32| (first..first + coarse_s).contains(&u64::from(tick));
    before.0.iter().filter(|(tick, _)| within(*tick)).map(|(_, amount)| amount).sum()
}

fn check(
    reading: &Reading,
    log: &Log,
    before: Option<&Log>,
    promote_at: u64,
) -> Result<(), TestCaseError> {
    for (w, &span) in SPANS.iter().enumerate() {
        let exact = log.exact(span, reading.newest);
        prop_assert!(reading.lo[w] <= exact, "{span}: lo {} > {exact}", reading.lo[w]);
        prop_assert!(exact <= reading.hi[w], "{span}: {exact} > hi {}", reading.hi[w]);
        let at_most = match before {
            None => log.exact(span + span / 5, reading.newest),
            Some(before) => {
                let across = across_edge(before, span, reading.newest);
                prop_assert!(across < promote_at, "B {across} is not below {promote_at}");
                log.exact(span + span / 30, reading.newest) + across
            }
        };
        prop_assert!(reading.hi[w] <= at_most, "{span}: hi {} > {at_most}", reading.hi[w]);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bounds_hold_before_and_after_promotion_now_and_later(
        steps in steps(),
        promote_at in prop_oneof![1u64..10, 1u64..3000, Just(u64::MAX)],
        later in prop::collection::vec(0u32..1_000_000, 4),
    ) {
        let (mut table, mut budget) = (Table::new(spec(&SPANS, promote_at)), unlimited());
        let (mut log, mut before, mut newest) = (Log::default(), None, START);
        for (step, amount) in steps {
            let at = u32::try_from((i64::from(newest) + step).max(0)).unwrap();
            let was = Log(log.0.clone());
            let added = table.add_and_read(key(1), Tick(at), amount, &mut budget);
            newest = newest.max(at);
            log.0.push((at, amount));
            // The log before the promoting event is what B speaks of.
            if added.promoted_now {
                before = Some(was);
            }
            let reading = table.read(key(1)).unwrap();
            prop_assert_eq!((reading.lo, reading.hi), (added.lo, added.hi));
            prop_assert_eq!(reading.newest, added.newest);
            if log.0.len() == 1 {
                newest = at;
            }
            prop_assert_eq!(reading.newest, Tick(newest));
            prop_assert_eq!(added.promoted, before.is_some());
            check(&reading, &log, before.as_ref(), promote_at)?;
            for ahead in &later {
                let reading = table.read_at(key(1), Tick(newest + ahead)).unwrap();
                check(&reading, &log, before.as_ref(), promote_at)?;
            }
        }
    }
}

proptest! {
    #[test]
    fn above_until_is_the_first_tick_that_read_at_agrees_with(
        steps in prop::collection::vec((0u32..500, 0u64..9), 1..30),
        promote_at in prop_oneof![Just(u64::MAX), 1u64..100],
        limit in 0u64..60,
    ) {
        let (mut table, mut budget) = (Table::new(spec(&[60, 300], promote_at)), unlimited());
        let mut at = START;
        for (step, amount) in steps {
            at += step;
            table.add_and_read(key(1), Tick(at), amount, &mut budget);
        }
        for window in 0..2 {
            let is_above = |at| table.read_at(key(1), at).unwrap().hi[window] > limit;
            let first = (at..at + 1000).map(Tick).find(|&at| !is_above(at));
            prop_assert_eq!(table.above_until(key(1), window, limit), first);
        }
    }
}

#[test]
fn a_key_is_promoted_at_the_level_and_not_one_below() {
    let (mut table, mut budget) = (Table::new(spec(&[3600], 100)), unlimited());
    assert!(!table.add_and_read(key(1), Tick(START), 99, &mut budget).promoted);
    let added = table.add_and_read(key(1), Tick(START), 1, &mut budget);
    assert!(added.promoted && added.promoted_now);
    let added = table.add_and_read(key(1), Tick(START), 1, &mut budget);
    assert!(added.promoted && !added.promoted_now, "promoted once");
    assert_eq!((added.lo[0], added.hi[0], table.promoted()), (101, 101, 1));
}

#[test]
fn a_small_counter_is_left_at_its_last_value_and_not_one_before() {
    let (mut table, mut budget) = (Table::new(spec(&[3600], u64::MAX)), unlimited());
    assert!(!table.add_and_read(key(1), Tick(START), 65_535, &mut budget).promoted);
    let added = table.add_and_read(key(1), Tick(START), 1, &mut budget);
    assert!(added.promoted_now);
    assert_eq!((added.lo[0], added.hi[0]), (65_536, 65_536));
}

#[test]
fn the_largest_counts_saturate_and_never_wrap() {
    let (mut table, mut budget) = (Table::new(spec(&SPANS, 1)), unlimited());
    for at in [START, START + 1, START + 3, START + 5000] {
        assert_eq!(table.add_and_read(key(1), Tick(at), u64::MAX, &mut budget).hi, [u64::MAX; 4]);
    }
}

#[test]
fn a_lower_promotion_level_takes_effect_at_the_next_event() {
    let (mut table, mut budget) = (Table::new(spec(&[3600], 1000)), unlimited());
    table.add_and_read(key(1), Tick(START), 500, &mut budget);
    table.set_promote_at([100; 4]);
    assert!(table.read(key(1)).unwrap().promoted, "it has to be looked at from now on");
    assert_eq!(table.promoted(), 0);
    assert!(table.add_and_read(key(1), Tick(START), 0, &mut budget).promoted_now);
    assert_eq!(table.promoted(), 1);
}

#[test]
fn the_first_and_last_ticks_there_are_count() {
    let (mut table, mut budget) = (Table::new(spec(&SPANS, 10)), unlimited());
    table.add_and_read(key(1), Tick(0), 3, &mut budget);
    assert_eq!(table.add_and_read(key(1), Tick(1), 4, &mut budget).hi, [7; 4]);
    assert_eq!(table.add_and_read(key(1), Tick(u32::MAX), 20, &mut budget).hi, [20; 4]);
    assert_eq!(table.read(key(1)).unwrap().lo, [20; 4]);
    assert_eq!(table.above_until(key(1), 3, 19), Some(Tick(u32::MAX)), "the end of time");
}
