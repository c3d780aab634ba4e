//! Settings of every Kafka client: what we own, what we only default, and where its log lines go.
//!
//! Never here: settings chosen by the library. Whatever could lose or skip a record is set on
//! purpose, so that a new version of librdkafka cannot change it behind our back.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use tracing::{debug, info, warn};

use super::{Error, token};
use crate::config::{KafkaConfig, OAUTHBEARER, Secrets};

/// Longest message our producers hand to librdkafka, before compression. What ingest flushes at
/// (`pipeline::ingest`) keeps its messages below.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Fetched records waiting in a consumer, KiB; librdkafka may pass it by one fetch a partition.
const FETCH_QUEUE_KIB: &str = "65536";
/// Messages waiting in a producer, KiB. Full is back-pressure, not an error.
const SEND_QUEUE_KIB: &str = "65536";
/// librdkafka's default of 1000 ms stalls a queue that was full for a moment.
const FETCH_BACKOFF_MS: &str = "5";
/// A member learns of a rebalance by the answer to a heartbeat, and a dead one is missed a session
/// after its last. librdkafka's default of 3000 ms would be on the way of every takeover.
const HEARTBEAT_MS: &str = "1000";
/// How often a client reports lag and fill.
const STATISTICS_MS: &str = "1000";

/// Shorter values of `kafka.properties_from_files` are not looked for in what librdkafka says.
const SECRET_BYTES_MIN: usize = 4;

/// Who to trust, as a user may say it. Else the places where systems keep it are tried: the OpenSSL
/// that is built in looks in a folder that no system has.
const CA_PROPERTIES: [&str; 3] = ["ssl.ca.location", "ssl.ca.pem", "ssl.ca.certificate.stores"];
/// The same for OpenSSL.
const CA_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

const GAPLESS: &str = "enable.gapless.guarantee";

/// Settings every client shares: the user's own, then the ones that are not theirs to choose.
#[must_use]
pub fn base(config: &KafkaConfig, client: &str) -> ClientConfig {
    over(ClientConfig::new(), config, client)
}

/// The same over settings that the user may change. They cannot be merged afterwards: what a
/// `ClientConfig` gives back has no secrets.
fn over(mut settings: ClientConfig, config: &KafkaConfig, client: &str) -> ClientConfig {
    settings.set("security.protocol", "plaintext");
    settings.set("client.id", format!("{}-{client}", config.group_id));
    // A broker that comes back is found again within two seconds, not ten.
    settings.set("reconnect.backoff.max.ms", "2000");
    if config.oauth_token_file.is_some() {
        settings.set("sasl.mechanism", OAUTHBEARER);
    }
    for (name, value) in &config.properties {
        settings.set(name, value);
    }
    for (name, value) in config.secrets.iter() {
        settings.set(name, value);
    }
    if !settings.config_map().keys().any(|name| CA_PROPERTIES.contains(name))
        && CA_VARIABLES.iter().all(|name| std::env::var_os(name).is_none())
    {
        // Without TLS it is never looked at.
        settings.set("ssl.ca.location", "probe");
    }
    settings.set("bootstrap.servers", &config.bootstrap_servers);
    settings.set("allow.auto.create.topics", "false");
    // Who asks librdkafka to trace something wants to see it.
    let traced = config.property("debug").is_some();
    settings.set_log_level(if traced { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    settings
}

/// A member of a group. It never stores or commits an offset by itself, and never resets one.
#[must_use]
pub fn consumer(config: &KafkaConfig, client: &str, group: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("check.crcs", "true");
    settings.set("fetch.queue.backoff.ms", FETCH_BACKOFF_MS);
    settings.set("queued.max.messages.kbytes", FETCH_QUEUE_KIB);
    settings.set("heartbeat.interval.ms", HEARTBEAT_MS);
    // Partitions added to a topic are read within half a minute.
    settings.set("topic.metadata.refresh.interval.ms", "30000");
    // Who stays keeps what they have, while others come and go.
    settings.set("partition.assignment.strategy", "cooperative-sticky");
    let mut settings = over(settings, config, client);
    settings.set("group.id", group);
    settings.set("group.protocol", "classic");
    settings.set("enable.auto.commit", "false");
    settings.set("enable.auto.offset.store", "false");
    settings.set("auto.offset.reset", "error");
    settings.set("enable.partition.eof", "false");
    settings.set("statistics.interval.ms", STATISTICS_MS);
    settings
}

/// The group of all that is asked and assigned by hand. It is never joined, but librdkafka needs a
/// name and asks for its coordinator, so it must be allowed; one for all keeps that short.
#[must_use]
pub fn unjoined_group(config: &KafkaConfig) -> String {
    format!("{}-state", config.group_id)
}

/// A consumer that is asked and assigned by hand and joins nothing.
///
/// # Errors
/// A setting is wrong.
pub fn reader(
    config: &KafkaConfig,
    client: &str,
    settings: &ClientConfig,
) -> Result<BaseConsumer<Context>, Error> {
    let consumer: BaseConsumer<Context> = settings
        .create_with_context(Context(Notes::new(config, client)))
        .map_err(|cause| Error::Client { client: client.to_owned(), cause })?;
    serve_token(&consumer);
    Ok(consumer)
}

/// librdkafka asks for a token by an event that waits for a poll, before all others, and no
/// question is answered without one. Nothing is assigned yet, so that the poll brings nothing else.
pub fn serve_token<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    let _ = consumer.poll(Duration::ZERO);
}

/// A producer that neither loses, repeats nor reorders what it delivers, and never gives up on
/// its own. `gapless`: the first failure ends it, so that nothing is delivered past a gap (D1).
#[must_use]
pub fn producer(config: &KafkaConfig, client: &str, gapless: bool) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("compression.type", "lz4");
    settings.set("linger.ms", "2");
    settings.set("queue.buffering.max.kbytes", SEND_QUEUE_KIB);
    let mut settings = over(settings, config, client);
    settings.set("enable.idempotence", "true");
    if gapless {
        settings.set(GAPLESS, "true");
    }
    settings.set("acks", "all");
    settings.set("message.timeout.ms", "0");
    settings.set("statistics.interval.ms", STATISTICS_MS);
    settings.set("message.max.bytes", (MESSAGE_BYTES_MAX + 64 * 1024).to_string());
    settings
}

