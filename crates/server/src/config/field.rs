//! What a configuration key can hold: each type reads itself from TOML and from the text of a variable or flag.
//!
//! Deliberately not here: which keys there are, and rules that span several keys.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use lettre::Address;
use lettre::message::Mailbox;
use nephos_model::name::Hostname;
use nephos_model::region::Region;
use nephos_model::sandbox::ResetTime;
use nephos_model::size::Size;
use nephos_model::tenant::Mode;
use serde::{Deserialize, Serialize};
use toml::Value;

/// A type that a key can have.
pub trait Field: Sized {
    /// What is expected, after "expects".
    const EXPECTS: &'static str;
    /// From a value of the file. The error names what is wrong, `None` when the type alone is wrong.
    fn from_value(value: Value) -> Result<Self, Option<String>>;
    /// From the text of an environment variable or a flag.
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        Self::from_value(Value::String(text.to_owned()))
    }
    /// As `nephos config check` prints it, secrets hidden; `None` when it has no value.
    fn shown(&self) -> Option<Value>;
}

impl Field for bool {
    const EXPECTS: &'static str = "true or false";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        value.as_bool().ok_or(None)
    }
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        match text {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(None),
        }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

/// A whole number between `MIN` and `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranged<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Field for Ranged<MIN, MAX> {
    const EXPECTS: &'static str = "a whole number";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let number = value.as_integer().ok_or(None)?;
        match u32::try_from(number) {
            Ok(n) if (MIN..=MAX).contains(&n) => Ok(Self(n)),
            _ => Err(Some(format!("{number} is out of range: it goes from {MIN} to {MAX}"))),
        }
    }
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        Self::from_value(Value::Integer(text.parse().map_err(|_| None)?))
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::Integer(self.0.into()))
    }
}

impl Field for PathBuf {
    const EXPECTS: &'static str = "a path";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        if text.is_empty() { Err(Some("the path is empty".to_owned())) } else { Ok(Self::from(text)) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.to_string_lossy().into_owned()))
    }
}

impl Field for SocketAddr {
    const EXPECTS: &'static str = "an IP address and a port, such as 127.0.0.1:7600 or [::1]:7600";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        value.as_str().and_then(|t| t.parse().ok()).ok_or(None)
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl<T: Field> Field for Option<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        T::from_value(value).map(Some)
    }
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        T::from_text(text).map(Some)
    }
    fn shown(&self) -> Option<Value> {
        self.as_ref().and_then(Field::shown)
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $expects:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The text in the file.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }

        impl Field for $name {
            const EXPECTS: &'static str = $expects;
            fn from_value(value: Value) -> Result<Self, Option<String>> {
                match value.as_str() { $(Some($text) => Ok(Self::$variant),)* _ => Err(None) }
            }
            fn shown(&self) -> Option<Value> { Some(Value::String(self.as_str().to_owned())) }
        }
    };
}

choice! {
    /// Which driver runs the computes of the regions that name none.
    DriverChoice, "auto, qemu or simulator" {
        /// QEMU; where it can't run, its regions are unavailable with the reason.
        Auto = "auto",
        /// QEMU.
        Qemu = "qemu",
        /// Nothing runs: the states of computes are played.
        Simulator = "simulator",
    }
}

choice! {
    /// How log lines look.
    LogFormat, "text or json" {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// From which severity on lines are logged.
    LogLevel, "error, warn, info, debug or trace" {
        /// Only what needs a person.
        Error = "error",
        /// Also what may need one.
        Warn = "warn",
        /// Also starts, stops and changes.
        Info = "info",
        /// Also every request.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// In which header trusted proxies tell the client's address.
    ForwardedHeader, "x-forwarded-for or forwarded" {
        /// Addresses separated by commas.
        XForwardedFor = "x-forwarded-for",
        /// RFC 7239.
        Forwarded = "forwarded",
    }
}

/// Where metrics and readiness details are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminListen {
    /// On the loopback address, one port above `listen` (a free port when that one is 0).
    Auto,
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl Field for AdminListen {
    const EXPECTS: &'static str = "auto, off, or an IP address and a port such as 127.0.0.1:7601";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        match value.as_str().ok_or(None)? {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| None),
        }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(match self {
            Self::Auto => "auto".to_owned(),
            Self::Off => "off".to_owned(),
            Self::At(address) => address.to_string(),
        }))
    }
}

