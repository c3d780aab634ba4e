//! The run of the demo: embedded broker, the real pipeline in this process, the organisation's
//! feed, a plain reader of the alert topic, and the account of it all at the end.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    alert::text::grouped,
    config::Config,
    event::{GroupBy, batch::Batch},
    kafka::{self, embedded::Embedded},
    metrics::Metrics,
    pipeline::{self, Handle},
    replay::Output,
};

use super::{
    feed::Feed,
    files::{self, ALERTS_FILE, CONFIG_FILE, EVENTS_FILE, INPUT_TOPIC, PARTITIONS, RULES_FILE},
    journal::Journal,
    organisation::{CUSTOMERS, Organisation, Spec},
    reader::Reader,
    tally::Tally,
    theft::STOLEN_RECORDS,
    view::{End, Flow, Mode, View},
};

/// Between two looks at how things stand.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing has moved for this long: something is broken, and saying so is better than waiting.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Level of zstd for the events file: the least work, still a twentieth of the size.
const LEVEL: i32 = 1;

/// What to run.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Which organisation.
    pub seed: u64,
    /// Where to leave the files; default: a new folder among the temporary ones.
    pub out: Option<PathBuf>,
    /// Where to serve metrics and the probes, if anywhere.
    pub http: Option<SocketAddr>,
    /// For whom.
    pub output: Output,
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A file cannot be written.
    #[error("cannot write {name}: {cause}")]
    File {
        /// Which.
        name: String,
        /// Why.
        cause: io::Error,
    },
    /// The output is gone.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The demo's own configuration is refused, which would be a fault of this program.
    #[error("the demo's configuration is refused: {0}")]
    Config(String),
    /// The embedded broker or a client of it.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// A message of the events topic cannot be read, which would be a fault of this program.
    #[error("cannot read the events topic: {0}")]
    Batch(#[from] crate::event::batch::BatchError),
    /// The pipeline ended by itself.
    #[error("the pipeline ended: {0}")]
    Pipeline(String),
    /// Nothing moves any more.
    #[error(
        "nothing has moved for {} s: {sent} events sent, {written} in the events topic, \
         {applied} applied",
        STALLED_AFTER.as_secs()
    )]
    Stalled {
        /// Events sent.
        sent: u64,
        /// Events seen in the events topic.
        written: u64,
        /// Events that detect has applied.
        applied: u64,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// Runs the demo and shows it on `to`. True when every event was counted, the theft was noticed
/// before a twentieth had left, and nobody else was accused.
///
/// # Errors
/// It could not be run to its end.
pub fn run(options: &DemoOptions, to: &mut dyn Write) -> Result<bool, DemoError> {
    let mode = match options.output {
        Output::Json => Mode::Json,
        Output::Human if io::stdout().is_terminal() => Mode::Panel,
        Output::Human => Mode::Lines,
    };
    let started = Instant::now();
    let folder = make_folder(options.out.as_deref())?;
    let view = View::new(mode, to);
    let mut stage = Stage::set(options, &folder, view, started)?;
    stage.play()?;
    stage.end()
}

/// Everything that moves while the demo runs. Fields are dropped in this order: clients first, the
/// broker last.
struct Stage<'a> {
    handle: Option<Handle>,
    metrics: Arc<Metrics>,
    feed: Feed,
    events: Reader,
    alerts: Reader,
    journal: Journal<zstd::Encoder<'static, BufWriter<File>>>,
    alerts_file: BufWriter<File>,
    tally: Tally,
    view: View<'a>,
    folder: &'a Path,
    started: Instant,
    _broker: Embedded,
}

