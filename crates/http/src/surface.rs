//! A surface: one convention in which the cloud answers. It renders a neutral [`Reply`] or a [`Fault`], and nothing else:
//! no surface knows a resource, and no handler knows a surface.

use std::fmt::Write as _;

use http::HeaderMap;
use nephos_control::budget::{Budgets, SurfaceBudget};
use nephos_model::{Code, Detail, Fault, Place, Timestamp};

use crate::json::write_string;
use crate::reply::Reply;

pub(crate) mod platform;
mod strettch;

pub use platform::Platform;
pub use strettch::Strettch;

/// What every rendering needs to know about the request.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The request's id, as a UUID.
    pub request_id: &'a str,
    /// The time of the response.
    pub now: Timestamp,
    /// Scheme and authority of the installation, for links to the docs.
    pub origin: &'a str,
    /// A short sentence for people that says what was done.
    pub message: &'a str,
    /// Whether the client asked for an envelope around everything.
    pub envelope: bool,
}

/// One convention.
pub trait Surface: Send + Sync {
    /// Its name in records, budgets and file names.
    fn name(&self) -> &'static str;

    /// Whose budgets its requests spend.
    fn budget(&self) -> SurfaceBudget;

    /// The body of a success.
    fn reply(&self, reply: &Reply, stamp: &Stamp<'_>) -> String;

    /// The body of a refusal.
    fn fault(&self, fault: &Fault, stamp: &Stamp<'_>) -> String;

    /// The spelling of an error code.
    fn code(&self, code: Code) -> &'static str;

    /// Whether `Prefer: envelope=always` means something here.
    fn knows_envelope(&self) -> bool;

    /// The status of an idempotent replay whose first answer had the status `first`.
    fn replay_status(&self, first: u16) -> u16;

    /// Why a text can't be an idempotency key here: the end of a sentence without its full stop.
    fn refuse_key(&self, key: &str) -> Option<&'static str>;

    /// The one spelling of an idempotency key that was not refused, for keys that can be written in several.
    fn same_key(&self, key: &str) -> String {
        key.to_owned()
    }

    /// Adds the headers that tell what is left of the budgets.
    fn budget_headers(&self, budgets: &Budgets, headers: &mut HeaderMap);
}

/// Appends the array of `details`.
pub(crate) fn write_details(out: &mut String, details: &[Detail]) {
    out.push('[');
    for (i, detail) in details.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_detail(out, detail);
    }
    out.push(']');
}

fn write_detail(out: &mut String, detail: &Detail) {
    let _ = write!(out, "{{\"code\":\"{}\",\"message\":", detail.code);
    write_string(out, &detail.message);
    let mut member = |key: &str, value: &str| {
        let _ = write!(out, ",\"{key}\":");
        write_string(out, value);
    };
    match &detail.place {
        Some(Place::Pointer(pointer)) => member("pointer", pointer),
        Some(Place::Parameter(name)) => member("parameter", name),
        Some(Place::Header(name)) => member("header", name),
        None => {}
    }
    if let Some(scope) = detail.required_scope {
        member("required_scope", &scope.to_string());
    }
    if let Some(role) = detail.required_role {
        member("required_role", role.as_str());
    }
    if let Some(id) = &detail.resource_id {
        member("resource_id", id);
    }
    if let Some(budget) = detail.budget {
        member("budget", budget);
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::{Meta, Shape};
    use nephos_control::budget::Budget;
    use nephos_model::role::Role;
    use nephos_model::scope::{Noun, Scope};

    const BOTH: [&dyn Surface; 2] = [&Platform, &Strettch];

    fn stamp(envelope: bool) -> Stamp<'static> {
        Stamp {
            request_id: "0188bac7-4afa-78aa-bc3b-bd1eef28d881",
            now: Timestamp::from_secs(1_773_829_329),
            origin: "https://cloud.example",
            message: "Done.",
            envelope,
        }
    }

    fn reply(shape: Shape, data: &str) -> Reply {
        Reply {
            shape,
            data: data.to_owned(),
            etag: None,
            location: None,
            operation_id: None,
            project_id: None,
            secret: false,
        }
    }

    #[test]
    fn every_shape_on_both_surfaces() {
        let meta = |page, next: Option<&str>| {
            Shape::Listed(Meta { total: 42, page, limit: 20, next: next.map(str::to_owned) })
        };
        let shapes = [
            (Shape::Found, "{}"),
            (meta(Some(2), Some("prj_1")), "[]"),
            (meta(None, None), "[]"),
            (Shape::Created, "{}"),
            (Shape::Updated, "{}"),
            (Shape::Deleted, "{\"deleted\":true}"),
            (Shape::Accepted, "{}"),
            (Shape::Report, "{}"),
            (Shape::Document, "{}"),
        ];
        let mut lines = Vec::new();
        for surface in BOTH {
            for envelope in [false, true] {
                for (shape, data) in &shapes {
                    let body = surface.reply(&reply(shape.clone(), data), &stamp(envelope));
                    serde_json::from_str::<serde_json::Value>(&body).unwrap();
                    lines.push(format!("{} {envelope} {}: {body}", surface.name(), shape.status()));
                }
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn faults_on_both_surfaces() {
        let faults = [
            Fault::not_found("compute"),
            Fault::missing_scope(Scope::write(Noun::Compute)),
            Fault::missing_role(Role::Admin),
            Fault::invalid(vec![
                Detail::at("/name", "missing", "\"name\" is required."),
                Detail::parameter("page", "out_of_range", "Too small."),
                Detail::header("if-match", "invalid_value", "Not a tag.").resource("cmp_1"),
            ]),
            Fault::internal("the disk is on fire"),
        ];
        let mut lines = Vec::new();
        for surface in BOTH {
            for fault in &faults {
                let body = surface.fault(fault, &stamp(false));
                serde_json::from_str::<serde_json::Value>(&body).unwrap();
                assert!(!body.contains("fire"));
                lines.push(format!("{}: {body}", surface.name()));
            }
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn budget_headers_on_both_surfaces() {
        let budget = |name, limit, window_s, remaining, reset_s, reset_at_s| Budget {
            name,
            limit,
            window_s,
            remaining,
            reset_s,
            reset_at_s,
        };
        let budgets =
            [budget("key", 120, 60, 119, 3, 1_773_829_332), budget("workspace", 600, 600, 0, 41, 1_773_829_370)];
        let budgets = budgets.into_iter().collect();
        let mut lines = Vec::new();
        for surface in BOTH {
            let mut headers = HeaderMap::new();
            surface.budget_headers(&budgets, &mut headers);
            surface.budget_headers(&Budgets::default(), &mut headers);
            lines.extend(headers.iter().map(|(k, v)| format!("{} {k}: {}", surface.name(), v.to_str().unwrap())));
        }
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn idempotency_keys() {
        assert_eq!(Platform.refuse_key("a"), None);
        assert_eq!(Platform.refuse_key(&"~".repeat(255)), None);
        for bad in ["", "a b", "é", &"a".repeat(256)] {
            assert!(Platform.refuse_key(bad).is_some(), "{bad}");
        }
        assert_eq!(Strettch.refuse_key("59ea8f7e-3c1b-4f6e-8a9d-0123456789ab"), None);
        assert_eq!(Strettch.refuse_key("59EA8F7E-3C1B-4F6E-BA9D-0123456789AB"), None);
        assert_eq!(
            Strettch.same_key("59EA8F7E-3C1B-4F6E-BA9D-0123456789AB"),
            Strettch.same_key("59ea8f7e-3c1b-4f6e-ba9d-0123456789ab")
        );
        assert_ne!(Platform.same_key("A"), Platform.same_key("a"));
        for bad in [
            "",
            "59ea8f7e-3c1b-1f6e-8a9d-0123456789ab",
            "59ea8f7e-3c1b-4f6e-ca9d-0123456789ab",
            "59ea8f7e3c1b4f6e8a9d0123456789ab",
            "59ea8f7e-3c1b-4f6e-8a9d-0123456789ag",
            "{59ea8f7e-3c1b-4f6e-8a9d-0123456789ab}",
        ] {
            assert!(Strettch.refuse_key(bad).is_some(), "{bad}");
        }
        assert_eq!((Platform.replay_status(201), Strettch.replay_status(201)), (201, 202));
    }
}
