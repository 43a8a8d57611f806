//! What letters say. Each is a few paragraphs and at most one link; two templates, one of text and one of HTML, give them
//! their form, so that both always say the same.
//!
//! Texts of tenants (names of workspaces and keys) are quoted and cut, and the HTML escapes them: a letter carries nobody's
//! markup and no link but ours.

use askama::Template;
use nephos_model::Timestamp;
use nephos_model::id::{DeliveryId, InvoiceId, WebhookId, WorkspaceId};
use nephos_model::role::Role;
use nephos_model::webhook::Reason;

use super::Text;

/// Characters of a tenant's text that a letter quotes at most.
const QUOTED_CHARS_MAX: usize = 100;

/// A letter to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// Somebody is invited into a workspace.
    Invitation {
        /// The workspace's name.
        workspace: String,
        /// Who invites, by e-mail address.
        inviter: String,
        /// The role that the person will have.
        role: Role,
        /// Where the invitation is accepted. It is a credential.
        url: String,
        /// From when on it can't be accepted.
        expires_at: Timestamp,
    },
    /// A person asked for a link into the console.
    SignIn {
        /// Where it leads. It is a credential.
        url: String,
        /// From when on it can't be used.
        expires_at: Timestamp,
        /// The address from which it was asked for.
        address: String,
    },
    /// An API key will soon stop working.
    KeyExpiring {
        /// The workspace's name.
        workspace: String,
        /// The key's name.
        name: String,
        /// What is shown of its secret.
        hint: String,
        /// When it stops.
        expires_at: Timestamp,
    },
    /// Nothing is sent to a webhook any more.
    WebhookDisabled {
        /// The workspace's name.
        workspace: String,
        /// The webhook's id.
        id: WebhookId,
        /// Where it sent to.
        url: String,
        /// Why.
        reason: Reason,
        /// Since when.
        at: Timestamp,
    },
    /// An event was not taken by a webhook until the end of the schedule.
    DeliveryExhausted {
        /// The workspace's name.
        workspace: String,
        /// The webhook's id.
        id: WebhookId,
        /// Where it sends to.
        url: String,
        /// The delivery.
        delivery: DeliveryId,
        /// The event's type.
        event_type: String,
        /// What went wrong in the last try.
        error: Option<String>,
    },
    /// A threshold of a budget is reached.
    BudgetReached {
        /// The workspace's name.
        workspace: String,
        /// The workspace.
        workspace_id: WorkspaceId,
        /// The alert's name.
        name: String,
        /// The threshold.
        percent: i64,
        /// The month, `YYYY-MM`.
        month: String,
        /// What is spent, as a decimal number.
        spent: String,
        /// The budget, as a decimal number.
        budget: String,
        /// The currency.
        currency: String,
    },
    /// A month of a workspace was closed.
    Invoice {
        /// The workspace's name.
        workspace: String,
        /// The workspace.
        workspace_id: WorkspaceId,
        /// The invoice.
        id: InvoiceId,
        /// Its number in the workspace.
        number: i64,
        /// Its month, `YYYY-MM`.
        month: String,
        /// What it comes to, as a decimal number.
        amount: String,
        /// The currency.
        currency: String,
    },
    /// A version of the API appeared.
    VersionReleased {
        /// The version's base URL.
        version: String,
    },
    /// A version or operation of the API has an end.
    Deprecated(Deprecated),
    /// Keys of a workspace still call what has an end.
    StillCalled {
        /// The workspace's name.
        workspace: String,
        /// What they call.
        deprecated: Deprecated,
    },
}

/// What has an end, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecated {
    /// `operation` or `version`.
    pub noun: String,
    /// The operation's id, or the version's base URL.
    pub name: String,
    /// From when on it answers 410.
    pub sunset_at: Timestamp,
    /// What to use instead, if anything replaces it.
    pub successor: Option<String>,
    /// Why, and what to do.
    pub note: String,
}

#[derive(Template)]
#[template(path = "mail.txt", escape = "none")]
struct Plain<'a> {
    parts: &'a Parts,
    footer: &'a str,
}

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    parts: &'a Parts,
    footer: &'a str,
}

/// What the templates are filled with.
struct Parts {
    subject: String,
    paragraphs: Vec<String>,
    link: Option<Link>,
}

struct Link {
    label: &'static str,
    url: String,
}