impl<'a> Stage<'a> {
    fn set(
        options: &DemoOptions,
        folder: &'a Path,
        mut view: View<'a>,
        started: Instant,
    ) -> Result<Self, DemoError> {
        let spec = Spec::incident(options.seed);
        let broker = Embedded::start()?;
        broker.create_topic(INPUT_TOPIC, PARTITIONS)?;
        let servers = broker.bootstrap_servers();
        write(folder, RULES_FILE, files::rules().as_bytes())?;
        write(folder, CONFIG_FILE, files::config(&servers).as_bytes())?;
        let mut config = Config::load(&folder.join(CONFIG_FILE))
            .map_err(|faults| DemoError::Config(faults.to_string()))?;
        if let Some(listen) = options.http {
            config.http.listen = listen;
        }
        for topic in [&config.topics.events, &config.topics.state, &config.topics.alerts] {
            broker.create_topic(topic, PARTITIONS)?;
        }
        broker.create_topic(&config.topics.dead_letter, PARTITIONS)?;
        view.say(&format!(
            "{} people, {} customers, an embedded broker at {servers}; one of them will take {} \
             records (seed {})",
            spec.people,
            grouped(u64::from(CUSTOMERS)),
            grouped(u64::from(STOLEN_RECORDS)),
            spec.seed
        ))?;
        let organisation = Organisation::new(spec);
        let tally = Tally::new(organisation.staff(), organisation.theft(), spec.end());
        let events = Reader::new(&servers, &config.topics.events)?;
        let alerts = Reader::new(&servers, &config.topics.alerts)?;
        let feed = Feed::new(organisation, &servers)?;
        let file = BufWriter::new(create(folder, EVENTS_FILE)?);
        let failed = |cause| DemoError::File { name: EVENTS_FILE.to_owned(), cause };
        let journal = Journal::new(zstd::Encoder::new(file, LEVEL).map_err(failed)?, PARTITIONS);
        let handle = pipeline::start(config, pipeline::Options { http: options.http.is_some() })
            .map_err(|cause| DemoError::Pipeline(format!("{cause:#}")))?;
        pipeline::watch_signals(&handle.stop_switch())
            .map_err(|cause| DemoError::Pipeline(format!("{cause:#}")))?;
        Ok(Self {
            metrics: Arc::clone(handle.metrics()),
            handle: Some(handle),
            feed,
            events,
            alerts,
            journal,
            alerts_file: BufWriter::new(create(folder, ALERTS_FILE)?),
            tally,
            view,
            folder,
            started,
            _broker: broker,
        })
    }

