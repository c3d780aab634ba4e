//! D1, D5, W4: what a row is, and what becomes of it.

use crate::rules::Severity::High;

use crate::alert::{Activity, SystemKind};

use super::*;

fn account(rig: &Rig) {
    let stats = rig.engine.stats();
    assert_eq!(stats.rows_read, stats.applied + stats.duplicate + stats.too_late);
}

#[test]
fn a_message_delivered_twice_is_counted_once() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.push(&event("ann", 0, 60));
    let mut messages = Vec::new();
    rig.router.flush(&mut messages).unwrap();
    let batch = Batch::decode(&messages[0].payload).unwrap();
    rig.engine.apply(&batch, rig.broker_time);
    rig.engine.apply(&batch, rig.broker_time);
    assert!(rig.alerts().is_empty());
    assert_eq!((rig.engine.stats().applied, rig.engine.stats().duplicate), (1, 1));
    account(&rig);
}

#[test]
fn rows_of_one_record_are_rows_of_their_own() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    let id = rig.router.source(&source(0));
    for row in 0..2 {
        rig.router.push(id, Offset(7), row, &event("ann", 0, 60));
    }
    rig.flush();
    assert_eq!(rig.alerts().len(), 1);
    assert_eq!(rig.engine.stats().duplicate, 0);
}

#[test]
fn the_same_offset_of_another_source_partition_is_another_row() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    for partition in 0..2 {
        let id = rig.router.source(&source(partition));
        rig.router.push(id, Offset(7), 0, &event("ann", 0, 60));
    }
    rig.flush();
    assert_eq!(rig.alerts().len(), 1);
    assert_eq!(rig.engine.stats().duplicate, 0);
}

#[test]
fn a_time_of_the_year_2100_is_clamped_and_moves_nothing_beyond_the_skew() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.broker_time = EventTime::from_millis(i64::try_from((START_S + 60) * 1000).unwrap());
    rig.read("ann", 0, 60);
    rig.read("mallory", 2_000_000_000, 1);
    assert_eq!(rig.engine.stats().clamped, 1);
    assert_eq!(rig.engine.time(), Some(rig.broker_time));
    assert_eq!(rig.read("ann", 60, 60).len(), 1, "her window did not move");
}

#[test]
fn one_event_with_a_clock_ahead_hides_none_of_the_real_events_of_its_key() {
    for span in [MINUTE, 5 * MINUTE, HOUR] {
        let mut rig = Rig::new(&[rule("r", &[(span, 100, High)])]);
        rig.broker_time = event("", 60, 0).event_time;
        assert!(rig.read("ann", 60 + 290, 1).is_empty());
        assert!(rig.read("ann", 60, 50).is_empty());
        assert_eq!(rig.read("ann", 60, 50).len(), 1, "a window of {span} s");
        assert_eq!(rig.engine.stats().late_for_window, 0);
    }
}

#[test]
fn a_clock_ahead_closes_nobody_elses_episode() {
    let mut rig = Rig::new(&[rule("r", &[(MINUTE, 100, High)])]);
    rig.broker_time = event("", 60, 0).event_time;
    assert_eq!(rig.read("ann", 60, 101).len(), 1);
    assert!(rig.read("mallory", 60 + 290, 1).is_empty());
    assert!(rig.read("ann", 61, 50).is_empty(), "the same episode goes on");
}

#[test]
fn a_time_at_the_skew_is_kept_as_it_is() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.broker_time = event("", 0, 0).event_time;
    rig.read("ann", 300, 1);
    assert_eq!(rig.engine.stats().clamped, 0);
    rig.read("ann", 301, 1);
    assert_eq!(rig.engine.stats().clamped, 1);
}

#[test]
fn an_event_past_every_window_of_its_key_is_too_late_and_in_the_account() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 10 * DAY, 1);
    let alerts = rig.read("ann", 0, 1000);
    assert_eq!(rig.engine.stats().too_late, 1);
    account(&rig);
    assert_eq!((alerts.len(), system(&alerts[0]).kind), (1, SystemKind::DataGap));
    for second in 1..3000 {
        rig.push(&event("ann", second, 1000));
    }
    rig.flush();
    assert!(rig.alerts().is_empty(), "said once a day");
    let over = rig.read("ann", 11 * DAY, 1);
    assert_eq!((over[0].activity, over[0].episode), (Activity::Close, alerts[0].episode));
}

#[test]
fn an_event_late_for_one_window_counts_in_the_others() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 1000, High), (30 * DAY, 100, High)])]);
    rig.read("ann", 2 * DAY, 60);
    let alerts = rig.read("ann", 0, 60);
    assert_eq!(finding(&alerts[0]).windows.iter().filter(|w| w.crossed).count(), 1);
    assert_eq!(rig.engine.stats().late_for_window, 1);
    account(&rig);
}

#[test]
fn a_message_that_never_came_is_a_data_gap_and_a_repeated_one_is_not() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    let messages: Vec<_> = (0..4)
        .map(|_| {
            rig.push(&event("ann", 0, 1));
            let mut messages = Vec::new();
            rig.router.flush(&mut messages).unwrap();
            Batch::decode(&messages[0].payload).unwrap()
        })
        .collect();
    // The first message seen may be any: what was before it cannot be known.
    for whole in [&messages[1], &messages[2], &messages[1], &messages[2]] {
        rig.engine.apply(whole, rig.broker_time);
    }
    assert!(rig.alerts().is_empty());
    let mut late = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    for with_gap in [&messages[0], &messages[3]] {
        late.engine.apply(with_gap, late.broker_time);
    }
    let alerts = late.alerts();
    assert_eq!((alerts.len(), system(&alerts[0]).kind), (1, SystemKind::DataGap));
    assert_eq!(system(&alerts[0]).scope, "t/0@2/principal.id");
    assert_eq!(late.engine.stats().broken_chains, 1);
    assert_eq!(late.engine.stats().applied, 2, "what came is counted");
}

#[test]
fn a_topic_made_again_is_a_data_gap_that_names_what_may_be_missing() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    for _ in 0..3 {
        assert!(rig.read("ann", 0, 1).is_empty());
    }
    let remade = SourcePartition { topic_id: "new".into(), ..source(0) };
    let id = rig.router.source(&remade);
    for offset in [5, 6] {
        rig.router.push(id, Offset(offset), 0, &event("ann", 0, 1));
        rig.flush();
    }
    let alerts = rig.alerts();
    assert_eq!((alerts.len(), system(&alerts[0]).kind), (1, SystemKind::DataGap));
    let said = &system(&alerts[0]).message;
    assert!(said.contains("after offset 2") && said.contains("before offset 5"), "{said}");
    assert_eq!(rig.engine.stats().applied, 5);
}
