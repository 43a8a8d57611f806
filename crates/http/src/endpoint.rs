//! The one table of operations. The router, `Allow`, the OpenAPI documents and the authorization test derive from it.

use std::future::Future;
use std::pin::Pin;

use nephos_control::caller::{Permission, Reach};
use nephos_control::event::Follower;
use nephos_control::plan::CommitError;
use nephos_control::terminal::Opened;
use nephos_model::role::Role;
use nephos_model::scope::Scope;
use nephos_model::tenant::Mode;
use nephos_model::{Code, Detail, Fault};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::call::{Answer, Call};
use crate::fields::Field;
use crate::order::OPEN_BODY_BYTES_MAX;
use crate::query::Parameter;

/// What a handler gives back.
pub type Outcome<'a> = Pin<Box<dyn Future<Output = Result<Answer, CommitError>> + Send + 'a>>;
/// Runs an operation. It may be run again when it lost a race, so it keeps nothing between runs.
pub type Handler = for<'a> fn(&'a Call) -> Outcome<'a>;

/// What is unknown of what a body names: for a body that has other problems, so that all are told together.
pub type LookUp = for<'a> fn(&'a Call) -> Pin<Box<dyn Future<Output = Vec<Detail>> + Send + 'a>>;

/// Begins to follow what the operation lists.
pub type Streamer = for<'a> fn(&'a Call) -> Pin<Box<dyn Future<Output = Result<Follower, Fault>> + Send + 'a>>;

/// Opens a terminal on what the operation reads.
pub type TerminalOpener = for<'a> fn(&'a Call) -> Pin<Box<dyn Future<Output = Result<Opened, Fault>> + Send + 'a>>;

/// What an operation becomes for a client that asks for a WebSocket.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade {
    /// What that needs of a credential, instead of what the operation needs.
    pub need: Need,
    /// What opens it.
    pub open: TerminalOpener,
}

/// What an operation needs of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The scope.
    pub scope: Scope,
    /// The least role.
    pub role: Role,
    /// How far it reaches.
    pub reach: Reach,
}

impl Need {
    /// What a permission needs.
    pub const fn of<P: Permission>() -> Self {
        Self { scope: P::SCOPE, role: P::ROLE, reach: P::REACH }
    }
}

/// The shape of an operation's success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// One resource.
    Found,
    /// A list.
    Listed,
    /// A resource that was made: 201.
    Created,
    /// A resource that was changed.
    Updated,
    /// The id of a resource that was removed.
    Deleted,
    /// An operation that has begun: 202.
    Accepted,
    /// A report in its own shape.
    Report,
    /// A document of another convention.
    Document,
}

impl Success {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::Created => 201,
            Self::Accepted => 202,
            Self::Found | Self::Listed | Self::Updated | Self::Deleted | Self::Report | Self::Document => 200,
        }
    }
}

/// One operation.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // a row of a table, each with a name of its own
pub struct Endpoint {
    /// Its id: `noun.verb`.
    pub id: &'static str,
    /// The HTTP method.
    pub method: &'static str,
    /// The path under the base URL; at most one `{id}`.
    pub path: &'static str,
    /// What it needs of a credential; `None` is any credential.
    pub need: Option<Need>,
    /// Whether it takes no credential but a secret in its body, which its handler judges.
    pub is_open: bool,
    /// A few words for lists of operations.
    pub summary: &'static str,
    /// Sentences for the reference.
    pub description: &'static str,
    /// The sentence for people in the Strettch envelope.
    pub done: &'static str,
    /// Query parameters.
    pub query: &'static [Parameter],
    /// Fields of the body; `None` when it takes none.
    pub body: Option<&'static [Field]>,
    /// A body that it takes, as JSON: in the documents, the reference and the tests. Empty when it takes none.
    pub example: &'static str,
    /// What finds the unknown names in a body of which other fields are wrong.
    pub look_up: Option<LookUp>,
    /// What follows, for a client that asks for a stream of events.
    pub streamer: Option<Streamer>,
    /// What it becomes for a client that asks for a WebSocket.
    pub upgrade: Option<Upgrade>,
    /// Whether it begins an operation whose end `Prefer: wait=N` waits for.
    pub waits: bool,
    /// Fields of the body of which exactly one must be sent; none when there are no such.
    pub exactly_one: &'static [&'static str],
    /// The shape of its success.
    pub success: Success,
    /// The schema of what it answers.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Media types in which it answers beside JSON, for those who ask for one in `Accept`.
    pub forms: &'static [&'static str],
    /// The media type for who wants any alike.
    pub form_by_default: &'static str,
    /// What it can refuse with, beyond what every operation can.
    pub faults: &'static [Code],
    /// Whether it takes no `Idempotency-Key` although it is a POST.
    pub ignores_key: bool,
    /// Whether it is there under the sandbox's base URLs only.
    pub sandbox_only: bool,
    /// What runs it.
    pub handler: Handler,
}

