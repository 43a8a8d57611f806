//! A web server at the loopback address that gets what the cloud sends, keeps it, and answers as a test says, byte by
//! byte if need be.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Real time that a test waits at most for something to be received.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes of one request's body at most.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a body of JSON")
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status with an empty body.
    Status(u16),
    /// These bytes, and then the connection stays open.
    Raw(Vec<u8>),
    /// These bytes again and again, without end.
    Endless(Vec<u8>),
    /// The connection is closed without a word.
    Close,
    /// Nothing: the connection stays open.
    Silence,
    /// The same when somebody says so.
    After(Arc<Notify>, Box<Reply>),
}

type Answer = dyn Fn(usize, &Received) -> Reply + Send + Sync;

struct Shared {
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    answer: Box<Answer>,
}

/// The server. Dropping it ends it.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// A server that answers the n-th request, from 0, as `answer` says.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn new(answer: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared =
            Arc::new(Shared { received: Mutex::default(), count: watch::Sender::new(0), answer: Box::new(answer) });
        let served = shared.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, served.clone()));
            }
        });
        Self { address, shared, task }
    }

    /// A server that takes everything.
    pub async fn taking() -> Self {
        Self::new(|_, _| Reply::Status(200)).await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    /// Everything that it got so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it got at least `count` requests.
    ///
    /// # Panics
    /// When it does not within 30 seconds of real time.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let mut counted = self.shared.count.subscribe();
        let waited = tokio::time::timeout(WAIT_MAX, counted.wait_for(|now| *now >= count)).await.is_ok();
        assert!(waited, "{count} requests were waited for, and {} came", self.received().len());
        self.received()
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // A client that goes away ends its connection.
    _ = serve_requests(BufReader::new(stream), shared).await;
}

async fn serve_requests(mut stream: BufReader<TcpStream>, shared: Arc<Shared>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = HeaderMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let name: Result<HeaderName, _> = name.parse();
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.trim())) {
                headers.append(name, value);
            }
        }
        let length = headers.get("content-length").and_then(|v| v.to_str().ok()?.parse::<usize>().ok()).unwrap_or(0);
        let mut body = vec![0; length.min(BODY_BYTES_MAX)];
        stream.read_exact(&mut body).await?;
        let received = Received { path, headers, body };
        let number = {
            let mut all = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(received.clone());
            all.len() - 1
        };
        let mut reply = (shared.answer)(number, &received);
        shared.count.send_modify(|count| *count += 1);
        while let Reply::After(signal, then) = reply {
            signal.notified().await;
            reply = *then;
        }
        match reply {
            Reply::Status(status) => {
                let head = format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
            }
            Reply::Raw(bytes) => stream.write_all(&bytes).await?,
            Reply::Endless(bytes) => loop {
                stream.write_all(&bytes).await?;
            },
            Reply::Close => return Ok(()),
            Reply::Silence | Reply::After(..) => std::future::pending().await,
        }
    }
}
