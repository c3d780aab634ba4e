//! A real control plane on the loopback: etcd, API server, controllers, scheduler, and kwok in the
//! kubelet's place, which says of every pod that it runs and starts nothing.
//!
//! So schemas, defaults, admission, controllers and Helm's waits are real; containers, probes,
//! mounts and the `NetworkPolicy` are not.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{kafka::free_port, process::Guarded, tools};

/// A busy machine takes ten times what an idle one does, 10 s.
const UP_MAX: Duration = Duration::from_secs(100);

/// Of the only user, an administrator of this cluster alone.
const TOKEN: &str = "chart-tests";

const NODE: &str = "apiVersion: v1
kind: Node
metadata:
  name: node-0
  annotations: {kwok.x-k8s.io/node: fake}
  labels:
    kubernetes.io/hostname: node-0
    kubernetes.io/os: linux
    kubernetes.io/arch: amd64
    topology.kubernetes.io/zone: zone-0
spec:
  taints: []
status:
  allocatable: {cpu: '64', memory: 512Gi, pods: '250'}
  capacity: {cpu: '64', memory: 512Gi, pods: '250'}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: watch-first}
value: 1000
";

/// The processes of a cluster; they end with it.
pub(crate) struct Plane {
    folder: TempDir,
    processes: Vec<(&'static str, Guarded)>,
    port: u16,
}

impl Plane {
    /// A cluster with one node and the custom resources of the operators.
    ///
    /// # Panics
    /// It does not come up.
    pub(crate) fn up() -> Self {
        let folder = TempDir::with_prefix("exfilwatch-plane-").unwrap();
        let mut plane = Self { folder, processes: Vec::new(), port: free_port() };
        plane.keys();
        plane.etcd_and_server();
        plane.controllers();
        plane.node();
        let crds = tools::folder().join("crds");
        tools::run(plane.kubectl().args(["apply", "--server-side", "-f"]).arg(crds));
        plane.wait("custom resources", &["wait", "--for=condition=Established", "crd", "--all"]);
        plane
    }

    /// Where its clients find it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// `kubectl` as its administrator.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = Command::new(tools::tool("kubectl").expect("it was asked for"));
        command.env("KUBECONFIG", self.kubeconfig());
        // What it learns of this cluster is of no use to the next.
        command.arg("--cache-dir").arg(self.folder.path().join("cache"));
        command
    }

    /// Pipes `text` into `kubectl`.
    pub(crate) fn pipe(&self, arguments: &[&str], text: &str) -> Output {
        let file = self.folder.path().join(format!("in-{}.yaml", free_port()));
        fs::write(&file, text).unwrap();
        let output = self.kubectl().args(arguments).arg("-f").arg(&file).output();
        output.expect("kubectl starts")
    }

    fn keys(&self) {
        let key = self.folder.path().join("accounts.key");
        let mut command = Command::new("openssl");
        tools::run(command.args(["genrsa", "-out"]).arg(&key).arg("2048"));
        let mut command = Command::new("openssl");
        command.args(["rsa", "-pubout", "-in"]).arg(&key);
        tools::run(command.arg("-out").arg(self.folder.path().join("accounts.pub")));
        let tokens = format!("{TOKEN},admin,admin,system:masters\n");
        fs::write(self.folder.path().join("tokens.csv"), tokens).unwrap();
        let text = format!(
            "apiVersion: v1
kind: Config
clusters:
  - name: plane
    cluster:
      server: https://127.0.0.1:{}
      certificate-authority: {}
users: [{{name: admin, user: {{token: {TOKEN}}}}}]
contexts: [{{name: plane, context: {{cluster: plane, user: admin}}}}]
current-context: plane
",
            self.port,
            self.path("certificates/apiserver.crt")
        );
        fs::write(self.kubeconfig(), text).unwrap();
    }

