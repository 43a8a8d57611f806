//! The order in which a request is decided, as one function: what is found wrong first is what the client reads.
//!
//! The steps are numbered as in the contract. Each either ends the request or leaves something in the [`Trail`], which
//! the response is made of even when a later step refuses.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use nephos_control::budget::Class;
use nephos_control::caller::{Caller, Request as Known};
use nephos_control::idempotency::{Keyed, Recording};
use nephos_control::operation::WAIT_S_MAX;
use nephos_control::plan::{ATTEMPTS_MAX, CommitError};
use nephos_control::scope;
use nephos_model::id::{ProjectId, RequestId};
use nephos_model::trace::TraceContext;
use nephos_model::{Code, Detail, Fault};
use sha2::{Digest, Sha256};
use tracing::Instrument as _;

use crate::app::{App, Peer};
use crate::call::{Answer, Call, Rendered};
use crate::console::Acting;
use crate::endpoint::{Endpoint, Streamer};
use crate::fields::Body;
use crate::headers::{self, NoCredential, Tags};
use crate::held::Hold;
use crate::json::{Json, brief};
use crate::mount::{Mount, Place};
use crate::query::Query;
use crate::registry::{Ending, Stage};
use crate::stream::{EVENT_STREAM, Listener, ResponseBody};
use crate::{terminal, websocket};

/// Bytes of a body at most where no credential is asked for: 16 KiB.
pub const OPEN_BODY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all headers together at most.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Headers in one request at most.
pub const HEADERS_MAX: usize = 128;
/// Characters of a path and query together at most.
pub const TARGET_CHARS_MAX: usize = 8 * 1024;
/// Seconds in which a body must have arrived.
pub const BODY_DEADLINE_S: u64 = 30;
/// Seconds in which a handler must have answered, beside what a long poll asked for.
pub const ANSWER_DEADLINE_S: u64 = 30;
/// Seconds for which a browser keeps the answer to a preflight.
const PREFLIGHT_MAX_AGE_S: &str = "86400";

/// Marks a request whose head the parser let pass, and which another program may read as two requests, or as one for
/// another host (RFC 9112).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// It tells its length in two ways, of which the parser left one.
    TwoLengths,
    /// Its body is coded in another way than in chunks, once.
    Coding,
    /// It names no host, or several.
    Host,
}

/// What is known of a request so far, and what its response will carry whatever becomes of it.
#[derive(Debug)]
pub(crate) struct Trail {
    pub id: RequestId,
    pub uuid: String,
    pub mount: Mount,
    /// The trace that the request continues, under its own span.
    pub trace: Option<TraceContext>,
    pub headers: HeaderMap,
    pub caller: Option<Arc<Caller>>,
    pub endpoint: Option<&'static Endpoint>,
    /// The client's address, once it was asked who calls.
    pub address: Option<IpAddr>,
    /// What it asks for that is deprecated or gone.
    pub ending: Option<Ending>,
    /// Whether it was let in, and so counts in the usage.
    pub counts: bool,
    /// Whether nothing that follows on its connection can be read.
    pub ends_connection: bool,
    /// The project whose object it was about, when that is known.
    pub project_id: Option<ProjectId>,
    /// Whether it waited because the client asked for it.
    pub held: bool,
}

/// A response without what every response has.
#[derive(Debug)]
pub(crate) struct Decided {
    pub status: StatusCode,
    pub body: ResponseBody,
    /// The body's media type.
    pub kind: HeaderValue,
}

impl Decided {
    /// A body of JSON.
    pub(crate) fn json(status: StatusCode, body: Bytes) -> Self {
        Self { status, body: ResponseBody::from(body), kind: HeaderValue::from_static("application/json") }
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self::json(status, Bytes::new())
    }
}

