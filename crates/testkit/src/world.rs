//! A whole cloud in a test: a database on either engine, a clock that the test moves, seeded randomness, the simulator.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use nephos_control::background::Background;
use nephos_control::caller::{Caller, Grant, Permission, Proof, Request};
use nephos_control::plan_limits::Limits;
use nephos_control::seal::MasterKey;
use nephos_control::settings::Settings;
use nephos_control::{Cloud, Parts};
use nephos_driver::Driver;
use nephos_driver::simulator::Simulator;
use nephos_http::outgoing::{Lookup, Options, Outgoing, Resolve};
use nephos_model::image::{Boot, Image};
use nephos_model::region::Region;
use nephos_model::role::Role;
use nephos_model::scope::Scopes;
use nephos_model::tenant::Mode;
use nephos_model::workspace::{Member, Workspace};
use nephos_model::{Clock, Timestamp};
use nephos_store::testing::TestDatabase;
use nephos_store::{Batch, Engine, MIGRATIONS};

use crate::{MEASURED, Mailbox, Measured, SeededEntropy, WorldClock};

/// Tasks of a cloud's background that sleep on the clock when there is nothing to do, at least.
const IDLE_TASKS: usize = 15;
/// The master key of every world.
const MASTER_KEY: MasterKey = MasterKey::new([7; 32]);
/// Real time that looks at computes may take.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// Moves of the clock after which a test gives up waiting for something to become true.
const MOVES_MAX: u32 = 400;

/// Nobody is asked for the address of a name: what tests send goes to literal addresses.
struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: String) -> Lookup {
        Box::pin(std::future::ready(Err(std::io::ErrorKind::NotFound.into())))
    }
}

/// A whole cloud. Dropping it removes its database.
pub struct World {
    /// The control plane.
    pub cloud: Cloud,
    /// Its time.
    pub clock: WorldClock,
    /// Its database.
    pub database: TestDatabase,
    /// The letters that it sent.
    pub mailbox: Mailbox,
    /// What runs the computes of the region [`MEASURED`], which only some worlds have.
    measured: Option<Measured>,
    settings: Settings,
    background: Option<Background>,
}

impl World {
    /// A cloud on `engine`, whose background does not run yet.
    pub async fn new(engine: Engine) -> Self {
        Self::with(engine, Settings::default()).await
    }

    /// The same with a region more, [`MEASURED`], and its driver.
    ///
    /// # Panics
    /// When its rows can't be written.
    pub async fn measured(engine: Engine) -> (Self, Measured) {
        let measured = Measured::default();
        let world = Self::made(engine, Settings::default(), Some(measured.clone())).await;
        // Only what is simulated has an image of its own.
        let image = Image {
            id: world.cloud.id(),
            name: MEASURED.to_owned(),
            description: String::new(),
            checksum: "0".repeat(64),
            size_bytes: 1,
            min_memory_mib: 0,
            min_disk_gib: 0,
            login_user: "root".to_owned(),
            boot: Boot::Disk,
            created_at: world.clock.now(),
        };
        world.cloud.add_image(&image).await.expect("an image's row");
        (world, measured)
    }

    /// The same with settings of its own.
    pub async fn with(engine: Engine, settings: Settings) -> Self {
        Self::made(engine, settings, None).await
    }

    async fn made(engine: Engine, settings: Settings, measured: Option<Measured>) -> Self {
        let database = TestDatabase::migrated(engine, MIGRATIONS).await;
        let clock = WorldClock::new();
        let mailbox = Mailbox::default();
        let cloud = Self::cloud_over(&database, &clock, &mailbox, measured.as_ref(), &settings, 7);
        Self { cloud, clock, database, mailbox, measured, settings, background: None }
    }

