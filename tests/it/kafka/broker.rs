//! Apache Kafka processes: broker and controller in one, on free loopback ports, alone or as a
//! cluster of several.
//!
//! Its folder under `target/tmp/kafka` holds data, properties and log, and is removed by a later
//! run once the test process that made it is gone, so that a failure can be looked into.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{Client, authority::Authority, jars};
use crate::process::Guarded;

/// 16 bytes in URL-safe base64, as the storage tool demands.
const CLUSTER_ID: &str = "ZXhmaWx3YXRjaC10ZXN0cw";

/// A broker needs 3 s on two idle cores; a busy machine gets ten times that.
const START_MAX: Duration = Duration::from_mins(2);

/// The first port for tests, and how many there are.
const PORTS: (u16, u32) = (12_000, 20_000);

/// A broker that is up, or was and has been stopped.
#[derive(Debug)]
pub(crate) struct Broker {
    process: Option<Guarded>,
    folder: PathBuf,
    class_path: String,
    port: u16,
    second: Option<Listener>,
}

/// A second way in, for whoever proves who they are.
#[derive(Debug)]
struct Listener {
    name: &'static str,
    protocol: &'static str,
    port: u16,
    settings: String,
    /// Further arguments of the storage tool.
    format: Vec<String>,
}

/// What [`LOGIN`] may do with resources of one kind.
#[derive(Debug)]
pub(crate) struct Right {
    /// As `kafka-acls.sh` names them: `["--topic", "t"]`, `["--cluster"]`, and so on.
    pub(crate) resource: Vec<String>,
    pub(crate) operations: Vec<String>,
}

impl Broker {
    /// Formats a new log directory and starts a broker on it; returns once it answers.
    pub(super) fn start() -> Result<Self, String> {
        Self::behind(|_, broker| broker)
    }

    /// The same, advertising the port of a proxy that `proxy` starts, given a free port and that of
    /// the broker.
    pub(super) fn behind(proxy: impl FnOnce(u16, u16) -> u16) -> Result<Self, String> {
        let mut broker = Self::formatted(1, &[free_port()], proxy, None)?;
        broker.up()?;
        Ok(broker)
    }

    /// The same with a second port, for whoever has a token: unsecured ones (RFC 7515, appendix
    /// A.5) that have not ended. Who does not bring a new one in time is disconnected. With an
    /// `authority` they are taken in TLS alone.
    pub(super) fn with_tokens(authority: Option<&Authority>) -> Result<Self, String> {
        let tls = authority.map(|authority| tls("tokens", authority)).transpose()?;
        Self::with(Listener {
            name: "TOKENS",
            protocol: if tls.is_some() { "SASL_SSL" } else { "SASL_PLAINTEXT" },
            port: free_port(),
            settings: TOKENS.to_owned() + &tls.unwrap_or_default(),
            format: Vec::new(),
        })
    }

    /// The same with a second port for TLS, whose certificate and those of its clients are of
    /// `authority`, and for SCRAM-SHA-512 of [`LOGIN`] in it.
    pub(super) fn secured(authority: &Authority) -> Result<Self, String> {
        Self::secured_with(authority, "")
    }

    /// The same, where [`LOGIN`] may do only what it was given a right to ([`Self::grant`]).
    pub(super) fn authorizing(authority: &Authority) -> Result<Self, String> {
        Self::secured_with(authority, AUTHORIZER)
    }

    fn secured_with(authority: &Authority, more: &str) -> Result<Self, String> {
        let (user, password) = LOGIN;
        Self::with(Listener {
            name: "SECURED",
            protocol: "SASL_SSL",
            port: free_port(),
            settings: SCRAM.to_owned() + &tls("secured", authority)? + more,
            format: vec![
                "--add-scram".to_owned(),
                format!("SCRAM-SHA-512=[name={user},password={password}]"),
            ],
        })
    }

    fn with(second: Listener) -> Result<Self, String> {
        let plain = |_, broker| broker;
        let mut broker = Self::formatted(1, &[free_port()], plain, Some(second))?;
        broker.up()?;
        Ok(broker)
    }