/// Decides one request under a base URL.
pub(crate) async fn decide<B>(
    app: &Arc<App>,
    trail: &mut Trail,
    place: Place<'_>,
    parts: &Parts,
    body: B,
    peer: Peer,
) -> Result<Decided, Fault>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // 1. The request id is in the trail; the parser's limits.
    trail.ends_connection = parts.extensions.get::<BadHead>().is_some();
    check_limits(parts)?;

    // 2. A path under no base URL; a version that there is not.
    let (mount, path) = match place {
        Place::Under(mount, path) => (mount, path),
        Place::NoVersion(mount) => return Err(no_version(app, mount)),
        Place::Nowhere(_) => return Err(nowhere()),
    };

    let now = app.cloud.clock().now();
    trail.ending = app.registry.ending(&app.router, mount, path, parts.method.as_str(), now);

    // 3. Preflight.
    let is_options = parts.method == Method::OPTIONS;
    if is_options && parts.headers.contains_key("access-control-request-method") {
        preflight(app, trail, &parts.headers);
        return Ok(Decided::empty(StatusCode::NO_CONTENT));
    }

    // 4. Credential. An open operation's is in its body: the handler judges it, before anything else about the cloud.
    let address = app.address(peer, &parts.headers);
    trail.address = Some(address);
    let caller = if is_open(app, mount, path, &parts.method) {
        None
    } else {
        Some(authenticate(app, trail, mount, parts, address).await?)
    };
    trail.caller.clone_from(&caller);

    // 5. Budgets. Nobody's key has none; what fails counts against the budget of failed credentials.
    let is_read = is_options || parts.method == Method::GET || parts.method == Method::HEAD;
    let class = if is_read { Class::Read } else { Class::Write };
    let is_of_a_page = is_read && parts.extensions.get::<Acting>().is_some_and(|acting| acting.is_counted);
    if let Some(caller) = caller.as_ref().filter(|_| !is_of_a_page) {
        let verdict = app.cloud.admit(caller, mount.surface.budget(), class);
        mount.surface.budget_headers(&verdict.budgets, &mut trail.headers);
        if let Some(fault) = verdict.refused {
            return Err(fault);
        }
        trail.counts = true;
    }

    // 6. Path, version, method.
    if let Some(ending) = &trail.ending {
        if let (Some(operation), Some(caller)) = (ending.operation(), &caller) {
            app.cloud.note_deprecated_call(caller, operation);
        }
        if ending.stage(now) == Stage::Gone {
            return Err(ending.fault());
        }
    }
    let (resource, segment) = app.router.find(path, mount.mode).ok_or_else(unknown_path)?;
    if is_options {
        set(&mut trail.headers, header::ALLOW, &resource.allow);
        return Ok(Decided::empty(StatusCode::NO_CONTENT));
    }
    let Some(endpoint) = resource.method(parts.method.as_str()) else {
        set(&mut trail.headers, header::ALLOW, &resource.allow);
        return Err(method_not_allowed(&resource.allow));
    };
    trail.endpoint = Some(endpoint);

    // 7. Role and scope.
    let upgrade = endpoint.upgrade.filter(|_| websocket::is_asked_for(parts));
    let needed = upgrade.map_or(endpoint.need, |upgrade| Some(upgrade.need));
    if let (Some(need), Some(caller)) = (needed, &caller) {
        caller.check(need.scope, need.role, need.reach)?;
    }

    // 8. Media types, then the syntax of headers and query.
    let streams = endpoint.streamer.filter(|_| headers::asks_for_events(&parts.headers));
    let form = match (streams, upgrade) {
        (Some(_), _) | (_, Some(_)) => headers::JSON,
        (None, None) => headers::chosen(&parts.headers, endpoint.forms, endpoint.form_by_default)
            .ok_or_else(headers::not_acceptable)?,
    };
    let takes_body = matches!(endpoint.method, "POST" | "PUT" | "PATCH");
    let has_body = takes_body && !body.is_end_stream();
    if has_body && !headers::sends_json(&parts.headers) {
        return Err(headers::unsupported_media_type());
    }
    if has_body && !headers::sends_plain(&parts.headers) {
        return Err(headers::unsupported_encoding());
    }
    let syntax = read_syntax(mount, endpoint, parts)?;
    let upgrade = match upgrade {
        Some(upgrade) => Some((upgrade, websocket::handshake(parts, &mut trail.headers)?)),
        None => None,
    };

    // 9. The body.
    let mut caller = caller;
    let json = if has_body {
        let json = read_json(app, parts, body, endpoint.body_bytes_max(app.config.body_bytes_max)).await?;
        // It may have taken half a minute: who lost the right meanwhile does nothing with it.
        if caller.is_some() {
            let now = authenticate(app, trail, mount, parts, address).await?;
            needed.map_or(Ok(()), |need| now.check(need.scope, need.role, need.reach))?;
            caller = Some(now);
        }
        json
    } else {
        None
    };

    // 10 to 13, again when a race is lost.
    let asked_s = syntax.query.integer("wait").and_then(|s| u32::try_from(s).ok());
    let prefers_s = headers::prefers_wait(&parts.headers, WAIT_S_MAX)
        .filter(|seconds| *seconds > 0 && endpoint.waits && !syntax.query.flag("dry_run"));
    let wait_s = asked_s.or(prefers_s).unwrap_or(0);
    let key_id = caller.as_ref().and_then(|caller| caller.key_id);
    let mut hold =
        if wait_s > 0 || streams.is_some() || upgrade.is_some() { Some(app.held.hold(key_id)?) } else { None };
    trail.held = hold.is_some();
    let known = Known {
        id: trail.id,
        client_request_id: headers::client_request_id(&parts.headers).map(str::to_owned),
        address,
        trace: trail.trace.clone(),
    };
    let call = Call {
        app: app.clone(),
        caller,
        request: Arc::new(known),
        request_uuid: trail.uuid.clone(),
        mount,
        endpoint,
        need: needed,
        path: path.to_owned(),
        segment: segment.to_owned(),
        form,
        query: syntax.query,
        body: Body::default(),
        if_match: syntax.if_match,
        if_none_match: syntax.if_none_match,
        envelope: headers::prefers_envelope(&parts.headers),
        wait_s: prefers_s,
        last_event_id: if streams.is_some() { headers::last_event_id(&parts.headers)? } else { None },
        ticket: None,
    };
    if let Some(streamer) = streams
        && let Some(hold) = hold.take()
    {
        return listen(trail, call, streamer, hold, &parts.headers).await;
    }
    if let Some((upgrade, handshaken)) = upgrade
        && let Some(hold) = hold.take()
    {
        return terminal::attach(trail, call, upgrade, handshaken, hold, &parts.headers).await;
    }
    // Boxed before it is handed on, or it would be copied at each step.
    let performing = Box::pin(perform(call, syntax.key, json));
    let performed = guarded(app, trail.id, endpoint, u64::from(wait_s), performing).await;
    let performed = performed.inspect_err(|fault| challenge(trail, fault, &parts.headers))?;
    drop(hold);
    Ok(answer(trail, performed))
}