    /// From the first event to the last one applied.
    fn play(&mut self) -> Result<(), DemoError> {
        let (mut looked_at, mut moved_at) = (self.started, Instant::now());
        let mut state = (0, 0, 0);
        loop {
            self.watch_pipeline()?;
            let applied = self.applied();
            let sent = self.feed.step(&mut self.journal, applied)?;
            let busy = self.read_events()? | self.read_alerts()? | sent;
            if looked_at.elapsed() >= LOOK_EVERY {
                looked_at = Instant::now();
                self.view.progress(&self.flow(), &self.tally)?;
            }
            let now = (self.journal.sent(), self.journal.written(), applied);
            if self.feed.is_over() && now.0 == now.1 && now.0 == now.2 {
                return Ok(());
            }
            if now != state {
                (state, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() > STALLED_AFTER {
                let (sent, written, applied) = now;
                return Err(DemoError::Stalled { sent, written, applied });
            }
            if !busy {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Stops the pipeline, reads what alerts are left, closes the files and says what came of it.
    fn end(mut self) -> Result<bool, DemoError> {
        if let Some(handle) = self.handle.take() {
            handle.stop().map_err(|cause| DemoError::Pipeline(format!("{cause:#}")))?;
        }
        let (file, tally, view) = (&mut self.alerts_file, &mut self.tally, &mut self.view);
        self.alerts.finish(&mut |payload| take_alert(payload, file, tally, view))?;
        let flow = self.flow();
        let (sent, applied) = (self.journal.sent(), self.applied());
        let read = self.metrics.records_read.with_label_values(&[INPUT_TOPIC]).get();
        let repeated = self.journal.repeated();
        let failed = |name: &str| {
            let name = name.to_owned();
            move |cause| DemoError::File { name, cause }
        };
        let events = self.journal.into_inner().finish().map_err(failed(EVENTS_FILE))?;
        events.into_inner().map_err(|error| failed(EVENTS_FILE)(error.into_error()))?;
        self.alerts_file.flush().map_err(failed(ALERTS_FILE))?;
        let folder = self.folder.display().to_string();
        let end = End { flow, sent, read, applied, repeated, tally: &self.tally, folder: &folder };
        self.view.end(&end)?;
        Ok(end.is_well())
    }

    fn watch_pipeline(&mut self) -> Result<(), DemoError> {
        let Some(handle) = &mut self.handle else { return Ok(()) };
        if handle.stop_switch().requested() || handle.is_finished() {
            let interrupted = handle.stop_switch().requested();
            return match handle.join() {
                Ok(()) if interrupted => Err(DemoError::Interrupted),
                Ok(()) => Err(DemoError::Pipeline("without a reason".to_owned())),
                Err(cause) => Err(DemoError::Pipeline(format!("{cause:#}"))),
            };
        }
        Ok(())
    }

    /// Reads the events topic beside detect: what it reads, in its order.
    fn read_events(&mut self) -> Result<bool, DemoError> {
        let (journal, tally) = (&mut self.journal, &mut self.tally);
        self.events.step(&mut |payload| {
            let batch = Batch::decode(payload)?;
            if batch.route() != GroupBy::PrincipalId {
                return Ok(());
            }
            for row in 0..batch.len() {
                let source = &batch.sources()[batch.source(row)].source;
                let arrived = journal.arrived(source.partition, batch.position(row).offset.0);
                if let Some(read) = arrived
                    .map_err(|cause| DemoError::File { name: EVENTS_FILE.to_owned(), cause })?
                {
                    tally.read(&read);
                }
            }
            Ok(())
        })
    }

    fn read_alerts(&mut self) -> Result<bool, DemoError> {
        let (file, tally, view) = (&mut self.alerts_file, &mut self.tally, &mut self.view);
        self.alerts.step(&mut |payload| take_alert(payload, file, tally, view))
    }

    /// Events that detect has applied, by its own account.
    fn applied(&self) -> u64 {
        let labels = [GroupBy::PrincipalId.as_str(), "applied"];
        self.metrics.rows_evaluated.with_label_values(&labels).get()
    }

    fn flow(&self) -> Flow {
        let applied = self.applied();
        Flow {
            events: self.journal.written(),
            records: self.tally.delivered(),
            lag: self.journal.sent().saturating_sub(applied),
            elapsed: self.started.elapsed(),
        }
    }
}

fn take_alert(
    payload: &[u8],
    file: &mut dyn Write,
    tally: &mut Tally,
    view: &mut View<'_>,
) -> Result<(), DemoError> {
    let failed = |cause| DemoError::File { name: ALERTS_FILE.to_owned(), cause };
    file.write_all(payload).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    let alert = serde_json::from_slice(payload).unwrap_or_default();
    tally.alert(&alert);
    Ok(view.alert(payload, &alert)?)
}

/// The folder asked for, or a new one among the temporary ones.
fn make_folder(asked: Option<&Path>) -> Result<PathBuf, DemoError> {
    let folder = asked.map_or_else(
        || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            std::env::temp_dir().join(format!("exfilwatch-demo-{}", since.as_millis()))
        },
        Path::to_path_buf,
    );
    std::fs::create_dir_all(&folder)
        .map_err(|cause| DemoError::File { name: folder.display().to_string(), cause })?;
    Ok(folder)
}

fn create(folder: &Path, name: &str) -> Result<File, DemoError> {
    File::create(folder.join(name))
        .map_err(|cause| DemoError::File { name: name.to_owned(), cause })
}

fn write(folder: &Path, name: &str, text: &[u8]) -> Result<(), DemoError> {
    std::fs::write(folder.join(name), text)
        .map_err(|cause| DemoError::File { name: name.to_owned(), cause })
}
