//! One suite, run on each engine.

use std::future::Future;
use std::time::Duration;

use nephos_store::testing::audit;
use nephos_store::{Batch, Engine, Migration, Miss, Store, StoreError, Value, params};

use super::statements::*;

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(nephos_store::Engine::Sqlite).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(nephos_store::Engine::Postgres).await; })*
        }
    };
}

suite![
    parameters_are_bound_by_number,
    values_come_back_as_they_were,
    wrong_parameters_are_refused,
    wrong_columns_are_refused,
    text_is_compared_bytewise,
    guards_count_rows,
    returning_answers_rows,
    a_miss_undoes_its_batch_only,
    a_violated_constraint_names_itself,
    parameters_of_a_wrong_type_commit_nothing,
    concurrent_writers_lose_nothing,
    compare_and_set_has_one_winner,
    a_serializable_quota_holds,
    snapshots_are_consistent,
    a_dropped_caller_leaves_no_transaction,
    migrations_run_once,
    migrations_at_the_same_time,
    migrations_are_refused,
    a_failed_migration_leaves_nothing,
    a_closed_store_refuses,
    statements_are_audited,
];

const GONE: Miss = Miss("gone");
const TAKEN: Miss = Miss("taken");

async fn amount(store: &Store, id: &str) -> Option<i64> {
    let rows = store.read(GET.bind(params![id])).await.unwrap();
    rows.first().map(|row| row.int(2).unwrap())
}

async fn count(store: &Store) -> i64 {
    store.read(COUNT.bind([])).await.unwrap()[0].int(0).unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("an answer within a minute")
}

async fn parameters_are_bound_by_number(engine: Engine) {
    let database = database(engine).await;
    let params: Vec<Value> = (1..=10).map(|n| Value::from(format!("p{n}"))).collect();
    let rows = database.store().read(TWISTED.bind(params)).await.unwrap();
    let texts: Vec<&str> = (0..11).map(|column| rows[0].text(column).unwrap()).collect();
    assert_eq!(texts, ["p10", "p2", "p1", "p10", "p3", "p9", "p8", "p7", "p6", "p5", "p4"]);

    database.store().write(thing("x", 1).into()).await.unwrap();
    let rows = database.store().read(QUOTED.bind(params!["x"])).await.unwrap();
    assert_eq!((rows[0].text(0).unwrap(), rows[0].text(1).unwrap()), ("$1 it's", "x"));
}

async fn values_come_back_as_they_were(engine: Engine) {
    let database = database(engine).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let text = "Grüße, 世界 🌩 'quoted' \\ \n";
    let store = database.store();
    store.write(INSERT.bind(params!["full", text, i64::MAX, bytes.clone()]).into()).await.unwrap();
    store.write(INSERT.bind(params!["bare", Value::Null, i64::MIN, Value::Null]).into()).await.unwrap();
    store.write(INSERT.bind(params!["empty", "", 0_i64, Vec::<u8>::new()]).into()).await.unwrap();

    let full = &store.read(GET.bind(params!["full"])).await.unwrap()[0];
    assert_eq!((full.columns(), full.text(0).unwrap(), full.int(2).unwrap()), (4, "full", i64::MAX));
    assert_eq!((full.opt_text(1).unwrap(), full.blob(3).unwrap()), (Some(text), &bytes[..]));
    let bare = &store.read(GET.bind(params!["bare"])).await.unwrap()[0];
    assert_eq!(
        (bare.opt_text(1).unwrap(), bare.opt_int(2).unwrap(), bare.opt_blob(3).unwrap()),
        (None, Some(i64::MIN), None)
    );
    let empty = &store.read(GET.bind(params!["empty"])).await.unwrap()[0];
    assert_eq!(
        (empty.text(1).unwrap(), empty.opt_blob(3).unwrap(), empty.flag(2).unwrap()),
        ("", Some(&[][..]), false)
    );
    assert!(store.read(GET.bind(params!["nothing"])).await.unwrap().is_empty());
}

async fn wrong_parameters_are_refused(engine: Engine) {
    let database = database(engine).await;
    for wrong in [GET.bind([]), GET.bind(params!["a", "b"]), GET.bind(params!["zero\0byte"])] {
        let error = database.store().read(wrong).await.unwrap_err();
        assert!(matches!(error, StoreError::Bind { statement: "GET", .. }), "{error}");
    }
}

