//! A private PostgreSQL server, and pgbench with the SELECT that a list of computes makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nephos_store::Sql;

use crate::process::output;

/// A server of its own, started and removed by `scripts/lib/postgres`.
#[derive(Debug)]
pub struct Postgres {
    script: PathBuf,
    folder: PathBuf,
    user: String,
}

impl Postgres {
    /// Starts it with its files in `folder`.
    pub fn start(repository: &Path, folder: PathBuf) -> Result<Self> {
        let script = repository.join("scripts/lib/postgres");
        let told = output(Command::new(&script).arg("start").env("NEPHOS_TEST_POSTGRES_DIR", &folder))?;
        let user = told.split_whitespace().find_map(|word| word.strip_prefix("user=")).context("no user")?.to_owned();
        Ok(Self { script, folder, user })
    }

    /// Its address for nephos.
    pub fn url(&self) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://{}@{host}/postgres", self.user)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-h").arg(&self.folder).args(["-U", &self.user]);
        command
    }

    /// What a statement answers, as text.
    pub fn ask(&self, sql: &str) -> Result<String> {
        Ok(output(self.client("psql").args(["-d", "postgres", "-qAtc", sql]))?.trim().to_owned())
    }

    /// Transactions a second of pgbench with a statement by which the store lists computes: a page of 20 and the row
    /// that tells whether there is another, prepared, with `clients` connections.
    pub fn pgbench(&self, name: &str, clients: usize, seconds: u64) -> Result<f64> {
        let tenant = self.ask("SELECT tenant FROM computes LIMIT 1")?;
        let mut text = Sql::all().find(|sql| sql.name == name).context("no such statement")?.text.to_owned();
        for number in (5..=11).rev() {
            text = text.replace(&format!("${number}"), "NULL");
        }
        for (number, name) in [(4, ":offset"), (3, ":limit"), (2, ":before"), (1, ":tenant")] {
            text = text.replace(&format!("${number}"), name);
        }
        let script = self.folder.join("list.sql");
        std::fs::write(&script, format!("{};\n", text.split_whitespace().collect::<Vec<_>>().join(" ")))?;
        let told = output(
            self.client("pgbench")
                .args(["-n", "-M", "prepared", "-j", "2", "-c", &clients.to_string(), "-T", &seconds.to_string()])
                .args(["-D", &format!("tenant={tenant}"), "-D", "before=~", "-D", "limit=21", "-D", "offset=0", "-f"])
                .arg(&script)
                .arg("postgres"),
        )?;
        let line = told.lines().find_map(|line| line.strip_prefix("tps = ")).context("pgbench told no tps")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = output(Command::new(&self.script).arg("stop").env("NEPHOS_TEST_POSTGRES_DIR", &self.folder))
        {
            eprintln!("bench: PostgreSQL may still run: {error}");
        }
    }
}
