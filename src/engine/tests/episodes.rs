//! The life of an episode.

use crate::{
    alert::{Activity, Reason},
    rules::{GroupBy, Measure, Severity::*},
    units::EventTime,
};

use crate::{event::Object, rules::Field};

use super::*;

#[test]
fn a_count_at_the_limit_is_silent_and_one_more_opens_an_episode() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    assert!(rig.read("ann", 0, 60).is_empty());
    assert!(rig.read("ann", 60, 40).is_empty());
    let alerts = rig.read("ann", 120, 1);
    assert_eq!(alerts.len(), 1);
    let alert = &alerts[0];
    assert_eq!(
        (alert.activity, alert.reason, alert.severity),
        (Activity::Create, Reason::Crossed, High)
    );
    let finding = finding(alert);
    assert_eq!((finding.key.as_str(), finding.actor.as_deref()), ("ann", Some("ann")));
    assert_eq!((finding.windows[0].lo, finding.windows[0].hi), (101, 101));
    assert_eq!(finding.records_so_far, 101);
}

#[test]
fn reads_of_nothing_long_after_do_not_double_a_count_that_fell_back() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High), (30 * DAY, 100, High)])]);
    assert_eq!(rig.read("ann", 0, 101).len(), 1);
    let mut alerts = 0;
    for n in 0..100 {
        alerts += rig.read("ann", 2 * DAY + n, 0).len();
    }
    assert_eq!(alerts, 1, "one update a day");
}

#[test]
fn a_count_at_its_ceiling_does_not_double_again() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, u64::MAX);
    let alerts: usize = (1..100).map(|n| rig.read("ann", n, 1000).len()).sum();
    assert_eq!(alerts, 0);
}

#[test]
fn a_label_of_one_spelling_counts_for_its_twin() {
    let labelled = WrittenRule {
        wanted: vec![(Field::ObjectLabels, vec!["pii".to_owned()])],
        ..rule("r", &[(HOUR, 100, High)])
    };
    let mut rig = Rig::new(&[labelled]);
    let object = |name: &'static str, labels: &[&'static str]| Object {
        name: name.into(),
        labels: labels.iter().map(|&label| label.into()).collect(),
        ..Object::default()
    };
    // Two tables in PostgreSQL; the one without a label comes first.
    let objects = [object("Customers", &[]), object("customers", &["pii"])];
    let read = Event { objects: objects.into_iter().collect(), ..event("ann", 0, 101) };
    rig.push(&read);
    rig.flush();
    assert_eq!(rig.alerts().len(), 1);
}

#[test]
fn principals_are_counted_apart() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    assert!(rig.read("ann", 0, 100).is_empty());
    assert!(rig.read("bob", 0, 100).is_empty());
}

#[test]
fn spellings_of_one_name_are_counted_together() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    assert!(rig.read("Ann", 0, 60).is_empty());
    let alerts = rig.read("ANN", 1, 60);
    assert_eq!(finding(&alerts[0]).key, "ann");
    assert_eq!(finding(&alerts[0]).actor.as_deref(), Some("ANN"));
}

#[test]
fn a_higher_limit_escalates_the_same_episode() {
    let limits = [(HOUR, 100, Medium), (DAY, 150, Critical)];
    let mut rig = Rig::new(&[rule("r", &limits)]);
    let opened = rig.read("ann", 0, 101);
    let escalated = rig.read("ann", 60, 50);
    assert_eq!(escalated.len(), 1);
    assert_eq!(escalated[0].episode, opened[0].episode);
    assert_ne!(escalated[0].message, opened[0].message);
    assert_eq!((escalated[0].reason, escalated[0].severity), (Reason::Escalated, Critical));
    assert_eq!(escalated[0].activity, Activity::Update);
    assert!(finding(&escalated[0]).windows.iter().all(|window| window.crossed));
}