/// Scheme, host and port of a web address, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub String);

impl Field for Origin {
    const EXPECTS: &'static str = "an origin without a path, such as https://cloud.example.com";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?.trim_end_matches('/').to_ascii_lowercase();
        let uri: http::Uri = text.parse().map_err(|_| None)?;
        let plain = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty())
            && uri.query().is_none()
            && matches!(uri.path(), "" | "/");
        if plain { Ok(Self(text)) } else { Err(None) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// A web address to which paths are added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(pub String);

impl Field for Endpoint {
    const EXPECTS: &'static str = "a web address without query, such as http://127.0.0.1:4318";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?.trim_end_matches('/');
        let uri: http::Uri = text.parse().map_err(|_| None)?;
        let plain = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|a| !a.as_str().contains('@') && !a.host().is_empty())
            && uri.query().is_none();
        if plain { Ok(Self(text.to_owned())) } else { Err(None) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// One line of text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(pub String);

impl Field for Line {
    const EXPECTS: &'static str = "a line of text, at most 200 characters";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let fits = !text.is_empty() && text.chars().count() <= 200 && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(None) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// A host name of at most 253 characters, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(pub String);

impl Field for Host {
    const EXPECTS: &'static str = "a host name without scheme or port, such as sandbox.example.com";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?.to_ascii_lowercase();
        let named = text.len() <= 253 && text.split('.').all(|label| Hostname::from_str(label).is_ok());
        if named { Ok(Self(text)) } else { Err(None) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// When sandboxes are reset every day, if ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyReset(pub Option<ResetTime>);

impl Field for DailyReset {
    const EXPECTS: &'static str = "a time of day in UTC as HH:MM, such as 03:00, or off";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        match value.as_str().ok_or(None)? {
            "off" => Ok(Self(None)),
            text => text.parse().map(|at| Self(Some(at))).map_err(|()| None),
        }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.map_or_else(|| "off".to_owned(), |at| at.to_string())))
    }
}

/// A code of ISO 4217.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Currency(pub String);

impl Field for Currency {
    const EXPECTS: &'static str = "a currency code of three capital letters, such as USD";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let code = text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase());
        if code { Ok(Self(text.to_owned())) } else { Err(None) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.clone()))
    }
}

