//! Computes, and what is left of deleted ones.

use nephos_model::Timestamp;
use nephos_model::compute::{Address, Compute, Status};
use nephos_model::id::{ComputeId, EnvironmentId, OperationId, ProjectId};
use nephos_model::page::{Listed, Page, Start};
use nephos_model::tenant::TenantId;

use crate::batch::{Miss, Statement};
use crate::convert::Model;
use crate::error::Result;
use crate::list::rows_max;
use crate::project::STALE;
use crate::value::{Row, Value};
use crate::{Sql, Store, counter, params, sql};

/// The name is taken in the environment.
pub const NAME_TAKEN: Miss = Miss("compute_name_taken");

macro_rules! columns {
    () => {
        "c.id, c.project_id, c.environment_id, c.name, c.region, c.size, c.vcpus, c.memory_mib, c.disk_gib, c.image_id, \
         c.image, c.status, c.reason, c.wish, c.restart_policy, c.restarts, c.protected, c.labels, c.ssh_keys, \
         c.user_data, c.ssh_host, c.ssh_port, c.private_ip, c.ssh_host_key, c.boots, c.operation_id, c.notes, c.version, \
         c.created_at, c.updated_at, c.started_at"
    };
}

/// Computes with a label.
macro_rules! labelled {
    () => {
        " FROM compute_labels k JOIN computes c ON c.tenant = k.tenant AND c.id = k.compute_id
          WHERE k.tenant = $1 AND k.name = $10 AND k.value = $11 AND k.compute_id < $2 "
    };
}

/// The filters that did not choose the index, each applied where it is given. Labels come in pairs of name and value.
macro_rules! residual {
    () => {
        " AND (CAST($5 AS TEXT) IS NULL OR c.status = $5) AND (CAST($6 AS TEXT) IS NULL OR c.region = $6)
          AND (CAST($7 AS TEXT) IS NULL OR c.project_id = $7) AND (CAST($8 AS TEXT) IS NULL OR c.environment_id = $8)
          AND (CAST($9 AS TEXT) IS NULL OR c.name = $9)
          AND (CAST($10 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM compute_labels l WHERE l.tenant = $1
               AND l.name = $10 AND l.value = $11 AND l.compute_id = c.id))
          AND (CAST($12 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM compute_labels l WHERE l.tenant = $1
               AND l.name = $12 AND l.value = $13 AND l.compute_id = c.id))
          AND (CAST($14 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM compute_labels l WHERE l.tenant = $1
               AND l.name = $14 AND l.value = $15 AND l.compute_id = c.id))
          AND (CAST($16 AS TEXT) IS NULL OR EXISTS (SELECT 1 FROM compute_labels l WHERE l.tenant = $1
               AND l.name = $16 AND l.value = $17 AND l.compute_id = c.id)) "
    };
}

/// The page, its editions and the total of a list that one filter leads. `$2` comes before the page, so totals pass `~`.
/// Then, where that filter is the only one, the last id before a page: by number from the newest and from the oldest.
macro_rules! led {
    ($name:ident, $list:ident, $editions:ident, $count:ident, $newest:ident, $oldest:ident, $from:expr, $sole:expr) => {
        led!($name, $list, $editions, $count, $newest, $oldest, $from, $sole, residual!());
    };
    ($name:ident, $list:ident, $editions:ident, $count:ident, $newest:ident, $oldest:ident, $from:expr, $sole:expr,
     $residual:expr) => {
        sql! {
            /// A page of computes, led by one filter.
            indexed pub $list = concat!("SELECT ", columns!(), $from, $residual,
                " ORDER BY c.id DESC LIMIT $3 OFFSET $4");
            /// Which computes are on a page, and in which edition.
            indexed pub $editions = concat!("SELECT c.id, c.version, c.updated_at", $from, $residual,
                " ORDER BY c.id DESC LIMIT $3 OFFSET $4");
            /// How many computes match, led by one filter.
            indexed pub $count = concat!("SELECT COUNT(*) FROM (SELECT 1 ", $from, $residual,
                " LIMIT $3 OFFSET $4) AS matching");
            /// One id by its number from the newest: the index alone is read.
            indexed pub $newest = concat!("SELECT c.id FROM computes c WHERE c.tenant = $1 AND c.id < $2", $sole,
                " ORDER BY c.id DESC LIMIT $3 OFFSET $4");
            /// One id by its number from the oldest.
            indexed pub $oldest = concat!("SELECT c.id FROM computes c WHERE c.tenant = $1 AND c.id < $2", $sole,
                " ORDER BY c.id LIMIT $3 OFFSET $4");
        }
        /// The statements of a list that one filter leads.
        static $name: Led =
            Led { list: &$list, editions: &$editions, count: &$count, newest: &$newest, oldest: &$oldest };
    };
}

