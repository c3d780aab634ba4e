//! What ingest does about once a second beside the data: lag, time marks, metrics.

use std::time::{Duration, Instant};

use rdkafka::Statistics;
use tracing::info;

use super::{Error, Failure, Ingest};
use crate::{
    alert::SystemKind,
    event::{GroupBy, route::Routed},
    kafka::client::fetch_fill,
    metrics::{MatchMetrics, Part, Role, RouteMetrics},
    pipeline::{Shared, clock, outage::Outage, system::Condition},
    rules::Severity,
};

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(1);
/// Inputs at their end for this long get a time mark, and another one each time it passes (W6).
pub(in crate::pipeline) const MARK_AFTER: Duration = Duration::from_secs(10);
/// Scope of the dead-letter flood alert.
const FLOOD_SCOPE: &str = "dead-letter";

/// Metrics of ingest, and when what is due.
pub(super) struct Upkeep {
    round_at: Instant,
    /// Since when every input has been at its end, and the sum of their positions there.
    at_end: Option<(Instant, i64)>,
    marked_at: Option<Instant>,
    routes: RouteMetrics,
    catalog: MatchMetrics,
    assigned: Part,
    paused_by_drift: Part,
    paused_by_output: Part,
    hold_fill: Part,
    fetch_fill: Part,
    send_fill: Part,
    cut_bytes: u64,
    bodiless: u64,
    outage: Outage,
}

impl Upkeep {
    pub(super) fn new(shared: &Shared) -> Self {
        let metrics = &shared.metrics;
        Self {
            round_at: Instant::now(),
            at_end: None,
            marked_at: None,
            routes: metrics.routes(),
            catalog: catalog(shared),
            assigned: metrics.partitions_assigned.part(&["ingest"]),
            paused_by_drift: metrics.partitions_paused.part(&["ingest", "drift"]),
            paused_by_output: metrics.partitions_paused.part(&["ingest", "backpressure"]),
            hold_fill: metrics.queue_fill.part(&["hold"]),
            fetch_fill: metrics.queue_fill.part(&["fetch"]),
            send_fill: metrics.queue_fill.part(&["send"]),
            cut_bytes: 0,
            bodiless: 0,
            outage: Outage::default(),
        }
    }

    /// The broker does not answer.
    pub(super) fn is_outage(&self) -> bool {
        self.outage.is_on()
    }

    /// A router that has counted nothing yet took over.
    pub(super) fn new_session(&mut self, shared: &Shared) {
        self.routes = shared.metrics.routes();
        self.catalog = catalog(shared);
    }

    /// A message goes out.
    pub(super) fn batch(&self, routed: &Routed) {
        self.routes.batch(routed.route, routed.payload.len() as u64);
    }
}

fn catalog(shared: &Shared) -> MatchMetrics {
    let globs = shared.config.catalog.iter().map(|entry| entry.object.as_str());
    shared.metrics.catalog(globs, clock::now())
}