/// Where a PostgreSQL database is. Its password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The whole text, for the connection only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        // The last @ before the path ends the user and password, whatever characters a careless password holds.
        let path = rest.find(['/', '?']).unwrap_or(rest.len());
        let host = rest[..path].rfind('@').or_else(|| rest.rfind('@'));
        let (user, host) = host.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]));
        let (host, query) = host.split_once('?').map_or((host, None), |(h, q)| (h, Some(q)));
        write!(f, "{scheme}://")?;
        if let Some(user) = user {
            match user.split_once(':') {
                Some((name, _)) => write!(f, "{name}:***@")?,
                None => write!(f, "{user}@")?,
            }
        }
        f.write_str(host)?;
        for (i, pair) in query.into_iter().flat_map(|q| q.split('&')).enumerate() {
            let hidden = pair.starts_with("password=");
            write!(f, "{}{}", if i == 0 { '?' } else { '&' }, if hidden { "password=***" } else { pair })?;
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for DatabaseUrl {
    const EXPECTS: &'static str = "a PostgreSQL address such as postgres://user:password@host:5432/nephos; without one the embedded SQLite is used";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")).ok_or(None)?;
        if rest.is_empty() { Err(None) } else { Ok(Self(text.to_owned())) }
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// Where a mail server is. Its password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpUrl(String);

impl SmtpUrl {
    /// The whole text, for the connection only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rsplit_once('@') {
            None => f.write_str(&self.0),
            Some((sender, host)) => {
                let (scheme, user) = sender.split_once("://").unwrap_or(("smtp", sender));
                let user = user.split_once(':').map_or(user, |(name, _)| name);
                write!(f, "{scheme}://{user}:***@{host}")
            }
        }
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for SmtpUrl {
    const EXPECTS: &'static str = "the address of a mail server: smtps://user:password@host, smtp://user:password@host:587?tls=required, or smtp://localhost";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        let uri: http::Uri = text.parse().map_err(|_| None)?;
        let scheme = uri.scheme_str().ok_or(None)?.to_owned();
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(None)?.trim_matches(['[', ']']).to_owned();
        if !matches!(scheme.as_str(), "smtp" | "smtps") || !matches!(uri.path(), "" | "/") {
            return Err(None);
        }
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let is_private = scheme == "smtps" || uri.query().is_some_and(|query| query == "tls=required");
        if !is_here && !is_private {
            return Err(Some(
                "letters would cross the network in the clear: write smtps://, or ?tls=required behind the address"
                    .to_owned(),
            ));
        }
        Ok(Self(text.to_owned()))
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// From whom letters are: an address, or a name with an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(pub Mailbox);

impl Default for Sender {
    fn default() -> Self {
        let address = Address::new("nephos", "localhost");
        // Both parts are what an address takes; a test reads the default.
        Self(Mailbox::new(Some("nephos".to_owned()), address.expect("a sender")))
    }
}

impl Field for Sender {
    const EXPECTS: &'static str = "an e-mail address, such as cloud@example.com or \"Our cloud <cloud@example.com>\"";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        value.as_str().and_then(|text| text.parse().ok()).map(Self).ok_or(None)
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.to_string()))
    }
}

/// Several values; as text, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