/// The statements of a list that one filter leads.
struct Led {
    list: &'static Sql,
    editions: &'static Sql,
    count: &'static Sql,
    newest: &'static Sql,
    oldest: &'static Sql,
}

// Nothing is left to be filtered where no filter is given.
led!(
    BY_NOTHING,
    COMPUTE_LIST,
    COMPUTE_EDITIONS,
    COMPUTE_COUNT,
    COMPUTE_NEWEST,
    COMPUTE_OLDEST,
    " FROM computes c WHERE c.tenant = $1 AND c.id < $2 ",
    "",
    ""
);
led!(
    BY_STATUS,
    COMPUTE_LIST_STATUS,
    COMPUTE_EDITIONS_STATUS,
    COMPUTE_COUNT_STATUS,
    COMPUTE_NEWEST_STATUS,
    COMPUTE_OLDEST_STATUS,
    " FROM computes c WHERE c.tenant = $1 AND c.status = $5 AND c.id < $2 ",
    " AND c.status = $5"
);
led!(
    BY_REGION,
    COMPUTE_LIST_REGION,
    COMPUTE_EDITIONS_REGION,
    COMPUTE_COUNT_REGION,
    COMPUTE_NEWEST_REGION,
    COMPUTE_OLDEST_REGION,
    " FROM computes c WHERE c.tenant = $1 AND c.region = $6 AND c.id < $2 ",
    " AND c.region = $5"
);
led!(
    BY_PROJECT,
    COMPUTE_LIST_PROJECT,
    COMPUTE_EDITIONS_PROJECT,
    COMPUTE_COUNT_PROJECT,
    COMPUTE_NEWEST_PROJECT,
    COMPUTE_OLDEST_PROJECT,
    " FROM computes c WHERE c.tenant = $1 AND c.project_id = $7 AND c.id < $2 ",
    " AND c.project_id = $5"
);
led!(
    BY_ENVIRONMENT,
    COMPUTE_LIST_ENVIRONMENT,
    COMPUTE_EDITIONS_ENVIRONMENT,
    COMPUTE_COUNT_ENVIRONMENT,
    COMPUTE_NEWEST_ENVIRONMENT,
    COMPUTE_OLDEST_ENVIRONMENT,
    " FROM computes c WHERE c.tenant = $1 AND c.environment_id = $8 AND c.id < $2 ",
    " AND c.environment_id = $5"
);
led!(
    BY_NAME,
    COMPUTE_LIST_NAME,
    COMPUTE_EDITIONS_NAME,
    COMPUTE_COUNT_NAME,
    COMPUTE_NEWEST_NAME,
    COMPUTE_OLDEST_NAME,
    " FROM computes c WHERE c.tenant = $1 AND c.name = $9 AND c.id < $2 ",
    " AND c.name = $5"
);
sql! {
    /// A page of computes, led by a label.
    indexed pub COMPUTE_LIST_LABEL = concat!("SELECT ", columns!(), labelled!(), residual!(),
        " ORDER BY k.compute_id DESC LIMIT $3 OFFSET $4");
    /// Which computes are on a page led by a label, and in which edition.
    indexed pub COMPUTE_EDITIONS_LABEL = concat!("SELECT c.id, c.version, c.updated_at", labelled!(), residual!(),
        " ORDER BY k.compute_id DESC LIMIT $3 OFFSET $4");
    /// How many computes match, led by a label.
    indexed pub COMPUTE_COUNT_LABEL = concat!("SELECT COUNT(*) FROM (SELECT 1 ", labelled!(), residual!(),
        " LIMIT $3 OFFSET $4) AS matching");
    /// One id by its number from the newest with a label.
    indexed pub COMPUTE_NEWEST_LABEL = "SELECT compute_id FROM compute_labels
        WHERE tenant = $1 AND name = $5 AND value = $6 AND compute_id < $2 ORDER BY compute_id DESC LIMIT $3 OFFSET $4";
    /// One id by its number from the oldest with a label.
    indexed pub COMPUTE_OLDEST_LABEL = "SELECT compute_id FROM compute_labels
        WHERE tenant = $1 AND name = $5 AND value = $6 AND compute_id < $2 ORDER BY compute_id LIMIT $3 OFFSET $4";
}
static BY_LABEL: Led = Led {
    list: &COMPUTE_LIST_LABEL,
    editions: &COMPUTE_EDITIONS_LABEL,
    count: &COMPUTE_COUNT_LABEL,
    newest: &COMPUTE_NEWEST_LABEL,
    oldest: &COMPUTE_OLDEST_LABEL,
};

