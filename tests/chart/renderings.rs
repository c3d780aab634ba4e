//! What the cases render to, reviewed as text, and what must hold of it whatever the values are.

use std::fs;

use serde_json::Value;

use crate::{helm, tools, yaml};

#[test]
fn cases_render_as_reviewed_under_both_helms_and_twice_the_same() {
    let Some([three, four]) = tools::helms() else { return };
    let bless = std::env::var_os("EXFILWATCH_BLESS").is_some();
    let mut faults = Vec::new();
    for case in helm::cases() {
        let text = helm::rendered(&three, &case);
        assert!(text == helm::rendered(&three, &case), "{case} renders twice the same");
        // It leaves other empty lines.
        let other = yaml::documents(&helm::rendered(&four, &case));
        assert!(yaml::documents(&text) == other, "{case} renders the same under Helm 4");
        let path = format!("tests/chart/golden/{case}.yaml");
        // Dashboards are reviewed as what they are, not once more in each rendering.
        let text = without_dashboards(&text);
        if bless {
            fs::write(tools::top().join(&path), &text).unwrap();
        }
        if tools::read(&path) != text {
            faults.push(path);
        }
    }
    let how = "run EXFILWATCH_BLESS=1 cargo test --test chart renderings, and read the difference";
    assert!(faults.is_empty(), "not as reviewed: {faults:?}; {how}");
}

