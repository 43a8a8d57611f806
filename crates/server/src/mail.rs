//! How letters leave: through an SMTP server, or into files of the data folder where there is none.
//!
//! Messages are the same for both (RFC 5322, text and HTML as alternatives). TLS is required unless the address says
//! otherwise or the server is this machine. Deliberately not here: what letters say, and when they are tried again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use nephos_control::mail::{Mailer, NotSent, Outgoing, Sending};

use crate::config::Config;
use crate::data_dir::DataDir;

/// The folder of letters in the data folder.
const FOLDER: &str = "mail";
/// How long one command of the SMTP session may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);
/// Files of letters that the folder holds at most; the oldest go first.
const FILES_MAX: usize = 1_000;

/// What brings letters out, as the configuration says.
pub fn mailer(config: &Config, dir: &DataDir) -> Result<Arc<dyn Mailer>> {
    let from = config.mail_from.0.clone();
    let Some(url) = &config.mail_smtp_url else {
        return Ok(Arc::new(Files { folder: dir.path().join(FOLDER), from }));
    };
    let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.expose())
        .with_context(|| format!("`mail_smtp_url` can't be used: {url}"))?
        .timeout(Some(COMMAND_DEADLINE))
        .build();
    Ok(Arc::new(Smtp { transport, from, server: url.to_string() }))
}

/// The message of a letter.
fn message(letter: &Outgoing, from: &Mailbox) -> Result<Message, NotSent> {
    let refused = |what: &str, error: String| NotSent { is_final: true, cause: format!("{what}: {error}") };
    let to: Mailbox = letter.to.parse().map_err(|e| refused("the address can't be written to", format!("{e}")))?;
    let written = u64::try_from(letter.written_at.micros()).unwrap_or(0);
    Message::builder()
        .message_id(Some(format!("<{}@{}>", letter.id, from.email.domain())))
        .date(SystemTime::UNIX_EPOCH + Duration::from_micros(written))
        .from(from.clone())
        .to(to)
        .subject(letter.text.subject.clone())
        // RFC 3834: nobody's absence should be told to a machine.
        .raw_header(lettre::message::header::HeaderValue::new(
            lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .multipart(MultiPart::alternative_plain_html(letter.text.plain.clone(), letter.text.html.clone()))
        .map_err(|e| refused("the letter can't be written", e.to_string()))
}

/// An SMTP server.
#[derive(Debug)]
struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    server: String,
}

impl Mailer for Smtp {
    fn send<'a>(&'a self, letter: &'a Outgoing) -> Sending<'a> {
        Box::pin(async move {
            let message = message(letter, &self.from)?;
            match self.transport.send(message).await {
                Ok(_) => Ok(()),
                Err(error) => Err(NotSent {
                    // A refusal of the letter (5xx) is for good; one of our credentials is the operator's to mend.
                    is_final: error.is_permanent() && !is_about_us(&error),
                    cause: format!("{}: {}", self.server, chain(&error)),
                }),
            }
        })
    }
}

/// Whether a server refused this sender rather than the letter: 530, 534, 535, 538 (RFC 4954).
fn is_about_us(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Files, for an installation without a mail server: what would have been sent can be read there.
#[derive(Debug)]
struct Files {
    folder: PathBuf,
    from: Mailbox,
}

impl Files {
    fn write(&self, letter: &Outgoing, bytes: &[u8]) -> std::io::Result<()> {
        if !self.folder.exists() {
            DirBuilder::new().mode(0o700).create(&self.folder)?;
        }
        // Ids sort by time. A repetition replaces its letter.
        let name = self.folder.join(format!("{}.{}.eml", letter.id, file_name(&letter.to)));
        let part = name.with_extension("part");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, &name)?;
        File::open(&self.folder)?.sync_all()?;
        keep_newest(&self.folder)
    }
}

/// An address as a part of a file's name.
fn file_name(address: &str) -> String {
    address.chars().map(|c| if c.is_ascii_alphanumeric() || "@.-_+".contains(c) { c } else { '_' }).take(100).collect()
}

fn keep_newest(folder: &Path) -> std::io::Result<()> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for old in names.iter().take(names.len().saturating_sub(FILES_MAX)) {
        std::fs::remove_file(old)?;
    }
    Ok(())
}

impl Mailer for Files {
    fn send<'a>(&'a self, letter: &'a Outgoing) -> Sending<'a> {
        Box::pin(async move {
            let message = message(letter, &self.from)?;
            self.write(letter, &message.formatted()).map_err(|error| NotSent {
                is_final: false,
                cause: format!("{} can't be written to: {error}", self.folder.display()),
            })
        })
    }
}
