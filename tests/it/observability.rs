//! What a person or a scraper sees from outside.

use crate::{
    events::{MINUTE_MS, Read, now_ms, ordinary_hour},
    kafka::{self, Compression, Message},
    service::Setup,
    steps::{SOON, all_counted, one_input, produce},
};

#[test]
fn probes_answer_on_one_port() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "probes");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    let status = |path: &str| service.get(path).map(|(status, _)| status);
    assert_eq!(status("/healthz"), Some(200));
    assert_eq!(status("/readyz"), Some(200));
    assert_eq!(status("/metrics"), Some(200));
    assert_eq!(status("/nothing-here"), Some(404));
    let (_, build) = service.get("/buildinfo").unwrap();
    let build: serde_json::Value = serde_json::from_str(&build).unwrap();
    assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn metrics_tell_what_became_of_every_event_and_name_nobody() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "metrics");
    let topic = setup.input("json", 2);
    let mut reads = ordinary_hour(10, 10, now_ms() - 10 * MINUTE_MS);
    reads.push(Read::of("insider", now_ms() - 9 * MINUTE_MS, 501));
    produce(&kafka, &topic, &reads);
    kafka.produce(&topic, Compression::None, [Message::new("poison"), Message::null()]);
    let service = setup.run(&one_input(&topic));
    all_counted(&[&service], reads.len());
    let customers = [("rule", "customer-records")];
    let metrics = service.metrics_until("a delivered alert, and no lag", SOON, |metrics| {
        metrics.sum("exfilwatch_alerts_delivered_total", &customers) == 1
            && metrics.has("exfilwatch_consumer_lag_records", &[("role", "ingest")])
            && metrics.sum("exfilwatch_consumer_lag_records", &[]) == 0
    });
    let events = |outcome| metrics.sum("exfilwatch_events_read_total", &[("outcome", outcome)]);
    assert_eq!((events("forwarded"), events("dead_letter"), events("ignored")), (101, 1, 1));
    let routed = metrics.sum("exfilwatch_rows_forwarded_total", &[("group_by", "principal.id")]);
    assert_eq!(routed, 101);
    assert_eq!(metrics.sum("exfilwatch_records_read_total", &[("topic", &topic)]), 103);
    let dead = [("reason", "syntax")];
    assert_eq!(metrics.sum("exfilwatch_dead_letters_produced_total", &dead), 1);
    assert_eq!(metrics.sum("exfilwatch_rule_matched_total", &customers), 101);
    assert_eq!(metrics.sum("exfilwatch_window_keys", &[("group_by", "principal.id")]), 11);
    assert_eq!(metrics.sum("exfilwatch_event_lag_seconds_count", &[]), 101);
    assert_eq!(metrics.sum("exfilwatch_alert_latency_seconds_count", &[]), 1);
    assert_eq!(metrics.sum("exfilwatch_ready", &[]), 1);
    for name in metrics.names() {
        assert!(!name.contains("insider") && !name.contains("agent-"), "a principal in {name}");
    }
}

#[test]
fn an_event_without_the_field_a_rule_groups_by_is_counted_as_such() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "keyless");
    setup.rules(
        "rules.yaml",
        "rules:
  - {id: by-tenant, group_by: principal.tenant, limits: [{window: 1h, above: 40}]}
",
    );
    let topic = setup.input("json", 1);
    let mut event = Read::of("agent", now_ms() - MINUTE_MS, 1).json();
    event["principal"] = "agent".into();
    kafka.produce(&topic, Compression::None, [Message::new(event.to_string())]);
    let service = setup.run(&one_input(&topic));
    let keyless = [("group_by", "principal.tenant")];
    service.metrics_until("an event without a key", SOON, |metrics| {
        metrics.sum("exfilwatch_rows_keyless_total", &keyless) == 1
    });
}
