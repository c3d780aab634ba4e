//! The chart on a real control plane: installed, upgraded, rolled back, tested and uninstalled, by
//! Helm 3 and 4, in namespaces that enforce the `restricted` level.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{helm, openapi, plane::Plane, tools, yaml};

/// Everything of a control plane, or nothing.
fn plane() -> Option<Plane> {
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"] {
        tools::tool(name)?;
    }
    tools::tool("kubectl")?;
    tools::helms()?;
    Some(Plane::up())
}

/// One cluster for all of it: it takes half a minute to come up on a busy machine.
#[test]
fn a_real_control_plane_takes_everything_the_chart_renders() {
    let Some(plane) = plane() else { return };
    let started = Instant::now();
    the_level_is_enforced(&plane);
    fields_are_known(&plane);
    eprintln!("admission and fields: {:?}", started.elapsed());
    for helm in tools::helms().unwrap() {
        for case in helm::cases() {
            let from = Instant::now();
            Release::new(&plane, &helm, &case).live();
            let name = helm.file_name().unwrap().display().to_string();
            eprintln!("{name} {case}: {:?}", from.elapsed());
        }
    }
}

/// What would go unnoticed if admission were not real.
fn the_level_is_enforced(plane: &Plane) {
    namespace(plane, "guarded");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: bad, namespace: guarded}, spec: \
               {containers: [{name: bad, image: a, securityContext: {privileged: true}}]}}";
    let said = tools::said(&plane.pipe(&["apply"], pod));
    assert!(said.contains("violates PodSecurity"), "{said}");
}

fn namespace(plane: &Plane, name: &str) {
    let text = format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: \
         {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
    );
    let output = plane.pipe(&["apply"], &text);
    assert!(output.status.success(), "{}", tools::said(&output));
}

/// The server drops unknown fields unless it is told to be strict; kubeconform asks the same
/// question of the schemas alone, hooks and custom resources included.
fn fields_are_known(plane: &Plane) {
    namespace(plane, helm::NAMESPACE);
    // A dry run makes none, and the pod of `helm test` must have one.
    for account in ["exfilwatch", "watcher"] {
        let mut command = plane.kubectl();
        tools::run(command.args(["-n", helm::NAMESPACE, "create", "serviceaccount", account]));
    }
    let [helm, _] = tools::helms().unwrap();
    let kubeconform = tools::tool("kubeconform").unwrap();
    let folder = TempDir::new().unwrap();
    let kinds = openapi::write_schemas(plane, folder.path());
    assert!(kinds > 100, "{kinds} schemas");
    let location = format!(
        "{}/{{{{if .Group}}}}{{{{.Group}}}}{{{{else}}}}v1{{{{end}}}}/{{{{.ResourceKind}}}}_{{{{.\
         ResourceAPIVersion}}}}.json",
        folder.path().display()
    );
    let strictly = ["apply", "--dry-run=server", "--validate=strict"];
    for case in helm::cases() {
        let text = helm::rendered(&helm, &case);
        let output = plane.pipe(&strictly, &text);
        assert!(output.status.success(), "{case}: {}", tools::said(&output));
        let file = folder.path().join(format!("{case}.yaml"));
        fs::write(&file, &text).unwrap();
        let mut command = Command::new(&kubeconform);
        command.args(["-strict", "-summary", "-schema-location", &location]).arg(&file);
        let said = tools::run(&mut command);
        let objects = yaml::documents(&text).len();
        let all = format!("Valid: {objects}, Invalid: 0, Errors: 0, Skipped: 0");
        assert!(said.contains(&all), "{case}, {objects} objects: {said}");
    }
    // Both would pass anything if they were not strict.
    let text = helm::rendered(&helm, "small").replace("serviceName:", "serviceNaem:");
    let said = tools::said(&plane.pipe(&strictly, &text));
    assert!(said.contains("unknown field \"spec.serviceNaem\""), "{said}");
    let file = folder.path().join("misspelt.yaml");
    fs::write(&file, &text).unwrap();
    let mut command = Command::new(&kubeconform);
    command.args(["-strict", "-schema-location", &location]).arg(&file);
    let output = command.output().unwrap();
    assert!(!output.status.success() && tools::said(&output).contains("serviceNaem"));
}

