//! The one port: `/metrics`, `/healthz`, `/readyz`, `/startupz`, `/buildinfo`. Read-only, GET only.
//!
//! Never here: a way to change anything, and a name of a principal.

pub mod health;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    alert::text::{SENTENCE_MAX, shown},
    metrics::Metrics,
};

pub use health::{Health, Heartbeat, STARTING, Stalled};

/// What the port shows.
#[derive(Clone, Debug)]
pub struct Service {
    /// Answers `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Answers the probes.
    pub health: Arc<Health>,
    /// Answers `/buildinfo`.
    pub build: BuildInfo,
}

/// What is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Of the package.
    pub version: &'static str,
    /// Of the sources, where the build knew it.
    pub revision: &'static str,
    /// Of the Kafka client.
    pub librdkafka: String,
}

impl BuildInfo {
    /// This binary. The build sets `EXFILWATCH_REVISION` to name the revision of its sources.
    #[must_use]
    pub fn current() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: option_env!("EXFILWATCH_REVISION").unwrap_or("unknown"),
            librdkafka: rdkafka::util::get_rdkafka_version().1,
        }
    }
}

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (http.listen): {source}; {hint}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
    hint: &'static str,
}

/// Opens the port; port 0 takes a free one, which [`TcpListener::local_addr`] tells.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let hint = |error: &io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => "another process has it: stop that or choose another port",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has that address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one",
        _ => "choose another address",
    };
    TcpListener::bind(address).await.map_err(|source| BindError {
        address,
        hint: hint(&source),
        source,
    })
}

/// Answers on `listener` until `stop` resolves; requests still open then are dropped.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let BuildInfo { version, revision, librdkafka } = &service.build;
    let build = &service.metrics.build_info;
    build.with_label_values(&[version, revision, librdkafka.as_str()]).set(1.0);
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/buildinfo", get(buildinfo))
        .with_state(service);
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served,
        () = stop => Ok(()),
    }
}

async fn metrics(State(service): State<Service>) -> Response {
    let ready = service.health.reasons().is_empty();
    service.metrics.ready.set(if ready { 1.0 } else { 0.0 });
    let format = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    (format, service.metrics.render()).into_response()
}

async fn healthz(State(service): State<Service>) -> Response {
    let stalled = service.health.stalled();
    let shown_loop = |one: &Stalled| {
        json!({
            "loop": one.name,
            "seconds_since_last_turn": one.age.as_secs(),
            "seconds_allowed": one.max_age.as_secs(),
        })
    };
    let body = json!({
        "alive": stalled.is_empty(),
        "stalled": stalled.iter().map(shown_loop).collect::<Vec<_>>(),
    });
    answer(stalled.is_empty(), &body)
}

async fn readyz(State(service): State<Service>) -> Response {
    let reasons = in_words(&service.health.reasons());
    answer(reasons.is_empty(), &json!({"ready": reasons.is_empty(), "reasons": reasons}))
}

async fn startupz(State(service): State<Service>) -> Response {
    let reasons = in_words(&service.health.unstarted());
    answer(reasons.is_empty(), &json!({"started": reasons.is_empty(), "reasons": reasons}))
}

/// The words may come from a broker.
fn in_words(reasons: &[String]) -> Vec<String> {
    reasons.iter().map(|reason| shown(reason, SENTENCE_MAX)).collect()
}

async fn buildinfo(State(service): State<Service>) -> Response {
    let BuildInfo { version, revision, librdkafka } = &service.build;
    let body = json!({
        "version": version,
        "revision": revision,
        "librdkafka": librdkafka,
        "rules_revision": service.health.rules_revision(),
    });
    answer(true, &body)
}

fn answer(well: bool, body: &Value) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}

#[cfg(test)]
mod tests;
