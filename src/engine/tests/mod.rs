//! Behaviour of the engine, driven as the shell drives it: events through a router into messages.

mod canary;
mod ceiling;
mod census;
mod episodes;
mod identity;
mod oracle;
mod reload;
mod repeats;

use std::sync::Arc;

use crate::{
    alert::{Alert, RuleFinding, Subject, SystemFinding},
    event::{
        Event, Principal, RowsQuality, Source,
        batch::{Batch, SourcePartition},
        catalog::Catalog,
        identity::{Identity, IdentitySpec},
        route::{Router, RouterSpec},
    },
    rules::{
        GroupBy, Measure, RuleSet, Severity,
        compile::compile,
        written::{WrittenLimit, WrittenRule},
    },
    units::{EventTime, Offset, Partition, WindowSpan},
};

use super::{Dedup, Engine, EngineOptions};

pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 3600;
pub(crate) const DAY: u64 = 24 * HOUR;
/// Start of all tests: 2026-01-05T00:00:00Z, a Monday.
pub(crate) const START_S: u64 = 1_767_571_200;

/// A rule on rows by principal with (window in seconds, above, severity).
pub(crate) fn rule(id: &str, limits: &[(u64, u64, Severity)]) -> WrittenRule {
    WrittenRule {
        id: id.into(),
        title: format!("title of {id}"),
        severity: Severity::High,
        wanted: Vec::new(),
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        limits: limits
            .iter()
            .map(|&(window_s, above, severity)| WrittenLimit {
                window: WindowSpan::from_secs(window_s).unwrap(),
                above,
                severity: Some(severity),
            })
            .collect(),
    }
}

pub(crate) fn rules(rules: &[WrittenRule]) -> Arc<RuleSet> {
    Arc::new(compile(rules))
}

/// An event of `principal`, `at_s` seconds after [`START_S`].
pub(crate) fn event(principal: &str, at_s: u64, rows: u64) -> Event<'static> {
    Event {
        event_id: None,
        event_time: EventTime::from_millis(i64::try_from((START_S + at_s) * 1000).unwrap()),
        principal: Principal { id: principal.to_owned().into(), ..Principal::default() },
        source: Source { kind: "postgresql".into(), ..Source::default() },
        objects: smallvec::SmallVec::new(),
        operation: None,
        destination: crate::event::Destination::Client,
        rows: Some(rows),
        rows_quality: RowsQuality::Exact,
        rows_written: 0,
        bytes: None,
        client_address: None,
        client_application: None,
        query_id: None,
        query_fingerprint: None,
        success: Some(true),
    }
}

pub(crate) fn source(partition: i32) -> SourcePartition {
    SourcePartition { cluster: "c".into(), topic: "t".into(), topic_id: String::new(), partition }
}

/// An engine with a router before it; offsets count up.
pub(super) struct Rig {
    pub(super) router: Router,
    pub(super) engine: Engine,
    pub(super) offset: i64,
    pub(super) broker_time: EventTime,
}

impl Rig {
    pub(super) fn new(written: &[WrittenRule]) -> Self {
        Self::with_memory(written, 64 << 20)
    }

    pub(super) fn with_memory(written: &[WrittenRule], memory_limit: u64) -> Self {
        let rules = rules(written);
        let router = Router::new(RouterSpec {
            routes: rules.routes(),
            partitions: 1,
            seed: (1, 2),
            identity: Identity::new(&IdentitySpec::default()),
            catalog: Catalog::new(Vec::new()),
        });
        let options = EngineOptions {
            partition: Partition(0),
            allowed_skew_ms: 300_000,
            memory_limit,
            dedup_entries: 100,
        };
        let broker_time =
            EventTime::from_millis(i64::try_from((START_S + 400 * DAY) * 1000).unwrap());
        Self { router, engine: Engine::new(options, rules), offset: 0, broker_time }
    }

    /// Buffers an event at the next offset of source partition 0.
    pub(super) fn push(&mut self, event: &Event<'_>) {
        let id = self.router.source(&source(0));
        self.router.push(id, Offset(self.offset), 0, event);
        self.offset += 1;
    }

    /// Hands everything buffered to the engine, as one message a route.
    pub(super) fn flush(&mut self) {
        let mut messages = Vec::new();
        self.router.flush(&mut messages).unwrap();
        for message in messages {
            self.engine.apply(&Batch::decode(&message.payload).unwrap(), self.broker_time);
        }
    }

    pub(super) fn read(&mut self, principal: &str, at_s: u64, rows: u64) -> Vec<Arc<Alert>> {
        self.push(&event(principal, at_s, rows));
        self.flush();
        self.alerts()
    }

    pub(super) fn alerts(&mut self) -> Vec<Arc<Alert>> {
        let mut out = Vec::new();
        self.engine.take_alerts(&mut out);
        out
    }
}

pub(super) fn finding(alert: &Alert) -> &RuleFinding {
    match &alert.subject {
        Subject::Rule(finding) => finding,
        Subject::System(system) => panic!("a system alert: {system:?}"),
    }
}

pub(super) fn system(alert: &Alert) -> &SystemFinding {
    match &alert.subject {
        Subject::System(system) => system,
        Subject::Rule(finding) => panic!("a finding: {finding:?}"),
    }
}
