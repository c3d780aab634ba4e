//! Structured logs on standard error: text for a terminal, JSON for everything else.
//!
//! No line can act on whoever reads it: control, bidirectional and invisible characters leave as
//! visible escapes, whatever call site they came from. So there are no colours, and one event is
//! always one line. Never here: query text, which nothing in the program holds.

use std::{
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{self, MakeWriter},
    layer::SubscriberExt as _,
    util::{SubscriberInitExt as _, TryInitError},
};

use crate::alert::text::is_dangerous;

/// Environment variable that overrides the level: `debug`, or `info,librdkafka=debug`.
pub const LEVEL_VARIABLE: &str = "EXFILWATCH_LOG";
/// Environment variable that overrides the format: `text` or `json`.
pub const FORMAT_VARIABLE: &str = "EXFILWATCH_LOG_FORMAT";

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Text, Self::Json];

    /// As the environment and the configuration write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// The format written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }

    fn is_json(self) -> bool {
        match self {
            Self::Auto => !io::stderr().is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level cannot be read.
    #[error("log level `{level}` is no level or filter; try info, or info,librdkafka=debug")]
    Level {
        /// What was given.
        level: String,
        /// What the parser said.
        source: ParseError,
    },
    /// The format is none of [`LogFormat::ALL`].
    #[error("{FORMAT_VARIABLE} is `{found}`, expected auto, text or json")]
    Format {
        /// What was given.
        found: String,
    },
    /// Something else in the process logs already.
    #[error("logging is already set up")]
    Twice(#[from] TryInitError),
}

/// Logs from now on, at `level` and in `format` unless the environment says otherwise. Once a
/// process.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let format = match env::var(FORMAT_VARIABLE) {
        Ok(text) => LogFormat::parse(&text).ok_or(LogError::Format { found: text })?,
        Err(_) => format,
    };
    let level = env::var(LEVEL_VARIABLE).unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::builder()
        .parse(&level)
        .map_err(|source| LogError::Level { level: level.clone(), source })?;
    Ok(subscriber(filter, format.is_json(), io::stderr).try_init()?)
}

fn subscriber<W>(filter: EnvFilter, json: bool, inner: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let clean = Clean { inner, json };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        let layer = fmt::layer().json().flatten_event(true).with_writer(clean);
        Box::new(registry.with(layer))
    } else {
        Box::new(registry.with(fmt::layer().with_ansi(false).with_writer(clean)))
    }
}

/// Writes each event with its dangerous characters escaped.
struct Clean<W> {
    inner: W,
    json: bool,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Clean<W> {
    type Writer = Clean<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Clean { inner: self.inner.make_writer(), json: self.json }
    }
}

impl<W: Write> Write for Clean<W> {
    /// One whole event with its line end, which is how `fmt::Layer` writes.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut out = String::with_capacity(text.len());
        for c in line.chars() {
            match c {
                '<' | '>' | '&' => out.push(c),
                c if !is_dangerous(c) => out.push(c),
                c if self.json => push_json_escape(&mut out, c),
                c => out.extend(c.escape_unicode()),
            }
        }
        out.push('\n');
        self.inner.write_all(out.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// As JSON writes a character it must not write: the reader gets the character back.
fn push_json_escape(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]).iter() {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(EnvFilter::new("info"), json, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "jd\r\n2026-01-01 INFO forged\u{1b}[2J\u{202e}\u{e0041}";

    #[test]
    fn hostile_text_stays_on_its_line_and_visible() {
        for json in [false, true] {
            let lines = logged(json, || {
                tracing::info!(principal = HOSTILE, "record refused: {HOSTILE}");
                tracing::debug!("below the level");
            });
            assert_eq!(lines.matches('\n').count(), 1, "{lines}");
            let line = lines.trim_end_matches('\n');
            assert!(line.contains("forged") && !line.contains(is_dangerous), "{line}");
        }
    }

    #[test]
    fn json_line_is_json_and_keeps_the_text() {
        let line = logged(true, || tracing::warn!(principal = HOSTILE, rows = 7, "refused"));
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["level"], "WARN");
        assert_eq!(event["message"], "refused");
        assert_eq!(event["principal"], HOSTILE);
        assert_eq!(event["rows"], 7);
    }

    #[test]
    fn bad_level_is_refused_with_an_example() {
        let error = init(LogFormat::Text, "loud=very=much").unwrap_err();
        assert!(error.to_string().contains("try info"), "{error}");
    }

    #[test]
    fn formats_are_read_as_they_are_written() {
        for format in LogFormat::ALL {
            assert_eq!(LogFormat::parse(format.as_str()), Some(format));
        }
        assert_eq!(LogFormat::parse("xml"), None);
    }
}
