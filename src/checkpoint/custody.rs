//! One assignment of one events partition, as the store sees it: which records are kept, and what
//! a write whose fate nobody knows may have done.
//!
//! Call order for a [`Request`](super::Request): [`Custody::holds`]; while it is in doubt
//! ([`Custody::is_in_doubt`]), claim the partition anew, so that nothing under way can appear or
//! vanish any more, and [`Custody::resolve`]; then [`Custody::begin`], the write, and
//! [`Custody::kept`] or [`Custody::failed`]. Never here: Kafka, making a checkpoint.

use std::sync::Arc;

use super::{Draft, Fate, Ledger, Manifest, Request, tenure::same_epoch};
use crate::alert::{Alert, MessageId};

/// See the module.
#[derive(Debug)]
pub struct Custody {
    epoch: u64,
    ledger: Ledger,
    /// Alerts of the attempt that the ledger is in doubt about.
    in_doubt: Vec<MessageId>,
    /// Alerts of failed attempts that were committed after all; the worker still asks for them.
    out: Vec<MessageId>,
}

/// A checkpoint on its way into the topic, and the alerts that go with it.
#[derive(Debug)]
pub struct Attempt {
    /// Its records.
    pub draft: Draft,
    /// To be published in the same transaction, oldest first.
    pub alerts: Vec<Arc<Alert>>,
}

/// An earlier checkpoint may be lost, so this one must hold every value, and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an earlier checkpoint may be lost; the next holds everything")]
pub struct NotWhole;

/// The newest checkpoint is another member's: the partition must be taken on again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another member has written a checkpoint since")]
pub struct Superseded;

impl Custody {
    /// Of the assignment `epoch`, whose partition was claimed and whose records are `ledger`'s.
    #[must_use]
    pub const fn new(epoch: u64, ledger: Ledger) -> Self {
        Self { epoch, ledger, in_doubt: Vec::new(), out: Vec::new() }
    }

    /// Whether what is asked under `epoch` is for this assignment. Another is over, or its
    /// records are another custody's.
    #[must_use]
    pub fn holds(&self, epoch: u64) -> bool {
        same_epoch(epoch, self.epoch)
    }

    /// An attempt has failed and [`Self::resolve`] was not called since.
    #[must_use]
    pub const fn is_in_doubt(&self) -> bool {
        self.ledger.is_in_doubt()
    }

    /// Decides the fate of the failed attempt by the `newest` manifest, read after a claim (D4).
    ///
    /// # Errors
    /// Somebody else has written meanwhile: a member that was slow to take the partition on, and
    /// did so after it had become ours. Its checkpoint is as exact as ours, but alerts of ours may
    /// be out with it, so counting goes on from there.
    pub fn resolve(&mut self, newest: Option<&Manifest>) -> Result<(), Superseded> {
        let sent = std::mem::take(&mut self.in_doubt);
        match self.ledger.resolve(newest) {
            Fate::Kept => self.out.extend(sent),
            Fate::Lost => {}
            Fate::Superseded => return Err(Superseded),
        }
        Ok(())
    }

    /// A checkpoint to be written. What went out with an attempt that seemed to have failed is not
    /// sent again.
    ///
    /// # Errors
    /// The worker has to hear of an earlier failure first.
    pub fn begin(&self, request: Request, topic_id: &str) -> Result<Attempt, NotWhole> {
        if self.ledger.needs_all() && !request.saved.is_whole {
            return Err(NotWhole);
        }
        let mut alerts = request.alerts;
        alerts.retain(|alert| !self.out.contains(&alert.message));
        let Request { saved, covered, revision, .. } = request;
        let draft = self.ledger.draft(saved, covered, topic_id, &revision);
        Ok(Attempt { draft, alerts })
    }

    /// The attempt is committed.
    pub fn kept(&mut self, attempt: Attempt) {
        self.out.clear();
        self.ledger.commit(attempt.draft);
    }

    /// Nobody knows whether the attempt was committed.
    pub fn failed(&mut self, attempt: &Attempt) {
        self.ledger.fail(&attempt.draft);
        self.in_doubt = attempt.alerts.iter().map(|alert| alert.message).collect();
    }
}
