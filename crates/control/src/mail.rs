//! E-mail: what is written to people, and how it leaves.
//!
//! A letter is a row of the transaction that causes it, so it is sent if and only if that happened. One loop takes what is
//! due, tries it, and notes how it went; a mail server that is down for a day loses nothing. At least once: a kill between
//! the server's yes and the note sends a letter twice, under one `Message-ID`. Texts are in [`letter`]. Deliberately not
//! here: SMTP, which a [`Mailer`] speaks.

pub mod letter;
mod reminder;
mod webhook;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use nephos_model::id::{MailId, WorkspaceId};
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::mail::{Due, NewMail, Told};
use nephos_store::{Batch, Statement, StoreError};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::Cloud;
use crate::mail::letter::Letter;

/// When a letter is tried again, after the first try: 24 hours in all.
pub const RETRY_AFTER: [Duration; 8] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(3 * 60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// How long one try may take; a mailer that takes longer has failed.
pub const SEND_DEADLINE: Duration = Duration::from_secs(60);
/// For how long a letter in hand is nobody else's: longer than a try.
const IN_HAND: Duration = Duration::from_secs(90);
/// How long what happened to a letter is kept: 30 days.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Letters that are looked at together.
const AT_ONCE: u32 = 50;
/// Bytes of an error that are kept.
const ERROR_BYTES_MAX: usize = 500;
/// How often it is looked whether letters of other processes are due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What letters are sealed for.
const PURPOSE: &str = "mail";

/// A letter, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id, the same on every try: the left part of its `Message-ID`.
    pub id: String,
    /// The address that it goes to.
    pub to: String,
    /// When it was written.
    pub written_at: Timestamp,
    /// What it says.
    pub text: Text,
}

/// What a letter says. Its debug text does not, because a letter may hold a credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The subject: one line.
    pub subject: String,
    /// The body for those who read text.
    pub plain: String,
    /// The same as HTML.
    pub html: String,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Why a letter did not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSent {
    /// Whether another try would end the same: the server refuses this letter or this address for good.
    pub is_final: bool,
    /// What the server said, or what went wrong, for the operator.
    pub cause: String,
}

/// A letter on its way through a [`Mailer`].
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), NotSent>> + Send + 'a>>;

/// What brings letters out.
pub trait Mailer: Send + Sync + fmt::Debug {
    /// Sends one letter, or tells why not. [`SEND_DEADLINE`] ends it from outside.
    fn send<'a>(&'a self, letter: &'a Outgoing) -> Sending<'a>;
}

impl Cloud {
    /// The row of a letter to an address. `about` names what it is about: an address hears of it once.
    pub(crate) fn mail_to(&self, recipient: &str, about: Option<String>, letter: &Letter) -> Option<Statement> {
        self.written(about, letter).map(|mail| store::mail::to(recipient, mail))
    }

    /// The row of a letter to every Owner of a workspace.
    pub(crate) fn mail_owners(&self, of: WorkspaceId, about: Option<String>, letter: &Letter) -> Option<Statement> {
        let mail = self.written(about, letter)?;
        Some(store::mail::to_owners(of, NewMail { workspace_id: Some(of), ..mail }))
    }

    /// `None` for a letter that can't be sealed, of which there is none.
    fn written(&self, about: Option<String>, letter: &Letter) -> Option<NewMail> {
        let id = self.id::<MailId>().to_string();
        let now = self.clock().now();
        let text = letter.text(&self.settings().origin, &self.settings().support_contact);
        let clear = serde_json::to_vec(&text).ok()?;
        let sealed = self.0.master_key.seal(PURPOSE, &id, &clear, self.entropy())?;
        let (last, kind) = (RETRY_AFTER[RETRY_AFTER.len() - 1], letter.kind());
        let expires_at = letter.expires_at().unwrap_or_else(|| now.plus(last + IN_HAND));
        let about = about.unwrap_or_else(|| id.clone());
        Some(NewMail { id, about, kind, workspace_id: None, sealed, expires_at, created_at: now })
    }

