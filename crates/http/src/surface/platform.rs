//! The Platform convention: bare resources from writes, `{data, meta}` from reads.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use nephos_control::budget::{Budgets, SurfaceBudget};
use nephos_model::{Code, Fault};

use super::{Stamp, Surface, write_details};
use crate::json::write_string;
use crate::reply::{Reply, Shape};

/// Characters in an idempotency key at most.
pub const KEY_CHARS_MAX: usize = 255;

/// The Platform surface.
#[derive(Debug, Clone, Copy)]
pub struct Platform;

impl Surface for Platform {
    fn name(&self) -> &'static str {
        "platform"
    }

    fn budget(&self) -> SurfaceBudget {
        SurfaceBudget::Platform
    }

    fn reply(&self, reply: &Reply, stamp: &Stamp<'_>) -> String {
        let mut out = String::with_capacity(reply.data.len() + 160);
        match &reply.shape {
            Shape::Listed(meta) => {
                let _ = write!(out, "{{\"data\":{},\"meta\":{{\"requestId\":\"{}\"", reply.data, stamp.request_id);
                let _ = write!(out, ",\"total\":{}", meta.total);
                if let Some(page) = meta.page {
                    let _ = write!(out, ",\"page\":{page}");
                }
                let _ = write!(out, ",\"limit\":{},\"next\":", meta.limit);
                match &meta.next {
                    Some(id) => write_string(&mut out, id),
                    None => out.push_str("null"),
                }
                out.push_str("}}");
            }
            Shape::Document | Shape::Text { .. } => out.push_str(&reply.data),
            shape if stamp.envelope || *shape == Shape::Found => {
                out.push_str("{\"data\":");
                out.push_str(&reply.data);
                out.push_str(",\"meta\":{\"requestId\":\"");
                out.push_str(stamp.request_id);
                out.push_str("\"}}");
            }
            _ => out.push_str(&reply.data),
        }
        out
    }

    fn fault(&self, fault: &Fault, stamp: &Stamp<'_>) -> String {
        let code = fault.code;
        let mut out = String::with_capacity(320);
        let _ = write!(out, "{{\"status\":{},\"code\":\"{}\",\"message\":", code.status(), code.snake());
        write_string(&mut out, &fault.message);
        out.push_str(",\"details\":");
        write_details(&mut out, &fault.details);
        let _ = write!(out, ",\"request_id\":\"{}\",\"doc_url\":", stamp.request_id);
        write_string(&mut out, &format!("{}/docs/errors/{}", stamp.origin, code.snake()));
        out.push('}');
        out
    }

    fn code(&self, code: Code) -> &'static str {
        code.snake()
    }

    fn knows_envelope(&self) -> bool {
        true
    }

    fn replay_status(&self, first: u16) -> u16 {
        first
    }

    fn refuse_key(&self, key: &str) -> Option<&'static str> {
        let fine = (1..=KEY_CHARS_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        (!fine).then_some("must have 1 to 255 visible ASCII characters")
    }

    /// `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers-11 has them: `q` requests in `w` seconds,
    /// `r` of them left, and `t` seconds until there are more.
    fn budget_headers(&self, budgets: &Budgets, headers: &mut HeaderMap) {
        if budgets.is_empty() {
            return;
        }
        let mut policy = String::with_capacity(64);
        let mut state = String::with_capacity(64);
        for (i, budget) in budgets.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let _ = write!(policy, "{comma}\"{}\";q={};w={}", budget.name, budget.limit, budget.window_s);
            let _ = write!(state, "{comma}\"{}\";r={};t={}", budget.name, budget.remaining, budget.reset_s);
        }
        for (name, text) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}