/// Whose credential a request has, now; the console's requests have a person instead, whom it has looked up just now.
async fn authenticate(
    app: &App,
    trail: &mut Trail,
    mount: Mount,
    parts: &Parts,
    address: IpAddr,
) -> Result<Arc<Caller>, Fault> {
    if let Some(acting) = parts.extensions.get::<Acting>() {
        return Ok(acting.caller.clone());
    }
    let headers = &parts.headers;
    let caller = match headers::bearer(headers) {
        Ok(token) => app.cloud.authenticate(token, mount.mode, address).await,
        Err(why) => Err(app.cloud.refuse_credential(address, no_credential(why))),
    };
    caller.inspect_err(|fault| challenge(trail, fault, headers))
}

/// Begins a stream of events: it spent one read, and holds a connection until it ends.
async fn listen(
    trail: &mut Trail,
    call: Call,
    streamer: Streamer,
    hold: Hold,
    headers: &HeaderMap,
) -> Result<Decided, Fault> {
    if let Some(name) = [crate::query::PAGE, crate::query::LIMIT, crate::query::AFTER]
        .iter()
        .map(|parameter| parameter.name)
        .find(|name| call.query.text(name).is_some() || call.query.integer(name).is_some())
    {
        let message = "A stream has no pages; send Last-Event-ID to go on after an event.";
        return Err(Fault::bad(Detail::parameter(name, "not_in_streams", message)));
    }
    let follower = streamer(&call).await?;
    let caller = call.caller()?.clone();
    let bearer = headers::bearer(headers).map_err(no_credential)?.to_owned();
    let (mode, address) = (call.mount.mode, call.request.address);
    let listener = Listener { app: call.app, follower, bearer, mode, address, caller, hold };
    trail.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // What buffers answers on their way would keep events back.
    trail.headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(Decided { status: StatusCode::OK, body: listener.body(), kind: HeaderValue::from_static(EVENT_STREAM) })
}

