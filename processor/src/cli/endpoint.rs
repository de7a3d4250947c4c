//! The admin server of a running process, as seen from the command line: the Unix socket if there is one, else the port
//! with the token. One connection per question, because nobody asks twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Exit;
use super::answer::harmless;
use crate::config::Admin;

const ANSWER_MAX: usize = 16 << 20;

/// Where the admin server is.
#[derive(Clone)]
pub(super) enum Endpoint {
    Socket(PathBuf),
    Port(SocketAddr, Option<String>),
}

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("the configuration says `admin: off`")]
    Closed,
    #[error("{0}")]
    Token(String),
    #[error("{endpoint}: {why}")]
    Unreachable { endpoint: String, why: String },
    #[error("{0}")]
    Runtime(std::io::Error),
}

impl Unanswered {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Closed => "admin.closed",
            Self::Token(_) => "config.environment",
            Self::Unreachable { .. } => "admin.unreachable",
            Self::Runtime(_) => "runtime",
        }
    }

    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Closed => "set `admin.listen` or `admin.socket`",
            Self::Token(_) => "provide the value where it is said to be",
            Self::Unreachable { .. } => "is the process running with this configuration?",
            Self::Runtime(_) => "raise the limits of this process",
        }
    }

    /// Prints it on stderr.
    pub(super) fn refuse(&self) -> Exit {
        let exit = match self {
            Self::Closed | Self::Token(_) => Exit::Config,
            Self::Unreachable { .. } => Exit::Unavailable,
            Self::Runtime(_) => Exit::Internal,
        };
        refuse(exit, self.code(), &self.to_string(), self.advice())
    }
}

/// An error on stderr, in the usual format.
pub(super) fn refuse(exit: Exit, code: &str, message: &str, advice: &str) -> Exit {
    let [code, advice] = [code, advice].map(harmless);
    let message: Vec<String> = message.lines().map(harmless).collect();
    eprintln!("error[{code}]: {}\n  = help: {advice}", message.join("\n"));
    exit
}

impl Endpoint {
    /// With the token, for orders.
    pub(super) fn of(admin: &Admin) -> Result<Self, Unanswered> {
        let mut endpoint = Self::to_read(admin)?;
        if let (Endpoint::Port(_, token), Admin::On(on)) = (&mut endpoint, admin) {
            let revealed = on.token.as_ref().map(|token| token.reveal()).transpose();
            *token = revealed.map_err(|error| Unanswered::Token(error.to_string()))?;
        }
        Ok(endpoint)
    }

    /// Without the token, which need not even exist.
    pub(super) fn to_read(admin: &Admin) -> Result<Self, Unanswered> {
        let Admin::On(on) = admin else { return Err(Unanswered::Closed) };
        if let Some(socket) = &on.socket {
            return Ok(Endpoint::Socket(socket.clone()));
        }
        let mut address = on.listen;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Ok(Endpoint::Port(address, None))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Endpoint::Socket(path) => path.display().to_string(),
            Endpoint::Port(address, _) => address.to_string(),
        }
    }

    /// One question with nothing else to do meanwhile. An answer that is not JSON is reported by its status.
    pub(super) fn ask_now(
        &self,
        method: &Method,
        path: &str,
        patience: Duration,
    ) -> Result<(StatusCode, Value), Unanswered> {
        runtime()?.block_on(self.ask(method, path, patience))
    }

    pub(super) async fn ask(
        &self,
        method: &Method,
        path: &str,
        patience: Duration,
    ) -> Result<(StatusCode, Value), Unanswered> {
        let asked = async {
            let answer = self.open(method, path).await?;
            let status = answer.status();
            let body =
                Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(|error| self.lost(error))?;
            let plain = || serde_json::json!({ "code": "admin.answer", "message": status.to_string() });
            Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or_else(|_| plain())))
        };
        let late = || Err(self.lost(format!("no answer within {} s", patience.as_secs())));
        tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| late())
    }

    /// An answer whose body is still to come.
    pub(super) async fn open(&self, method: &Method, path: &str) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Endpoint::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| self.lost(error))?;
                self.talk(stream, method, path, None).await
            }
            Endpoint::Port(address, token) => {
                let stream = TcpStream::connect(address).await.map_err(|error| self.lost(error))?;
                self.talk(stream, method, path, token.as_deref()).await
            }
        }
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        method: &Method,
        path: &str,
        token: Option<&str>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.lost(error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "pelton");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.lost(error))?;
        sender.send_request(request).await.map_err(|error| self.lost(error))
    }

    pub(super) fn lost(&self, why: impl std::fmt::Display) -> Unanswered {
        Unanswered::Unreachable { endpoint: self.name(), why: why.to_string() }
    }
}

/// For the questions of one command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Unanswered> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Unanswered::Runtime)
}
