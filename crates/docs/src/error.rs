//! A page for each error: what it means, whether to try again, what to do.

use nephos_model::Code;
use serde_json::{Value, json};

use crate::site::error_path;

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before it is changed.
    No,
    /// After `Retry-After`.
    After,
    /// When the state has changed.
    WhenChanged,
    /// With backoff, keeping the idempotency key.
    Backoff,
}

impl Retry {
    /// As a sentence.
    pub const fn text(self) -> &'static str {
        match self {
            Self::No => "No. The same request fails again until something in it changes.",
            Self::After => "Yes, after the seconds that Retry-After gives, with the same idempotency key.",
            Self::WhenChanged => "When the state that stands in the way has changed.",
            Self::Backoff => "Yes, with growing pauses and the same idempotency key.",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::After => "after",
            Self::WhenChanged => "when_changed",
            Self::Backoff => "backoff",
        }
    }
}

/// What people read about an error.
#[derive(Debug)]
pub struct About {
    /// What it means.
    pub meaning: &'static str,
    /// Whether to try again.
    pub retry: Retry,
    /// Why it comes.
    pub causes: &'static [&'static str],
    /// What to do.
    pub fixes: &'static [&'static str],
}

/// What is known of a code.
pub const fn about(code: Code) -> About {
    match code {
        Code::BadRequest => About {
            meaning: "Something in the request is malformed. The details list every problem at once, each with the place it was found.",
            retry: Retry::No,
            causes: &[
                "A field is missing, has the wrong type or is out of its bounds: `pointer` names it.",
                "A field or a query parameter is unknown, often a typing error.",
                "The body is not JSON, or a name occurs twice in an object: the message has line and column.",
                "A header such as `Idempotency-Key`, `If-Match` or `Prefer` has a wrong form.",
            ],
            fixes: &[
                "Read `details`: `pointer` is a JSON Pointer into your body, `parameter` a query parameter, `header` a header.",
                "Send the corrected request with a new idempotency key, or the same one: only successes are remembered.",
            ],
        },
        Code::Unauthorized => About {
            meaning: "There is no valid credential in the request.",
            retry: Retry::No,
            causes: &[
                "The `Authorization` header is missing, or is not `Bearer` and a key.",
                "The key was mistyped, revoked, rotated or has expired.",
                "A test key was sent to a live base URL, or a live key to the sandbox: the message says which URL to use.",
                "The key is bound to addresses, and the request came from another.",
            ],
            fixes: &[
                "Check that `CLOUD_API_KEY` is set, whole, and without line breaks.",
                "Make another key if this one is gone; a secret is shown only once.",
            ],
        },
        Code::Forbidden => About {
            meaning: "The credential is valid and may not do this.",
            retry: Retry::No,
            causes: &[
                "The key lacks the scope that `required_scope` names.",
                "Its member has a lower role than `required_role`; a key never does more than its member may at this moment.",
                "The workspace is suspended.",
            ],
            fixes: &[
                "Use a key with that scope, or ask an Admin or Owner of the workspace for the role.",
                "GET /me says what a credential is and may do.",
            ],
        },
        Code::ResourceNotFound => About {
            meaning: "There is nothing at this address that this credential can see.",
            retry: Retry::No,
            causes: &[
                "The id is wrong or the resource was deleted.",
                "It belongs to another workspace, or lies outside the project that the key is narrowed to. The answer is the same, so that nobody learns of it.",
                "The path is not one of the API's, or the version does not exist.",
            ],
            fixes: &[
                "Compare the id with what a list shows.",
                "Check that the base URL, live or sandbox, is that of the key.",
            ],
        },
        Code::MethodNotAllowed => About {
            meaning: "The path exists, with other methods. `Allow` lists them.",
            retry: Retry::No,
            causes: &["A list was sent PUT, or a single resource POST."],
            fixes: &["Use a method that `Allow` names."],
        },
        Code::NotAcceptable => About {
            meaning: "`Accept` excludes every form that the operation can answer in.",
            retry: Retry::No,
            causes: &["The client asks for HTML or XML only."],
            fixes: &["Send `Accept: application/json`, or leave it out."],
        },
        Code::RequestTimeout => About {
            meaning: "The request took too long to arrive or to be answered.",
            retry: Retry::Backoff,
            causes: &["The connection is slow, and the body did not arrive in 30 seconds."],
            fixes: &[
                "Send it again with the same idempotency key: if it was done the first time, you get that answer.",
            ],
        },
        Code::Conflict => About {
            meaning: "The state of a resource forbids it. The message names the state.",
            retry: Retry::WhenChanged,
            causes: &[
                "A name is taken in its environment or project.",
                "The compute is in a state that does not allow the action, such as starting one that runs.",
                "A project still has live resources; the details list them.",
                "The resource is protected, or is the last of its kind, such as the last Owner.",
            ],
            fixes: &[
                "Read the resource, and wait for its operation to end if one is running.",
                "Choose another name, or delete with `force=true` where the operation has it.",
            ],
        },
        Code::IdempotencyInProgress => About {
            meaning: "The first request with this idempotency key is still being worked on.",
            retry: Retry::After,
            causes: &["A client timed out early and sent the request again."],
            fixes: &["Wait as `Retry-After` says and send it again; then it gets the first answer."],
        },
        Code::Gone => About {
            meaning: "The operation or version was retired.",
            retry: Retry::No,
            causes: &[
                "Its sunset has passed. It was announced at least six months before, in response headers and the changelog.",
            ],
            fixes: &["Use the successor that the changelog and `Link` with `rel=\"successor-version\"` name."],
        },
        Code::PreconditionFailed => About {
            meaning: "`If-Match` names another state than the resource has now: somebody changed it first.",
            retry: Retry::WhenChanged,
            causes: &["The resource changed between your GET and this request."],
            fixes: &["GET it again, decide again, and send the new `ETag` in `If-Match`."],
        },
        Code::PayloadTooLarge => About {
            meaning: "The body is larger than 1 MiB.",
            retry: Retry::No,
            causes: &["A large `user_data`; it may be 64 KiB at most."],
            fixes: &["Let the instance fetch large files itself after it has booted."],
        },
        Code::UnsupportedMediaType => About {
            meaning: "The body is not declared to be JSON, or is compressed.",
            retry: Retry::No,
            causes: &["`Content-Type` is missing or is that of a form.", "`Content-Encoding` is set."],
            fixes: &["Send `Content-Type: application/json` with a plain UTF-8 body."],
        },
        Code::IdempotencyKeyReused => About {
            meaning: "This idempotency key was used with another request within the last 24 hours.",
            retry: Retry::No,
            causes: &["A fixed key is used for several requests.", "The body or query changed between two tries."],
            fixes: &["Make a new key, such as a UUID, for each thing you want done, and keep it only for its retries."],
        },
        Code::QuotaExceeded => About {
            meaning: "The plan of the workspace has no room for another of these.",
            retry: Retry::WhenChanged,
            causes: &[
                "The number of projects, computes, keys or members, or the sum of vCPUs, memory or disk, is at the plan's limit.",
            ],
            fixes: &[
                "GET /limits shows each quota and its use.",
                "Delete what is not needed, or ask the operator for another plan.",
            ],
        },
        Code::CapacityUnavailable => About {
            meaning: "The region has no room for this now, or can't run computes.",
            retry: Retry::Backoff,
            causes: &["The machines of the region are full.", "The region is unavailable; GET /regions says why."],
            fixes: &[
                "Choose a smaller size or another region.",
                "Try `dry_run=true` first: it checks capacity and changes nothing.",
            ],
        },
        Code::TooManyRequests => About {
            meaning: "A budget of requests is spent. The details name the budget.",
            retry: Retry::After,
            causes: &[
                "More requests than the plan allows, by this key or by all keys of the workspace.",
                "Too many failed credentials from one address.",
            ],
            fixes: &[
                "Wait as `Retry-After` says; a refused request spends nothing.",
                "Spread work out by the budget headers, list with `limit=100`, or wait for operations with `?wait=30` instead of polling.",
            ],
        },
        Code::HeadersTooLarge => About {
            meaning: "The headers, or the path with its query, are larger than the limit.",
            retry: Retry::No,
            causes: &["Cookies of other applications on the same host.", "A very long list of filters."],
            fixes: &["Send fewer headers; the API reads no cookies."],
        },
        Code::InternalServerError => About {
            meaning: "A defect of the server. It is in the operator's log under the request id.",
            retry: Retry::Backoff,
            causes: &["Something that the server did not expect."],
            fixes: &[
                "Send it again with the same idempotency key: nothing is done twice.",
                "Tell the operator the request id.",
            ],
        },
        Code::ServiceUnavailable => About {
            meaning: "The server can't answer for the moment.",
            retry: Retry::After,
            causes: &["It is starting, stopping or too busy, or its database is away."],
            fixes: &["Wait as `Retry-After` says, and send it again with the same idempotency key."],
        },
    }
}

