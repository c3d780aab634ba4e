//! A real Apache Kafka for the tests: one broker shared by all of them, private ones and clusters
//! on demand.
//!
//! `EXFILWATCH_KAFKA=host:port` uses a given broker instead of the shared one. Without Maven or
//! Java the tests that need a broker say so and pass, unless `CI` or `EXFILWATCH_REQUIRE_KAFKA=1`
//! makes that a failure.

mod authority;
mod broker;
mod client;
mod jars;
mod token;

use std::{env, fmt::Display, sync::OnceLock};

pub(crate) use authority::Authority;
pub(crate) use broker::{Broker, LOGIN, Right, free_port};
pub(crate) use client::{Client, Compression, Message, Reader, Record, Stream, send, unique};
pub(crate) use token::token;

/// A client of the broker that all tests share, or `None` after saying why there is none.
///
/// # Panics
/// There is no broker and the environment demands one.
pub(crate) fn shared() -> Option<Client> {
    // A static is never dropped: the broker's watchdog ends it with the test process.
    static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();
    if let Ok(given) = env::var("EXFILWATCH_KAFKA") {
        return Some(Client::new(&given));
    }
    available(BROKER.get_or_init(Broker::start).as_ref().map(Broker::client))
}

/// A broker of the test's own, which it may stop and start again.
///
/// # Panics
/// There is none and the environment demands one.
pub(crate) fn private() -> Option<Broker> {
    available(Broker::start())
}

/// A broker with a second port that takes unsecured tokens, with an `authority` in TLS alone:
/// [`Broker::second_address`].
///
/// # Panics
/// There is none and the environment demands one.
#[allow(dead_code, reason = "not for benches")]
pub(crate) fn with_tokens(authority: Option<&Authority>) -> Option<Broker> {
    available(Broker::with_tokens(authority))
}

/// A broker with a second port that speaks TLS and SCRAM alone: [`Broker::second_address`].
///
/// # Panics
/// There is none and the environment demands one.
#[allow(dead_code, reason = "not for benches")]
pub(crate) fn secured(authority: &Authority) -> Option<Broker> {
    available(Broker::secured(authority))
}

/// The same, where the one who logs in has no right but those of [`Broker::grant`].
///
/// # Panics
/// There is none and the environment demands one.
#[allow(dead_code, reason = "not for benches")]
pub(crate) fn authorizing(authority: &Authority) -> Option<Broker> {
    available(Broker::authorizing(authority))
}

/// A private one behind a proxy: `proxy` gets the port to listen on and that of the broker, and
/// starts it.
///
/// # Panics
/// There is none and the environment demands one.
pub(crate) fn behind(proxy: impl FnOnce(u16, u16)) -> Option<Broker> {
    available(Broker::behind(|port, broker| {
        proxy(port, broker);
        port
    }))
}

/// A cluster of three brokers of the test's own: three copies of every topic, of which two must be
/// written.
///
/// # Panics
/// There is none and the environment demands one.
pub(crate) fn cluster() -> Option<Cluster> {
    available(Broker::cluster(3)).map(Cluster)
}

/// Brokers that are one cluster.
#[derive(Debug)]
pub(crate) struct Cluster(Vec<Broker>);

impl Cluster {
    /// A client of all of them.
    pub(crate) fn client(&self) -> Client {
        let addresses: Vec<String> = self.0.iter().map(Broker::address).collect();
        Client::new(&addresses.join(",")).with_copies(3)
    }

    /// One of them.
    pub(crate) fn node(&mut self, index: usize) -> &mut Broker {
        &mut self.0[index]
    }
}

fn available<T>(broker: Result<T, impl Display>) -> Option<T> {
    match broker {
        Ok(broker) => Some(broker),
        Err(why) => {
            let demanded = env::var_os("CI").is_some_and(|value| !value.is_empty())
                || env::var("EXFILWATCH_REQUIRE_KAFKA").is_ok_and(|value| value == "1");
            assert!(!demanded, "no Kafka for the tests: {why}");
            eprintln!("SKIPPED, no Kafka for this test: {why}");
            None
        }
    }
}
