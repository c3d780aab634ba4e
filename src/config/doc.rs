//! One file with its tree, and the report that faults are gathered in.
//!
//! Reading is bounded by [`FILE_BYTES_MAX`]. Never here: what keys mean.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::fault::{Fault, Faults};
use super::yaml::{self, At, Data, FILE_BYTES_MAX, Node};

/// A file as a tree.
pub(super) struct Doc {
    pub(super) file: PathBuf,
    pub(super) root: Node,
}

/// Faults and warnings of a load, gathered until the end.
#[derive(Default)]
pub(super) struct Report {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Report {
    pub(super) fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn warn(&mut self, warning: Fault) {
        self.warnings.push(warning);
    }

    /// The faults in the order of the files, `file` first, or `value` if there are none.
    pub(super) fn finish<T>(
        self,
        file: &Path,
        value: Option<T>,
    ) -> Result<(T, Vec<Fault>), Faults> {
        let Self { mut faults, mut warnings } = self;
        let order = |fault: &Fault| (fault.file != file, fault.file.clone(), fault.at);
        faults.sort_by_key(order);
        warnings.sort_by_key(order);
        match value {
            Some(value) if faults.is_empty() => Ok((value, warnings)),
            _ => Err(Faults { file: file.to_owned(), list: faults }),
        }
    }
}

impl Doc {
    /// Reads and parses `file`; what is wrong with it as YAML goes to the report.
    pub(super) fn read(file: &Path, report: &mut Report) -> Option<Self> {
        match read_text(file) {
            Ok(text) => Self::parse(file, &text, report),
            Err(problem) => {
                report.add(whole_file(file, problem, None));
                None
            }
        }
    }

    /// The same for text already read.
    pub(super) fn parse(file: &Path, text: &str, report: &mut Report) -> Option<Self> {
        let (root, malformed) = yaml::parse(text);
        for fault in malformed {
            report.add(Fault {
                file: file.to_owned(),
                at: fault.at,
                path: String::new(),
                problem: fault.problem,
                hint: fault.hint.map(str::to_owned),
            });
        }
        let root = root?;
        if matches!(root.data, Data::Map(_)) {
            return Some(Self { file: file.to_owned(), root });
        }
        let problem = "the file holds no keys; expected `key: value` lines".to_owned();
        report.add(whole_file(file, problem, None));
        None
    }

    /// A fault at the value of `path`.
    pub(super) fn fault(&self, path: &[String], problem: String, hint: Option<String>) -> Fault {
        self.fault_at(self.root.find(path), path, problem, hint)
    }

    /// A fault at a known position.
    pub(super) fn fault_at(
        &self,
        at: At,
        path: &[String],
        problem: String,
        hint: Option<String>,
    ) -> Fault {
        Fault { file: self.file.clone(), at, path: show_path(path), problem, hint }
    }
}

/// A fault of the file as a whole.
pub(super) fn whole_file(file: &Path, problem: String, hint: Option<String>) -> Fault {
    Fault { file: file.to_owned(), at: At::default(), path: String::new(), problem, hint }
}

/// `inputs[0].start`.
fn show_path(path: &[String]) -> String {
    let mut out = String::new();
    for segment in path {
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push('[');
            out.push_str(segment);
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.extend(segment.chars().take(80).flat_map(char::escape_debug));
        }
    }
    out
}

fn read_text(file: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    let open = File::open(file).map_err(unreadable)?;
    open.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is longer than the {FILE_BYTES_MAX} bytes a file may have"));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("is no UTF-8 text from byte {} on", error.utf8_error().valid_up_to())
    })
}

/// A path from parts, for [`Doc::fault`].
macro_rules! place {
    ($($part:expr),* $(,)?) => {
        [$($part.to_string()),*]
    };
}
pub(super) use place;
