//! The port as a scraper and a probe see it: real sockets, no client library.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use tokio::sync::oneshot;

use super::*;
use crate::metrics::Role;

struct Running {
    address: SocketAddr,
    service: Service,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

async fn start() -> Running {
    let listener = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let service = Service {
        metrics: Arc::new(Metrics::new()),
        health: Arc::new(Health::new([Role::Ingest])),
        build: BuildInfo::current(),
    };
    let (stop, stopped) = oneshot::channel();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(serve(listener, service.clone(), async { drop(stopped.await) }));
    Running { address, service, stop, served }
}

/// Status and whole text of the answer.
async fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let text = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let ask = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

#[tokio::test]
async fn readyz_says_why_until_the_last_cause_is_gone() {
    let running = start().await;
    let Running { address, service, .. } = &running;
    let health = &service.health;
    health.ready(Role::Ingest, STARTING);
    health.not_ready(Role::Ingest, "broker", "no broker at 127.0.0.1:9092:\u{1b} refused");
    let (status, text) = request(*address, "GET", "/readyz").await;
    assert_eq!(status, 503);
    let body =
        r#"{"ready":false,"reasons":["ingest: no broker at 127.0.0.1:9092:\\u{1b} refused"]}"#;
    assert!(text.contains(body), "{text}");
    assert!(request(*address, "GET", "/metrics").await.1.contains("\nexfilwatch_ready 0\n"));
    health.ready(Role::Ingest, "broker");
    let (status, text) = request(*address, "GET", "/readyz").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#"{"ready":true,"reasons":[]}"#), "{text}");
    assert!(request(*address, "GET", "/metrics").await.1.contains("\nexfilwatch_ready 1\n"));
}

#[tokio::test]
async fn startupz_says_why_until_every_role_has_started_and_never_goes_back() {
    let running = start().await;
    let Running { address, service, .. } = &running;
    service.health.not_ready(Role::Ingest, "broker", "no broker at 127.0.0.1:9092");
    service.health.ready(Role::Ingest, STARTING);
    let (status, text) = request(*address, "GET", "/startupz").await;
    assert_eq!(status, 503);
    let body = r#"{"started":false,"reasons":["ingest: no broker at 127.0.0.1:9092"]}"#;
    assert!(text.contains(body), "{text}");
    service.health.ready(Role::Ingest, "broker");
    service.health.started(Role::Ingest);
    assert_eq!(request(*address, "GET", "/startupz").await.0, 200);
    service.health.not_ready(Role::Ingest, "broker", "no broker at 127.0.0.1:9092");
    assert_eq!(request(*address, "GET", "/readyz").await.0, 503);
    let (status, text) = request(*address, "GET", "/startupz").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#"{"started":true,"reasons":[]}"#), "{text}");
}

#[tokio::test]
async fn healthz_names_the_loop_that_stopped_turning() {
    let running = start().await;
    let Running { address, service, .. } = &running;
    assert_eq!(request(*address, "GET", "/healthz").await.0, 200, "not ready is not dead");
    let heart = service.health.heartbeat("detect-3", Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let (status, text) = request(*address, "GET", "/healthz").await;
    assert_eq!(status, 503);
    assert!(text.contains(r#""alive":false"#) && text.contains(r#""loop":"detect-3""#), "{text}");
    drop(heart);
    assert_eq!(request(*address, "GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn buildinfo_names_every_version() {
    let running = start().await;
    let Running { address, service, .. } = &running;
    service.health.set_rules_revision("9b1e0c5b7f3a2d44");
    let (status, text) = request(*address, "GET", "/buildinfo").await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["rules_revision"], "9b1e0c5b7f3a2d44");
    assert!(body["librdkafka"].as_str().unwrap().starts_with("2."), "{body}");
    let (_, text) = request(*address, "GET", "/metrics").await;
    assert!(text.contains("exfilwatch_build_info{"), "{text}");
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
}

#[tokio::test]
async fn nothing_can_be_changed_and_nothing_else_is_there() {
    let running = start().await;
    let address = running.address;
    for path in ["/metrics", "/healthz", "/readyz", "/startupz", "/buildinfo"] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(request(address, method, path).await.0, 405, "{method} {path}");
        }
    }
    assert_eq!(request(address, "GET", "/").await.0, 404);
}

#[tokio::test]
async fn stop_ends_the_server_even_with_a_request_half_sent() {
    let Running { address, stop, served, .. } = start().await;
    let mut slow = TcpStream::connect(address).unwrap();
    slow.write_all(b"GET /metr").unwrap();
    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), served).await;
    ended.expect("stops at once").unwrap().unwrap();
}

#[tokio::test]
async fn port_in_use_is_said_with_its_key_and_a_way_out() {
    let running = start().await;
    let address = running.address;
    let message = bind(address).await.unwrap_err().to_string();
    for part in [address.to_string().as_str(), "http.listen", "in use", "another port"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}
