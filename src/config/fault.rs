//! What is wrong with a configuration, and how it is said: where, what, what is allowed, a hint.
//!
//! Never here: deciding that something is wrong.

use std::{fmt, path::PathBuf};

use super::yaml::At;

/// Most faults one report prints; the rest are counted.
pub const FAULTS_SHOWN_MAX: usize = 100;

/// One thing that is wrong, or in a warning: doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file it is in.
    pub file: PathBuf,
    /// Where in it.
    pub at: At,
    /// The key, such as `inputs[0].start`; empty for the file as a whole.
    pub path: String,
    /// What was found and what is allowed.
    pub problem: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.at.line > 0 {
            write!(f, ":{}:{}", self.at.line, self.at.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.problem)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the files. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The file that was asked for.
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Fault>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len();
        let word = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {word}", self.file.display())?;
        for fault in self.list.iter().take(FAULTS_SHOWN_MAX) {
            write!(f, "\n  {fault}")?;
        }
        if count > FAULTS_SHOWN_MAX {
            write!(f, "\n  and {} more", count - FAULTS_SHOWN_MAX)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
