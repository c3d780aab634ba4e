//! SASL OAUTHBEARER with a token from a file, in TLS and without, on a real broker that checks when
//! tokens end.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    events::{Read, now_ms},
    kafka::{self, Authority, Broker, token},
    service::{Setup, said},
    steps::{SOON, all_counted, one_input, produce},
};

/// A client that got no token asks again after ten seconds, a start tries again after some more.
const RECOVERED: Duration = Duration::from_secs(40);

/// Writes a file whole, as the kubelet does.
fn put(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// A deployment that has no other way in than a token, and the file it is in.
fn setup(broker: &Broker, name: &str) -> (Setup, PathBuf) {
    let setup = Setup::new(&broker.client(), name);
    let path = setup.path("token");
    setup.servers(&broker.second_address());
    setup.property("security.protocol", "sasl_plaintext");
    setup.kafka_key("oauth_token_file", "token");
    (setup, path)
}

fn reads(from: usize, to: usize) -> Vec<Read> {
    (from..to).map(|n| Read::of(&format!("agent-{n}"), now_ms(), 1)).collect()
}

#[test]
fn in_tls_every_client_has_a_token_and_a_new_one_before_it_ends() {
    let authority = Authority::new();
    let Some(broker) = kafka::with_tokens(Some(&authority)) else { return };
    let kafka = broker.client();
    let (setup, path) = setup(&broker, "tokens");
    let trusted = setup.path("ca.crt");
    put(&trusted, &authority.certificate());
    setup.property("security.protocol", "sasl_ssl");
    setup.property("ssl.ca.location", &trusted.display().to_string());
    let topic = setup.input("json", 2);
    let lines = one_input(&topic);
    // Its last connections have a fifth of it left; below a second, Kafka takes no new token.
    let life_s = 30;
    put(&path, &token(life_s));
    let done = Arc::new(AtomicBool::new(false));
    let renewing = thread::spawn({
        let (path, done) = (path.clone(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_secs(1));
                put(&path, &token(life_s));
            }
        }
    });
    // It makes the topics, restores, joins, writes, checkpoints: every kind of client it has.
    let mut service = setup.run(&lines);
    produce(&kafka, &topic, &reads(0, 200));
    all_counted(&[&service], 200);
    // Over the end of a token, which ends connections.
    thread::sleep(Duration::from_secs(life_s.unsigned_abs() + 2));
    produce(&kafka, &topic, &reads(200, 400));
    all_counted(&[&service], 400);
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(service.stop().success());
    done.store(true, Ordering::Relaxed);
    renewing.join().unwrap();
    assert!(!service.output().contains("oauth_token_file"), "{}", service.output());
}

#[test]
fn without_a_token_it_says_so_once_and_goes_on_when_there_is_one() {
    let Some(broker) = kafka::with_tokens(None) else { return };
    let (setup, path) = setup(&broker, "no-token");
    let topic = setup.input("json", 1);
    let service = setup.start(&one_input(&topic));
    let lines = |words: &str| service.output().matches(words).count();
    service.until("a line that names the file", SOON, || lines("token cannot be read") > 0);
    thread::sleep(Duration::from_secs(12));
    assert_eq!(lines("token cannot be read"), 1, "{}", service.output());
    put(&path, &token(-1));
    service.until("a line that it has ended", RECOVERED, || lines("has ended") > 0);
    assert_ne!(service.get("/readyz").map(|(status, _)| status), Some(200));
    put(&path, &token(600));
    service.until("readiness", RECOVERED, || {
        service.get("/readyz").is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(lines("holds a token again"), 1, "{}", service.output());
    let whole = fs::read_to_string(&path).unwrap();
    assert!(!service.output().contains(whole.trim()), "a token is never shown");
    produce(&broker.client(), &topic, &reads(0, 50));
    all_counted(&[&service], 50);
}