    /// The newest letters, at most `limit`, for the operator; what they say is not in it.
    pub async fn mails(&self, limit: u32) -> Result<Vec<Told>, Fault> {
        self.store().mails(limit).await.map_err(crate::fault::store)
    }

    /// Sends what is due, and answers how many letters were tried.
    pub async fn send_mails(&self) -> Result<usize, StoreError> {
        let now = self.clock().now();
        let due = self.store().mails_due(now, AT_ONCE).await?;
        let mut tried = 0;
        for letter in due {
            match self.store().write(store::mail::take(&letter, now.plus(IN_HAND)).into()).await {
                Ok(_) => {}
                // Another process has it.
                Err(StoreError::Missed { .. }) => continue,
                Err(error) => return Err(error),
            }
            tried += 1;
            let outcome = self.send_mail(&letter).await;
            self.note_mail(&letter, outcome).await?;
        }
        Ok(tried)
    }

    async fn send_mail(&self, letter: &Due) -> Result<(), NotSent> {
        if self.clock().now() >= letter.expires_at {
            return Err(NotSent { is_final: true, cause: "nobody needs it any more".to_owned() });
        }
        let clear = self.0.master_key.open(PURPOSE, &letter.id, &letter.sealed);
        let text: Option<Text> = clear.and_then(|clear| serde_json::from_slice(&clear).ok());
        let Some(text) = text else {
            return Err(NotSent { is_final: true, cause: "it can't be opened with this master key".to_owned() });
        };
        let (id, to) = (letter.id.clone(), letter.recipient.clone());
        let outgoing = Outgoing { id, to, written_at: letter.created_at, text };
        tokio::select! {
            sent = self.0.mailer.send(&outgoing) => sent,
            () = self.clock().sleep(SEND_DEADLINE) => {
                let cause = format!("the mail server took longer than {} seconds", SEND_DEADLINE.as_secs());
                Err(NotSent { is_final: false, cause })
            }
        }
    }

    async fn note_mail(&self, letter: &Due, outcome: Result<(), NotSent>) -> Result<(), StoreError> {
        let now = self.clock().now();
        let row = match outcome {
            Ok(()) => {
                info!(mail = letter.id, kind = letter.kind, "letter sent");
                store::mail::end(letter, now, None)
            }
            Err(NotSent { is_final, mut cause }) => {
                let end = (0..=ERROR_BYTES_MAX).rev().find(|at| cause.is_char_boundary(*at)).unwrap_or(0);
                cause.truncate(end.min(cause.len()));
                let failed = usize::try_from(letter.attempts).unwrap_or(usize::MAX);
                // Times are counted from when it was written, so that a slow server does not stretch them.
                let next = RETRY_AFTER.get(failed).map(|after| letter.created_at.plus(*after).max(now));
                if let Some(next) = next.filter(|next| !is_final && *next < letter.expires_at) {
                    warn!(mail = letter.id, kind = letter.kind, cause, "letter not sent; tried again");
                    store::mail::retry(letter, next, &cause)
                } else {
                    warn!(mail = letter.id, kind = letter.kind, cause, "letter given up");
                    store::mail::end(letter, now, Some(&cause))
                }
            }
        };
        match self.store().write(row.into()).await {
            // It took so long that another process took it: its outcome counts.
            Ok(_) | Err(StoreError::Missed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sends letters as they are due, until the future is dropped.
    pub(crate) async fn keep_mailing(self) {
        loop {
            let wait = match self.send_mails().await {
                // There may be more than were looked at.
                Ok(tried) if tried == AT_ONCE as usize => continue,
                Ok(_) => self.until_next_mail().await,
                Err(error) => {
                    warn!(%error, "letters can't be sent now");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = self.clock().sleep(wait) => {}
                () = self.0.mails.notified() => {}
            }
        }
    }

    async fn until_next_mail(&self) -> Duration {
        match self.store().mail_next().await {
            Ok(Some(at)) => at.since(self.clock().now()).min(LOOK_EVERY),
            _ => LOOK_EVERY,
        }
    }

    /// Forgets letters that ended long ago.
    pub(crate) fn expire_mails(&self, batch: &mut Batch) {
        batch.push(store::mail::expire(self.clock().now().minus(KEPT)));
    }
}
