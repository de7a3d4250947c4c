//! `pelton reload`, `rollback`, `promote`, `pause`, `resume`, `transforms`, `top`: asks the running process of this configuration by its admin server,
//! on the Unix socket where there is one, else on the port, with the token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::answer::{harmless, table};
use super::{Exit, Global, Output, print};
use crate::config::{Admin, Config};

/// Longer than the slowest module takes to compile.
const PATIENCE: Duration = Duration::from_secs(120);
const ANSWER_MAX: usize = 16 << 20;

/// Read configuration and modules anew. Waits until they are taken up, or refused.
#[derive(Debug, Args)]
pub(super) struct Reload {
    /// Also versions that were rolled back.
    #[arg(long)]
    retry: bool,

    #[command(flatten)]
    look: Look,
}

/// An order about one transform.
#[derive(Debug, Args)]
pub(super) struct OfTransform {
    /// Its name in the configuration.
    transform: String,

    #[command(flatten)]
    look: Look,
}

#[derive(Debug, Args)]
pub(super) struct Transforms {
    /// Only this one, with its generations and its trial.
    transform: Option<String>,

    #[command(flatten)]
    look: Look,
}

/// How everything stands, once.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// One snapshot, then the end. The status page at the admin server's `/` goes on by itself.
    #[arg(long, required = true)]
    once: bool,

    #[command(flatten)]
    look: Look,
}

#[derive(Debug, Args)]
struct Look {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn reload(global: &Global, order: &Reload) -> Exit {
    let path = if order.retry { "/api/v1/reload?retry=true" } else { "/api/v1/reload" };
    ask(global, &order.look, &Method::POST, path, outcome)
}

pub(super) fn roll_back(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/rollback", order.transform);
    ask(global, &order.look, &Method::POST, &path, outcome)
}

pub(super) fn promote(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/promote", order.transform);
    ask(global, &order.look, &Method::POST, &path, outcome)
}

pub(super) fn pause(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/pause", order.transform);
    ask(global, &order.look, &Method::POST, &path, held)
}

pub(super) fn resume(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/resume", order.transform);
    ask(global, &order.look, &Method::POST, &path, held)
}

pub(super) fn top(global: &Global, top: &Top) -> Exit {
    ask(global, &top.look, &Method::GET, "/api/v1/status", super::top::text)
}

fn held(answer: &Value) -> String {
    match answer["result"].as_str() {
        Some("applied") => "done: workers go by it within a tenth of a second\n".to_owned(),
        _ => "it is so already\n".to_owned(),
    }
}

pub(super) fn transforms(global: &Global, wanted: &Transforms) -> Exit {
    match &wanted.transform {
        Some(name) => ask(global, &wanted.look, &Method::GET, &format!("/api/v1/transforms/{name}"), one),
        None => ask(global, &wanted.look, &Method::GET, "/api/v1/transforms", all),
    }
}

fn outcome(answer: &Value) -> String {
    match (answer["result"].as_str(), answer["took_ms"].as_u64()) {
        (Some("applied"), Some(took)) => {
            format!("taken up in {took} ms; workers go by it from their next transactions on\n")
        }
        _ => "nothing has changed\n".to_owned(),
    }
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => harmless(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => harmless(&other.to_string()),
    }
}

fn all(answer: &Value) -> String {
    let rows = answer["transforms"].as_array().into_iter().flatten().map(|transform| {
        let digest = text(&transform["digest"]);
        let mut row = vec![text(&transform["name"]), text(&transform["generation"])];
        row.push(digest.get(..12).unwrap_or(&digest).to_owned());
        row.extend(["on_trial", "paused", "inputs", "outputs"].map(|key| text(&transform[key])));
        row
    });
    table(&["TRANSFORM", "GENERATION", "DIGEST", "ON TRIAL", "PAUSED", "INPUTS", "OUTPUTS"], &rows.collect::<Vec<_>>())
}

fn one(answer: &Value) -> String {
    let rows = answer["generations"].as_array().into_iter().flatten().map(|entry| {
        let digest = text(&entry["digest"]);
        let digest = digest.get(..12).unwrap_or(&digest).to_owned();
        vec![text(&entry["generation"]), digest, text(&entry["stage"]), text(&entry["cause"])]
    });
    let mut shown = table(&["GENERATION", "DIGEST", "STAGE", "CAUSE"], &rows.collect::<Vec<_>>());
    let trial = &answer["trial"];
    if !trial.is_null() {
        let rows = ["running", "candidate"].map(|who| {
            let of = &trial[who];
            let mut row = vec![who.to_owned()];
            row.extend(["records", "failures", "p99_us", "fuel_per_record"].map(|key| text(&of[key])));
            row
        });
        shown.push_str(&format!("\n{} of generation {}:\n", text(&trial["kind"]), text(&trial["generation"])));
        shown.push_str(&table(&["", "RECORDS", "FAILURES", "P99 US", "FUEL"], &rows));
        if trial["kind"] == "shadow" {
            let (differences, compared) = (text(&trial["differences"]), text(&trial["compared"]));
            shown.push_str(&format!("{differences} of {compared} records differ\n"));
            for sample in trial["samples"].as_array().into_iter().flatten() {
                let [record, running, candidate] = ["record", "running", "candidate"].map(|key| text(&sample[key]));
                shown.push_str(&format!("  {record}: {running}, {candidate}\n"));
            }
        }
    }
    shown
}

fn ask(global: &Global, look: &Look, method: &Method, path: &str, show: fn(&Value) -> String) -> Exit {
    let loaded = match global.load(false) {
        Ok(loaded) => loaded,
        Err(errors) => return global.refuse(&errors),
    };
    let place = match Place::of(&loaded.config) {
        Ok(place) => place,
        Err(text) => return refuse(Exit::Config, "admin.closed", &text, "set `admin.listen` or `admin.socket`"),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(Exit::Internal, "runtime", &error.to_string(), "raise the limits of this process"),
    };
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, place.ask(method, path)).await });
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    let (status, answer) = match answer {
        Ok(answer) => answer,
        Err(text) => {
            let text = format!("{}: {text}", place.name());
            return refuse(
                Exit::Unavailable,
                "admin.unreachable",
                &text,
                "is the process running with this configuration?",
            );
        }
    };
    let exit = if status.is_success() { Exit::Ok } else { Exit::Failed };
    if look.output == Output::Json {
        return print(&format!("{answer:#}\n")).or(exit);
    }
    if status.is_success() {
        return print(&show(&answer));
    }
    let exit = if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) { Exit::Auth } else { exit };
    let said = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    refuse(exit, &said("code"), &said("message"), &said("advice"))
}

