//! The image, and the pods that the chart renders of it, run for real: what the fake nodes of the
//! control plane do not do.
//!
//! Each container gets the arguments, environment, mounts, user and security of its pod, on the
//! network of the host, against the Kafka of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    events::{Read, now_ms},
    helm, http,
    kafka::{self, Client, Compression, free_port, unique},
    process::Guarded,
    tools, yaml,
};

/// A debug build, whose dependencies are compiled once for all runs.
const IMAGE: &str = "localhost/exfilwatch:dev";

const READY_MAX: Duration = Duration::from_secs(30);

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

/// A pod as rendered, with its `ConfigMap`s and Secrets as folders.
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

    /// As the kubelet does: keys are links into a folder that is swapped whole.
    fn lay(&self, volume: &Value) {
        let path = self.folder.path().join(volume["name"].as_str().unwrap());
        let data = path.join("..2026");
        fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::symlink("..2026", path.join("..data")).unwrap();
        let map = volume["configMap"]["name"].as_str().expect("only ConfigMaps here");
        let map = helm::object(self.objects, "ConfigMap", map);
        for (key, text) in map["data"].as_object().unwrap() {
            fs::write(data.join(key), text.as_str().unwrap()).unwrap();
            let link = Path::new("..data").join(key);
            std::os::unix::fs::symlink(link, path.join(key)).unwrap();
        }
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

/// The case `small` on this Kafka, with topics and a group of its own.
fn rendered(kafka: &Client, id: &str, topic: &str, mode: &str, port: u16) -> Vec<Value> {
    let [helm, _] = tools::helms().unwrap();
    let sets = [
        format!("mode=\"{mode}\""),
        format!("config.kafka.bootstrap_servers=\"{}\"", kafka.address()),
        format!("config.kafka.group_id=\"{id}\""),
        format!("config.kafka.transactional_id_prefix=\"{id}\""),
        format!(
            "config.topics={{\"events\":\"{id}.e\",\"state\":\"{id}.s\",\"alerts\":\"{id}.a\",\
             \"dead_letter\":\"{id}.d\"}}"
        ),
        format!("config.inputs=[{{\"topic\":\"{topic}\"}}]"),
        format!("config.http={{\"listen\":\"127.0.0.1:{port}\"}}"),
        "topics={\"create\":\"program\",\"partitions\":4,\"replication\":1}".to_owned(),
        "capacity.principals=1000".to_owned(),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let output = helm::template(&helm, &[helm::case("small")], &sets);
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

/// One read above the limit, and its alert.
fn a_thief_is_found(kafka: &Client, id: &str, topic: &str) {
    kafka.produce(topic, Compression::Lz4, [Read::of("thief", now_ms(), 501).canonical()]);
    let mut alerts = kafka.reader(&format!("{id}.a"));
    let alert = alerts.until("an alert", READY_MAX, |seen| !seen.is_empty())[0].json();
    assert_eq!(alert["finding_info"]["analytic"]["uid"], "customer-records");
}

#[test]
fn rendered_pods_run_as_rendered_find_a_thief_and_end_in_order() {
    let Some(_) = tools::helms() else { return };
    let Some(kafka) = kafka::shared() else { return };
    if !image() {
        return;
    }
    let (id, port) = (unique("pods"), free_port());
    let topic = format!("{id}.in");
    kafka.create_topic(&topic, 2, &[]);
    let objects = rendered(&kafka, &id, &topic, "combined", port);
    // The check before an installation: the topics are not there yet, and it says so.
    let before = pod(&objects, "Job", "exfilwatch-check-before");
    let said = once(&before, &format!("{id}-before"));
    assert!(said.contains("will be made by a run"), "{said}");
    let member = pod(&objects, "StatefulSet", "exfilwatch");
    let member = Member::ready(member, format!("{id}-member"), port);
    a_thief_is_found(&kafka, &id, &topic);
    // The check after it, and `helm test`: everything is there.
    once(&pod(&objects, "Job", "exfilwatch-check-after"), &format!("{id}-after"));
    let test = Pod::new(&helm::object(&objects, "Pod", "exfilwatch-test")["spec"], &objects);
    let said = once(&test, &format!("{id}-test"));
    assert!(said.contains("customer-records"), "{said}");
    member.stop();
}

#[test]
fn roles_apart_find_a_thief_as_well() {
    let Some(_) = tools::helms() else { return };
    let Some(kafka) = kafka::shared() else { return };
    if !image() {
        return;
    }
    let (id, ports) = (unique("apart"), [free_port(), free_port()]);
    let topic = format!("{id}.in");
    kafka.create_topic(&topic, 2, &[]);
    // On the network of one host each needs a port of its own.
    let [one, two] = ports.map(|port| rendered(&kafka, &id, &topic, "split", port));
    let detect = pod(&one, "StatefulSet", "exfilwatch");
    let detect = Member::ready(detect, format!("{id}-detect"), ports[0]);
    let ingest = pod(&two, "Deployment", "exfilwatch-ingest");
    let ingest = Member::ready(ingest, format!("{id}-ingest"), ports[1]);
    a_thief_is_found(&kafka, &id, &topic);
    ingest.stop();
    detect.stop();
}
