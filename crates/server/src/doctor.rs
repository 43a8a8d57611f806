//! `nephos doctor`: what this machine can do, in plain words, and how to mend the rest.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use nephos_driver::qemu::{self, Verdict};
use nephos_model::Clock;
use nephos_store::SqliteOptions;
use serde_json::{Value, json};

use crate::admin::{self, Request};
use crate::config::{Config, Loaded};
use crate::data_dir::{DataDir, Locked};
use crate::installation;
use crate::output::{self, Output, escape};

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    name: String,
    verdict: Verdict,
    sentence: String,
    mend: Option<String>,
}

impl Finding {
    fn good(name: &str, sentence: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Good, sentence: sentence.into(), mend: None }
    }

    fn bad(name: &str, verdict: Verdict, sentence: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verdict, sentence: sentence.into(), mend: Some(mend.into()) }
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Degraded => "limited",
        Verdict::Missing => "missing",
    }
}

/// Looks at everything and prints it. Returns whether all that is needed is there.
pub async fn run(loaded: &Loaded, clock: Arc<dyn Clock>, output: Output) -> Result<bool> {
    let config = &loaded.config;
    let mut findings = Vec::new();
    let server = folder_and_engine(config, &*clock, &mut findings).await;
    port(config, server.as_ref(), &mut findings);
    if config.regions.0.iter().any(|r| r.driver == "qemu") {
        let options = installation::qemu_options(config, &existing_or_default(&config.data_dir));
        findings.extend(qemu::report(&options, clock).await.into_iter().map(|f| Finding {
            name: f.name.to_owned(),
            verdict: f.verdict,
            sentence: f.sentence,
            mend: f.mend,
        }));
    } else {
        findings.push(Finding::good("driver", "no region runs real machines: the simulator plays them"));
    }
    let is_fit = findings.iter().all(|f| f.verdict != Verdict::Missing);
    print(&findings, is_fit, output);
    Ok(is_fit)
}

fn existing_or_default(path: &Path) -> std::path::PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The folder, who runs on it, the database behind it and the images in it. Changes nothing where nothing is yet.
async fn folder_and_engine(config: &Config, clock: &dyn Clock, findings: &mut Vec<Finding>) -> Option<Value> {
    let shown = config.data_dir.display();
    if !config.data_dir.exists() {
        findings.push(Finding::good(
            "data folder",
            format!("{shown} is not there yet; `nephos serve` or `nephos init` makes it"),
        ));
        if config.database.is_none() {
            findings.push(Finding::good("database", "SQLite, made at the first start"));
        } else {
            database(config, None, clock, findings).await;
        }
        return None;
    }
    let dir = match DataDir::open(&config.data_dir) {
        Ok(dir) => dir,
        Err(e) => {
            findings.push(Finding::bad("data folder", Verdict::Missing, output::chain(e.as_ref()), "see the sentence"));
            return None;
        }
    };
    match dir.lock() {
        Err(e) => {
            findings.push(Finding::bad("data folder", Verdict::Missing, output::chain(e.as_ref()), "see the sentence"));
            None
        }
        Ok(Locked::Theirs(pid)) => {
            let pid = pid.map_or_else(|| "of unknown id".to_owned(), |pid| pid.to_string());
            match admin::socket::ask(dir.path(), &Request::Status).await {
                Ok(Ok(status)) => {
                    findings.push(Finding::good(
                        "data folder",
                        format!("{shown} is private, and a server (process {pid}) runs on it"),
                    ));
                    let engine = status["database"].as_str().unwrap_or("unknown").to_owned();
                    findings.push(if status["ready"] == true {
                        Finding::good("database", format!("{engine} answers the server"))
                    } else {
                        Finding::bad(
                            "database",
                            Verdict::Missing,
                            format!("{engine} does not answer the server"),
                            "look at the server's log",
                        )
                    });
                    images(status["images"].as_u64().unwrap_or(0), findings);
                    Some(status)
                }
                Ok(Err(refusal)) => {
                    findings.push(Finding::bad("server", Verdict::Missing, refusal.message, "restart the server"));
                    None
                }
                Err(e) => {
                    findings.push(Finding::bad(
                        "server",
                        Verdict::Degraded,
                        format!("the process {pid} holds {shown} and does not answer: {e}"),
                        "wait until it has started, or end it",
                    ));
                    None
                }
            }
        }
        Ok(Locked::Ours(_lock)) => {
            findings.push(Finding::good(
                "data folder",
                format!("{shown} is private and can be written; no server runs on it"),
            ));
            database(config, Some(&dir), clock, findings).await;
            None
        }
    }
}

