//! The configuration: one typed value from defaults < TOML file < `NEPHOS_*` variables < flags.
//!
//! Every key is one line of the table below; its default, its type, the variable, the check of `nephos config check` and
//! the reference in `nephos config keys` all follow from it. All problems are reported, each with the key, where it was
//! set, and the way out. Deliberately not here: what the values are used for.

#![allow(clippy::doc_markdown)] // these texts are printed, where Markdown would be noise

mod field;
mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nephos_control::settings::AUDIT_KEPT_DAYS;
use nephos_model::region::Region;
use nephos_model::sandbox::ResetTime;
use nephos_model::size::Size;
use nephos_model::tenant::Mode;
use toml::Value;

pub use field::{
    AdminListen, Currency, DailyReset, DatabaseUrl, DriverChoice, Endpoint, Field, ForwardedHeader, Host, Line, List,
    LogFormat, LogLevel, Origin, Ranged, Regions, Sender, Sizes, SmtpUrl,
};
pub use limits::{Network, Plans, named_limits};

/// The port of the API when none is given.
pub const PORT_DEFAULT: u16 = 7600;
/// Bytes of a configuration file at most.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The file that is read when none is named and the data directory has none.
pub const SYSTEM_FILE: &str = "/etc/nephos/nephos.toml";
/// The name of the file in the data directory.
pub const FILE_NAME: &str = "nephos.toml";
/// Variables that are not keys: for the client, for the choice of the file.
const OTHER_VARIABLES: &[&str] = &["NEPHOS_URL", "NEPHOS_CONFIG"];
/// Variables that container platforms set for a service of this name, and that tests use.
const FOREIGN_PREFIXES: &[&str] = &["NEPHOS_SERVICE_", "NEPHOS_PORT", "NEPHOS_TEST_"];

/// What is known of a key.
#[derive(Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What it takes.
    pub expects: &'static str,
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("NEPHOS_{}", self.name.to_ascii_uppercase())
    }
}

enum Raw {
    Value(Value),
    Text(String),
}

fn read<T: Field>(raw: Raw) -> Result<T, Option<String>> {
    match raw {
        Raw::Value(value) => T::from_value(value),
        Raw::Text(text) => T::from_text(&text),
    }
}

macro_rules! keys {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*) => {
        /// The effective configuration.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config { $($(#[doc = $doc])+ pub $name: $type,)* }

        /// Every key, in the order of the reference.
        pub const KEYS: &[Key] = &[
            $(Key { name: stringify!($name), about: concat!($($doc),+), expects: <$type as Field>::EXPECTS },)*
        ];

        impl Config {
            fn defaults(data_dir: PathBuf) -> Self {
                let mut config = Self { $($name: $default,)* };
                config.data_dir = data_dir;
                config
            }

            fn set(&mut self, key: &str, raw: Raw) -> Result<(), Option<String>> {
                match key {
                    $(stringify!($name) => self.$name = read::<$type>(raw)?,)*
                    _ => return Err(Some("there is no such key".to_owned())),
                }
                Ok(())
            }

            fn shown(&self, key: &str) -> Option<Value> {
                match key { $(stringify!($name) => self.$name.shown(),)* _ => None }
            }
        }
    };
}

