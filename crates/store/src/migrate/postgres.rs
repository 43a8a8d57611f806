//! Migrating a PostgreSQL database, on a connection of its own.

use tokio_postgres::Client;

use super::{APPLIED, Applied, CREATE, Migrated, Migration, RECORD, ddl, failed, pending};
use crate::engine::postgres::Postgres;
use crate::error::{Cause, Result, StoreError};

/// Names the advisory lock that a migrating process holds. Any fixed number will do.
const LOCK: i64 = 0x6e65_7068_6f73_0001;

pub(super) async fn migrate(store: &Postgres, migrations: &[Migration], now_us: i64) -> Result<Migrated> {
    let made = store.dedicated().await?;
    let client = &made.link.client;
    // The lock ends with the connection, so also when this process is killed. Waiting for it and building an index
    // may both take longer than a request may.
    let take = format!(
        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SELECT pg_advisory_lock({LOCK})"
    );
    client.batch_execute(&take).await.map_err(|error| unreadable(error.into()))?;
    client.batch_execute(&ddl::postgres(CREATE)).await.map_err(|error| unreadable(error.into()))?;
    let found = applied(client).await?;
    let from = found.last().map_or(0, |last| last.version);
    let mut to = from;
    for migration in pending(migrations, &found)? {
        if let Err(error) = apply(client, migration, now_us).await {
            // The connection is dropped on the way out, which would do it too.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(error);
        }
        to = migration.version;
        tracing::info!(version = to, name = migration.name, "migrated");
    }
    Ok(Migrated { from, to, backup: None })
}

async fn apply(client: &Client, migration: &Migration, now_us: i64) -> Result<()> {
    let statements = ddl::statements(migration.sql, ddl::postgres)?;
    let change = async {
        client.batch_execute("BEGIN").await?;
        for statement in &statements {
            client.batch_execute(statement).await?;
        }
        client.execute(RECORD, &[&migration.version, &migration.name, &migration.checksum(), &now_us]).await?;
        client.batch_execute("COMMIT").await
    };
    change.await.map_err(|error: tokio_postgres::Error| {
        // The driver's own text only says that the database refused; why is in the server's message.
        match error.as_db_error().map(|refused| refused.message().to_owned()) {
            Some(message) => {
                let text = format!("migration {} ({}) failed: {message}", migration.version, migration.name);
                StoreError::Migration(text, Some(error.into()))
            }
            None => failed(migration, error),
        }
    })
}

async fn applied(client: &Client) -> Result<Vec<Applied>> {
    let rows = client.query(APPLIED, &[]).await.map_err(|error| unreadable(error.into()))?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Applied { version: row.try_get(0)?, name: row.try_get(1)?, checksum: row.try_get(2)? })
    };
    rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(|error| unreadable(error.into()))
}

fn unreadable(cause: Cause) -> StoreError {
    StoreError::Migration(format!("the table schema_migrations cannot be used: {cause}"), Some(cause))
}
