//! Apache Kafka's jars: fetched by Maven once per checkout, kept under `target/`.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

/// Names what is fetched; kept beside it, so that another one fetches anew.
const POM: &str = include_str!("../../kafka/pom.xml");

/// Folder for everything the harness writes; Cargo makes it under `target/`.
pub(super) fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka")
}

/// The class path, fetched first if need be. Only one of several test processes fetches.
pub(super) fn class_path() -> Result<String, String> {
    let folder = scratch().join("jars");
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(scratch()).map_err(failed)?;
    let lock = File::create(scratch().join("jars.lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let pom = |folder: &Path| folder.join("pom.xml");
    if fs::read_to_string(pom(&folder)).ok().as_deref() != Some(POM) {
        // Renamed when complete: a fetch that was cut short leaves nothing that looks whole.
        let partial = scratch().join("jars-partial");
        let _ = fs::remove_dir_all(&partial);
        fetch(&partial)?;
        fs::write(pom(&partial), POM).map_err(failed)?;
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&partial, &folder).map_err(failed)?;
    }
    Ok(folder.join("*").display().to_string())
}

fn fetch(into: &Path) -> Result<(), String> {
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml");
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(pom)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", into.display()))
        .output()
        .map_err(|error| format!("mvn (Maven) does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!("mvn could not fetch Apache Kafka: {}", String::from_utf8_lossy(&said).trim()))
}
