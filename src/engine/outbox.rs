//! Alerts between their decision and their known delivery.

use std::{collections::VecDeque, sync::Arc};

use crate::alert::{Alert, MessageId};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    alerts: VecDeque<Arc<Alert>>,
    /// How many of the last were not taken yet.
    fresh: usize,
    /// About how much memory they take.
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, alert: Alert) {
        self.bytes += alert.bytes();
        self.alerts.push_back(Arc::new(alert));
        self.fresh += 1;
    }

    pub(super) fn take(&mut self, out: &mut Vec<Arc<Alert>>) {
        let taken = self.taken();
        out.extend(self.alerts.range(taken..).cloned());
        self.fresh = 0;
    }

    /// Only what was taken can have been delivered.
    pub(super) fn delivered(&mut self, message: MessageId) {
        let taken = self.taken();
        if let Some(at) = self.alerts.range(..taken).position(|alert| alert.message == message) {
            let gone = self.alerts.remove(at);
            self.bytes -= gone.map_or(0, |alert| alert.bytes());
        }
    }

    /// Puts back what was saved; all of it is taken again, since nobody knows its fate.
    pub(super) fn restore(&mut self, alerts: Vec<Arc<Alert>>) {
        self.fresh = alerts.len();
        self.bytes = alerts.iter().map(|alert| alert.bytes()).sum();
        self.alerts = alerts.into();
    }

    /// What is in it, to be saved.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.alerts.iter()
    }

    /// How many of the first were taken.
    pub(super) fn taken(&self) -> usize {
        self.alerts.len() - self.fresh
    }

    pub(super) fn len(&self) -> usize {
        self.alerts.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
