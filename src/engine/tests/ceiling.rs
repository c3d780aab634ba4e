//! W5 as an analyst sees it: a flood of made-up names neither hides a thief nor buries the alerts.

use std::collections::BTreeSet;

use crate::{
    alert::{Activity, SystemKind},
    engine::episodes::ESTIMATED_MAX,
    rules::Severity::High,
};

use super::*;

const LIMIT: u64 = 100;
const NAMES: u64 = 60_000;
const THIEVES: u64 = 5;

/// A memory that holds a tenth of the names, all of them reading a little, and thieves who drip.
fn flood() -> (Rig, Vec<Arc<Alert>>) {
    let mut rig = Rig::with_memory(&[rule("r", &[(DAY, LIMIT, High)])], 512 << 10);
    let mut alerts = Vec::new();
    for n in 0..NAMES {
        rig.push(&event(&format!("made-up-{n}"), n / 10, 1 + n % 3));
        // Each thief reads 10 records at a time: 1,000 by the end.
        if n % (NAMES / 100 / THIEVES) == 0 {
            let thief = n / (NAMES / 100 / THIEVES) % THIEVES;
            rig.push(&event(&format!("thief-{thief}"), n / 10, 10));
        }
        if n % 1000 == 999 {
            rig.flush();
            alerts.extend(rig.alerts());
        }
    }
    (rig, alerts)
}

#[test]
fn in_a_flood_of_made_up_names_every_thief_is_found_and_false_alerts_are_bounded() {
    let (rig, alerts) = flood();
    let is_finding = |alert: &&Arc<Alert>| matches!(alert.subject, Subject::Rule(_));
    let opened = alerts.iter().filter(is_finding).filter(|a| a.activity == Activity::Create);
    let accused: BTreeSet<String> = opened.map(|alert| finding(alert).key.clone()).collect();
    for thief in 0..THIEVES {
        assert!(accused.contains(&format!("thief-{thief}")), "{accused:?}");
    }
    let wrongly = accused.iter().filter(|key| key.starts_with("made-up")).count();
    assert!(wrongly <= ESTIMATED_MAX, "{wrongly} accused wrongly");
    assert!(rig.engine.budget().used_bytes() <= 512 << 10);
}

#[test]
fn a_flood_says_that_it_degrades_and_when_crossings_get_no_alert_of_their_own() {
    let (mut rig, alerts) = flood();
    let said: Vec<_> = alerts
        .iter()
        .filter(|alert| matches!(alert.subject, Subject::System(_)))
        .map(|alert| (system(alert).kind, system(alert).scope.as_str(), alert.activity))
        .collect();
    assert!(said.contains(&(SystemKind::Degraded, "0", Activity::Create)), "{said:?}");
    assert!(said.contains(&(SystemKind::Degraded, "0/crossings", Activity::Create)), "{said:?}");
    assert!(rig.engine.stats().crossings_refused > 1000);
    // Long after, all that was estimated is out of every window.
    let end: Vec<_> = rig.read("ann", 10 * DAY, 1);
    let closed = end.iter().filter(|alert| matches!(alert.subject, Subject::System(_)));
    let closed: Vec<_> =
        closed.map(|alert| (system(alert).scope.as_str(), alert.activity)).collect();
    assert!(closed.contains(&("0", Activity::Close)), "{closed:?}");
    assert!(closed.contains(&("0/crossings", Activity::Close)), "{closed:?}");
}
