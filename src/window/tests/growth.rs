//! Many keys: nothing is lost while a table grows, and a key stays small.

use super::*;

const KEYS: u64 = 200_000;

/// A full table of 200 000 keys, each with its own count, in rounds so that keys mix.
fn grown(promote_at: u64) -> (Table, Budget) {
    let (mut table, mut budget) = (Table::new(spec(&SPANS, promote_at)), unlimited());
    for round in 0..2 {
        for n in 0..KEYS {
            let added = table.add_and_read(key(n), Tick(START + round), n % 1000, &mut budget);
            assert_eq!(added.new_key, round == 0);
        }
    }
    (table, budget)
}

#[test]
fn growth_to_200_000_keys_keeps_every_count() {
    let (table, budget) = grown(1900);
    assert_eq!(table.keys() as u64, KEYS);
    // 950 to 999 counted twice reach 1900: these are promoted.
    assert_eq!(table.promoted() as u64, KEYS / 1000 * 50);
    for n in 0..KEYS {
        let reading = table.read(key(n)).unwrap();
        let exact = n % 1000 * 2;
        assert_eq!((reading.lo, reading.hi), ([exact; 4], [exact; 4]));
        assert_eq!(reading.promoted, exact >= 1900);
    }
    assert_eq!(table.read(key(KEYS)), None);
    assert_eq!(table.bytes(), budget.used_bytes());
}

#[test]
fn an_unpromoted_key_takes_at_most_90_bytes() {
    let (table, _) = grown(u64::MAX);
    assert!(table.bytes() <= 90 * KEYS, "{} bytes a key", table.bytes() / KEYS);
}

#[test]
fn a_released_table_gives_all_its_memory_back() {
    let (table, mut budget) = grown(1900);
    assert!(budget.used_bytes() > 0);
    table.release(&mut budget);
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn prefetching_changes_nothing_for_known_and_unknown_keys() {
    let (mut table, mut budget) = (Table::new(spec(&SPANS, u64::MAX)), unlimited());
    table.prefetch_index(key(1));
    table.prefetch_slot(key(1));
    table.add_and_read(key(1), Tick(START), 1, &mut budget);
    for n in 0..3 {
        table.prefetch_index(key(n));
        table.prefetch_slot(key(n));
    }
    assert_eq!((table.keys(), table.read(key(1)).unwrap().hi[0]), (1, 1));
}