async fn wrong_columns_are_refused(engine: Engine) {
    let database = database(engine).await;
    database.store().write(thing("a", 7).into()).await.unwrap();
    let row = &database.store().read(GET.bind(params!["a"])).await.unwrap()[0];
    let errors = [row.int(0).map(|_| ()), row.text(1).map(|_| ()), row.flag(2).map(|_| ()), row.int(9).map(|_| ())];
    let texts: Vec<String> = errors.into_iter().map(|error| error.unwrap_err().to_string()).collect();
    assert_eq!(
        texts,
        [
            "GET: column 0 is TEXT where BIGINT is wanted",
            "GET: column 1 is NULL where TEXT is wanted",
            "GET: column 2 is BIGINT where BIGINT 0 or 1 is wanted",
            "GET: column 9 is no such column where BIGINT is wanted",
        ]
    );
}

async fn text_is_compared_bytewise(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    for (number, label) in ["b", "A", "a", "B", "_", "é", "Z"].into_iter().enumerate() {
        store.write(INSERT.bind(params![format!("{number}"), label, 0_i64, Value::Null]).into()).await.unwrap();
    }
    store.write(thing("none", 0).into()).await.unwrap();
    let rows = store.read(LABELS.bind([])).await.unwrap();
    let labels: Vec<Option<&str>> = rows.iter().map(|row| row.opt_text(0).unwrap()).collect();
    assert_eq!(labels, [None, Some("A"), Some("B"), Some("Z"), Some("_"), Some("a"), Some("b"), Some("é")]);
    assert_eq!(store.read(LIKE.bind(params!["a%"])).await.unwrap().len(), 1);
}

async fn guards_count_rows(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let batch: Batch = (0..5).map(|n| thing(&format!("t{n}"), n).must(1, TAKEN)).collect();
    store.write(batch).await.unwrap();
    let missed = |result: Result<Vec<_>, StoreError>| result.err().map(|error| error.missed().expect("a miss"));

    assert_eq!(missed(store.write(ADD.bind(params!["t1", 10_i64]).must(1, GONE).into()).await), None);
    assert_eq!(missed(store.write(ADD.bind(params!["none", 10_i64]).must(1, GONE).into()).await), Some(GONE));
    assert_eq!(missed(store.write(ADD.bind(params!["none", 10_i64]).must(0, TAKEN).into()).await), None);
    assert_eq!(missed(store.write(ADD.bind(params!["t1", 10_i64]).must(0, TAKEN).into()).await), Some(TAKEN));
    assert_eq!(missed(store.write(ADD.bind(params!["none", 10_i64]).into()).await), None);
    assert_eq!(missed(store.write(INSERT_NEW.bind(params!["t1", 1_i64]).must(1, TAKEN).into()).await), Some(TAKEN));
    assert_eq!(missed(store.write(GET.bind(params!["t1"]).must(1, GONE).into()).await), None);
    assert_eq!(missed(store.write(GET.bind(params!["none"]).must(1, GONE).into()).await), Some(GONE));
    assert_eq!(missed(store.write(DELETE_ABOVE.bind(params![1_i64]).at_least(5, GONE).into()).await), Some(GONE));
    assert_eq!(count(store).await, 5);
    assert_eq!(missed(store.write(DELETE_ABOVE.bind(params![1_i64]).at_least(4, GONE).into()).await), None);
    assert_eq!((count(store).await, amount(store, "t1").await), (1, None));
    assert_eq!(missed(store.write(DELETE_ABOVE.bind(params![1_i64]).at_least(0, GONE).into()).await), None);
}

async fn returning_answers_rows(engine: Engine) {
    let database = database(engine).await;
    let batch = Batch::new()
        .with(thing("a", 1))
        .with(ADD_RETURNING.bind(params!["a", 4_i64]).must(1, GONE))
        .with(ADD_RETURNING.bind(params!["b", 4_i64]))
        .with(UPSERT.bind(params!["a", 10_i64]).at_least(1, GONE))
        .with(UPSERT.bind(params!["b", 10_i64]).must(1, GONE))
        .with(ADD_RETURNING.bind(params!["c", 4_i64]).must(0, GONE))
        .with(COUNT.bind([]));
    let rows = database.store().write(batch).await.unwrap();
    let numbers: Vec<Vec<i64>> =
        rows.iter().map(|rows| rows.iter().map(|row| row.int(row.columns() - 1).unwrap()).collect()).collect();
    assert_eq!(numbers, [vec![], vec![5], vec![], vec![15], vec![10], vec![], vec![2]]);
    assert_eq!(rows[1][0].text(0).unwrap(), "a");
}

