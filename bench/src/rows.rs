//! The rows of the table: what is measured against what, and what must be reached.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::boot::{self, Boot};
use crate::deliveries;
use crate::installation::{Installation, ssh_key};
use crate::lists;
use crate::load::{self, Load, Outcome};
use crate::plain::Plain;
use crate::postgres::Postgres;
use crate::process::{self, output, pause};
use crate::ratio::{Row, Target, Values, alternate};

/// Measurements of each side.
const ROUNDS: usize = 5;
/// Seconds of one measurement of a rate.
const ROUND_S: u64 = 2;
/// Milliseconds for which a side runs before it is measured.
const WARM_UP_MS: u64 = 500;
/// Connections, and clients of pgbench.
pub const CLIENTS: usize = 64;
/// Computes in the workspace whose list is measured.
const COMPUTES: u32 = 1000;
/// Seconds that a server is left alone before its memory is read.
const IDLE_S: u64 = 5;

type Measure = fn(&Workshop) -> Result<Vec<Row>>;

/// Every row's name, what it is, and how it is measured.
pub const ROWS: &[(&str, &str, Measure)] = &[
    ("read", "one resource, authenticated, beside bare axum with the same bytes", read),
    ("list", "20 of 1,000 computes on SQLite, beside bare axum with the same bytes", list),
    ("list-postgres", "20 of 1,000 computes on PostgreSQL, beside pgbench with the same SELECT", list_postgres),
    ("million", "pages and totals of 1,000,000 computes on SQLite, beside the same list of 100", million),
    ("million-postgres", "pages and totals of 1,000,000 computes on PostgreSQL, beside 100", million_postgres),
    ("create", "durable idempotent creates, beside one transaction each on SQLite", create),
    ("fsync", "system calls that wait for the disk, per durable create", fsync),
    ("deliveries", "webhook deliveries with their outcome recorded, beside bare axum", deliveries::rate),
    ("delivery-time", "from an event's commit to its arrival at a webhook", deliveries::latency),
    ("delivery-silent", "900 webhooks, alone and beside 100 that never answer", deliveries::silent),
    ("boot", "API call to the guest's first user process, beside QEMU by hand", boot_guest),
    ("idle", "start to ready, and memory while nothing happens", idle),
];

/// Where everything is kept while it is measured, and the programs.
#[derive(Debug)]
pub struct Workshop {
    binary: PathBuf,
    results: PathBuf,
    folder: TempDir,
}

impl Workshop {
    /// For the program `binary`; everything lies below `results`, on whose file system the databases are.
    pub fn new(binary: PathBuf, results: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&results)?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&results)?;
        Ok(Self { binary, results, folder })
    }

    /// Writes the table down.
    pub fn keep(&self, table: &str) -> Result<()> {
        let mut text = String::new();
        // Writing into memory can't fail.
        let _ = writeln!(text, "load average at the end: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
        let date = output(std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H-%M-%SZ"]))?;
        std::fs::write(self.results.join(format!("{}.md", date.trim())), format!("{table}\n{text}"))?;
        Ok(())
    }

    /// The last line of each server's log that tells of trouble.
    pub fn complaints(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path()) else { return Vec::new() };
        let logs = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("log".as_ref()));
        let last = |path: PathBuf| {
            let text = std::fs::read_to_string(path).ok()?;
            let line = text.lines().rev().find(|line| line.contains(" WARN ") || line.contains(" ERROR "))?;
            Some(line.to_owned())
        };
        logs.filter_map(last).collect()
    }

    /// The program that is measured.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Where something of this run lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn simulated(&self, name: &str) -> Result<Installation> {
        Installation::new(&self.binary, self.path(name), &["--driver", "simulator"])
    }

    fn with_computes(&self) -> Result<Installation> {
        let installation = self.simulated("computes")?;
        installation.fill(&image()?, COMPUTES)?;
        Ok(installation)
    }
}

/// The folder that `scripts/image` made.
fn image() -> Result<PathBuf> {
    std::env::var_os("BENCH_IMAGE").map(PathBuf::from).context("BENCH_IMAGE is not set")
}

/// A load of [`CLIENTS`] connections.
pub fn load_on(address: SocketAddr, status: u16, ms: u64) -> Load {
    Load { address, connections: CLIENTS, duration: Duration::from_millis(ms), status }
}

