//! What the operator decided, as the control plane needs it.

use std::time::Duration;

use nephos_model::sandbox::ResetTime;
use nephos_model::size::Size;

use crate::plan_limits::Limits;

/// Settings of the control plane.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sizes on offer; the first is the default.
    pub sizes: Vec<Size>,
    /// The currency of all prices, ISO 4217.
    pub currency: String,
    /// How much of the host's processors may be promised, in percent.
    pub vcpu_percent: u32,
    /// How much of the host's memory may be promised, in percent.
    pub memory_percent: u32,
    /// How much of the host's disk may be promised, in percent.
    pub disk_percent: u32,
    /// How long a guest may take to shut down before its power is cut.
    pub stop_deadline: Duration,
    /// The web address that tokens name as their issuer and audience; without one it is a name of the installation.
    pub issuer: Option<String>,
    /// The web address under which the installation is reached, for links in letters.
    pub origin: String,
    /// Whom to ask for higher budgets.
    pub support_contact: String,
    /// The operator's own plans; one may have the name of a built-in plan, and is taken instead of it.
    pub plans: Vec<Limits>,
    /// When sandboxes are reset every day; never, if `None`.
    pub sandbox_reset_at: Option<ResetTime>,
    /// How long rows of the audit log are kept.
    pub audit_kept: Duration,
}

/// How long rows of the audit log are kept when the operator does not say: 400 days, a year and a month to look at it.
pub const AUDIT_KEPT_DAYS: u32 = 400;

impl Settings {
    /// The plan of a name, if there is one.
    pub fn plan(&self, name: &str) -> Option<Limits> {
        let own = self.plans.iter().find(|plan| plan.plan == name).cloned();
        own.or_else(|| Limits::built_in(name))
    }

    /// The names of all plans.
    pub fn plan_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Limits::BUILT_IN.to_vec();
        names.extend(self.plans.iter().map(|plan| plan.plan.as_str()).filter(|name| !Limits::BUILT_IN.contains(name)));
        names
    }
}

impl Default for Settings {
    fn default() -> Self {
        let size = |name: &str, vcpus, memory_mib, disk_gib, price| Size {
            name: name.to_owned(),
            vcpus,
            memory_mib,
            disk_gib,
            running_microunits_per_hour: price,
            stopped_microunits_per_hour: price / 5,
        };
        Self {
            sizes: vec![
                size("nano", 1, 128, 1, 1_000),
                size("micro", 1, 512, 5, 3_000),
                size("small", 1, 1_024, 10, 6_000),
                size("medium", 2, 4_096, 40, 20_000),
                size("large", 4, 8_192, 80, 40_000),
            ],
            currency: "EUR".to_owned(),
            vcpu_percent: 400,
            memory_percent: 100,
            disk_percent: 100,
            stop_deadline: Duration::from_secs(60),
            issuer: None,
            origin: "http://127.0.0.1:7600".to_owned(),
            support_contact: "the operator of this installation".to_owned(),
            plans: Vec::new(),
            sandbox_reset_at: Some(ResetTime::DEFAULT),
            audit_kept: Duration::from_secs(u64::from(AUDIT_KEPT_DAYS) * 86_400),
        }
    }
}
