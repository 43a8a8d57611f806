//! Terminals on simulated machines: a login prompt that answers every line by saying that nothing runs here.
//!
//! A line is there as long as a terminal is open on it, and knows no more than what was typed since the last Enter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nephos_model::id::ComputeId;

use crate::Machine;
use crate::terminal::{
    AttachError, Guest, INPUT_CHUNK_BYTES_MAX, Line, OUTPUT_CHUNK_BYTES_MAX, Terminal, TerminalError,
};

/// Bytes of a typed line at most; what is typed beyond is not taken.
const LINE_BYTES_MAX: usize = 200;
/// Bytes of input that are answered at once: an answer to one byte is shorter than the share that this leaves it.
const TYPED_AT_ONCE_BYTES_MAX: usize = 32;
const _: () = assert!(TYPED_AT_ONCE_BYTES_MAX < INPUT_CHUNK_BYTES_MAX);

/// Lines with open terminals.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<BTreeMap<ComputeId, Weak<Line>>>);

impl Lines {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// One more terminal on a machine that runs; `console` is what it wrote.
    pub(super) fn attach(&self, machine: &Machine, mut console: Vec<u8>) -> Result<Terminal, TerminalError> {
        let line = {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.retain(|_, line| line.strong_count() > 0);
            lines.get(&machine.id).and_then(Weak::upgrade).unwrap_or_else(|| {
                let (line, guest) = Line::open();
                tokio::spawn(answer_all(machine.hostname.clone(), guest));
                lines.insert(machine.id, Arc::downgrade(&line));
                line
            })
        };
        console.extend_from_slice(greeting(&machine.hostname).as_bytes());
        line.attach(|| Ok(console)).map_err(|error| match error {
            AttachError::Full => TerminalError::Full,
            AttachError::Closed | AttachError::Read(_) => TerminalError::NotRunning,
        })
    }

    /// Ends the terminals of a machine that does not run any more.
    pub(super) fn close(&self, id: ComputeId) {
        let line = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(line) = line.and_then(|line| line.upgrade()) {
            line.close();
        }
    }
}

/// Answers until no terminal is left.
async fn answer_all(hostname: String, mut guest: Guest) {
    let mut line = Vec::new();
    while let Some(typed) = guest.typed.recv().await {
        for typed in typed.chunks(TYPED_AT_ONCE_BYTES_MAX) {
            let answer = answer(&hostname, &mut line, typed);
            if !answer.is_empty() {
                guest.tell(&answer, |_| {});
            }
        }
    }
}

fn greeting(hostname: &str) -> String {
    format!("\r\nThis compute is simulated: what you type is echoed, and nothing runs it.\r\n{}", prompt(hostname))
}

fn prompt(hostname: &str) -> String {
    format!("{hostname} login: ")
}

/// What is written back to what is typed; `line` is what was typed since the last Enter.
fn answer(hostname: &str, line: &mut Vec<u8>, typed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in typed {
        match byte {
            b'\r' | b'\n' => {
                out.extend_from_slice(b"\r\n");
                if !line.is_empty() {
                    out.extend_from_slice(b"simulated, not run: ");
                    out.append(line);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(prompt(hostname).as_bytes());
            }
            0x08 | 0x7f if line.pop().is_some() => out.extend_from_slice(b"\x08 \x08"),
            b' '..=b'~' if line.len() < LINE_BYTES_MAX => {
                line.push(*byte);
                out.push(*byte);
            }
            _ => {}
        }
    }
    debug_assert!(out.len() <= OUTPUT_CHUNK_BYTES_MAX, "an answer is one piece of output");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_echoed_and_not_run() {
        let mut line = Vec::new();
        let mut say = |typed: &str| String::from_utf8(answer("web-1", &mut line, typed.as_bytes())).unwrap();
        assert_eq!(say("\r"), "\r\nweb-1 login: ");
        assert_eq!(say("rooo\x7f"), "rooo\x08 \x08");
        assert_eq!(say("t\x1b\0\r"), "t\r\nsimulated, not run: root\r\nweb-1 login: ");
        assert_eq!(say("\x7f"), "", "there is nothing to take back");
        assert_eq!(say(&"x".repeat(LINE_BYTES_MAX + 5)).len(), LINE_BYTES_MAX);
        assert!(say(&"\r".repeat(TYPED_AT_ONCE_BYTES_MAX)).len() < OUTPUT_CHUNK_BYTES_MAX);
    }
}