impl Letter {
    /// Its kind, for the operator's lists and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Invitation { .. } => "invitation",
            Self::SignIn { .. } => "sign_in",
            Self::KeyExpiring { .. } => "key_expiring",
            Self::WebhookDisabled { .. } => "webhook_disabled",
            Self::DeliveryExhausted { .. } => "delivery_exhausted",
            Self::BudgetReached { .. } => "budget_reached",
            Self::Invoice { .. } => "invoice",
            Self::VersionReleased { .. } => "version_released",
            Self::Deprecated(_) => "deprecated",
            Self::StillCalled { .. } => "still_called",
        }
    }

    /// From when on nobody needs it any more, if that is sooner than its last try.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Invitation { expires_at, .. }
            | Self::SignIn { expires_at, .. }
            | Self::KeyExpiring { expires_at, .. } => Some(*expires_at),
            Self::WebhookDisabled { .. }
            | Self::DeliveryExhausted { .. }
            | Self::BudgetReached { .. }
            | Self::Invoice { .. }
            | Self::VersionReleased { .. }
            | Self::Deprecated(_)
            | Self::StillCalled { .. } => None,
        }
    }

    /// The whole text, for an installation that is reached at `origin` and answers questions at `contact`.
    pub fn text(&self, origin: &str, contact: &str) -> Text {
        let parts = self.parts(origin);
        let footer = format!("Sent by the cloud at {origin}. Questions: {contact}.");
        let plain = Plain { parts: &parts, footer: &footer };
        let html = Html { parts: &parts, footer: &footer };
        // A template of strings into a string fails only where memory ends.
        let (plain, html) = (plain.render().unwrap_or_default(), html.render().unwrap_or_default());
        // The engine takes a template's last line feed away.
        Text { subject: parts.subject, plain: plain + "\n", html: html + "\n" }
    }

    fn parts(&self, origin: &str) -> Parts {
        match self {
            Self::Invitation { workspace, inviter, role, url, expires_at } => Parts {
                subject: format!("You are invited to the workspace {}", quoted(workspace)),
                paragraphs: vec![
                    format!("{inviter} invites you to the workspace {} as {}.", quoted(workspace), named(*role)),
                    format!("The invitation can be accepted until {expires_at}. Whoever has the link can accept it, so keep it to yourself."),
                    "If you did not expect it, do nothing.".to_owned(),
                ],
                link: Some(Link { label: "Accept the invitation", url: url.clone() }),
            },
            Self::SignIn { url, expires_at, address } => Parts {
                subject: "Your link into the console".to_owned(),
                paragraphs: vec![
                    format!("Somebody at {address} asked for a link that signs you in. It works once, until {expires_at}."),
                    "Whoever has the link is signed in as you, so keep it to yourself. If it was not you, do nothing.".to_owned(),
                ],
                link: Some(Link { label: "Sign in", url: url.clone() }),
            },
            Self::KeyExpiring { workspace, name, hint, expires_at } => Parts {
                subject: format!("Your API key {} stops working soon", quoted(name)),
                paragraphs: vec![
                    format!("Your API key {} ({hint}) of the workspace {} stops working at {expires_at}.", quoted(name), quoted(workspace)),
                    "Make another one and give it to whatever uses this one before that time.".to_owned(),
                ],
                link: Some(Link { label: "How keys are made and rotated", url: format!("{origin}/docs/guides/authentication") }),
            },
            Self::WebhookDisabled { workspace, id, url, reason, at } => Parts {
                subject: format!("A webhook of the workspace {} is disabled", quoted(workspace)),
                paragraphs: vec![
                    format!(
                        "Since {at} nothing is sent to the webhook {id} of the workspace {}, at {}: {}.",
                        quoted(workspace),
                        quoted(url),
                        match reason {
                            Reason::Gone => "it answered 410, that it is gone",
                            Reason::Failing => "it failed everything for 5 days",
                            Reason::Asked => "somebody disabled it",
                        }
                    ),
                    "When it works again, enable it, and have it sent what it missed: that is kept for 30 days.".to_owned(),
                ],
                link: Some(Link { label: "How to enable and recover it", url: format!("{origin}/docs/guides/webhooks") }),
            },
            Self::DeliveryExhausted { workspace, id, url, delivery, event_type, error } => Parts {
                subject: format!("A webhook of the workspace {} does not take events", quoted(workspace)),
                paragraphs: vec![
                    format!(
                        "The webhook {id} of the workspace {}, at {}, did not take an event {event_type} for a day. It is not \
                         tried again by itself.",
                        quoted(workspace),
                        quoted(url)
                    ),
                    match error {
                        Some(error) => format!("The delivery is {delivery}; its last try ended with {}.", quoted(error)),
                        None => format!("The delivery is {delivery}."),
                    },
                    "There may be more of them: the log of the webhook's deliveries lists those that are exhausted. You hear of a \
                     webhook once a day at most."
                        .to_owned(),
                ],
                link: Some(Link { label: "How to see and retry them", url: format!("{origin}/docs/guides/webhooks") }),
            },
            Self::BudgetReached { workspace, workspace_id, name, percent, month, spent, budget, currency } => Parts {
                subject: format!("{percent} % of the budget {} is spent", quoted(name)),
                paragraphs: vec![
                    format!(
                        "The workspace {} has spent {spent} of {budget} {currency} of the budget {} in {month}: {percent} % are \
                         reached.",
                        quoted(workspace),
                        quoted(name)
                    ),
                    "Nothing is stopped. You hear of each threshold once a month.".to_owned(),
                ],
                link: Some(Link { label: "What it is spent on", url: format!("{origin}/console/{workspace_id}/usage") }),
            },
            Self::Invoice { workspace, workspace_id, id, number, month, amount, currency } => Parts {
                subject: format!("Invoice {number} of the workspace {}, {month}", quoted(workspace)),
                paragraphs: vec![
                    format!(
                        "The month {month} of the workspace {} is closed. Invoice {number} comes to {amount} {currency}.",
                        quoted(workspace)
                    ),
                    format!("Its id is {id}. It does not change any more."),
                ],
                link: Some(Link {
                    label: "See and print it",
                    url: format!("{origin}/console/{workspace_id}/invoices/{id}"),
                }),
            },
            Self::VersionReleased { version } => Parts {
                subject: format!("A new version of the API: {version}"),
                paragraphs: vec![
                    format!("There is a new version of the API at {version}."),
                    "The version that you use goes on working; when it will end, you hear of it at least six months before.".to_owned(),
                ],
                link: Some(Link { label: "What is new", url: format!("{origin}/docs/changelog") }),
            },
            Self::Deprecated(deprecated) => Parts {
                subject: format!("Deprecated: the {} {}", deprecated.noun, deprecated.name),
                paragraphs: deprecated.paragraphs(None),
                link: Some(Link { label: "The changelog", url: format!("{origin}/docs/changelog") }),
            },
            Self::StillCalled { workspace, deprecated } => Parts {
                subject: format!("Your keys still call the deprecated {} {}", deprecated.noun, deprecated.name),
                paragraphs: deprecated.paragraphs(Some(workspace)),
                link: Some(Link { label: "How to find the keys", url: format!("{origin}/docs/guides/versioning") }),
            },
        }
    }
}

