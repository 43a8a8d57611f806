//! The commands of webhooks and events.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Api, Failure, query_string};
use super::command::{Length, Plain, Server, Within};
use super::resolve;
use super::run::{Session, id_path, show};
use crate::output::{self, Output};
use crate::system::pause;

const WEBHOOK_FIELDS: &[&str] = &["id", "url", "status", "disabled_reason", "event_types", "project_id", "created_at"];
const DELIVERY_FIELDS: &[&str] =
    &["id", "event_type", "event_id", "status", "attempt_count", "next_attempt_at", "created_at", "ended_at"];
const EVENT_FIELDS: &[&str] = &["seq", "id", "type", "resource_id", "project_id", "created_at"];
/// Connections in a row that brought nothing, before following is given up.
const FRUITLESS_MAX: u32 = 10;
/// Pause before a lost stream is taken up again.
const RECONNECT: std::time::Duration = std::time::Duration::from_secs(1);

/// `nephos webhooks`
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Webhooks {
    /// List them.
    List(Plain),
    /// Look at one.
    Get(WebhookOne),
    /// Make one; its secret is printed once.
    Create(WebhookCreate),
    /// Change one, enable or disable it.
    Update(WebhookUpdate),
    /// Delete one; what waits for it is not sent.
    Delete(WebhookOne),
    /// Give one a new secret; the old one signs too for 24 hours.
    RotateSecret(WebhookOne),
    /// Send one a sample.
    Test(WebhookOne),
    /// Send one again what it did not take since a time.
    Recover(WebhookRecover),
    /// What was sent to one, and how that went.
    Deliveries(WebhookDeliveries),
    /// Try a delivery again at once.
    Retry(DeliveryRetry),
}

/// One webhook.
#[derive(Debug, Args)]
pub struct WebhookOne {
    /// Its id, whk_….
    pub id: String,
    #[command(flatten)]
    pub server: Server,
}

/// A new webhook.
#[derive(Debug, Args)]
pub struct WebhookCreate {
    /// Where events are sent.
    pub target: String,
    /// What people call it.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A type of event that it gets, such as compute.running or compute.*; without any, all. May be repeated.
    #[arg(long = "event", value_name = "TYPE")]
    pub event_types: Vec<String>,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub server: Server,
}

/// Changes of a webhook.
#[derive(Debug, Args)]
pub struct WebhookUpdate {
    /// Its id, whk_….
    pub id: String,
    /// Another URL.
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// What people call it.
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// A type of event that it gets from now on; all together replace those before. May be repeated.
    #[arg(long = "event", value_name = "TYPE")]
    pub event_types: Vec<String>,
    /// It gets events of every type.
    #[arg(long, conflicts_with = "event_types")]
    pub every_event: bool,
    /// Whether it gets events: enabled or disabled.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    #[command(flatten)]
    pub server: Server,
}

/// A recovery.
#[derive(Debug, Args)]
pub struct WebhookRecover {
    /// The webhook's id, whk_….
    pub id: String,
    /// Since when, such as 2026-03-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: String,
    #[command(flatten)]
    pub server: Server,
}

/// Deliveries of a webhook.
#[derive(Debug, Args)]
pub struct WebhookDeliveries {
    /// The webhook's id, whk_….
    pub id: String,
    /// Only those in this status: pending, succeeded or exhausted.
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    #[command(flatten)]
    pub length: Length,
    #[command(flatten)]
    pub server: Server,
}

/// A delivery that is to be tried again.
#[derive(Debug, Args)]
pub struct DeliveryRetry {
    /// The delivery's id, dlv_….
    pub id: String,
    #[command(flatten)]
    pub server: Server,
}

/// `nephos events`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Events {
    #[command(subcommand)]
    pub command: Option<EventsCommand>,
    #[command(flatten)]
    pub list: EventList,
}

/// The one command of events, which need not be named.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum EventsCommand {
    /// List them.
    List(EventList),
}

/// Which events.
#[derive(Debug, Args)]
pub struct EventList {
    /// Print events as they come, until it is interrupted; a lost connection is taken up where it was.
    #[arg(long)]
    pub follow: bool,
    /// With --follow: begin after the event with this id instead of now.
    #[arg(long, value_name = "EVENT", requires = "follow")]
    pub after: Option<String>,
    /// Only events of this type, such as compute.running.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// Only events about the resource with this id.
    #[arg(long, value_name = "ID")]
    pub resource: Option<String>,
    #[command(flatten)]
    pub within: Within,
    #[command(flatten)]
    pub length: Length,
    #[command(flatten)]
    pub server: Server,
}