sql! {
    /// One compute.
    indexed pub COMPUTE_GET = concat!("SELECT ", columns!(), " FROM computes c WHERE c.tenant = $1 AND c.id = $2");
    /// The first computes of a project, for the list of what stands in the way.
    indexed pub COMPUTE_OF_PROJECT = concat!("SELECT ", columns!(),
        " FROM computes c WHERE c.tenant = $1 AND c.project_id = $2 ORDER BY c.id LIMIT $3");
    /// The first computes of an environment.
    indexed pub COMPUTE_OF_ENVIRONMENT = concat!("SELECT ", columns!(),
        " FROM computes c WHERE c.tenant = $1 AND c.environment_id = $2 ORDER BY c.id LIMIT $3");
    /// A new compute, unless the name is taken.
    pub COMPUTE_INSERT = "INSERT INTO computes (tenant, id, project_id, environment_id, name, region, size, vcpus,
        memory_mib, disk_gib, image_id, image, status, reason, wish, restart_policy, restarts, protected, labels, ssh_keys,
        user_data, ssh_host, ssh_port, private_ip, ssh_host_key, boots, operation_id, notes, version, created_at,
        updated_at, started_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
        $24, $25, $26, $27, $28, $29, $30, $31, $32) ON CONFLICT (tenant, environment_id, name) DO NOTHING";
    /// Every column that can change; compare-and-set on the version.
    pub COMPUTE_UPDATE = "UPDATE computes SET name = $4, size = $5, vcpus = $6, memory_mib = $7, disk_gib = $8,
        image_id = $9, image = $10, status = $11, reason = $12, wish = $13, restart_policy = $14, restarts = $15,
        protected = $16, labels = $17, ssh_host = $18, ssh_port = $19, private_ip = $20, ssh_host_key = $21, boots = $22,
        operation_id = $23, notes = $24, updated_at = $25, started_at = $26, version = version + 1
        WHERE tenant = $1 AND id = $2 AND version = $3";
    /// Adds to the number of computes of one kind.
    pub COMPUTE_COUNTS_ADD = "INSERT INTO compute_counts (tenant, project_id, environment_id, region, status, value)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, project_id, environment_id, region, status)
        DO UPDATE SET value = compute_counts.value + excluded.value";
    /// How many computes there are of some kinds: a handful of rows are added up, however many computes there are.
    indexed pub COMPUTE_COUNTS_SUM = "SELECT CAST(COALESCE(SUM(value), 0) AS BIGINT) FROM compute_counts
        WHERE tenant = $1 AND (CAST($2 AS TEXT) IS NULL OR status = $2) AND (CAST($3 AS TEXT) IS NULL OR region = $3)
        AND (CAST($4 AS TEXT) IS NULL OR project_id = $4) AND (CAST($5 AS TEXT) IS NULL OR environment_id = $5)";
    /// The numbers of a project or of an environment, none of which are left.
    pub COMPUTE_COUNTS_FORGET = "DELETE FROM compute_counts WHERE tenant = $1 AND project_id = $2
        AND (CAST($3 AS TEXT) IS NULL OR environment_id = $3) AND value = 0";
    /// No more compute.
    pub COMPUTE_DELETE = "DELETE FROM computes WHERE tenant = $1 AND id = $2 AND version = $3";
    /// One label, for filters.
    pub COMPUTE_LABEL_INSERT = "INSERT INTO compute_labels (tenant, name, value, compute_id) VALUES ($1, $2, $3, $4)";
    /// One compute less with each of the labels of one.
    pub LABELLED_UNCOUNT = "UPDATE counters SET value = value - 1 WHERE tenant = $1 AND noun = 'compute.label'
        AND scope IN (SELECT l.name || ':' || l.value FROM compute_labels l WHERE l.tenant = $1 AND l.compute_id = $2)";
    /// No more counters of its labels that nothing else has.
    pub LABELLED_FORGET = "DELETE FROM counters WHERE tenant = $1 AND noun = 'compute.label' AND value = 0
        AND scope IN (SELECT l.name || ':' || l.value FROM compute_labels l WHERE l.tenant = $1 AND l.compute_id = $2)";
    /// No more labels.
    pub COMPUTE_LABELS_DELETE = "DELETE FROM compute_labels WHERE tenant = $1 AND compute_id = $2";
    /// What may be left of a compute on a host.
    pub REMOVAL_INSERT = "INSERT INTO removals (tenant, compute_id, operation_id, region, machine, vcpus, memory_mib,
        disk_gib, requested_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    /// What may be left of one compute.
    indexed pub REMOVAL_GET = "SELECT compute_id, operation_id, region, machine, vcpus, memory_mib, disk_gib, requested_at
        FROM removals WHERE tenant = $1 AND compute_id = $2";
    /// Nothing is left.
    pub REMOVAL_DELETE = "DELETE FROM removals WHERE tenant = $1 AND compute_id = $2";
}

