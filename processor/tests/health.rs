//! `pelton health` as an orchestrator starts it: with or without a file, beside a process that is well or not, or none.

mod admin_support;

use admin_support::{err, out, pelton, serve};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

static READY: AtomicBool = AtomicBool::new(false);

fn server() -> SocketAddr {
    serve(|request, _| match request {
        "GET /livez" => (200, r#"{"alive":true,"reasons":[]}"#.into()),
        "GET /startupz" => (503, r#"{"started":false,"reasons":["modules are compiled"]}"#.into()),
        "GET /readyz" if READY.load(Ordering::SeqCst) => (200, r#"{"ready":true,"reasons":[]}"#.into()),
        "GET /readyz" => (503, r#"{"ready":false,"reasons":["worker 0 is not in its group","a\u001b[2Jb"]}"#.into()),
        _ => (404, String::new()),
    })
}

#[test]
fn each_probe_is_an_exit_code_with_its_reasons() {
    let address = server().to_string();
    // All that is known comes from the environment: there is no file, and no application.
    let ask = |arguments: &[&str]| {
        let output = pelton(arguments, &[("PELTON__ADMIN__LISTEN", &address)]);
        (output.status.code(), out(&output), err(&output))
    };
    let well = |text: &str| (Some(0), text.to_owned(), String::new());
    assert_eq!(ask(&["health", "--live"]), well("alive\n"));
    let (exit, text, _) = ask(&["health", "--startup"]);
    assert_eq!((exit, text.as_str()), (Some(1), "not started\n  modules are compiled\n"));
    let (exit, text, _) = ask(&["health"]);
    assert_eq!((exit, text.as_str()), (Some(1), "not ready\n  worker 0 is not in its group\n  a\\u{1b}[2Jb\n"));
    let (exit, text, _) = ask(&["health", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((exit, &json["reasons"][0]), (Some(1), &"worker 0 is not in its group".into()));
    READY.store(true, Ordering::SeqCst);
    assert_eq!(ask(&["health"]), well("ready\n"));
    assert_eq!(ask(&["health", "--live", "--startup"]).0, Some(2), "one question at a time");
}

#[test]
fn only_what_is_said_of_the_admin_server_counts() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).expect("a file");
        dir.path().join(name).display().to_string()
    };
    let address = server();
    // The running process has refused this file and goes on. The token is of no use here, and not there.
    let wrong = format!(
        "application: 'not a name'\nworkers: many\nadmin: {{ listen: '0.0.0.0:{}', token: {{ env: NOT_SET }} }}\n",
        address.port()
    );
    let output = pelton(&["health", "--live", "-c", &file("wrong.yaml", &wrong)], &[]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "alive\n"), "{}", err(&output));
    let cases = [
        ("off.yaml", "admin: off\n", "admin.closed"),
        ("bad.yaml", "admin: { listen: nowhere }\n", "config.value"),
        ("broken.yaml", "admin: {\n", "config.syntax"),
    ];
    for (name, text, code) in cases {
        let output = pelton(&["health", "-c", &file(name, text)], &[]);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
        assert!(err(&output).contains(&format!("error[{code}]")), "{name}: {}", err(&output));
    }
    let output = pelton(&["health", "-c", &dir.path().join("none.yaml").display().to_string()], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
}

#[test]
fn nobody_and_somebody_else_are_not_well() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let output = pelton(&["health"], &[("PELTON__ADMIN__LISTEN", &free.to_string())]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("error[admin.unreachable]"), "{}", err(&output));
    let other = serve(|_, _| (200, "<html>hello</html>".into()));
    let output = pelton(&["health"], &[("PELTON__ADMIN__LISTEN", &other.to_string())]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), "not ready\n"));
}