/// Whether a request is for an operation that takes no credential but a secret in its body.
fn is_open(app: &App, mount: Mount, path: &str, method: &Method) -> bool {
    let found = app.router.find(path, mount.mode).and_then(|(resource, _)| resource.method(method.as_str()));
    found.is_some_and(|endpoint| endpoint.is_open)
}

/// What a request came to.
enum Performed {
    /// It was run, and its effect is durable.
    Written(Rendered),
    /// It was run, and has no effect.
    Read(Rendered),
    /// What is asked for is what the client has.
    NotModified(String, Option<ProjectId>),
    /// It was run before.
    Replay(Mount, Recording),
}

/// Steps 10 to 13.
///
/// Step 10 is taken as passed, since most keys are new: whoever commits meets the record of an earlier request there, and
/// whoever does not looks for it before it answers. So what an earlier request decides is decided first all the same.
async fn perform(mut call: Call, key: Option<String>, json: Option<Json>) -> Result<Performed, Fault> {
    let Some(key) = key else { return attempts(&mut call, json).await };
    let fingerprint = fingerprint(&call.query, json.as_ref());
    let keyed = Keyed {
        surface: call.mount.surface.name(),
        method: call.endpoint.method,
        path: &call.path,
        key: &key,
        fingerprint,
    };
    let ticket = match &call.caller {
        Some(caller) => call.cloud().idempotency_begin(caller, &keyed)?,
        None => call.cloud().idempotency_begin_open(&keyed)?,
    };
    call.ticket = Some(ticket);
    // Where the credential is in the body, a repetition is not to be counted as a failed one.
    if call.caller.is_none()
        && let Some(replay) = earlier(&call).await?
    {
        return Ok(replay);
    }
    let ended = attempts(&mut call, json).await;
    if matches!(ended, Ok(Performed::Written(_) | Performed::Replay(..))) {
        return ended;
    }
    earlier(&call).await?.map_or(ended, Ok)
}

/// The answer to an earlier request with this one's idempotency key.
async fn earlier(call: &Call) -> Result<Option<Performed>, Fault> {
    let Some(ticket) = &call.ticket else { return Ok(None) };
    let found = call.cloud().idempotency_earlier(call.caller.as_deref(), ticket).await?;
    Ok(found.map(|recording| Performed::Replay(call.mount, recording)))
}

