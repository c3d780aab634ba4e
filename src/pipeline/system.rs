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
