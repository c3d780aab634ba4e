//! The image, and the pods that the chart renders of it, run for real: what the fake nodes of the
//! control plane do not do.
//!
//! Each container gets the arguments, environment, mounts, user and security of its pod, on the
//! network of the host, against the Kafka of the tests.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    events::{Read, now_ms},
    helm, http,
    kafka::{self, Authority, Client, Compression, LOGIN, Right, free_port, unique},
    process::Guarded,
    tools, yaml,
};

/// A debug build, whose dependencies are compiled once for all runs.
const IMAGE: &str = "localhost/exfilwatch:dev";

const READY_MAX: Duration = Duration::from_secs(30);

/// Stands for the token that the kubelet asks the API server for.
const TOKEN: &str = "token-of-the-service-account";

/// The rule of the case `small`.
const RULES: &str = "rules:
  - id: customer-records
    limits: [{window: 1h, above: 500}]
";

fn store() -> PathBuf {
    tools::folder().join("image")
}

/// Builds the image, unless something for it is missing.
fn image() -> bool {
    // One build for all tests of a run; the other waits.
    static BUILT: LazyLock<bool> = LazyLock::new(|| {
        if ["buildah", "podman", "runc", "debootstrap"].iter().any(|it| tools::tool(it).is_none()) {
            return false;
        }
        let mut command = Command::new(tools::top().join("tests/chart/image.sh"));
        command.env("EXFILWATCH_CHART_TOOLS", tools::folder());
        eprintln!("{}", tools::run(command.arg("dev")).trim());
        true
    });
    *BUILT
}

/// `podman` on a store of its own. crun does not start on every machine; runc does.
fn podman() -> Command {
    let mut command = Command::new("podman");
    command.arg("--root").arg(store().join("root")).arg("--runroot").arg(store().join("run"));
    command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
    command.args(["--events-backend", "none", "--runtime", "runc"]);
    command
}

/// A pod as rendered, with its volumes as folders.
struct Pod<'r> {
    spec: &'r Value,
    objects: &'r [Value],
    folder: TempDir,
}

impl<'r> Pod<'r> {
    fn new(spec: &'r Value, objects: &'r [Value]) -> Self {
        let pod = Self { spec, objects, folder: TempDir::new().unwrap() };
        for volume in spec["volumes"].as_array().unwrap() {
            pod.lay(volume);
        }
        pod
    }

    /// As the kubelet does: keys are links into a folder that is swapped whole, and files belong to
    /// the group of the pod.
    fn lay(&self, volume: &Value) {
        let path = self.folder.path().join(volume["name"].as_str().unwrap());
        let data = path.join("..2026");
        fs::create_dir_all(&data).unwrap();
        symlink("..2026", path.join("..data")).unwrap();
        for (key, text, mode) in self.files(volume) {
            let file = data.join(&key);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let group = self.spec["securityContext"]["fsGroup"].as_u64().unwrap();
            chown(&file, None, Some(u32::try_from(group).unwrap())).unwrap();
            symlink(Path::new("..data").join(&key), path.join(key)).unwrap();
        }
    }

    /// Path, content and mode of every file in a volume.
    fn files(&self, volume: &Value) -> Vec<(String, String, u32)> {
        let (kind, source, name) = if volume["configMap"].is_object() {
            ("ConfigMap", &volume["configMap"], "name")
        } else if volume["secret"].is_object() {
            ("Secret", &volume["secret"], "secretName")
        } else {
            let projected = &volume["projected"];
            let path = projected["sources"][0]["serviceAccountToken"]["path"].as_str();
            let path = path.unwrap_or_else(|| panic!("not known how to lay {volume}"));
            let token = helm::object(self.objects, "Secret", TOKEN);
            let token = token["data"]["token"].as_str().unwrap().to_owned();
            return vec![(path.to_owned(), token, mode(projected))];
        };
        let object = helm::object(self.objects, kind, source[name].as_str().unwrap());
        let text = |key: &str| {
            let text = object["data"][key].as_str();
            text.unwrap_or_else(|| panic!("{kind} {} has no {key}", source[name])).to_owned()
        };
        let every = || object["data"].as_object().unwrap().keys().map(|key| (key, key));
        let pairs: Vec<(String, String)> = match source["items"].as_array() {
            None => every().map(|(key, path)| (key.clone(), path.clone())).collect(),
            Some(items) => items
                .iter()
                .map(|item| ["key", "path"].map(|it| item[it].as_str().unwrap().to_owned()))
                .map(|[key, path]| (key, path))
                .collect(),
        };
        pairs.into_iter().map(|(key, path)| (path, text(&key), mode(source))).collect()
    }

