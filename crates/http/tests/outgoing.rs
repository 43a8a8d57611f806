//! What is sent to hosts that a tenant named, and what is not: addresses, names, answers of every kind.

#![allow(clippy::unwrap_used)] // what fails here fails the test

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nephos_control::courier::{Courier as _, Parcel, Receipt, Trouble};
use nephos_http::outgoing::{Lookup, Options, Outgoing, Resolve};
use nephos_testkit::{Receiver, Reply, WorldClock};
use tokio::io::AsyncWriteExt as _;

/// Names and where they lead; each is asked for as often as it is counted.
struct Names {
    known: Vec<(&'static str, Vec<IpAddr>)>,
    asked: AtomicUsize,
}

impl Names {
    fn new(known: &[(&'static str, &[&str])]) -> Arc<Self> {
        let addresses = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect();
        Arc::new(Self {
            known: known.iter().map(|(name, all)| (*name, addresses(all))).collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Resolve for Names {
    fn resolve(&self, host: String) -> Lookup {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let found = self.known.iter().find(|(name, _)| *name == host).map(|(_, all)| all.clone());
        Box::pin(std::future::ready(found.ok_or_else(|| io::Error::other("no such name"))))
    }
}

fn outgoing(allow_private: bool, lookup: Option<Arc<dyn Resolve>>) -> Outgoing {
    Outgoing::new(Options { allow_private, lookup, ..Options::default() }, Arc::new(WorldClock::new())).unwrap()
}

async fn carry(outgoing: &Outgoing, url: &str) -> Receipt {
    let parcel = Parcel {
        url: Arc::from(url),
        id: "evt_1".to_owned(),
        timestamp_s: 1,
        signature: "v1,x".to_owned(),
        body: Arc::from(&b"{}"[..]),
    };
    outgoing.carry(parcel).await
}

#[tokio::test]
async fn nothing_reaches_a_private_address() {
    let receiver = Receiver::taking().await;
    let port = receiver.address.port();
    let names = Names::new(&[
        ("inside.example", &["127.0.0.1"]),
        ("mixed.example", &["10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254", "100.64.0.1"]),
        ("nowhere.example", &[]),
    ]);
    let strict = outgoing(false, Some(names.clone()));
    for host in [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.168.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[2002:7f00:1::]",
        "inside.example",
        "mixed.example",
    ] {
        let receipt = carry(&strict, &format!("http://{host}:{port}/in")).await;
        assert_eq!(receipt.trouble, Some(Trouble::RefusedAddress), "{host}");
        assert_eq!(receipt.status, None);
    }
    for host in ["nowhere.example", "unknown.example"] {
        assert_eq!(carry(&strict, &format!("https://{host}:{port}/")).await.trouble, Some(Trouble::Dns), "{host}");
    }
    // The system reads numbers in many ways; whatever it makes of them is judged.
    let system = outgoing(false, None);
    for host in ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost"] {
        let receipt = carry(&system, &format!("http://{host}:{port}/in")).await;
        assert!(matches!(receipt.trouble, Some(Trouble::RefusedAddress | Trouble::Dns)), "{host}: {receipt:?}");
    }
    assert!(receiver.received().is_empty(), "{:?}", receiver.received());
    // With the switch, and only with it.
    assert_eq!(
        carry(&outgoing(true, Some(names)), &format!("http://inside.example:{port}/in")).await.status,
        Some(200)
    );
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn what_is_refused_when_a_webhook_is_made() {
    let strict = outgoing(false, None);
    for bad in ["http://a.example/", "https://10.0.0.1/", "https://[::1]/", "https://127.0.0.1:8443/x"] {
        assert!(strict.refuses(bad).is_some(), "{bad}");
        assert_eq!(outgoing(true, None).refuses(bad), None, "{bad}");
    }
    assert_eq!(strict.refuses("https://a.example/in"), None);
    assert_eq!(strict.refuses("https://1.1.1.1/"), None);
}

#[tokio::test]
async fn answers_of_every_kind() {
    let whole = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n{}", "é".repeat(5_000));
    let replies = [
        whole("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
        whole("HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n"),
        whole(&large),
        // Of the length that it promises half comes, then nothing more.
        whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        whole("this is not HTTP\r\n\r\n"),
        Reply::Close,
    ];
    let receiver = Receiver::new(move |number, _| replies[number.min(replies.len() - 1)].clone()).await;
    let outgoing = outgoing(true, None);
    let url = receiver.url();
    let redirect = carry(&outgoing, &url).await;
    assert_eq!((redirect.status, redirect.trouble), (Some(302), None), "nobody goes where it leads");
    let busy = carry(&outgoing, &url).await;
    assert_eq!(busy.retry_after, Some(nephos_control::courier::RetryAfter::In(std::time::Duration::from_secs(7))));
    let large = carry(&outgoing, &url).await;
    assert_eq!((large.status, large.answer.len()), (Some(200), 4_096));
    let chunked = carry(&outgoing, &url).await;
    assert_eq!((chunked.status, &*chunked.answer, chunked.trouble), (Some(200), &b"abc"[..], None));
    assert_eq!(carry(&outgoing, &url).await.trouble, Some(Trouble::Broken));
    assert_eq!(carry(&outgoing, &url).await.trouble, Some(Trouble::Broken));
    let received = receiver.received();
    assert_eq!(received[0].header("webhook-id"), "evt_1");
    assert_eq!(received[0].header("webhook-signature"), "v1,x");
    assert!(received[0].header("user-agent").starts_with("nephos/"));
    assert_eq!(received[0].body, b"{}");
}

#[tokio::test]
async fn an_endless_answer_ends() {
    // A head, and then a body of heads.
    let head = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n";
    let receiver = Receiver::new(move |_, _| Reply::Endless(head.repeat(1_000))).await;
    let receipt = carry(&outgoing(true, None), &receiver.url()).await;
    assert_eq!((receipt.status, receipt.trouble), (Some(200), Some(Trouble::TooLarge)));
    assert_eq!(receipt.answer.len(), 4_096);
}

#[tokio::test]
async fn nobody_listens_or_speaks_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 this is another protocol\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let outgoing = outgoing(true, None);
    assert_eq!(carry(&outgoing, "http://127.0.0.1:1/").await.trouble, Some(Trouble::Connect));
    assert_eq!(carry(&outgoing, &format!("https://127.0.0.1:{port}/")).await.trouble, Some(Trouble::Tls));
}

#[tokio::test]
async fn connections_are_used_again() {
    let receiver = Receiver::taking().await;
    let names = Names::new(&[("hooks.example", &["127.0.0.1"])]);
    let outgoing = outgoing(true, Some(names.clone()));
    for _ in 0..5 {
        let url = format!("http://hooks.example:{}/in", receiver.address.port());
        assert_eq!(carry(&outgoing, &url).await.status, Some(200));
    }
    assert_eq!(names.asked.load(Ordering::Relaxed), 1, "and their addresses are not looked up again");
}
