//! Checks of all statements: that the engine understands each, and that those marked `indexed` search an index.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tokio_postgres::Client;

use super::sqlite_path;
use crate::engine::postgres::Postgres;
use crate::{Backend, Sql, Store};

/// What is wrong with the statements, one line each; empty when all of them are sound on this engine.
///
/// The database must have the schema. No rows are needed: on PostgreSQL the planner is told to use an index wherever
/// it can, so a scan or sort that is left means that there is none to use. Reading the first rows of a whole table in
/// an index's order, without any condition, passes: it ends at the `LIMIT`.
///
/// # Panics
///
/// When the database cannot be asked.
pub async fn audit(store: &Store, statements: impl IntoIterator<Item = &'static Sql>) -> Vec<String> {
    let statements: Vec<&'static Sql> = statements.into_iter().collect();
    let found = match &store.backend {
        Backend::Sqlite(_) => {
            let path = sqlite_path(store).expect("a store on SQLite has a file");
            tokio::task::spawn_blocking(move || on_sqlite(&path, &statements)).await.expect("the check does not panic")
        }
        Backend::Postgres(postgres) => on_postgres(postgres, &statements).await,
    };
    found.into_iter().map(|(sql, complaint)| format!("{} on {}: {complaint}", sql.name, store.engine())).collect()
}

type Complaints = Vec<(&'static Sql, String)>;

fn on_sqlite(path: &Path, statements: &[&'static Sql]) -> Complaints {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).expect("the database opens");
    let plan = |sql: &Sql| {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.text))?;
        // Nothing is bound: unbound parameters are NULL, and a plan does not depend on them.
        let mut rows = explain.raw_query();
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            lines.push(row.get::<_, String>(3)?);
        }
        Ok::<_, rusqlite::Error>(lines)
    };
    let mut complaints = Vec::new();
    for sql in statements {
        match plan(sql) {
            Err(error) => complaints.push((*sql, error.to_string())),
            Ok(lines) if sql.indexed => {
                complaints.extend(sqlite_scans(sql, &lines).into_iter().map(|line| (*sql, line)));
            }
            Ok(_) => {}
        }
    }
    complaints
}

fn sqlite_scans(sql: &Sql, lines: &[String]) -> Vec<String> {
    if let [only] = lines
        && only.starts_with("SCAN ")
        && sql.has_word("LIMIT")
        && !sql.has_word("WHERE")
    {
        return Vec::new();
    }
    // Rows that the statement itself computes may be scanned; there is no index to them.
    let second_word = |line: &'_ String, first: &str| {
        line.strip_prefix(first).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    let computed: Vec<String> = lines
        .iter()
        .filter_map(|line| second_word(line, "MATERIALIZE ").or_else(|| second_word(line, "CO-ROUTINE ")))
        .collect();
    let is_scan = |line: &&String| {
        line.starts_with("USE TEMP B-TREE")
            || line.contains("AUTOMATIC")
            || (line.starts_with("SCAN ")
                && !line.contains("CONSTANT ROW")
                && !line.contains("VIRTUAL TABLE")
                && second_word(line, "SCAN ").is_none_or(|table| !computed.contains(&table)))
    };
    lines.iter().filter(is_scan).cloned().collect()
}

async fn on_postgres(postgres: &Postgres, statements: &[&'static Sql]) -> Complaints {
    let made = postgres.dedicated().await.expect("the server answers");
    let client = &made.link.client;
    let planner = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_sort = off; \
                   SET enable_bitmapscan = off";
    client.batch_execute(planner).await.expect("the planner can be set");
    let mut complaints = Vec::new();
    for sql in statements {
        match postgres_plan(client, sql).await {
            Err(error) => {
                let refused = error.as_db_error().map(|refused| refused.message().to_owned());
                complaints.push((*sql, refused.unwrap_or_else(|| error.to_string())));
            }
            Ok(lines) if sql.indexed => {
                complaints.extend(postgres_scans(&lines).into_iter().map(|line| (*sql, line)));
            }
            Ok(_) => {}
        }
    }
    complaints
}

async fn postgres_plan(client: &Client, sql: &Sql) -> Result<Vec<String>, tokio_postgres::Error> {
    client.batch_execute(&format!("PREPARE audited AS {}", sql.text)).await?;
    let nulls = vec!["NULL"; sql.shape().parameters].join(", ");
    let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
    let explained = client.query(&format!("EXPLAIN (COSTS OFF) EXECUTE audited{arguments}"), &[]).await;
    client.batch_execute("DEALLOCATE audited").await?;
    explained?.iter().map(|row| row.try_get(0)).collect()
}

fn postgres_scans(lines: &[String]) -> Vec<String> {
    let is_node = |line: &str| !line.starts_with(' ') || line.trim_start().starts_with("->");
    let mut scans = Vec::new();
    for (place, line) in lines.iter().enumerate().filter(|(_, line)| is_node(line)) {
        let node = line.trim_start().trim_start_matches("->").trim_start();
        let details = lines[place + 1..].iter().take_while(|line| !is_node(line));
        // Without a filter every row that is read counts towards the limit.
        let is_limited = || {
            place > 0
                && lines[place - 1].trim_start().trim_start_matches("->").trim_start().starts_with("Limit")
                && !details.clone().any(|line| line.trim_start().starts_with("Filter:"))
        };
        let searches = || details.clone().any(|line| line.trim_start().starts_with("Index Cond:"));
        let is_index = node.starts_with("Index Scan") || node.starts_with("Index Only Scan");
        let is_sort = node.starts_with("Sort") || node.starts_with("Incremental Sort");
        if node.starts_with("Seq Scan") || is_sort || (is_index && !searches() && !is_limited()) {
            scans.push(node.to_owned());
        }
    }
    scans
}
