//! The one list of metrics: field, kind, name, labels, unit, help.
//!
//! Everything else follows from it: the typed [`Families`], what is registered, and
//! `docs/METRICS.md`. A label value comes from a closed set or from configuration (topics, rule
//! ids, catalogue globs); a principal, a key or the text of an error is never one.

use super::family::{
    Counter, CounterVec, Family, Gauge, GaugeVec, Histogram, MaxVec, Min, SecondsVec, SizesVec,
    Sum, SumVec,
};

/// How one metric is called and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// `exfilwatch_<subject>_<what>_<unit>[_total]`.
    pub name: &'static str,
    /// What a scrape calls it: `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names; their values come from closed sets.
    pub labels: &'static [&'static str],
    /// What one unit of its value is.
    pub unit: &'static str,
    /// One sentence.
    pub help: &'static str,
}

macro_rules! metrics {
    ($(
        $field:ident: $kind:ident $name:literal [$($label:literal),*] $unit:literal $help:literal;
    )*) => {
        /// Every metric.
        pub const TABLE: &[Spec] = &[$(Spec {
            name: $name,
            kind: <$kind as Family>::KIND,
            labels: &[$($label),*],
            unit: $unit,
            help: $help,
        }),*];

        /// A handle for every metric of [`TABLE`].
        #[expect(clippy::doc_markdown, reason = "the help is for a scrape, which has no markdown")]
        #[derive(Debug)]
        pub struct Families {
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Families {
            /// Registers every metric of [`TABLE`].
            pub(super) fn register(registry: &prometheus::Registry) -> Self {
                let mut table = TABLE.iter();
                // A struct literal is evaluated in the order it is written: that of the table.
                Self {
                    $($field: {
                        let spec = table.next().expect("the table has an entry for each field");
                        <$kind as Family>::register(spec, registry)
                    },)*
                }
            }
        }
    };
}

metrics! {
    // Ingest: what was read and what became of it (D5).
    records_read: CounterVec "exfilwatch_records_read_total" ["topic"] "records"
        "Kafka records read from an input topic.";
    records_read_bytes: CounterVec "exfilwatch_records_read_bytes_total" ["topic"] "bytes"
        "Bytes of the values of the records read from an input topic.";
    shape_resets: CounterVec "exfilwatch_shape_resets_total" ["topic"] "resets"
        "How often the shapes of an input's JSON records were forgotten because there were too \
         many; while they are learnt anew, reading takes longer.";
    events_read: CounterVec "exfilwatch_events_read_total" ["topic", "outcome", "reason"] "events"
        "Events read from an input topic by what became of them: forwarded, ignored, \
         dead_letter (with the reason) or canary (forwarded too, but written by `exfilwatch \
         canary`); a record that cannot be decoded counts as one event.";
    events_quality: CounterVec "exfilwatch_events_quality_total" ["topic", "quality"] "events"
        "Events forwarded from an input topic by how far their record count can be trusted: \
         exact, upper_bound or unknown.";
    records_delivered: CounterVec "exfilwatch_records_delivered_total" ["topic"] "records"
        "Records that queries delivered by what the events of an input topic say, upper bounds \
         among them: what rules add up.";
    rows_forwarded: CounterVec "exfilwatch_rows_forwarded_total" ["group_by"] "rows"
        "Canonical rows routed to the internal events topic, by the route they took.";
    forwarded_bytes: CounterVec "exfilwatch_rows_forwarded_bytes_total" ["group_by"] "bytes"
        "Bytes of the batches written to the internal events topic, before compression by Kafka.";
    rows_keyless: CounterVec "exfilwatch_rows_keyless_total" ["group_by"] "events"
        "Events without the field a route groups by, which therefore count for no key of that \
         route.";
    catalog_matched: CounterVec "exfilwatch_catalog_matched_total" ["entry"] "events"
        "Events of which an object took its labels or size from a catalogue entry.";
    catalog_last_matched: GaugeVec "exfilwatch_catalog_last_matched_timestamp_seconds"
        ["entry"] "seconds since the epoch"
        "When a catalogue entry last matched an object, or the start of the process if it never \
         did.";
    time_marks: Counter "exfilwatch_time_marks_written_total" [] "marks"
        "Time marks written because every input was at its end.";
    partitions_paused: SumVec "exfilwatch_partitions_paused" ["role", "reason"] "partitions"
        "Assigned partitions that are paused now: ahead of the slowest source (drift) or \
         waiting for room (backpressure).";
    source_drift: MaxVec "exfilwatch_source_drift_seconds" ["topic"] "seconds"
        "How far the foremost partition of an input is ahead of the slowest that is not idle, \
         in event time.";

    // Dead letters.
    dead_letters: CounterVec "exfilwatch_dead_letters_produced_total" ["reason"] "records"
        "Records written to the dead-letter topic, by reason.";
    dead_letters_cut_bytes: Counter "exfilwatch_dead_letters_cut_bytes_total" [] "bytes"
        "Bytes left out of dead letters that were too large for their topic.";
    dead_letters_bodiless: Counter "exfilwatch_dead_letters_bodiless_total" [] "records"
        "Dead letters of which only the headers were kept, because they came faster than the \
         limit.";

    // Detect: rows and time.
    rows_evaluated: CounterVec "exfilwatch_rows_evaluated_total" ["group_by", "outcome"] "rows"
        "Rows read by detect by what became of them: applied, duplicate or too_late.";
    rows_repeated: Counter "exfilwatch_rows_repeated_total" [] "rows"
        "Rows of an input that retries which came before with the same id and content, at another \
         place; they are among the duplicates.";
    event_ids_reused: Counter "exfilwatch_event_ids_reused_total" [] "rows"
        "Rows of an input that retries whose id another event of the same source had before them; \
         they are counted.";
    rows_late_for_window: Counter "exfilwatch_rows_late_for_window_total" [] "windows"
        "Windows that a late row no longer reached, while it reached others; each counts once.";
    rows_clamped: Counter "exfilwatch_rows_clamped_total" [] "rows"
        "Rows whose event time lay in the future and was clamped to broker time plus the \
         allowed skew.";
    rows_uncounted: Counter "exfilwatch_rows_uncounted_total" [] "rows"
        "Rows of which the source lost the record count; unknown is never 0.";
    rows_upper_bound: Counter "exfilwatch_rows_upper_bound_total" [] "rows"
        "Rows whose record count is an upper bound.";
    contexts_unreadable: Counter "exfilwatch_contexts_unreadable_total" [] "contexts"
        "Contexts in the events topic that are no valid JSON: a fault of the writer; 0 is healthy.";
    context_resets: CounterVec "exfilwatch_context_resets_total" ["role"] "resets"
        "How often the remembered contexts were dropped because there were too many.";
    evidence_refused: Counter "exfilwatch_evidence_refused_total" [] "keys"
        "Keys near a limit for which no evidence was kept, because too many are.";
    crossings_refused: Counter "exfilwatch_crossings_refused_total" [] "crossings"
        "Crossings of a limit that got no alert of their own because too many episodes are open; \
         a DEGRADED alert says so; 0 is healthy.";
    chains_broken: Counter "exfilwatch_chains_broken_total" [] "messages"
        "Messages of the events topic that name a row before them which never came: rows are \
         missing; 0 is healthy.";
    rows_estimated: Counter "exfilwatch_rows_estimated_total" [] "rows"
        "Rows counted by an estimate, for want of memory for an exact count.";
    event_lag: Histogram "exfilwatch_event_lag_seconds" [] "seconds"
        "From the time of an event to its evaluation.";

    // Detect: what is held.
    window_keys: SumVec "exfilwatch_window_keys" ["group_by"] "keys"
        "Keys held in the window tables; those of group_by=\"principal.id\" are principals.";
    window_keys_promoted: SumVec "exfilwatch_window_keys_promoted" ["group_by"] "keys"
        "Keys that are near a limit and therefore counted in fine slices.";
    window_keys_near_limit: SumVec "exfilwatch_window_keys_near_limit" ["rule", "share"] "keys"
        "Keys that have used at least this share of a limit of the rule, in the window where \
         they are closest to it: 0.25 to 1, where 1 means crossed. Looked at every five seconds, \
         over keys of which there is evidence.";
    window_promotions: CounterVec "exfilwatch_window_promotions_total" ["group_by"] "keys"
        "Promotions of a key to fine slices.";
    window_memory: Sum "exfilwatch_window_memory_bytes" [] "bytes"
        "Memory of the window tables.";
    window_memory_limit: Gauge "exfilwatch_window_memory_limit_bytes" [] "bytes"
        "Ceiling of the window tables (detect.memory_limit).";
    window_memory_fill: MaxVec "exfilwatch_window_memory_fill_ratio" ["share"] "ratio"
        "How full a share of the ceiling is in the fullest partition: slots, five eighths of it, \
         or promoted, the quarter for fine slices of keys near a limit. At 1 counts of small keys \
         become estimates.";
    window_evictions: CounterVec "exfilwatch_window_evictions_total" ["reason"] "keys"
        "Keys that left the window tables: their windows were empty (idle) or memory was at its \
         ceiling (capacity).";
    partitions_degraded: Sum "exfilwatch_partitions_degraded" [] "partitions"
        "Partitions at their memory ceiling, where small keys are estimated; 0 is healthy.";

    // Detect: what is remembered of inputs that retry.
    dedup_entries: Sum "exfilwatch_dedup_entries" [] "rows"
        "Rows of inputs that retry which are remembered, to know a repeat by.";
    dedup_memory: Sum "exfilwatch_dedup_memory_bytes" [] "bytes"
        "Memory of what is remembered of inputs that retry; that of the window tables is apart.";
    dedup_evictions: Counter "exfilwatch_dedup_evictions_total" [] "rows"
        "Rows of inputs that retry which were forgotten for newer ones (dedup.entries).";
    dedup_horizon: Min "exfilwatch_dedup_horizon_seconds" [] "seconds"
        "How far back repeats are known: the age of the oldest row remembered, in the partition \
         where it is least; infinite while no partition has forgotten one.";

    // Checkpoints.
    state_rows: SumVec "exfilwatch_state_rows" ["group_by"] "rows"
        "Rows that the state of the assigned partitions has applied since it began, over restarts \
         and owners.";
    checkpoints: CounterVec "exfilwatch_checkpoints_total" ["result"] "checkpoints"
        "Checkpoints of partitions, by result: stored or failed; after a failure the next holds \
         every value.";
    checkpoint_bytes: Counter "exfilwatch_checkpoint_bytes_total" [] "bytes"
        "Bytes of checkpoints written to the state topic, before compression by Kafka.";
    checkpoint_age: MaxVec "exfilwatch_checkpoint_age_seconds" ["topic"] "seconds"
        "Since when the partition whose last checkpoint is oldest has none newer.";
    restores: CounterVec "exfilwatch_restores_total" ["result"] "partitions"
        "Partitions taken on, by what was restored: restored, older (the newest checkpoint could \
         not be used), nothing_kept, or unusable (no checkpoint could be used).";
    restore_records_left: Gauge "exfilwatch_restore_records_left" [] "records"
        "Records of the state topic still to be read for the restore under way.";

    restore_seconds: Histogram "exfilwatch_restore_seconds" [] "seconds"
        "How long it took to take a partition on: to claim it, read its checkpoint and rebuild \
         its engine.";

    // Alerts.
    episodes_open: SumVec "exfilwatch_episodes_open" ["rule", "severity"] "episodes"
        "Open episodes: keys that are above a limit, or were within its window.";
    alerts_delivered: CounterVec "exfilwatch_alerts_delivered_total"
        ["rule", "severity", "activity"] "alerts"
        "Alerts acknowledged by the alert topic; system alerts have rules such as \
         exfilwatch.degraded.";
    alert_latency: Histogram "exfilwatch_alert_latency_seconds" [] "seconds"
        "From the time of the event that caused an alert to the acknowledgement of the alert.";
    canary_last_success: GaugeVec "exfilwatch_canary_last_success_timestamp_seconds"
        [] "seconds since the epoch"
        "When an alert that a canary opened was last acknowledged by the alert topic, 0 if none \
         was in this process; absent where the configuration has no canary.";
    canary_latency: Histogram "exfilwatch_canary_latency_seconds" [] "seconds"
        "From the event time of a canary to the acknowledgement of its alert.";
    alerts_undelivered: Sum "exfilwatch_alerts_undelivered" [] "alerts"
        "Alerts in the outboxes: decided, but not yet acknowledged by the alert topic.";

    alerts_dropped: Counter "exfilwatch_alerts_dropped_total" [] "alerts"
        "Alerts about exfilwatch itself that were only logged, because too many waited for an \
         alert topic that does not answer; alerts of rules are never dropped.";

    // Rules.
    rules_revision: GaugeVec "exfilwatch_rules_revision_info" ["revision"] "1"
        "The revision of the rules in force.";
    rules_in_force: Gauge "exfilwatch_rules_in_force" [] "rules"
        "Rules in force.";
    rule_reloads: CounterVec "exfilwatch_rule_reloads_total" ["result"] "reloads"
        "Reloads of the rules, by result: applied, unchanged or refused.";
    rules_refused: Gauge "exfilwatch_rules_refused" [] "1"
        "1 while the files hold rules that were refused, else 0: those in force stay, and the next \
         start fails.";
    rule_matched: CounterVec "exfilwatch_rule_matched_total" ["rule"] "events"
        "Events that passed the filter of a rule.";
    rule_last_matched: GaugeVec "exfilwatch_rule_last_matched_timestamp_seconds"
        ["rule"] "seconds since the epoch"
        "When an event last passed the filter of a rule, or when the rule came into force if \
         none did.";

    // Kafka and the process.
    consumer_lag_records: SumVec "exfilwatch_consumer_lag_records" ["role", "topic"] "records"
        "Records between the position of the group and the end of the topic, over the \
         partitions of this process.";
    consumer_lag_seconds: MaxVec "exfilwatch_consumer_lag_seconds" ["role", "topic"] "seconds"
        "Age of the record read last from the most delayed partition of this process; 0 at the \
         end.";
    batch_records: SizesVec "exfilwatch_batch_records" ["role"] "records"
        "Records that ingest got at once, and rows in a message that detect applied.";
    busy_seconds: SecondsVec "exfilwatch_busy_seconds_total" ["role", "thread"] "seconds"
        "Time that a loop did not spend waiting; at one second a second it is the bottleneck.";
    tls_not_after: GaugeVec "exfilwatch_tls_certificate_not_after_timestamp_seconds"
        ["file"] "seconds since the epoch"
        "When the first certificate in a file of the Kafka client's TLS settings expires: of what \
         was read at the start, or of what is there now if that is sooner.";
    partitions_assigned: SumVec "exfilwatch_partitions_assigned" ["role"] "partitions"
        "Partitions assigned to this process.";
    rebalances: CounterVec "exfilwatch_rebalances_total" ["role"] "rebalances"
        "Rebalances of the consumer group seen by this process.";
    commits: CounterVec "exfilwatch_commits_total" ["role", "result"] "commits"
        "Offset commits, by result: ok or failed.";
    delivery_failures: CounterVec "exfilwatch_delivery_failures_total" ["output"] "messages"
        "Messages Kafka refused or lost on the way to events, alerts or dead_letter; each is \
         sent again.";
    queue_fill: MaxVec "exfilwatch_queue_fill_ratio" ["queue"] "ratio"
        "How full the fullest queue of its kind is, by bytes: fetch (librdkafka, before it is \
         polled; it may pass 1 by a fetch a partition), hold (records held back by drift), send \
         (rows and dead letters on their way to the broker), ring (between poll and engine) or \
         outbox (undelivered alerts).";
    account_difference: SumVec "exfilwatch_account_difference_rows" ["role"] "rows"
        "Rows by which the account of what was read and what became of it fails to add up; 0 is \
         healthy.";
    ready: Gauge "exfilwatch_ready" [] "1"
        "1 when every role is ready, else 0; /readyz says why.";
    build_info: GaugeVec "exfilwatch_build_info" ["version", "revision", "librdkafka"] "1"
        "What is running.";
}