    fn container(&self) -> &Value {
        &self.spec["containers"][0]
    }

    /// The command that runs it; it ends with the container.
    fn command(&self, name: &str) -> Command {
        let (container, pod) = (self.container(), &self.spec["securityContext"]);
        let mut command = podman();
        command.args(["run", "--rm", "--network", "host", "--name", name]);
        command.arg(format!("--user={}:{}", pod["runAsUser"], pod["runAsGroup"]));
        command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        let security = &container["securityContext"];
        if security["readOnlyRootFilesystem"] == true {
            // Not even the tmpfs that podman adds by itself.
            command.args(["--read-only", "--read-only-tmpfs=false"]);
        }
        for capability in security["capabilities"]["drop"].as_array().unwrap() {
            command.arg(format!("--cap-drop={}", capability.as_str().unwrap()));
        }
        if security["allowPrivilegeEscalation"] == false {
            command.args(["--security-opt", "no-new-privileges"]);
        }
        for mount in container["volumeMounts"].as_array().unwrap() {
            let from = self.folder.path().join(mount["name"].as_str().unwrap());
            let to = mount["mountPath"].as_str().unwrap();
            command.arg(format!("--volume={}:{to}:ro", from.display()));
        }
        for variable in container["env"].as_array().unwrap() {
            let value = variable["value"].as_str().unwrap_or("exfilwatch-0");
            command.arg(format!("--env={}={value}", variable["name"].as_str().unwrap()));
        }
        command.arg(IMAGE);
        for argument in container["args"].as_array().unwrap() {
            // What the kubelet does with a reference to a variable.
            command.arg(argument.as_str().unwrap().replace("$(POD_NAME)", "exfilwatch-0"));
        }
        command
    }

    /// Status of a probe, asked as the kubelet would.
    fn probe(&self, probe: &str, port: u16) -> Option<u16> {
        let path = self.container()[probe]["httpGet"]["path"].as_str().unwrap();
        http::get(port, path).map(|(status, _)| status)
    }
}

/// Mode of the files of a volume: what it says, or what Kubernetes gives it.
fn mode(source: &Value) -> u32 {
    source["defaultMode"].as_u64().map_or(0o644, |mode| u32::try_from(mode).unwrap())
}

/// What is in the cluster and not of the chart; Secrets as text, which an API server would encode.
fn given(kind: &str, name: &str, data: &Value) -> Value {
    json!({"kind": kind, "metadata": {"name": name}, "data": data})
}

/// A case on the Kafka at `servers`, with topics and a group of its own.
fn rendered(case: &str, servers: &str, id: &str, port: u16, more: &[&str]) -> Vec<Value> {
    let [helm, _] = tools::helms().unwrap();
    let sets = [
        format!("config.kafka.bootstrap_servers=\"{servers}\""),
        format!("config.kafka.group_id=\"{id}\""),
        format!("config.kafka.transactional_id_prefix=\"{id}\""),
        format!(
            "config.topics={{\"events\":\"{id}.e\",\"state\":\"{id}.s\",\"alerts\":\"{id}.a\",\
             \"dead_letter\":\"{id}.d\"}}"
        ),
        format!("config.inputs=[{{\"topic\":\"{id}.in\"}}]"),
        format!("config.http={{\"listen\":\"127.0.0.1:{port}\"}}"),
        "topics={\"create\":\"program\",\"partitions\":4,\"replication\":1}".to_owned(),
        "capacity.principals=1000".to_owned(),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let output = helm::template(&helm, &[helm::case(case)], &sets);
    assert!(output.status.success(), "{}", tools::said(&output));
    yaml::documents(&String::from_utf8(output.stdout).unwrap())
}

/// The pod of a workload or Job.
fn pod<'o>(objects: &'o [Value], kind: &str, name: &str) -> Pod<'o> {
    Pod::new(&helm::object(objects, kind, name)["spec"]["template"]["spec"], objects)
}

/// A pod of exfilwatch that runs.
struct Member<'r> {
    pod: Pod<'r>,
    name: String,
    process: Guarded,
}