async fn a_miss_undoes_its_batch_only(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let batches = (0..40).map(|n| {
        let batch = Batch::new().with(thing(&format!("first{n}"), n)).with(thing(&format!("second{n}"), n));
        // Every fourth one misses at its end, after it has changed rows.
        if n % 4 == 0 { batch.with(ADD.bind(params!["none", 1_i64]).must(1, GONE)) } else { batch }
    });
    let answers = within(futures_util::future::join_all(batches.map(|batch| store.write(batch)))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.err().and_then(|error| error.missed()), (n % 4 == 0).then_some(GONE), "batch {n}");
        assert_eq!(amount(store, &format!("first{n}")).await.is_some(), n % 4 != 0, "batch {n}");
    }
    assert_eq!(count(store).await, 60);
}

async fn a_violated_constraint_names_itself(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    store.write(Batch::new().with(thing("a", 1)).with(PIECE.bind(params!["p", "a", "red"]))).await.unwrap();

    let twice = store.write(Batch::new().with(thing("b", 1)).with(thing("a", 2))).await.unwrap_err();
    assert!(matches!(twice, StoreError::Unique { statement: "INSERT", .. }), "{twice}");
    let label = store.write(PIECE.bind(params!["q", "a", "red"]).must(1, GONE).into()).await.unwrap_err();
    assert!(matches!(&label, StoreError::Unique { constraint, .. } if constraint.contains("label")), "{label}");
    for (thing, label) in [("none", "red"), ("a", "forbidden")] {
        let error = store.write(PIECE.bind(params!["q", thing, label]).into()).await.unwrap_err();
        assert!(matches!(error, StoreError::Constraint { statement: "PIECE", .. }), "{error}");
    }
    assert_eq!(count(store).await, 1);
}

async fn parameters_of_a_wrong_type_commit_nothing(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let wrong = INSERT.bind(params!["b", "label", "not a number", Value::Null]);
    let batch = Batch::new().with(thing("a", 1)).with(wrong).with(thing("c", 1));
    store.write(batch).await.unwrap_err();
    assert_eq!(count(store).await, 0);
    store.write(thing("a", 1).into()).await.unwrap();
}

async fn concurrent_writers_lose_nothing(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    store.write(thing("counter", 0).into()).await.unwrap();
    let writer = |number: usize| async move {
        for round in 0..10 {
            let batch = Batch::new()
                .with(ADD.bind(params!["counter", 1_i64]).must(1, GONE))
                .with(thing(&format!("w{number}-{round}"), 1).must(1, TAKEN));
            store.write(batch).await.unwrap();
        }
    };
    within(futures_util::future::join_all((0..64).map(writer))).await;
    assert_eq!(amount(store, "counter").await, Some(640));
    assert_eq!(count(store).await, 641);
}

async fn compare_and_set_has_one_winner(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    store.write(thing("state", 0).into()).await.unwrap();
    let tries = (1..=32_i64).map(|n| store.write(SWAP.bind(params!["state", 0_i64, n]).must(1, TAKEN).into()));
    let answers = within(futures_util::future::join_all(tries)).await;
    let winners: Vec<i64> = (1..).zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(n, _)| n).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(amount(store, "state").await, Some(winners[0]));
    assert!(answers.into_iter().filter_map(Result::err).all(|error| error.missed() == Some(TAKEN)));
}

async fn a_serializable_quota_holds(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let tries = (0..24).map(|n| {
        let insert = INSERT_IF_FEW.bind(params![format!("t{n}"), 5_i64]).must(1, TAKEN);
        store.write(Batch::from(insert).serializable())
    });
    let answers = within(futures_util::future::join_all(tries)).await;
    assert!(answers.iter().filter(|answer| answer.is_ok()).count() <= 5);
    assert!(count(store).await <= 5);
    for error in answers.into_iter().filter_map(Result::err) {
        assert!(error.missed() == Some(TAKEN) || error.is_passing(), "{error}");
    }
}

async fn snapshots_are_consistent(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    store.write(Batch::new().with(thing("a", 500)).with(thing("b", 500))).await.unwrap();
    let mover = async {
        for _ in 0..100 {
            let batch = Batch::new().with(ADD.bind(params!["a", -1_i64])).with(ADD.bind(params!["b", 1_i64]));
            store.write(batch).await.unwrap();
        }
    };
    let reader = async {
        for _ in 0..200 {
            let rows =
                store.read_all(vec![GET.bind(params!["a"]), COUNT.bind([]), GET.bind(params!["b"])]).await.unwrap();
            assert_eq!(rows[0][0].int(2).unwrap() + rows[2][0].int(2).unwrap(), 1000);
            let sum = store.read(SUM.bind([])).await.unwrap();
            assert_eq!(sum[0].int(0).unwrap(), 1000);
        }
    };
    within(async { tokio::join!(mover, reader) }).await;
    assert_eq!(amount(store, "a").await, Some(400));
}