    fn etcd_and_server(&mut self) {
        let (client, peer) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        self.start(
            "etcd",
            &[
                "--data-dir",
                &self.path("etcd"),
                "--unsafe-no-fsync",
                "--log-level",
                "warn",
                "--listen-client-urls",
                &url(client),
                "--advertise-client-urls",
                &url(client),
                "--listen-peer-urls",
                &url(peer),
                "--initial-advertise-peer-urls",
                &url(peer),
                "--initial-cluster",
                &format!("default={}", url(peer)),
            ]
            .map(str::to_owned),
        );
        self.start(
            "kube-apiserver",
            &[
                format!("--etcd-servers={}", url(client)),
                format!("--secure-port={}", self.port),
                // Else it refuses by itself what admission is to refuse.
                "--allow-privileged=true".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                // It signs its own certificate, which so is the authority as well.
                format!("--cert-dir={}", self.path("certificates")),
                format!("--token-auth-file={}", self.path("tokens.csv")),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", self.path("accounts.pub")),
                format!("--service-account-signing-key-file={}", self.path("accounts.key")),
            ],
        );
        self.wait("API server", &["get", "--raw", "/readyz"]);
    }

    fn controllers(&mut self) {
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let config = self.path("kubeconfig");
            let mut arguments = vec![
                format!("--kubeconfig={config}"),
                format!("--authentication-kubeconfig={config}"),
                format!("--authorization-kubeconfig={config}"),
                format!("--secure-port={}", free_port()),
                format!("--cert-dir={}", self.path(name)),
                "--bind-address=127.0.0.1".to_owned(),
                "--leader-elect=false".to_owned(),
            ];
            if name == "kube-controller-manager" {
                arguments.push("--use-service-account-credentials".to_owned());
                let key = self.path("accounts.key");
                arguments.push(format!("--service-account-private-key-file={key}"));
                let authority = self.path("certificates/apiserver.crt");
                arguments.push(format!("--root-ca-file={authority}"));
            }
            self.start(name, &arguments);
        }
    }

    fn node(&mut self) {
        let mut arguments = vec![
            format!("--kubeconfig={}", self.path("kubeconfig")),
            "--manage-all-nodes=true".to_owned(),
            // Without a lease the node is lost after a minute, and Helm waits in vain.
            "--node-lease-duration-seconds=40".to_owned(),
            format!("--server-address=127.0.0.1:{}", free_port()),
            "--node-ip=127.0.0.1".to_owned(),
        ];
        let made = fs::read_dir(tools::folder().join("stages")).unwrap().flatten();
        let ours = tools::top().join("tests/chart/stages.yaml");
        for file in made.map(|entry| entry.path()).chain([ours]) {
            arguments.push(format!("--config={}", file.display()));
        }
        self.start("kwok", &arguments);
        let output = self.pipe(&["apply"], NODE);
        assert!(output.status.success(), "{}", tools::said(&output));
        self.wait("node", &["wait", "--for=condition=Ready", "node/node-0", "--timeout=1s"]);
        self.wait("account", &["get", "serviceaccount", "default"]);
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start(&mut self, name: &'static str, arguments: &[String]) {
        let log = |end| File::create(self.folder.path().join(format!("{name}.{end}"))).unwrap();
        let mut command = Command::new(tools::tool(name).expect("it was asked for"));
        command.args(arguments).stdout(log("out")).stderr(log("log"));
        let process = Guarded::spawn(&mut command).unwrap_or_else(|e| panic!("{name}: {e}"));
        self.processes.push((name, process));
    }

    /// Until `kubectl` ends well.
    fn wait(&mut self, what: &str, arguments: &[&str]) {
        let deadline = Instant::now() + UP_MAX;
        loop {
            let output = self.kubectl().args(arguments).output().expect("kubectl starts");
            if output.status.success() {
                return;
            }
            for (name, process) in &mut self.processes {
                let ended = process.try_wait().is_some();
                assert!(!ended, "{name} ended: {}", tail(self.folder.path(), name));
            }
            let said = tools::said(&output);
            assert!(Instant::now() < deadline, "no {what} within {UP_MAX:?}: {said}");
            thread::sleep(Duration::from_millis(200));
        }
    }
}

fn tail(folder: &Path, name: &str) -> String {
    let text = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
