//! The server over real sockets, with nothing behind it but counters.

use super::server::{BOUNDS, Bounds, serve_within};
use super::snapshot::{Input, Rejected, Snapshot, Transform};
use super::*;
use crate::dataplane::breaker::{Allowance, Breaker, Budget, Then};
use crate::dataplane::counters::{Counters, WorkerStatus};
use crate::dataplane::desired::Desired;
use crate::dataplane::plan::Plan;
use pelton_sandbox::{Ceiling, Engine, EngineConfig};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

async fn ask(address: SocketAddr, path: &str) -> String {
    talk(tokio::net::TcpStream::connect(address).await.unwrap(), &format!("GET {path}"), "").await
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, what: &str, headers: &str) -> String {
    let request = format!("{what} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn control() -> Control {
    Control { generations: Arc::default(), triggers: None, config: Arc::default() }
}

fn places(socket: Option<&Path>) -> Places {
    Places { listen: "127.0.0.1:0".parse().unwrap(), socket: socket.map(Path::to_owned) }
}

fn running(worker: &Arc<Counters>, plan: Plan) -> Arc<Running> {
    let engine = Engine::new(EngineConfig {
        cache_dir: None,
        cache_bytes: 0,
        ceiling: Ceiling { memory: 16 << 20, instances: 1 },
        compiler: None,
        runtime: tokio::runtime::Handle::current(),
    });
    Arc::new(Running {
        workers: vec![Arc::clone(worker)],
        lanes: 2,
        desired: Arc::new(Desired::new(Arc::new(plan))),
        engine: engine.unwrap(),
        reloads: Arc::default(),
        partition_metrics: false,
        orders: Arc::default(),
        exports: Default::default(),
    })
}

#[tokio::test]
async fn orders_need_the_token_or_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin");
    let status = |token: Option<&str>| Arc::new(Status::new(token.map(str::to_owned)));
    let (shut, opened) = (status(None), status(Some("hidden")));
    let closed = serve(&places(None), &shut).await.unwrap();
    let open = serve(&places(Some(&socket)), &opened).await.unwrap();
    let post = async |address: SocketAddr, headers: &str| {
        talk(tokio::net::TcpStream::connect(address).await.unwrap(), "POST /api/v1/reload", headers).await
    };
    // Nobody carries orders out here, so 503 is as far as an order gets.
    let cases = [
        (closed, "", "403"),
        (closed, "authorization: Bearer \r\n", "403"),
        (open, "", "401"),
        (open, "authorization: Bearer hidde\r\n", "401"),
        (open, "authorization: Bearer hidden2\r\n", "401"),
        (open, "authorization: Basic hidden\r\n", "401"),
        (open, "authorization: Bearer hidden\r\n", "503"),
    ];
    for (address, headers, expected) in cases {
        let answer = post(address, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{headers}: {answer}");
        assert!(!answer.contains("hidden"), "{answer}");
    }
    let by_socket = async |what: &str| talk(tokio::net::UnixStream::connect(&socket).await.unwrap(), what, "").await;
    assert!(by_socket("POST /api/v1/reload").await.starts_with("HTTP/1.1 503"));
    assert!(by_socket("POST /api/v1/transforms/x/rollback").await.starts_with("HTTP/1.1 503"));
    assert!(by_socket("GET /api/v1/transforms").await.starts_with("HTTP/1.1 503"), "nothing has started");
    for status in [&shut, &opened] {
        status.started(running(&Arc::default(), Plan::empty()), control());
    }
    assert!(by_socket("GET /api/v1/transforms/x").await.starts_with("HTTP/1.1 404"));
    assert!(ask(closed, "/api/v1/transforms").await.ends_with("{\"transforms\":[]}"), "reading is open");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Its place is taken, and taken over once it is gone.
    let (place, error) = serve(&places(Some(&socket)), &status(None)).await.unwrap_err();
    assert!(place.ends_with("admin") && error.kind() == io::ErrorKind::AddrInUse, "{place}: {error}");
    let stale = dir.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    serve(&places(Some(&stale)), &status(None)).await.unwrap();
}

#[tokio::test]
async fn alive_from_the_first_then_started_then_ready() {
    let status = Arc::new(Status::new(None));
    let address = serve(&places(None), &status).await.unwrap();
    assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
    for path in ["/startupz", "/readyz"] {
        let answer = ask(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("modules are compiled"), "{answer}");
    }
    assert!(ask(address, "/metrics").await.contains("\npelton_ready 0\n"));
    assert!(ask(address, "/version").await.contains(env!("CARGO_PKG_VERSION")));

    let worker = Arc::new(Counters::default());
    let breaker = Arc::new(Breaker::new(Some(Budget { failures: 1, within: Duration::MAX, then: Then::Pause })));
    let allowance = Allowance {
        name: "t".into(),
        topics: Vec::new(),
        breaker: Arc::clone(&breaker),
        by_hand: Arc::default(),
        share: 1000,
    };
    status.started(running(&worker, Plan { allowances: vec![allowance], ..Plan::empty() }), control());
    assert!(ask(address, "/startupz").await.starts_with("HTTP/1.1 200"), "whatever the brokers do");
    let answer = ask(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("not in its group"), "{answer}");
    worker.status.set(WorkerStatus { member: true, reachable: true, ready_lanes: 1 });
    assert!(ask(address, "/readyz").await.contains("1 of 2 lanes"));
    worker.status.set(WorkerStatus { member: true, reachable: true, ready_lanes: 2 });
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(ask(address, "/metrics").await.contains("\npelton_ready 1\n"));
    worker.status.set(WorkerStatus { member: true, reachable: false, ready_lanes: 2 });
    let answer = ask(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no broker"), "{answer}");
    worker.status.set(WorkerStatus { member: true, reachable: true, ready_lanes: 2 });
    breaker.failed(Instant::now());
    let answer = ask(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("transform t has used up"), "{answer}");
    worker.records_in.add(7);
    let metrics = ask(address, "/metrics").await;
    assert!(metrics.contains("\npelton_ready 0\n"), "{metrics}");
    assert!(metrics.contains("\npelton_transform_paused{transform=\"t\",cause=\"budget\"} 1\n"), "{metrics}");
    assert!(metrics.contains("\npelton_records_received_total{worker=\"0\"} 7\n"), "{metrics}");
}

#[test]
fn nothing_of_the_process_is_markup_on_the_page() {
    let hostile = "<script>alert('x')</script>\"{{flow}}&";
    let mut snapshot = Snapshot::of(&Status::new(None));
    snapshot.application = hostile.to_owned();
    snapshot.reasons = vec![hostile.to_owned()];
    snapshot.inputs = vec![Input { topic: hostile.to_owned(), ..Input::default() }];
    let generation = json!({ "generation": 1, "digest": hostile, "stage": "serving", "cause": hostile });
    let reading = json!({ "records": 1, "failures": 0 });
    snapshot.transforms = vec![Transform {
        name: hostile.to_owned(),
        generation: 1,
        digest: hostile.to_owned(),
        inputs: vec![hostile.to_owned()],
        outputs: vec![hostile.to_owned()],
        dead_letters_to: Some(hostile.to_owned()),
        paused_by: Some("hand"),
        rate: 1.0,
        rate_out: 1.0,
        call_p99_ms: None,
        records: 2,
        kept: 0,
        dropped: 0,
        emitted: 2,
        failures: 3,
        dead_letters: 4,
        skipped: 5,
        previous: Value::Null,
        trial: json!({ "kind": hostile, "generation": 2, "running": reading, "candidate": reading }),
        generations: vec![generation],
    }];
    let (transform, record) = (hostile.to_owned(), format!("{hostile}/0@7"));
    snapshot.rejects = vec![Rejected { at_ms: 0, transform, record, code: "guest.trap" }];
    let html = page::html(&snapshot);
    assert!(!html.contains("<script>") && !html.contains("alert('"), "{html}");
    assert_eq!(html.matches("<script").count(), 1, "its own, which has a source");
    assert_eq!(html.matches("{{flow}}&amp;").count(), 14, "what was put in is not looked at again: {html}");
    for part in ["paused (hand)", "guest.trap", "scope=\"row\""] {
        assert!(html.contains(part), "{part}");
    }
}

#[tokio::test]
async fn the_page_is_whole_without_scripts_and_loads_nothing_from_elsewhere() {
    let status = Arc::new(Status::new(None));
    let address = serve(&places(None), &status).await.unwrap();
    let answer = ask(address, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("starting: topics"), "{answer}");
    assert!(answer.contains("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"), "{answer}");
    assert!(!answer.contains("http://") && !answer.contains("https://") && !answer.contains("style="), "{answer}");
    for path in ["/", "/status.css", "/status.js", "/readyz", "/metrics", "/api/v1/status", "/nowhere"] {
        let answer = ask(address, path).await;
        for header in ["x-content-type-options: nosniff", "referrer-policy: no-referrer", "cache-control: no-store"] {
            assert!(answer.contains(header), "{path}: {answer}");
        }
        assert_eq!(answer.matches("content-security-policy: default-src 'none'").count(), 1, "{path}: {answer}");
    }
    assert!(ask(address, "/nowhere").await.contains("\"code\":\"admin.unknown\""));
    assert!(ask(address, "/api/v1/config").await.starts_with("HTTP/1.1 503"), "nothing has started");
}

/// Reads events until there are so many.
async fn events(address: SocketAddr, count: usize) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (mut heard, mut part) = (String::new(), [0; 4096]);
    while heard.matches("event: status").count() < count && !heard.contains("HTTP/1.1 503") {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut part)).await.unwrap().unwrap();
        assert_ne!(read, 0, "it ended: {heard}");
        heard.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
    (stream, heard)
}

