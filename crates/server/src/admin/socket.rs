//! The admin socket: HTTP and JSON over a Unix socket in the data folder, for the user who runs the server.
//!
//! The folder's rights keep others out; the peer's user id is checked as well. Whoever may open it is the operator.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use super::{Refusal, Request};

/// The name of the socket in the data folder.
pub const NAME: &str = "admin.sock";
/// Bytes of a request or an answer at most.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;
/// Time for one exchange; copying a large image or database fits in.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(3_600);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Done(Value),
    Refused(Refusal),
}

/// A path to the socket that is short whatever the folder's own is: a socket's name has at most 108 bytes.
fn short_path(folder: &Path) -> io::Result<(File, PathBuf)> {
    let folder = File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd()));
    Ok((folder, path))
}

/// Binds the socket. The caller holds the folder's lock, so a socket that is there is a dead server's.
pub fn bind(folder: &Path) -> io::Result<UnixListener> {
    let (_folder, path) = short_path(folder)?;
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket at a clean end; the caller still holds the folder's lock. One that stays is in nobody's way.
pub fn remove(folder: &Path) {
    _ = std::fs::remove_file(folder.join(NAME));
}

/// Answers requests until `stop` turns true; those under way are finished.
pub async fn serve<F, A>(listener: UnixListener, mut stop: watch::Receiver<bool>, act: F)
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Value, Refusal>> + Send + 'static,
{
    let act = Arc::new(act);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: connections that end give some back.
            _ = connections.join_next().await;
            tokio::task::yield_now().await;
            continue;
        };
        if !of_operator(&stream) {
            tracing::warn!("a connection of another user to the admin socket was refused");
            continue;
        }
        // Never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        let act = Arc::clone(&act);
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                let act = Arc::clone(&act);
                async move { Ok::<_, Infallible>(answer(request, act.as_ref()).await) }
            });
            // One exchange a connection, so that a stop waits for work only.
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "a connection to the admin socket ended early");
            }
            drop(slot);
        });
    }
    while connections.join_next().await.is_some() {}
}

fn of_operator(stream: &UnixStream) -> bool {
    let me = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == me || peer.uid.is_root())
}

async fn answer<F, A>(request: http::Request<Incoming>, act: &F) -> http::Response<Full<Bytes>>
where
    F: Fn(Request) -> A,
    A: Future<Output = Result<Value, Refusal>>,
{
    let body = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect().await;
    let asked = body.map_err(|e| e.to_string()).and_then(|body| {
        serde_json::from_slice::<Request>(&body.to_bytes())
            .map_err(|e| format!("this server does not understand the command, it may be of another version: {e}"))
    });
    let reply = match asked {
        Ok(request) => match act(request).await {
            Ok(value) => Reply::Done(value),
            Err(refusal) => Reply::Refused(refusal),
        },
        Err(message) => Reply::Refused(Refusal::new("bad_request", message)),
    };
    // A value and three texts always become JSON.
    let bytes = serde_json::to_vec(&reply).unwrap_or_default();
    let mut response = http::Response::new(Full::new(Bytes::from(bytes)));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

/// Asks the server that runs on `folder`. The outer error says that none answers.
pub async fn ask(folder: &Path, request: &Request) -> io::Result<Result<Value, Refusal>> {
    let (_folder, path) = short_path(folder)?;
    let stream = UnixStream::connect(&path).await?;
    let exchange = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let connection = tokio::spawn(connection);
        let body = serde_json::to_vec(request).map_err(io::Error::other)?;
        let post = http::Request::post("/").header("host", "admin").body(Full::new(Bytes::from(body)));
        let response = sender.send_request(post.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect().await.map_err(io::Error::other)?;
        connection.abort();
        match serde_json::from_slice(&body.to_bytes()).map_err(io::Error::other)? {
            Reply::Done(value) => Ok(Ok(value)),
            Reply::Refused(refusal) => Ok(Err(refusal)),
        }
    };
    tokio::time::timeout(EXCHANGE_DEADLINE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_whatever_the_length_of_the_folders_path() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a".repeat(120));
        std::fs::create_dir(&folder).unwrap();
        let missing = ask(&folder, &Request::WorkspaceList).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);

        let listener = bind(&folder).unwrap();
        assert_eq!(std::fs::metadata(folder.join(NAME)).unwrap().permissions().mode() & 0o777, 0o600);
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listener, stopped, |request| async move {
            match request {
                Request::WorkspaceList => Ok(json!(["a"])),
                _ => Err(Refusal::new("conflict", "no")),
            }
        }));
        assert_eq!(ask(&folder, &Request::WorkspaceList).await.unwrap().unwrap(), json!(["a"]));
        assert_eq!(ask(&folder, &Request::Status).await.unwrap().unwrap_err().message, "no");
        stop.send(true).unwrap();
        server.await.unwrap();

        // A dead server's socket is in nobody's way.
        assert_eq!(ask(&folder, &Request::Status).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        bind(&folder).unwrap();
    }
}