    /// Several that are one cluster: every topic of theirs has a copy on three of them, and a
    /// record counts as written once two have it.
    pub(super) fn cluster(nodes: usize) -> Result<Vec<Self>, String> {
        let controllers: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
        let mut brokers = (1..=nodes)
            .map(|node| Self::formatted(node, &controllers, |_, broker| broker, None))
            .collect::<Result<Vec<_>, _>>()?;
        // None answers before most of them are there.
        brokers.iter_mut().try_for_each(Self::spawn)?;
        brokers.iter_mut().try_for_each(Self::answering)?;
        Ok(brokers)
    }

    fn formatted(
        node: usize,
        controllers: &[u16],
        proxy: impl FnOnce(u16, u16) -> u16,
        second: Option<Listener>,
    ) -> Result<Self, String> {
        let class_path = jars::class_path()?;
        let folder = new_folder().map_err(|error| format!("no folder for the broker: {error}"))?;
        let listens = free_port();
        let port = proxy(free_port(), listens);
        let text = properties(&folder, node, (listens, port), controllers, second.as_ref());
        let more = second.as_ref().map_or(Vec::new(), |second| second.format.clone());
        let broker = Self { process: None, folder, class_path, port, second };
        fs::write(broker.properties(), text)
            .map_err(|error| format!("server.properties: {error}"))?;
        let mut format = vec!["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID];
        format.extend(more.iter().map(String::as_str));
        format.push("-c");
        let mut command = broker.java(&format)?;
        let status = command.arg(broker.properties()).status();
        let status = status.map_err(|error| no_java(&error))?;
        if !status.success() {
            return Err(format!("the storage tool failed ({status})\n{}", broker.log_tail()));
        }
        Ok(broker)
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the second way in.
    #[allow(dead_code, reason = "not for benches")]
    pub(crate) fn second_address(&self) -> String {
        format!("127.0.0.1:{}", self.second.as_ref().expect("a second listener").port)
    }

    /// Its process, while it runs: for what the kernel says of it.
    #[allow(dead_code, reason = "for benches/peers, which shares this harness")]
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::id)
    }

