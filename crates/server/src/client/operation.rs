//! Waiting for operations, with a line of progress.

use std::time::Duration;

use nephos_model::Clock;
use serde_json::Value;

use super::api::{Api, Failure, encode};
use crate::output::{Progress, escape};

/// Seconds of one long-poll.
const POLL_S: u64 = 5;

/// Waits until the operation ends, for at most `timeout_s` seconds, and returns it when it succeeded.
pub fn wait(api: &Api<'_>, clock: &dyn Clock, id: &str, timeout_s: u64) -> Result<Value, Failure> {
    let start = clock.monotonic();
    let deadline = Duration::from_secs(timeout_s);
    let mut progress = Progress::default();
    let result = loop {
        let spent = clock.monotonic().saturating_sub(start);
        let left_s = deadline.saturating_sub(spent).as_secs();
        // On a terminal the seconds are seen to pass.
        let operation = match api.get(&format!("/operations/{}?wait={}", encode(id), POLL_S.min(left_s))) {
            Ok(answer) => answer.data,
            Err(failure) => break Err(failure),
        };
        let spent = clock.monotonic().saturating_sub(start);
        match operation["status"].as_str() {
            Some("succeeded") => break Ok(operation),
            Some(ended @ ("failed" | "cancelled" | "canceled")) => {
                let error = &operation["error"];
                let text = |key: &str| error.get(key).and_then(Value::as_str).map(escape).unwrap_or_default();
                break Err(Failure::Operation(format!(
                    "the operation {id} {ended}: {} ({})",
                    text("message"),
                    text("code")
                )));
            }
            _ if spent >= deadline => {
                break Err(Failure::Waiting(format!(
                    "the operation {id} is still under way after {timeout_s} s; `nephos operations wait {id}` waits on"
                )));
            }
            _ => progress.show(&describe(&operation), spent.as_secs()),
        }
    };
    progress.end();
    result
}

/// What an operation is doing, in a line.
fn describe(operation: &Value) -> String {
    let kind = operation["kind"].as_str().or_else(|| operation["type"].as_str()).unwrap_or("operation");
    let step = operation["steps"].as_array().and_then(|steps| {
        let current = |s: &&Value| matches!(s["status"].as_str(), Some("running"));
        steps.iter().find(current)?.get("name")?.as_str().map(|name| name.replace('_', " "))
    });
    let progress = ["progress_percent", "progress"].iter().find_map(|k| operation[*k].as_u64());
    let mut line = escape(kind);
    if let Some(step) = step {
        line.push_str(": ");
        line.push_str(&escape(&step));
    }
    progress.map_or(line.clone(), |percent| format!("{line}, {percent} %"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_kind_step_and_progress() {
        let operation = json!({"kind": "compute.create", "progress": 50, "steps": [
            {"name": "disk", "status": "succeeded"}, {"name": "boot_guest", "status": "running"}]});
        assert_eq!(describe(&operation), "compute.create: boot guest, 50 %");
        assert_eq!(describe(&json!({"kind": "x"})), "x");
    }
}
