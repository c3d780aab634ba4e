//! Runs Helm on the chart.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::tools;

/// The namespace that everything is rendered for.
pub(crate) const NAMESPACE: &str = "watch";

/// Values of a case, by name.
pub(crate) fn case(name: &str) -> PathBuf {
    tools::top().join("tests/chart/cases").join(format!("{name}.yaml"))
}

/// Names of all cases.
pub(crate) fn cases() -> Vec<String> {
    let folder = tools::top().join("tests/chart/cases");
    let names = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = names
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// `helm template` of the release `exfilwatch`, with values files one over the other.
pub(crate) fn template(helm: &Path, values: &[PathBuf], sets: &[&str]) -> Output {
    let mut command = Command::new(helm);
    command.args(["template", "exfilwatch"]).arg(tools::chart()).args(["-n", NAMESPACE]);
    // What an API server would say it has.
    command.args(["--kube-version", "1.34.2"]);
    for file in values {
        command.arg("--values").arg(file);
    }
    for set in sets {
        command.arg("--set-json").arg(set);
    }
    command.output().expect("helm starts")
}

/// What a case renders to.
///
/// # Panics
/// It does not.
pub(crate) fn rendered(helm: &Path, name: &str) -> String {
    let output = template(helm, &[case(name)], &[]);
    assert!(output.status.success(), "{name}: {}", tools::said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The one object of that kind whose name ends so.
///
/// # Panics
/// There is none, or several.
pub(crate) fn object<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let wanted = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    let found: Vec<&Value> = objects.iter().filter(wanted).collect();
    assert_eq!(found.len(), 1, "{kind} {name}");
    found[0]
}