    /// A client of this broker.
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address())
    }

    /// Ends the broker at once, as a power cut would.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Starts a stopped broker again, on the same port and data.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.up().unwrap_or_else(|why| panic!("the broker does not come back: {why}"));
    }

    fn up(&mut self) -> Result<(), String> {
        self.spawn()?;
        self.answering()
    }

    fn spawn(&mut self) -> Result<(), String> {
        let mut command = self.java(&["kafka.Kafka"])?;
        let process = Guarded::spawn(command.arg(self.properties()));
        self.process = Some(process.map_err(|error| no_java(&error))?);
        Ok(())
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Gives [`LOGIN`] rights.
    #[allow(dead_code, reason = "not for benches")]
    pub(crate) fn grant(&self, rights: &[Right]) {
        self.change("--add", rights);
    }

    /// Takes rights from it.
    #[allow(dead_code, reason = "for tests/it alone")]
    pub(crate) fn revoke(&self, right: &Right) {
        self.change("--remove", std::slice::from_ref(right));
    }

    fn change(&self, how: &str, rights: &[Right]) {
        // Each costs the start of a JVM; several run at once.
        let started: Vec<_> = rights
            .iter()
            .map(|right| {
                let mut command = self.java(&["org.apache.kafka.tools.AclCommand"]).expect("jars");
                command.args(["--bootstrap-server", &self.address(), how, "--force"]);
                command.arg(format!("--allow-principal=User:{}", LOGIN.0));
                command.args(right.operations.iter().map(|it| format!("--operation={it}")));
                command.args(&right.resource).spawn().expect("java starts")
            })
            .collect();
        for mut process in started {
            let status = process.wait().expect("it ends");
            assert!(status.success(), "{rights:?}: {}", self.log_tail());
        }
    }

    fn answering(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        let answers = |broker: &Self| {
            TcpStream::connect(broker.address()).is_ok() && broker.client().answers()
        };
        while !answers(self) {
            let ended = self.process.as_mut().is_none_or(|process| process.try_wait().is_some());
            if ended || Instant::now() > deadline {
                self.process = None;
                return Err(format!("the broker did not start\n{}", self.log_tail()));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Java with the flags that make a short life cheap; everything it says goes to `kafka.log`.
    fn java(&self, arguments: &[&str]) -> Result<Command, String> {
        let open = || File::options().create(true).append(true).open(self.folder.join("kafka.log"));
        let (out, err) = open()
            .and_then(|out| Ok((out, open()?)))
            .map_err(|error| format!("kafka.log: {error}"))?;
        let mut command = Command::new("java");
        command
            .args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Xshare:auto", "-Dlog4j2.level=WARN", "-cp", &self.class_path])
            .args(arguments)
            .stdout(out)
            .stderr(err);
        Ok(command)
    }

    /// The end of what the broker has said.
    fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("kafka.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- end of the broker's log\n{}\n---", self.log_tail());
        }
    }
}

/// A port that was free a moment ago, and that nothing takes by chance until it is used, or while a
/// broker that had it is down: it lies below those that the system gives to outgoing connections.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let ours = process::id().wrapping_mul(97);
    let next = || ours.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % PORTS.1;
    (0..PORTS.1)
        .map(|_| PORTS.0 + u16::try_from(next()).expect("below the number of ports"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a loopback port is free")
}

fn no_java(error: &std::io::Error) -> String {
    format!("java does not start: {error}")
}

/// A folder of this process's own; those of dead test processes are removed on the way.
fn new_folder() -> std::io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for entry in fs::read_dir(jars::scratch())?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("run-")?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = jars::scratch().join(format!("run-{}-{count}", process::id()));
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A node that is broker and controller; internal topics small; nothing waits without need.
fn properties(
    folder: &Path,
    node: usize,
    (listens, port): (u16, u16),
    controllers: &[u16],
    second: Option<&Listener>,
) -> String {
    let voter = |(index, port): (usize, &u16)| format!("{}@127.0.0.1:{port}", index + 1);
    let voters: Vec<String> = controllers.iter().enumerate().map(voter).collect();
    let copies = controllers.len().min(3);
    let listener = second.map(|it| format!(",{}://127.0.0.1:{}", it.name, it.port));
    let listener = listener.unwrap_or_default();
    let protocol = second.map(|it| format!(",{}:{}", it.name, it.protocol)).unwrap_or_default();
    let settings = second.map_or("", |it| &it.settings);
    format!(
        "process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{listens}{listener},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listener}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocol}
log.dirs={data}
auto.create.topics.enable=false
min.insync.replicas={in_sync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={copies}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
num.network.threads=2
num.io.threads=2
{settings}",
        voters = voters.join(","),
        controller = controllers[node - 1],
        in_sync = copies.div_ceil(2),
        data = folder.join("data").display()
    )
}

/// Kafka's own validator of unsecured tokens is what a listener has without another.
const TOKENS: &str = "listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.tokens.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub=\"broker\";
connections.max.reauth.ms=3600000
";

/// Who may come in by the secured port, beside having a certificate.
pub(crate) const LOGIN: (&str, &str) = ("watch", "hunter-2-hunter");

const SCRAM: &str = "listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.ssl.client.auth=required
";

/// The tests themselves come in by the plain port, and are nobody in particular.
const AUTHORIZER: &str =
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
";

/// Keys for a listener, and what names them.
fn tls(listener: &str, authority: &Authority) -> Result<String, String> {
    let folder = new_folder().map_err(|error| format!("no folder for keys: {error}"))?;
    let (keys, trusted) = (folder.join("keys.pem"), folder.join("trusted.pem"));
    let issued = authority.issue("broker");
    fs::write(&keys, issued.key() + &issued.certificate)
        .and_then(|()| fs::write(&trusted, authority.certificate()))
        .map_err(|error| format!("keys of the broker: {error}"))?;
    let name = |key: &str| format!("listener.name.{listener}.ssl.{key}");
    Ok([
        format!(
            "{}=PEM\n{}={}\n",
            name("keystore.type"),
            name("keystore.location"),
            keys.display()
        ),
        format!("{}=PEM\n", name("truststore.type")),
        format!("{}={}\n", name("truststore.location"), trusted.display()),
    ]
    .concat())
}