/// Opens the database as the server would, without changing its schema.
async fn database(config: &Config, dir: Option<&DataDir>, _clock: &dyn Clock, findings: &mut Vec<Finding>) {
    let file = dir.map(installation::database_file);
    if config.database.is_none() && !file.as_ref().is_some_and(|f| f.exists()) {
        findings.push(Finding::good("database", "SQLite, made at the first start"));
        return;
    }
    let opened = installation::open_store(config, file.as_deref(), SqliteOptions::default()).await;
    let answered = match &opened {
        Ok(store) => store.ping().await.map_err(anyhow::Error::from),
        Err(e) => Err(anyhow::anyhow!(output::chain(e.as_ref()))),
    };
    findings.push(match answered {
        Ok(()) => Finding::good("database", format!("{} answers", installation::database_name(config))),
        Err(e) => Finding::bad(
            "database",
            Verdict::Missing,
            output::chain(e.as_ref()),
            "mend it, or name another with --database",
        ),
    });
    if let Ok(store) = opened {
        // A database without a schema has no images: it is made at the first start.
        let page = nephos_model::page::Page::default();
        let count = store.images(None, &page).await.map_or(0, |listed| u64::try_from(listed.total).unwrap_or(0));
        images(count, findings);
        store.close().await;
    }
}

fn images(count: u64, findings: &mut Vec<Finding>) {
    findings.push(match count {
        0 => Finding::bad(
            "images",
            Verdict::Degraded,
            "there is no image to boot from",
            "scripts/image DIR makes a small one, `nephos image add DIR/small.toml` adds it",
        ),
        1 => Finding::good("images", "there is 1 image"),
        n => Finding::good("images", format!("there are {n} images")),
    });
}

fn port(config: &Config, server: Option<&Value>, findings: &mut Vec<Finding>) {
    let listen = config.listen;
    if let Some(url) = server.and_then(|s| s["url"].as_str()) {
        findings.push(Finding::good("port", format!("the server listens at {url}")));
        return;
    }
    findings.push(match TcpListener::bind(listen) {
        Ok(_) => Finding::good("port", format!("{listen} is free")),
        Err(e) => Finding::bad(
            "port",
            Verdict::Missing,
            format!("{listen} can't be listened at: {e}"),
            "stop what listens there (`ss -ltnp` shows it), or choose another with --listen",
        ),
    });
}

fn print(findings: &[Finding], is_fit: bool, output: Output) {
    match output {
        Output::Json => {
            let list: Vec<Value> = findings
                .iter()
                .map(|f| json!({"name": f.name, "verdict": word(f.verdict), "sentence": f.sentence, "mend": f.mend}))
                .collect();
            output::json(&json!({"fit": is_fit, "findings": list}));
        }
        Output::Table => {
            let width = findings.iter().map(|f| f.name.chars().count()).max().unwrap_or(0);
            for f in findings {
                output::line(&format!("{:7}  {:width$}  {}", word(f.verdict), f.name, escape(&f.sentence)));
                if let (Some(mend), true) = (&f.mend, f.verdict != Verdict::Good) {
                    output::line(&format!("{:7}  {:width$}  to mend: {}", "", "", escape(mend)));
                }
            }
            output::line("");
            let limited = findings.iter().any(|f| f.verdict == Verdict::Degraded);
            output::line(match (is_fit, limited) {
                (false, _) => "This machine can't run everything yet: see what is missing.",
                (true, true) => "This machine works, with the limits above.",
                (true, false) => "This machine can run everything.",
            });
        }
    }
}
