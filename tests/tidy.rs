//! Rules of this repository that the compiler does not know: layers, sizes, heads, words, links.
//!
//! It reads files and builds nothing. Function length is clippy's (`too-many-lines-threshold`).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Lowest first; a module may use what is in its own row or below.
const LAYERS: &[&[&str]] = &[
    // core
    &["units"],
    &["event"],
    &["window"],
    &["rules"],
    &["alert"],
    &["engine", "offsets"],
    &["checkpoint"],
    // shell
    &["config", "metrics", "logging"],
    &["kafka", "http"],
    &["pipeline"],
    &["replay", "demo"],
    &["cli"],
];
/// How many rows of [`LAYERS`] are the pure core.
const CORE_ROWS: usize = 7;
/// Modules between an event and a decision: nothing in them is shared or waits.
const HOT: &[&str] = &["window", "rules", "engine"];

/// What the core must not know: the outside world, and time that is not an argument.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "tokio",
    "rdkafka",
    "tracing",
    "anyhow",
    "println!",
    "eprintln!",
    "async fn",
    "async move",
    ".await",
];
/// What the hot path must not know besides: anything shared.
const SHARED: &[&str] =
    &["Mutex", "RwLock", "Atomic", "OnceLock", "LazyLock", "thread_local", "mpsc", "unsafe impl"];

/// A word, the folders it must not be in, and the word for it here.
const WORDS: &[(&str, &[&str], &str)] = &[
    ("bucket", &["src/window", "src/engine", "docs/ARCHITECTURE.md"], "slice"),
    ("threshold", &["src", "docs", "README.md"], "limit"),
    ("DLQ", &["src", "docs", "tests/it", "README.md"], "dead letter"),
    ("dead letter queue", &["src", "docs", "README.md"], "dead-letter topic"),
    ("blacklist", &["src", "docs", "README.md"], "unless"),
    ("whitelist", &["src", "docs", "README.md"], "unless"),
    ("TODO", &["src", "docs", "benches", "tests/it", "README.md"], "an issue"),
    ("FIXME", &["src", "docs", "benches", "tests/it", "README.md"], "an issue"),
    ("/root/", &["src", "docs", "benches", "tests/it", "README.md"], "a relative path"),
    ("/work/", &["src", "docs", "benches", "tests/it", "README.md"], "a relative path"),
];

const TOP_LEVEL: &[&str] = &[
    ".ci",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "benches",
    "clippy.toml",
    "deny.toml",
    "docs",
    "helm",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "schemas",
    "src",
    "tests",
];

const FILE_LINES_MAX: usize = 600;
const LINE_CHARS_MAX: usize = 100;

/// A file of the repository.
struct File {
    /// From the top, with `/`.
    path: String,
    text: String,
}

impl File {
    /// The module of `src/` it belongs to: `event` for `src/event/time.rs`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let module = inside.split('/').next()?;
        Some(module.strip_suffix(".rs").unwrap_or(module))
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("/tests.rs")
    }

    /// Lines of code with their numbers: without comments, and up to the tests in the file.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .take_while(|(_, line)| !line.starts_with("mod tests {"))
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
            .filter(|_| !self.is_test())
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` (or `folder` itself) with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = vec![top().join(folder)];
    open.retain(|path| path.exists());
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder can be listed").flatten();
            open.extend(entries.map(|entry| entry.path()).filter(|path| !hidden(path)));
        } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
            let text = fs::read_to_string(&path).expect("text files are UTF-8");
            let path = path.strip_prefix(top()).expect("it was found below the top");
            found.push(File { path: path.display().to_string(), text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn rust() -> Vec<File> {
    ["src", "tests", "benches"].iter().flat_map(|folder| files(folder, &["rs"])).collect()
}

fn prose() -> Vec<File> {
    ["README.md", "CHANGELOG.md", "docs"].iter().flat_map(|path| files(path, &["md"])).collect()
}

/// Fails once, with every fault.
fn none(faults: &[String]) {
    let mut all = String::new();
    for fault in faults {
        let _ = write!(all, "\n  {fault}");
    }
    assert!(faults.is_empty(), "{} faults:{all}", faults.len());
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// Names right after each `crate::` in a line and what follows it, braces taken apart.
fn crate_paths(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(inside) = rest.strip_prefix('{') else {
            names.push(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, c) in inside.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    names.push(identifier(&inside[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_only_what_is_beside_or_below_them() {
    let mut faults = Vec::new();
    for file in files("src", &["rs"]) {
        let module = file.module().unwrap();
        if ["main", "lib"].contains(&module) {
            continue;
        }
        let Some(own) = layer(module) else {
            faults.push(format!("{}: `{module}` is in no layer of tests/tidy.rs", file.path));
            continue;
        };
        let code: Vec<&str> = file.code().map(|(_, line)| line).collect();
        for used in crate_paths(&code.join("\n")) {
            match layer(&used) {
                Some(other) if other <= own => {}
                Some(_) => faults.push(format!("{}: uses `{used}`, which is above it", file.path)),
                None => faults.push(format!("{}: `crate::{used}` is no layer", file.path)),
            }
        }
    }
    none(&faults);
}

#[test]
fn grouped_imports_are_taken_apart() {
    let text =
        "use crate::{\n    event::{self, Event}, units::Tick,\n};\nlet x = crate::rules::f();";
    assert_eq!(crate_paths(text), ["event", "units", "rules"]);
}

#[test]
fn the_core_knows_no_outside_and_the_hot_path_shares_nothing() {
    let core: Vec<&str> = LAYERS[..CORE_ROWS].concat();
    let mut faults = Vec::new();
    for file in files("src", &["rs"]) {
        let module = file.module().unwrap();
        if !core.contains(&module) {
            continue;
        }
        let hot = if HOT.contains(&module) { SHARED } else { &[] };
        for (number, line) in file.code() {
            for banned in IMPURE.iter().chain(hot).filter(|banned| line.contains(**banned)) {
                faults.push(format!("{}:{number}: `{banned}` in the core", file.path));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_file_says_first_what_it_is() {
    let faults = rust()
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not begin with `//! `", file.path))
        .collect::<Vec<_>>();
    none(&faults);
}

