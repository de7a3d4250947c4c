//! `pelton top` on a pseudo-terminal: it draws, draws anew, and gives the terminal back; and elsewhere it prints once.

mod admin_support;
mod config_support;
mod pty_support;

use admin_support::{command, err, out, pelton, serve};
use config_support::{Setup, minimal};
use pty_support::Terminal;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells another rate each time it is asked.
fn server() -> (SocketAddr, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let times = Arc::clone(&asked);
    let address = serve(move |request, _| match request {
        "GET /api/v1/status" => {
            let time = times.fetch_add(1, Ordering::SeqCst) + 1;
            let status = json!({
                "application": "orders", "version": "0.1.0", "started": true, "ready": true, "workers": 1, "reasons": [],
                "counts": { "committed": 1, "rolled_back": 0, "records_in": 1, "records_out": 1, "failures": 0 },
                "rates": { "records_in": 1111.0 * time as f64, "records_out": 1.0, "failures": 0.0 },
                "inputs": [{ "topic": "in", "partitions": 1, "lag_records": 3, "lag_seconds": 0.5 }],
                "transforms": [{ "name": "redact", "generation": 7, "inputs": ["in"], "rate": 1.0, "rate_out": 1.0 }],
                "rejects": [],
            });
            (200, status.to_string())
        }
        "GET /api/v1/partitions" => {
            (200, json!({ "partitions": [{ "topic": "in", "partition": 41, "worker": 0, "lane": 1 }] }).to_string())
        }
        _ => (404, String::new()),
    });
    (address, asked)
}

fn config(address: SocketAddr) -> (Setup, String) {
    let setup = Setup::new().file("a.yaml", &minimal(&format!("admin: {{ listen: '{address}' }}\n")));
    let file = setup.path("a.yaml").display().to_string();
    (setup, file)
}

const ENTERED: &str = "\u{1b}[?1049h";
const LEFT: &str = "\u{1b}[?1049l";

#[test]
fn it_draws_refreshes_and_gives_the_terminal_back_at_a_key_and_at_a_signal() {
    let (address, asked) = server();
    let (_setup, file) = config(address);
    for end in ["q", "\u{3}", "SIGTERM"] {
        asked.store(0, Ordering::SeqCst);
        let mut terminal = Terminal::start(command(&["top", "--interval", "100ms", "-c", &file], &[]));
        let before = terminal.modes();
        for text in [ENTERED, "orders", "redact", "1111.0/s", "41", "ready"] {
            terminal.wait_for(text);
        }
        // Only what has changed is drawn anew.
        terminal.wait_for("2222");
        terminal.wait_for("3333");
        assert_eq!(terminal.modes(), (false, false), "keys are taken as they come, and not shown");
        match end {
            "SIGTERM" => {
                let pid = rustix::process::Pid::from_raw(terminal.id() as i32).expect("a process");
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
            }
            key => terminal.press(key),
        }
        terminal.wait_for(LEFT);
        terminal.wait_for("\u{1b}[?25h");
        let modes = |terminal: &Terminal| terminal.modes();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while modes(&terminal) != before {
            assert!(std::time::Instant::now() < deadline, "{end:?} leaves the terminal changed");
            std::thread::yield_now();
        }
        let (status, seen) = terminal.end();
        assert_eq!(status.code(), Some(0), "{end:?}: {seen:?}");
    }
}

#[test]
fn a_process_that_is_not_there_yet_is_waited_for() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (_setup, file) = config(free);
    let mut terminal = Terminal::start(command(&["top", "-c", &file], &[]));
    terminal.wait_for("not connected");
    terminal.press("q");
    assert_eq!(terminal.end().0.code(), Some(0));
}

#[test]
fn without_a_terminal_and_on_a_dumb_one_it_prints_once() {
    let (address, asked) = server();
    let (_setup, file) = config(address);
    let output = pelton(&["top", "-c", &file], &[("TERM", "xterm")]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).starts_with("orders: ready\n") && !out(&output).contains('\u{1b}'), "{}", out(&output));
    let output = pelton(&["top", "--once", "--output", "json", "-c", &file], &[]);
    let json: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    assert_eq!(json["transforms"][0]["generation"], 7);
    let terminal = Terminal::start_as(command(&["top", "-c", &file], &[]), "dumb");
    let (status, seen) = terminal.end();
    assert_eq!(status.code(), Some(0));
    assert!(seen.contains("orders: ready") && !seen.contains('\u{1b}'), "{seen:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3, "each asked once");
    assert_eq!(pelton(&["top", "--interval", "1ms", "-c", &file], &[]).status.code(), Some(2));
}
