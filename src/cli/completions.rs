//! `completions`: scripts for shells.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::Outcome;

/// Prints a script that completes commands and options.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch completions bash > ~/.local/share/bash-completion/completions/exfilwatch
  exfilwatch completions zsh > ~/.zfunc/_exfilwatch
  exfilwatch completions fish > ~/.config/fish/completions/exfilwatch.fish")]
pub(super) struct Args {
    /// For which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut script = Vec::new(); // `generate` panics when its writer fails
    generate(args.shell, &mut super::Args::command(), "exfilwatch", &mut script);
    out.write_all(&script)?;
    Ok(Outcome::Fine)
}