/// How full what a consumer has fetched and nobody has polled is.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
pub fn fetch_fill(config: &KafkaConfig, statistics: &Statistics) -> f64 {
    let given = config.property("queued.max.messages.kbytes");
    // librdkafka refuses what is no number.
    let kib: u64 = given.unwrap_or(FETCH_QUEUE_KIB).parse().unwrap_or(u64::MAX);
    let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    let bytes: u64 = partitions.map(|partition| partition.fetchq_size).sum();
    bytes as f64 / (kib.max(1) as f64 * 1024.0)
}

/// How full the queue of a producer is.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
pub fn send_fill(statistics: &Statistics) -> f64 {
    statistics.msg_size as f64 / statistics.msg_size_max.max(1) as f64
}

/// What the callbacks of one client have noted.
#[derive(Debug, Default)]
pub struct Notes {
    client: String,
    /// What librdkafka must not say: it shows settings where `debug` asks for them.
    hidden: Secrets,
    /// `kafka.oauth_token_file`.
    token_file: Option<PathBuf>,
    fatal: OnceLock<String>,
    /// What went wrong last.
    said: Mutex<Option<String>>,
    statistics: Mutex<Option<Statistics>>,
    failed_commits: AtomicU64,
}

impl Notes {
    /// For a client of this name.
    #[must_use]
    pub fn new(config: &KafkaConfig, client: &str) -> Arc<Self> {
        let hidden = config.secrets.clone();
        let (client, token_file) = (client.to_owned(), config.oauth_token_file.clone());
        Arc::new(Self { client, hidden, token_file, ..Self::default() })
    }

