//! Something that the workspace has, for each operation that is about one.

use nephos_http::endpoint::{self, Endpoint};
use nephos_model::role::Role;

use super::Api;

/// A body that an operation takes.
pub fn example(id: &str) -> &'static str {
    endpoint::all().find(|endpoint| endpoint.id == id).unwrap().example
}

/// A base URL under which the operation is.
pub fn base(endpoint: &Endpoint) -> &'static str {
    if endpoint.sandbox_only { "/sandbox/v1" } else { "/v1" }
}

/// The id of a webhook that the workspace has.
async fn webhook(api: &Api) -> String {
    match api.get("/v1/webhooks").await.json()["data"][0]["id"].as_str() {
        Some(id) => id.to_owned(),
        None => api.make("/v1/webhooks", example("webhook.create")).await,
    }
}

/// The id of an invoice: something ran in the default project until its month was over.
async fn invoice(api: &Api) -> String {
    let project = api.get("/v1/projects").await.json()["data"][0]["id"].as_str().unwrap().parse().unwrap();
    let tenant = api.world.caller_of(&api.key("owner")).await.tenant;
    api.world.bill(tenant, project).await;
    api.get("/v1/invoices").await.json()["data"][0]["id"].as_str().unwrap().to_owned()
}

/// The path of an operation on something that the workspace has.
pub async fn path(api: &Api, endpoint: &Endpoint) -> String {
    if !endpoint.path.contains("{id}") {
        return format!("{}{}", base(endpoint), endpoint.path);
    }
    let found = async |path: &str| api.get(path).await.json()["data"][0]["id"].as_str().map(str::to_owned);
    let first = async |path: &str| found(path).await.unwrap();
    let compute = async || {
        let project = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
        api.make("/v1/computes", &format!(r#"{{"name":"web-1","project_id":"{project}"}}"#)).await
    };
    let id = match endpoint.path.split('/').nth(1).unwrap() {
        "projects" => api.make("/v1/projects", r#"{"name":"alpha"}"#).await,
        "environments" => {
            let project = api.make("/v1/projects", r#"{"name":"alpha"}"#).await;
            first(&format!("/v1/projects/{project}/environments")).await
        }
        "computes" => compute().await,
        "operations" => {
            compute().await;
            first("/v1/operations").await
        }
        // Not the key that asks.
        "api-keys" => api.make("/v1/api-keys", example("api_key.create")).await,
        "members" => {
            // The newest is nobody who asks.
            api.world.key(&api.key("owner"), Role::Member, |_| {}).await;
            first("/v1/members").await
        }
        "invitations" => match found("/v1/invitations").await {
            Some(id) => id,
            None => api.make("/v1/invitations", example("invitation.create")).await,
        },
        "budget-alerts" => match found("/v1/budget-alerts").await {
            Some(id) => id,
            None => api.make("/v1/budget-alerts", example("budget_alert.create")).await,
        },
        "invoices" => match found("/v1/invoices").await {
            Some(id) => id,
            None => invoice(api).await,
        },
        "webhooks" => webhook(api).await,
        "deliveries" => {
            let webhook = webhook(api).await;
            let log = format!("/v1/webhooks/{webhook}/deliveries");
            if found(&log).await.is_none() {
                assert_eq!(api.post(&format!("/v1/webhooks/{webhook}/test"), "").await.status, 200);
            }
            loop {
                // Its host is known to nobody, which is found out at once.
                if let Some(id) = found(&log).await {
                    break id;
                }
                tokio::task::yield_now().await;
            }
        }
        "images" => first("/v1/images").await,
        "ssh-keys" => match found("/v1/ssh-keys").await {
            Some(id) => id,
            None => api.make("/v1/ssh-keys", example("ssh_key.create")).await,
        },
        other => panic!("there is no example of /{other}: add one"),
    };
    format!("/v1{}", endpoint.path.replace("{id}", &id))
}