#[test]
fn repeats_are_silent_until_the_count_has_doubled() {
    let mut rig = Rig::new(&[rule("r", &[(DAY, 100, High)])]);
    assert_eq!(rig.read("ann", 0, 101).len(), 1);
    for second in 1..=100 {
        assert!(rig.read("ann", second, 1).is_empty());
    }
    let update = rig.read("ann", 200, 1);
    assert_eq!(update[0].reason, Reason::Doubled);
    assert!(rig.read("ann", 201, 100).is_empty(), "the next update is due at 404");
}

#[test]
fn an_episode_that_goes_on_says_so_after_a_day_of_event_time() {
    let mut rig = Rig::new(&[rule("r", &[(30 * DAY, 100, High)])]);
    assert_eq!(rig.read("ann", 0, 101).len(), 1);
    assert!(rig.read("ann", DAY - 1, 1).is_empty());
    assert_eq!(rig.read("ann", DAY, 1)[0].reason, Reason::Ongoing);
    assert!(rig.read("ann", DAY + 1, 1).is_empty());
}

#[test]
fn an_episode_closes_a_full_window_after_its_count_fell_back_and_not_before() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    let opened = rig.read("ann", 0, 101);
    // The fine slices of an hour are two minutes: the count is back after an hour and one slice
    // at the latest, and must stay there for an hour.
    assert!(rig.read("bob", 2 * HOUR - 1, 1).is_empty());
    let closed = rig.read("bob", 2 * HOUR + 2 * MINUTE, 1);
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].activity, closed[0].reason), (Activity::Close, Reason::FellBack));
    assert_eq!(closed[0].episode, opened[0].episode);
    assert_eq!(finding(&closed[0]).windows[0].hi, 0);
    assert_eq!(rig.engine.episodes(), 0);
}

#[test]
fn a_new_crossing_after_the_closing_is_a_new_episode() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    let first = rig.read("ann", 0, 101);
    let later = rig.read("ann", 5 * HOUR, 101);
    let activities: Vec<_> = later.iter().map(|alert| alert.activity).collect();
    assert_eq!(activities, [Activity::Close, Activity::Create]);
    assert_ne!(later[1].episode, first[0].episode);
}

#[test]
fn a_time_mark_closes_an_episode_without_events() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, 101);
    mark(&mut rig, 3 * HOUR, &[0]);
    assert_eq!(rig.alerts()[0].activity, Activity::Close);
}

#[test]
fn a_time_mark_waits_for_the_source_partitions_that_sent_none() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, 101);
    let other = rig.router.source(&source(1));
    rig.router.push(other, Offset(0), 0, &event("bob", 0, 1));
    rig.flush();
    mark(&mut rig, 3 * HOUR, &[0]);
    assert!(rig.alerts().is_empty());
    mark(&mut rig, 3 * HOUR, &[1]);
    assert_eq!(rig.alerts().len(), 1);
}

#[test]
fn a_time_mark_waits_no_longer_than_a_day_for_a_source_that_is_gone() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, 101);
    let other = rig.router.source(&source(1));
    rig.router.push(other, Offset(0), 0, &event("bob", 0, 1));
    rig.flush();
    rig.broker_time = rig.broker_time.plus_millis(24 * 3_600_000);
    mark(&mut rig, 3 * HOUR, &[0]);
    assert!(rig.alerts().is_empty(), "for a day it does");
    rig.broker_time = rig.broker_time.plus_millis(1);
    mark(&mut rig, 3 * HOUR, &[0]);
    assert_eq!(rig.alerts().len(), 1);
}

fn mark(rig: &mut Rig, at_s: u64, sources: &[i32]) {
    let sources: Vec<_> =
        sources.iter().map(|&partition| rig.router.source(&source(partition))).collect();
    let at = EventTime::from_millis(i64::try_from((START_S + at_s) * 1000).unwrap());
    let mut messages = Vec::new();
    rig.router.mark(at, &sources, &mut messages).unwrap();
    rig.engine.apply(&Batch::decode(&messages[0].payload).unwrap(), rig.broker_time);
}

