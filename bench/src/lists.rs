//! The same list of computes with a million of them in the workspace and with a hundred, on both engines.
//!
//! The rows are copies of a compute that was made through the API, written past the server: nobody reconciles them, and
//! every number that is kept of computes is written with them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::installation::Installation;
use crate::load;
use crate::ratio::{Row, Target, Values, alternate};

/// Computes in the large workspace.
pub const MANY: u32 = 1_000_000;
/// Computes in the small one.
pub const FEW: u32 = 100;
/// Single requests of which the median is told.
const SINGLES: usize = 9;
/// Milliseconds for a page at a great depth, or a filtered total.
const DEEP_MS_MAX: f64 = 100.0;

/// The statements that put `count` copies of the compute `bench-0` beside it; the same text on both engines.
pub fn copies(count: u32) -> Vec<String> {
    let kept = "region, size, vcpus, memory_mib, disk_gib, image_id, image, status, reason, wish, restart_policy, restarts, \
                protected, labels, ssh_keys, user_data, ssh_host, ssh_port, private_ip, ssh_host_key, boots, operation_id, \
                notes, version, created_at, updated_at, started_at";
    let one = "(SELECT project_id FROM computes WHERE name = 'bench-0')";
    vec![
        // Digits are of the ids' alphabet, so a copy's id is one, and sorts by its number.
        format!(
            "INSERT INTO computes (tenant, id, project_id, environment_id, name, {kept})
             WITH RECURSIVE seq(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM seq WHERE n < {count})
             SELECT tenant, substr(id, 1, 23) || substr(CAST(10000000 + n AS TEXT), 2), project_id, environment_id,
             'copy-' || n, {kept} FROM computes CROSS JOIN seq WHERE name = 'bench-0'"
        ),
        "INSERT INTO compute_labels (tenant, name, value, compute_id)
         SELECT tenant, 'app', 'bench', id FROM computes WHERE name LIKE 'copy-%'"
            .to_owned(),
        format!(
            "UPDATE counters SET value = value + {count} WHERE (noun = 'compute' AND (scope = '' OR scope = {one} OR scope =
             (SELECT environment_id FROM computes WHERE name = 'bench-0'))) OR (noun = 'compute.label' AND scope = 'app:bench')"
        ),
        format!("UPDATE compute_counts SET value = value + {count} WHERE status = 'running' AND project_id = {one}"),
    ]
}

/// Copies in the SQLite database of a server that is stopped.
pub fn fill_sqlite(folder: &Path, count: u32) -> Result<()> {
    let database = rusqlite::Connection::open(folder.join("nephos.db"))?;
    let filling = database.unchecked_transaction()?;
    for statement in copies(count) {
        filling.execute(&statement, ())?;
    }
    filling.commit()?;
    Ok(())
}

/// Requests a second of a path on the large and on the small workspace, in turn.
pub fn against_few(
    rounds: usize,
    reads: impl Fn(&Installation, &str) -> Result<f64>,
    many: (&Installation, &str),
    few: (&Installation, &str),
) -> Result<[Values; 2]> {
    alternate(rounds, || reads(many.0, many.1), || reads(few.0, few.1))
}

/// The id at which a list stands after `offset` of its computes.
pub fn id_at(installation: &Installation, offset: u32) -> Result<String> {
    let listed = installation.get(&format!("/v1/computes?limit=1&page={offset}"))?;
    Ok(listed["data"][0]["id"].as_str().context("no compute there")?.to_owned())
}

/// Rows of single requests that reach deep or count much, in milliseconds each.
pub fn deep(installation: &Installation, names: [&'static str; 5]) -> Result<Vec<Row>> {
    let project = installation.get("/v1/projects")?["data"][0]["id"].as_str().context("no project")?.to_owned();
    let paths = [
        "/v1/computes?page=10000".to_owned(),
        "/v1/computes?page=5000&limit=100".to_owned(),
        "/v1/computes?status=running".to_owned(),
        "/v1/computes?label=app:bench".to_owned(),
        format!("/v1/computes?project_id={project}&region=local&status=running"),
    ];
    let mut rows = Vec::new();
    for (path, name) in paths.iter().zip(names) {
        let request = load::get(path, &installation.key);
        let mut times_ms = Vec::new();
        for _ in 0..SINGLES {
            let begun = Instant::now();
            let (status, body) = load::ask(installation.address, &request)?;
            times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(status == 200, "GET {path}: {status} {}", String::from_utf8_lossy(&body));
            crate::process::pause(Duration::from_millis(20));
        }
        rows.push(Row::plain(name, "ms", &Values::new(times_ms)?, Target::Most(DEEP_MS_MAX)));
    }
    Ok(rows)
}
