//! QEMU's machine protocol: one JSON object a line. QEMU is not trusted further than its guest: lines are bounded, waits
//! are bounded, and an answer that makes no sense ends the connection.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use nephos_model::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Bytes of one line at most.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Events that wait while an answer is awaited, at most; the oldest are dropped.
const EVENTS_MAX: usize = 256;
/// Milliseconds for one command.
const COMMAND_DEADLINE_MS: u64 = 5_000;

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The socket failed.
    #[error("the monitor's socket failed")]
    Io(#[from] std::io::Error),
    /// QEMU closed the connection.
    #[error("the monitor hung up")]
    Closed,
    /// A line was longer than allowed.
    #[error("the monitor sent a line of more than {LINE_BYTES_MAX} bytes")]
    Long,
    /// A line was not what the protocol allows.
    #[error("the monitor sent something that is not of its protocol")]
    Garbled,
    /// QEMU refused a command.
    #[error("the monitor refused {command}: {said}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's reason, bounded.
        said: String,
    },
    /// No answer came in time.
    #[error("the monitor did not answer {command} within {deadline_ms} ms")]
    Late {
        /// The command.
        command: &'static str,
        /// Milliseconds it had.
        deadline_ms: u64,
    },
}

/// Something that QEMU tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name: `SHUTDOWN`, `STOP`.
    pub name: String,
    /// What it says.
    pub data: Value,
}

/// One message of QEMU.
#[derive(Debug, Clone, PartialEq)]
enum Message {
    Greeting,
    Answer { id: Option<u64>, result: Result<Value, String> },
    Event(Event),
}

/// A conversation with one QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    lines: Lines,
    events: VecDeque<Event>,
    last_id: u64,
}

impl Qmp {
    /// Connects, waits for the greeting at most `deadline_ms`, and agrees on no capabilities.
    pub async fn connect(path: &Path, clock: &dyn Clock, deadline_ms: u64) -> Result<Self, QmpError> {
        let begin = async {
            let stream = UnixStream::connect(path).await?;
            let mut qmp = Self { stream, lines: Lines::default(), events: VecDeque::new(), last_id: 0 };
            loop {
                match qmp.message().await? {
                    Message::Greeting => return Ok(qmp),
                    Message::Event(event) => qmp.keep(event),
                    Message::Answer { .. } => return Err(QmpError::Garbled),
                }
            }
        };
        let mut qmp = tokio::select! {
            qmp = begin => qmp?,
            () = clock.sleep(Duration::from_millis(deadline_ms)) => return Err(QmpError::Late { command: "the greeting", deadline_ms }),
        };
        qmp.execute("qmp_capabilities", None, clock).await?;
        Ok(qmp)
    }

    /// Runs a command and gives its result.
    pub async fn execute(
        &mut self,
        command: &'static str,
        arguments: Option<Value>,
        clock: &dyn Clock,
    ) -> Result<Value, QmpError> {
        self.last_id += 1;
        let id = self.last_id;
        let mut request = json!({"execute": command, "id": id});
        if let Some(arguments) = arguments {
            request["arguments"] = arguments;
        }
        let line = format!("{request}\n");
        let talk = async {
            self.stream.write_all(line.as_bytes()).await?;
            loop {
                match self.message().await? {
                    Message::Answer { id: Some(other), .. } if other < id => {}
                    Message::Answer { id: Some(same), result } if same == id => {
                        return result.map_err(|said| QmpError::Refused { command, said });
                    }
                    Message::Event(event) => self.keep(event),
                    Message::Answer { .. } | Message::Greeting => return Err(QmpError::Garbled),
                }
            }
        };
        tokio::select! {
            result = talk => result,
            () = clock.sleep(Duration::from_millis(COMMAND_DEADLINE_MS)) =>
                Err(QmpError::Late { command, deadline_ms: COMMAND_DEADLINE_MS }),
        }
    }

