//! A stand-in for the admin server of a running process: answers each path as told, over real sockets.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::Arc;

/// From a request (`GET /readyz`) and its headers to a status and a body.
type Answers = dyn Fn(&str, &[String]) -> (u16, String) + Send + Sync;

/// Serves until the test ends.
pub fn serve(answers: impl Fn(&str, &[String]) -> (u16, String) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let answers: Arc<Answers> = Arc::new(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || answer(stream, &*answers));
        }
    });
    address
}

fn answer(mut stream: TcpStream, answers: &Answers) {
    let lines: Vec<String> = BufReader::new(stream.try_clone().expect("a stream"))
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let Some(first) = lines.first() else { return };
    let (status, body) = answers(first.trim_end_matches(" HTTP/1.1"), &lines[1..]);
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    // Who is gone has nobody to be told.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// With nothing of this machine's own settings.
pub fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelton"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command
}

/// To its end.
pub fn pelton(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(arguments, environment).output().expect("pelton runs")
}

pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
