//! What others' linters say of the chart, its renderings and the Dockerfile.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{helm, tools};

#[test]
fn helm_finds_nothing_to_lint_in_any_case() {
    let Some(helms) = tools::helms() else { return };
    for helm in helms {
        for case in helm::cases() {
            let mut command = Command::new(&helm);
            command.args(["lint", "--strict", "--quiet"]).arg(tools::chart());
            command.args(["--kube-version", "1.34.2", "--values"]).arg(helm::case(&case));
            tools::run(&mut command);
        }
    }
}

#[test]
fn dockerfile_has_nothing_to_lint() {
    let Some(hadolint) = tools::tool("hadolint") else { return };
    let mut command = Command::new(hadolint);
    tools::run(
        command.arg("--failure-threshold").arg("style").arg(tools::top().join("Dockerfile")),
    );
}

/// Findings that are accepted, of resources whose name ends so, each with the reason; any other
/// fails.
const EXCEPTIONS: [(&str, &str, &str); 5] = [
    ("CKV_K8S_11", "", "no CPU limit: throttling delays alerts, and requests already share fairly"),
    (
        "CKV_K8S_43",
        "",
        "an image is named by tag or digest as the user wants; there is no image of ours",
    ),
    ("CKV_K8S_8", ".exfilwatch-test", "the pod of `helm test` runs once and ends"),
    ("CKV_K8S_9", ".exfilwatch-test", "the same"),
    (
        "CKV_K8S_15",
        "",
        "IfNotPresent: tags are versions, and a registry that is away stops no restart",
    ),
];

#[test]
fn checkov_finds_only_what_is_argued() {
    let (Some(checkov), Some([helm, _])) = (tools::tool("checkov"), tools::helms()) else { return };
    // checkov passes hidden folders over.
    let folder = TempDir::with_prefix("exfilwatch-").unwrap();
    for case in helm::cases() {
        let path = folder.path().join(format!("{case}.yaml"));
        fs::write(path, helm::rendered(&helm, &case)).unwrap();
    }
    let mut command = Command::new(checkov);
    command.args(["--directory"]).arg(folder.path());
    command.args(["--framework", "kubernetes", "--output", "json", "--quiet", "--compact"]);
    // Never asks a server about a finding.
    command.args(["--skip-download"]);
    let output = command.output().expect("checkov starts");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", tools::said(&output)));
    let mut unused: BTreeSet<&str> = EXCEPTIONS.iter().map(|(id, ..)| *id).collect();
    let mut found = BTreeSet::new();
    for check in report["results"]["failed_checks"].as_array().unwrap() {
        let [id, name, resource] =
            ["check_id", "check_name", "resource"].map(|field| check[field].as_str().unwrap());
        if EXCEPTIONS.iter().any(|(known, end, _)| *known == id && resource.ends_with(end)) {
            unused.remove(id);
        } else {
            found.insert(format!("{id} {name} {resource}"));
        }
    }
    assert!(report["summary"]["passed"].as_u64().unwrap() > 300, "it looked at something");
    assert!(unused.is_empty(), "no longer found, so remove the exceptions: {unused:?}");
    assert!(found.is_empty(), "{found:#?}");
}