#[test]
fn an_unknown_count_is_met_by_a_rule_on_queries_and_is_no_zero_elsewhere() {
    let mut unknown = rule("unknown", &[(DAY, 2, High)]);
    unknown.wanted = vec![(Field::RowsQuality, vec!["unknown".into()])];
    unknown.measure = Measure::Queries;
    let mut rig = Rig::new(&[unknown, rule("rows", &[(DAY, 1, High)])]);
    let mut lost = event("ann", 0, 0);
    lost.rows = None;
    lost.rows_quality = RowsQuality::Unknown;
    for _ in 0..3 {
        rig.push(&lost);
    }
    rig.flush();
    let alerts = rig.alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!(finding(&alerts[0]).rule, "unknown");
    assert_eq!(rig.engine.stats().unknown_counts, 3);
}

#[test]
fn every_matching_object_is_charged_in_full() {
    let mut by_object = rule("objects", &[(DAY, 10, High)]);
    by_object.group_by = GroupBy::Object;
    by_object.wanted = vec![(Field::Object, vec!["crm.*".into()])];
    let mut rig = Rig::new(&[by_object]);
    let mut join = event("ann", 0, 11);
    for name in ["crm.a", "crm.b", "other.c"] {
        let object = crate::event::Object { name: name.into(), full: true, ..Default::default() };
        join.objects.push(object);
    }
    rig.push(&join);
    rig.flush();
    let keys: Vec<_> = rig.alerts().iter().map(|alert| finding(alert).key.clone()).collect();
    assert_eq!(keys, ["crm.a", "crm.b"]);
    assert_eq!(rig.engine.stats().matched, [1], "one event, however many objects");
}

#[test]
fn an_alert_stays_in_the_outbox_until_its_delivery_is_known() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    let alerts = rig.read("ann", 0, 101);
    assert!(rig.alerts().is_empty(), "it is handed out once");
    assert_eq!(rig.engine.undelivered(), 1);
    rig.engine.delivered(alerts[0].message);
    assert_eq!(rig.engine.undelivered(), 0);
}

#[test]
fn evidence_names_objects_addresses_and_queries_since_the_key_came_near() {
    let mut rig = Rig::new(&[rule("r", &[(DAY, 100, High)])]);
    for (index, rows) in [1, 30, 80].into_iter().enumerate() {
        let mut read = event("ann", index as u64, rows);
        read.event_id = Some(format!("e-{index}").into());
        read.query_id = Some(format!("q-{index}").into());
        read.client_address = Some("127.0.0.1".into());
        rig.push(&read);
    }
    rig.flush();
    let alerts = rig.alerts();
    let evidence = &finding(&alerts[0]).evidence;
    assert_eq!(evidence.query_ids, ["q-1", "q-2"], "q-0 was far from the limit");
    assert_eq!(evidence.client_addresses, ["127.0.0.1"]);
    assert_eq!(evidence.first_event_id.as_deref(), Some("e-1"));
    assert_eq!(evidence.last_event_id.as_deref(), Some("e-2"));
    assert_eq!(evidence.events, 2);
    assert_eq!(finding(&alerts[0]).records_so_far, 111);
}

#[test]
fn an_episode_after_another_begins_its_own_evidence() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, 101);
    let later = rig.read("ann", 10 * HOUR, 102);
    let again = finding(later.last().unwrap());
    assert_eq!((again.evidence.events, again.records_so_far), (1, 102));
    assert_eq!(again.evidence.since, event("", 10 * HOUR, 0).event_time);
}

#[test]
fn however_many_keys_come_near_a_limit_an_open_episode_keeps_its_evidence() {
    let mut rig = Rig::with_memory(&[rule("r", &[(DAY, 100, High)])], 256 << 20);
    let opened = rig.read("thief", 0, 101);
    for n in 0..20_000_u64 {
        rig.push(&event(&format!("near-{n}"), 1, 30));
    }
    rig.flush();
    assert_eq!(rig.engine.stats().evidence_refused, 0, "those without an episode give way");
    let update = rig.read("thief", 2, 101);
    assert_eq!(finding(&update[0]).evidence.events, 2);
    assert_eq!(finding(&update[0]).evidence.since, finding(&opened[0]).evidence.since);
}