/// Runs a load and says what it cost: `name`, rate, latency and processor time of the server.
fn told(name: &str, pid: u32, run: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    let before = process::cpu_s(pid)?;
    let outcome = run()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let cpu_us = (process::cpu_s(pid)? - before) * 1e6 / outcome.answers as f64;
    let (median, tail) = outcome.times_us;
    eprintln!("  {name:<8} {:>8.0}/s  p50 {median:>5} us  p99 {tail:>6} us  {cpu_us:>6.1} us of CPU", outcome.rate);
    Ok(outcome)
}

fn reads(address: SocketAddr, pid: u32, name: &str, request: &[u8]) -> Result<f64> {
    let ask = |_: u64, out: &mut Vec<u8>| out.extend_from_slice(request);
    load::run(load_on(address, 200, WARM_UP_MS), ask)?;
    Ok(told(name, pid, || load::run(load_on(address, 200, ROUND_S * 1000), ask))?.rate)
}

/// The rate of reading `path`, beside bare axum with the same body.
fn against_bare(shop: &Workshop, installation: &Installation, path: &str) -> Result<[Values; 2]> {
    let request = load::get(path, &installation.key);
    let (status, body) = load::ask(installation.address, &request)?;
    ensure!(status == 200, "GET {path}: {status}");
    eprintln!("  the body has {} bytes", body.len());
    let file = shop.path("body.json");
    std::fs::write(&file, body)?;
    let (bare, bare_address) = process::bare(&file)?;
    let (ours, theirs) = (installation.pid()?, bare.id());
    alternate(
        ROUNDS,
        || reads(installation.address, ours, "nephos", &request),
        || reads(bare_address, theirs, "axum", &request),
    )
}

fn read(shop: &Workshop) -> Result<Vec<Row>> {
    let installation = shop.simulated("read")?;
    let id = installation.get("/v1/projects")?["data"][0]["id"].as_str().context("no project")?.to_owned();
    let sides = against_bare(shop, &installation, &format!("/v1/projects/{id}"))?;
    Ok(vec![Row::ratio("read of one resource ÷ bare axum", "/s", &sides, Target::Least(0.65))])
}

fn list(shop: &Workshop) -> Result<Vec<Row>> {
    let installation = shop.with_computes()?;
    let sides = against_bare(shop, &installation, "/v1/computes?limit=20")?;
    Ok(vec![Row::ratio("20-row list on SQLite ÷ bare axum", "/s", &sides, Target::Least(0.45))])
}

fn list_postgres(shop: &Workshop) -> Result<Vec<Row>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // A socket's path is short, so it can't lie below the results.
    let folder = TempDir::new()?;
    // A server that root starts runs as another user, who has to reach it.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
    let postgres = Postgres::start(&repository, folder.path().join("pg"))?;
    let installation = Installation::new(
        &shop.binary,
        shop.path("on-postgres"),
        &["--driver", "simulator", "--database", &postgres.url()],
    )?;
    installation.fill(&image()?, COMPUTES)?;
    postgres.ask("VACUUM ANALYZE")?;
    let request = load::get("/v1/computes?limit=20", &installation.key);
    let pid = installation.pid()?;
    let beside = |statement: &str| {
        alternate(
            ROUNDS,
            || reads(installation.address, pid, "nephos", &request),
            || {
                let rate = postgres.pgbench(statement, CLIENTS, ROUND_S)?;
                eprintln!("  pgbench  {rate:>8.0}/s  {statement}");
                Ok(rate)
            },
        )
    };
    let whole = beside("COMPUTE_LIST")?;
    let editions = beside("COMPUTE_EDITIONS")?;
    installation.stop()?;
    Ok(vec![
        Row::ratio("20-row list on PostgreSQL ÷ pgbench reading whole rows", "/s", &whole, Target::Unset),
        Row::ratio(
            "20-row list on PostgreSQL ÷ pgbench with the SELECT of an unchanged list",
            "/s",
            &editions,
            Target::Least(0.7),
        ),
    ])
}