fn decode(row: &Row) -> Result<Compute> {
    let address = match (row.opt_string(20)?, row.opt_int(21)?) {
        (Some(ssh_host), Some(_)) => Some(Address {
            ssh_host,
            ssh_port: u16::try_from(row.int(21)?).map_err(|_| row.unexpected(21, "a port"))?,
            private_ip: row.opt_string(22)?,
        }),
        _ => None,
    };
    Ok(Compute {
        id: row.id(0)?,
        project_id: row.id(1)?,
        environment_id: row.id(2)?,
        name: row.string(3)?,
        region: row.string(4)?,
        size: row.string(5)?,
        vcpus: row.u32(6)?,
        memory_mib: row.u32(7)?,
        disk_gib: row.u32(8)?,
        image_id: row.id(9)?,
        image: row.string(10)?,
        status: row.parse(11, "a status")?,
        reason: row.opt_string(12)?,
        wish: row.parse(13, "a wish")?,
        restart_policy: row.parse(14, "a restart policy")?,
        restarts: row.u32(15)?,
        protected: row.flag(16)?,
        labels: row.string(17)?,
        ssh_keys: row.string(18)?,
        user_data: row.opt_string(19)?,
        address,
        ssh_host_key: row.opt_string(23)?,
        boots: row.int(24)?,
        operation_id: row.opt_id(25)?,
        notes: row.opt_string(26)?,
        version: row.int(27)?,
        created_at: row.time(28)?,
        updated_at: row.time(29)?,
        started_at: row.opt_time(30)?,
    })
}

/// Adds a compute with its labels and counts it, or misses with [`NAME_TAKEN`].
pub fn insert(tenant: TenantId, c: &Compute, labels: &[(String, String)]) -> Vec<Statement> {
    let (host, port, ip) = address(c);
    let mut batch = vec![
        COMPUTE_INSERT
            .bind(params![
                tenant,
                c.id,
                c.project_id,
                c.environment_id,
                &c.name,
                &c.region,
                &c.size,
                c.vcpus,
                c.memory_mib,
                c.disk_gib,
                c.image_id,
                &c.image,
                c.status.as_str(),
                c.reason.as_deref(),
                c.wish.as_str(),
                c.restart_policy.as_str(),
                c.restarts,
                c.protected,
                &c.labels,
                &c.ssh_keys,
                c.user_data.as_deref(),
                host,
                port,
                ip,
                c.ssh_host_key.as_deref(),
                c.boots,
                c.operation_id,
                c.notes.as_deref(),
                c.version,
                c.created_at,
                c.updated_at,
                c.started_at
            ])
            .must(1, NAME_TAKEN),
        counter::add(tenant, "compute", "", 1),
        counter::add(tenant, "compute", c.project_id.to_string(), 1),
        counter::add(tenant, "compute", c.environment_id.to_string(), 1),
        count(tenant, c, c.status, 1),
    ];
    batch.extend(label(tenant, c.id, labels));
    batch
}

