//! Where the tools are, and what happens where they are not.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Top of the checkout.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chart.
pub(crate) fn chart() -> PathBuf {
    top().join("helm/exfilwatch")
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `tools.sh` makes: `target/chart-tools`, or the folder `EXFILWATCH_CHART_TOOLS` names.
pub(crate) fn folder() -> PathBuf {
    let given = env::var_os("EXFILWATCH_CHART_TOOLS").map(PathBuf::from);
    given.unwrap_or_else(|| top().join("target/chart-tools"))
}

/// The program of that name, or `None` after saying that a test is skipped.
///
/// # Panics
/// It is not there and the environment demands it.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let made = folder().join("bin").join(name);
    let debian = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(name));
    let found = [made].into_iter().chain(debian).find(|path| path.exists());
    if found.is_none() {
        let demanded = env::var_os("CI").is_some_and(|value| !value.is_empty())
            || env::var("EXFILWATCH_REQUIRE_CHART_TOOLS").is_ok_and(|value| value == "1");
        assert!(!demanded, "no {name}: run tests/chart/tools.sh");
        eprintln!("SKIPPED, no {name} for this test: run tests/chart/tools.sh");
    }
    found
}

/// Both Helms, or none.
pub(crate) fn helms() -> Option<[PathBuf; 2]> {
    Some([tool("helm3")?, tool("helm4")?])
}

/// Both outputs of a command.
pub(crate) fn said(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// Runs a command to its end and returns what it said.
///
/// # Panics
/// It does not start, or ends with another code than 0.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", said(&output));
    String::from_utf8(output.stdout).expect("tools speak UTF-8")
}