/// Steps 11 to 13, again when a race was lost; but what the winner with the same key answered is answered again.
async fn attempts(call: &mut Call, json: Option<Json>) -> Result<Performed, Fault> {
    // 11. Fields.
    let table = call.endpoint.body.unwrap_or_default();
    let (body, mut problems) = Body::sift(table, json.unwrap_or(Json::Object(Vec::new())));
    call.body = body;
    if !problems.is_empty() {
        if let Some(look_up) = call.endpoint.look_up {
            problems.extend(look_up(call).await);
        }
        return Err(Fault::invalid(problems));
    }
    check_one(call.endpoint.exactly_one, &call.body)?;
    for _ in 0..ATTEMPTS_MAX {
        // 12 and 13: objects, preconditions, state, quota, dry run.
        let span = tracing::info_span!(target: scope::SPANS, "use-case", otel.name = call.endpoint.id);
        match (call.endpoint.handler)(call).instrument(span).await {
            Ok(Answer::Written(rendered)) => return Ok(Performed::Written(rendered)),
            Ok(Answer::Read(reply)) => {
                let reply = reply.tagged();
                if let (Some(tags), Some(etag), true) = (&call.if_none_match, &reply.etag, call.endpoint.is_read())
                    && tags.matches_weakly(etag)
                {
                    return Ok(Performed::NotModified(etag.clone(), reply.project_id));
                }
                return Ok(Performed::Read(call.render(&reply)));
            }
            Err(CommitError::Fault(fault)) => return Err(fault),
            Err(CommitError::Again) => {
                if let Some(replay) = earlier(call).await? {
                    return Ok(replay);
                }
            }
        }
    }
    Err(Fault::conflict(Detail::new("busy", "The resource changes too fast to be changed by this request; try again.")))
}

/// Of some fields, exactly one must be sent.
fn check_one(names: &[&str], body: &Body) -> Result<(), Fault> {
    let sent = names.iter().filter(|name| body.has(name)).count();
    if names.is_empty() || sent == 1 {
        return Ok(());
    }
    let code = if sent == 0 { "required" } else { "conflicting_fields" };
    let message = format!("Send exactly one of these fields: {}.", names.join(", "));
    Err(Fault::invalid(names.iter().map(|name| Detail::at(format!("/{name}"), code, message.clone())).collect()))
}

/// Runs a handler so that neither a panic nor a client that goes away leaves anything half done, and in bounded time.
async fn guarded(
    app: &Arc<App>,
    id: RequestId,
    endpoint: &'static Endpoint,
    wait_s: u64,
    performing: Pin<Box<impl Future<Output = Result<Performed, Fault>> + Send + 'static>>,
) -> Result<Performed, Fault> {
    let deadline = app.cloud.clock().sleep(Duration::from_secs(ANSWER_DEADLINE_S + wait_s));
    let caught = if endpoint.is_read() {
        match select(AssertUnwindSafe(performing).catch_unwind(), deadline).await {
            Either::Left((caught, _)) => caught.map_err(|_| panicked(endpoint)),
            Either::Right(_) => return Err(too_slow("answer")),
        }
    } else {
        // On a task of its own: a client that goes away midway does not stop it.
        match select(tokio::spawn(scope::of(id, performing).in_current_span()), deadline).await {
            Either::Left((joined, _)) => joined.map_err(|_| panicked(endpoint)),
            Either::Right(_) => return Err(too_slow("answer")),
        }
    };
    caught.and_then(|performed| performed)
}

fn panicked(endpoint: &Endpoint) -> Fault {
    Fault::internal(format!("the handler of {} panicked", endpoint.id))
}

