//! D7: what a change of rules keeps.

use crate::{
    alert::{Activity, Reason},
    rules::Severity::{Critical, High},
};

use crate::rules::Field;

use super::*;

#[test]
fn a_lowered_limit_meets_the_counts_that_are_there() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 1000, High)])]);
    assert!(rig.read("ann", 0, 500).is_empty());
    rig.engine.reload(rules(&[rule("r", &[(HOUR, 500, High)])]), rig.broker_time);
    let alerts = rig.read("ann", 1, 1);
    assert_eq!(finding(&alerts[0]).windows[0].lo, 501);
}

#[test]
fn an_added_window_starts_empty_and_the_others_keep_their_counts() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 1000, High)])]);
    rig.read("ann", 0, 500);
    let both = [(HOUR, 1000, High), (DAY, 400, High)];
    rig.engine.reload(rules(&[rule("r", &both)]), rig.broker_time);
    assert!(rig.read("ann", 1, 400).is_empty(), "the day has seen 400, the hour 900");
    let alerts = rig.read("ann", 2, 101);
    assert_eq!(alerts.len(), 1);
    let windows = &finding(&alerts[0]).windows;
    assert_eq!((windows[0].lo, windows[1].lo), (1001, 501));
    assert_eq!(finding(&alerts[0]).counting_since, event("", 1, 0).event_time);
}

#[test]
fn a_changed_filter_starts_empty_and_closes_what_was_open() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, 101);
    let mut changed = rule("r", &[(HOUR, 100, High)]);
    changed.unless = vec![(Field::Operation, vec!["copy".into()])];
    rig.engine.reload(rules(&[changed]), rig.broker_time);
    let alerts = rig.alerts();
    assert_eq!((alerts[0].activity, alerts[0].reason), (Activity::Close, Reason::RuleRemoved));
    assert!(rig.read("ann", 1, 100).is_empty());
}

#[test]
fn a_removed_rule_closes_its_episodes_and_leaves_those_of_others() {
    let mut rig = Rig::new(&[rule("a", &[(HOUR, 100, High)]), rule("b", &[(HOUR, 100, High)])]);
    assert_eq!(rig.read("ann", 0, 101).len(), 2);
    rig.engine.reload(rules(&[rule("b", &[(HOUR, 100, High)])]), rig.broker_time);
    let alerts = rig.alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!(finding(&alerts[0]).rule, "a");
    assert_eq!(rig.engine.episodes(), 1);
}

#[test]
fn an_episode_goes_on_under_an_added_limit() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    let opened = rig.read("ann", 0, 101);
    let both = [(HOUR, 100, High), (HOUR, 150, Critical)];
    rig.engine.reload(rules(&[rule("r", &both)]), rig.broker_time);
    let alerts = rig.read("ann", 1, 50);
    assert_eq!(alerts[0].episode, opened[0].episode);
    assert_eq!(alerts[0].reason, Reason::Escalated);
    assert_ne!(alerts[0].message, opened[0].message);
}

#[test]
fn an_episode_goes_on_under_a_changed_level_of_its_limit() {
    for level in [50, 200] {
        let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
        let opened = rig.read("ann", 0, 101);
        rig.engine.reload(rules(&[rule("r", &[(HOUR, level, High)])]), rig.broker_time);
        assert!(rig.alerts().is_empty(), "neither closed nor opened anew");
        assert!(rig.read("ann", 1, 1).is_empty());
        let closed = rig.read("bob", 3 * HOUR, 1);
        assert_eq!((closed.len(), closed[0].episode), (1, opened[0].episode));
        assert_eq!(closed[0].reason, Reason::FellBack);
    }
}

#[test]
fn under_a_raised_level_an_episode_closes_a_window_after_the_change_and_not_later() {
    let mut rig = Rig::new(&[rule("r", &[(HOUR, 100, High)])]);
    rig.read("ann", 0, 101);
    rig.engine.reload(rules(&[rule("r", &[(HOUR, 200, High)])]), rig.broker_time);
    assert!(rig.read("bob", HOUR - 1, 1).is_empty());
    assert_eq!(rig.read("bob", HOUR, 1).len(), 1);
}

#[test]
fn a_change_that_leaves_a_limit_as_it_is_leaves_the_time_of_its_closing() {
    let minute = [(MINUTE, 40, High)];
    let close = |changes: bool| {
        let mut rig = Rig::new(&[rule("r", &minute)]);
        rig.read("ann", 0, 41);
        // More of the key, after its count has fallen back.
        assert!(rig.read("ann", 100, 5).is_empty());
        if changes {
            let more = [rule("r", &minute), rule("other", &[(HOUR, 1000, High)])];
            rig.engine.reload(rules(&more), rig.broker_time);
        }
        (101..300).find(|&at_s| !rig.read("bob", at_s, 0).is_empty())
    };
    assert_eq!(close(true), close(false));
    assert!(close(false).is_some_and(|at_s| at_s < 160), "{:?}", close(false));
}