    /// A control plane over a database: another process of the same installation, as far as the rows can tell.
    fn cloud_over(
        database: &TestDatabase,
        clock: &WorldClock,
        mailbox: &Mailbox,
        measured: Option<&Measured>,
        settings: &Settings,
        seed: u64,
    ) -> Cloud {
        // Receivers of tests are at the loopback address.
        let options = Options { allow_private: true, lookup: Some(Arc::new(NoNames)), ..Options::default() };
        let courier = Outgoing::new(options, Arc::new(clock.clone())).expect("requests can be sent");
        let simulator: Arc<dyn Driver> = Arc::new(Simulator::new());
        let region = |name: &str, mode| {
            (Region { name: name.to_owned(), driver: "simulator".to_owned(), mode }, simulator.clone())
        };
        let mut regions = vec![
            region("local", Mode::Live),
            region("us-east", Mode::Test),
            region("eu-west", Mode::Test),
            region("ap-south", Mode::Test),
        ];
        regions.extend(measured.map(|measured| {
            let region = Region { name: MEASURED.to_owned(), driver: MEASURED.to_owned(), mode: Mode::Live };
            let driver: Arc<dyn Driver> = Arc::new(measured.clone());
            (region, driver)
        }));
        Cloud::new(Parts {
            store: database.store().clone(),
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(seed)),
            settings: settings.clone(),
            master_key: MASTER_KEY,
            courier: Arc::new(courier),
            regions,
            mailer: Arc::new(mailbox.clone()),
        })
    }

    /// Another process of the same installation, at the same time; its background does not run.
    pub fn replica(&self, seed: u64) -> Cloud {
        Self::cloud_over(&self.database, &self.clock, &self.mailbox, self.measured.as_ref(), &self.settings, seed)
    }

    /// Another process of the same installation, whose clock stands at another time.
    pub fn replica_at(&self, seed: u64, now: Timestamp) -> Cloud {
        Self::cloud_over(
            &self.database,
            &WorldClock::at(now),
            &self.mailbox,
            self.measured.as_ref(),
            &self.settings,
            seed,
        )
    }

    /// The same, with its background running.
    pub async fn started(engine: Engine) -> Self {
        let mut world = Self::new(engine).await;
        world.start().await;
        world
    }

    /// The bodies that are kept for idempotency keys, as they are kept.
    ///
    /// # Panics
    /// When they can't be read.
    pub async fn kept_answers(&self) -> Vec<Vec<u8>> {
        nephos_store::testing::kept_answers(self.database.store()).await
    }

    /// Starts the background.
    ///
    /// # Panics
    /// When it can't start.
    pub async fn start(&mut self) {
        self.background = Some(self.cloud.start().await.expect("the background starts"));
    }

    /// Ends the process as `kill -9` does, as far as the rows can tell, until [`World::crash`] starts another: time that
    /// passes meanwhile passes at once.
    pub fn halt(&mut self) {
        self.background = None;
    }

    /// Ends the process as `kill -9` does, as far as the rows can tell, and starts another.
    ///
    /// # Panics
    /// When it can't start.
    pub async fn crash(&mut self, seed: u64) {
        // Dropping ends the tasks at their next await, without a word to anybody.
        self.background = None;
        self.cloud =
            Self::cloud_over(&self.database, &self.clock, &self.mailbox, self.measured.as_ref(), &self.settings, seed);
        self.start().await;
    }

    /// A caller of a new workspace, with every scope and no limits.
    ///
    /// # Panics
    /// When the rows can't be written.
    pub async fn caller(&self, role: Role, mode: Mode) -> Arc<Caller> {
        let store = self.database.store();
        let tenant = nephos_store::tenant::Tenant {
            id: store.next_tenant().await.expect("a tenant's id"),
            workspace_id: self.cloud.id(),
            mode,
            epoch: 1,
            is_current: true,
            clock_ahead_us: 0,
        };
        let now = self.clock.now();
        let workspace = Workspace {
            id: tenant.workspace_id,
            name: tenant.workspace_id.to_string(),
            plan: "unlimited".to_owned(),
            suspended_at: None,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        // Every workspace has an Owner, whatever role this caller is to have.
        let member = Member {
            id: self.cloud.id(),
            user_id: self.cloud.id(),
            email: String::new(),
            role: Role::Owner,
            version: 1,
            created_at: now,
            updated_at: now,
        };
        let mut batch: Batch = nephos_store::workspace::insert(&workspace).into();
        let email = format!("{}@people.example", member.user_id);
        batch.push(nephos_store::member::insert_user(member.user_id, &email, now));
        batch.extend(nephos_store::member::insert(workspace.id, &member));
        batch.extend(nephos_store::tenant::insert(&tenant, now));
        batch.extend(self.cloud.first_project(tenant.id, now));
        batch.push(nephos_store::counter::take(tenant.id, "quota.projects", 1, 1));
        store.write(batch).await.expect("a workspace's rows");
        Arc::new(Caller {
            workspace_id: tenant.workspace_id,
            mode,
            tenant: tenant.id,
            clock_ahead: Duration::ZERO,
            member_id: member.id,
            role,
            key_id: Some(self.cloud.id()),
            proof: Proof::default(),
            scopes: Scopes::EVERY,
            project_id: None,
            environment_id: None,
            limits: Arc::new(Limits::unlimited()),
        })
    }

    /// A grant to a caller.
    ///
    /// # Panics
    /// When the caller may not.
    pub fn grant<P: Permission>(&self, caller: &Arc<Caller>) -> Grant<P> {
        let request = Arc::new(Request {
            id: self.cloud.id(),
            client_request_id: None,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            trace: None,
        });
        caller.permit(&request).expect("the caller may")
    }

    /// Moves the clock by half a second at a time until `done` answers something.
    ///
    /// # Panics
    /// When it does not for too long.
    pub async fn until<T, F: Future<Output = Option<T>>>(&self, mut done: impl FnMut() -> F) -> T {
        for _ in 0..MOVES_MAX {
            if let Some(value) = done().await {
                return value;
            }
            self.quiet().await;
            // Where rows are numbered as they are written, no sequencer sleeps.
            let idle = IDLE_TASKS - usize::from(self.database.store().numbers_at_once());
            self.clock.advance_settled(Duration::from_millis(500), idle).await;
        }
        panic!("it did not become true in {MOVES_MAX} moves of the clock");
    }

    /// Waits until no look at a compute is under way: their work with the database takes real time.
    ///
    /// # Panics
    /// When they take longer than any test should.
    async fn quiet(&self) {
        let mut looks = self.cloud.looks();
        let quiet = tokio::time::timeout(QUIET_MAX, looks.wait_for(|looks| *looks == 0)).await;
        assert!(quiet.is_ok(), "looks at computes do not end");
    }
}
