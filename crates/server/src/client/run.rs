//! What the API commands do.

use std::path::Path;

use nephos_model::{Clock, Entropy};
use serde_json::{Map, Value, json};

use super::api::{Answer, Api, Failure, encode, query_string};
use super::command::{
    Act, AuditList, Catalogue, ComputeCreate, ComputeList, ComputeUpdate, Computes, Delete, Environments, KeyCreate,
    Keys, Operations, Projects, Rebuild, Resize, Sandbox, Server, Ssh, SshKeyCreate, SshKeys, TokenCreate, Tokens,
    Usage, Waiting,
};
use super::{operation, resolve, ssh, terminal};
use crate::cli::{Audit, Command};
use crate::output::{self, Output};

/// Bytes of cloud-init user data at most, checked before they are sent.
const USER_DATA_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a public key's file at most.
const PUBLIC_KEY_BYTES_MAX: u64 = 16 * 1024;

const PROJECT_FIELDS: &[&str] = &["id", "name", "created_at"];
const ENVIRONMENT_FIELDS: &[&str] = &["id", "name", "project_id", "created_at"];
const COMPUTE_FIELDS: &[&str] =
    &["id", "name", "status", "region", "size", "image", "address.ssh_host", "address.ssh_port", "created_at"];
const OPERATION_FIELDS: &[&str] = &["id", "kind", "status", "progress", "resource_id", "created_at", "ended_at"];
const KEY_FIELDS: &[&str] = &["id", "name", "hint", "mode", "project_id", "expires_at", "last_used_at", "created_at"];
const BUDGET_FIELDS: &[&str] = &["name", "surface", "limit", "remaining", "window_s", "reset_s"];
const QUOTA_FIELDS: &[&str] = &["name", "limit", "used"];
const SSH_KEY_FIELDS: &[&str] = &["id", "name", "fingerprint", "created_at"];
const IMAGE_FIELDS: &[&str] = &["id", "name", "min_memory_mib", "min_disk_gib", "login_user", "description"];
const SIZE_FIELDS: &[&str] =
    &["name", "vcpus", "memory_mib", "disk_gib", "running_microunits_per_hour", "stopped_microunits_per_hour"];
const REGION_FIELDS: &[&str] = &["name", "driver", "available", "reason"];
const AUDIT_FIELDS: &[&str] =
    &["seq", "created_at", "action", "resource_id", "actor.kind", "actor.id", "address", "status", "request_id"];

/// Runs a command of the API. Commands of other kinds are not given to it.
pub fn run(command: Command, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<(), Failure> {
    let session = Session { clock, entropy };
    match command {
        Command::Projects(c) => session.projects(c),
        Command::Environments(c) => session.environments(c),
        Command::Computes(c) => session.computes(c),
        Command::Operations(c) => session.operations(c),
        Command::Keys(c) => session.keys(c),
        Command::Members(c) => session.members(c),
        Command::Invitations(c) => session.invitations(c),
        Command::Tokens(Tokens::Create(a)) => session.token_create(&a),
        Command::SshKeys(c) => session.ssh_keys(c),
        Command::Images(c) => session.catalogue(c, "/images", IMAGE_FIELDS),
        Command::Sizes(c) => session.catalogue(c, "/sizes", SIZE_FIELDS),
        Command::Regions(c) => session.catalogue(c, "/regions", REGION_FIELDS),
        Command::Audit(Audit::List(a)) => session.audit(&a),
        Command::Events(a) => session.events(*a),
        Command::Webhooks(c) => session.webhooks(c),
        Command::Usage(a) => session.usage(&a),
        Command::Invoices(c) => session.invoices(c),
        Command::BudgetAlerts(c) => session.budget_alerts(c),
        Command::Telemetry(c) => session.telemetry(c),
        Command::Limits(a) => session.limits(&a.server),
        Command::Sandbox(c) => session.sandbox(c),
        Command::Me(a) => {
            let answer = session.api(&a.server)?.get("/me")?;
            show(a.server.output, &answer.data);
            Ok(())
        }
        _ => Err(Failure::Local("this is not a command of the API".to_owned())),
    }
}

pub(super) struct Session<'a> {
    clock: &'a dyn Clock,
    pub(super) entropy: &'a dyn Entropy,
}

