//! Accepts connections on the port and on the Unix socket: a limited number at a time, and none may keep us waiting. A
//! request's head must arrive within [`HEAD_MAX`] and be small; bodies are not read at all, because no request needs
//! one. The client must read the answer ([`WriteTimeout`]), and a connection is closed at a certain age, however busy
//! it is. Binds when the process starts, so that an address in use is noticed then.

use super::write_timeout::WriteTimeout;
use super::{Places, Status, Way, Who, live, routes};
use axum::Extension;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// What port and socket bear, each of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Who comes later waits.
    pub connections: usize,
    /// So long may a client take nothing of an answer.
    pub stalled: Duration,
    /// After so long a connection answers no further request. A stream of events goes on.
    pub age: Duration,
}

pub(super) const BOUNDS: Bounds =
    Bounds { connections: 128, stalled: Duration::from_secs(10), age: Duration::from_secs(60) };
/// For a request and its headers, also for the next one of a connection that is kept.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Of a request's head, in bytes.
const BUFFER_MAX: usize = 16 << 10;

/// Binds now; serves until the runtime ends.
///
/// # Errors
/// When a place cannot be bound, and which.
pub async fn serve(places: &Places, status: &Arc<Status>) -> Result<SocketAddr, (String, io::Error)> {
    serve_within(places, status, BOUNDS).await
}

pub(super) async fn serve_within(
    places: &Places,
    status: &Arc<Status>,
    bounds: Bounds,
) -> Result<SocketAddr, (String, io::Error)> {
    let named = |place: &dyn std::fmt::Display| {
        let place = place.to_string();
        move |error| (place, error)
    };
    let listener = TcpListener::bind(places.listen).await.map_err(named(&places.listen))?;
    let address = listener.local_addr().map_err(named(&places.listen))?;
    if let Some(path) = &places.socket {
        let socket = bind(path).map_err(named(&path.display()))?;
        tokio::spawn(accept(socket, routes::router(status, Way::Socket), of_this_machine, bounds));
    }
    tokio::spawn(accept(listener, routes::router(status, Way::Network), |_, address| address.to_string(), bounds));
    tokio::spawn(live::tick(Arc::clone(status)));
    Ok(address)
}

/// As the kernel tells it, who cannot be lied to by the peer.
fn of_this_machine(stream: &UnixStream, _: &tokio::net::unix::SocketAddr) -> String {
    match stream.peer_cred() {
        Ok(peer) => format!("uid {}, pid {}", peer.uid(), peer.pid().unwrap_or_default()),
        Err(_) => "the socket".to_owned(),
    }
}

async fn accept<L: Listener>(
    mut listener: L,
    router: axum::Router,
    who: fn(&L::Io, &L::Addr) -> String,
    bounds: Bounds,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (stream, address) = listener.accept().await;
        let who = Who(who(&stream, &address).into());
        let service = TowerToHyperService::new(router.clone().layer(Extension(who)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_buf_size(BUFFER_MAX)
            .serve_connection(TokioIo::new(WriteTimeout::new(stream, bounds.stalled)), service);
        tokio::spawn(async move {
            let _place = place;
            let mut connection = pin!(connection);
            // Who is gone, or too slow, has nobody to be told.
            if tokio::time::timeout(bounds.age, connection.as_mut()).await.is_err() {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        });
    }
}

/// A socket of a process that is gone is in the way; one that answers is somebody else's.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        fs::remove_file(path)?;
    }
    // Nobody else may open it, not even before its mode is set: it is made where nobody else can look.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hidden = parent.join(format!(".pelton-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&hidden)?;
    let made = (|| {
        let listener = UnixListener::bind(hidden.join("admin"))?;
        fs::set_permissions(hidden.join("admin"), fs::Permissions::from_mode(0o600))?;
        fs::rename(hidden.join("admin"), path)?;
        Ok(listener)
    })();
    fs::remove_dir_all(&hidden)?;
    made
}