impl Deprecated {
    fn paragraphs(&self, workspace: Option<&str>) -> Vec<String> {
        let mut out = Vec::new();
        out.extend(workspace.map(|name| {
            format!(
                "API keys of the workspace {} called the {} {} in the last days.",
                quoted(name),
                self.noun,
                self.name
            )
        }));
        out.push(format!(
            "The {} {} stops working at {}: from then on it answers 410.",
            self.noun, self.name, self.sunset_at
        ));
        out.push(self.note.clone());
        out.extend(self.successor.as_ref().map(|successor| format!("Use {successor} instead.")));
        out
    }
}

/// A tenant's text as one line in quotation marks.
fn quoted(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    format!("“{line}”")
}

const fn named(role: Role) -> &'static str {
    match role {
        Role::Owner => "an Owner",
        Role::Admin => "an Admin",
        Role::Member => "a Member",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invitation(workspace: &str) -> Text {
        let letter = Letter::Invitation {
            workspace: workspace.to_owned(),
            inviter: "ada@people.example".to_owned(),
            role: Role::Admin,
            url: "https://cloud.example/invitations/accept#ivt".to_owned(),
            expires_at: Timestamp::from_secs(1_800_000_000),
        };
        letter.text("https://cloud.example", "help@cloud.example")
    }

    #[test]
    fn both_bodies_say_the_same() {
        let text = invitation("acme");
        assert_eq!(
            text.plain,
            "ada@people.example invites you to the workspace “acme” as an Admin.\n\nThe invitation can be accepted until \
             2027-01-15T08:00:00Z. Whoever has the link can accept it, so keep it to yourself.\n\nIf you did not expect it, do \
             nothing.\n\nAccept the invitation:\nhttps://cloud.example/invitations/accept#ivt\n\n-- \nSent by the cloud at \
             https://cloud.example. Questions: help@cloud.example.\n"
        );
        for line in text.plain.lines().filter(|line| !line.starts_with("--") && !line.is_empty()) {
            assert!(text.html.contains(line.trim_end_matches(':')), "{line}");
        }
    }

    #[test]
    fn a_tenants_text_is_neither_markup_nor_a_second_line() {
        let text = invitation("<a href=x>\r\nBcc: all");
        assert_eq!(text.subject, "You are invited to the workspace “<a href=x>  Bcc: all”");
        assert!(!text.html.contains("<a href=x>"), "{}", text.html);
        assert!(invitation(&"x".repeat(500)).subject.chars().count() < 150);
    }
}