impl<T: Field> Field for List<T> {
    const EXPECTS: &'static str = T::EXPECTS;
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let Value::Array(items) = value else { return Err(Some("it takes a list, in square brackets".to_owned())) };
        items.into_iter().map(T::from_value).collect::<Result<_, _>>().map(Self)
    }
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(T::from_text).collect::<Result<_, _>>().map(Self)
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::Array(self.0.iter().filter_map(Field::shown).collect()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionTable {
    name: String,
    driver: Option<String>,
}

/// The regions. A region without a driver takes the one that `driver` chooses, written `auto` until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Regions(pub Vec<Region>);

impl Regions {
    fn read(tables: Vec<RegionTable>) -> Result<Self, Option<String>> {
        let mut regions: Vec<Region> = Vec::new();
        for table in tables {
            Hostname::from_str(&table.name).map_err(|e| Some(format!("the region name {:?} {e}", table.name)))?;
            if regions.iter().any(|r| r.name == table.name) {
                return Err(Some(format!("the region {:?} is there twice", table.name)));
            }
            let driver = table.driver.unwrap_or_else(|| "auto".to_owned());
            if DriverChoice::from_text(&driver).is_err() {
                return Err(Some(format!(
                    "the region {:?} names the driver {driver:?}; the drivers are qemu and simulator",
                    table.name
                )));
            }
            regions.push(Region { name: table.name, driver, mode: Mode::Live });
        }
        if regions.is_empty() { Err(Some("there must be at least one region".to_owned())) } else { Ok(Self(regions)) }
    }
}

impl Field for Regions {
    const EXPECTS: &'static str = "tables [[regions]] with name and driver";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        Self::read(value.try_into().map_err(|e: toml::de::Error| Some(e.message().to_owned()))?)
    }
    fn from_text(text: &str) -> Result<Self, Option<String>> {
        let pairs = text.split(',').map(|pair| {
            let (name, driver) = pair.trim().split_once('=').map_or((pair.trim(), None), |(n, d)| (n, Some(d)));
            RegionTable { name: name.to_owned(), driver: driver.map(str::to_owned) }
        });
        Self::read(pairs.collect())
    }
    fn shown(&self) -> Option<Value> {
        let tables = self.0.iter().map(|r| RegionTable { name: r.name.clone(), driver: Some(r.driver.clone()) });
        Value::try_from(tables.collect::<Vec<_>>()).ok()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeTable {
    name: String,
    vcpus: u32,
    memory_mib: u32,
    disk_gib: u32,
    running_microunits_per_hour: i64,
    #[serde(default)]
    stopped_microunits_per_hour: i64,
}

/// The sizes; the first one is what a compute gets that asks for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(pub Vec<Size>);

/// Virtual processors of one size at most.
pub const SIZE_VCPUS_MAX: u32 = 256;
/// Memory of one size at most: 4 TiB.
pub const SIZE_MEMORY_MIB_MAX: u32 = 4 * 1024 * 1024;
/// Memory of one size at least; no kernel boots in less.
pub const SIZE_MEMORY_MIB_MIN: u32 = 64;
/// Root disk of one size at most: 64 TiB.
pub const SIZE_DISK_GIB_MAX: u32 = 64 * 1024;
/// Price of one hour at most: a million units.
pub const SIZE_MICROUNITS_MAX: i64 = 1_000_000_000_000;

impl Field for Sizes {
    const EXPECTS: &'static str = "tables [[sizes]] in the file";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        if value.is_str() {
            return Err(Some("sizes can only be set in the file, as tables [[sizes]]".to_owned()));
        }
        let tables: Vec<SizeTable> = value.try_into().map_err(|e: toml::de::Error| Some(e.message().to_owned()))?;
        let mut sizes: Vec<Size> = Vec::new();
        for t in tables {
            let wrong = |what: String| Err(Some(format!("the size {:?}: {what}", t.name)));
            if let Err(e) = Hostname::from_str(&t.name) {
                return wrong(format!("its name {e}"));
            }
            if sizes.iter().any(|s| s.name == t.name) {
                return wrong("it is there twice".to_owned());
            }
            for (key, value, min, max) in [
                ("vcpus", i64::from(t.vcpus), 1, i64::from(SIZE_VCPUS_MAX)),
                ("memory_mib", i64::from(t.memory_mib), i64::from(SIZE_MEMORY_MIB_MIN), i64::from(SIZE_MEMORY_MIB_MAX)),
                ("disk_gib", i64::from(t.disk_gib), 1, i64::from(SIZE_DISK_GIB_MAX)),
                ("running_microunits_per_hour", t.running_microunits_per_hour, 0, SIZE_MICROUNITS_MAX),
                ("stopped_microunits_per_hour", t.stopped_microunits_per_hour, 0, SIZE_MICROUNITS_MAX),
            ] {
                if !(min..=max).contains(&value) {
                    return wrong(format!("{key} = {value} is out of range: it goes from {min} to {max}"));
                }
            }
            sizes.push(Size {
                name: t.name,
                vcpus: t.vcpus,
                memory_mib: t.memory_mib,
                disk_gib: t.disk_gib,
                running_microunits_per_hour: t.running_microunits_per_hour,
                stopped_microunits_per_hour: t.stopped_microunits_per_hour,
            });
        }
        if sizes.is_empty() { Err(Some("there must be at least one size".to_owned())) } else { Ok(Self(sizes)) }
    }
    fn shown(&self) -> Option<Value> {
        let tables = self.0.iter().map(|s| SizeTable {
            name: s.name.clone(),
            vcpus: s.vcpus,
            memory_mib: s.memory_mib,
            disk_gib: s.disk_gib,
            running_microunits_per_hour: s.running_microunits_per_hour,
            stopped_microunits_per_hour: s.stopped_microunits_per_hour,
        });
        Value::try_from(tables.collect::<Vec<_>>()).ok()
    }
}
