//! Where reading goes on after a restore, and what that skips or counts again.

use super::Unusable;

/// What the broker knows of a partition that was assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log<'a> {
    /// Id of its topic.
    pub topic_id: &'a str,
    /// First offset that is kept.
    pub first: i64,
    /// Next offset that will be written.
    pub end: i64,
    /// The group knows that there was a checkpoint of it.
    pub was_saved: bool,
}

/// Why counts may differ from those of one undisturbed run. Never silent: each is a `DATA_GAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The topic was deleted and made again: what was in it and not yet counted is gone.
    MadeAgain,
    /// The offset that comes next is not kept.
    Gap,
    /// There is no checkpoint that can be used: what the topic holds is counted again.
    NoCheckpoint,
    /// An older checkpoint is used than the newest: nothing is lost as long as the topic still
    /// holds what came after it.
    Older,
}

/// The offset to read on from and what is lost by it. `restored` is what the checkpoint in use
/// covers, and the id that the topic had; `unusable` are the newer ones, newest first.
///
/// The checkpoint's own offset decides, never the group's, which anybody can move (D2).
#[must_use]
pub fn resume(
    restored: Option<(i64, &str)>,
    unusable: &[Unusable],
    log: Log<'_>,
) -> (i64, Vec<Loss>) {
    let mut losses = Vec::new();
    let from = match restored {
        Some((_, topic_id)) if topic_id != log.topic_id => {
            losses.push(Loss::MadeAgain);
            log.first
        }
        Some((covered, _)) if (log.first..=log.end).contains(&covered) => covered,
        Some(_) => {
            losses.push(Loss::Gap);
            log.first
        }
        None => {
            // Before the first checkpoint there is nothing to miss: all is read again. A log that
            // has lost its beginning was counted by somebody, or by nobody: either way these counts
            // are not whole.
            if !unusable.is_empty() || log.was_saved || log.first > 0 {
                losses.push(Loss::NoCheckpoint);
            }
            log.first
        }
    };
    if restored.is_some() && !unusable.is_empty() {
        losses.push(Loss::Older);
    }
    (from, losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log<'_> = Log { topic_id: "t", first: 10, end: 20, was_saved: true };

    #[test]
    fn what_the_checkpoint_covers_decides_up_to_both_ends_of_the_log() {
        for covered in [10, 15, 20] {
            assert_eq!(resume(Some((covered, "t")), &[], LOG), (covered, Vec::new()));
        }
        for covered in [9, 21] {
            assert_eq!(resume(Some((covered, "t")), &[], LOG), (10, vec![Loss::Gap]));
        }
    }

    #[test]
    fn another_topic_of_the_same_name_is_read_from_its_beginning() {
        assert_eq!(resume(Some((15, "u")), &[], LOG), (10, vec![Loss::MadeAgain]));
    }

    #[test]
    fn only_before_the_first_checkpoint_is_nothing_missed_without_one() {
        let new = Log { first: 0, was_saved: false, ..LOG };
        assert_eq!(resume(None, &[], new), (0, Vec::new()));
        let damaged = [Unusable::Torn(String::new())];
        assert_eq!(resume(None, &damaged, new), (0, vec![Loss::NoCheckpoint]));
        for log in [Log { was_saved: true, ..new }, Log { first: 10, ..new }] {
            assert_eq!(resume(None, &[], log), (log.first, vec![Loss::NoCheckpoint]));
        }
    }

    #[test]
    fn an_older_checkpoint_is_used_and_said() {
        let damaged = [Unusable::Torn(String::new())];
        assert_eq!(resume(Some((15, "t")), &damaged, LOG), (15, vec![Loss::Older]));
    }
}