/// Adds to the number of computes of the kind of `c` in `status`.
fn count(tenant: TenantId, c: &Compute, status: Status, by: i64) -> Statement {
    let Compute { project_id, environment_id, region, .. } = c;
    COMPUTE_COUNTS_ADD.bind(params![tenant, *project_id, *environment_id, region, status.as_str(), by])
}

/// Forgets the numbers of computes of a project, or of one environment of it, that was removed.
pub(crate) fn forget_counts(tenant: TenantId, project: ProjectId, environment: Option<EnvironmentId>) -> Statement {
    COMPUTE_COUNTS_FORGET.bind(params![tenant, project, environment])
}

fn label(tenant: TenantId, id: ComputeId, labels: &[(String, String)]) -> impl Iterator<Item = Statement> {
    labels.iter().flat_map(move |(name, value)| {
        [
            COMPUTE_LABEL_INSERT.bind(params![tenant, name, value, id]),
            counter::add(tenant, LABELLED, label_scope(name, value), 1),
        ]
    })
}

/// The rows by which a compute is found by its labels are removed, and it is no longer counted there.
fn unlabel(tenant: TenantId, id: ComputeId) -> [Statement; 3] {
    [
        LABELLED_UNCOUNT.bind(params![tenant, id]),
        LABELLED_FORGET.bind(params![tenant, id]),
        COMPUTE_LABELS_DELETE.bind(params![tenant, id]),
    ]
}

/// Replaces the labels by which a compute is found.
pub fn relabel(tenant: TenantId, id: ComputeId, labels: &[(String, String)]) -> Vec<Statement> {
    let mut batch = Vec::from(unlabel(tenant, id));
    batch.extend(label(tenant, id, labels));
    batch
}

/// Writes every column that can change, if the row still has `c.version`, or misses with [`STALE`]. The row's version
/// is then one higher. `was` is the status that the row has: computes are counted by it.
pub fn update(tenant: TenantId, c: &Compute, was: Status) -> Vec<Statement> {
    let (host, port, ip) = address(c);
    let update = COMPUTE_UPDATE
        .bind(params![
            tenant,
            c.id,
            c.version,
            &c.name,
            &c.size,
            c.vcpus,
            c.memory_mib,
            c.disk_gib,
            c.image_id,
            &c.image,
            c.status.as_str(),
            c.reason.as_deref(),
            c.wish.as_str(),
            c.restart_policy.as_str(),
            c.restarts,
            c.protected,
            &c.labels,
            host,
            port,
            ip,
            c.ssh_host_key.as_deref(),
            c.boots,
            c.operation_id,
            c.notes.as_deref(),
            c.updated_at,
            c.started_at
        ])
        .must(1, STALE);
    let mut batch = vec![update];
    if was != c.status {
        let mut moves = [(was, -1), (c.status, 1)];
        // In one order for all, so that two of them don't wait for each other.
        moves.sort_unstable_by_key(|(status, _)| status.as_str());
        batch.extend(moves.map(|(status, by)| count(tenant, c, status, by)));
    }
    batch
}

fn address(c: &Compute) -> (Option<&str>, Option<u16>, Option<&str>) {
    c.address.as_ref().map_or((None, None, None), |a| (Some(&*a.ssh_host), Some(a.ssh_port), a.private_ip.as_deref()))
}

/// A deleted compute of which something may be left on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The compute.
    pub compute_id: ComputeId,
    /// The operation that ends when nothing is left.
    pub operation_id: OperationId,
    /// The region whose driver has it.
    pub region: String,
    /// What the driver wrote down about the machine, or empty.
    pub machine: String,
    /// Virtual processors to give back.
    pub vcpus: u32,
    /// Memory to give back, in MiB.
    pub memory_mib: u32,
    /// Disk to give back, in GiB.
    pub disk_gib: u32,
    /// When it was asked for.
    pub requested_at: Timestamp,
}

