//! The Strettch convention: every body is an envelope that begins with `success`.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};
use nephos_control::budget::{Budgets, SurfaceBudget};
use nephos_model::{Code, Fault};

use super::{Stamp, Surface, write_details};
use crate::json::write_string;
use crate::reply::{Reply, Shape};

/// The Strettch surface.
#[derive(Debug, Clone, Copy)]
pub struct Strettch;

impl Surface for Strettch {
    fn name(&self) -> &'static str {
        "strettch"
    }

    fn budget(&self) -> SurfaceBudget {
        SurfaceBudget::Strettch
    }

    fn reply(&self, reply: &Reply, stamp: &Stamp<'_>) -> String {
        if !reply.shape.has_envelope() {
            return reply.data.clone();
        }
        let mut out = String::with_capacity(reply.data.len() + 240);
        out.push_str("{\"success\":true,\"message\":");
        write_string(&mut out, stamp.message);
        out.push_str(",\"data\":");
        out.push_str(&reply.data);
        if let Shape::Listed(meta) = &reply.shape {
            let _ = write!(out, ",\"meta\":{{\"total\":{}", meta.total);
            if let Some(page) = meta.page {
                let _ = write!(out, ",\"page\":{page}");
            }
            let _ = write!(out, ",\"limit\":{}}}", meta.limit);
        }
        close(&mut out, stamp);
        out
    }

    fn fault(&self, fault: &Fault, stamp: &Stamp<'_>) -> String {
        let mut out = String::with_capacity(320);
        let _ = write!(out, "{{\"success\":false,\"code\":\"{}\",\"message\":", fault.code.screaming());
        write_string(&mut out, &fault.message);
        out.push_str(",\"details\":");
        write_details(&mut out, &fault.details);
        close(&mut out, stamp);
        out
    }

    fn code(&self, code: Code) -> &'static str {
        code.screaming()
    }

    fn knows_envelope(&self) -> bool {
        false
    }

    fn replay_status(&self, _first: u16) -> u16 {
        202
    }

    fn refuse_key(&self, key: &str) -> Option<&'static str> {
        let bytes = key.as_bytes();
        let fine = bytes.len() == 36
            && bytes.iter().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => *b == b'-',
                14 => *b == b'4',
                19 => matches!(b, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
                _ => b.is_ascii_hexdigit(),
            });
        (!fine).then_some("must be a UUID version 4, such as 59ea8f7e-3c1b-4f6e-8a9d-0123456789ab")
    }

    fn same_key(&self, key: &str) -> String {
        key.to_ascii_lowercase()
    }

    fn budget_headers(&self, budgets: &Budgets, headers: &mut HeaderMap) {
        let Some(budget) = budgets.iter().min_by_key(|budget| budget.remaining) else { return };
        headers.insert("x-ratelimit-limit-second", HeaderValue::from(budget.limit));
        headers.insert("x-ratelimit-remaining-second", HeaderValue::from(budget.remaining));
        headers.insert("x-ratelimit-reset-second", HeaderValue::from(budget.reset_at_s));
    }
}

fn close(out: &mut String, stamp: &Stamp<'_>) {
    let _ = write!(out, ",\"requestId\":\"{}\",\"timestamp\":\"{}\"}}", stamp.request_id, stamp.now);
}