/// Puts what was performed into the response.
fn answer(trail: &mut Trail, performed: Performed) -> Decided {
    match performed {
        Performed::Written(rendered) | Performed::Read(rendered) => {
            trail.project_id = rendered.project_id;
            let headers = &mut trail.headers;
            set_some(headers, header::ETAG, rendered.etag);
            set_some(headers, header::LOCATION, rendered.location);
            set_some(headers, header::LINK, rendered.link);
            set_some(headers, "preference-applied", rendered.preference_applied);
            set_some(headers, "operation-id", rendered.operation_id.map(|id| id.to_string()));
            if rendered.secret {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            let kind = headers::content_type(rendered.form);
            Decided { status: status(rendered.status), body: rendered.body.into(), kind }
        }
        Performed::NotModified(etag, project) => {
            trail.project_id = project;
            set(&mut trail.headers, header::ETAG, &etag);
            Decided::empty(StatusCode::NOT_MODIFIED)
        }
        Performed::Replay(mount, recording) => {
            let headers = &mut trail.headers;
            set_some(headers, header::ETAG, recording.etag);
            set_some(headers, header::LOCATION, recording.location);
            set_some(headers, "preference-applied", recording.preference_applied);
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
            headers.insert("idempotent-original-status", HeaderValue::from(recording.status));
            if recording.is_secret {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            let status = status(mount.surface.replay_status(recording.status));
            Decided::json(status, Bytes::from(recording.body))
        }
    }
}

/// Step 1.
pub(crate) fn check_limits(parts: &Parts) -> Result<(), Fault> {
    if let Some(bad) = parts.extensions.get::<BadHead>() {
        let (header, code, message) = match bad {
            BadHead::TwoLengths => (
                "transfer-encoding",
                "two_lengths",
                "A request has Content-Length or Transfer-Encoding, not both: who reads it must know where it ends.",
            ),
            BadHead::Coding => (
                "transfer-encoding",
                "unsupported",
                "Transfer-Encoding can only be chunked, once; or send Content-Length and the body as it is.",
            ),
            BadHead::Host => ("host", "invalid_value", "A request names its host in one Host header."),
        };
        return Err(Fault::bad(Detail::header(header, code, message)));
    }
    if parts.headers.len() > HEADERS_MAX {
        return Err(Fault::new(Code::HeadersTooLarge, format!("There are more than {HEADERS_MAX} headers.")));
    }
    let bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > HEADER_BYTES_MAX {
        return Err(Fault::new(
            Code::HeadersTooLarge,
            format!("The headers are larger than {HEADER_BYTES_MAX} bytes together."),
        ));
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_CHARS_MAX) {
        return Err(Fault::new(
            Code::HeadersTooLarge,
            format!("The path and query are longer than {TARGET_CHARS_MAX} characters."),
        ));
    }
    Ok(())
}

/// What step 8 leaves.
struct Syntax {
    query: Query,
    key: Option<String>,
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// Step 8: every problem of headers and query at once.
fn read_syntax(mount: Mount, endpoint: &Endpoint, parts: &Parts) -> Result<Syntax, Fault> {
    let mut problems = Vec::new();
    let query = Query::parse(parts.uri.query(), endpoint.query).unwrap_or_else(|wrong| {
        problems.extend(wrong);
        Query::default()
    });
    let mut tags = |name| {
        Tags::read(&parts.headers, name).unwrap_or_else(|wrong| {
            problems.push(wrong);
            None
        })
    };
    let if_match = if matches!(endpoint.method, "PATCH" | "DELETE") { tags("if-match") } else { None };
    let if_none_match = if endpoint.is_read() { tags("if-none-match") } else { None };
    let mut key = None;
    if endpoint.is_idempotent_by_key() && !query.flag("dry_run") {
        match idempotency_key(mount, &parts.headers) {
            Ok(found) => key = found,
            Err(wrong) => problems.push(wrong),
        }
    }
    if problems.is_empty() { Ok(Syntax { query, key, if_match, if_none_match }) } else { Err(Fault::invalid(problems)) }
}

fn idempotency_key(mount: Mount, headers: &HeaderMap) -> Result<Option<String>, Detail> {
    const NAME: &str = "idempotency-key";
    let invalid = |why: &str| Detail::header(NAME, "invalid_value", format!("The header Idempotency-Key {why}."));
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("is sent more than once"));
    }
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    match mount.surface.refuse_key(text) {
        None => Ok(Some(mount.surface.same_key(text))),
        Some(why) => Err(invalid(why)),
    }
}

/// Step 9.
async fn read_json<B>(app: &Arc<App>, parts: &Parts, body: B, bytes_max: usize) -> Result<Option<Json>, Fault>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let deadline = app.cloud.clock().sleep(Duration::from_secs(BODY_DEADLINE_S));
    let collected = match select(Box::pin(Limited::new(body, bytes_max).collect()), deadline).await {
        Either::Left((collected, _)) => collected,
        Either::Right(_) => return Err(too_slow("arrive")),
    };
    match collected {
        Ok(collected) => {
            let bytes = collected.to_bytes();
            if bytes.is_empty() { Ok(None) } else { Json::parse(&bytes).map(Some) }
        }
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(bytes_max)),
        Err(error) => Err(Fault {
            cause: Some(error),
            ..Fault::bad(Detail::new("broken_body", "The body ended before it was complete."))
        }),
    }
}

