//! Steps that many tests share.

use std::time::Duration;

use crate::{
    events::{Read, spread},
    findings::openings,
    kafka::{Client, Compression},
    service::{Service, Setup},
};

/// What takes a moment may take this long on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(12);

/// Sum of events over every outcome, of one process.
pub(crate) fn events_read(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_events_read_total", &[])
}

/// Rows that the partitions of a process have counted, over restarts.
pub(crate) fn applied(service: &Service) -> i64 {
    service.metrics().sum("exfilwatch_state_rows", &[("group_by", "principal.id")])
}

/// Waits until `services` together have counted `rows` rows, then checks that it stays so and
/// that every account adds up.
pub(crate) fn all_counted(services: &[&Service], rows: usize) {
    let rows = i64::try_from(rows).unwrap();
    let sum = |count: fn(&Service) -> i64| services.iter().map(|s| count(s)).sum::<i64>();
    services[0].until("all rows counted", SOON, || sum(applied) >= rows);
    assert_eq!(sum(applied), rows, "rows counted");
    for service in services {
        let metrics = service.metrics();
        assert_eq!(metrics.sum("exfilwatch_account_difference_rows", &[]), 0);
    }
}

/// Waits for the alert of the insider who has read 501 rows of 500.
pub(crate) fn the_insider_is_found(setup: &Setup) {
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (501, 501));
}

/// Waits until `services` together have read `events` events from the inputs, and no more.
pub(crate) fn all_read(services: &[&Service], events: usize) {
    let events = i64::try_from(events).unwrap();
    let sum = || services.iter().map(|service| events_read(service)).sum::<i64>();
    services[0].until("all events read", SOON, || sum() >= events);
    assert_eq!(sum(), events, "events read");
}

/// The configuration of one canonical input.
pub(crate) fn one_input(topic: &str) -> String {
    format!("inputs:\n  - topic: {topic}\n")
}

/// Produces canonical records with null keys, over every partition of the topic in turn.
pub(crate) fn produce(kafka: &Client, topic: &str, reads: &[Read]) {
    let partitions = i32::try_from(kafka.partitions(topic)).unwrap();
    let messages = spread(reads.iter().map(Read::canonical), partitions);
    kafka.produce(topic, Compression::Lz4, messages);
}