impl Endpoint {
    /// An operation that any credential may ask for.
    pub const fn new(
        id: &'static str,
        method: &'static str,
        path: &'static str,
        success: Success,
        schema: fn(&mut SchemaGenerator) -> Schema,
        handler: Handler,
    ) -> Self {
        Self {
            id,
            method,
            path,
            need: None,
            is_open: false,
            summary: "",
            description: "",
            done: "",
            query: &[],
            body: None,
            example: "",
            look_up: None,
            streamer: None,
            upgrade: None,
            waits: false,
            exactly_one: &[],
            success,
            schema,
            forms: &[],
            form_by_default: crate::headers::JSON,
            faults: &[],
            ignores_key: false,
            sandbox_only: false,
            handler,
        }
    }

    /// There under the sandbox's base URLs only; all operations of its path must be.
    #[must_use]
    pub const fn in_sandbox(mut self) -> Self {
        self.sandbox_only = true;
        self
    }

    /// Whether it is there under base URLs of a mode.
    pub fn is_in(&self, mode: Mode) -> bool {
        !self.sandbox_only || mode == Mode::Test
    }

    /// What it needs of a credential.
    #[must_use]
    pub const fn needs(mut self, need: Need) -> Self {
        self.need = Some(need);
        self
    }

    /// It takes no credential but a secret in its body, which its handler judges.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.is_open = true;
        self
    }

    /// What people read about it: a few words, sentences for the reference, and what is said when it is done.
    #[must_use]
    pub const fn told(mut self, summary: &'static str, description: &'static str, done: &'static str) -> Self {
        self.summary = summary;
        self.description = description;
        self.done = done;
        self
    }

    /// Its query parameters.
    #[must_use]
    pub const fn query(mut self, query: &'static [Parameter]) -> Self {
        self.query = query;
        self
    }

    /// The fields of its body, and a body that it takes.
    #[must_use]
    pub const fn body(mut self, body: &'static [Field], example: &'static str) -> Self {
        self.body = Some(body);
        self.example = example;
        self
    }

    /// It begins an operation, for whose end a client may prefer to wait.
    #[must_use]
    pub const fn waits(mut self) -> Self {
        self.waits = true;
        self
    }

    /// What finds the unknown names in a body of which other fields are wrong. It sees the right ones only.
    #[must_use]
    pub const fn looks_up(mut self, look_up: LookUp) -> Self {
        self.look_up = Some(look_up);
        self
    }

    /// A client may ask for a stream of events instead.
    #[must_use]
    pub const fn streams(mut self, streamer: Streamer) -> Self {
        self.streamer = Some(streamer);
        self
    }

    /// A client may ask for a WebSocket instead.
    #[must_use]
    pub const fn upgrades(mut self, need: Need, open: TerminalOpener) -> Self {
        self.upgrade = Some(Upgrade { need, open });
        self
    }

    /// Fields of the body of which exactly one must be sent.
    #[must_use]
    pub const fn exactly_one(mut self, names: &'static [&'static str]) -> Self {
        self.exactly_one = names;
        self
    }

    /// Media types in which it answers beside JSON.
    #[must_use]
    pub const fn forms(mut self, forms: &'static [&'static str]) -> Self {
        self.forms = forms;
        self
    }

    /// The media type for who wants any alike, one of [`Endpoint::forms`].
    #[must_use]
    pub const fn by_default(mut self, form: &'static str) -> Self {
        self.form_by_default = form;
        self
    }

    /// What it can refuse with, beyond what every operation can.
    #[must_use]
    pub const fn faults(mut self, faults: &'static [Code]) -> Self {
        self.faults = faults;
        self
    }

    /// Takes no `Idempotency-Key`: each request has another answer.
    #[must_use]
    pub const fn without_key(mut self) -> Self {
        self.ignores_key = true;
        self
    }

    /// Whether it can be repeated safely with an `Idempotency-Key`.
    pub fn is_idempotent_by_key(&self) -> bool {
        self.method == "POST" && !self.ignores_key
    }

    /// The noun of its id.
    pub fn noun(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// Whether it takes `dry_run`.
    pub fn takes_dry_run(&self) -> bool {
        self.query.iter().any(|p| p.name == "dry_run")
    }

    /// Bytes of its body at most: a stranger's is read only up to what an honest one needs.
    /// `configured` is what the installation takes of those whom it knows.
    pub fn body_bytes_max(&self, configured: usize) -> usize {
        if self.is_open { OPEN_BODY_BYTES_MAX } else { configured }
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        self.method == "GET"
    }
}