async fn a_dropped_caller_leaves_no_transaction(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    store.write(thing("counter", 0).into()).await.unwrap();
    for round in 0..50_u64 {
        let batch = Batch::new().with(ADD.bind(params!["counter", 1_i64])).with(ADD.bind(params!["counter", 1_i64]));
        // Polled a few times and dropped: before it is sent, after, or with some answers in.
        let mut write = Box::pin(store.write(batch));
        for _ in 0..round % 5 {
            if futures_util::FutureExt::now_or_never(write.as_mut()).is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(write);
    }
    // A transaction left open would hold the row against this one, and half of a batch would leave an odd number.
    let answer = within(store.write(ADD_RETURNING.bind(params!["counter", 0_i64]).must(1, GONE).into())).await.unwrap();
    assert_eq!(answer[0][0].int(1).unwrap() % 2, 0);
    for _ in 0..8 {
        within(store.write(ADD.bind(params!["counter", 2_i64]).must(1, GONE).into())).await.unwrap();
    }
    within(store.ping()).await.unwrap();
}

const MORE: Migration = Migration {
    version: 2,
    name: "more",
    sql: "ALTER TABLE things ADD COLUMN more TEXT; INSERT INTO things (id, amount, more) VALUES ('made', 1, ';');",
};

fn upgraded() -> Vec<Migration> {
    vec![SCHEMA[0], MORE]
}

async fn migrations_run_once(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let first = store.migrate(&upgraded(), 5).await.unwrap();
    assert_eq!((first.from, first.to, first.backup.is_some()), (1, 2, engine == Engine::Sqlite));
    let second = store.migrate(&upgraded(), 6).await.unwrap();
    assert_eq!((second.from, second.to, second.backup), (2, 2, None));
    assert_eq!(amount(store, "made").await, Some(1));
    if let Some(copy) = first.backup {
        let old = Store::open_sqlite(copy, nephos_store::SqliteOptions::default()).await.unwrap();
        assert_eq!(amount(&old, "made").await, None);
    }
}

async fn migrations_at_the_same_time(engine: Engine) {
    let database = database(engine).await;
    let stores = [database.open_again().await, database.open_again().await, database.open_again().await];
    let all = upgraded();
    let runs = stores.iter().map(|store| store.migrate(&all, 5));
    let ends: Vec<i64> =
        within(futures_util::future::join_all(runs)).await.into_iter().map(|run| run.unwrap().to).collect();
    assert_eq!(ends, [2, 2, 2]);
    assert_eq!(count(database.store()).await, 1);
}

async fn migrations_are_refused(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    store.migrate(&upgraded(), 5).await.unwrap();
    let newer = store.migrate(SCHEMA, 6).await.unwrap_err().to_string();
    assert!(newer.contains("version 2") && newer.contains("version 1"), "{newer}");
    let changed = [SCHEMA[0], Migration { sql: "CREATE TABLE other (a TEXT)", ..MORE }];
    let changed = store.migrate(&changed, 6).await.unwrap_err().to_string();
    assert!(changed.contains("migration 2 (more)"), "{changed}");
}

async fn a_failed_migration_leaves_nothing(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let wrong =
        Migration { sql: "INSERT INTO things (id, amount) VALUES ('x', 1); INSERT INTO nowhere VALUES (1)", ..MORE };
    let error = store.migrate(&[SCHEMA[0], wrong], 5).await.unwrap_err().to_string();
    assert!(error.contains("migration 2 (more) failed") && error.contains("nowhere"), "{error}");
    assert_eq!(count(store).await, 0);
    assert_eq!(store.migrate(&upgraded(), 5).await.unwrap().to, 2);
}

async fn a_closed_store_refuses(engine: Engine) {
    let database = database(engine).await;
    let store = database.store();
    let under_way = store.write(thing("a", 1).into());
    let (written, ()) = within(async { tokio::join!(under_way, store.close()) }).await;
    written.unwrap();
    for error in [store.ping().await.unwrap_err(), store.write(thing("b", 1).into()).await.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable { uncertain: false, .. }), "{error}");
    }
    assert_eq!(count(&database.open_again().await).await, 1);
}

async fn statements_are_audited(engine: Engine) {
    let database = database(engine).await;
    let all =
        [&GET, &ADD, &ADD_RETURNING, &UPSERT, &PIECE, &TWISTED, &SLOW, &INSERT_IF_FEW, &PAGE, &BROKEN, &SCAN, &SORT];
    let complaints = audit(database.store(), all).await;
    let about = |name: &str| complaints.iter().any(|complaint| complaint.starts_with(&format!("{name} on {engine}:")));
    assert_eq!([about("BROKEN"), about("SCAN"), about("SORT")], [true; 3], "{complaints:?}");
    assert_eq!(complaints.len(), 3, "{complaints:?}");
}