fn refuse(exit: Exit, code: &str, message: &str, advice: &str) -> Exit {
    let [code, advice] = [code, advice].map(harmless);
    let message: Vec<String> = message.lines().map(harmless).collect();
    eprintln!("error[{code}]: {}\n  = help: {advice}", message.join("\n"));
    exit
}

/// Where the admin server is.
enum Place {
    Socket(PathBuf),
    Port(SocketAddr, Option<String>),
}

impl Place {
    fn of(config: &Config) -> Result<Self, String> {
        let Admin::On(on) = &config.admin else { return Err("the configuration says `admin: off`".to_owned()) };
        if let Some(socket) = &on.socket {
            return Ok(Place::Socket(socket.clone()));
        }
        let mut address = on.listen;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let token = on.token.as_ref().map(|token| token.reveal()).transpose().map_err(|error| error.to_string())?;
        Ok(Place::Port(address, token))
    }

    fn name(&self) -> String {
        match self {
            Place::Socket(path) => path.display().to_string(),
            Place::Port(address, _) => address.to_string(),
        }
    }

    async fn ask(&self, method: &Method, path: &str) -> Result<(StatusCode, Value), String> {
        match self {
            Place::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
                talk(stream, method, path, None).await
            }
            Place::Port(address, token) => {
                let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                talk(stream, method, path, token.as_deref()).await
            }
        }
    }
}

async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &Method,
    path: &str,
    token: Option<&str>,
) -> Result<(StatusCode, Value), String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "pelton");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
    let body = body.to_bytes();
    let plain = || serde_json::json!({ "code": "admin.answer", "message": status.to_string() });
    Ok((status, serde_json::from_slice(&body).unwrap_or_else(|_| plain())))
}
