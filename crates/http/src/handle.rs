//! From a request to a response: what every response has, whatever was decided.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use nephos_control::refusal::Noted;
use nephos_control::scope;
use nephos_model::id::{Id, RequestId};
use nephos_model::tenant::Mode;
use nephos_model::trace::TraceContext;
use nephos_model::{Fault, Timestamp};
use tracing::{Instrument as _, Span};

use crate::app::{App, Peer};
use crate::changelog;
use crate::console;
use crate::mount::{self, Mount, Place};
use crate::order::{Decided, Trail, brief_path, check_limits, decide};
use crate::stream::ResponseBody;
use crate::surface::Stamp;

/// Characters of an id in a path that the audit log keeps, at most.
const RESOURCE_ID_CHARS_MAX: usize = 64;
/// For how long others may keep the public keys: [`nephos_control::signing::JWKS_MAX_AGE_S`], which a test compares.
const JWKS_CACHED: &str = "public, max-age=300";
/// On every response of the sandbox: when it is reset next without being asked to, RFC 3339.
const SANDBOX_RESET_AT: &str = "sandbox-reset-at";

/// Answers one request. Never fails: what goes wrong is an answer, with a request id, in the path's convention.
pub async fn handle<B>(app: &Arc<App>, request: Request<B>, peer: Peer) -> Response<ResponseBody>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let id: RequestId = app.cloud.id();
    scope::of(id, handle_as(app, id, request, peer)).await
}

async fn handle_as<B>(app: &Arc<App>, id: RequestId, request: Request<B>, peer: Peer) -> Response<ResponseBody>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = app.cloud.clock().monotonic();
    let (parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let path = mount::plain(parts.uri.path());
    let place = mount::find(&path, app.is_sandbox_host(&parts.headers, &parts.uri));
    let mut trail = new_trail(id, place);
    if check_limits(&parts).is_ok() {
        if let Some(page) = crate::docs::answer(app, &parts, &trail.uuid) {
            return page;
        }
        if console::owns(parts.uri.path()) {
            // Boxed: a page is more than any request of the API, and few ask for one.
            let page = Box::pin(console::answer(app, &parts, body, peer, id)).await;
            let took = app.cloud.clock().monotonic().saturating_sub(started);
            app.metrics.answered("none", None, &parts.method, page.status().as_u16(), took);
            return page;
        }
    }
    trail.trace = crate::headers::trace(&parts.headers).map(|trace| trace.within(id));
    let mut span = Span::none();

    let decided = if let Some(decided) = public(app, &mut trail, &parts.method, &path).await {
        decided
    } else {
        span = begin_span(id, &trail, &parts);
        AssertUnwindSafe(decide(app, &mut trail, place, &parts, body, peer).instrument(span.clone()))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Fault::internal("deciding the request panicked")))
    };
    let now = app.cloud.clock().now();
    let decided = decided.unwrap_or_else(|fault| refuse(app, &mut trail, &fault, now));
    // A 429 after admission is that of held connections.
    if let Some(caller) =
        trail.caller.as_ref().filter(|_| trail.counts && decided.status != StatusCode::TOO_MANY_REQUESTS)
    {
        let project = trail.project_id.or(caller.project_id);
        app.cloud.count_request(caller, trail.mount.surface.budget(), project);
    }
    note(app, &trail, place, &parts, &decided);
    let took = app.cloud.clock().monotonic().saturating_sub(started);
    let surface = if matches!(place, Place::Nowhere(_)) { "none" } else { trail.mount.surface.name() };
    app.metrics.answered(surface, trail.endpoint, &parts.method, decided.status.as_u16(), took);
    if matches!(place, Place::Under(..)) && !trail.held {
        app.cloud.measure_answer(took);
    }
    if let Some(caller) = &trail.caller {
        let operation = trail.endpoint.map(|endpoint| endpoint.id);
        app.cloud.count_answer(caller, operation, decided.status.as_u16(), (!trail.held).then_some(took));
    }
    if !span.is_disabled() {
        end_span(&span, &trail, &parts, decided.status);
    }
    tracing::debug!(
        target: "nephos::access",
        request_id = %trail.uuid,
        client_request_id = crate::headers::client_request_id(&parts.headers),
        method = %parts.method,
        path = %brief_path(parts.uri.path()),
        operation = trail.endpoint.map(|e| e.id),
        key_id = trail.caller.as_ref().and_then(|c| c.key_id).map(tracing::field::display),
        status = decided.status.as_u16(),
        elapsed_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    );
    respond(app, trail, &parts.headers, decided, is_head)
}