/// The schema of a view, for [`Endpoint::schema`].
pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Every operation.
pub fn all() -> impl Iterator<Item = &'static Endpoint> {
    crate::noun::TABLES.iter().flat_map(|table| table.iter())
}

/// The operations of one path.
#[derive(Debug, Default, Clone)]
pub struct Resource {
    operations: Vec<&'static Endpoint>,
    /// The value of `Allow`.
    pub allow: String,
}

impl Resource {
    /// The operation for a method; HEAD is served by GET.
    pub fn method(&self, method: &str) -> Option<&'static Endpoint> {
        let method = if method == "HEAD" { "GET" } else { method };
        self.operations.iter().find(|e| e.method == method).copied()
    }
}

/// Finds operations by path.
#[derive(Debug)]
pub struct Router {
    paths: matchit::Router<Resource>,
}

impl Router {
    /// A router over operations.
    ///
    /// # Panics
    /// When two paths of the table contradict each other, which any test notices.
    pub fn new(operations: impl Iterator<Item = &'static Endpoint>) -> Self {
        let mut resources: Vec<(&'static str, Resource)> = Vec::new();
        for endpoint in operations {
            let known = resources.iter().position(|(path, _)| *path == endpoint.path);
            let at = known.unwrap_or_else(|| {
                resources.push((endpoint.path, Resource::default()));
                resources.len() - 1
            });
            resources[at].1.operations.push(endpoint);
        }
        let mut paths = matchit::Router::new();
        for (path, mut resource) in resources {
            let mut methods: Vec<_> = resource.operations.iter().map(|e| e.method).collect();
            if methods.contains(&"GET") {
                methods.push("HEAD");
            }
            methods.push("OPTIONS");
            methods.sort_unstable();
            resource.allow = methods.join(", ");
            let inserted = paths.insert(path, resource);
            assert!(inserted.is_ok(), "{path} contradicts another path: {inserted:?}");
        }
        Self { paths }
    }

    /// The operations of a path under a base URL of a mode, and its `{id}` if it has one.
    pub fn find<'a>(&'a self, path: &'a str, mode: Mode) -> Option<(&'a Resource, &'a str)> {
        let found = self.paths.at(path).ok().filter(|found| found.value.operations.iter().all(|e| e.is_in(mode)))?;
        Some((found.value, found.params.get("id").unwrap_or_default()))
    }
}