    /// What librdkafka says, without the secrets of `kafka.properties_from_files`.
    fn fit_to_show<'t>(&self, said: &'t str) -> Cow<'t, str> {
        let mut said = Cow::Borrowed(said);
        for (_, secret) in self.hidden.iter() {
            // A shorter text is in many words and no secret.
            if secret.len() >= SECRET_BYTES_MIN && said.contains(secret) {
                said = Cow::Owned(said.replace(secret, "***"));
            }
        }
        said
    }

    /// Why the client is beyond use, if it is.
    #[must_use]
    pub fn fatal(&self) -> Option<Error> {
        let reason = self.fatal.get()?.clone();
        Some(Error::Fatal { client: self.client.clone(), reason })
    }

    /// Notes that the client is beyond use, and says so.
    pub fn set_fatal(&self, reason: String) -> Error {
        // A later reason is a consequence of the first.
        let reason = self.fatal.get_or_init(|| reason).clone();
        Error::Fatal { client: self.client.clone(), reason }
    }

    /// That the client is beyond use, in words of librdkafka's and then ours.
    pub fn beyond_use(&self, said: &str, hint: &str) -> Error {
        let reason = self.fit_to_show(said).into_owned() + hint;
        Error::Fatal { client: self.client.clone(), reason }
    }

    /// What went wrong last, in words of librdkafka's.
    #[must_use]
    pub fn last_said(&self) -> Option<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A commit that nobody waited for was refused.
    pub fn note_failed_commit(&self) {
        self.failed_commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused commits since the last call.
    #[must_use]
    pub fn take_failed_commits(&self) -> u64 {
        self.failed_commits.swap(0, Ordering::Relaxed)
    }

    /// The newest statistics, once.
    #[must_use]
    pub fn take_statistics(&self) -> Option<Statistics> {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Receives what librdkafka has to say and takes notes.
#[derive(Clone, Debug)]
pub struct Context(pub Arc<Notes>);

impl ConsumerContext for Context {}

/// What [`ClientContext::generate_oauth_token`] gives.
pub type Token = Result<OAuthToken, Box<dyn std::error::Error>>;

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Token {
        let file = self.0.token_file.as_ref().ok_or("kafka.oauth_token_file is not set")?;
        Ok(token::read(file)?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = self.0.client.as_str();
        // That gapless is experimental (the tests of D1 hold what it promises), and that a setting
        // of `kafka.properties` is for the other kind of client.
        let message = self.0.fit_to_show(message);
        let known = message.contains(GAPLESS) || message.contains("will be ignored by this");
        if facility == "CONFWARN" && known {
            return debug!(client, facility, "{message}");
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(client, facility, "{message}"),
            RDKafkaLogLevel::Notice => info!(client, facility, "{message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(client, facility, "{message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        *self.0.statistics.lock().unwrap_or_else(PoisonError::into_inner) = Some(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let client = self.0.client.as_str();
        let reason = self.0.fit_to_show(reason);
        let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
        // That all are down follows from what was said of each, and says less.
        if said.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *said = Some(reason.clone().into_owned());
        }
        drop(said);
        let fatal = matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced)
        );
        if fatal {
            self.0.set_fatal(reason.into_owned());
        } else {
            // Each has had its log line already.
            debug!(client, "{error}: {reason}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Config;

    const FILE: &str = "\
kafka: {bootstrap_servers: 'a:1', properties_from_files: {sasl.password: p, sasl.username: u}}
inputs: [{topic: reads}]
rules: [{id: records, limits: [{window: 1h, above: 500}]}]
";

    fn with_a_login() -> KafkaConfig {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("exfilwatch.yaml", FILE), ("p", "hunter22\n"), ("u", "me")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Config::load(&folder.path().join("exfilwatch.yaml")).unwrap().kafka
    }

    #[test]
    fn what_librdkafka_says_is_shown_without_secrets() {
        let notes = Notes::new(&with_a_login(), "test");
        let said = notes.fit_to_show("[thrd:app]:   sasl.password = hunter22 (hunter22)");
        assert_eq!(said, "[thrd:app]:   sasl.password = *** (***)");
        let said = notes.fit_to_show("some words");
        assert!(matches!(said, Cow::Borrowed("some words")), "two letters are no secret");
        Context(Arc::clone(&notes)).error(KafkaError::Canceled, "no login with hunter22");
        assert_eq!(notes.last_said().as_deref(), Some("no login with ***"));
        assert!(!format!("{notes:?}").contains("hunter22"));
    }

    #[test]
    fn every_kind_of_client_has_the_secrets_and_none_shows_them() {
        let kafka = with_a_login();
        let kinds = [
            base(&kafka, "test"),
            consumer(&kafka, "test", "group"),
            producer(&kafka, "test", false),
            producer(&kafka, "test", true),
        ];
        for settings in kinds {
            assert_eq!(settings.get("sasl.password"), Some("hunter22"));
            assert!(!format!("{settings:?}").contains("hunter22"));
        }
    }

    #[test]
    fn why_a_broker_was_lost_is_not_forgotten_for_that_all_are() {
        let context = Context(Arc::default());
        let global = |code| KafkaError::Global(code);
        let all = || context.error(global(RDKafkaErrorCode::AllBrokersDown), "1/1 are down");
        let said = || context.0.last_said();
        all();
        assert_eq!(said().as_deref(), Some("1/1 are down"));
        context.error(global(RDKafkaErrorCode::SSL), "certificate unknown");
        all();
        assert_eq!(said().as_deref(), Some("certificate unknown"));
    }
}