    /// The next event. May be dropped at any point without losing one.
    pub async fn event(&mut self) -> Result<Event, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Message::Event(event) = self.message().await? {
                return Ok(event);
            }
        }
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    async fn message(&mut self) -> Result<Message, QmpError> {
        loop {
            if let Some(line) = self.lines.next()? {
                return parse(&line).ok_or(QmpError::Garbled);
            }
            if self.stream.read_buf(&mut self.lines.bytes).await? == 0 {
                return Err(QmpError::Closed);
            }
        }
    }
}

/// Bytes that become lines.
#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
}

impl Lines {
    /// The next complete line that is not empty.
    fn next(&mut self) -> Result<Option<Vec<u8>>, QmpError> {
        // Blank lines go together, so that a flood of them is no work.
        let mut start = 0;
        while let Some(length) = self.bytes[start..].iter().position(|byte| *byte == b'\n') {
            let end = start + length + 1;
            let line = &self.bytes[start..end];
            if line.len() > LINE_BYTES_MAX {
                return Err(QmpError::Long);
            }
            if !line.trim_ascii().is_empty() {
                let line = line.to_vec();
                self.bytes.drain(..end);
                return Ok(Some(line));
            }
            start = end;
        }
        self.bytes.drain(..start);
        if self.bytes.len() > LINE_BYTES_MAX { Err(QmpError::Long) } else { Ok(None) }
    }
}

fn parse(line: &[u8]) -> Option<Message> {
    const SAID_CHARS_MAX: usize = 300;
    let Value::Object(mut object) = serde_json::from_slice(line).ok()? else { return None };
    if object.contains_key("QMP") {
        return Some(Message::Greeting);
    }
    let id = object.get("id").and_then(Value::as_u64);
    if let Some(value) = object.remove("return") {
        return Some(Message::Answer { id, result: Ok(value) });
    }
    if let Some(error) = object.get("error") {
        let said = error.get("desc")?.as_str()?;
        let said = said.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
        return Some(Message::Answer { id, result: Err(said) });
    }
    let name = object.get("event")?.as_str()?.to_owned();
    Some(Message::Event(Event { name, data: object.remove("data").unwrap_or(Value::Null) }))
}

/// Reads what a monitor might send, as a conversation does: for tests with hostile bytes.
#[cfg(feature = "testing")]
pub fn read_all(bytes: &[u8]) -> usize {
    let mut lines = Lines { bytes: bytes.to_vec() };
    let mut understood = 0;
    while let Ok(Some(line)) = lines.next() {
        understood += usize::from(parse(&line).is_some());
    }
    understood
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_qemu_says_is_understood() {
        assert_eq!(parse(br#"{"QMP":{"version":{},"capabilities":["oob"]}}"#), Some(Message::Greeting));
        assert_eq!(
            parse(br#"{"return":{"status":"running"},"id":3}"#),
            Some(Message::Answer { id: Some(3), result: Ok(json!({"status": "running"})) })
        );
        assert_eq!(
            parse(br#"{"id":4,"error":{"class":"GenericError","desc":"no\u0007pe"}}"#),
            Some(Message::Answer { id: Some(4), result: Err("nope".into()) })
        );
        assert_eq!(
            parse(br#"{"timestamp":{"seconds":1},"event":"SHUTDOWN","data":{"guest":true}}"#),
            Some(Message::Event(Event { name: "SHUTDOWN".into(), data: json!({"guest": true}) }))
        );
    }

    #[test]
    fn hostile_answers_end_the_conversation() {
        for bad in ["", "{", "[]", "null", r#"{"event":7}"#, r#"{"error":{}}"#, r#"{"error":{"desc":1}}"#, "{}"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes()), None);
        let mut lines = Lines { bytes: vec![b'x'; LINE_BYTES_MAX + 1] };
        assert!(matches!(lines.next(), Err(QmpError::Long)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes);
            let mut lines = Lines { bytes };
            while let Ok(Some(line)) = lines.next() {
                prop_assert!(line.ends_with(b"\n"));
            }
        }
    }
}
