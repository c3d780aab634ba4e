//! What Kafka keeps, and who may write: inputs, events, state, alerts, the groups.

use std::collections::BTreeMap;

use super::*;
use crate::alert::Subject;

/// A record of an input.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    principal: usize,
    at_s: u64,
    /// Two rows of one key at one instant could open two episodes with one id (D3).
    unique_ms: i64,
    rows: u64,
}

/// What a broker and its coordinators know.
#[derive(Default)]
pub(super) struct Kafka {
    pub(super) inputs: [Vec<Sent>; SOURCES],
    pub(super) committed: [usize; SOURCES],
    pub(super) events: [Vec<(Batch, EventTime)>; PARTITIONS],
    /// First message kept.
    pub(super) first: [usize; PARTITIONS],
    pub(super) states: [State; PARTITIONS],
    /// What each checkpoint that is whole covers.
    pub(super) covered: [Vec<usize>; PARTITIONS],
    /// The last transaction was torn.
    pub(super) torn: [bool; PARTITIONS],
    /// The claim that counts.
    pub(super) claims: [u64; PARTITIONS],
    /// The member that the group of detect takes for the owner.
    pub(super) owners: [u64; PARTITIONS],
    /// What the group of detect has committed.
    pub(super) group: [usize; PARTITIONS],
    pub(super) alerts: BTreeMap<MessageId, Alert>,
    /// Two messages with one id that do not say the same, or one that came twice.
    pub(super) contradiction: Option<String>,
    /// Alerts go out with checkpoints (D4), else on their own.
    pub(super) transactional: bool,
    /// Messages become bytes and are read again: most of the time that a seed takes.
    pub(super) bytes: bool,
    /// How far the broker's clock is off, in hours: it jumps.
    pub(super) clock_h: i64,
}

impl Kafka {
    pub(super) fn new(random: &mut Random) -> Self {
        let bytes = random.0.is_multiple_of(8);
        let mut kafka = Self { bytes, transactional: random.one_in(2), ..Self::default() };
        for (source, input) in (0..).zip(&mut kafka.inputs) {
            let mut at_s = 0;
            for number in 0..EVENTS {
                at_s += random.below(90) as u64;
                let unique_ms = i64::try_from(number).unwrap() * 2 + source;
                let (principal, rows) = (random.below(12), random.below(40) as u64);
                let new = Sent { principal, at_s, unique_ms, rows };
                // A source that got no answer sends again.
                let again = input.last().copied().filter(|_| random.one_in(8));
                input.push(again.unwrap_or(new));
            }
        }
        kafka
    }

    /// The event at `offset` of a source.
    pub(super) fn event(&self, source: usize, offset: usize) -> Event<'static> {
        let Sent { principal, at_s, unique_ms, rows } = self.inputs[source][offset];
        let mut event = event(&format!("p{principal}"), at_s, rows);
        event.event_time = event.event_time.plus_millis(unique_ms);
        event.event_id = Some(format!("e{unique_ms}").into());
        event
    }

    /// Appends a message under the broker's clock.
    pub(super) fn append(&mut self, partition: usize, batch: Batch) {
        let at = broker_time().plus_millis(self.clock_h * 3_600_000);
        self.events[partition].push((batch, at));
    }

    /// An alert becomes visible on its own.
    pub(super) fn publish(&mut self, alert: &Alert) {
        let alert = unrevised(alert);
        let first = self.alerts.entry(alert.message).or_insert_with(|| alert.clone());
        if *first != alert {
            self.contradiction = Some(format!("{first:?}\nand later {alert:?}"));
        }
    }

    /// An alert becomes visible with the transaction it was in (D4).
    pub(super) fn publish_once(&mut self, alert: &Alert) {
        if self.alerts.insert(alert.message, unrevised(alert)).is_some() {
            self.contradiction = Some(format!("twice: {alert:?}"));
        }
    }

    /// The newest manifest.
    pub(super) fn newest(&self, partition: usize) -> Option<Manifest> {
        self.states[partition].manifests_of(&origin_of(partition)).flatten().next()
    }

    /// Deletes messages that the last two checkpoints cover.
    pub(super) fn retain(&mut self, partition: usize) {
        if let [.., older, _] = self.covered[partition][..] {
            self.first[partition] = self.first[partition].max(older);
        }
    }

    /// Takes the partition: earlier claims can write nothing any more.
    pub(super) fn claim(&mut self, partition: usize) -> u64 {
        self.claims[partition] += 1;
        self.claims[partition]
    }
}

pub(super) fn origin_of(partition: usize) -> Origin {
    let partitions = u32::try_from(PARTITIONS).unwrap();
    Origin { partition: i32::try_from(partition).unwrap(), partitions, ..origin() }
}

/// The rules change to others that decide the same; at which message of the log is no matter of
/// the log alone.
pub(super) fn unrevised(alert: &Alert) -> Alert {
    let mut alert = alert.clone();
    if let Subject::Rule(finding) = &mut alert.subject {
        finding.revision.clear();
    }
    alert
}
