//! The serial console of one running machine: what the guest writes goes into the log and to the terminals, what they type
//! goes to the guest. Deliberately not here: the log's files (`console`), and how terminals share a line (`terminal`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nephos_model::Clock;
use nephos_model::id::ComputeId;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::console::Console;
use crate::terminal::{Guest, OUTPUT_CHUNK_BYTES_MAX};

/// Milliseconds between tries to reach the console.
const RETRY_MS: u64 = 5_000;

/// The server's end of a machine's console.
pub struct Serial {
    /// The compute.
    pub id: ComputeId,
    /// Where QEMU listens.
    pub path: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The log.
    pub console: Console,
    /// The terminals.
    pub guest: Guest,
    /// The connection, while there is one.
    pub stream: Option<UnixStream>,
    /// What was typed and is not sent yet: one piece of input at most.
    pub unsent: Vec<u8>,
}

impl Serial {
    /// Connects, when it is not connected.
    pub async fn connect(&mut self) {
        if self.stream.is_some() {
            return;
        }
        match UnixStream::connect(&self.path).await {
            Ok(stream) => self.stream = Some(stream),
            Err(e) => tracing::warn!(compute = %self.id, error = %e, "the serial console can't be reached"),
        }
    }

    /// Passes on what is written and typed, and connects again when the connection ends. Never ends.
    pub async fn converse(&mut self) {
        loop {
            self.connect().await;
            self.exchange().await;
            self.stream = None;
            self.clock.sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    async fn exchange(&mut self) {
        let Self { stream: Some(stream), guest, unsent, console, id, .. } = self else { return };
        loop {
            tokio::select! {
                read = read(stream) => match read {
                    Ok(bytes) if !bytes.is_empty() => keep(*id, guest, console, &bytes),
                    _ => return,
                },
                fed = feed(stream, &mut guest.typed, unsent) => if fed.is_err() {
                    return;
                },
            }
        }
    }

    /// What the guest wrote until its end, as far as the socket holds it: `bytes_max` at most.
    pub async fn last_words(&mut self, bytes_max: u64) {
        let Some(stream) = self.stream.take() else { return };
        let mut left = bytes_max;
        while left > 0 {
            match read(&stream).await {
                Ok(bytes) if !bytes.is_empty() => {
                    left = left.saturating_sub(bytes.len() as u64);
                    keep(self.id, &self.guest, &mut self.console, &bytes);
                }
                _ => return,
            }
        }
    }
}

fn keep(id: ComputeId, guest: &Guest, console: &mut Console, bytes: &[u8]) {
    guest.tell(bytes, |bytes| {
        if let Err(e) = console.append(bytes) {
            tracing::warn!(compute = %id, error = %e, "the console log can't be written");
        }
    });
}

/// The next bytes; none at the end. Nothing is lost when the wait is given up.
async fn read(stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(OUTPUT_CHUNK_BYTES_MAX);
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

/// One step of sending what is typed. Nothing is lost, or sent twice, when the wait is given up.
async fn feed(stream: &UnixStream, typed: &mut mpsc::Receiver<Vec<u8>>, unsent: &mut Vec<u8>) -> io::Result<()> {
    if unsent.is_empty() {
        match typed.recv().await {
            Some(bytes) => *unsent = bytes,
            // The driver let go of the machine; the abort that comes with it ends this.
            None => return std::future::pending().await,
        }
    }
    // A guest that takes no input makes it wait, and nothing else.
    stream.writable().await?;
    match stream.try_write(unsent) {
        Ok(length) => {
            unsent.drain(..length);
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(e) => Err(e),
    }
}
