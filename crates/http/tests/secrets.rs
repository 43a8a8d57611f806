//! Nothing secret is ever logged: everything that a busy world says at the most talkative level is searched.

#![allow(clippy::unwrap_used)]

mod api;

use std::io::Write;
use std::sync::{Arc, Mutex};

use api::Api;
use tracing_subscriber::fmt::format::FmtSpan;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const USER_DATA: &str = "#cloud-config\\npassword: Xk3-user-data-Qz9\\n";
const IDEMPOTENCY_KEYS: [&str; 2] = ["idem-Vt7-first-Lw2", "idem-Vt7-second-Lw2"];

// The only test of its program: the subscriber is the whole process's, so that the store's threads are heard too.
#[tokio::test]
async fn nothing_secret_is_logged() {
    let log = Log::default();
    let written = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(move || written.clone())
        .init();

    let api = Api::started().await;
    let mut secrets: Vec<String> =
        ["owner", "test", "other", "member", "admin"].map(|name| api.key(name).expose().to_owned()).to_vec();
    secrets.extend(IDEMPOTENCY_KEYS.map(str::to_owned));
    secrets.push("Xk3-user-data-Qz9".to_owned());

    let first = [("idempotency-key", IDEMPOTENCY_KEYS[0])];
    let made = api.with("POST", "/v1/api-keys", r#"{"name":"robot"}"#, &first).await.json();
    secrets.push(made["secret"].as_str().unwrap().to_owned());
    let path = format!("/v1/api-keys/{}/rotate", made["id"].as_str().unwrap());
    let rotated = api.with("POST", &path, r#"{"grace_seconds":60}"#, &[]).await;
    // Only its own member rotates a key, which the Owner is.
    secrets.extend(rotated.json()["secret"].as_str().map(str::to_owned));
    let replayed = api.with("POST", "/v1/api-keys", r#"{"name":"robot"}"#, &first).await;
    assert_eq!(replayed.header("idempotent-replayed"), "true");

    let body = format!(r#"{{"name":"web","user_data":"{USER_DATA}","labels":{{"simulate":"provision_failure"}}}}"#);
    let second = [("idempotency-key", IDEMPOTENCY_KEYS[1])];
    let compute = api.with("POST", "/v1/computes", &body, &second).await;
    assert_eq!(compute.status, 201, "{}", compute.text);
    let id = compute.json()["id"].as_str().unwrap().to_owned();
    api.world
        .until(|| async {
            let status = api.get(&format!("/v1/computes/{id}")).await.json()["data"]["status"].clone();
            (status != "provisioning").then_some(())
        })
        .await;

    // What is refused is logged with its cause, and its cause is not the secret.
    let almost = format!("{}x", api.key("owner").expose());
    secrets.push(almost.clone());
    let bad = [
        ("authorization", format!("Bearer {almost}")),
        ("authorization", format!("Basic {almost}")),
        ("authorization", api.key("owner").expose().to_owned()),
    ];
    for (name, value) in bad {
        assert_eq!(api.send("GET", "/v1/me", &[(name, &value)], "").await.status, 401);
    }
    assert_eq!(api.get("/v1/projects?page=x").await.status, 400);
    assert_eq!(api.with("POST", "/v1/api-keys", r#"{"name":1}"#, &first).await.status, 422);
    api.world.cloud.flush().await.unwrap();

    let told = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(told.contains("nephos::access") && told.contains("otel"), "requests and spans are in what is searched");
    for secret in &secrets {
        let at = told.find(secret.as_str());
        assert!(at.is_none(), "a secret is logged: {}", at.map_or("", |at| line_at(&told, at)));
    }
    for prefix in ["sk_live_", "sk_test_", "whsec_", "PRIVATE KEY"] {
        let at = told.find(prefix);
        assert!(at.is_none(), "{prefix} is logged: {}", at.map_or("", |at| line_at(&told, at)));
    }
}

fn line_at(text: &str, at: usize) -> &str {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[start..].lines().next().unwrap_or_default()
}
