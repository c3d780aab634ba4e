//! Rules that change while events come in.

use crate::{
    events::{MINUTE_MS, Read, now_ms},
    findings::{CLOSE, Finding, OPEN, RULE, openings},
    kafka::{self, Record},
    service::{RULES, Service, Setup},
    steps::{SOON, all_counted, one_input, produce},
};

const RELOAD: &str = "exfilwatch.reload";

fn reloads(service: &Service, result: &str) -> i64 {
    service.metrics().sum("exfilwatch_rule_reloads_total", &[("result", result)])
}

fn alerted(rule: &'static str) -> impl Fn(&[Record]) -> bool {
    move |seen| !Finding::all(seen, rule).is_empty()
}

#[test]
fn a_lower_limit_takes_effect_and_keeps_what_was_counted() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "lower");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    let at = now_ms() - 30 * MINUTE_MS;
    produce(&kafka, &topic, &[Read::of("insider", at, 300)]);
    all_counted(&[&service], 1);
    setup.rules("rules.yaml", &RULES.replace("above: 500", "above: 200"));
    service.until("the reload", SOON, || reloads(&service, "applied") == 1);
    produce(&kafka, &topic, &[Read::of("insider", at + 1000, 10)]);
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    // 300 would do to cross the new limit; the ten are there when a row makes it decide.
    let (lo, hi) = openings(records)["insider"].counts(200);
    assert!((300..=310).contains(&lo) && lo == hi, "{lo} {hi}");
    reader.until("word of the reload", SOON, alerted(RELOAD));
}

#[test]
fn a_rule_file_added_beside_the_others_counts_from_then_on() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "added");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    let at = now_ms() - 30 * MINUTE_MS;
    produce(&kafka, &topic, &[Read::of("agent", at, 50)]);
    all_counted(&[&service], 1);
    setup.rules(
        "more.yaml",
        "rules:
  - {id: by-tenant, group_by: principal.tenant, limits: [{window: 1h, above: 40}]}
",
    );
    service.until("the reload", SOON, || reloads(&service, "applied") == 1);
    produce(&kafka, &topic, &[Read::of("agent", at + 1000, 45)]);
    let mut reader = setup.reader("alerts");
    let records = reader.until("the alert", SOON, alerted("by-tenant"));
    let finding = &Finding::all(records, "by-tenant")[0];
    // What came before the rule is not in it, and the alert says since when it counts.
    assert_eq!((finding.key.as_str(), finding.counts(40)), ("acme", (45, 45)));
    assert!(finding.json["unmapped"]["exfilwatch"]["counting_since"].is_number());
}

#[test]
fn a_broken_file_leaves_the_old_rules_in_force_and_is_told() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "broken");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    setup.rules("rules.yaml", &RULES.replace("above", "abovee"));
    service.until("the refusal", SOON, || reloads(&service, "refused") >= 1);
    service.until("the fault in the output", SOON, || service.output().contains("abovee"));
    let mut reader = setup.reader("alerts");
    reader.until("word of the refusal", SOON, alerted(RELOAD));
    produce(&kafka, &topic, &[Read::of("insider", now_ms() - MINUTE_MS, 501)]);
    let records = reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    assert_eq!(openings(records)["insider"].counts(500), (501, 501));
    setup.rules("rules.yaml", RULES);
    reader.until("the end of the refusal", SOON, |seen| {
        Finding::all(seen, RELOAD).iter().any(|finding| finding.activity == CLOSE)
    });
}

#[test]
fn a_removed_rule_closes_its_episodes() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "removed");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    produce(&kafka, &topic, &[Read::of("insider", now_ms() - MINUTE_MS, 501)]);
    let mut reader = setup.reader("alerts");
    reader.until("the alert", SOON, |seen| !openings(seen).is_empty());
    setup.rules("rules.yaml", &RULES.replace("id: customer-records", "id: other"));
    service.until("the reload", SOON, || reloads(&service, "applied") == 1);
    let closed = |seen: &[Record]| {
        Finding::all(seen, RULE).last().is_some_and(|finding| finding.activity == CLOSE)
    };
    let found = Finding::all(reader.until("the closing", SOON, closed), RULE);
    assert_eq!(found[0].activity, OPEN);
    assert_eq!(found[0].episode, found.last().unwrap().episode);
    assert!(found.last().unwrap().json.to_string().contains("rule_removed"));
}

#[test]
fn what_changes_outside_the_rules_is_said_to_need_a_restart() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "others");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    setup.config(service.port, &format!("{}detect: {{threads: 7}}\n", one_input(&topic)));
    service.until("word of it", SOON, || service.output().contains("outside the rules: detect"));
}

#[test]
fn a_file_saved_without_a_change_changes_nothing() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "same");
    let topic = setup.input("json", 1);
    let service = setup.run(&one_input(&topic));
    setup.rules("rules.yaml", &format!("# a comment\n{RULES}"));
    service.until("the look at it", SOON, || reloads(&service, "unchanged") == 1);
    assert_eq!(reloads(&service, "applied") + reloads(&service, "refused"), 0);
}
