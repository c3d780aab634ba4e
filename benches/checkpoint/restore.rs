//! A file in the place of a state partition, and a process of its own that restores from it: so its
//! peak of memory is that of a restore and of nothing before it.

use std::{
    convert::Infallible,
    env, fs,
    fs::File,
    io::{BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    process::Command,
};

use exfilwatch::{
    checkpoint::{Ledger, Manifest, Origin, rebuild},
    engine::Saved,
    rules::GroupBy,
};
use tempfile::NamedTempFile;

use crate::rig::{cpu_s, options};

/// Names the file to a process that is to restore from it.
pub(crate) const TOPIC_VARIABLE: &str = "EXFILWATCH_BENCH_TOPIC";

/// Records one after the other, each behind its length; an offset is the number of a record.
pub(crate) struct Topic {
    file: NamedTempFile,
    records: i64,
}

impl Topic {
    pub(crate) fn new() -> Self {
        Self { file: NamedTempFile::new().unwrap(), records: 0 }
    }

    /// Writes a checkpoint.
    pub(crate) fn keep(&mut self, ledger: &mut Ledger, saved: Saved) {
        let mut draft = ledger.draft(saved, 0, "", "");
        let offsets: Vec<i64> = draft.records().map(|(_, value)| self.push(value)).collect();
        for record in draft.seal(&offsets) {
            self.push(&record.value.unwrap_or_default());
        }
        ledger.commit(draft);
    }

    fn push(&mut self, record: &[u8]) -> i64 {
        self.file.write_all(&(record.len() as u64).to_le_bytes()).unwrap();
        self.file.write_all(record).unwrap();
        self.records += 1;
        self.records - 1
    }

    /// Runs this program once more, to restore from the file.
    pub(crate) fn restore_in_a_child(mut self) {
        self.file.flush().unwrap();
        let mut child = Command::new(env::current_exe().unwrap());
        let status = child.env(TOPIC_VARIABLE, self.file.path()).status().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Restores from the newest checkpoint in a file, which is its last record.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn restore(path: &Path) {
    let mut file = BufReader::new(File::open(path).unwrap());
    let places = places(&mut file);
    let mut record = |offset: i64| -> Option<Vec<u8>> {
        let (start, bytes) = *places.get(usize::try_from(offset).ok()?)?;
        let mut record = vec![0; bytes];
        file.seek(SeekFrom::Start(start)).unwrap();
        file.read_exact(&mut record).unwrap();
        Some(record)
    };
    let newest = record(i64::try_from(places.len()).unwrap() - 1).unwrap();
    let manifest = Manifest::read(&newest, &Origin::default()).unwrap();
    let began = cpu_s();
    let engine = rebuild(&manifest, options(), |offset| Ok::<_, Infallible>(record(offset)));
    let engine = engine.unwrap().unwrap();
    let took_s = cpu_s() - began;
    let keys = engine.keys(GroupBy::PrincipalId);
    let peak = peak_bytes();
    println!(
        "restore of {keys} principals from a file in memory: {took_s:.2} s, {} records; peak of \
         the process {:.0} MiB = {:.0} bytes a principal",
        manifest.needed().count(),
        peak as f64 / f64::from(1 << 20),
        peak as f64 / keys as f64
    );
}

/// Start and length of each record.
fn places(file: &mut BufReader<File>) -> Vec<(u64, usize)> {
    let end = file.get_ref().metadata().unwrap().len();
    let (mut at, mut places) = (0, Vec::new());
    while at < end {
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes).unwrap();
        let bytes = u64::from_le_bytes(bytes);
        places.push((at + 8, usize::try_from(bytes).unwrap()));
        file.seek_relative(i64::try_from(bytes).unwrap()).unwrap();
        at += 8 + bytes;
    }
    places
}

/// The most memory this process has held so far.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