/// Removes a compute that still has its version, or misses with [`STALE`]; writes down what may be left of it.
pub fn delete(tenant: TenantId, c: &Compute, removal: &Removal) -> Vec<Statement> {
    let r = removal;
    let mut batch = vec![
        COMPUTE_DELETE.bind(params![tenant, c.id, c.version]).must(1, STALE),
        counter::add(tenant, "compute", "", -1),
        counter::add(tenant, "compute", c.project_id.to_string(), -1),
        counter::add(tenant, "compute", c.environment_id.to_string(), -1),
        count(tenant, c, c.status, -1),
        REMOVAL_INSERT.bind(params![
            tenant,
            r.compute_id,
            r.operation_id,
            &r.region,
            &r.machine,
            r.vcpus,
            r.memory_mib,
            r.disk_gib,
            r.requested_at
        ]),
    ];
    batch.extend(unlabel(tenant, c.id));
    batch
}

/// Nothing is left of a compute; misses with [`STALE`] when that was known already.
pub fn removed(tenant: TenantId, id: ComputeId) -> Statement {
    REMOVAL_DELETE.bind(params![tenant, id]).must(1, STALE)
}

/// Which computes a list holds.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those in this status.
    pub status: Option<String>,
    /// Those in this region.
    pub region: Option<String>,
    /// Those of this project.
    pub project_id: Option<ProjectId>,
    /// Those of this environment.
    pub environment_id: Option<EnvironmentId>,
    /// Those with this name.
    pub name: Option<String>,
    /// Those with all of these labels, key and value; at most [`LABELS_MAX`] of them.
    pub labels: Vec<(String, String)>,
}

/// Labels by which one list is filtered, at most.
pub const LABELS_MAX: usize = 4;
/// Rows before a page from which on it is looked for by the index alone.
const DEEP_ROWS: i64 = 2_000;
const LABELLED: &str = "compute.label";

/// The counter of the computes with a label; a name holds no colon.
fn label_scope(name: &str, value: &str) -> String {
    format!("{name}:{value}")
}

impl Filter {
    /// How many of the filters are given.
    fn given(&self) -> usize {
        let texts = [&self.status, &self.region, &self.name].into_iter().flatten().count();
        texts
            + usize::from(self.project_id.is_some())
            + usize::from(self.environment_id.is_some())
            + self.labels.len().min(LABELS_MAX)
    }
}

/// A state of a compute: whatever is shown of it is the same as long as its edition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edition {
    /// The compute.
    pub id: ComputeId,
    /// Its version, which every change raises.
    pub version: i64,
    /// When it was changed, which tells two histories apart that a restored copy began.
    pub updated_at: Timestamp,
}

impl From<&Compute> for Edition {
    fn from(c: &Compute) -> Self {
        Self { id: c.id, version: c.version, updated_at: c.updated_at }
    }
}

/// The statements of a list, led by the most selective filter.
fn led_by(filter: &Filter) -> &'static Led {
    match filter {
        Filter { name: Some(_), .. } => &BY_NAME,
        Filter { labels, .. } if !labels.is_empty() => &BY_LABEL,
        Filter { environment_id: Some(_), .. } => &BY_ENVIRONMENT,
        Filter { project_id: Some(_), .. } => &BY_PROJECT,
        Filter { status: Some(_), .. } => &BY_STATUS,
        Filter { region: Some(_), .. } => &BY_REGION,
        _ => &BY_NOTHING,
    }
}

impl Store {
    /// One compute.
    pub async fn compute(&self, tenant: TenantId, id: ComputeId) -> Result<Option<Compute>> {
        self.one(COMPUTE_GET.bind(params![tenant, id]), decode).await
    }

    /// The first `limit` computes of a project, oldest first.
    pub async fn computes_of_project(&self, tenant: TenantId, id: ProjectId, limit: u32) -> Result<Vec<Compute>> {
        self.all(COMPUTE_OF_PROJECT.bind(params![tenant, id, limit]), decode).await
    }

    /// The first `limit` computes of an environment, oldest first.
    pub async fn computes_of_environment(
        &self,
        tenant: TenantId,
        id: EnvironmentId,
        limit: u32,
    ) -> Result<Vec<Compute>> {
        self.all(COMPUTE_OF_ENVIRONMENT.bind(params![tenant, id, limit]), decode).await
    }

    /// What may be left of a deleted compute.
    pub async fn removal(&self, tenant: TenantId, id: ComputeId) -> Result<Option<Removal>> {
        self.one(REMOVAL_GET.bind(params![tenant, id]), |row| {
            Ok(Removal {
                compute_id: row.id(0)?,
                operation_id: row.id(1)?,
                region: row.string(2)?,
                machine: row.string(3)?,
                vcpus: row.u32(4)?,
                memory_mib: row.u32(5)?,
                disk_gib: row.u32(6)?,
                requested_at: row.time(7)?,
            })
        })
        .await
    }

