//! A ratchet: every operation against every kind of credential that should not pass, as `authorization.table` says.
//!
//! An operation that is not in the table fails, so nobody adds one without having thought about who may use it.

#![allow(clippy::unwrap_used)] // what fails here fails the test

mod api;

use std::collections::BTreeMap;

use api::Api;
use nephos_http::endpoint::{self, Endpoint};
use nephos_model::scope::Scopes;

const TABLE: &str = include_str!("authorization.table");
const KINDS: [&str; 6] =
    ["no key", "malformed key", "unknown key", "other workspace's key", "key without the scope", "a Member's key"];

/// A body that the operation takes.
fn body(id: &str) -> &'static str {
    match id {
        "project.create" | "project.update" => r#"{"name":"beta"}"#,
        "environment.create" | "environment.update" => r#"{"name":"qa"}"#,
        "compute.create" => r#"{"name":"web-2"}"#,
        "compute.update" => r#"{"protected":true}"#,
        "api_key.create" | "api_key.update" => r#"{"name":"ci"}"#,
        "member.update" => r#"{"role":"member"}"#,
        "invitation.create" => r#"{"email":"ada@people.example","role":"member"}"#,
        "invitation.accept" => r#"{"token":"invite_0"}"#,
        "workspace.update" => r#"{"name":"ours"}"#,
        "ssh_key.create" => {
            r#"{"name":"laptop","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"}"#
        }
        _ => "",
    }
}

/// The path of an operation on something that the workspace has.
async fn path(api: &Api, endpoint: &Endpoint) -> String {
    if !endpoint.path.contains("{id}") {
        return format!("/v1{}", endpoint.path);
    }
    let first = async |path: &str| api.get(path).await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let id = match endpoint.path.split('/').nth(1).unwrap() {
        "projects" => api.make("/v1/projects", r#"{"name":"alpha"}"#).await,
        "environments" => {
            let project = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
            first(&format!("/v1/projects/{project}/environments")).await
        }
        "computes" => api.make("/v1/computes", r#"{"name":"web-1"}"#).await,
        "operations" => {
            api.make("/v1/computes", r#"{"name":"web-1"}"#).await;
            first("/v1/operations").await
        }
        // Not the key that asks.
        "api-keys" => api.make("/v1/api-keys", body("api_key.create")).await,
        "members" => first("/v1/members").await,
        "invitations" => api.make("/v1/invitations", body("invitation.create")).await,
        "images" => first("/v1/images").await,
        "ssh-keys" => api.make("/v1/ssh-keys", body("ssh_key.create")).await,
        other => panic!("there is no example of /{other}: add one"),
    };
    format!("/v1{}", endpoint.path.replace("{id}", &id))
}

/// The status that each kind of credential gets.
async fn statuses(endpoint: &Endpoint) -> Vec<u16> {
    let api = Api::started().await;
    let path = path(&api, endpoint).await;
    let without =
        endpoint.need.map_or(Scopes::EVERY, |need| Scopes::EVERY.iter().filter(|s| *s != need.scope).collect());
    api.narrowed("without", |key| key.scopes = Some(without)).await;
    let tokens = [
        None,
        Some("Basic b3duZXI6"),
        Some("Bearer nobody"),
        Some("Bearer other"),
        Some("Bearer without"),
        Some("Bearer member"),
    ];
    let mut out = Vec::new();
    for token in tokens {
        let body = body(endpoint.id);
        let mut headers = vec![];
        headers.extend(token.map(|token| ("authorization", token)));
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        out.push(api.send(endpoint.method, &path, &headers, body).await.status);
    }
    out
}

#[tokio::test]
async fn every_operation_against_every_credential() {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let wanted: BTreeMap<&str, Vec<u16>> = rows
        .map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.map(|w| w.parse().unwrap()).collect())
        })
        .collect();
    let mut wrong = Vec::new();
    for endpoint in endpoint::all() {
        let seen = statuses(endpoint).await;
        let line = seen.iter().fold(format!("{:<24}", endpoint.id), |line, status| format!("{line}{status:>6}"));
        match wanted.get(endpoint.id) {
            None => wrong.push(format!("not in the table: {line}")),
            Some(row) if *row != seen => wrong.push(format!("otherwise in the table: {line}")),
            Some(_) => {}
        }
    }
    for id in wanted.keys().filter(|id| endpoint::all().all(|e| e.id != **id)) {
        wrong.push(format!("no such operation: {id}"));
    }
    assert!(wrong.is_empty(), "columns: {}\n{}", KINDS.join(", "), wrong.join("\n"));
}

#[test]
fn nobody_but_owners_and_admins_does_what_the_roles_reserve() {
    for endpoint in endpoint::all() {
        let Some(need) = endpoint.need else {
            // Any key may be exchanged: a token can do nothing that its key can't.
            let open = ["openapi.get", "invitation.accept", "token.create"];
            assert!(open.contains(&endpoint.id), "{}: every other operation needs a permission", endpoint.id);
            continue;
        };
        let reads = need.scope.to_string().ends_with(":read");
        assert_eq!(
            reads,
            endpoint.method == "GET",
            "{}: reading needs a read scope, writing a write scope",
            endpoint.id
        );
    }
}