impl Ingest<'_> {
    /// One round, if it is due.
    ///
    /// # Errors
    /// What the shell has to say can be published no more.
    pub(super) fn keep_up(&mut self) -> Result<(), Error> {
        if let Some(statistics) = self.member.take_statistics() {
            self.shared.note_brokers(Role::Ingest, &statistics, &mut self.upkeep.outage);
            self.note_ends(&statistics);
            self.upkeep.fetch_fill.set(fetch_fill(&self.shared.config.kafka, &statistics));
        }
        if self.upkeep.round_at.elapsed() < EVERY && !self.shared.stopping() {
            return Ok(());
        }
        self.upkeep.round_at = Instant::now();
        self.publish_counts();
        self.publish_lag();
        if let Err(Failure { cause, .. }) = self.mark_time() {
            // The producer says so again at the next delivery, and that is handled there.
            tracing::warn!("a time mark was not written: {cause}");
        }
        if self.letters.flood.calmed(self.clock.ms()) {
            let message = "dead letters are below their limit again and kept whole";
            self.shared.publisher.clear(SystemKind::DeadLetterFlood, FLOOD_SCOPE, message);
        }
        self.shared.publisher.pump()
    }

    /// Notes how far each partition goes. A lane without records whose next offset is at the end
    /// holds no other lane back.
    fn note_ends(&mut self, statistics: &Statistics) {
        let mut at_end = Vec::new();
        for (topic, statistics) in &statistics.topics {
            for (number, partition) in &statistics.partitions {
                let Some(source) = self.lanes.find_mut(topic, *number) else { continue };
                // A transaction under way ends what may be read; below 0 is "not known".
                let end = match partition.ls_offset {
                    stable if stable >= 0 => partition.hi_offset.min(stable),
                    _ => partition.hi_offset,
                };
                if end < 0 {
                    source.end = None;
                    continue;
                }
                // Control records of transactions are skipped by librdkafka, not by us.
                let fetched_all = partition.next_offset >= end && partition.fetchq_cnt == 0;
                source.end = Some(if fetched_all { source.next.min(end) } else { end });
                if source.next >= end || fetched_all {
                    at_end.push(source.lane);
                }
            }
        }
        for lane in at_end {
            self.lanes.merge.at_end(lane);
        }
    }

    pub(super) fn publish_counts(&mut self) {
        let publisher = &self.shared.publisher;
        self.inputs.iter_mut().for_each(|input| input.publish(publisher));
        let stats = self.session.router().stats();
        for route in GroupBy::ALL {
            self.upkeep.routes.forwarded(route, stats.rows[route as usize]);
            self.upkeep.routes.keyless(route, stats.keyless[route as usize]);
        }
        self.upkeep.routes.context_resets.follow(stats.context_resets);
        let now = clock::now();
        for (entry, matched) in stats.catalog_matches.iter().enumerate() {
            self.upkeep.catalog.follow(entry, *matched, now);
        }
        let metrics = &self.shared.metrics;
        metrics.dead_letters_cut_bytes.inc_by(self.letters.cut_bytes - self.upkeep.cut_bytes);
        metrics.dead_letters_bodiless.inc_by(self.letters.bodiless - self.upkeep.bodiless);
        self.upkeep.cut_bytes = self.letters.cut_bytes;
        self.upkeep.bodiless = self.letters.bodiless;
        self.upkeep.assigned.set_u64(self.lanes.iter().count() as u64);
        // Lanes fill up as well while nothing may be taken from them.
        let paused = self.lanes.merge.paused() as u64;
        let blocked = self.output.is_blocked();
        self.upkeep.paused_by_drift.set_u64(if blocked { 0 } else { paused });
        self.upkeep.paused_by_output.set_u64(if blocked { paused } else { 0 });
        self.upkeep.hold_fill.set(self.lanes.merge.fill());
        self.output.fill().into_iter().for_each(|fill| self.upkeep.send_fill.set(fill));
    }

    #[expect(clippy::cast_precision_loss, reason = "an age in ms is far below 2^53")]
    fn publish_lag(&mut self) {
        for (lane, lead_ms) in self.lanes.merge.leads(self.clock.ms()) {
            if let Some(source) = self.lanes.iter().find(|source| source.lane == lane) {
                source.drift.set(lead_ms as f64 / 1000.0);
            }
        }
        let now_ms = clock::now().millis();
        for source in self.lanes.iter() {
            let records = source.end.map_or(0, |end| (end - source.next).max(0));
            source.lag.records.set_u64(u64::try_from(records).unwrap_or(0));
            let age_ms = source.timestamp_ms.filter(|_| records > 0).map(|ms| now_ms - ms);
            source.lag.seconds.set(age_ms.unwrap_or(0).max(0) as f64 / 1000.0);
        }
    }

    /// Writes a time mark when every input has been at its end for long enough (W6).
    fn mark_time(&mut self) -> Result<(), Failure> {
        let ended =
            |source: &super::lanes::Source| source.end.is_some_and(|end| source.next >= end);
        let at_end = !self.lanes.is_empty()
            && !self.upkeep.outage.is_on()
            && self.lanes.merge.is_empty()
            && self.dirty_since.is_none()
            && self.lanes.iter().all(ended);
        if !at_end {
            self.upkeep.at_end = None;
            return Ok(());
        }
        // Records that came and were taken between two rounds: their event time is not now, and
        // more of the kind may be on their way.
        let position = self.lanes.iter().map(|source| source.next).sum();
        let stayed = self.upkeep.at_end.filter(|(_, before)| *before == position);
        let (since, _) = *self.upkeep.at_end.insert(stayed.unwrap_or((Instant::now(), position)));
        let marked_lately =
            self.upkeep.marked_at.is_some_and(|marked| marked.elapsed() < MARK_AFTER);
        if since.elapsed() < MARK_AFTER || marked_lately || self.output.is_blocked() {
            return Ok(());
        }
        self.upkeep.marked_at = Some(Instant::now());
        let lanes = self.lanes.iter().map(|source| source.lane);
        let marks = self.session.mark(clock::now(), lanes);
        self.shared.metrics.time_marks.inc_by(u64::from(!marks.is_empty()));
        self.output.flush(self.lanes.positions(), marks, Vec::new())
    }
}

/// A flood of dead letters began: from here on only headers are kept.
pub(in crate::pipeline) fn flood_begins(shared: &Shared) {
    let limit = shared.config.dead_letter.bytes_per_second;
    info!(limit, "dead letters come faster than their limit");
    shared.publisher.raise(Condition {
        kind: SystemKind::DeadLetterFlood,
        scope: FLOOD_SCOPE.to_owned(),
        severity: Severity::Medium,
        message: format!(
            "dead letters come faster than {limit} bytes a second; only their headers are kept"
        ),
        details: vec![("bytes_per_second", limit.to_string())],
    });
}