/// SHA-256 of what makes two requests with one key the same request.
fn fingerprint(query: &Query, json: Option<&Json>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(query.canonical());
    hash.update("\n");
    // No body and an empty object mean the same to every operation.
    hash.update(json.map_or_else(|| "{}".to_owned(), Json::canonical));
    hash.finalize().into()
}

fn nowhere() -> Fault {
    Fault {
        details: vec![Detail::new("no_base_url", "The base URLs are /v1, /sandbox/v1 and /api/v1.")],
        ..Fault::new(
            Code::ResourceNotFound,
            "There is nothing under this path. The API's base URLs are /v1, /sandbox/v1 and /api/v1.",
        )
    }
}

fn no_version(app: &App, mount: Mount) -> Fault {
    let versions = app.registry.versions_of(mount, app.cloud.clock().now());
    let message = format!("There is no such version of this API. The versions there are: {versions}.");
    Fault {
        details: vec![Detail::new("unknown_version", message.clone())],
        ..Fault::new(Code::ResourceNotFound, message)
    }
}

fn unknown_path() -> Fault {
    Fault::new(
        Code::ResourceNotFound,
        "There is no such path; the operations are listed in openapi.json under the base URL.",
    )
}

fn method_not_allowed(allow: &str) -> Fault {
    Fault::new(Code::MethodNotAllowed, format!("This path does not take this method; it takes {allow}."))
}

fn too_large(bytes_max: usize) -> Fault {
    Fault::new(Code::PayloadTooLarge, format!("The body is larger than {bytes_max} bytes."))
}

fn too_slow(what: &str) -> Fault {
    Fault::new(Code::RequestTimeout, format!("The request took too long to {what}. It may be tried again."))
}

pub(crate) fn no_credential(why: NoCredential) -> Fault {
    let message = match why {
        NoCredential::Missing => "This needs a credential: send Authorization: Bearer and an API key or token.",
        NoCredential::Malformed => "The Authorization header must be \"Bearer\", a space and an API key or token.",
    };
    let code = match why {
        NoCredential::Missing => "missing_credential",
        NoCredential::Malformed => "malformed_credential",
    };
    Fault { details: vec![Detail::header("authorization", code, message)], ..Fault::new(Code::Unauthorized, message) }
}

/// `WWW-Authenticate` (RFC 6750): an error code only when there was a credential.
fn challenge(trail: &mut Trail, fault: &Fault, headers: &HeaderMap) {
    if fault.code == Code::Unauthorized {
        let text =
            if headers.contains_key(header::AUTHORIZATION) { "Bearer error=\"invalid_token\"" } else { "Bearer" };
        trail.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(text));
    }
}

/// Step 3.
fn preflight(app: &App, trail: &mut Trail, headers: &HeaderMap) {
    if app.allowed_origin(headers).is_none() {
        return;
    }
    let fixed = [
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (
            "access-control-allow-headers",
            "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, prefer, x-request-id",
        ),
        ("access-control-max-age", PREFLIGHT_MAX_AGE_S),
    ];
    for (name, value) in fixed {
        trail.headers.insert(name, HeaderValue::from_static(value));
    }
}

fn status(number: u16) -> StatusCode {
    // Every number here is a constant of a success or one that was stored from it.
    StatusCode::from_u16(number).unwrap_or(StatusCode::OK)
}

fn set(headers: &mut HeaderMap, name: impl header::IntoHeaderName, text: &str) {
    // What is set here was made of identifiers, numbers and encoded text: visible ASCII.
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

fn set_some(headers: &mut HeaderMap, name: impl header::IntoHeaderName, text: Option<String>) {
    if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(name, value);
    }
}

/// What a log line says of a target: bounded.
pub(crate) fn brief_path(path: &str) -> String {
    brief(path)
}
