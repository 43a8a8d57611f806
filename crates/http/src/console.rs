//! The console under `/console`: cookies, forms and sessions around the pages of `nephos-console`.
//!
//! A page asks the Platform API as a client does, in this process and with the person in the place of a key, so budgets,
//! idempotency, roles, the audit log and metrics hold for people as they do for programs. A form is taken only from the
//! console's own pages: the browser must not say that it comes from elsewhere, and it brings what only they know.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Full, Limited};
use nephos_console::{Answering, Api, FORM_BYTES_MAX, Page, Pairs, Place, Problem, Shown, Told, Visit};
use nephos_control::caller::Caller;
use nephos_model::Fault;
use nephos_model::id::{Id as _, RequestId, SessionId};
use nephos_model::session::{LIFE, Membership, Session};
use nephos_model::tenant::Mode;
use sha2::{Digest as _, Sha256};

use crate::app::{App, Peer};
use crate::handle::handle;
use crate::stream::ResponseBody;

/// The cookie that holds a session's secret.
const COOKIE: &str = "nephos_session";
/// Bytes of an answer that a page reads at most.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The person in whose name a request of the console is made. No client can send it: it is not a header.
#[derive(Debug, Clone)]
pub(crate) struct Acting {
    pub caller: Arc<Caller>,
    /// Its page has spent a request already: what a page reads counts as one, and each thing that it changes.
    pub is_counted: bool,
}

