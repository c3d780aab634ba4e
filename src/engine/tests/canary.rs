//! Canaries: what counts them, what they move, and that nothing hides behind their name.

use crate::{
    alert::{Activity, Reason},
    event::GroupBy,
    rules::{
        Measure,
        Severity::{High, Informational},
        written::{CANARY, canary_rule},
    },
};

use super::*;

/// Every event counts for it.
fn greedy() -> WrittenRule {
    rule("greedy", &[(MINUTE, 0, High), (DAY, 0, High)])
}

impl Rig {
    /// A canary as ingest would hand it over, its signature found to be valid.
    fn canary(&mut self, name: &str, at_s: u64) -> Vec<Arc<Alert>> {
        let id = self.router.source(&source(0));
        let event = event(&format!("exfilwatch-canary/{name}"), at_s, 1);
        self.router.push_canary(id, Offset(self.offset), 0, &event);
        self.offset += 1;
        self.flush();
        self.alerts()
    }
}

fn rules_of(alerts: &[Arc<Alert>]) -> Vec<&str> {
    alerts.iter().map(|alert| finding(alert).rule.as_str()).collect()
}

#[test]
fn a_canary_counts_for_the_rule_of_canaries_and_for_no_other() {
    let mut queries = greedy();
    queries.id = "queries".to_owned();
    queries.measure = Measure::Queries;
    let mut by_source = greedy();
    by_source.id = "by-source".to_owned();
    by_source.group_by = GroupBy::SourceInstance;
    let mut rig = Rig::new(&[greedy(), queries, by_source, canary_rule()]);
    let alerts = rig.canary("a1", 0);
    assert_eq!(rules_of(&alerts), [CANARY]);
    let found = finding(&alerts[0]);
    assert_eq!(found.key, "exfilwatch-canary/a1");
    assert_eq!(found.actor.as_deref(), Some("exfilwatch-canary/a1"));
    assert_eq!(alerts[0].severity, Informational);
    assert_eq!(rig.engine.stats().matched, [0, 0, 0, 1]);
    assert_eq!(rig.engine.stats().applied, 1, "it is in the account");
    assert_eq!(rig.router.stats().keyless, [0; GroupBy::ALL.len()], "one route is enough");
}

#[test]
fn an_event_that_only_has_the_name_counts_for_every_rule_but_that_of_canaries() {
    let mut rig = Rig::new(&[greedy(), canary_rule()]);
    let alerts = rig.read("exfilwatch-canary/a1", 0, 1);
    assert_eq!(rules_of(&alerts), ["greedy"]);
    assert_eq!(rig.engine.stats().matched, [1, 0]);
    // In one message with a true one of the same name.
    let alerts = rig.canary("a1", 1);
    assert_eq!(rules_of(&alerts), [CANARY]);
    let found = finding(&alerts[0]);
    assert_eq!(found.windows[0].lo, 1, "what was counted before is of another meter");
}

#[test]
fn each_canary_opens_an_episode_of_its_own_which_closes_by_itself() {
    let mut rig = Rig::new(&[canary_rule()]);
    let first = rig.canary("a1", 0);
    let second = rig.canary("a2", 1);
    assert_ne!(first[0].episode, second[0].episode);
    let again = rig.canary("a2", 1);
    assert_eq!((again[0].activity, again[0].episode), (Activity::Update, second[0].episode));
    rig.engine.close_due(rig.broker_time);
    assert_eq!(rig.engine.episodes(), 2);
    let alerts = rig.read("ann", 3 * MINUTE, 1);
    let ends: Vec<_> = alerts.iter().map(|alert| (alert.activity, alert.reason)).collect();
    assert_eq!(ends, [(Activity::Close, Reason::FellBack); 2]);
}

#[test]
fn a_canary_that_is_sent_again_and_again_is_a_grave_finding() {
    let mut rig = Rig::new(&[canary_rule()]);
    let alerts: Vec<_> = (0..11).flat_map(|at_s| rig.canary("a1", at_s / 20)).collect();
    let last = alerts.last().unwrap();
    assert_eq!((last.severity, last.reason), (High, Reason::Escalated));
}

#[test]
fn a_canary_closes_no_episode_of_sources_that_are_behind() {
    let mut rig = Rig::new(&[rule("r", &[(MINUTE, 10, High)]), canary_rule()]);
    assert_eq!(rules_of(&rig.read("ann", 0, 11)), ["r"]);
    assert_eq!(rules_of(&rig.canary("a1", HOUR)), [CANARY]);
    let start = event("", 0, 0).event_time;
    assert_eq!(rig.engine.time(), Some(start), "its time is not that of the sources");
    assert!(rig.read("ann", 1, 1).is_empty(), "the episode goes on");
    assert_eq!(rules_of(&rig.read("ann", HOUR, 1)), ["r"], "an ordinary event closes it");
}

#[test]
fn a_restored_engine_still_knows_canaries_from_reads() {
    let written = [greedy(), canary_rule()];
    let mut rig = Rig::new(&written);
    rig.canary("a1", 0);
    let saved = rig.engine.save();
    let mut restoring = super::super::Restoring::begin(rig.engine.options, &saved.head).unwrap();
    for chunk in &saved.chunks {
        restoring.chunk(chunk).unwrap();
    }
    rig.engine = restoring.finish().unwrap();
    rig.engine.reload(rules(&written), rig.broker_time);
    rig.alerts();
    assert_eq!(rig.engine.episodes(), 1);
    assert_eq!(rules_of(&rig.canary("a2", 1)), [CANARY]);
    assert_eq!(rules_of(&rig.read("ann", 1, 1)), ["greedy"]);
}

#[test]
fn without_the_rule_a_canary_counts_for_nothing_and_with_it_again() {
    let mut rig = Rig::new(&[greedy()]);
    assert!(rig.canary("a1", 0).is_empty());
    rig.engine.reload(rules(&[greedy(), canary_rule()]), rig.broker_time);
    assert_eq!(rules_of(&rig.canary("a2", 1)), [CANARY]);
    rig.engine.reload(rules(&[greedy()]), rig.broker_time);
    let alerts = rig.alerts();
    assert_eq!((alerts[0].activity, alerts[0].reason), (Activity::Close, Reason::RuleRemoved));
    assert!(rig.canary("a3", 2).is_empty());
}
