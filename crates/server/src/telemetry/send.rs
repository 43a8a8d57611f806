//! The thread that sends spans: in batches, with a few retries, and never in anybody's way.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nephos_model::metric::Metric;
use nephos_model::{Clock, Entropy};

use super::{Counts, Message, QUEUE_MAX, Settings, Span, Spans, encode};

/// Spans of one request at most.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Tries of one batch.
const ATTEMPTS_MAX: u32 = 3;
/// The pause before the second try; it doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long the end of the program waits for what is still to be sent.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);
/// Of failures in a row, one of so many is logged.
const FAILURES_PER_LINE: u64 = 60;

/// Sends spans for as long as it lives.
#[derive(Debug)]
pub struct Exporter {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Starts the thread; the layer gives it spans.
    pub fn start(settings: Settings, clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> Result<(Self, Spans)> {
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let counts = Arc::new(Counts::default());
        let spans = Spans::new(clock, entropy, settings.sample_percent, queue.clone(), Arc::clone(&counts));
        let sender = Sender { agent: agent(settings.timeout), settings, counts: Arc::clone(&counts), failures: 0 };
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || sender.run(&waiting));
        let thread = thread.context("the thread that sends traces can't be started")?;
        Ok((Self { queue, counts, thread: Some(thread) }, spans))
    }

    /// What became of spans.
    pub fn metrics(&self) -> Vec<Metric> {
        self.counts.metrics()
    }

    /// Sends what waits, within a bound.
    pub fn flush(&self) {
        let (done, heard) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            // Who is too late is not waited for: the program ends.
            let _ = heard.recv_timeout(FLUSH_DEADLINE);
        }
        if self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            tracing::error!("the thread that sends traces ended by a defect");
        }
    }
}

fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false).build().into()
}

struct Sender {
    agent: ureq::Agent,
    settings: Settings,
    counts: Arc<Counts>,
    /// Batches in a row that could not be sent.
    failures: u64,
}

impl Sender {
    fn run(mut self, waiting: &Receiver<Message>) {
        let mut batch: Vec<Box<Span>> = Vec::new();
        loop {
            let message = if batch.is_empty() {
                waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                waiting.recv_timeout(BATCH_WAIT)
            };
            match message {
                Ok(Message::Ended(span)) => {
                    batch.push(span);
                    if batch.len() >= BATCH_MAX {
                        self.send(&mut batch);
                    }
                }
                Ok(Message::Flush(done)) => {
                    self.send(&mut batch);
                    // Who asked may be gone.
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => self.send(&mut batch),
                Err(RecvTimeoutError::Disconnected) => {
                    self.send(&mut batch);
                    return;
                }
            }
        }
    }

    #[allow(clippy::vec_box)] // as they come from the queue
    fn send(&mut self, batch: &mut Vec<Box<Span>>) {
        if batch.is_empty() {
            return;
        }
        let body = encode::request(&self.settings.resource, batch);
        let count = batch.len() as u64;
        batch.clear();
        let mut pause = RETRY_PAUSE;
        let mut failure = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            match self.post(&body) {
                Ok(()) => {
                    self.counts.sent.add(count);
                    self.failures = 0;
                    return;
                }
                Err((why, is_passing)) => {
                    failure = why;
                    if !is_passing || attempt == ATTEMPTS_MAX {
                        break;
                    }
                    wait(pause);
                    pause *= 2;
                }
            }
        }
        self.counts.failed.add(count);
        if self.failures.is_multiple_of(FAILURES_PER_LINE) {
            tracing::warn!(spans = count, failure, "traces can't be sent and are dropped");
        }
        self.failures += 1;
    }

    /// The error says whether trying again may help.
    fn post(&self, body: &str) -> Result<(), (String, bool)> {
        let mut request = self.agent.post(&self.settings.url).header("content-type", "application/json");
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        match request.send(body) {
            Ok(answer) => match answer.status().as_u16() {
                200..=299 => Ok(()),
                status => Err((format!("the receiver answered {status}"), matches!(status, 429 | 502 | 503 | 504))),
            },
            Err(error) => Err((error.to_string(), true)),
        }
    }
}

#[allow(clippy::disallowed_methods)] // a thread that has nothing else to do
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}
