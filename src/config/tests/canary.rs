//! `canary:` and its key file.

use super::*;
use crate::rules::written::CANARY;

fn load_with(key: Option<&[u8]>) -> Result<Config, Faults> {
    let text = minimal_with("canary: {key_file: canary.key}");
    let folder = folder_with(&[("exfilwatch.yaml", &text)]);
    if let Some(key) = key {
        fs::write(folder.path().join("canary.key"), key).unwrap();
    }
    Config::load(&folder.path().join("exfilwatch.yaml"))
}

fn fault_with(key: Option<&[u8]>) -> String {
    let faults = load_with(key).unwrap_err();
    assert_eq!(faults.list.len(), 1, "{faults}");
    faults.list[0].to_string()
}

#[test]
fn a_key_is_the_bytes_of_its_file_without_one_newline() {
    let bare = load_with(Some(b"0123456789abcdef")).unwrap();
    assert_eq!(bare.canary, load_with(Some(b"0123456789abcdef\n")).unwrap().canary);
    assert_ne!(bare.canary, load_with(Some(b"0123456789abcdef\n\n")).unwrap().canary);
    assert!(load_with(Some(&[0xff; 1024])).is_ok(), "any bytes");
    assert_eq!(bare.differs_in(&load_with(Some(&[7; 20])).unwrap()), ["canary"]);
    assert!(!format!("{bare:?}").contains("0123456789abcdef"), "a key is never shown");
}

#[test]
fn a_key_that_is_missing_too_short_or_too_long_is_refused_by_the_name_of_its_key() {
    let missing = fault_with(None);
    let place = "exfilwatch.yaml:4:20: canary.key_file: \"canary.key\" ";
    assert!(missing.contains(&format!("{place}cannot be read: No such file")), "{missing}");
    assert!(missing.contains("openssl rand"), "{missing}");
    let short = fault_with(Some(b"0123456789abcde\n"));
    assert!(short.contains("holds a key of 15 bytes; expected at least 16"), "{short}");
    let longest = vec![7; 64 << 10];
    assert!(load_with(Some(&longest)).is_ok());
    assert!(load_with(Some(&[&longest[..], b"\n"].concat())).is_ok());
    for more in [&b"7"[..], b"7\n", &[7; 1000]] {
        let long = fault_with(Some(&[&longest[..], more].concat()));
        assert!(long.contains("longer than the 65536 bytes that are allowed"), "{long}");
    }
    assert!(!short.contains("0123456789"), "a key is never shown");
}

#[test]
fn the_rule_of_canaries_is_in_force_exactly_where_there_is_a_key() {
    let has = |config: &Config| config.rule_set().rules.iter().any(|rule| rule.id == CANARY);
    let with = load_with(Some(&[7; 16])).unwrap();
    let without = load_text(MINIMAL).unwrap().config;
    assert!(has(&with) && !has(&without));
    assert_ne!(with.rule_set().revision, without.rule_set().revision);
    assert_eq!(with.rules, without.rules);
}

#[test]
fn no_rule_of_a_user_has_its_id() {
    let text = "rules: [{id: exfilwatch.canary, limits: [{window: 1h, above: 5}]}]";
    let faults = faults_with(text);
    assert!(faults[0].contains("is a name kept for alerts about exfilwatch itself"), "{faults:?}");
}

#[test]
fn canary_without_a_file_is_a_fault() {
    let faults = faults_with("canary: {}");
    assert!(faults[0].contains("canary.key_file: is missing; expected"), "{faults:?}");
}