#[tokio::test]
async fn events_come_once_a_second_to_a_bounded_number_of_listeners() {
    let status = Arc::new(Status::new(None));
    let address = serve(&places(None), &status).await.unwrap();
    let worker: Arc<Counters> = Arc::default();
    status.started(running(&worker, Plan::empty()), control());
    worker.records_in.add(7);
    let (first, heard) = events(address, 2).await;
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");
    let data = heard.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&data["counts"]["records_in"], &data["started"]), (&json!(7), &json!(true)), "{data}");
    let mut listeners = vec![first];
    for _ in 1..live::LISTENERS_MAX {
        listeners.push(events(address, 1).await.0);
    }
    let (_, refused) = events(address, 1).await;
    assert!(refused.contains("HTTP/1.1 503") && refused.contains("admin.listeners"), "{refused}");
    // Who goes makes room, and the rest of the server has not noticed.
    assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
    listeners.pop();
    tokio::time::timeout(Duration::from_secs(20), async {
        while events(address, 1).await.1.contains("HTTP/1.1 503") {}
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_large_or_too_slow_is_not_waited_for_and_bodies_are_not_read() {
    let status = Arc::new(Status::new(Some("hidden".to_owned())));
    let address = serve(&places(None), &status).await.unwrap();
    let padding = format!("padding: {}\r\n", "x".repeat(64 << 10));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(format!("GET /livez HTTP/1.1\r\nhost: x\r\n{padding}\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    // The body never comes; the answer does.
    let body = "authorization: Bearer hidden\r\ncontent-length: 1000000000\r\n";
    let answer = talk(TcpStream::connect(address).await.unwrap(), "POST /api/v1/reload", body);
    let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), slow.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_client_that_never_reads_is_thrown_out_and_the_next_is_answered() {
    let bounds = Bounds { connections: 1, stalled: Duration::from_millis(100), ..BOUNDS };
    let address = serve_within(&places(None), &Arc::new(Status::new(None)), bounds).await.unwrap();
    let mut greedy = TcpStream::connect(address).await.unwrap();
    let requests = b"GET /api/v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64);
    let thrown_out = async { while greedy.write_all(&requests).await.is_ok() {} };
    // It came first and has the only place.
    let (thrown_out, answer) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(20), thrown_out),
        tokio::time::timeout(Duration::from_secs(20), ask(address, "/livez")),
    );
    thrown_out.expect("it still writes, or waits until it can");
    assert!(answer.expect("it still waits for a place").starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_that_asks_again_and_again_ends_at_its_age() {
    let bounds = Bounds { age: Duration::from_millis(100), ..BOUNDS };
    let address = serve_within(&places(None), &Arc::new(Status::new(None)), bounds).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let ended = async {
        let mut part = [0; 4096];
        while stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok()
            && stream.read(&mut part).await.is_ok_and(|read| read > 0)
        {}
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it is still answered");
}

#[tokio::test]
async fn a_stream_of_events_may_be_silent_for_longer_than_others_may_stall_or_live() {
    let bounds = Bounds { stalled: Duration::from_millis(50), age: Duration::from_millis(500), ..BOUNDS };
    let address = serve_within(&places(None), &Arc::new(Status::new(None)), bounds).await.unwrap();
    // A second lies between two of them; that it does not end is looked at there.
    let (_, heard) = events(address, 3).await;
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
}

#[tokio::test]
async fn a_pause_by_hand_is_told_and_is_no_reason_to_be_unready() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin");
    let status = Arc::new(Status::new(None));
    let address = serve(&places(Some(&socket)), &status).await.unwrap();
    let breaker = Arc::new(Breaker::new(Some(Budget { failures: 1, within: Duration::MAX, then: Then::Pause })));
    let (name, topics, by_hand) = ("t".into(), Vec::new(), Arc::default());
    let allowance = Allowance { name, topics, breaker: Arc::clone(&breaker), by_hand, share: 1000 };
    let worker: Arc<Counters> = Arc::default();
    worker.status.set(WorkerStatus { member: true, reachable: true, ready_lanes: 2 });
    status.started(running(&worker, Plan { allowances: vec![allowance], ..Plan::empty() }), control());
    let order = async |what: &str| {
        let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        talk(stream, &format!("POST /api/v1/transforms/{what}"), "").await
    };
    let paused = async |cause: &str, expected: u8| {
        let metrics = ask(address, "/metrics").await;
        let series = format!("\npelton_transform_paused{{transform=\"t\",cause=\"{cause}\"}} {expected}\n");
        assert!(metrics.contains(&series), "{metrics}");
    };
    assert!(order("t/pause").await.ends_with("{\"result\":\"applied\",\"took_ms\":0}"));
    assert!(order("t/pause").await.ends_with("{\"result\":\"unchanged\"}"));
    paused("hand", 1).await;
    paused("budget", 0).await;
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(order("t/resume").await.contains("applied"));
    paused("hand", 0).await;
    breaker.failed(Instant::now());
    paused("budget", 1).await;
    assert!(order("t/resume").await.contains("applied"), "it lifts a tripped breaker too");
    assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(order("nobody/pause").await.starts_with("HTTP/1.1 404"));
    assert!(order("%ff/pause").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn the_document_has_every_route_and_every_route_is_in_it() {
    let document: Value = serde_json::from_str(api::OPENAPI).unwrap();
    let written: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(|method| (path.clone(), method.to_uppercase())))
        .collect();
    let table = |routes: Vec<(&str, _)>, method: &str| {
        routes.into_iter().map(|(path, _)| (path.to_owned(), method.to_owned())).collect::<BTreeSet<_>>()
    };
    let mut served = table(routes::readings(), "GET");
    served.extend(table(routes::orders(), "POST"));
    assert_eq!(written, served);
    // The router itself: each method that is written is taken, the other one is not, and no order is without a guard.
    let address = serve(&places(None), &Arc::new(Status::new(Some("hidden".to_owned())))).await.unwrap();
    for (path, method) in &served {
        let path = path.replace("{name}", "x");
        if path.ends_with("/events") {
            continue;
        }
        for asked in ["GET", "POST"] {
            let answer = talk(TcpStream::connect(address).await.unwrap(), &format!("{asked} {path}"), "").await;
            let taken = !answer.starts_with("HTTP/1.1 405");
            assert_eq!(taken, asked == method, "{asked} {path}: {answer}");
            assert!(taken || answer.contains("allow: ") && answer.contains("admin.method"), "{answer}");
            if asked == "POST" && taken {
                assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
            }
        }
    }
}