/// A release of one case in a namespace of its own.
struct Release<'p> {
    plane: &'p Plane,
    helm: &'p Path,
    case: &'p str,
    namespace: String,
}

impl<'p> Release<'p> {
    fn new(plane: &'p Plane, helm: &'p Path, case: &'p str) -> Self {
        let name = helm.file_name().unwrap().display();
        let namespace = format!("{name}-{case}");
        self::namespace(plane, &namespace);
        // Of the case whose account is made elsewhere.
        let mut command = plane.kubectl();
        tools::run(command.args(["-n", &namespace, "create", "serviceaccount", "watcher"]));
        Self { plane, helm, case, namespace }
    }

    fn live(&self) {
        let values = helm::case(self.case).display().to_string();
        let chart = tools::chart().display().to_string();
        let change = ["--wait", "--timeout", "120s", "--values", &values];
        self.well(&[&["install", "exfilwatch", &chart][..], &change[..]].concat());
        assert_eq!(self.log_level(), "info");
        let pods = self.kubectl(&["get", "pods", "-l", "exfilwatch/member=true", "-o", "name"]);
        assert!(pods.lines().count() >= 1, "{}: {pods}", self.case);
        let ready = "-o=jsonpath={.status.readyReplicas}/{.status.replicas}";
        let ready = self.kubectl(&["get", "statefulset/exfilwatch", ready]);
        let (up, all) = ready.split_once('/').unwrap();
        assert_eq!(up, all, "{}: pods are ready", self.case);
        let louder = ["--set", "log.level=debug"];
        let upgrade = ["upgrade", "exfilwatch", &chart];
        self.well(&[&upgrade[..], &change[..], &louder[..]].concat());
        assert_eq!(self.log_level(), "debug");
        self.refused_upgrade_changes_nothing(&chart, &values);
        self.well(&["rollback", "exfilwatch", "1", "--wait", "--timeout", "120s"]);
        assert_eq!(self.log_level(), "info");
        self.well(&["test", "exfilwatch", "--timeout", "60s"]);
        self.well(&["uninstall", "exfilwatch", "--wait", "--timeout", "60s"]);
        self.nothing_is_left();
    }

    fn refused_upgrade_changes_nothing(&self, chart: &str, values: &str) {
        let mut arguments = vec!["upgrade", "exfilwatch", chart, "--values", values];
        arguments.extend(["--set", "detect.replicas=99"]);
        let output = self.run(&arguments);
        let said = tools::said(&output);
        assert!(!output.status.success() && said.contains("is more than"), "{said}");
        assert_eq!(self.log_level(), "debug");
    }

    fn log_level(&self) -> String {
        let path = "-o=jsonpath={.spec.template.spec.containers[0].env[?(@.name=='EXFILWATCH_LOG')]\
                    .value}";
        self.kubectl(&["get", "statefulset/exfilwatch", path])
    }

    /// Hooks clean up after themselves; topics are kept on purpose, and the pod of the last
    /// `helm test` for its log.
    fn nothing_is_left(&self) {
        let kinds = "all,configmap,secret,networkpolicy,pdb,job,cronjob,hpa,podmonitor,\
                     servicemonitor,prometheusrule,scaledobject,triggerauthentication,kafkauser";
        let selector = "app.kubernetes.io/instance=exfilwatch,helm.sh/chart";
        let deadline = Instant::now() + Duration::from_mins(1);
        loop {
            let left = self.kubectl(&["get", kinds, "-l", selector, "-o", "name"]);
            if ["", "pod/exfilwatch-test"].contains(&left.trim()) {
                return;
            }
            assert!(Instant::now() < deadline, "{}: left: {left}", self.case);
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        tools::run(self.plane.kubectl().args(["-n", &self.namespace]).args(arguments))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.helm);
        command.env("KUBECONFIG", self.plane.kubeconfig()).args(["-n", &self.namespace]);
        command.args(arguments).output().expect("helm starts")
    }

    fn well(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        if !output.status.success() {
            let events = self.kubectl(&["get", "events,pods,jobs"]);
            let said = tools::said(&output);
            panic!("{}: {arguments:?}: {said}\n{events}", self.case);
        }
    }
}
