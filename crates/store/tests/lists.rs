//! Lists of computes that are long: every page by its number, by the id before it, and every total, on both engines.
#![allow(clippy::unwrap_used)] // what fails here fails the test

use nephos_model::Timestamp;
use nephos_model::compute::{Compute, RestartPolicy, Status, Wish};
use nephos_model::id::{Id, Raw};
use nephos_model::page::{Page, Start};
use nephos_model::tenant::TenantId;
use nephos_store::compute::Filter;
use nephos_store::testing::{TestDatabase, broken};
use nephos_store::{Batch, Engine, MIGRATIONS};

const TENANT: TenantId = TenantId(1);
/// More than one page is looked for by the index alone from 2,000 rows on.
const COMPUTES: u32 = 4_500;

fn raw(kind: u8, number: u32) -> Raw {
    let mut bytes = [kind; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Raw::from_bytes(bytes)
}

fn compute(number: u32) -> Compute {
    let home = number % 3;
    Compute {
        id: Id::from_raw(raw(1, number)),
        name: format!("web-{number}"),
        project_id: Id::from_raw(raw(2, home / 2)),
        environment_id: Id::from_raw(raw(3, home)),
        region: if number.is_multiple_of(5) { "far" } else { "near" }.to_owned(),
        size: "nano".to_owned(),
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
        image_id: Id::from_raw(raw(4, 0)),
        image: "small".to_owned(),
        status: if number.is_multiple_of(7) { Status::Failed } else { Status::Running },
        reason: None,
        wish: Wish::Running,
        restart_policy: RestartPolicy::Never,
        restarts: 0,
        protected: false,
        labels: "{}".to_owned(),
        ssh_keys: String::new(),
        user_data: None,
        address: None,
        ssh_host_key: None,
        boots: 1,
        operation_id: None,
        notes: None,
        version: 1,
        created_at: Timestamp::from_secs(0),
        updated_at: Timestamp::from_secs(0),
        started_at: None,
    }
}

fn labels(number: u32) -> Vec<(String, String)> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut labels = vec![label("app", "web")];
    if number.is_multiple_of(2) {
        labels.push(label("tier", "front"));
    }
    labels
}

async fn filled(engine: Engine) -> TestDatabase {
    let database = TestDatabase::migrated(engine, MIGRATIONS).await;
    for chunk in (0..COMPUTES).collect::<Vec<_>>().chunks(250) {
        let statements = chunk.iter().flat_map(|n| nephos_store::compute::insert(TENANT, &compute(*n), &labels(*n)));
        database.store().write(statements.collect::<Vec<_>>().into()).await.unwrap();
    }
    database
}

fn filters() -> Vec<(Filter, fn(u32) -> bool)> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let none = Filter::default;
    vec![
        (none(), |_| true),
        (Filter { status: Some("running".to_owned()), ..none() }, |n| n % 7 != 0),
        (Filter { region: Some("near".to_owned()), ..none() }, |n| n % 5 != 0),
        (Filter { project_id: Some(compute(0).project_id), ..none() }, |n| n % 3 < 2),
        (Filter { environment_id: Some(compute(0).environment_id), ..none() }, |n| n % 3 == 0),
        (Filter { name: Some("web-77".to_owned()), ..none() }, |n| n == 77),
        (Filter { labels: vec![label("app", "web")], ..none() }, |_| true),
        (Filter { labels: vec![label("app", "web"), label("tier", "front")], ..none() }, |n| n % 2 == 0),
        (Filter { labels: vec![label("tier", "front")], status: Some("failed".to_owned()), ..none() }, |n| n % 14 == 0),
        (Filter { status: Some("failed".to_owned()), region: Some("far".to_owned()), ..none() }, |n| n % 35 == 0),
        (Filter { labels: vec![label("tier", "back")], ..none() }, |_| false),
    ]
}

