//! Where reading starts in a partition that was just assigned, and what is doubtful about it.
//!
//! Pure. A committed offset always wins. A topic of which the group knows no offset at all starts
//! where the configuration says; a partition without one in a topic that has others appeared
//! later, so it starts at its first record. Beside each offset stands a note of what it is an
//! offset of, so that one that was moved by hand, one of a topic that was made again, and a tail
//! that was routed otherwise (D1) are recognised.

use serde::{Deserialize, Serialize};

use crate::{
    config::Start,
    event::{identity::IdentitySpec, route},
    kafka::group::Committed,
    units::KeyHash,
};

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

/// What is doubtful about a committed offset. Never silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It is not where a reader of ours left it.
    Moved,
    /// It is an offset of a topic that was deleted and made again since.
    MadeAgain,
    /// Whoever read before did not end in order, and had rows routed otherwise: what it wrote past
    /// the offset is not recognised where it goes now.
    Rerouted,
}

/// What a reader writes beside the offsets that it commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The offset itself.
    at: i64,
    /// Id of its topic; empty from a broker that has none.
    topic_id: String,
    /// What decides where rows go, as [`routing`] gives it.
    routing: String,
    /// Nothing was written past the offset.
    settled: bool,
}

impl Note {
    /// Beside `at`.
    #[must_use]
    pub fn beside(at: i64, topic_id: &str, routing: &str, settled: bool) -> Committed {
        let note = Self { at, topic_id: topic_id.to_owned(), routing: routing.to_owned(), settled };
        let note = serde_json::to_string(&note).expect("plain values have a JSON form");
        Committed { offset: at, note }
    }

    fn of(committed: &Committed) -> Option<Self> {
        let note: Self = serde_json::from_str(&committed.note).ok()?;
        (note.at == committed.offset).then_some(note)
    }
}

/// What decides where rows go, besides the number of partitions and the routes in use, in short:
/// two readers that agree in it write a row to the same place.
#[must_use]
pub fn routing(seed: (u64, u64), identity: &IdentitySpec) -> String {
    // The folding of names follows the tables of the crate that is built in.
    let folding = unicode_normalization::UNICODE_VERSION;
    let KeyHash(hash) = route::hash(seed, &format!("{seed:?} {identity:?} {folding:?}"));
    format!("{hash:016x}")
}

/// Decides for every partition of one topic, given what the group has committed for each.
#[must_use]
pub fn begin(start: Start, topic_id: &str, committed: &[Option<Committed>]) -> Vec<Begin> {
    let known = committed.iter().any(Option::is_some);
    let decide = |committed: &Option<Committed>| match committed {
        Some(it) if doubt(it, topic_id, None) == Some(Doubt::MadeAgain) => Begin::First,
        Some(committed) => Begin::At(committed.offset),
        None if known => Begin::First,
        None => Begin::Configured(start),
    };
    committed.iter().map(decide).collect()
}

/// What is doubtful about an offset of a topic that has this id now. `routing` is ours, if rows
/// have been written past the offset perhaps.
#[must_use]
pub fn doubt(committed: &Committed, topic_id: &str, routing: Option<&str>) -> Option<Doubt> {
    let Some(note) = Note::of(committed) else { return Some(Doubt::Moved) };
    let both = !topic_id.is_empty() && !note.topic_id.is_empty();
    if both && note.topic_id != topic_id {
        return Some(Doubt::MadeAgain);
    }
    let otherwise = routing.is_some_and(|routing| routing != note.routing);
    (otherwise && !note.settled).then_some(Doubt::Rerouted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Committed {
        Note::beside(offset, "t", "r", false)
    }

    #[test]
    fn start_applies_only_to_a_topic_that_is_new_to_the_group() {
        let latest = Begin::Configured(Start::Latest);
        assert_eq!(begin(Start::Latest, "t", &[None, None]), [latest, latest]);
        let known = [Some(at(7)), Some(at(0))];
        assert_eq!(begin(Start::Latest, "t", &known), [Begin::At(7), Begin::At(0)]);
    }

    #[test]
    fn a_partition_that_appeared_later_starts_at_its_first_record() {
        assert_eq!(begin(Start::Latest, "t", &[Some(at(7)), None]), [Begin::At(7), Begin::First]);
    }

    #[test]
    fn an_offset_of_a_topic_made_again_is_no_offset_of_this_one() {
        assert_eq!(begin(Start::Latest, "u", &[Some(at(7))]), [Begin::First]);
        assert_eq!(doubt(&at(7), "u", Some("r")), Some(Doubt::MadeAgain));
        assert_eq!(doubt(&at(7), "", Some("r")), None, "a broker without ids");
    }

    #[test]
    fn an_offset_without_our_note_or_with_that_of_another_was_moved() {
        let bare = Committed { offset: 7, note: String::new() };
        assert_eq!(doubt(&bare, "t", Some("r")), Some(Doubt::Moved));
        let moved = Committed { offset: 9, ..at(7) };
        assert_eq!(doubt(&moved, "t", Some("r")), Some(Doubt::Moved));
        assert_eq!(begin(Start::Latest, "t", &[Some(moved)]), [Begin::At(9)]);
    }

    #[test]
    fn rows_routed_otherwise_are_a_doubt_unless_the_reader_ended_in_order() {
        assert_eq!(doubt(&at(7), "t", Some("r")), None);
        assert_eq!(doubt(&at(7), "t", Some("s")), Some(Doubt::Rerouted));
        assert_eq!(doubt(&at(7), "t", None), None, "nothing lies past it");
        let settled = Note::beside(7, "t", "r", true);
        assert_eq!(doubt(&settled, "t", Some("s")), None);
    }

    #[test]
    fn what_changes_where_rows_go_changes_the_routing() {
        let plain = IdentitySpec::default();
        let other = IdentitySpec { fold_case: false, ..IdentitySpec::default() };
        assert_eq!(routing((1, 2), &plain), routing((1, 2), &IdentitySpec::default()));
        assert_ne!(routing((1, 2), &plain), routing((1, 2), &other));
        assert_ne!(routing((1, 2), &plain), routing((1, 3), &plain));
    }
}
