//! Records that a source posted more than once (Trino's HTTP listener tries again on 408, 429 and
//! 5xx): the same bytes, with the same query id, at another place of the log.
//!
//! Whole records are compared, by a keyed hash of random key, so that nobody hides a read behind
//! the query id of another. Only the last [`REMEMBERED_MAX`] are known, and only to the process
//! that read the first: a repeat beyond that is counted again. Never here: a record that is read a
//! second time from its own place; that is D1's, and must not be lost.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::Event;

/// Records remembered, about 60 bytes each.
pub const REMEMBERED_MAX: usize = 65_536;

/// The place of a record in its input: partition and offset.
pub type Place = (i32, i64);

/// Records of one input that were seen lately.
#[derive(Debug, Default)]
pub struct Repeats {
    hasher: RandomState,
    first: HashMap<u64, Place>,
    order: VecDeque<u64>,
}

impl Repeats {
    /// Whether the same record was seen at another place before.
    pub fn is_repeat(&mut self, record: &[u8], place: Place) -> bool {
        let hash = self.hasher.hash_one(record);
        if let Some(first) = self.first.get(&hash) {
            return *first != place;
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.first.remove(&oldest);
        }
        self.order.push_back(hash);
        self.first.insert(hash, place);
        false
    }
}

/// Whether `event`, made of `record`, was posted before. Without a query id nobody can tell.
pub fn is_repeat(
    repeats: &mut Option<Repeats>,
    event: &Event<'_>,
    record: &[u8],
    place: Place,
) -> bool {
    let known = repeats.as_mut().filter(|_| event.query_id.is_some());
    known.is_some_and(|repeats| repeats.is_repeat(record, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_at_another_place_is_a_repeat_and_one_read_again_is_not() {
        let mut repeats = Repeats::default();
        assert!(!repeats.is_repeat(b"a", (0, 5)));
        assert!(repeats.is_repeat(b"a", (0, 6)));
        assert!(repeats.is_repeat(b"a", (1, 5)));
        assert!(!repeats.is_repeat(b"a", (0, 5)), "after a failed delivery it is read again");
        assert!(!repeats.is_repeat(b"b", (0, 6)));
    }

    #[test]
    fn only_so_many_are_remembered_and_the_oldest_go_first() {
        let mut repeats = Repeats::default();
        for n in 0..=i64::try_from(REMEMBERED_MAX).unwrap() {
            assert!(!repeats.is_repeat(&n.to_le_bytes(), (0, n)));
        }
        assert_eq!((repeats.first.len(), repeats.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(!repeats.is_repeat(&0_i64.to_le_bytes(), (0, -1)), "forgotten");
        assert!(repeats.is_repeat(&2_i64.to_le_bytes(), (0, -1)));
    }
}
