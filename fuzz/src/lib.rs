//! What each target does with its bytes: parse them, and hold what was parsed against what must be true of it.
//!
//! A target never fails on bytes that are refused; it fails on a panic, on a wrong answer, and on what takes too long.

// The server is a program and no library: these two files of it are read here by links, for their parsers alone.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod config;
#[allow(dead_code, unreachable_pub, unused_imports)]
mod manifest;

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue};
use nephos_control::address::Range;
use nephos_http::client_address::{self, ForwardedHeader};
use nephos_http::fields::{Body, Field, Kind};
use nephos_http::headers::{self, Tags};
use nephos_http::json::Json;
use nephos_http::mount::{self, Place};
use nephos_http::query::{AFTER, DRY_RUN, LIMIT, PAGE, Parameter, Query};
use nephos_http::surface::{Platform, Strettch, Surface};
use nephos_model::id::{ComputeId, ProjectId, Raw};
use nephos_model::key::Secret;
use nephos_model::name::{Hostname, Title};
use nephos_model::scope::Scope;
use nephos_model::ssh_key::PublicKey;
use nephos_model::trace::{STATE_CHARS_MAX, TraceContext};

/// Every target with its name, for the replay of the corpus.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("key", key),
    ("id", id),
    ("query", query),
    ("json", json),
    ("idempotency", idempotency),
    ("prefer", prefer),
    ("traceparent", traceparent),
    ("entity_tag", entity_tag),
    ("accept", accept),
    ("label", label),
    ("cidr", cidr),
    ("ssh_key", ssh_key),
    ("user_data", user_data),
    ("qmp", qmp),
    ("qcow2", qcow2),
    ("token", token),
    ("path", path),
    ("head", head),
    ("forwarded", forwarded),
    ("image_info", image_info),
    ("config", config),
    ("manifest", manifest),
];

fn text(data: &[u8]) -> &str {
    std::str::from_utf8(data).unwrap_or_default()
}

/// Each line of the bytes as one header of this name.
fn headers_of(name: &'static str, data: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            map.append(HeaderName::from_static(name), value);
        }
    }
    map
}

/// API keys, and the header that carries them.
pub fn key(data: &[u8]) {
    let text = text(data);
    let parsed = Secret::parse(text);
    assert_eq!(parsed.is_some(), Secret::recognize(text).is_some());
    if let Some(secret) = parsed {
        assert_eq!(secret.expose(), text);
        assert_eq!(Secret::recognize(text).map(|(_, hash)| hash), Some(secret.hash()));
        assert!(!format!("{secret:?}").contains(text));
    }
    if let Ok(token) = headers::bearer(&headers_of("authorization", data)) {
        assert!(!token.is_empty());
    }
    if let Some(id) = headers::client_request_id(&headers_of("x-request-id", data)) {
        assert!(id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()));
    }
}

/// Identifiers and UUIDs.
pub fn id(data: &[u8]) {
    let text = text(data);
    if let Ok(id) = text.parse::<ProjectId>() {
        assert_eq!(id.to_string(), text);
        assert!(text.parse::<ComputeId>().is_err());
    }
    if let Some(raw) = Raw::from_uuid(text) {
        assert_eq!(raw.to_uuid(), text.to_ascii_lowercase());
    }
}