impl<'r> Member<'r> {
    /// Starts it, and waits until its probes say what they must.
    fn ready(pod: Pod<'r>, name: String, port: u16) -> Self {
        let mut command = pod.command(&name);
        let log = fs::File::create(pod.folder.path().join("log")).unwrap();
        command.stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        let process = Guarded::spawn(&mut command).expect("podman starts");
        let mut member = Self { pod, name, process };
        while member.pod.probe("readinessProbe", port) != Some(200) {
            assert!(started.elapsed() < READY_MAX, "not ready: {}", member.log());
            assert!(member.process.try_wait().is_none(), "it ended: {}", member.log());
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{}: ready {:?} after podman was started", member.name, started.elapsed());
        assert_eq!(member.pod.probe("startupProbe", port), Some(200));
        assert_eq!(member.pod.probe("livenessProbe", port), Some(200));
        member
    }

    fn log(&self) -> String {
        fs::read_to_string(self.pod.folder.path().join("log")).unwrap_or_default()
    }

    /// As the kubelet ends it, within the grace period.
    fn stop(mut self) {
        let grace = self.pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        let stopped = Instant::now();
        tools::run(podman().args(["kill", "--signal", "TERM", &self.name]));
        let status = self.process.wait(Duration::from_secs(grace));
        let status = status.expect("it ends within its grace");
        eprintln!("{}: ended {:?} after SIGTERM", self.name, stopped.elapsed());
        assert!(status.success(), "{status}: {}", self.log());
    }
}

/// Runs a pod that ends by itself, and well; gives what it said.
fn once(pod: &Pod<'_>, name: &str) -> String {
    let output: Output = pod.command(name).output().expect("podman starts");
    let said = tools::said(&output);
    assert!(output.status.success(), "{name}: {said}");
    said
}

/// A deployment with an input topic: its name, and the Kafka of all tests.
fn deployment(name: &str) -> Option<(String, Client)> {
    tools::helms()?;
    let kafka = kafka::shared()?;
    if !image() {
        return None;
    }
    let id = unique(name);
    kafka.create_topic(&format!("{id}.in"), 2, &[]);
    Some((id, kafka))
}

/// One read above the limit, and its alert.
fn a_thief_is_found(kafka: &Client, id: &str, rule: &str) {
    kafka.produce(
        &format!("{id}.in"),
        Compression::Lz4,
        [Read::of("thief", now_ms(), 1001).canonical()],
    );
    let mut alerts = kafka.reader(&format!("{id}.a"));
    let alert = alerts.until("an alert", READY_MAX, |seen| !seen.is_empty())[0].json();
    assert_eq!(alert["finding_info"]["analytic"]["uid"], rule);
}

#[test]
fn rendered_pods_run_as_rendered_find_a_thief_and_end_in_order() {
    let Some((id, kafka)) = deployment("pods") else { return };
    let port = free_port();
    let objects = rendered("small", kafka.address(), &id, port, &[]);
    // The check before an installation: the topics are not there yet, and it says so.
    let before = pod(&objects, "Job", "exfilwatch-check-before");
    let said = once(&before, &format!("{id}-before"));
    assert!(said.contains("will be made by a run"), "{said}");
    let member = pod(&objects, "StatefulSet", "exfilwatch");
    let member = Member::ready(member, format!("{id}-member"), port);
    a_thief_is_found(&kafka, &id, "customer-records");
    // The check after it, and `helm test`: everything is there.
    once(&pod(&objects, "Job", "exfilwatch-check-after"), &format!("{id}-after"));
    let test = Pod::new(&helm::object(&objects, "Pod", "exfilwatch-test")["spec"], &objects);
    let said = once(&test, &format!("{id}-test"));
    assert!(said.contains("customer-records"), "{said}");
    member.stop();
}

#[test]
fn roles_apart_over_topics_that_a_job_has_made_find_a_thief_as_well() {
    let Some((id, kafka)) = deployment("apart") else { return };
    let ports = [free_port(), free_port()];
    let job = "topics={\"create\":\"job\",\"partitions\":4,\"replication\":1}";
    // On the network of one host each needs a port of its own.
    let render = |port| rendered("small", kafka.address(), &id, port, &["mode=\"split\"", job]);
    let [one, two] = ports.map(render);
    once(&pod(&one, "Job", "exfilwatch-topics"), &format!("{id}-topics"));
    assert_eq!(kafka.partitions(&format!("{id}.e")), 4);
    let detect = pod(&one, "StatefulSet", "exfilwatch");
    let detect = Member::ready(detect, format!("{id}-detect"), ports[0]);
    let ingest = pod(&two, "Deployment", "exfilwatch-ingest");
    let ingest = Member::ready(ingest, format!("{id}-ingest"), ports[1]);
    a_thief_is_found(&kafka, &id, "customer-records");
    ingest.stop();
    detect.stop();
}

/// What the user that the chart has Strimzi's operator make may do.
fn rights(objects: &[Value]) -> Vec<Right> {
    let user = helm::object(objects, "KafkaUser", "exfilwatch");
    let acls = user["spec"]["authorization"]["acls"].as_array().unwrap().iter();
    acls.map(|acl| {
        let resource = &acl["resource"];
        let kind =
            resource["type"].as_str().unwrap().replace("transactionalId", "transactional-id");
        let mut named = vec![format!("--{kind}")];
        named.extend(resource["name"].as_str().map(str::to_owned));
        if resource["patternType"] == "prefix" {
            named.push("--resource-pattern-type=prefixed".to_owned());
        }
        let operations = acl["operations"].as_array().unwrap().iter();
        let operations = operations.map(|it| it.as_str().unwrap().to_owned()).collect();
        Right { resource: named, operations }
    })
    .collect()
}

#[test]
fn pods_with_secrets_and_the_rights_of_the_chart_reach_a_kafka_that_asks_for_all_of_it() {
    let authority = Authority::new();
    if tools::helms().is_none() || !image() {
        return;
    }
    let Some(broker) = kafka::authorizing(&authority) else { return };
    let (id, kafka, port) = (unique("secure"), broker.client(), free_port());
    kafka.create_topic(&format!("{id}.in"), 2, &[]);
    let servers = broker.second_address();
    let user = "strimzi={\"cluster\":\"main\",\"user\":{\"enabled\":true}}";
    broker.grant(&rights(&rendered("secure", &servers, &id, port, &[user])));
    let mut objects = rendered("secure", &servers, &id, port, &[]);
    let (client, password) = (authority.issue("exfilwatch"), "opens-the-key");
    let key = client.key_under(password);
    let login = json!({"username": LOGIN.0, "password": LOGIN.1});
    let client = json!({"tls.crt": client.certificate, "tls.key": key, "password": password});
    objects.extend([
        given("ConfigMap", "watch-rules", &json!({"rules.yaml": RULES})),
        given("Secret", "kafka-login", &login),
        given("Secret", "kafka-ca", &json!({"ca.crt": authority.certificate()})),
        given("Secret", "kafka-client", &client),
        given("Secret", "canary", &json!({"key": "a key of the canary, of some length"})),
    ]);
    once(&pod(&objects, "Job", "exfilwatch-check-before"), &format!("{id}-before"));
    let member = pod(&objects, "StatefulSet", "exfilwatch");
    let member = Member::ready(member, format!("{id}-member"), port);
    a_thief_is_found(&kafka, &id, "customer-records");
    // An event goes in and its alert comes out: the canary on a schedule, and `helm test`.
    let canary = helm::object(&objects, "CronJob", "exfilwatch-canary");
    let canary = Pod::new(&canary["spec"]["jobTemplate"]["spec"]["template"]["spec"], &objects);
    once(&canary, &format!("{id}-canary"));
    let test = Pod::new(&helm::object(&objects, "Pod", "exfilwatch-test")["spec"], &objects);
    once(&test, &format!("{id}-test"));
    member.stop();
}

#[test]
fn a_pod_with_a_token_of_its_service_account_reaches_a_kafka_that_asks_for_one() {
    if tools::helms().is_none() || !image() {
        return;
    }
    let Some(broker) = kafka::with_tokens(None) else { return };
    let (id, kafka, port) = (unique("token"), broker.client(), free_port());
    kafka.create_topic(&format!("{id}.in"), 2, &[]);
    let plain = "credentials.tls.enabled=false";
    let mut objects = rendered("token", &broker.second_address(), &id, port, &[plain]);
    objects.push(given("Secret", TOKEN, &json!({"token": kafka::token(600)})));
    let member = pod(&objects, "StatefulSet", "exfilwatch");
    let member = Member::ready(member, format!("{id}-member"), port);
    a_thief_is_found(&kafka, &id, "many-rows");
    member.stop();
}
