//! For whom output is: people on a terminal, or programs.

use std::{
    env,
    io::{self, IsTerminal as _, Write},
};

use serde_json::{Value, json};

use crate::config::Fault;
pub use crate::replay::Output;

/// The argument that every command with output has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct OutputArg {
    /// Form of the output [default: human on a terminal, json otherwise]
    #[arg(long, value_enum)]
    output: Option<Output>,
}

impl OutputArg {
    /// What was asked for, if anything was.
    pub(super) const fn asked(self) -> Option<Output> {
        self.output
    }

    /// What was asked for, or what suits stdout.
    pub(super) fn choose(self) -> Output {
        let fitting = if io::stdout().is_terminal() { Output::Human } else { Output::Json };
        self.output.unwrap_or(fitting)
    }
}

/// A word in colour, where colours are wanted: stdout is a terminal and `NO_COLOR` is not set.
pub(super) fn paint(word: &str, colour: u8) -> String {
    let wanted =
        io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    if wanted { format!("\u{1b}[{colour}m{word}\u{1b}[0m") } else { word.to_owned() }
}

/// ANSI colour of errors.
pub(super) const RED: u8 = 31;
/// ANSI colour of warnings.
pub(super) const YELLOW: u8 = 33;
/// ANSI colour of good news.
pub(super) const GREEN: u8 = 32;

/// Writes a fault or warning in the form that was asked for.
pub(super) fn write_fault(
    out: &mut dyn Write,
    output: Output,
    level: &str,
    fault: &Fault,
) -> io::Result<()> {
    match output {
        Output::Human => {
            let colour = if level == "error" { RED } else { YELLOW };
            writeln!(out, "{}: {fault}", paint(level, colour))
        }
        Output::Json => write_json(out, &fault_json(level, fault)),
    }
}

/// Writes one line of NDJSON.
pub(super) fn write_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value}")
}

fn fault_json(level: &str, fault: &Fault) -> Value {
    json!({
        "level": level,
        "file": fault.file.display().to_string(),
        "line": fault.at.line,
        "column": fault.at.column,
        "path": fault.path,
        "problem": fault.problem,
        "hint": fault.hint,
    })
}
