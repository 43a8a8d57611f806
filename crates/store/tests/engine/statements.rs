//! The schema and statements that the suite works with.

use nephos_store::testing::TestDatabase;
use nephos_store::{Engine, Migration, Statement, Value, params, sql};

pub const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "suite",
    sql: "CREATE TABLE things (
              id TEXT PRIMARY KEY,
              label TEXT,
              amount BIGINT NOT NULL,
              content BLOB
          );
          CREATE INDEX things_amount ON things (amount, id);
          CREATE TABLE pieces (
              id TEXT PRIMARY KEY,
              thing TEXT NOT NULL REFERENCES things (id),
              label TEXT NOT NULL CHECK (label <> 'forbidden')
          );
          CREATE UNIQUE INDEX pieces_label ON pieces (thing, label);",
}];

sql! {
    pub INSERT = "INSERT INTO things (id, label, amount, content) VALUES ($1, $2, $3, $4)";
    pub INSERT_NEW = "INSERT INTO things (id, amount) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
    pub UPSERT = "INSERT INTO things (id, amount) VALUES ($1, $2)
                  ON CONFLICT (id) DO UPDATE SET amount = things.amount + excluded.amount RETURNING amount";
    pub ADD = "UPDATE things SET amount = amount + $2 WHERE id = $1";
    pub ADD_RETURNING = "UPDATE things SET amount = amount + $2 WHERE id = $1 RETURNING id, amount";
    pub SWAP = "UPDATE things SET amount = $3 WHERE id = $1 AND amount = $2";
    pub DELETE_ABOVE = "DELETE FROM things WHERE amount > $1 -- and a comment at the end";
    pub PIECE = "INSERT INTO pieces (id, thing, label) VALUES ($1, $2, $3)";
    pub GET = "SELECT id, label, amount, content FROM things WHERE id = $1";
    pub COUNT = "SELECT count(*) FROM things";
    pub SUM = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM things";
    pub TWISTED = "SELECT CAST($10 AS TEXT), CAST($2 AS TEXT), CAST($1 AS TEXT), CAST($10 AS TEXT), CAST($3 AS TEXT),
                   CAST($9 AS TEXT), CAST($8 AS TEXT), CAST($7 AS TEXT), CAST($6 AS TEXT), CAST($5 AS TEXT), CAST($4 AS TEXT)";
    pub LABELS = "SELECT label FROM things ORDER BY label NULLS FIRST, id";
    pub LIKE = "SELECT id FROM things WHERE label LIKE $1";
    pub QUOTED = "SELECT '$1 it''s' AS a, id FROM things WHERE id = $1";
    pub INSERT_IF_FEW = "INSERT INTO things (id, amount) SELECT $1, 0 WHERE (SELECT count(*) FROM things) < $2";
    pub SLOW = "WITH RECURSIVE n (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1)
                SELECT count(*) FROM n";
    pub BROKEN = "SELECT nothing FROM nowhere";
    indexed pub PAGE = "SELECT id, amount FROM things WHERE amount >= $1 ORDER BY amount, id LIMIT $2";
    indexed pub SCAN = "SELECT id FROM things WHERE label = $1";
    indexed pub SORT = "SELECT id FROM things WHERE amount = $1 ORDER BY label";
}

pub async fn database(engine: Engine) -> TestDatabase {
    TestDatabase::migrated(engine, SCHEMA).await
}

pub fn thing(id: &str, amount: i64) -> Statement {
    INSERT.bind(params![id, Value::Null, amount, Value::Null])
}
