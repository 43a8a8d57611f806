//! What only the embedded engine does.

use std::path::Path;
use std::process::{Command, Stdio};

use nephos_store::testing::TestDatabase;
use nephos_store::{Batch, Engine, Miss, SqliteOptions, Store, StoreError, Value, params};

use super::statements::*;

/// Set in the environment of a child process: the folder it works in.
const CHILD: &str = "NEPHOS_STORE_CHILD";

async fn open(folder: &Path) -> nephos_store::Result<Store> {
    Store::open_sqlite(folder.join("state.db"), SqliteOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_database_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    store.migrate(SCHEMA, 0).await.unwrap();
    store.write((0..500).map(|n| thing(&format!("t{n}"), 1)).collect()).await.unwrap();
    let log = folder.path().join("state.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    store.close().await;
    // The store is still held, and its readers with it, as by a server that ends.
    assert_eq!(std::fs::metadata(&log).map_or(0, |log| log.len()), 0, "the log is folded into the file");
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_grouped() {
    let database = database(Engine::Sqlite).await;
    let before = database.store().counts();
    // A long batch keeps the writer busy while the others queue up behind it.
    let long: Batch = (0..3000).map(|n| thing(&format!("long{n}"), 1)).collect();
    let long = database.store().write(long);
    let short =
        futures_util::future::join_all((0..200).map(|n| database.store().write(thing(&format!("s{n}"), 1).into())));
    let (long, short) = tokio::join!(long, short);
    long.unwrap();
    assert!(short.iter().all(Result::is_ok));
    let after = database.store().counts();
    assert_eq!(after.batches - before.batches, 201);
    assert!(after.commits - before.commits <= 4, "{} commits", after.commits - before.commits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_come_again_share_commits() {
    let database = database(Engine::Sqlite).await;
    let store = database.store();
    let before = store.counts();
    futures_util::future::join_all((0..32).map(|writer| async move {
        for n in 0..50 {
            store.write(thing(&format!("w{writer}-{n}"), 1).into()).await.unwrap();
        }
    }))
    .await;
    let after = store.counts();
    assert_eq!(after.batches - before.batches, 1600);
    // In lockstep there are 50; a loaded machine may part them.
    assert!(after.commits - before.commits <= 800, "{} commits", after.commits - before.commits);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miss_that_changed_nothing_disturbs_nobody() {
    let database = database(Engine::Sqlite).await;
    let store = database.store();
    store.write(thing("taken", 1).into()).await.unwrap();
    let gone = Miss("gone");
    let writes = (0..60).map(|n| {
        let first = INSERT_NEW.bind(params![if n % 3 == 0 { "taken".to_owned() } else { format!("n{n}") }, 1_i64]);
        store.write(Batch::from(first.must(1, gone)).with(thing(&format!("with{n}"), 1)))
    });
    let answers = futures_util::future::join_all(writes).await;
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.as_ref().err().and_then(StoreError::missed), (n % 3 == 0).then_some(gone), "{n}");
    }
    assert_eq!(store.read(COUNT.bind([])).await.unwrap()[0].int(0).unwrap(), 1 + 2 * 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_and_batches_keep_their_turns() {
    let database = database(Engine::Sqlite).await;
    let store = database.store();
    let long = store.write((0..2000).map(|n| thing(&format!("long{n}"), 1)).collect());
    // All of these wait behind the long one and are then taken at once.
    let turns = futures_util::future::join_all((0..50).map(|n| async move {
        store.write(thing(&format!("a{n}"), 1).into()).await.unwrap();
        store.migrate(SCHEMA, 1).await.unwrap();
        store.write(thing(&format!("b{n}"), 1).into()).await.unwrap();
    }));
    let both = async { tokio::join!(long, turns) };
    let (long, _) = tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    long.unwrap();
    assert_eq!(store.read(COUNT.bind([])).await.unwrap()[0].int(0).unwrap(), 2100);
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { write_queue: 2, ..SqliteOptions::default() };
    let store = Store::open_sqlite(folder.path().join("state.db"), options).await.unwrap();
    store.migrate(SCHEMA, 0).await.unwrap();
    // None of these is awaited before all are queued, and the first keeps the writer busy.
    let long: Batch = (0..3000).map(|n| thing(&format!("long{n}"), 1)).collect();
    let mut writes = vec![Box::pin(store.write(long))];
    writes.extend((0..20).map(|n| Box::pin(store.write(thing(&format!("t{n}"), 1).into()))));
    let answers = futures_util::future::join_all(writes).await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(StoreError::TooBusy { queue: 2 }))).count();
    assert!(refused >= 17, "{refused} were refused");
    assert!(answers[0].is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_read_moves_to_a_thread() {
    let database = database(Engine::Sqlite).await;
    for _ in 0..3 {
        let rows = database.store().read(SLOW.bind(params![300_000_i64])).await.unwrap();
        assert_eq!(rows[0].int(0).unwrap(), 300_000);
    }
    let rows = database.store().read(SLOW.bind(params![3_i64])).await.unwrap();
    assert_eq!(rows[0].int(0).unwrap(), 3);
    let all = database.store().read_all(vec![COUNT.bind([]), SLOW.bind(params![300_000_i64])]).await.unwrap();
    assert_eq!(all[1][0].int(0).unwrap(), 300_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_batch_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { size_max_bytes: 256 * 1024, ..SqliteOptions::default() };
    let store = Store::open_sqlite(folder.path().join("state.db"), options).await.unwrap();
    store.migrate(SCHEMA, 0).await.unwrap();
    store.write(thing("before", 1).into()).await.unwrap();
    let large = INSERT.bind(params!["large", Value::Null, 1_i64, vec![7_u8; 1024 * 1024]]);
    let error = store.write(large.into()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Full { what, .. } if what.contains("full")), "{error}");
    store.write(thing("after", 1).into()).await.unwrap();
    assert_eq!(store.read(COUNT.bind([])).await.unwrap()[0].int(0).unwrap(), 2);
}

#[tokio::test]
async fn files_that_are_no_database_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::fs::write(&path, "this is a text of more than one hundred bytes. ".repeat(100)).unwrap();
    let error = open(folder.path()).await.unwrap_err().to_string();
    assert!(error.contains("not a database") && error.contains("state.db"), "{error}");
    let error = open(&folder.path().join("missing")).await.unwrap_err().to_string();
    assert!(error.contains("folder exists"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_whole_while_writing() {
    let database = database(Engine::Sqlite).await;
    let store = database.store();
    store.write((0..100).map(|n| thing(&format!("t{n}"), 1)).collect()).await.unwrap();
    let target = database.folder().join("copy.db");
    let writes = futures_util::future::join_all((100..200).map(|n| store.write(thing(&format!("t{n}"), 1).into())));
    let (copied, _) = tokio::join!(store.backup_to(&target), writes);
    copied.unwrap();
    let copy = Store::open_sqlite(&target, SqliteOptions::default()).await.unwrap();
    assert!(copy.read(COUNT.bind([])).await.unwrap()[0].int(0).unwrap() >= 100);
    let again = store.backup_to(&target).await.unwrap_err().to_string();
    assert!(again.contains("exists already"), "{again}");
}

#[tokio::test]
async fn copies_before_migrations_are_pruned() {
    let database = TestDatabase::sqlite().await;
    let mut migrations = Vec::new();
    for version in 1..=9_i64 {
        let sql = "CREATE TABLE IF NOT EXISTS one (a TEXT)";
        migrations.push(nephos_store::Migration { version, name: "step", sql });
        database.store().migrate(&migrations, version).await.unwrap();
    }
    let mut names: Vec<String> = std::fs::read_dir(database.folder().join("backups"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "lock")
        .collect();
    names.sort();
    assert_eq!(names.len(), nephos_store::migrate::BACKUPS_MAX);
    assert!(names[4].contains("v8-to-v9"), "{names:?}");
}

/// Runs the test `name` of this file in a process of its own, which finds `folder` in its environment.
fn child(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("engine::sqlite::{name}"), "--nocapture", "--include-ignored"]);
    command.env(CHILD, folder).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// The part that is killed: writes numbers for ever and tells each one after it is durable.
#[tokio::test]
async fn child_writes_until_killed() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&folder)).await.unwrap();
    store.migrate(SCHEMA, 0).await.unwrap();
    for number in 0..1_000_000_i64 {
        store.write(thing(&format!("{number}"), number).into()).await.unwrap();
        eprintln_line(number);
    }
}

/// Straight to the pipe: the test harness does not show what a running test prints otherwise.
fn eprintln_line(number: i64) {
    use std::io::Write;
    let mut out = std::io::stdout();
    writeln!(out, "durable {number}").and_then(|()| out.flush()).unwrap();
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let mut writer = child("child_writes_until_killed", folder.path()).spawn().unwrap();
    let lines = std::io::BufReader::new(writer.stdout.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).filter_map(|line| line.split_once("durable ")?.1.trim().parse::<i64>().ok());
    let last = told.take(200).last().unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    let store = open(folder.path()).await.unwrap();
    let count = store.read(COUNT.bind([])).await.unwrap()[0].int(0).unwrap();
    assert!(last == 199 && count > last, "{count} rows after {last} was answered");
    store.write(thing("after", 1).into()).await.unwrap();
}

#[tokio::test]
async fn a_folder_without_rights_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    write_only_where_allowed();
    let first = tempfile::tempdir().unwrap();
    let store = open(first.path()).await.unwrap();
    store.migrate(SCHEMA, 0).await.unwrap();
    store.close().await;
    // A copy, since within one process SQLite takes up a file again that it had open with more rights.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(first.path().join("state.db"), folder.path().join("state.db")).unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let lock = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    lock(&folder.path().join("state.db"), 0o444);
    lock(&folder.path().join("empty"), 0o555);
    lock(folder.path(), 0o555);
    let locked = open(folder.path()).await.map_err(|error| error.to_string());
    let empty = open(&folder.path().join("empty")).await.map_err(|error| error.to_string());
    lock(folder.path(), 0o755);
    lock(&folder.path().join("empty"), 0o755);
    assert!(locked.as_ref().is_err_and(|error| error.contains("read-only")), "{locked:?}");
    assert!(empty.as_ref().is_err_and(|error| error.contains("may be written to")), "{empty:?}");
}

/// The system's own user may write everywhere: this thread, and those it starts from now on, give that up.
fn write_only_where_allowed() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut held = capabilities(None).unwrap();
    held.effective.remove(CapabilitySet::DAC_OVERRIDE);
    set_capabilities(None, held).unwrap();
}
