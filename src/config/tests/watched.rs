//! A running configuration whose files change.

use super::*;

#[test]
fn a_reload_takes_new_rules_and_refuses_broken_ones_whole() {
    let text = minimal_with("rules: ['rules/*.yaml']");
    let folder = folder_with(&[("exfilwatch.yaml", &text), ("rules/a.yaml", ONE)]);
    let config = Config::load(&folder.path().join("exfilwatch.yaml")).unwrap();
    let mut watched = Watched::of(&config);
    assert!(!watched.have_changed());

    fs::write(folder.path().join("rules/b.yaml"), TWO).unwrap();
    assert!(watched.have_changed());
    assert_eq!(watched.load().unwrap().config.rules.len(), 3);
    assert!(!watched.have_changed());

    fs::write(folder.path().join("rules/b.yaml"), TWO.replace("1h", "1x")).unwrap();
    assert!(watched.have_changed(), "same size, other text");
    assert_eq!(watched.load().unwrap_err().list.len(), 1);
    assert!(!watched.have_changed(), "one change is refused once");

    fs::remove_file(folder.path().join("rules/b.yaml")).unwrap();
    assert!(watched.have_changed());
}

#[test]
fn rule_files_that_a_reload_names_are_watched_from_then_on() {
    let text = |files: &str| minimal_with(&format!("rules: [{files}]"));
    let both = text("'rules/*.yaml', 'more/*.yaml'");
    let folder = folder_with(&[
        ("exfilwatch.yaml", &text("'rules/*.yaml'")),
        ("rules/a.yaml", ONE),
        ("more/b.yaml", &TWO.replace("1h", "1x")),
    ]);
    let file = folder.path().join("exfilwatch.yaml");
    let mut watched = Watched::of(&Config::load(&file).unwrap());

    fs::write(&file, &both).unwrap();
    assert!(watched.have_changed());
    assert!(watched.load().is_err());
    assert!(!watched.have_changed());
    fs::write(folder.path().join("more/b.yaml"), TWO).unwrap();
    assert!(watched.have_changed(), "the file with the fault was mended");
    assert_eq!(watched.load().unwrap().config.rules.len(), 3);

    fs::write(folder.path().join("more/c.yaml"), "rules: []\n").unwrap();
    assert!(watched.have_changed(), "a file came into the new folder");
}

#[test]
fn what_differs_outside_the_rules_is_named() {
    let loaded = |more: &str| check_text(Path::new("x.yaml"), &minimal_with(more)).unwrap().config;
    let before = loaded("detect: {threads: 1}");
    assert!(before.differs_in(&loaded("detect: {threads: 1}")).is_empty());
    let after = loaded("detect: {threads: 2}\nidentity: {strip_domains: [example.com]}");
    assert_eq!(before.differs_in(&after), ["detect", "identity"]);
}
