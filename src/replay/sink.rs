//! Where alerts go: a file of OCSF objects, or the output in the form its reader wants.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use serde_json::Value;

use crate::{
    alert::{
        Alert,
        ocsf::{self, Product},
    },
    units::EventTime,
};

use super::{Output, ReplayError, ReplayOptions};

/// Takes one alert after the other.
pub(super) struct Sink<'a> {
    name: String,
    to: Box<dyn Write + 'a>,
    form: Output,
}

impl<'a> Sink<'a> {
    /// The file that was asked for, otherwise `out`.
    pub(super) fn new(
        options: &ReplayOptions,
        out: &'a mut dyn Write,
    ) -> Result<Self, ReplayError> {
        let Some(path) = &options.alerts else {
            return Ok(Self { name: "stdout".to_owned(), to: Box::new(out), form: options.output });
        };
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Self { name, to: Box::new(BufWriter::new(file)), form: Output::Json }),
            Err(cause) => Err(ReplayError::Output { name, cause }),
        }
    }

    pub(super) fn write(&mut self, alert: &Alert) -> Result<(), ReplayError> {
        let encoded = ocsf::encode(alert, &Product { version: env!("CARGO_PKG_VERSION") });
        let written = match self.form {
            Output::Json => {
                self.to.write_all(&encoded.payload).and_then(|()| self.to.write_all(b"\n"))
            }
            Output::Human => writeln!(self.to, "{}", alert_line(&encoded.payload)),
        };
        written.map_err(|cause| self.fault(cause))
    }

    pub(super) fn finish(mut self) -> Result<(), ReplayError> {
        self.to.flush().map_err(|cause| self.fault(cause))
    }

    fn fault(&self, cause: io::Error) -> ReplayError {
        ReplayError::Output { name: self.name.clone(), cause }
    }
}

/// One line for people about a published alert: when in event time, how severe, which rule, what.
#[must_use]
pub fn alert_line(payload: &[u8]) -> String {
    let alert: Value = serde_json::from_slice(payload).unwrap_or_default();
    let text =
        |pointer: &str| alert.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    let at = alert.pointer("/finding_info/last_seen_time").and_then(Value::as_i64).unwrap_or(0);
    format!(
        "{}  {:8} {}  {}",
        minute(EventTime::from_millis(at)),
        text("/severity"),
        text("/finding_info/analytic/uid"),
        text("/message")
    )
}

/// `at` to the minute, UTC.
#[must_use]
pub fn minute(at: EventTime) -> String {
    let at = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    at.strftime("%F %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_one_line_for_people() {
        let payload = serde_json::json!({
            "severity": "High",
            "message": "2,601 records were read by a.b in 7d.",
            "finding_info": {
                "last_seen_time": 1_769_090_580_000i64,
                "analytic": {"uid": "customer-records"},
            },
        });
        assert_eq!(
            alert_line(payload.to_string().as_bytes()),
            "2026-01-22 14:03  High     customer-records  2,601 records were read by a.b in 7d."
        );
    }

    #[test]
    fn what_is_no_alert_is_still_a_line() {
        assert_eq!(alert_line(b"\xff"), "1970-01-01 00:00  ?        ?  ?");
    }
}
