//! The other side of the creates: what a plain program does with `SQLite`: one connection, one transaction for each
//! create of three rows, as durable as nephos has it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::{Connection, TransactionBehavior, params};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS things (tenant BIGINT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
        version BIGINT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (tenant, id));
    CREATE TABLE IF NOT EXISTS events (tenant BIGINT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, id));
    CREATE TABLE IF NOT EXISTS answers (tenant BIGINT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, key));";
const BODY: &str =
    r#"{"id":"ssh_01h455vb4pex5vsknk084sn02q","name":"web-1","public_key":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"}"#;

/// Such a program.
#[derive(Debug)]
pub struct Plain {
    connection: Connection,
    number: i64,
}

impl Plain {
    /// With its database in a file.
    pub fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self { connection, number: 0 })
    }

    /// Creates a second, over `duration`.
    pub fn rate(&mut self, duration: Duration) -> Result<f64> {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < duration {
            self.number += 1;
            count += 1;
            let id = format!("ssh_{:026}", self.number);
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.prepare_cached("INSERT INTO things VALUES (1, $1, $2, $3, 1, $4)")?.execute(params![
                id,
                "web",
                BODY,
                self.number
            ])?;
            transaction.prepare_cached("INSERT INTO events VALUES (1, $1, $2)")?.execute(params![id, BODY])?;
            transaction.prepare_cached("INSERT INTO answers VALUES (1, $1, $2)")?.execute(params![id, BODY])?;
            transaction.commit()?;
        }
        Ok(f64::from(count) / begun.elapsed().as_secs_f64())
    }
}
