//! The documentation under `/docs`: pages for people, without a credential and outside of any base URL.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use nephos_docs::{Answer, Docs, Health};
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::mount::{PLATFORM, STRETTCH};
use crate::openapi;
use crate::registry::Registry;
use crate::stream::ResponseBody;

/// Answers a path of the documentation; `None` for other paths and methods, and for the API documents.
pub(crate) fn answer(app: &App, parts: &Parts, request_id: &str) -> Option<Response<ResponseBody>> {
    let path = parts.uri.path();
    let is_head = parts.method == Method::HEAD;
    if !Docs::owns(path)
        || path.starts_with("/docs/openapi/")
        || path.starts_with("/docs/changelog.")
        || !(is_head || parts.method == Method::GET)
    {
        return None;
    }
    // The root is under no base URL, which programs are told; a browser is shown the way.
    if path == "/" && !is_browser(&parts.headers) {
        return None;
    }
    let health = health(app);
    let answer = app.docs().answer(path, parts.uri.query().unwrap_or_default(), &health);
    Some(respond(answer, &parts.headers, is_head, request_id))
}

fn is_browser(headers: &http::HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// What was measured last, in whole thousandths and microseconds.
fn health(app: &App) -> Health {
    let status = app.cloud.last_status();
    let last = |name: &str| status.as_ref().and_then(|status| status.periods.iter().find(|p| p.period == name));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a share of a hundred, and a duration
    let whole = |value: f64| (value * 1_000.0).round() as u32;
    Health {
        uptime_millipercent: last("90d").and_then(|p| p.uptime_percent).map(whole),
        latency_us: last("24h").and_then(|p| p.average_ms).map(|ms| u64::from(whole(ms))),
        regions: app.cloud.region_names(),
    }
}

fn respond(answer: Answer, asked: &http::HeaderMap, is_head: bool, request_id: &str) -> Response<ResponseBody> {
    let etag = (answer.status == 200).then(|| etag(&answer.body));
    let is_known =
        etag.as_ref().is_some_and(|etag| asked.get(header::IF_NONE_MATCH).is_some_and(|known| known == etag.as_str()));
    let length = answer.body.len();
    let body = if is_head || is_known { Bytes::new() } else { answer.body };
    let mut response = Response::new(ResponseBody::from(body));
    *response.status_mut() = if is_known {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let all = response.headers_mut();
    let mut put = |name: header::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            all.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, answer.content_type);
    put(header::CACHE_CONTROL, answer.cache);
    put(header::CONTENT_SECURITY_POLICY, nephos_docs::POLICY);
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::REFERRER_POLICY, "same-origin");
    put(header::HeaderName::from_static("x-request-id"), request_id);
    for (name, value) in [(header::ETAG, etag), (header::LOCATION, answer.location), (header::LINK, answer.link)] {
        if let Some(value) = value {
            put(name, &value);
        }
    }
    if is_head {
        all.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// Made when the first page is asked for: a server that nobody reads about keeps nothing of it.
pub(crate) fn docs(origin: &str, registry: &Registry) -> Docs {
    let document = |mount| openapi::document(mount, origin, registry);
    Docs::new(origin, &document(PLATFORM), &document(STRETTCH))
}

fn etag(body: &[u8]) -> String {
    let mut head = [0; 16];
    head.copy_from_slice(&Sha256::digest(body)[..16]);
    format!("\"{:032x}\"", u128::from_be_bytes(head))
}