keys! {
    /// Folder of the database, keys, images and disks. Created with mode 0700.
    data_dir: PathBuf = PathBuf::new();
    /// Address of the API. Port 0 takes a free one.
    listen: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT);
    /// Address of metrics and readiness details; auto is the loopback address, one port above listen.
    admin_listen: AdminListen = AdminListen::Auto;
    /// The address that clients use, for links and tokens. Without one it is http and the address of listen.
    origin: Option<Origin> = None;
    /// What runs the computes of regions that name no driver.
    driver: DriverChoice = DriverChoice::Auto;
    /// A PostgreSQL database instead of the embedded SQLite.
    database: Option<DatabaseUrl> = None;
    /// File of the master key, equal on all replicas. Without one it is keys/master in the data folder.
    master_key_file: Option<PathBuf> = None;
    /// A proxy in front ends TLS: allows a listener that others reach. Whom it forwards for is believed only when it is a trusted proxy.
    behind_proxy: bool = false;
    /// Addresses and networks of proxies that are believed about the client's address. The client is then the rightmost address in the forwarded header that is none of them.
    trusted_proxies: List<Network> = List(Vec::new());
    /// The one header in which trusted proxies tell the client's address: each must append to it, or set it anew.
    forwarded_header: ForwardedHeader = ForwardedHeader::XForwardedFor;
    /// Allows a listener without TLS that others reach: keys cross the network in the clear.
    insecure: bool = false;
    /// Webhooks may lead to private, local and reserved addresses, and to http. For development: whoever makes a webhook can then make this server send requests into its own network.
    private_targets: bool = false;
    /// How log lines look.
    log: LogFormat = LogFormat::Text;
    /// From which severity on lines are logged.
    log_level: LogLevel = LogLevel::Info;
    /// Each request leaves a log line, whatever log_level is; at debug and trace it does anyway.
    access_log: bool = false;
    /// The base URL of a receiver of traces (OTLP over HTTP). Without one OTEL_EXPORTER_OTLP_ENDPOINT, without that none.
    telemetry_otlp_endpoint: Option<Endpoint> = None;
    /// Of the traces that begin here, so many of a hundred are sent; those that clients began are sent as they ask.
    telemetry_sample_percent: Ranged<0, 100> = Ranged(100);
    /// The mail server, such as smtps://user:password@mail.example.com. Without one letters are files in DIR/mail.
    mail_smtp_url: Option<SmtpUrl> = None;
    /// From whom letters are.
    mail_from: Sender = Sender::default();
    /// Where computes run; the first is the default.
    regions: Regions = Regions(vec![Region { name: "local".to_owned(), driver: "auto".to_owned(), mode: Mode::Live }]);
    /// What computes can be; the first is the default. Prices in millionths of the currency's unit.
    sizes: Sizes = Sizes(default_sizes());
    /// The currency of all prices.
    currency: Currency = Currency("USD".to_owned());
    /// Virtual processors that may be promised, in percent of those the host has.
    vcpus_overcommit_percent: Ranged<10, 10_000> = Ranged(400);
    /// Memory that may be promised, in percent of what the host has.
    memory_overcommit_percent: Ranged<10, 1_000> = Ranged(100);
    /// Disk that may be promised, in percent of what the host has.
    disk_overcommit_percent: Ranged<10, 1_000> = Ranged(100);
    /// Hosts on which every base URL is the sandbox's.
    sandbox_hosts: List<Host> = List(Vec::new());
    /// The time of day, UTC, at which every sandbox is reset.
    sandbox_reset_at: DailyReset = DailyReset(Some(ResetTime::DEFAULT));
    /// Days for which rows of the audit log are kept; what is older is removed, and the rest can still be verified.
    audit_kept_days: Ranged<30, 36_500> = Ranged(AUDIT_KEPT_DAYS);
    /// Whom to ask, named in refusals: an e-mail address or a web address.
    support_contact: Option<Line> = None;
    /// Plans beside standard, partner and unlimited, or instead of them. What a plan leaves out is as in standard; "none" is no limit.
    plans: Plans = Plans(Vec::new());
    /// Web origins whose pages may call the API from a browser.
    cors_origins: List<Origin> = List(Vec::new());
    /// Bytes of a request's body at most.
    body_bytes_max: Ranged<65_536, 67_108_864> = Ranged(1_048_576);
    /// Seconds that a guest has to shut down before its power is cut.
    stop_deadline_s: Ranged<1, 3_600> = Ranged(30);
    /// Seconds that requests under way have when the server stops.
    drain_deadline_s: Ranged<1, 3_600> = Ranged(30);
}

fn default_sizes() -> Vec<Size> {
    // A stopped compute costs what its disk costs: 100 millionths per GiB and hour.
    [
        ("nano", 1, 128, 1, 2_000),
        ("micro", 1, 512, 5, 6_000),
        ("small", 1, 1_024, 10, 12_000),
        ("medium", 2, 2_048, 20, 24_000),
        ("large", 4, 8_192, 80, 80_000),
        ("xlarge", 8, 16_384, 160, 160_000),
    ]
    .into_iter()
    .map(|(name, vcpus, memory_mib, disk_gib, running)| Size {
        name: name.to_owned(),
        vcpus,
        memory_mib,
        disk_gib,
        running_microunits_per_hour: running,
        stopped_microunits_per_hour: i64::from(disk_gib) * 100,
    })
    .collect()
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: the default.
    Default,
    /// In the file, on this line.
    File(PathBuf, usize),
    /// By an environment variable.
    Variable(String),
    /// By a flag.
    Flag(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::Flag(name) => write!(f, "the flag --{name}"),
        }
    }
}

/// Everything that is wrong with a configuration; at least one problem.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What a configuration is made from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// Keys and texts of flags.
    pub flags: Vec<(&'static str, String)>,
    /// The environment's variables; only those that start with `NEPHOS_` are looked at.
    pub variables: Vec<(String, String)>,
    /// The folder when nobody names one.
    pub data_dir_default: PathBuf,
    /// Folders in which a file is looked for when nobody names one, besides the data directory.
    pub system_file: Option<PathBuf>,
}