#[test]
fn files_and_lines_are_short_enough_to_read() {
    let mut faults = Vec::new();
    for file in rust() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.path));
        }
        for (index, line) in file.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                faults.push(format!("{}:{}: {chars} characters", file.path, index + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut faults = Vec::new();
    for file in files("src", &["rs"]) {
        for (number, line) in file.code().filter(|(_, line)| line.contains(".unwrap()")) {
            faults.push(format!("{}:{number}: {}", file.path, line.trim()));
        }
    }
    none(&faults);
}

#[test]
fn tests_have_sentence_names_and_none_is_left_out() {
    let mut faults = Vec::new();
    for file in rust().iter().filter(|file| file.path != "tests/tidy.rs") {
        for (index, line) in file.text.lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with("#[ignore") || line.starts_with("fn test_") {
                faults.push(format!("{}:{}: {line}", file.path, index + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn one_word_stands_for_one_idea() {
    let mut faults = Vec::new();
    for (banned, places, instead) in WORDS {
        for file in places.iter().flat_map(|place| files(place, &["rs", "md"])) {
            for (index, line) in file.text.lines().enumerate() {
                if line.contains(banned) {
                    let place = format!("{}:{}", file.path, index + 1);
                    faults.push(format!("{place}: `{banned}`, say {instead}: {}", line.trim()));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn every_metric_is_moved_by_somebody() {
    let sources = files("src", &["rs"]);
    let code = |file: &&File| !file.is_test() && !file.path.ends_with("metrics/table.rs");
    let says = |file: &File, text: &str| file.code().any(|(_, line)| line.contains(text));
    let text_of = |path: &str| sources.iter().find(|f| f.path == path).map(|f| f.text.as_str());
    let mut faults = Vec::new();
    // A family is named by a handle or by the shell...
    for line in text_of("src/metrics/table.rs").unwrap_or_default().lines() {
        let Some((name, _)) = line
            .trim()
            .split_once(": ")
            .filter(|(_, rest)| rest.contains(" \"exfilwatch_") && rest.contains('['))
        else {
            continue;
        };
        if !sources.iter().filter(code).any(|file| says(file, &format!(".{name}"))) {
            faults.push(format!("nobody moves {name}"));
        }
    }
    // ... and what a handle offers is used outside.
    let handles = text_of("src/metrics/handles.rs").unwrap_or_default();
    let offered = handles.lines().filter_map(|line| {
        let (name, kind) = line.trim().strip_prefix("pub ")?.split_once(": ")?;
        (kind == "Total," || kind == "Part,").then_some(name)
    });
    for name in offered.collect::<BTreeSet<_>>() {
        let outside = |file: &&File| !file.path.starts_with("src/metrics/");
        if !sources.iter().filter(code).filter(outside).any(|f| says(f, &format!(".{name}."))) {
            faults.push(format!("nobody uses the handle {name}"));
        }
    }
    none(&faults);
}

#[test]
fn nothing_new_lies_at_the_top() {
    // Only what is tracked: a checkout may hold editors' folders and the like.
    let listed = Command::new("git").args(["ls-files"]).current_dir(top()).output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else { return };
    let listed = String::from_utf8(listed.stdout).unwrap();
    let entries: BTreeSet<&str> = listed.lines().filter_map(|p| p.split('/').next()).collect();
    let faults = entries
        .iter()
        .filter(|entry| !TOP_LEVEL.contains(entry))
        .map(|entry| format!("{entry}: not a top-level entry of tests/tidy.rs"))
        .collect::<Vec<_>>();
    none(&faults);
}

#[test]
fn links_and_paths_in_the_docs_lead_somewhere() {
    let mut faults = Vec::new();
    for file in prose() {
        let folder = top().join(&file.path).parent().unwrap().to_owned();
        for (index, line) in file.text.lines().enumerate() {
            for target in links(line).chain(paths(line)).filter(|target| !leads(target, &folder)) {
                faults.push(format!("{}:{}: {target}", file.path, index + 1));
            }
        }
    }
    none(&faults);
}

/// Targets of `[text](target)` that are files.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or(target));
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Paths of this repository between backticks.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 7] = ["src/", "tests/", "docs/", "schemas/", "benches/", "helm/", ".ci/"];
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| !path.contains(['*', '{', '<', ' ']))
        .map(|path| path.split("::").next().unwrap_or(path))
}

fn leads(target: &str, folder: &Path) -> bool {
    let beside: PathBuf = folder.join(target);
    beside.exists() || top().join(target).exists()
}

#[test]
fn a_dead_link_is_noticed() {
    let line = "see [the map](docs/NOWHERE.md#a), `src/nowhere.rs` and [us](https://a.example)";
    let found: Vec<&str> = links(line).chain(paths(line)).collect();
    assert_eq!(found, ["docs/NOWHERE.md", "src/nowhere.rs"]);
    assert!(found.iter().all(|target| !leads(target, top())));
    assert!(leads("Cargo.toml", top()));
}