pub(super) fn show(output: Output, data: &Value) {
    match output {
        Output::Json => output::json(data),
        Output::Table => output::raw(&output::record(data)),
    }
}

fn show_list(output: Output, items: Vec<Value>, fields: &[&str]) {
    match output {
        Output::Json => output::json(&Value::Array(items)),
        Output::Table => output::raw(&output::table(&items, fields)),
    }
}

fn read_file(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    let fail = |what: String| Failure::Local(format!("{}: {what}", path.display()));
    let length = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if length > bytes_max {
        return Err(fail(format!("has {length} bytes; at most {bytes_max} are allowed")));
    }
    std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))
}

/// An action, or what it would do.
fn rehearsed(action: &str, dry_run: bool) -> String {
    if dry_run { format!("{action}?dry_run=true") } else { action.to_owned() }
}

fn labels(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect())
}

pub(super) fn id_path(path: &str, id: &str) -> String {
    format!("{path}/{}", encode(id))
}

impl<'a> Session<'a> {
    pub(super) fn api(&self, server: &Server) -> Result<Api<'a>, Failure> {
        Api::new(&server.url, server.key.as_deref(), self.entropy)
    }

    pub(super) fn list(
        &self,
        server: &Server,
        path: &str,
        query: &[(&str, &str)],
        limit: u32,
        fields: &[&str],
    ) -> Result<(), Failure> {
        show_list(server.output, self.api(server)?.list(path, query, limit)?, fields);
        Ok(())
    }

    /// Waits for the operation that an answer names, unless told not to.
    fn await_operation(&self, api: &Api<'_>, answer: &Answer, waiting: Waiting) -> Result<Option<Value>, Failure> {
        let header = answer.headers.get("operation-id").and_then(|v| v.to_str().ok());
        let field = answer.data.get("operation_id").and_then(Value::as_str);
        let own = answer.data.get("id").and_then(Value::as_str).filter(|id| id.starts_with("op_"));
        match header.or(field).or(own) {
            Some(id) if !waiting.no_wait => operation::wait(api, self.clock, id, waiting.timeout).map(Some),
            _ => Ok(None),
        }
    }

    fn sandbox(&self, command: Sandbox) -> Result<(), Failure> {
        let (server, path, body) = match command {
            Sandbox::Reset(a) => (a.server, "/reset", Some(json!({}))),
            Sandbox::Clock(a) => (a.server, "/clock", None),
            Sandbox::Advance(a) => {
                let body = match (a.by, a.to) {
                    (Some(seconds), _) => json!({"seconds": seconds}),
                    (None, to) => json!({"to": to}),
                };
                (a.server, "/clock/advance", Some(body))
            }
        };
        if server.key.as_deref().is_some_and(|key| key.starts_with("sk_live_")) {
            let why = "only test keys (sk_test_…) have a sandbox, and this key is a live one";
            return Err(Failure::Local(why.to_owned()));
        }
        let api = self.api(&server)?;
        let answer = match body {
            Some(body) => api.post(path, &body)?,
            None => api.get(path)?,
        };
        show(server.output, &answer.data);
        Ok(())
    }

    fn projects(&self, command: Projects) -> Result<(), Failure> {
        match command {
            Projects::List(a) => self.list(&a.server, "/projects", &[], a.length.limit, PROJECT_FIELDS),
            Projects::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::project(&api, Some(&a.name))?;
                show(a.server.output, &api.get(&id_path("/projects", &id))?.data);
                Ok(())
            }
            Projects::Create(a) => {
                show(a.server.output, &self.api(&a.server)?.post("/projects", &json!({"name": a.name}))?.data);
                Ok(())
            }
            Projects::Update(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::project(&api, Some(&a.name))?;
                show(a.server.output, &api.patch(&id_path("/projects", &id), &json!({"name": a.new_name}))?.data);
                Ok(())
            }
            Projects::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::project(&api, Some(&a.name))?;
                self.delete(&api, &id_path("/projects", &id), &a)
            }
        }
    }

    fn environments(&self, command: Environments) -> Result<(), Failure> {
        match command {
            Environments::List(a) => {
                let api = self.api(&a.server)?;
                let project = resolve::project(&api, a.within.project.as_deref())?;
                let path = format!("/projects/{}/environments", encode(&project));
                show_list(a.server.output, api.list(&path, &[], a.length.limit)?, ENVIRONMENT_FIELDS);
                Ok(())
            }
            Environments::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::environment(&api, &a.name, a.within.project.as_deref())?;
                show(a.server.output, &api.get(&id_path("/environments", &id))?.data);
                Ok(())
            }
            Environments::Create(a) => {
                let api = self.api(&a.server)?;
                let project = resolve::project(&api, a.project.as_deref())?;
                let path = format!("/projects/{}/environments", encode(&project));
                show(a.server.output, &api.post(&path, &json!({"name": a.name}))?.data);
                Ok(())
            }
            Environments::Update(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::environment(&api, &a.name, a.within.project.as_deref())?;
                show(a.server.output, &api.patch(&id_path("/environments", &id), &json!({"name": a.new_name}))?.data);
                Ok(())
            }
            Environments::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::environment(&api, &a.name, a.within.project.as_deref())?;
                self.delete(&api, &id_path("/environments", &id), &a)
            }
        }
    }

    fn delete(&self, api: &Api<'_>, path: &str, asked: &Delete) -> Result<(), Failure> {
        let path = if asked.force { format!("{path}?force=true") } else { path.to_owned() };
        let answer = api.delete(&path)?;
        self.await_operation(api, &answer, asked.waiting)?;
        show(asked.server.output, &answer.data);
        Ok(())
    }

    fn computes(&self, command: Computes) -> Result<(), Failure> {
        match command {
            Computes::List(a) => self.compute_list(&a),
            Computes::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::compute(&api, &a.name, &a.within)?;
                show(a.server.output, &api.get(&id_path("/computes", &id))?.data);
                Ok(())
            }
            Computes::Create(a) => self.compute_create(&a),
            Computes::Update(a) => self.compute_update(&a),
            Computes::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::compute(&api, &a.name, &a.within)?;
                let answer = api.delete(&id_path("/computes", &id))?;
                self.await_operation(&api, &answer, a.waiting)?;
                show(a.server.output, &answer.data);
                Ok(())
            }
            Computes::Start(a) => self.compute_act(&a, "start", &json!({})),
            Computes::Stop(a) => self.compute_act(&a, "stop", &json!({})),
            Computes::Reboot(a) => self.compute_act(&a, "reboot", &json!({})),
            Computes::Resize(a) => {
                let (action, body) = (rehearsed("resize", a.dry_run), json!({"size": a.size}));
                let Resize { name, within, waiting, server, .. } = a;
                self.compute_act(&Act { name, within, waiting, server }, &action, &body)
            }
            Computes::Rebuild(a) => {
                let (action, body) = (rehearsed("rebuild", a.dry_run), json!({"image": a.image}));
                let Rebuild { name, within, waiting, server, .. } = a;
                self.compute_act(&Act { name, within, waiting, server }, &action, &body)
            }
            Computes::Console(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::compute(&api, &a.name, &a.within)?;
                let path = format!("{}/console", id_path("/computes", &id));
                if a.attach {
                    return terminal::attach(&api, &path, self.clock);
                }
                let data = api.get(&path)?.data;
                match a.server.output {
                    Output::Json => output::json(&data),
                    Output::Table => {
                        let text = data.get("output").or_else(|| data.get("text")).unwrap_or(&data);
                        output::raw(&output::escape_lines(text.as_str().unwrap_or_default()));
                    }
                }
                Ok(())
            }
            Computes::Metrics(a) => self.compute_metrics(&a),
            Computes::Ssh(a) => self.compute_ssh(&a),
        }
    }

    fn compute_list(&self, a: &ComputeList) -> Result<(), Failure> {
        let api = self.api(&a.all.server)?;
        let mut filters = resolve::filters(&api, &a.all.within)?;
        filters.extend(a.status.clone().map(|s| ("status", s)));
        filters.extend(a.region.clone().map(|r| ("region", r)));
        filters.extend(a.label.clone().map(|(k, v)| ("label", format!("{k}:{v}"))));
        let pairs: Vec<(&str, &str)> = filters.iter().map(|(k, v)| (*k, v.as_str())).collect();
        show_list(a.all.server.output, api.list("/computes", &pairs, a.all.length.limit)?, COMPUTE_FIELDS);
        Ok(())
    }

    fn compute_create(&self, a: &ComputeCreate) -> Result<(), Failure> {
        let api = self.api(&a.server)?;
        let mut body = Map::new();
        body.insert("name".to_owned(), json!(a.name));
        if let Some(name) = &a.within.project {
            body.insert("project_id".to_owned(), json!(resolve::project(&api, Some(name))?));
        }
        let optional = [
            ("environment", &a.within.env),
            ("size", &a.size),
            ("image", &a.image),
            ("region", &a.region),
            ("restart_policy", &a.restart_policy),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                body.insert(key.to_owned(), json!(value));
            }
        }
        if !a.ssh_keys.is_empty() {
            body.insert("ssh_keys".to_owned(), json!(a.ssh_keys));
        }
        if let Some(path) = &a.user_data {
            body.insert("user_data".to_owned(), json!(read_file(path, USER_DATA_BYTES_MAX)?));
        }
        if !a.labels.is_empty() {
            body.insert("labels".to_owned(), labels(&a.labels));
        }
        if a.protected {
            body.insert("protected".to_owned(), json!(true));
        }
        let path = if a.dry_run { "/computes?dry_run=true" } else { "/computes" };
        let answer = api.post(path, &Value::Object(body))?;
        let id = answer.data["id"].as_str().map(str::to_owned);
        let ended = self.await_operation(&api, &answer, a.waiting)?;
        match (ended, id) {
            (Some(_), Some(id)) => show(a.server.output, &api.get(&id_path("/computes", &id))?.data),
            _ => show(a.server.output, &answer.data),
        }
        Ok(())
    }

    fn compute_update(&self, a: &ComputeUpdate) -> Result<(), Failure> {
        let mut body = Map::new();
        if let Some(name) = &a.new_name {
            body.insert("name".to_owned(), json!(name));
        }
        if !a.labels.is_empty() || a.no_labels {
            body.insert("labels".to_owned(), labels(&a.labels));
        }
        if let Some(protected) = a.protected {
            body.insert("protected".to_owned(), json!(protected));
        }
        if let Some(policy) = &a.restart_policy {
            body.insert("restart_policy".to_owned(), json!(policy));
        }
        if body.is_empty() {
            return Err(Failure::Local(
                "nothing to change: give --name, --label, --no-labels, --protected or --restart-policy".to_owned(),
            ));
        }
        let api = self.api(&a.server)?;
        let id = resolve::compute(&api, &a.name, &a.within)?;
        show(a.server.output, &api.patch(&id_path("/computes", &id), &Value::Object(body))?.data);
        Ok(())
    }

    fn compute_act(&self, a: &Act, action: &str, body: &Value) -> Result<(), Failure> {
        let api = self.api(&a.server)?;
        let id = resolve::compute(&api, &a.name, &a.within)?;
        let answer = api.post(&format!("{}/{action}", id_path("/computes", &id)), body)?;
        let ended = self.await_operation(&api, &answer, a.waiting)?;
        show(a.server.output, &ended.unwrap_or(answer.data));
        Ok(())
    }

    fn compute_ssh(&self, a: &Ssh) -> Result<(), Failure> {
        let api = self.api(&a.server)?;
        let id = resolve::compute(&api, &a.name, &a.within)?;
        let compute = api.get(&id_path("/computes", &id))?.data;
        let login = match &a.login {
            Some(user) => user.clone(),
            None => self.login_user(&api, &compute),
        };
        let login = ssh::Login::from_compute(&compute, &login)?;
        let words = login.prepare(a.identity.as_deref())?;
        if a.print {
            let all: Vec<String> = words.into_iter().chain(a.command.iter().cloned()).collect();
            output::line(&ssh::shell_line(&all));
            return Ok(());
        }
        if a.server.key.as_deref().is_some_and(|key| key.starts_with("sk_test_")) {
            return Err(Failure::Local(
                "a compute of the sandbox is simulated: there is no machine to log in to".to_owned(),
            ));
        }
        login.await_answer(self.clock, ssh::ANSWER_WAIT_S)?;
        Err(ssh::become_command(&words, &a.command))
    }

    /// The user that the compute's image names; `root` when the image is gone by now.
    #[allow(clippy::unused_self)] // beside its callers
    fn login_user(&self, api: &Api<'_>, compute: &Value) -> String {
        let image = compute["image_id"].as_str().and_then(|id| api.get(&id_path("/images", id)).ok());
        let user = image.and_then(|answer| answer.data["login_user"].as_str().map(str::to_owned));
        user.unwrap_or_else(|| "root".to_owned())
    }

    fn operations(&self, command: Operations) -> Result<(), Failure> {
        match command {
            Operations::List(a) => self.list(&a.server, "/operations", &[], a.length.limit, OPERATION_FIELDS),
            Operations::Get(a) => {
                show(a.server.output, &self.api(&a.server)?.get(&id_path("/operations", &a.name))?.data);
                Ok(())
            }
            Operations::Cancel(a) => {
                let path = format!("{}/cancel", id_path("/operations", &a.name));
                show(a.server.output, &self.api(&a.server)?.post(&path, &json!({}))?.data);
                Ok(())
            }
            Operations::Wait(a) => {
                let ended = operation::wait(&self.api(&a.server)?, self.clock, &a.name, a.waiting.timeout)?;
                show(a.server.output, &ended);
                Ok(())
            }
        }
    }

    fn keys(&self, command: Keys) -> Result<(), Failure> {
        match command {
            Keys::List(a) => self.list(&a.server, "/api-keys", &[], a.length.limit, KEY_FIELDS),
            Keys::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::looked_up(&api, resolve::KEY, &a.name)?;
                show(a.server.output, &api.get(&id_path("/api-keys", &id))?.data);
                Ok(())
            }
            Keys::Create(a) => self.key_create(&a),
            Keys::Rotate(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::looked_up(&api, resolve::KEY, &a.name)?;
                let body = json!({"grace_seconds": a.grace_seconds});
                show(a.server.output, &api.post(&format!("{}/rotate", id_path("/api-keys", &id)), &body)?.data);
                Ok(())
            }
            Keys::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::looked_up(&api, resolve::KEY, &a.name)?;
                show(a.server.output, &api.delete(&id_path("/api-keys", &id))?.data);
                Ok(())
            }
        }
    }

    fn token_create(&self, a: &TokenCreate) -> Result<(), Failure> {
        let mut body = Map::from_iter([("expires_in".to_owned(), json!(a.expires_in))]);
        if !a.scopes.is_empty() {
            body.insert("scopes".to_owned(), json!(a.scopes));
        }
        show(a.server.output, &self.api(&a.server)?.post("/tokens", &Value::Object(body))?.data);
        Ok(())
    }

    fn limits(&self, server: &Server) -> Result<(), Failure> {
        let answer = self.api(server)?.get("/limits")?;
        match (server.output, answer.data["budgets"].as_array(), answer.data["quotas"].as_array()) {
            (Output::Table, Some(budgets), Some(quotas)) => {
                output::raw(&output::table(budgets, BUDGET_FIELDS));
                output::raw(&output::table(quotas, QUOTA_FIELDS));
            }
            _ => show(server.output, &answer.data),
        }
        Ok(())
    }

    fn key_create(&self, a: &KeyCreate) -> Result<(), Failure> {
        let api = self.api(&a.server)?;
        let mut body = Map::new();
        body.insert("name".to_owned(), json!(a.name));
        if !a.scopes.is_empty() {
            body.insert("scopes".to_owned(), json!(a.scopes));
        }
        if let Some(name) = &a.project {
            body.insert("project_id".to_owned(), json!(resolve::project(&api, Some(name))?));
        }
        if let Some(name) = &a.env {
            body.insert("environment_id".to_owned(), json!(resolve::environment(&api, name, a.project.as_deref())?));
        }
        if let Some(time) = &a.expires_at {
            body.insert("expires_at".to_owned(), json!(time));
        }
        if !a.allowed_ips.is_empty() {
            body.insert("allowed_ips".to_owned(), json!(a.allowed_ips));
        }
        show(a.server.output, &api.post("/api-keys", &Value::Object(body))?.data);
        Ok(())
    }

    fn ssh_keys(&self, command: SshKeys) -> Result<(), Failure> {
        match command {
            SshKeys::List(a) => self.list(&a.server, "/ssh-keys", &[], a.length.limit, SSH_KEY_FIELDS),
            SshKeys::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::looked_up(&api, resolve::SSH_KEY, &a.name)?;
                show(a.server.output, &api.get(&id_path("/ssh-keys", &id))?.data);
                Ok(())
            }
            SshKeys::Create(a) => self.ssh_key_create(&a),
            SshKeys::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::looked_up(&api, resolve::SSH_KEY, &a.name)?;
                show(a.server.output, &api.delete(&id_path("/ssh-keys", &id))?.data);
                Ok(())
            }
        }
    }

    fn ssh_key_create(&self, a: &SshKeyCreate) -> Result<(), Failure> {
        let text = read_file(&a.file, PUBLIC_KEY_BYTES_MAX)?;
        // Checked here first, so that a private key never leaves this machine.
        let key = nephos_model::ssh_key::PublicKey::parse(&text)
            .map_err(|e| Failure::Local(format!("{}: the key {e}", a.file.display())))?;
        let body = json!({"name": a.name, "public_key": key.as_str()});
        show(a.server.output, &self.api(&a.server)?.post("/ssh-keys", &body)?.data);
        Ok(())
    }

    fn catalogue(&self, command: Catalogue, path: &str, fields: &[&str]) -> Result<(), Failure> {
        match command {
            Catalogue::List(a) => self.list(&a.server, path, &[], a.length.limit, fields),
            Catalogue::Get(a) => {
                let api = self.api(&a.server)?;
                let found = if path == resolve::IMAGE.path {
                    let id = resolve::looked_up(&api, resolve::IMAGE, &a.name)?;
                    api.get(&id_path(path, &id))?.data
                } else {
                    // Sizes and regions go by their names, and there is a handful.
                    resolve::in_list(&api, path, &a.name)?
                };
                show(a.server.output, &found);
                Ok(())
            }
        }
    }

    fn audit(&self, a: &AuditList) -> Result<(), Failure> {
        let filters = [("action", &a.action), ("resource_id", &a.resource), ("actor_id", &a.actor)];
        let filters: Vec<_> = filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
        self.list(&a.server, "/audit-log", &filters, a.length.limit, AUDIT_FIELDS)
    }

    fn usage(&self, a: &Usage) -> Result<(), Failure> {
        let query = a.month.as_deref().map(|m| format!("?{}", query_string(&[("month", m)]))).unwrap_or_default();
        let report = self.api(&a.server)?.get(&format!("/usage{query}"))?.data;
        match (a.server.output, report) {
            (Output::Table, Value::Object(mut fields)) => {
                let rows = fields.remove("by_project");
                output::raw(&output::record(&Value::Object(fields)));
                if let Some(Value::Array(rows)) = rows
                    && let Some(Value::Object(first)) = rows.first()
                {
                    let columns: Vec<&str> = first.keys().map(String::as_str).collect();
                    output::line("");
                    output::raw(&output::table(&rows, &columns));
                }
            }
            (output, report) => show(output, &report),
        }
        Ok(())
    }
}
