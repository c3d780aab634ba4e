//! How many keys stand where.

use std::collections::BTreeMap;

use super::*;

fn rig() -> Rig {
    let mut rig = Rig::new(&[
        rule("short", &[(HOUR, 99, Severity::High), (DAY, 379, Severity::Critical)]),
        rule("long", &[(DAY, 999, Severity::Low)]),
    ]);
    for (principal, rows) in [("a", 10), ("b", 30), ("c", 60), ("d", 80), ("e", 95), ("f", 100)] {
        rig.read(principal, 0, rows);
    }
    rig
}

#[test]
fn a_key_near_a_limit_counts_at_every_share_that_it_has_used() {
    assert_eq!(rig().engine.keys_near_limits(), [[5, 4, 3, 2, 1], [0; 5]]);
}

#[test]
fn a_key_counts_by_the_limit_that_it_is_closest_to_and_once_a_rule() {
    let mut rig = rig();
    // 400 in a day cross the second limit, and they are two fifths of the other rule's.
    rig.read("f", 2 * HOUR, 300);
    assert_eq!(rig.engine.keys_near_limits()[1], [1, 0, 0, 0, 0]);
    assert_eq!(rig.engine.keys_near_limits()[0][4], 1);
}

#[test]
fn a_key_is_near_no_more_once_its_windows_have_moved_on() {
    let mut rig = rig();
    rig.read("other", 3 * HOUR, 0);
    // 95 in a day are a quarter of its limit. The episode of the one with more is over, and
    // nothing is known of it until its next row.
    assert_eq!(rig.engine.keys_near_limits()[0], [1, 0, 0, 0, 0]);
}

#[test]
fn an_episode_counts_for_its_rule_at_the_severity_that_it_has_reached() {
    let mut rig = rig();
    rig.read("e", 1, 5);
    assert_eq!(rig.engine.episodes_by_rule(), BTreeMap::from([((0, Severity::High), 2)]));
    rig.read("f", 2, 300);
    let found = rig.engine.episodes_by_rule();
    let expected = [((0, Severity::High), 1), ((0, Severity::Critical), 1)];
    assert_eq!(found, BTreeMap::from(expected));
}
