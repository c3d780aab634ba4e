//! The files behind a running configuration: whether they changed, and loading them again.
//!
//! Never here: putting anything in force.

use std::{
    fs,
    hash::Hasher,
    path::{Path, PathBuf},
};

use siphasher::sip::SipHasher13;

use super::{Config, Faults, Loaded, load, rules, yaml::FILE_BYTES_MAX};

/// The configuration file and the rule files it names.
#[derive(Clone, Debug)]
pub struct Watched {
    file: PathBuf,
    /// Files and globs.
    paths: Vec<PathBuf>,
    fingerprint: u64,
}

impl Watched {
    /// The files of a configuration, as they are now.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let paths = config.rule_paths.clone();
        Self { file: config.path.clone(), fingerprint: fingerprint(&paths), paths }
    }

    /// Whether the text of a file has changed since the last load, or a file came or went.
    #[must_use]
    pub fn have_changed(&self) -> bool {
        fingerprint(&self.paths) != self.fingerprint
    }

    /// Loads everything again, and watches from then on what was named now: after a refusal also
    /// the files that hold the faults.
    ///
    /// # Errors
    /// Everything that is wrong, also outside the rules: nothing of a faulty file is taken over.
    pub fn load(&mut self) -> Result<Loaded, Faults> {
        loop {
            // Before the load: a change during it is found at the next look.
            self.fingerprint = fingerprint(&self.paths);
            let result = load(&self.file);
            let paths = match &result {
                Ok(loaded) => loaded.config.rule_paths.clone(),
                Err(faults) => self.with_faulty(faults),
            };
            if paths == self.paths {
                return result;
            }
            self.paths = paths;
        }
    }

    fn with_faulty(&self, faults: &Faults) -> Vec<PathBuf> {
        let mut paths = self.paths.clone();
        for fault in &faults.list {
            let known = paths.iter().flat_map(|path| rules::files(path).unwrap_or_default());
            if !paths.contains(&fault.file) && !known.into_iter().any(|file| file == fault.file) {
                paths.push(fault.file.clone());
            }
        }
        paths
    }
}

/// Reads contents, not times: a mounted `ConfigMap` is replaced by moving a link, and its files may
/// keep their times. Cheap enough for every second: rule files are small and few.
fn fingerprint(paths: &[PathBuf]) -> u64 {
    let mut hasher = SipHasher13::new();
    for path in paths {
        for file in rules::files(path).unwrap_or_default() {
            write_file(&mut hasher, &file);
        }
    }
    hasher.finish()
}

/// A file too large to be loaded counts by its size alone.
fn write_file(hasher: &mut SipHasher13, file: &Path) {
    let size = fs::metadata(file).map_or(u64::MAX, |metadata| metadata.len());
    let content =
        if size > FILE_BYTES_MAX { Vec::new() } else { fs::read(file).unwrap_or_default() };
    hasher.write(file.as_os_str().as_encoded_bytes());
    hasher.write_u64(size);
    hasher.write(&content);
}