impl Session<'_> {
    pub(super) fn webhooks(&self, command: Webhooks) -> Result<(), Failure> {
        let act = |server: &Server, path: String, body: &Value| {
            show(server.output, &self.api(server)?.post(&path, body)?.data);
            Ok(())
        };
        match command {
            Webhooks::List(a) => self.list(&a.server, "/webhooks", &[], a.length.limit, WEBHOOK_FIELDS),
            Webhooks::Get(a) => {
                show(a.server.output, &self.api(&a.server)?.get(&id_path("/webhooks", &a.id))?.data);
                Ok(())
            }
            Webhooks::Create(a) => {
                let api = self.api(&a.server)?;
                let mut body = Map::new();
                body.insert("url".to_owned(), json!(a.target));
                body.insert("description".to_owned(), json!(a.description));
                for (key, id) in resolve::filters(&api, &a.within)? {
                    body.insert(key.to_owned(), json!(id));
                }
                if !a.event_types.is_empty() {
                    body.insert("event_types".to_owned(), json!(a.event_types));
                }
                show(a.server.output, &api.post("/webhooks", &Value::Object(body))?.data);
                Ok(())
            }
            Webhooks::Update(a) => {
                let mut body = Map::new();
                for (key, value) in [("url", &a.target), ("description", &a.description), ("status", &a.status)] {
                    if let Some(value) = value {
                        body.insert(key.to_owned(), json!(value));
                    }
                }
                if !a.event_types.is_empty() {
                    body.insert("event_types".to_owned(), json!(a.event_types));
                } else if a.every_event {
                    body.insert("event_types".to_owned(), Value::Null);
                }
                if body.is_empty() {
                    let why = "nothing to change: give --target, --description, --event, --every-event or --status";
                    return Err(Failure::Local(why.to_owned()));
                }
                let answer = self.api(&a.server)?.patch(&id_path("/webhooks", &a.id), &Value::Object(body))?;
                show(a.server.output, &answer.data);
                Ok(())
            }
            Webhooks::Delete(a) => {
                show(a.server.output, &self.api(&a.server)?.delete(&id_path("/webhooks", &a.id))?.data);
                Ok(())
            }
            Webhooks::RotateSecret(a) => {
                act(&a.server, format!("{}/rotate-secret", id_path("/webhooks", &a.id)), &json!({}))
            }
            Webhooks::Test(a) => act(&a.server, format!("{}/test", id_path("/webhooks", &a.id)), &json!({})),
            Webhooks::Recover(a) => {
                act(&a.server, format!("{}/recover", id_path("/webhooks", &a.id)), &json!({"since": a.since}))
            }
            Webhooks::Deliveries(a) => {
                let path = format!("{}/deliveries", id_path("/webhooks", &a.id));
                let filters: Vec<_> = a.status.as_deref().map(|status| ("status", status)).into_iter().collect();
                self.list(&a.server, &path, &filters, a.length.limit, DELIVERY_FIELDS)
            }
            Webhooks::Retry(a) => act(&a.server, format!("{}/retry", id_path("/deliveries", &a.id)), &json!({})),
        }
    }

    pub(super) fn events(&self, events: Events) -> Result<(), Failure> {
        let a = match events.command {
            Some(EventsCommand::List(list)) => list,
            None => events.list,
        };
        let api = self.api(&a.server)?;
        let mut filters = resolve::filters(&api, &a.within)?;
        filters.extend(a.kind.clone().map(|kind| ("type", kind)));
        filters.extend(a.resource.clone().map(|id| ("resource_id", id)));
        let pairs: Vec<(&str, &str)> = filters.iter().map(|(key, value)| (*key, value.as_str())).collect();
        if a.follow {
            return follow(&api, &pairs, a.after, a.server.output);
        }
        self.list(&a.server, "/events", &pairs, a.length.limit, EVENT_FIELDS)
    }
}

/// Prints events as they come. Ends only when the server refuses, can't be reached for long, or nobody reads any more.
fn follow(api: &Api<'_>, filters: &[(&str, &str)], after: Option<String>, output: Output) -> Result<(), Failure> {
    let path = if filters.is_empty() { "/events".to_owned() } else { format!("/events?{}", query_string(filters)) };
    let mut last = after;
    let mut fruitless = 0;
    loop {
        let before = last.clone();
        let lost = api.follow(&path, before.as_deref(), &mut |id, data| {
            last = Some(id.to_owned());
            print(output, data);
            output::lost().is_none()
        })?;
        if output::lost().is_some() {
            return Ok(());
        }
        fruitless = if before == last { fruitless + 1 } else { 0 };
        if fruitless >= FRUITLESS_MAX {
            return Err(Failure::Unreachable(format!("the stream of events ends again and again: {lost}")));
        }
        pause(RECONNECT);
    }
}

fn print(output: Output, data: &str) {
    let event: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    match output {
        Output::Json => output::line(&event.to_string()),
        Output::Table => {
            let cells: Vec<String> = ["created_at", "seq", "type", "resource_id", "id"]
                .iter()
                .map(|field| output::cell(&event[*field]))
                .collect();
            output::line(&cells.join("  "));
        }
    }
}
