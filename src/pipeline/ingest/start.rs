//! Where reading starts in a partition that was just assigned.
//!
//! Pure. A committed offset always wins. A topic of which the group knows no offset at all starts
//! where the configuration says; a partition without one in a topic that has others appeared
//! later, so it starts at its first record.

use crate::config::Start;

/// How to begin in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the committed offset.
    At(i64),
    /// At the first record kept.
    First,
    /// As the configuration says, for a topic that is new to the group.
    Configured(Start),
}

/// Decides for every partition of one topic, given what the group has committed for each.
#[must_use]
pub fn begin(start: Start, committed: &[Option<i64>]) -> Vec<Begin> {
    let known = committed.iter().any(Option::is_some);
    let decide = |offset: &Option<i64>| match offset {
        Some(offset) => Begin::At(*offset),
        None if known => Begin::First,
        None => Begin::Configured(start),
    };
    committed.iter().map(decide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_applies_only_to_a_topic_that_is_new_to_the_group() {
        let latest = Begin::Configured(Start::Latest);
        assert_eq!(begin(Start::Latest, &[None, None]), [latest, latest]);
        assert_eq!(begin(Start::Latest, &[Some(7), Some(0)]), [Begin::At(7), Begin::At(0)]);
    }

    #[test]
    fn a_partition_that_appeared_later_starts_at_its_first_record() {
        assert_eq!(begin(Start::Latest, &[Some(7), None]), [Begin::At(7), Begin::First]);
    }
}