/// Notes what the audit log tells beside changes: what was refused, and what was exported.
fn note(app: &App, trail: &Trail, place: Place<'_>, parts: &Parts, decided: &Decided) {
    // Nobody was asked who calls: preflights, and paths under no base URL.
    let Some(address) = trail.address else { return };
    let status = decided.status;
    // What has a form of its own is made for keeping, but for what is scraped again and again.
    let is_kept = trail.endpoint.is_some_and(|e| !e.forms.is_empty() && e.form_by_default == crate::headers::JSON);
    let is_export = status.is_success() && is_kept && decided.kind != crate::headers::JSON;
    if !status.is_client_error() && !is_export {
        return;
    }
    let found = match place {
        Place::Under(mount, path) => app.router.find(path, mount.mode),
        _ => None,
    };
    let noted = Noted {
        action: trail.endpoint.map(|endpoint| endpoint.id),
        resource_id: found.and_then(|(_, segment)| resource_id(segment)),
        project_id: trail.project_id.or_else(|| trail.caller.as_ref()?.project_id),
        address,
        client_request_id: crate::headers::client_request_id(&parts.headers),
        request_id: &trail.uuid,
        status: status.as_u16(),
    };
    if status.is_client_error() {
        app.cloud.note_refusal(trail.caller.as_deref(), &noted);
    } else if let Some(caller) = &trail.caller {
        app.cloud.note_read(caller, &noted);
    }
}

/// An id out of a path, as the audit log keeps it: what can't be one is not worth a place there.
fn resource_id(segment: &str) -> Option<String> {
    let fits = (1..=RESOURCE_ID_CHARS_MAX).contains(&segment.len())
        && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    fits.then(|| segment.to_owned())
}

/// The span of a request, under the client's span when it names one.
fn begin_span(id: RequestId, trail: &Trail, parts: &Parts) -> Span {
    use tracing::field::Empty;
    let span = tracing::info_span!(
        target: scope::SPANS, "request", otel.kind = "server", otel.name = Empty, otel.status = Empty,
        trace_id = Empty, parent_id = Empty, span_id = id.raw().low(), sampled = Empty, trace_state = Empty,
        http.request.method = %parts.method, url.path = %brief_path(parts.uri.path()), http.route = Empty,
        http.response.status_code = Empty, nephos.request_id = %trail.uuid, nephos.operation = Empty,
    );
    if !span.is_disabled() {
        match crate::headers::trace(&parts.headers) {
            Some(trace) => {
                span.record("trace_id", trace.trace_id());
                span.record("parent_id", trace.span_id());
                span.record("sampled", trace.is_sampled());
                span.record("trace_state", trace.state());
            }
            None => {
                span.record("trace_id", TraceContext::begun(id).trace_id());
            }
        }
    }
    span
}

fn end_span(span: &Span, trail: &Trail, parts: &Parts, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if let Some(endpoint) = trail.endpoint {
        let route = format!("{}{}", trail.mount.base, endpoint.path);
        span.record("otel.name", format!("{} {route}", parts.method));
        span.record("http.route", route);
        span.record("nephos.operation", endpoint.id);
    } else {
        span.record("otel.name", parts.method.as_str());
    }
    if status.is_server_error() {
        span.record("otel.status", "error");
    }
}

fn new_trail(id: RequestId, place: Place<'_>) -> Trail {
    let mount = match place {
        Place::Under(mount, _) | Place::NoVersion(mount) | Place::Nowhere(mount) => mount,
    };
    Trail {
        id,
        uuid: id.raw().to_uuid(),
        mount,
        headers: HeaderMap::with_capacity(16),
        caller: None,
        endpoint: None,
        ending: None,
        trace: None,
        counts: false,
        ends_connection: false,
        project_id: None,
        address: None,
        held: false,
    }
}