/// Query strings.
pub fn query(data: &[u8]) {
    const TABLE: &[Parameter] = &[PAGE, LIMIT, AFTER, DRY_RUN];
    match Query::parse(Some(text(data)), TABLE) {
        Ok(query) => {
            let _ = (query.page("prj"), query.filters());
            let again = Query::parse(Some(&query.canonical()), TABLE);
            assert_eq!(again.map(|q| q.canonical()).ok(), Some(query.canonical()));
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// JSON bodies, their canonical form and their fields.
pub fn json(data: &[u8]) {
    const TABLE: &[Field] = &[
        Field::required("name", Kind::Hostname, "A name."),
        Field::nullable("allowed_ips", Kind::List { of: &Kind::Network, items_max: 4 }, "Networks."),
        Field::optional("project_id", Kind::Id("prj"), "A project."),
        Field::optional("labels", Kind::Labels, "Labels."),
        Field::optional("count", Kind::Integer { min: 0, max: 9 }, "A number."),
        Field::optional("at", Kind::Time, "A time."),
    ];
    let Ok(parsed) = Json::parse(data) else { return };
    // What the strict parser takes, every other takes too, and its canonical form means itself.
    let loose: serde_json::Value = serde_json::from_slice(data).expect("it is JSON");
    let canonical = parsed.canonical();
    let again = Json::parse(canonical.as_bytes()).expect("the canonical form is JSON");
    assert_eq!(again.canonical(), canonical);
    assert_eq!(loose.is_object(), canonical.starts_with('{'));
    if let Err(problems) = Body::check(TABLE, parsed) {
        assert!(!problems.is_empty());
    }
}

/// Idempotency keys of both surfaces.
pub fn idempotency(data: &[u8]) {
    let text = text(data);
    for surface in [&Platform as &dyn Surface, &Strettch] {
        if surface.refuse_key(text).is_none() {
            let same = surface.same_key(text);
            assert!((1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()));
            assert_eq!(surface.same_key(&same), same);
        }
    }
}

/// `Prefer`.
pub fn prefer(data: &[u8]) {
    let headers = headers_of("prefer", data);
    let _ = headers::prefers_envelope(&headers);
    assert!(headers::prefers_wait(&headers, 30).is_none_or(|seconds| seconds <= 30));
}

/// `traceparent` and `tracestate`: the first line and the others.
pub fn traceparent(data: &[u8]) {
    let mut lines = text(data).split('\n');
    let parent = lines.next().unwrap_or_default();
    if let Some(read) = TraceContext::read(parent, lines) {
        assert!(read.trace_id() != 0 && read.span_id() != 0 && read.state().len() <= STATE_CHARS_MAX);
        assert_eq!(TraceContext::from_text(&read.to_text()), Some(read));
    }
    let _ = headers::trace(&headers_of("traceparent", data));
}

/// `If-Match` and `If-None-Match`.
pub fn entity_tag(data: &[u8]) {
    if let Ok(Some(tags)) = Tags::read(&headers_of("if-match", data), "if-match") {
        let strong = tags.matches_strongly("\"1\"");
        assert!(!strong || tags.matches_weakly("\"1\""), "what matches strongly matches weakly");
        let _ = tags.versions();
    }
}

/// `Accept`, `Content-Type` and `Content-Encoding`.
pub fn accept(data: &[u8]) {
    const FORMS: [&str; 2] = ["text/csv", "application/x-ndjson"];
    let asked = headers_of("accept", data);
    let form = headers::chosen(&asked, &FORMS, headers::JSON);
    assert!(form.is_none_or(|form| form == headers::JSON || FORMS.contains(&form)), "only what there is is chosen");
    let _ = headers::asks_for_events(&asked);
    let _ = headers::last_event_id(&headers_of("last-event-id", data));
    let _ = headers::sends_json(&headers_of("content-type", data));
    let _ = headers::sends_plain(&headers_of("content-encoding", data));
}

/// Labels, names and scopes.
pub fn label(data: &[u8]) {
    let text = text(data);
    let _ = (nephos_model::label::key(text), nephos_model::label::value(text));
    if let Ok(name) = text.parse::<Hostname>() {
        assert!((1..=63).contains(&name.as_str().len()));
    }
    if let Ok(title) = text.parse::<Title>() {
        assert!((1..=100).contains(&title.as_str().chars().count()));
    }
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.to_string(), text);
    }
}

/// Addresses and networks.
pub fn cidr(data: &[u8]) {
    let (first, second) = text(data).split_once('\n').unwrap_or((text(data), ""));
    let Ok(range) = first.parse::<Range>() else { return };
    assert!(range.covers(&range));
    if let Ok(other) = second.parse::<Range>()
        && let Some(address) = second.split('/').next().and_then(|a| a.parse().ok())
    {
        assert!(!range.covers(&other) || !other.holds(address) || range.holds(address));
    }
}

/// SSH public keys.
pub fn ssh_key(data: &[u8]) {
    if let Ok(key) = PublicKey::parse(text(data)) {
        assert!(!key.as_str().contains('\n') && key.fingerprint().starts_with("SHA256:"));
        assert_eq!(PublicKey::parse(key.as_str()).map(|again| again.fingerprint()).ok(), Some(key.fingerprint()));
    }
}

/// User data, as a create takes it.
pub fn user_data(data: &[u8]) {
    const TABLE: &[Field] = &[Field::optional("user_data", Kind::Text { bytes_max: 65_536 }, "cloud-init.")];
    let body = serde_json::json!({"user_data": String::from_utf8_lossy(data)}).to_string();
    if let Ok(json) = Json::parse(body.as_bytes())
        && let Ok(body) = Body::check(TABLE, json)
    {
        let Some(user_data) = body.text("user_data") else { return };
        assert!(!user_data.contains('\0'));
        // What a guest reads is what was sent, and its volume is whole sectors.
        let volume = nephos_driver::qemu::parsers::seed(user_data);
        assert!(volume.len() % 2048 == 0);
        let first = &user_data.as_bytes()[..user_data.len().min(2048)];
        assert!(volume.chunks(2048).any(|sector| sector.starts_with(first)));
    }
}

/// Answers of a monitor.
pub fn qmp(data: &[u8]) {
    let _ = nephos_driver::qemu::parsers::qmp(data);
}

/// Headers of images.
pub fn qcow2(data: &[u8]) {
    let _ = nephos_driver::qemu::parsers::qcow2(data);
}

/// Tokens, whoever signed them.
pub fn token(data: &[u8]) {
    let text = text(data);
    if nephos_control::token::has_form(text, "https://cloud.example") {
        // Only who has the key can say something of the signature.
        let said = text.rsplit_once('.').map_or(text, |(said, _)| said);
        assert!(said.bytes().all(|b| b.is_ascii_graphic()), "it fits a header");
        assert!(!nephos_control::token::has_form(text, "https://evil.example"));
        assert!(Secret::parse(text).is_none(), "a token is no key");
    }
}

/// Paths, and the base URLs that they are under.
pub fn path(data: &[u8]) {
    let text = text(data);
    let plain = mount::plain(text);
    assert!(plain.len() <= text.len());
    for is_sandbox_host in [false, true] {
        if let Place::Under(mount, rest) = mount::find(&plain, is_sandbox_host) {
            assert!(rest.is_empty() || rest.starts_with('/'));
            assert_eq!(format!("{}{rest}", mount.base), plain);
        }
    }
}

/// The head of a request, in two pieces as a connection brings them; the first byte says where it is cut.
pub fn head(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let head = [&b"POST /v1/projects HTTP/1.1\r\n"[..], rest].concat();
    let (first, second) = head.split_at(usize::from(*cut).min(head.len()));
    let told = nephos_http::try_two_lengths([first, second], "/v1/projects");
    assert_eq!(told, nephos_http::try_two_lengths([&head, b""], "/v1/projects"), "how it arrives changes nothing");
    // A length in the one head there is, with lines ended as they should be, is never missed.
    let end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(rest.len());
    let mut lines = rest[..end].split(|b| *b == b'\n');
    let is_orderly = lines.clone().rev().skip(1).all(|line| line.len() > 1 && line.ends_with(b"\r"));
    let has_length = lines.any(|line| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:"));
    let is_alone = !rest.windows(5).any(|five| five == b"POST ");
    assert!(told || !(is_orderly && has_length && is_alone), "a length is hidden");
}

/// The headers in which proxies tell the client's address.
pub fn forwarded(data: &[u8]) {
    let trusted: Vec<Range> = ["10.0.0.0/8", "2001:db8::/32"].iter().filter_map(|text| text.parse().ok()).collect();
    let proxy = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let stranger = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    for (name, header) in
        [("x-forwarded-for", ForwardedHeader::XForwardedFor), ("forwarded", ForwardedHeader::Forwarded)]
    {
        let headers = headers_of(name, data);
        assert_eq!(
            client_address::client(stranger, &headers, &trusted, header),
            stranger,
            "a stranger is not believed"
        );
        let client = client_address::client(proxy, &headers, &trusted, header);
        assert_eq!(client, client.to_canonical());
        // What the proxy in front writes is believed, whatever came before it.
        let mut more = headers;
        let last = if name == "forwarded" { "for=198.51.100.7" } else { "198.51.100.7" };
        more.append(name, HeaderValue::from_static(last));
        let client = client_address::client(proxy, &more, &trusted, header);
        assert_eq!(client, IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)));
    }
}

