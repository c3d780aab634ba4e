//! TLS with certificates of both sides and SCRAM in it, on a real broker that takes nothing else.

use std::{fs, process::Command};

use serde_json::json;

use crate::{
    events::{Read, now_ms},
    kafka::{self, Authority, Broker, LOGIN},
    service::{Setup, exfilwatch, said},
    steps::{all_counted, one_input, produce, the_insider_is_found},
};

const KEY_PASSWORD: &str = "opens-the-key";

/// A deployment that has the certificate, the key and the login that the broker asks for, but is
/// not told whom to trust.
pub(crate) fn setup(broker: &Broker, authority: &Authority, name: &str) -> Setup {
    let setup = Setup::new(&broker.client(), name);
    setup.servers(&broker.second_address());
    setup.property("security.protocol", "sasl_ssl");
    setup.property("sasl.mechanism", "SCRAM-SHA-512");
    let file = |name: &str, text: &str| {
        fs::write(setup.path(name), text).unwrap();
        setup.path(name).display().to_string()
    };
    let client = authority.issue("exfilwatch");
    setup.property("ssl.certificate.location", &file("tls.crt", &client.certificate));
    setup.property("ssl.key.location", &file("tls.key", &client.key_under(KEY_PASSWORD)));
    file("ca.crt", &authority.certificate());
    let secrets = json!({
        "ssl.key.password": file("key-password", KEY_PASSWORD),
        "sasl.username": file("username", LOGIN.0),
        "sasl.password": file("password", LOGIN.1),
    });
    setup.kafka_key("properties_from_files", &secrets.to_string());
    setup
}

/// `check --online` of what it reads.
fn check(setup: &Setup, topic: &str) -> Command {
    let config = setup.config(kafka::free_port(), &one_input(topic));
    let mut command = exfilwatch();
    command.args(["check", "--online=inputs", "--timeout=10s", "--config"]).arg(config);
    command
}

pub(crate) fn trusted(setup: &Setup) -> String {
    setup.path("ca.crt").display().to_string()
}

#[test]
fn behind_tls_with_certificates_of_both_sides_and_scram_everything_is_counted() {
    let authority = Authority::new();
    let Some(broker) = kafka::secured(&authority) else { return };
    let (kafka, setup) = (broker.client(), setup(&broker, &authority, "tls"));
    setup.property("ssl.ca.location", &trusted(&setup));
    let topic = setup.input("json", 2);
    let lines = one_input(&topic);
    // It makes the topics, restores, joins, writes, checkpoints: every kind of client it has.
    let mut service = setup.run(&lines);
    let reads: Vec<Read> = (0..501).map(|_| Read::of("insider", now_ms(), 1)).collect();
    produce(&kafka, &topic, &reads);
    all_counted(&[&service], 501);
    the_insider_is_found(&setup);
    let output = setup.command(&["check", "--online"], &lines);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(service.stop().success());
    for secret in [KEY_PASSWORD, LOGIN.1] {
        assert!(!service.output().contains(secret), "a secret is never shown");
    }
}

#[test]
fn where_no_authority_is_named_the_ones_of_the_system_count() {
    let authority = Authority::new();
    let Some(broker) = kafka::secured(&authority) else { return };
    let setup = setup(&broker, &authority, "tls-system");
    let topic = setup.input("json", 1);
    // As the system would have it, had its owner installed this authority.
    let output = check(&setup, &topic).env("SSL_CERT_FILE", trusted(&setup)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // Nobody has, so nobody is trusted, least of all everybody.
    let output = check(&setup, &topic).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("certificate verify failed"), "{}", said(&output));
}

#[test]
fn who_has_a_certificate_of_another_authority_is_told_so() {
    let authority = Authority::new();
    let Some(broker) = kafka::secured(&authority) else { return };
    let setup = setup(&broker, &authority, "tls-nobody");
    setup.property("ssl.ca.location", &trusted(&setup));
    // Of another authority than the broker's.
    let stranger = Authority::new().issue("exfilwatch");
    fs::write(setup.path("tls.crt"), &stranger.certificate).unwrap();
    fs::write(setup.path("tls.key"), stranger.key_under(KEY_PASSWORD)).unwrap();
    let topic = setup.input("json", 1);
    let output = check(&setup, &topic).output().unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("ertificate"), "{}", said(&output));
}
