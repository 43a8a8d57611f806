//! A mail server in memory: it keeps what it is sent, and refuses as a test tells it to.

use std::sync::{Arc, Mutex, PoisonError};

use nephos_control::mail::{Mailer, NotSent, Outgoing, Sending};

/// Letters in the order in which they were sent. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Mailbox(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    letters: Vec<Outgoing>,
    refusal: Option<NotSent>,
    refused: usize,
}

impl Mailbox {
    /// Takes out what was sent since the last time.
    pub fn take(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).letters)
    }

    /// From now on every letter is refused so, or none.
    pub fn refuse(&self, refusal: Option<NotSent>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refusal = refusal;
    }

    /// How many letters were refused.
    pub fn refused(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}

impl Mailer for Mailbox {
    fn send<'a>(&'a self, letter: &'a Outgoing) -> Sending<'a> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = if let Some(refusal) = inner.refusal.clone() {
            inner.refused += 1;
            Err(refusal)
        } else {
            inner.letters.push(letter.clone());
            Ok(())
        };
        Box::pin(std::future::ready(outcome))
    }
}