fn few_and_many(few: &Installation, many: &Installation, fill: impl FnOnce() -> Result<()>) -> Result<Vec<Row>> {
    for installation in [few, many] {
        installation.fill(&image()?, lists::FEW)?;
    }
    many.stop()?;
    fill()?;
    many.start()?;
    let reads = |on: &Installation, path: &str| reads(on.address, on.pid()?, "nephos", &load::get(path, &on.key));
    let page = "/v1/computes?limit=20";
    let after = |on: &Installation, at| Ok::<_, anyhow::Error>(format!("{page}&after={}", lists::id_at(on, at)?));
    let (middle, end) = (after(many, lists::MANY / 2)?, after(many, lists::MANY - lists::FEW)?);
    let small = after(few, lists::FEW / 2)?;
    let first = lists::against_few(ROUNDS, reads, (many, page), (few, page))?;
    let middle = lists::against_few(ROUNDS, reads, (many, &middle), (few, &small))?;
    let end = lists::against_few(ROUNDS, reads, (many, &end), (few, &small))?;
    let mut rows = vec![
        Row::ratio("page 1 of 1,000,000 ÷ of 100", "/s", &first, Target::Least(0.8)),
        Row::ratio("`after` in the middle of 1,000,000 ÷ of 100", "/s", &middle, Target::Least(0.8)),
        Row::ratio("`after` at the end of 1,000,000 ÷ of 100", "/s", &end, Target::Least(0.8)),
    ];
    rows.extend(lists::deep(
        many,
        [
            "page=10000 of 1,000,000",
            "page=5000&limit=100 of 1,000,000, the deepest",
            "total of a status",
            "total of a label",
            "total of project, region and status",
        ],
    )?);
    Ok(rows)
}

fn million(shop: &Workshop) -> Result<Vec<Row>> {
    let (few, many) = (shop.simulated("few")?, shop.simulated("many")?);
    few_and_many(&few, &many, || lists::fill_sqlite(many.folder(), lists::MANY))
}

fn million_postgres(shop: &Workshop) -> Result<Vec<Row>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let start = || {
        let folder = TempDir::new()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))?;
        let postgres = Postgres::start(&repository, folder.path().join("pg"))?;
        Ok::<_, anyhow::Error>((folder, postgres))
    };
    let ((_one, small), (_two, large)) = (start()?, start()?);
    let on = |name, postgres: &Postgres| {
        let arguments = ["--driver", "simulator", "--database", &postgres.url()];
        Installation::new(&shop.binary, shop.path(name), &arguments)
    };
    let (few, many) = (on("few-postgres", &small)?, on("many-postgres", &large)?);
    let rows = few_and_many(&few, &many, || {
        for statement in lists::copies(lists::MANY) {
            large.ask(&statement)?;
        }
        large.ask("VACUUM ANALYZE").map(|_| ())
    })?;
    few.stop()?;
    many.stop()?;
    Ok(rows)
}

/// Creates with numbers that no run before had.
#[derive(Debug, Default)]
pub struct Creates(u64);

impl From<u64> for Creates {
    /// From the number after `last` on.
    fn from(last: u64) -> Self {
        Self(last)
    }
}

