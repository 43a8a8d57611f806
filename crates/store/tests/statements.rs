//! Every statement of the program is understood by both engines, and every list searches an index.

use nephos_store::testing::{TestDatabase, audit};
use nephos_store::{Engine, MIGRATIONS, Sql};

async fn sound_on(engine: Engine) {
    let database = TestDatabase::migrated(engine, MIGRATIONS).await;
    let complaints = audit(database.store(), Sql::all()).await;
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(Sql::all().count() > 50, "the statements are linked into this test");
}

#[tokio::test]
async fn every_statement_is_sound_on_sqlite() {
    sound_on(Engine::Sqlite).await;
}

#[tokio::test]
async fn every_statement_is_sound_on_postgres() {
    sound_on(Engine::Postgres).await;
}