impl Sources {
    /// The process's own environment, with `flags` on top.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("NEPHOS_"))
            .collect();
        let system_file = Some(PathBuf::from(SYSTEM_FILE));
        Self { file, flags, variables, data_dir_default: data_dir_default(), system_file }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// The file to read, and whether it must be there.
    fn file(&self) -> Option<PathBuf> {
        if let Some(path) = self.file.clone().or_else(|| self.variable("NEPHOS_CONFIG").map(PathBuf::from)) {
            return Some(path);
        }
        let flag = self.flags.iter().find(|(key, _)| *key == "data_dir").map(|(_, text)| text.as_str());
        let dir = flag.or_else(|| self.variable("NEPHOS_DATA_DIR")).map(PathBuf::from);
        let own = dir.unwrap_or_else(|| self.data_dir_default.clone()).join(FILE_NAME);
        [Some(own), self.system_file.clone()].into_iter().flatten().find(|path| path.exists())
    }
}

/// `/var/lib/nephos` for root; otherwise `nephos` in the user's folder for data.
fn data_dir_default() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/nephos");
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|p| p.is_absolute()).or_else(home);
    data.map_or_else(|| PathBuf::from("nephos-data"), |data| data.join("nephos"))
}

/// A configuration, with where each of its values was set.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    places: BTreeMap<&'static str, Place>,
}

impl Loaded {
    /// Reads all sources. The error holds every problem.
    pub fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut loaded = Self {
            config: Config::defaults(sources.data_dir_default.clone()),
            file: sources.file(),
            places: BTreeMap::new(),
        };
        if let Some(path) = loaded.file.clone() {
            match file_entries(&path) {
                Ok(entries) => {
                    for (key, value, line) in entries {
                        if key == "data_dir" && loaded.found_through_folder(sources) {
                            problems.push(format!(
                                "{}, line {line}: `data_dir` can't be set by a file that lies in the data folder; give --data-dir, or name the file with --config",
                                path.display()
                            ));
                            continue;
                        }
                        loaded.put(&key, Raw::Value(value), Place::File(path.clone(), line), &mut problems);
                    }
                }
                Err(mut found) => problems.append(&mut found),
            }
        }
        for (name, value) in &sources.variables {
            let known =
                OTHER_VARIABLES.contains(&name.as_str()) || FOREIGN_PREFIXES.iter().any(|p| name.starts_with(p));
            // An empty variable is an unset one, as container files have it.
            if known || value.is_empty() {
                continue;
            }
            if let Some(key) = name.strip_prefix("NEPHOS_") {
                let key = key.to_ascii_lowercase();
                loaded.put(&key, Raw::Text(value.clone()), Place::Variable(name.clone()), &mut problems);
            }
        }
        for (key, text) in &sources.flags {
            loaded.put(key, Raw::Text(text.clone()), Place::Flag(key.replace('_', "-")), &mut problems);
        }
        loaded.cross_check(&mut problems);
        if problems.is_empty() { Ok(loaded) } else { Err(ConfigError(problems)) }
    }

    /// Whether the file was found through the data folder, which it then can't move.
    fn found_through_folder(&self, sources: &Sources) -> bool {
        let named = sources.file.is_some() || sources.variable("NEPHOS_CONFIG").is_some();
        !named && self.file != sources.system_file
    }

    fn put(&mut self, key: &str, raw: Raw, place: Place, problems: &mut Vec<String>) {
        let Some(known) = KEYS.iter().find(|k| k.name == key) else {
            let near = nearest(key, KEYS.iter().map(|k| k.name));
            let hint = near.map_or_else(
                || "`nephos config keys` lists those there are".to_owned(),
                |near| match &place {
                    Place::Variable(_) => format!("did you mean NEPHOS_{}?", near.to_ascii_uppercase()),
                    _ => format!("did you mean `{near}`?"),
                },
            );
            problems.push(format!("{place}: there is no key `{key}`; {hint}"));
            return;
        };
        // An earlier layer may be wrong and overruled: it is still reported, because it is still there to be mended.
        match self.config.set(key, raw) {
            Ok(()) => {
                self.places.insert(known.name, place);
            }
            Err(Some(why)) => problems.push(format!("{place}: `{key}`: {why}")),
            Err(None) => problems.push(format!("{place}: `{key}` expects {}", known.expects)),
        }
    }

    fn cross_check(&mut self, problems: &mut Vec<String>) {
        let config = &mut self.config;
        for region in &mut config.regions.0 {
            if region.driver == "auto" {
                let chosen = match config.driver {
                    DriverChoice::Auto | DriverChoice::Qemu => "qemu",
                    DriverChoice::Simulator => "simulator",
                };
                chosen.clone_into(&mut region.driver);
            }
        }
        if !config.listen.ip().is_loopback() && !config.behind_proxy && !config.insecure {
            problems.push(format!(
                "`listen` = {} is reached by others and has no TLS: keys would cross the network in the clear. Put a \
                 proxy that ends TLS in front and give --behind-proxy, listen on 127.0.0.1, or accept it with --insecure",
                config.listen
            ));
        }
        if let AdminListen::At(address) = config.admin_listen
            && address == config.listen
            && address.port() != 0
        {
            problems.push(format!(
                "`admin_listen` and `listen` are both {address}; give them different ports, or admin_listen = \"off\""
            ));
        }
    }

    /// The effective configuration as TOML, secrets hidden, each value with where it was set.
    pub fn to_toml(&self) -> String {
        use std::fmt::Write as _;
        let (mut plain, mut tables) = (String::new(), String::new());
        for key in KEYS {
            let place = self.places.get(key.name).unwrap_or(&Place::Default);
            // Writing to a String can't fail.
            match self.config.shown(key.name) {
                None => _ = writeln!(plain, "# {} is not set", key.name),
                Some(Value::Array(items)) if items.iter().any(Value::is_table) => {
                    for item in &items {
                        _ = write!(
                            tables,
                            "\n[[{}]] # {place}\n{}",
                            key.name,
                            toml::to_string(item).unwrap_or_default()
                        );
                    }
                }
                Some(value) => _ = writeln!(plain, "{} = {value} # {place}", key.name),
            }
        }
        plain + &tables
    }
}