impl Creates {
    /// Makes SSH keys for `ms` milliseconds.
    pub fn ssh_keys(&mut self, address: SocketAddr, key: &str, ms: u64) -> Result<Outcome> {
        let body = |n| format!(r#"{{"name":"key {n}","public_key":"{}"}}"#, ssh_key(n));
        self.run(address, key, "/v1/ssh-keys", ms, body)
    }

    /// Makes projects for `ms` milliseconds.
    fn projects(&mut self, address: SocketAddr, key: &str, ms: u64) -> Result<Outcome> {
        self.run(address, key, "/v1/projects", ms, |n| format!(r#"{{"name":"project {n}"}}"#))
    }

    fn run(
        &mut self,
        address: SocketAddr,
        key: &str,
        path: &str,
        ms: u64,
        body: impl Fn(u64) -> String,
    ) -> Result<Outcome> {
        let next = &mut self.0;
        load::run(load_on(address, 201, ms), |_, out| {
            *next += 1;
            load::post(out, path, key, Some(&format!("bench-{next}")), &body(*next));
        })
    }
}

fn create(shop: &Workshop) -> Result<Vec<Row>> {
    let installation = shop.simulated("create")?;
    let pid = installation.pid()?;
    let mut plain = Plain::open(&shop.path("plain.db"))?;
    let mut plain_rate = || {
        let rate = plain.rate(Duration::from_secs(ROUND_S))?;
        eprintln!("  plain    {rate:>8.0}/s");
        Ok(rate)
    };
    let mut creates = Creates::default();
    let keys = alternate(
        ROUNDS,
        || {
            creates.ssh_keys(installation.address, &installation.key, WARM_UP_MS)?;
            Ok(told("ssh-keys", pid, || creates.ssh_keys(installation.address, &installation.key, ROUND_S * 1000))?
                .rate)
        },
        &mut plain_rate,
    )?;
    let projects = alternate(
        ROUNDS,
        || {
            creates.projects(installation.address, &installation.key, WARM_UP_MS)?;
            Ok(told("projects", pid, || creates.projects(installation.address, &installation.key, ROUND_S * 1000))?
                .rate)
        },
        &mut plain_rate,
    )?;
    Ok(vec![
        Row::ratio("durable create (SSH key) ÷ one transaction each", "/s", &keys, Target::Least(6.0)),
        Row::ratio("durable create (project, 4 rows) ÷ one transaction each", "/s", &projects, Target::Least(6.0)),
    ])
}

/// The system calls are counted by strace, which with its filter stops the server at these calls only.
fn fsync(shop: &Workshop) -> Result<Vec<Row>> {
    let mut installation = shop.simulated("fsync")?;
    let mut creates = Creates::default();
    let mut shares = Vec::new();
    let filter = "trace=fsync,fdatasync,sync_file_range,msync,syncfs,sync";
    for round in 0..ROUNDS {
        installation.stop()?;
        let counts = shop.path(&format!("strace-{round}"));
        // With -D the server is our child and the tracer is not, so that ending the server is ending both.
        let words = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-e", filter, "-o"];
        installation.wrapper = words.iter().map(|&w| w.to_owned()).chain([counts.display().to_string()]).collect();
        installation.start()?;
        creates.ssh_keys(installation.address, &installation.key, WARM_UP_MS)?;
        let lines = || -> Result<usize> {
            let text = std::fs::read_to_string(&counts)?;
            Ok(text.lines().filter(|line| line.contains("sync") && !line.contains("resumed")).count())
        };
        let before = lines()?;
        let outcome = creates.ssh_keys(installation.address, &installation.key, ROUND_S * 1000)?;
        let calls = lines()? - before;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let share = calls as f64 / outcome.answers as f64;
        eprintln!("  {calls} calls for {} creates: {share:.4}", outcome.answers);
        shares.push(share);
    }
    Ok(vec![Row::plain("fsyncs per durable create", "", &Values::new(shares)?, Target::Most(0.03))])
}

fn boot_guest(shop: &Workshop) -> Result<Vec<Row>> {
    let installation = Installation::new(&shop.binary, shop.path("boot"), &["--driver", "qemu"])?;
    let boot = std::cell::RefCell::new(Boot::new(&installation, &image()?, shop.path("by-hand"))?);
    let tell = |name: &str, ms: f64| eprintln!("  {name:<8} {ms:>8.0} ms");
    let sides = alternate(
        ROUNDS,
        || {
            boot::settle();
            let ms = boot.borrow_mut().api()?;
            tell("nephos", ms);
            Ok(ms)
        },
        || {
            boot::settle();
            let ms = boot.borrow_mut().hand()?;
            tell("by hand", ms);
            Ok(ms)
        },
    )?;
    Ok(vec![Row::ratio("API call to first user process ÷ QEMU by hand", "ms", &sides, Target::Most(1.1))])
}

fn idle(shop: &Workshop) -> Result<Vec<Row>> {
    let installation = Installation::new(&shop.binary, shop.path("idle"), &[])?;
    let mut fresh = Vec::new();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        installation.stop()?;
        times.push(installation.start()?);
        installation.get("/v1/computes")?;
        pause(Duration::from_secs(IDLE_S));
        fresh.push(process::resident_mib(installation.pid()?)?);
    }
    let mut creates = Creates::default();
    let request = load::get("/v1/projects", &installation.key);
    reads(installation.address, installation.pid()?, "reads", &request)?;
    creates.ssh_keys(installation.address, &installation.key, ROUND_S * 1000)?;
    pause(Duration::from_secs(IDLE_S));
    let used = Values::new(vec![process::resident_mib(installation.pid()?)?])?;
    Ok(vec![
        Row::plain("start to ready", "ms", &Values::new(times)?, Target::Most(150.0)),
        Row::plain("idle resident memory, after a start", "MiB", &Values::new(fresh)?, Target::Most(40.0)),
        Row::plain("idle resident memory, after load", "MiB", &used, Target::Most(40.0)),
    ])
}
