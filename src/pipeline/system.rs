//! Conditions that only the shell can know of. Their episodes are `alert::system`.

use crate::{alert::SystemKind, rules::Severity};

pub use crate::alert::system::{Condition, SystemEpisodes};

/// `difference` events or rows came in and went nowhere, or the other way round (D5).
#[must_use]
pub fn account(scope: String, difference: u64) -> Condition {
    Condition {
        kind: SystemKind::Account,
        message: format!(
            "the account of {scope} does not add up by {difference}: what came in was not all \
             forwarded or applied, ignored, known already, too late or a dead letter; this is a \
             fault of exfilwatch, please report it"
        ),
        scope,
        severity: Severity::Critical,
        details: vec![("difference", difference.to_string())],
    }
}

/// Offset `from` of a partition should have come next, but it keeps `first` to before `end`.
#[must_use]
pub fn gap((topic, number): &(String, i32), from: i64, first: i64, end: i64) -> Condition {
    let message = if from < first {
        format!(
            "records {from} to {} of {topic}[{number}] were deleted before they were read",
            first - 1
        )
    } else {
        format!(
            "{topic}[{number}] ends at {end}, before offset {from} that was read last: it was \
             truncated or made again; reading goes on at {first}"
        )
    };
    Condition {
        kind: SystemKind::DataGap,
        // Each gap is news of its own: a later one must not be folded into an earlier.
        scope: format!("{topic}/{number}@{from}"),
        severity: Severity::High,
        message,
        details: vec![
            ("expected_offset", from.to_string()),
            ("first_offset", first.to_string()),
            ("end_offset", end.to_string()),
        ],
    }
}

/// The topic was made again: offset `from`, where reading would go on, is of another topic.
#[must_use]
pub fn made_again((topic, number): &(String, i32), from: i64) -> Condition {
    Condition {
        kind: SystemKind::DataGap,
        scope: format!("{topic}/{number}@{from}"),
        severity: Severity::High,
        message: format!(
            "{topic} was deleted and made again since partition {number} was read up to offset \
             {from}: what was in it and not yet counted is lost; reading goes on at its beginning"
        ),
        details: vec![("expected_offset", from.to_string())],
    }
}

/// Somebody moved the group's offset past records from `from` on, which nobody has read.
#[must_use]
pub fn moved((topic, number): &(String, i32), from: i64, to: i64) -> Condition {
    Condition {
        kind: SystemKind::DataGap,
        scope: format!("{topic}/{number}@{to}/moved"),
        severity: Severity::High,
        message: format!(
            "the committed offset of {topic}[{number}] was moved by hand to {to}: records {from} \
             to {} may never have been read, and are not counted",
            to - 1
        ),
        details: vec![("from_offset", from.to_string()), ("to_offset", to.to_string())],
    }
}

/// Whoever read before ended without order while rows went elsewhere: `written` is the last record
/// past the committed offset `from` whose rows were found, `end` what they cannot have passed.
#[must_use]
pub fn rerouted(
    (topic, number): &(String, i32),
    from: i64,
    written: Option<i64>,
    end: i64,
) -> Condition {
    let to = written.filter(|written| *written >= from).unwrap_or(end - 1);
    Condition {
        kind: SystemKind::DataGap,
        scope: format!("{topic}/{number}@{from}/rerouted"),
        severity: Severity::Medium,
        message: format!(
            "records {from} to at most {to} of {topic}[{number}] may be counted twice: ingest was \
             killed, and `identity` was changed before it started again, so rows that it had \
             written already are not recognised where they go now"
        ),
        details: vec![("from_offset", from.to_string()), ("to_offset", to.to_string())],
    }
}

/// No checkpoint of a partition that was read before can be used.
#[must_use]
pub fn no_checkpoint((topic, number): &(String, i32), first: i64, why: &str) -> Condition {
    Condition {
        kind: SystemKind::DataGap,
        scope: format!("{topic}/{number}/checkpoint"),
        severity: Severity::High,
        message: format!(
            "{topic}[{number}] was read before, but no checkpoint of it can be used ({why}): all \
             from offset {first} on is counted again, and what came before is not counted"
        ),
        details: vec![("first_offset", first.to_string())],
    }
}

/// The newest checkpoint cannot be used; the one before it covers less and everything after it is
/// read again, so nothing is lost as long as the topic still has it.
#[must_use]
pub fn older_checkpoint((topic, number): &(String, i32), covered: i64, why: &str) -> Condition {
    Condition {
        kind: SystemKind::DataGap,
        scope: format!("{topic}/{number}/checkpoint"),
        severity: Severity::Medium,
        message: format!(
            "the newest checkpoint of {topic}[{number}] cannot be used ({why}); the one before it \
             is, and reading goes on at offset {covered}"
        ),
        details: vec![("covered_offset", covered.to_string())],
    }
}
