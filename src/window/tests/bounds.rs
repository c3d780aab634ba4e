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
            let added = table.add(key(1), Tick(at), amount, &mut budget);
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