/// Whether a path is one of the console's.
pub(crate) fn owns(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

/// Answers a request to the console.
pub(crate) async fn answer<B>(
    app: &Arc<App>,
    parts: &Parts,
    body: B,
    peer: Peer,
    id: RequestId,
) -> Response<ResponseBody>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = parts.uri.path();
    let is_head = parts.method == Method::HEAD;
    if let Some(asset) = path.strip_prefix("/console/assets/") {
        return match nephos_console::asset(asset) {
            Some((kind, bytes, cache)) => respond(200, kind, bytes, cache, is_head, id),
            None => respond(404, "text/plain", Bytes::new(), "no-store", is_head, id),
        };
    }
    let (page, cookie) = page(app, parts, body, peer, id).await;
    let kind = "text/html; charset=utf-8";
    let mut response = respond(page.status, kind, page.body.into(), "no-store", is_head, id);
    for (name, value) in [(header::LOCATION, page.location), (header::SET_COOKIE, cookie)] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn respond(
    status: u16,
    kind: &'static str,
    body: Bytes,
    cache: &'static str,
    is_head: bool,
    id: RequestId,
) -> Response<ResponseBody> {
    let length = body.len();
    let mut response = Response::new(ResponseBody::from(if is_head { Bytes::new() } else { body }));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(nephos_console::POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A link that signs in is part of an address: nobody else is told where a person came from.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(value) = HeaderValue::try_from(id.raw().to_uuid()) {
        headers.insert("x-request-id", value);
    }
    if is_head {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A page and the cookie that it sets.
type Shaped = (Page, Option<String>);

async fn page<B>(app: &Arc<App>, parts: &Parts, body: B, peer: Peer, id: RequestId) -> Shaped
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let is_post = parts.method == Method::POST;
    if !is_post && parts.method != Method::GET && parts.method != Method::HEAD {
        return (refused(405, "method_not_allowed", "A page of the console takes GET and POST.", id), None);
    }
    let form = match if is_post { read_form(app, parts, body).await } else { Ok(Pairs::default()) } {
        Ok(form) => form,
        Err(why) => return (refused(400, "bad_request", why, id), None),
    };
    let query = Pairs::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let address = app.address(peer, &parts.headers);
    let path = parts.uri.path().strip_prefix("/console").unwrap_or_default();
    match (is_post, path) {
        (false, "/sign-in") => {
            return (nephos_console::sign_in_page(query.text("token"), "", false, None), None);
        }
        (true, "/sign-in") => return sign_in(app, parts, &form, address, id).await,
        (true, "/sign-in/link") => return (mail_link(app, &form, address, id).await, None),
        _ => {}
    }
    let secret = cookie(&parts.headers).unwrap_or_default();
    let session = match app.cloud.session(secret).await {
        Ok(Some(session)) => session,
        Ok(None) => return (Page::go("/console/sign-in"), None),
        Err(fault) => return (failed(&fault, id), None),
    };
    let csrf = csrf(secret);
    if is_post && form.get("csrf") != Some(csrf.as_str()) {
        let why =
            "This form is of a page from before you signed in. Go back, load the page again and send it once more.";
        return (refused(403, "forbidden", why, id), None);
    }
    match signed_in(app, parts, peer, id, &session, (&csrf, &query, &form), path).await {
        Ok(shaped) => shaped,
        Err(fault) => (failed(&fault, id), None),
    }
}

/// What a person who is signed in asks for.
async fn signed_in(
    app: &Arc<App>,
    parts: &Parts,
    peer: Peer,
    id: RequestId,
    session: &Session,
    (csrf, query, form): (&str, &Pairs, &Pairs),
    path: &str,
) -> Result<Shaped, Fault> {
    let is_post = parts.method == Method::POST;
    let memberships = app.cloud.memberships(session.user_id).await?;
    let place = |m: &Membership| Place {
        id: m.workspace_id.to_string(),
        name: m.workspace.clone(),
        role: m.role.as_str().to_owned(),
    };
    let places: Vec<Place> = memberships.iter().map(place).collect();
    let mut segments = path.trim_start_matches('/').splitn(2, '/');
    let (first, rest) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    match (is_post, first) {
        (false, "") => {
            let to = places.first().map_or_else(|| "/console/account".to_owned(), |place| place.base(false));
            return Ok((Page::go(to), None));
        }
        (true, "sign-out") => {
            app.cloud.end_session(session.user_id, session.id).await?;
            return Ok((Page::go("/console/sign-in"), Some(kept(app, "", 0))));
        }
        (false, "account") => return Ok((account(app, session, csrf, &places).await?, None)),
        (true, "account") => {
            let ended = rest.strip_prefix("sessions/").and_then(|rest| rest.strip_suffix("/end"));
            if let Some(ended) = ended.and_then(|id| id.parse::<SessionId>().ok()) {
                app.cloud.end_session(session.user_id, ended).await?;
            }
            return Ok((Page::go("/console/account"), None));
        }
        _ => {}
    }
    let (is_sandbox, path) = match rest.strip_prefix("sandbox") {
        // The page of the sandbox's clock has the same name.
        Some(after) if after.is_empty() || after.starts_with('/') => (true, after),
        _ => (false, rest),
    };
    let Some((place, membership)) = places.iter().zip(&memberships).find(|(place, _)| place.id == first) else {
        return Ok((refused(404, "resource_not_found", "There is no such page in the console.", id), None));
    };
    let mode = if is_sandbox { Mode::Test } else { Mode::Live };
    let caller = app.cloud.caller_of_session(session, membership, mode).await?;
    let api = Own { app, caller, is_counted: AtomicBool::new(false), peer, asked: &parts.headers, is_sandbox };
    let fresh = app.cloud.id::<RequestId>().raw().to_uuid();
    let visit = Visit {
        origin: &app.config.origin,
        csrf,
        fresh: &fresh,
        email: &session.email,
        places: &places,
        place,
        is_sandbox,
        is_post,
        path,
        query,
        form,
    };
    Ok((nephos_console::workspace_page(&visit, &api).await, None))
}

async fn account(app: &App, session: &Session, csrf: &str, places: &[Place]) -> Result<Page, Fault> {
    let sessions = app.cloud.sessions(session.user_id).await?;
    let shown: Vec<Shown> = sessions
        .into_iter()
        .map(|s| Shown {
            is_this: s.id == session.id,
            id: s.id.to_string(),
            address: s.address,
            agent: s.agent,
            seen_at: s.seen_at.to_string(),
            expires_at: s.expires_at.to_string(),
        })
        .collect();
    Ok(nephos_console::account_page(csrf, &session.email, places, &shown))
}

async fn sign_in(app: &App, parts: &Parts, form: &Pairs, address: IpAddr, id: RequestId) -> Shaped {
    let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
    match app.cloud.sign_in(form.text("token"), address, agent).await {
        Ok(begun) => {
            tracing::info!(user = %begun.session.user_id, session = %begun.session.id, %address, "a person signed in");
            (Page::go("/console"), Some(kept(app, begun.secret.expose(), LIFE.as_secs())))
        }
        Err(fault) => (nephos_console::sign_in_page("", "", false, Some(problem(&fault, id))), None),
    }
}

async fn mail_link(app: &App, form: &Pairs, address: IpAddr, id: RequestId) -> Page {
    let email = form.text("email");
    match app.cloud.mail_sign_in_link(email, address).await {
        Ok(()) => nephos_console::sign_in_page("", email, true, None),
        Err(fault) => nephos_console::sign_in_page("", email, false, Some(problem(&fault, id))),
    }
}

/// A form from one of the console's own pages.
async fn read_form<B>(app: &App, parts: &Parts, body: B) -> Result<Pairs, &'static str>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    // Every browser that a form can come from sends one of the two.
    let is_own = match (header("sec-fetch-site"), header("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => origin == app.config.origin,
        (None, None) => false,
    };
    if !is_own {
        return Err("This form was sent from another site, so nothing was done. Open the console and send it there.");
    }
    let kind = header("content-type").unwrap_or_default();
    if !kind.starts_with("application/x-www-form-urlencoded") {
        return Err("A form is sent as application/x-www-form-urlencoded.");
    }
    match Limited::new(body, FORM_BYTES_MAX).collect().await {
        Ok(collected) => Ok(Pairs::parse(&collected.to_bytes())),
        Err(_) => Err("The form did not arrive whole, or is larger than 128 KiB."),
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// The cookie of a session, or with no seconds left the end of it.
fn kept(app: &App, secret: &str, seconds: u64) -> String {
    // A browser keeps a secure cookie only where it came over TLS; a first try on loopback has none.
    let secure = if app.config.origin.starts_with("https:") { "; Secure" } else { "" };
    format!("{COOKIE}={secret}; Path=/console; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")
}

/// What the forms of a session carry. It tells nothing of the secret.
fn csrf(secret: &str) -> String {
    let hash = Sha256::new().chain_update("console form\n").chain_update(secret).finalize();
    hash.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn problem(fault: &Fault, id: RequestId) -> Problem {
    let details = fault.details.iter().map(|d| (String::new(), d.message.clone())).collect();
    Problem {
        status: fault.code.status(),
        code: fault.code.snake().to_owned(),
        message: fault.message.clone(),
        details,
        request_id: id.raw().to_uuid(),
    }
}

fn failed(fault: &Fault, id: RequestId) -> Page {
    if fault.code.status() >= 500 {
        tracing::error!(request_id = %id.raw().to_uuid(), "{fault}");
    }
    nephos_console::problem_page(problem(fault, id))
}

fn refused(status: u16, code: &str, message: &str, id: RequestId) -> Page {
    let (code, message) = (code.to_owned(), message.to_owned());
    nephos_console::problem_page(Problem { status, code, message, details: Vec::new(), request_id: id.raw().to_uuid() })
}

/// The Platform API for a person.
struct Own<'a> {
    app: &'a Arc<App>,
    caller: Arc<Caller>,
    is_counted: AtomicBool,
    peer: Peer,
    asked: &'a HeaderMap,
    is_sandbox: bool,
}

impl Api for Own<'_> {
    fn call<'a>(
        &'a self,
        method: &'static str,
        path: String,
        body: Option<serde_json::Value>,
        key: Option<&'a str>,
    ) -> Answering<'a> {
        Box::pin(async move {
            let base = if self.is_sandbox { "/sandbox/v1" } else { "/v1" };
            let mut request = Request::builder().method(method).uri(format!("{base}{path}"));
            if let Some(headers) = request.headers_mut() {
                // What trusted proxies say of the client's address.
                for (name, value) in self.asked {
                    if name == self.app.config.forwarded_header.name() {
                        headers.append(name, value.clone());
                    }
                }
                if body.is_some() {
                    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                }
                if let Some(key) = key.and_then(|key| HeaderValue::try_from(key).ok()) {
                    headers.insert("idempotency-key", key);
                }
            }
            let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
            let Ok(mut request) = request.body(Full::new(bytes)) else { return unreadable() };
            let is_counted = self.is_counted.swap(true, Ordering::Relaxed);
            request.extensions_mut().insert(Acting { caller: self.caller.clone(), is_counted });
            let response = Box::pin(handle(self.app, request, self.peer)).await;
            let status = response.status().as_u16();
            let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let bytes = collected.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            Told { status, body }
        })
    }
}

/// A path that is no path: none that a page makes.
fn unreadable() -> Told {
    Told { status: 404, body: serde_json::json!({"code": "resource_not_found", "message": "There is no such page."}) }
}