/// What the image tool says of an image.
pub fn image_info(data: &[u8]) {
    if nephos_driver::qemu::parsers::image_info(data) {
        let info: serde_json::Value = serde_json::from_slice(data).expect("it was read");
        assert!(info["format"] == "qcow2" && info["virtual-size"] == 1 << 20 && info["backing-filename"].is_null());
    }
}

/// A file of this process with these bytes. `scripts/fuzz` has the temporary folder in memory, and removes it.
fn file(name: &str, data: &[u8]) -> PathBuf {
    thread_local!(static FOLDER: OnceCell<PathBuf> = const { OnceCell::new() });
    let folder = FOLDER.with(|folder| {
        let made = folder.get_or_init(|| {
            let folder = std::env::temp_dir().join(format!("nephos-fuzz-{}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("there is a folder for temporary files");
            folder
        });
        made.clone()
    });
    let path = folder.join(name);
    std::fs::write(&path, data).expect("a temporary file can be written");
    path
}

/// The configuration file.
pub fn config(data: &[u8]) {
    let read = |data: &[u8]| {
        let sources = config::Sources {
            file: Some(file("nephos.toml", data)),
            data_dir_default: PathBuf::from("/nonexistent/nephos"),
            ..config::Sources::default()
        };
        config::Loaded::read(&sources)
    };
    match read(data) {
        Ok(loaded) => {
            // Passwords are not printed; all else that is printed reads back as the same.
            let printed = loaded.to_toml();
            let hidden = loaded.config.database.is_some() || loaded.config.mail_smtp_url.is_some();
            if !hidden {
                let again = read(printed.as_bytes()).map_err(|error| format!("{error}\n{printed}"));
                assert_eq!(again.map(|again| again.config), Ok(loaded.config), "{printed}");
            }
        }
        Err(error) => assert!(!error.0.is_empty() && error.0.iter().all(|problem| !problem.is_empty())),
    }
}

/// The manifest of an image.
pub fn manifest(data: &[u8]) {
    let path = file("manifest.toml", data);
    match manifest::read(&path) {
        Ok(image) => assert!(image.file.is_absolute()),
        Err(error) => assert!(format!("{error:#}").contains("manifest.toml")),
    }
}
