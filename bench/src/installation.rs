//! An installation of nephos to measure: its data folder, its keys, its server, and what is put into it.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use serde_json::Value;

use crate::load;
use crate::process::{Running, free_port, output, wait_until};

/// Seconds that the server has to be ready.
const READY_MAX_S: u64 = 60;
/// Seconds that computes have to run.
const RUNNING_MAX_S: u64 = 300;

/// An installation.
#[derive(Debug)]
pub struct Installation {
    binary: PathBuf,
    folder: PathBuf,
    arguments: Vec<String>,
    /// Under which the server is started, such as a tracer with its options.
    pub wrapper: Vec<String>,
    /// The live key of its one workspace, whose plan has no limits.
    pub key: String,
    /// Where its server listens.
    pub address: SocketAddr,
    server: RefCell<Option<Running>>,
}

impl Installation {
    /// A new installation in `folder`, its server started; `arguments` are added to `serve`.
    pub fn new(binary: &Path, folder: PathBuf, arguments: &[&str]) -> Result<Self> {
        let mut made = Self {
            binary: binary.to_owned(),
            folder,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            wrapper: Vec::new(),
            key: String::new(),
            address: SocketAddr::from(([127, 0, 0, 1], free_port()?)),
            server: RefCell::new(None),
        };
        made.start()?;
        let told = made.admin(&[
            "init",
            "--workspace",
            "Bench",
            "--owner",
            "bench@example.com",
            "--plan",
            "unlimited",
            "--output",
            "json",
        ])?;
        let told: Value = serde_json::from_str(&told).context("init did not print JSON")?;
        told["live_key"].as_str().context("init printed no live_key")?.clone_into(&mut made.key);
        Ok(made)
    }

    /// Runs an administration command on it.
    pub fn admin(&self, words: &[&str]) -> Result<String> {
        output(Command::new(&self.binary).args(words).arg("--data-dir").arg(&self.folder))
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server, and hands back after how many milliseconds it was ready.
    pub fn start(&self) -> Result<f64> {
        let log_path = self.folder.with_extension("log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path)?;
        let mut line: Vec<&str> = self.wrapper.iter().map(String::as_str).collect();
        let binary = self.binary.to_str().context("the binary's path is not UTF-8")?;
        line.push(binary);
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).args(["serve", "--listen", &self.address.to_string(), "--data-dir"]);
        command.arg(&self.folder).args(&self.arguments).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let mut server = Running::start(&mut command)?;
        let request = load::get("/readyz", "");
        wait_until(Duration::from_secs(READY_MAX_S), || {
            server.check().with_context(|| {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                format!("nephos serve: {}", log.lines().last().unwrap_or_default())
            })?;
            Ok(load::ask(self.address, &request).ok().filter(|(status, _)| *status == 200))
        })?;
        *self.server.borrow_mut() = Some(server);
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Stops the server, in order.
    pub fn stop(&self) -> Result<()> {
        self.server.borrow_mut().take().map_or(Ok(()), |mut server| server.end())
    }

    /// The server's process id.
    pub fn pid(&self) -> Result<u32> {
        self.server.borrow().as_ref().map(Running::id).context("the server is stopped")
    }

    /// Reads JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        let (status, body) = load::ask(self.address, &load::get(path, &self.key))?;
        ensure!(status == 200, "GET {path}: {status} {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    /// Creates something.
    pub fn create(&self, path: &str, body: &str) -> Result<Value> {
        let mut request = Vec::new();
        load::post(&mut request, path, &self.key, None, body);
        let (status, told) = load::ask(self.address, &request)?;
        ensure!(status == 201, "POST {path}: {status} {}", String::from_utf8_lossy(&told));
        Ok(serde_json::from_slice(&told)?)
    }

    /// Adds the image in a folder that `scripts/image` made.
    pub fn add_image(&self, folder: &Path) -> Result<()> {
        let manifest = folder.join("small.toml");
        self.admin(&["image", "add", manifest.to_str().context("the image's path is not UTF-8")?]).map(|_| ())
    }

    /// Makes `count` computes and waits until they run.
    pub fn fill(&self, image: &Path, count: u32) -> Result<()> {
        self.add_image(image)?;
        for number in 0..count {
            self.create("/v1/computes", &format!(r#"{{"name":"bench-{number}","labels":{{"app":"bench"}}}}"#))?;
        }
        wait_until(Duration::from_secs(RUNNING_MAX_S), || {
            let running = self.get("/v1/computes?status=running&limit=1")?;
            Ok((running["meta"]["total"] == count).then_some(()))
        })
        .context("the computes do not all run")
    }
}

/// An SSH public key that nobody has the other half of.
pub fn ssh_key(number: u64) -> String {
    let mut blob = Vec::with_capacity(51);
    for part in [&b"ssh-ed25519"[..], &[[0x5a; 24].as_slice(), &number.to_be_bytes()].concat()] {
        blob.extend_from_slice(&u32::try_from(part.len()).unwrap_or_default().to_be_bytes());
        blob.extend_from_slice(part);
    }
    format!("ssh-ed25519 {}", base64::engine::general_purpose::STANDARD.encode(blob))
}
