//! Over a socket: what the parser refuses has a body and a request id too, and a drain drops nothing.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use api::Api;
use nephos_http::serve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

struct Served {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

async fn served(api: &Api) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(serve(listener, api.app.clone(), async {
        let _ = stopped.await;
    }));
    Served { address, stop, done }
}

/// Everything that comes back until the server closes.
async fn exchange(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut out = Vec::new();
    // A reset after the answer is a close too.
    let _ = stream.read_to_end(&mut out).await;
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn one_request_on_a_connection() {
    let api = Api::new().await;
    let served = served(&api).await;
    let key = api.key("owner");
    let key = key.expose();
    let request =
        format!("GET /v1/regions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n");
    let answer = exchange(served.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"name\":\"local\""), "{answer}");
}

#[tokio::test]
async fn what_the_parser_refuses_has_a_body_and_a_request_id() {
    let api = Api::new().await;
    let served = served(&api).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: {}\r\n\r\n", "a".repeat(50_000));
    let longer = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-long: {}\r\n\r\n", "a".repeat(400_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-a: b\r\n".repeat(200));
    for (bytes, status, code) in [
        ("nonsense\r\n\r\n", "400", "bad_request"),
        ("GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", "400", "bad_request"),
        (&long, "431", "headers_too_large"),
        (&longer, "431", "headers_too_large"),
        (&many, "431", "headers_too_large"),
    ] {
        let answer = exchange(served.address, bytes.as_bytes()).await;
        let asked = &bytes[..bytes.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{asked}: {answer}");
        assert!(answer.contains("x-request-id: ") && answer.contains(code), "{answer}");
    }
}

#[tokio::test]
async fn head_has_no_body_and_the_length_of_one() {
    let api = Api::new().await;
    let served = served(&api).await;
    let request = |method| format!("{method} /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let get = exchange(served.address, request("GET").as_bytes()).await;
    let head = exchange(served.address, request("HEAD").as_bytes()).await;
    assert!(get.ends_with("{\"status\":\"ok\"}") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(get.contains("content-length: 15") && head.contains("content-length: 15"), "{get}{head}");
}

#[tokio::test]
async fn a_drain_finishes_what_was_accepted() {
    let api = Api::new().await;
    let served = served(&api).await;
    let body = r#"{"name":"gamma"}"#;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nexpect: 100-continue\r\n\r\n",
        api.key("owner").expose(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body: the request is accepted.
    let mut begun = [0; 25];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100 Continue\r\n\r\n");

    served.stop.send(()).unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 201 Created\r\n"), "{rest}");
    served.done.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_request_of_two_lengths_is_refused_and_nothing_after_it_is_read() {
    let api = Api::new().await;
    let served = served(&api).await;
    let key = api.key("owner");
    let post = |lengths: &str| {
        format!(
            "POST /api/v1/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             {lengths}\r\n10\r\n{{\"name\":\"gamma\"}}\r\n0\r\n\r\n",
            key.expose()
        )
    };
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for lengths in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 25\r\n",
    ] {
        let answer = exchange(served.address, format!("{}{next}", post(lengths)).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{lengths}{answer}");
        assert!(answer.contains("two_lengths") && answer.contains("\"success\":false"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    for coding in
        ["transfer-encoding: chunked, chunked\r\n", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"]
    {
        let answer = exchange(served.address, format!("{}{next}", post(coding)).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-request-id"), "{coding}{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    // Chunks alone are fine, also as the second request of a connection.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(post("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"Z\"}") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 201 "), "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn a_request_names_one_host() {
    let api = Api::new().await;
    let served = served(&api).await;
    for hosts in ["", "host: a\r\nhost: b\r\n"] {
        let answer = exchange(
            served.address,
            format!("GET /v1/regions HTTP/1.1\r\n{hosts}connection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"header\":\"host\""), "{hosts}{answer}");
    }
    let answer = exchange(served.address, b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "an older client need not: {answer}");
}