fn file_entries(path: &Path) -> Result<Vec<(String, Value, usize)>, Vec<String>> {
    let shown = path.display();
    let fail = |what: String| vec![format!("{shown}: {what}")];
    let length = std::fs::metadata(path).map_err(|e| fail(format!("can't be read: {e}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(fail(format!("has {length} bytes; a configuration file has at most {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(format!("can't be read: {e}")))?;
    let at = |offset: usize| text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1);
    let syntax = |e: &toml::de::Error| {
        let line = e.span().map_or(1, |span| at(span.start));
        vec![format!("{shown}, line {line}: {}", e.message().replace('\n', "; "))]
    };
    let spans = toml::de::DeTable::parse(&text).map_err(|e| syntax(&e))?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|e| syntax(&e))?;
    let mut entries: Vec<_> = Vec::new();
    for (key, spanned) in spans.get_ref() {
        let name = key.get_ref().to_string();
        let Some(value) = table.remove(&name) else { continue };
        match (value, spanned.get_ref()) {
            // The keys of a section are those that begin with its name: `[telemetry]` and `otlp_endpoint` are
            // `telemetry_otlp_endpoint`.
            (Value::Table(mut section), toml::de::DeValue::Table(inner)) if KEYS.iter().all(|k| k.name != name) => {
                for key in inner.keys() {
                    let below = key.get_ref().to_string();
                    let value = section.remove(&below);
                    entries.extend(value.map(|value| (format!("{name}_{below}"), value, at(key.span().start))));
                }
            }
            (value, _) => entries.push((name, value, at(key.span().start))),
        }
    }
    entries.sort_by_key(|(_, _, line)| *line);
    Ok(entries.into_iter().flat_map(|(name, value, line)| sectioned(name, value, line)).collect())
}

/// The keys of a section: `[sandbox]` with `hosts` is `sandbox_hosts`. A table that is no section stays as it is.
fn sectioned(name: String, value: Value, line: usize) -> Vec<(String, Value, usize)> {
    let is_section = KEYS.iter().all(|key| key.name != name)
        && KEYS.iter().any(|key| key.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_')));
    match value {
        Value::Table(table) if is_section => {
            table.into_iter().map(|(key, value)| (format!("{name}_{key}"), value, line)).collect()
        }
        value => vec![(name, value, line)],
    }
}

/// The name closest to `text`, when it is close enough to be a slip.
pub fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let within = |name: &str| text.len().max(name.len()) / 3 + 1;
    names
        .map(|name| (distance(text, name), name))
        .filter(|(far, name)| *far <= within(name))
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

/// Insertions, removals and replacements between two texts (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(100).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != *cb)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
