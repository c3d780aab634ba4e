//! The two lines of HTTP a probe or a scraper needs, and what a scrape says.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Status and body of `GET path`, or `None` when nothing answers.
pub(crate) fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    // 1.0: the answer ends with the connection, so that there are no chunks to put together.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// One scrape of `/metrics`: samples by name and labels as they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads the Prometheus text format.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                let (sample, value) = line.rsplit_once(' ').expect("a sample has a value");
                (sample.to_owned(), value.parse().expect("a number"))
            })
            .collect();
        Self { samples }
    }

    /// The sum of a metric over every sample that has all of `labels`; 0 without any.
    ///
    /// Whole numbers only: everything the tests add up counts something.
    #[allow(clippy::cast_possible_truncation, reason = "counts in tests are small")]
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.values(name, labels).sum::<f64>().round() as i64
    }

    /// Whether there is such a sample at all.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.values(name, labels).next().is_some()
    }

    /// Every sample, name and labels.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(String::as_str)
    }

    fn values(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        let labels: Vec<String> = labels.iter().map(|(key, v)| format!("{key}=\"{v}\"")).collect();
        self.samples.iter().filter_map(move |(sample, value)| {
            let (found, rest) = sample.split_once('{').unwrap_or((sample, ""));
            let matches = found == name && labels.iter().all(|label| rest.contains(label));
            matches.then_some(*value)
        })
    }
}