/// What is answered without a credential and outside of any base URL.
async fn public(app: &App, trail: &mut Trail, method: &Method, path: &str) -> Option<Result<Decided, Fault>> {
    let is_get = *method == Method::GET || *method == Method::HEAD;
    if !is_get {
        return None;
    }
    let answer = |status, body: &'static str| Some(Ok(Decided::json(status, Bytes::from_static(body.as_bytes()))));
    match path {
        "/healthz" => answer(StatusCode::OK, "{\"status\":\"ok\"}"),
        "/readyz" if app.is_ready().await => answer(StatusCode::OK, "{\"status\":\"ready\"}"),
        "/readyz" => answer(StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"not ready\"}"),
        "/status.json" => {
            let status = app.cloud.public_status().await.ok()?;
            Some(Ok(Decided::json(StatusCode::OK, Bytes::from(nephos_control::view::json(&*status)))))
        }
        "/.well-known/jwks.json" => Some(app.cloud.jwks().await.map(|keys| {
            trail.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(JWKS_CACHED));
            Decided::json(StatusCode::OK, Bytes::from(keys))
        })),
        path => {
            let name = path.strip_prefix("/docs/")?;
            if let Some((kind, body)) =
                changelog::feed(name, &app.registry, &app.config.origin, app.cloud.clock().now())
            {
                return Some(Ok(Decided {
                    kind: HeaderValue::from_static(kind),
                    ..Decided::json(StatusCode::OK, body)
                }));
            }
            let body = app.documents.get(name.strip_prefix("openapi/")?.strip_suffix(".json")?)?;
            Some(Ok(Decided::json(StatusCode::OK, body)))
        }
    }
}

fn refuse(app: &App, trail: &mut Trail, fault: &Fault, now: Timestamp) -> Decided {
    if fault.code.status() >= 500 {
        tracing::error!(request_id = %trail.uuid, operation = trail.endpoint.map(|e| e.id), "{fault}");
    }
    if let Some(seconds) = fault.retry_after_s {
        trail.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    // RFC 9110: the connection is closed, because the rest of the body is not read.
    if matches!(fault.code.status(), 408 | 413) || trail.ends_connection {
        trail.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let body = fault_body(app, trail.mount, &trail.uuid, fault, now);
    Decided::json(StatusCode::from_u16(fault.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body)
}

/// The body of a fault.
pub(crate) fn fault_body(app: &App, mount: Mount, request_id: &str, fault: &Fault, now: Timestamp) -> Bytes {
    let stamp = Stamp { request_id, now, origin: &app.config.origin, message: "", envelope: false };
    Bytes::from(mount.surface.fault(fault, &stamp))
}

fn respond(app: &App, trail: Trail, asked: &HeaderMap, decided: Decided, is_head: bool) -> Response<ResponseBody> {
    let Trail { uuid, mount, mut headers, endpoint, ending, .. } = trail;
    let has_body =
        !matches!(decided.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS);
    if has_body {
        headers.insert(header::CONTENT_TYPE, decided.kind);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if let Some(ending) = ending {
        // A list has links of its own; several values of one header are one list.
        for (name, value) in ending.headers(&app.config.origin) {
            if let Some(value) = value {
                headers.append(name, value);
            }
        }
    }
    if mount.mode == Mode::Test
        && let Some(at) = app.cloud.next_sandbox_reset()
        && let Ok(value) = HeaderValue::try_from(at.to_string())
    {
        headers.insert(SANDBOX_RESET_AT, value);
    }
    if let Ok(value) = HeaderValue::try_from(uuid) {
        headers.insert("x-request-id", value);
    }
    if !app.config.cors_origins.is_empty() {
        // Also without one: what a cache keeps for nobody in particular must not be given to a script.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if endpoint.is_some_and(|endpoint| !endpoint.forms.is_empty()) {
        headers.append(header::VARY, HeaderValue::from_static("accept"));
    }
    if let Some(origin) = app.allowed_origin(asked) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    let body = match decided.body {
        ResponseBody::Live(_) if is_head => ResponseBody::from(Bytes::new()),
        ResponseBody::Whole(body) if is_head && has_body => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.size_hint().lower()));
            ResponseBody::from(Bytes::new())
        }
        body => body,
    };
    let mut response = Response::new(body);
    *response.status_mut() = decided.status;
    *response.headers_mut() = headers;
    response
}

/// Response headers that scripts of other origins may read.
const EXPOSED: &str = "deprecation, etag, idempotent-original-status, idempotent-replayed, link, location, operation-id, \
    preference-applied, ratelimit, ratelimit-policy, retry-after, sandbox-reset-at, sunset, x-ratelimit-limit-second, \
    x-ratelimit-remaining-second, x-ratelimit-reset-second, x-request-id";