/// Every code as data.
pub fn catalogue(origin: &str) -> Value {
    Code::ALL
        .iter()
        .map(|code| {
            let about = about(*code);
            json!({
                "status": code.status(),
                "code": code.snake(),
                "strettch_code": code.screaming(),
                "message": about.meaning,
                "retry": about.retry.name(),
                "doc_url": format!("{origin}{}", error_path(*code)),
            })
        })
        .collect()
}

/// The page as Markdown.
pub fn markdown(code: Code, origin: &str) -> String {
    use std::fmt::Write as _;
    let about = about(code);
    let mut out = format!(
        "# `{}`\n\nHTTP {}. {}\n\nOn the Strettch surface its code is `{}`.\n\n## Try again?\n\n{}\n\n## Why it comes\n\n",
        code.snake(),
        code.status(),
        about.meaning,
        code.screaming(),
        about.retry.text(),
    );
    for cause in about.causes {
        // Writing to a string does not fail.
        let _ = writeln!(out, "- {cause}");
    }
    out.push_str("\n## What to do\n\n");
    for fix in about.fixes {
        let _ = writeln!(out, "- {fix}");
    }
    let _ = write!(
        out,
        "\n## How it looks\n\n```json\n{:#}\n```\n\n```json\n{:#}\n```\n",
        json!({
            "status": code.status(), "code": code.snake(), "message": "…", "details": [],
            "request_id": "0193f2a4-7c1e-7b30-9a51-3d1f0a6b2c77", "doc_url": format!("{origin}{}", error_path(code)),
        }),
        json!({
            "success": false, "code": code.screaming(), "message": "…", "details": [],
            "requestId": "0193f2a4-7c1e-7b30-9a51-3d1f0a6b2c77", "timestamp": "2026-03-18T10:22:09Z",
        }),
    );
    out
}