async fn every_page_is_the_same_by_number_and_by_id(engine: Engine) {
    let database = filled(engine).await;
    let store = database.store();
    for (filter, matches) in filters() {
        let mut wanted: Vec<_> = (0..COMPUTES).filter(|n| matches(*n)).map(|n| compute(n).id).collect();
        wanted.reverse();
        let pages = u32::try_from(wanted.len()).unwrap() / 100 + 1;
        for number in [1, 2, 19, 20, 21, 22, 30, 43, 44, 45, pages, pages + 1, u32::MAX] {
            let page = Page { start: Start::Number(number), limit: 100 };
            let listed = store.compute_editions(TENANT, &filter, &page).await.unwrap();
            let from = usize::try_from(page.offset()).unwrap().min(wanted.len());
            let to = (from + 100).min(wanted.len());
            let ids: Vec<_> = listed.items.iter().map(|e| e.id).collect();
            assert_eq!(ids, wanted[from..to], "page {number} of {filter:?}");
            assert_eq!(listed.total, i64::try_from(wanted.len()).unwrap(), "page {number} of {filter:?}");
            assert_eq!(listed.more, to < wanted.len(), "page {number} of {filter:?}");
            if from > 0 && from < wanted.len() {
                let after = Page { start: Start::After(wanted[from - 1].to_string()), limit: 100 };
                let same = store.compute_editions(TENANT, &filter, &after).await.unwrap();
                assert_eq!(same.items.iter().map(|e| e.id).collect::<Vec<_>>(), ids);
            }
        }
    }
}

async fn totals_follow_every_change(engine: Engine) {
    let database = filled(engine).await;
    let store = database.store();
    let total = async |filter: &Filter| store.compute_editions(TENANT, filter, &Page::default()).await.unwrap().total;
    let running = Filter { status: Some("running".to_owned()), ..Filter::default() };
    let front = Filter { labels: vec![("tier".to_owned(), "front".to_owned())], ..Filter::default() };
    let before = (total(&running).await, total(&front).await);
    let mut changed = compute(2);
    changed.status = Status::Stopped;
    store.write(nephos_store::compute::update(TENANT, &changed, Status::Running).into()).await.unwrap();
    store.write(nephos_store::compute::relabel(TENANT, changed.id, &[]).into()).await.unwrap();
    assert_eq!((total(&running).await, total(&front).await), (before.0 - 1, before.1 - 1));
    changed.version += 1;
    changed.status = Status::Running;
    store.write(nephos_store::compute::update(TENANT, &changed, Status::Stopped).into()).await.unwrap();
    store.write(nephos_store::compute::relabel(TENANT, changed.id, &labels(2)).into()).await.unwrap();
    assert_eq!((total(&running).await, total(&front).await), before);
    // A lost race changes no number.
    changed.status = Status::Failed;
    let stale: Batch = nephos_store::compute::update(TENANT, &changed, Status::Running).into();
    assert!(store.write(stale).await.is_err());
    assert_eq!(total(&running).await, before.0);
    let found = broken(store, Timestamp::from_secs(0)).await;
    assert!(
        found.iter().all(|line| !line.starts_with("COUNTED_KINDS") && !line.starts_with("COUNTED_LABELS")),
        "{found:?}"
    );
}

mod sqlite {
    use super::Engine::Sqlite;

    #[tokio::test]
    async fn every_page_is_the_same_by_number_and_by_id() {
        super::every_page_is_the_same_by_number_and_by_id(Sqlite).await;
    }

    #[tokio::test]
    async fn totals_follow_every_change() {
        super::totals_follow_every_change(Sqlite).await;
    }
}

mod postgres {
    use super::Engine::Postgres;

    #[tokio::test]
    async fn every_page_is_the_same_by_number_and_by_id() {
        super::every_page_is_the_same_by_number_and_by_id(Postgres).await;
    }

    #[tokio::test]
    async fn totals_follow_every_change() {
        super::totals_follow_every_change(Postgres).await;
    }
}