    /// A page of computes, newest first. The most selective filter given chooses the index.
    pub async fn computes(&self, tenant: TenantId, filter: &Filter, page: &Page) -> Result<Listed<Compute>> {
        self.compute_page(tenant, filter, page, led_by(filter).list, decode).await
    }

    /// The same page, of which only the editions are read.
    pub async fn compute_editions(&self, tenant: TenantId, filter: &Filter, page: &Page) -> Result<Listed<Edition>> {
        let decode = |row: &Row| Ok(Edition { id: row.id(0)?, version: row.int(1)?, updated_at: row.time(2)? });
        self.compute_page(tenant, filter, page, led_by(filter).editions, decode).await
    }

    async fn compute_page<T>(
        &self,
        tenant: TenantId,
        filter: &Filter,
        page: &Page,
        rows: &'static Sql,
        decode: fn(&Row) -> Result<T>,
    ) -> Result<Listed<T>> {
        let total = compute_total(tenant, filter);
        if page.offset() >= DEEP_ROWS && filter.given() <= 1 {
            let found = self.one(total.clone(), |row| row.int(0)).await?.unwrap_or(0);
            if page.offset() >= found {
                return Ok(Listed { items: Vec::new(), total: found, more: false });
            }
            // The page comes after the last id before it, which is near one of the ends.
            let before = page.offset() - 1;
            let (side, number) = match found - 1 - before {
                from_oldest if from_oldest < before => (led_by(filter).oldest, from_oldest),
                _ => (led_by(filter).newest, before),
            };
            let id = self.one(bind_sole(side, tenant, filter, number), |row| row.string(0)).await?;
            let after = Page { start: Start::After(id.unwrap_or_default()), limit: page.limit };
            let rows = bind(rows, tenant, filter, after.before(), rows_max(page), 0);
            return self.page(rows, total, page, decode).await;
        }
        let rows = bind(rows, tenant, filter, page.before(), rows_max(page), page.offset());
        self.page(rows, total, page, decode).await
    }
}

/// A statement of a list with its filters.
fn bind(sql: &'static Sql, tenant: TenantId, f: &Filter, before: &str, limit: i64, offset: i64) -> Statement {
    let mut values: Vec<Value> = params![
        tenant,
        before,
        limit,
        offset,
        f.status.as_deref(),
        f.region.as_deref(),
        f.project_id,
        f.environment_id,
        f.name.as_deref()
    ];
    for at in 0..LABELS_MAX {
        let label = f.labels.get(at);
        values.extend(params![label.map(|l| &*l.0), label.map(|l| &*l.1)]);
    }
    values.truncate(sql.parameters());
    sql.bind(values)
}

/// A statement that finds one id by its number in a list with at most one filter.
fn bind_sole(sql: &'static Sql, tenant: TenantId, f: &Filter, number: i64) -> Statement {
    let mut values: Vec<Value> = params![tenant, "~", 1, number];
    values.extend([&f.status, &f.region, &f.name].into_iter().flatten().map(|text| Value::from(text.as_str())));
    values.extend(f.project_id.map(Value::from));
    values.extend(f.environment_id.map(Value::from));
    values.extend(f.labels.iter().take(1).flat_map(|(name, value)| [Value::from(&**name), Value::from(&**value)]));
    sql.bind(values)
}

/// How many computes match. What the numbers of kinds or labels tell is not counted.
fn compute_total(tenant: TenantId, f: &Filter) -> Statement {
    match f {
        Filter { name: None, labels, .. } if labels.is_empty() => match f.given() {
            0 => counter::get(tenant, "compute", ""),
            _ => COMPUTE_COUNTS_SUM.bind(params![
                tenant,
                f.status.as_deref(),
                f.region.as_deref(),
                f.project_id,
                f.environment_id
            ]),
        },
        Filter { labels, .. } if labels.len() == 1 && f.given() == 1 => {
            counter::get(tenant, LABELLED, label_scope(&labels[0].0, &labels[0].1))
        }
        _ => bind(led_by(f).count, tenant, f, "~", i64::MAX, 0),
    }
}
