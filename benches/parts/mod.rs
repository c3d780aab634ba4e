//! What benches of the core and the test of its allocations count with: one rule with four windows,
//! one route, one partition, one kind of event.

use std::borrow::Cow;

use exfilwatch::{
    event::{
        Destination, Event, Principal, RowsQuality, Source,
        catalog::Catalog,
        identity::{Identity, IdentitySpec},
        route::{Router, RouterSpec},
    },
    rules::{
        GroupBy, Measure, Severity,
        written::{WrittenLimit, WrittenRule},
    },
    units::{EventTime, WindowSpan},
};

/// A rule on rows by principal, with windows of 1 min, 1 h, 24 h and 30 d and one limit for all.
pub(crate) fn rule(above: u64) -> WrittenRule {
    let limit = |span_s| WrittenLimit {
        window: WindowSpan::from_secs(span_s).expect("a window"),
        above,
        severity: None,
    };
    WrittenRule {
        id: "bench".into(),
        title: "bench".into(),
        severity: Severity::High,
        wanted: Vec::new(),
        unless: Vec::new(),
        group_by: GroupBy::PrincipalId,
        measure: Measure::Rows,
        limits: [60, 3600, 86_400, 30 * 86_400].map(limit).to_vec(),
    }
}

/// A router for that rule.
pub(crate) fn router() -> Router {
    Router::new(RouterSpec {
        routes: vec![GroupBy::PrincipalId],
        partitions: 1,
        seed: (1, 2),
        identity: Identity::new(&IdentitySpec::default()),
        catalog: Catalog::new(Vec::new()),
    })
}

/// A read of three rows of which nothing more is known.
pub(crate) fn event<'a>(principal: impl Into<Cow<'a, str>>, at: EventTime) -> Event<'a> {
    Event {
        event_time: at,
        principal: Principal { id: principal.into(), ..Principal::default() },
        source: Source { kind: "postgresql".into(), ..Source::default() },
        event_id: None,
        objects: smallvec::SmallVec::new(),
        operation: None,
        destination: Destination::Client,
        rows: Some(3),
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
