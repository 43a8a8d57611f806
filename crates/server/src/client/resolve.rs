//! From what a person types to an id: an id is taken as it is, a name is looked up and must be clear.

use serde_json::Value;

use super::api::{Api, Failure, encode};
use super::command::Within;
use crate::output::escape;

/// Candidates that are looked at when a name is unclear.
const CANDIDATES_MAX: u32 = 10;
/// Items looked through where the API has no filter by name.
const LOOKED_THROUGH_MAX: u32 = 10_000;

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Noun {
    /// For people.
    pub name: &'static str,
    /// The path below the base URL.
    pub path: &'static str,
    /// What its ids begin with, with the underscore.
    pub prefix: &'static str,
}

/// Projects.
pub const PROJECT: Noun = Noun { name: "project", path: "/projects", prefix: "prj_" };
/// Computes.
pub const COMPUTE: Noun = Noun { name: "compute", path: "/computes", prefix: "cmp_" };
/// API keys.
pub const KEY: Noun = Noun { name: "API key", path: "/api-keys", prefix: "key_" };
/// Members.
pub const MEMBER: Noun = Noun { name: "member", path: "/members", prefix: "mem_" };
/// Invitations.
pub const INVITATION: Noun = Noun { name: "invitation", path: "/invitations", prefix: "ivt_" };
/// SSH keys.
pub const SSH_KEY: Noun = Noun { name: "SSH key", path: "/ssh-keys", prefix: "ssh_" };
/// Images.
pub const IMAGE: Noun = Noun { name: "image", path: "/images", prefix: "img_" };

/// The project's id; `default` when none is named.
pub fn project(api: &Api<'_>, name: Option<&str>) -> Result<String, Failure> {
    named(api, PROJECT, name.unwrap_or("default"), &[])
}

/// The environment's id, looked for in the named project, or the default one.
pub fn environment(api: &Api<'_>, name: &str, in_project: Option<&str>) -> Result<String, Failure> {
    if name.starts_with("env_") {
        return Ok(name.to_owned());
    }
    let project = project(api, in_project)?;
    let all = api.list(&format!("/projects/{}/environments", encode(&project)), &[], LOOKED_THROUGH_MAX)?;
    one("environment", name, all.into_iter().filter(|e| e["name"] == name).collect())
}

/// The compute's id, looked for within a project and environment where they are given.
pub fn compute(api: &Api<'_>, name: &str, within: &Within) -> Result<String, Failure> {
    if name.starts_with(COMPUTE.prefix) {
        return Ok(name.to_owned());
    }
    let filters = filters(api, within)?;
    let pairs: Vec<(&str, &str)> = filters.iter().map(|(k, v)| (*k, v.as_str())).collect();
    named(api, COMPUTE, name, &pairs)
}

/// Query parameters that narrow a list to a project and environment.
pub fn filters(api: &Api<'_>, within: &Within) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut filters = Vec::new();
    if let Some(name) = &within.project {
        filters.push(("project_id", project(api, Some(name))?));
    }
    if let Some(name) = &within.env {
        filters.push(("environment_id", environment(api, name, within.project.as_deref())?));
    }
    Ok(filters)
}

/// The id of what is called `name`, by the API's filter.
pub fn named(api: &Api<'_>, noun: Noun, name: &str, filters: &[(&str, &str)]) -> Result<String, Failure> {
    if name.starts_with(noun.prefix) {
        return Ok(name.to_owned());
    }
    let mut pairs = filters.to_vec();
    pairs.push(("name", name));
    one(noun.name, name, api.list(noun.path, &pairs, CANDIDATES_MAX)?)
}

/// The id of what is called `name`, where the API has no filter by it: the list is looked through.
pub fn looked_up(api: &Api<'_>, noun: Noun, name: &str) -> Result<String, Failure> {
    if name.starts_with(noun.prefix) {
        return Ok(name.to_owned());
    }
    let all = api.list(noun.path, &[], LOOKED_THROUGH_MAX)?;
    one(noun.name, name, all.into_iter().filter(|item| item["name"] == name).collect())
}

/// The id of who has an e-mail address.
pub fn person(api: &Api<'_>, noun: Noun, email: &str) -> Result<String, Failure> {
    if email.starts_with(noun.prefix) {
        return Ok(email.to_owned());
    }
    let wanted = email.trim().to_lowercase();
    let all = api.list(noun.path, &[], LOOKED_THROUGH_MAX)?;
    one(noun.name, email, all.into_iter().filter(|item| item["email"] == wanted).collect())
}

/// The item of a list that is called `name`.
pub fn in_list(api: &Api<'_>, path: &str, name: &str) -> Result<Value, Failure> {
    let found = api.list(path, &[], LOOKED_THROUGH_MAX)?.into_iter().find(|item| item["name"] == name);
    found.ok_or_else(|| missing(path.trim_matches('/').trim_end_matches('s'), name))
}

fn missing(noun: &str, name: &str) -> Failure {
    Failure::Refused(super::api::Refusal {
        status: 404,
        code: "resource_not_found".to_owned(),
        message: format!("There is no {noun} called {}.", escape(name)),
        details: Vec::new(),
        request_id: String::new(),
    })
}

fn one(noun: &str, name: &str, mut found: Vec<Value>) -> Result<String, Failure> {
    let id = |item: &Value| item["id"].as_str().map(str::to_owned);
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(missing(noun, name)),
        (Some(item), true) => {
            id(&item).ok_or_else(|| Failure::Unreachable(format!("the {noun} has no id; is this server a nephos?")))
        }
        (Some(item), false) => {
            let ids: Vec<String> = found.iter().chain([&item]).filter_map(id).collect();
            Err(Failure::Local(format!(
                "several are called {}: {}; give the id, --project or --env",
                escape(name),
                ids.join(", ")
            )))
        }
    }
}
