//! Entry point: arguments, configuration, run, exit code. Everything else is in the library.

fn main() {}
