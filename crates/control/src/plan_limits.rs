//! What a workspace's plan allows: budgets of requests and quotas of resources.

/// Budgets and quotas. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Name of the plan.
    pub plan: String,
    /// Platform: requests of one key in any 60 seconds.
    pub key_per_60_s: Option<u32>,
    /// Platform: requests of the workspace in any 600 seconds.
    pub workspace_per_600_s: Option<u32>,
    /// Strettch: reads of one key in a calendar second.
    pub reads_per_second: Option<u32>,
    /// Strettch: writes of one key in a calendar second.
    pub writes_per_second: Option<u32>,
    /// Projects at most.
    pub projects: Option<u32>,
    /// Computes at most.
    pub computes: Option<u32>,
    /// Virtual processors of all computes at most.
    pub vcpus: Option<u32>,
    /// Memory of all computes at most, in MiB.
    pub memory_mib: Option<u32>,
    /// Disk of all computes at most, in GiB.
    pub disk_gib: Option<u32>,
    /// API keys that work, at most.
    pub api_keys: Option<u32>,
    /// Webhooks at most.
    pub webhooks: Option<u32>,
    /// Members at most.
    pub members: Option<u32>,
    /// SSH keys at most.
    pub ssh_keys: Option<u32>,
}

impl Limits {
    /// Names of the plans that every installation has.
    pub const BUILT_IN: &'static [&'static str] = &["standard", "partner", "unlimited"];

    /// The plan `standard`: the documented budgets.
    pub fn standard() -> Self {
        Self {
            plan: "standard".to_owned(),
            key_per_60_s: Some(120),
            workspace_per_600_s: Some(600),
            reads_per_second: Some(30),
            writes_per_second: Some(5),
            projects: Some(100),
            computes: Some(100),
            vcpus: Some(400),
            memory_mib: Some(1_048_576),
            disk_gib: Some(10_240),
            api_keys: Some(200),
            webhooks: Some(50),
            members: Some(100),
            ssh_keys: Some(200),
        }
    }

    /// The plan `partner`: ten times the budgets.
    pub fn partner() -> Self {
        Self {
            plan: "partner".to_owned(),
            key_per_60_s: Some(1_200),
            workspace_per_600_s: Some(6_000),
            reads_per_second: Some(300),
            writes_per_second: Some(50),
            ..Self::standard()
        }
    }

    /// The plan `unlimited`: neither budgets nor quotas.
    pub fn unlimited() -> Self {
        Self {
            plan: "unlimited".to_owned(),
            key_per_60_s: None,
            workspace_per_600_s: None,
            reads_per_second: None,
            writes_per_second: None,
            projects: None,
            computes: None,
            vcpus: None,
            memory_mib: None,
            disk_gib: None,
            api_keys: None,
            webhooks: None,
            members: None,
            ssh_keys: None,
        }
    }

    /// The plans that every installation has.
    pub fn built_in(name: &str) -> Option<Self> {
        match name {
            "standard" => Some(Self::standard()),
            "partner" => Some(Self::partner()),
            "unlimited" => Some(Self::unlimited()),
            _ => None,
        }
    }
}

/// A quota as the store counts it: no limit is more than can ever be used.
pub(crate) fn quota(limit: Option<u32>) -> i64 {
    limit.map_or(i64::MAX / 4, i64::from)
}
