//! No allocation per event, and no byte taken that is not accounted for: held by an allocator that
//! counts, which is why this is a test binary of its own (a global allocator is one a binary).
#![expect(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use exfilwatch::units::{KeyHash, Tick, WindowSpan};
use exfilwatch::window::{Budget, Table, TableSpec};

/// Counts what its own thread allocates, so that tests do not see each other.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Notes one allocation (`bytes > 0`) or one release (`bytes < 0`).
fn note(bytes: i64) {
    // A thread that ends frees its locals after they are gone; nobody counts there.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + u64::from(bytes > 0)));
    let _ = LIVE_BYTES.try_with(|live| live.set(live.get() + bytes));
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; counting
// touches only plain thread-locals that never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(signed(size));
        note(-signed(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const START: u32 = 1_767_225_600;
const KEYS: u64 = 10_000;

fn table(promote_at: u64) -> Table {
    let windows = [3600, 86_400, 7 * 86_400, 30 * 86_400];
    let windows = windows.map(|span_s| WindowSpan::from_secs(span_s).ok());
    Table::new(TableSpec { windows, promote_at: [promote_at; 4] })
}

fn key(n: u64) -> KeyHash {
    KeyHash((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// One round over all keys; the odd ones are promoted in the first.
fn round(table: &mut Table, budget: &mut Budget, at: u32) {
    for n in 0..KEYS {
        table.prefetch_index(key(n));
        table.prefetch_slot(key(n));
        table.add(key(n), Tick(at), n % 2 * 100, budget);
    }
}

#[test]
fn a_million_events_of_known_keys_allocate_nothing() {
    let (mut table, mut budget) = (table(50), Budget::new(1 << 30));
    round(&mut table, &mut budget, START);
    assert_eq!(table.promoted() as u64, KEYS / 2);
    let before = CALLS.get();
    for step in 1..=100 {
        // From within a slice to past the longest window, and late by up to an hour.
        round(&mut table, &mut budget, START + step * step * 600 - step % 3 * 1800);
        assert!(table.read(key(7)).is_some() && table.above_until(key(7), 3, 0).is_some());
    }
    assert_eq!(CALLS.get() - before, 0);
}

#[test]
fn a_table_takes_no_more_than_it_says_and_no_more_than_its_budget() {
    let before = LIVE_BYTES.get();
    let limit_bytes = 16 << 20;
    let (mut table, mut budget) = (table(50), Budget::new(limit_bytes));
    for n in 0..400_000u64 {
        table.add(key(n), Tick(START), u64::from(n % 50 == 0) * 60, &mut budget);
    }
    let taken = u64::try_from(LIVE_BYTES.get() - before).unwrap();
    assert!(budget.degraded() && table.promoted() > 1000, "all three shares are in use");
    assert!(taken <= table.bytes(), "{taken} bytes taken, {} accounted for", table.bytes());
    assert!(table.bytes() <= limit_bytes);
    drop(table);
    assert_eq!(LIVE_BYTES.get(), before);
}

#[test]
fn a_flood_at_the_ceiling_allocates_nothing_once_the_sketch_is_there() {
    let (mut table, mut budget) = (table(u64::MAX), Budget::new(1 << 20));
    let mut flood = |keys: std::ops::Range<u64>| {
        for n in keys {
            table.add(key(n), Tick(START), 1, &mut budget);
        }
    };
    flood(0..50_000);
    let before = CALLS.get();
    flood(50_000..200_000);
    assert_eq!(CALLS.get() - before, 0);
}