fn without_dashboards(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines() {
        if inside && (line.starts_with("    ") || line.is_empty()) {
            continue;
        }
        inside = line.starts_with("  exfilwatch-") && line.ends_with(".json: |");
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Every object of every case.
fn objects() -> Option<Vec<(String, Vec<Value>)>> {
    let [helm, _] = tools::helms()?;
    let render = |case: String| {
        let objects = yaml::documents(&helm::rendered(&helm, &case));
        (case, objects)
    };
    Some(helm::cases().into_iter().map(render).collect())
}

/// The pod specification in an object, if it has one.
fn pod(object: &Value) -> Option<&Value> {
    let spec = &object["spec"];
    match object["kind"].as_str()? {
        "Pod" => Some(spec),
        "StatefulSet" | "Deployment" | "Job" => Some(&spec["template"]["spec"]),
        "CronJob" => Some(&spec["jobTemplate"]["spec"]["template"]["spec"]),
        _ => None,
    }
}

#[test]
fn every_object_has_the_usual_labels_and_the_namespace() {
    let Some(cases) = objects() else { return };
    for (case, objects) in cases {
        for object in objects.iter().filter(|it| it["metadata"]["annotations"]["extra"].is_null()) {
            let name = format!("{case}: {} {}", object["kind"], object["metadata"]["name"]);
            for label in ["name", "instance", "component", "version", "part-of", "managed-by"] {
                let label = format!("app.kubernetes.io/{label}");
                assert!(object["metadata"]["labels"][&label].is_string(), "{name} has no {label}");
            }
            assert!(object["metadata"]["namespace"].is_string(), "{name} has no namespace");
        }
    }
}

#[test]
fn every_pod_is_restricted_and_gets_no_token_of_the_api() {
    let Some(cases) = objects() else { return };
    let mut pods = 0;
    for (case, objects) in cases {
        for object in &objects {
            let Some(pod) = pod(object) else { continue };
            pods += 1;
            let name = format!("{case}: {} {}", object["kind"], object["metadata"]["name"]);
            assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(pod["securityContext"]["runAsUser"], 10001, "{name}");
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            for container in pod["containers"].as_array().unwrap() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
                assert!(container.get("command").is_none(), "{name}: the image's entry point");
                for mount in container["volumeMounts"].as_array().unwrap() {
                    assert!(mount.get("subPath").is_none(), "{name}: subPath never follows");
                    assert_eq!(mount["readOnly"], true, "{name}: {mount}");
                }
            }
        }
    }
    assert!(pods > 10, "{pods} pods were looked at");
}

#[test]
fn nothing_secret_is_in_arguments_environment_or_configuration() {
    let Some([helm, _]) = tools::helms() else { return };
    let objects = yaml::documents(&helm::rendered(&helm, "secure"));
    for object in &objects {
        assert_ne!(object["kind"], "Secret", "the chart makes no Secret");
        let Some(pod) = pod(object) else { continue };
        for container in pod["containers"].as_array().unwrap() {
            assert!(container.get("envFrom").is_none());
            for variable in container["env"].as_array().unwrap() {
                let from = &variable["valueFrom"];
                assert!(from.get("secretKeyRef").is_none(), "{variable}");
            }
        }
    }
    let config = helm::object(&objects, "ConfigMap", "exfilwatch");
    let config = yaml::document(config["data"]["exfilwatch.yaml"].as_str().unwrap());
    let kafka = &config["kafka"];
    assert!(kafka["properties"].get("sasl.password").is_none());
    let file = &kafka["properties_from_files"]["sasl.password"];
    assert_eq!(file, "/etc/exfilwatch/secrets/sasl/password");
}

#[test]
fn ceiling_is_below_the_limit_by_the_fixed_part_and_at_most_three_quarters_of_it() {
    let Some([helm, _]) = tools::helms() else { return };
    let mib = |text: &str| text.trim_end_matches("MiB").trim_end_matches("Mi").parse::<u64>();
    for principals in [1_u64, 100_000, 10_000_000, 100_000_000] {
        let set = format!("capacity.principals={principals}");
        let output = helm::template(&helm, &[helm::case("small")], &[&set]);
        let objects = yaml::documents(&String::from_utf8(output.stdout).unwrap());
        let config = helm::object(&objects, "ConfigMap", "exfilwatch");
        let config = yaml::document(config["data"]["exfilwatch.yaml"].as_str().unwrap());
        let ceiling = mib(config["detect"]["memory_limit"].as_str().unwrap()).unwrap();
        let set = helm::object(&objects, "StatefulSet", "exfilwatch");
        let container = &set["spec"]["template"]["spec"]["containers"][0];
        let limit = mib(container["resources"]["limits"]["memory"].as_str().unwrap()).unwrap();
        // 64 MiB, three queues of the client of 64, two workers of 32 and twice 8, 16 partitions of
        // inputs of 4, a flush of 16, 16 partitions of events with 8 to read and 1 to write.
        let fixed = 64 + 3 * 64 + 2 * 48 + 16 * 4 + 16 + 16 * 9;
        assert!(ceiling + fixed <= limit && ceiling * 4 <= limit * 3, "{ceiling} of {limit}");
        // Two pods, so each may have to hold all; two rules. What a slot and its index take, and
        // the part of a ceiling that is for them: window::Budget.
        let needed = principals * 2 * 77 * 8 / 5 / 1_048_576;
        assert!(ceiling >= needed, "{ceiling} MiB for {principals} principals");
    }
}

/// Else it would fire in every interval.
#[test]
fn a_checkpoint_is_old_only_after_three_intervals() {
    let Some([helm, _]) = tools::helms() else { return };
    for (interval, seconds) in [("10s", 300), ("10m", 1800)] {
        let set = format!("config.detect={{\"checkpoint_interval\":\"{interval}\"}}");
        let sets = [&*set, "dashboards.enabled=false"];
        let output = helm::template(&helm, &[helm::case("operators")], &sets);
        let text = String::from_utf8(output.stdout).unwrap();
        let age = text.split("exfilwatch_checkpoint_age_seconds{").nth(1).unwrap();
        // Long lines may be folded.
        let words: Vec<&str> = age.split_once(')').unwrap().1.split_whitespace().collect();
        assert_eq!(words[..2], [">", &seconds.to_string()], "{interval}");
    }
}

/// librdkafka refuses to start otherwise.
#[test]
fn a_session_is_never_longer_than_the_time_between_two_polls_may_be() {
    let Some([helm, _]) = tools::helms() else { return };
    for (session, polls) in [(300, None), (1800, Some(1_800_000))] {
        let set = format!("sessionTimeoutSeconds={session}");
        let output = helm::template(&helm, &[helm::case("small")], &[&set]);
        let objects = yaml::documents(&String::from_utf8(output.stdout).unwrap());
        let config = helm::object(&objects, "ConfigMap", "exfilwatch");
        let config = yaml::document(config["data"]["exfilwatch.yaml"].as_str().unwrap());
        let properties = &config["kafka"]["properties"];
        assert_eq!(properties["session.timeout.ms"], session * 1000);
        assert_eq!(properties.get("max.poll.interval.ms").and_then(Value::as_i64), polls);
    }
}

/// A sum of bytes overflows a small counter soon, so all its keys are promoted.
#[test]
fn a_rule_that_sums_bytes_gets_room_for_a_fine_ring_of_each_key() {
    let Some([helm, _]) = tools::helms() else { return };
    let rules = |measure: &str| {
        format!(
            "rules=[{{\"id\":\"r\",\"measure\":\"{measure}\",\
             \"limits\":[{{\"window\":\"1h\",\"above\":1000}}]}}]"
        )
    };
    let ceiling = |measure: &str| {
        let sets = [&*rules(measure), "capacity.principals=1000000"];
        let output = helm::template(&helm, &[helm::case("small")], &sets);
        let objects = yaml::documents(&String::from_utf8(output.stdout).unwrap());
        let config = helm::object(&objects, "ConfigMap", "exfilwatch");
        let config = yaml::document(config["data"]["exfilwatch.yaml"].as_str().unwrap());
        let text = config["detect"]["memory_limit"].as_str().unwrap().to_owned();
        text.trim_end_matches("MiB").parse::<u64>().unwrap()
    };
    let rings = 1_000_000 * 1000 / 1_048_576;
    assert!(ceiling("bytes") / 4 >= rings, "a quarter of the ceiling is for them");
    assert!(ceiling("rows") / 4 < rings);
}

/// Ingest checks their signature, detect has the rule for them.
#[test]
fn both_roles_have_the_key_of_canaries() {
    let Some([helm, _]) = tools::helms() else { return };
    let sets = [r#"canary.existingSecret="key""#, r#"config.inputs=[{"topic":"query-events"}]"#];
    let output = helm::template(&helm, &[helm::case("split")], &sets);
    let objects = yaml::documents(&String::from_utf8(output.stdout).unwrap());
    for name in ["exfilwatch", "exfilwatch-ingest"] {
        let config = helm::object(&objects, "ConfigMap", name);
        let config = yaml::document(config["data"]["exfilwatch.yaml"].as_str().unwrap());
        assert_eq!(config["canary"]["key_file"], "/etc/exfilwatch/secrets/canary/key", "{name}");
    }
}

/// Who sends none by a schedule misses none.
#[test]
fn an_alert_about_canaries_is_there_only_where_they_are_sent_on_a_schedule() {
    let Some([helm, _]) = tools::helms() else { return };
    for scheduled in [false, true] {
        let sets =
            [r#"canary.existingSecret="key""#, &format!("canary.cronJob.enabled={scheduled}")];
        let output = helm::template(&helm, &[helm::case("operators")], &sets);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains("alert: ExfilwatchCanaryFailed"), scheduled);
        assert!(text.contains("alert: ExfilwatchAccountDiffers"));
    }
}

/// By a certificate alone, and where any system trusts the broker's, with nothing.
#[test]
fn keda_asks_by_tls_as_members_do_where_there_is_no_login() {
    let Some([helm, _]) = tools::helms() else { return };
    let parameters = |secrets: &str| {
        let sasl = r#"credentials.sasl={"mechanism":"","existingSecret":""}"#;
        let tls = format!("credentials.tls={{\"enabled\":true{secrets}}}");
        let output = helm::template(&helm, &[helm::case("operators")], &[sasl, &tls]);
        let objects = yaml::documents(&String::from_utf8(output.stdout).unwrap());
        let trigger = &helm::object(&objects, "ScaledObject", "exfilwatch-detect")["spec"];
        let trigger = &trigger["triggers"][0];
        let metadata = &trigger["metadata"];
        assert_eq!((&metadata["tls"], &metadata["sasl"]), (&"enable".into(), &Value::Null));
        let name = trigger["authenticationRef"]["name"].as_str()?;
        let given = helm::object(&objects, "TriggerAuthentication", name);
        let given = given["spec"]["secretTargetRef"].as_array().unwrap().iter();
        Some(given.map(|it| it["parameter"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(parameters(r#","caSecret":"""#), None);
    let all = parameters(r#","caSecret":"ca","clientSecret":"client""#);
    assert_eq!(all.unwrap(), ["ca", "cert", "key"]);
}
