//! `kafka.properties_from_files` and `kafka.oauth_token_file`: secrets that stand in files of their
//! own, so that the configuration can be shown to anybody.
//!
//! The value of a property is read once, at the load, and never shown: not in faults, not by
//! `Debug`. A token is read later and again and again, by `kafka::token`.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::KafkaConfig;
use super::check::Check;
use super::doc::place;
use super::kafka::property;
use super::values::{Location, Text};

/// Longest file that a property is read from, in bytes.
pub const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Properties whose values nobody may see; `Debug` shows their names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why a file gives no value.
#[derive(Debug)]
enum Unfit {
    Unreadable(io::Error),
    Empty,
    TooLong,
    NotUtf8,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
            Self::Empty => f.write_str("is empty"),
            Self::TooLong => write!(f, "is longer than the {SECRET_BYTES_MAX} bytes allowed"),
            Self::NotUtf8 => f.write_str("is no UTF-8 text"),
        }
    }
}

/// What a file holds, without the newline that an editor leaves at its end.
fn value_in(path: &Path) -> Result<String, Unfit> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Unfit::Unreadable)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Unfit::Unreadable)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(Unfit::TooLong);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| Unfit::NotUtf8)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err(Unfit::Empty) } else { Ok(text) }
}

/// Reads the value of each property; relative paths are from the folder of the configuration.
pub(super) fn from_files(
    raw: BTreeMap<String, Text<Location>>,
    properties: &BTreeMap<String, String>,
    check: &mut Check<'_>,
) -> Secrets {
    let mut secrets = BTreeMap::new();
    for (key, Text(Location(path))) in raw {
        let place = place!["kafka", "properties_from_files", key];
        let path = beside(&check.doc.file, &path);
        if properties.contains_key(&key) {
            let problem = format!("{} is also in kafka.properties", path.display());
            check.fault(&place, format!("{problem}: expected one of the two"), "give it once");
            continue;
        }
        match value_in(&path) {
            Ok(value) => {
                property(&place, (&key, &value), Some(&path), check);
                secrets.insert(key, value);
            }
            Err(unfit) => {
                let problem = format!("{} {unfit}; expected the value of `{key}`", path.display());
                check.fault(&place, problem, "one trailing newline is not part of the value");
            }
        }
    }
    Secrets(secrets)
}

/// A token of a file can be sent by this mechanism only.
pub const OAUTHBEARER: &str = "OAUTHBEARER";

/// The file of the token, and whether the other settings let it be sent. It need not be there yet:
/// something else may write it.
pub(super) fn token_file(
    raw: Option<Text<Location>>,
    config: &KafkaConfig,
    check: &mut Check<'_>,
) -> Option<PathBuf> {
    let Text(Location(path)) = raw?;
    let place = place!["kafka", "oauth_token_file"];
    let is = |name: &str| config.property(name).map(str::to_ascii_lowercase);
    for name in ["sasl.mechanism", "sasl.mechanisms"] {
        if config.property(name).is_some_and(|it| it != OAUTHBEARER) {
            let problem = format!("`{name}` is another mechanism; expected {OAUTHBEARER}");
            check.fault(&place, problem, "leave it out: it follows from the token");
        }
    }
    let protocol = is("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    if !protocol.starts_with("sasl_") {
        let problem = "`security.protocol` does without SASL, so no token would be sent; expected \
                       sasl_ssl or sasl_plaintext";
        check.fault(&place, problem.to_owned(), "set it in kafka.properties");
    }
    // The other maker of tokens, `sasl.oauthbearer.method`, is not in this build of librdkafka.
    let unsecured = "enable.sasl.oauthbearer.unsecure.jwt";
    if is(unsecured).is_some_and(|it| it == "true") {
        let problem = format!("`{unsecured}` makes tokens of its own; expected one source of them");
        check.fault(&place, problem, "choose one of the two");
    }
    Some(beside(&check.doc.file, &path))
}

/// A path as it is meant in a file.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(path)
}
