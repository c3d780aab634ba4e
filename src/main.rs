//! Entry point: arguments, run, exit code. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use exfilwatch::cli;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let args = cli::Args::parse(); // a usage error ends here, with exit code 2
    match cli::run(args) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            if !cli::is_closed_pipe(&error) {
                eprintln!("exfilwatch: {error:#}");
            }
            cli::failure(&error).into()
        }
    }
}
