//! The neutral form of every resource: what both surfaces answer and what events carry.
//!
//! Fields are `snake_case`; every one is always present, `null` when without value. Times are RFC 3339 in whole seconds.

mod audit;
mod budget_alert;
mod compute;
mod deprecation;
mod identity;
mod invoice;
mod operation;
mod project;
mod sandbox;
mod status;
mod telemetry;
mod webhook;

pub use audit::{AuditEntryView, hex};
pub use budget_alert::{BudgetAlertView, BudgetNoticeView};
pub use compute::{AddressView, ComputeView, ImageView, RegionView, SizeView, SshKeyView};
pub use deprecation::{DeprecatedCallView, DeprecationView, VersionView};
pub use identity::{
    AcceptedInvitationView, ApiKeyDetailsView, ApiKeyView, ApiKeyWithSecretView, BudgetView, InvitationView,
    InvitationWithTokenView, LimitsView, MeView, MemberView, ProjectUsageView, QuotaView, TokenView, UsageGroupView,
    UsageView, WorkspaceView,
};
pub use invoice::{InvoiceLineView, InvoiceNoticeView, InvoiceView, InvoiceWithLinesView};
pub use operation::{ActorView, ErrorView, EventView, OperationView, StepView};
pub use project::{EnvironmentView, ProjectView};
pub use sandbox::{SandboxClockView, SandboxView};

pub use webhook::{
    AttemptView, DeliveryView, PayloadView, RecoveryView, WebhookTestView, WebhookView, WebhookWithSecretView,
};

pub use telemetry::{
    ComputeMetricsView, RequestGroupView, RequestTelemetryView, TelemetryGroupView, TelemetryPointView, TelemetryView,
};

pub use status::{IncidentUpdateView, IncidentView, PeriodView, RegionStatusView, StatusView, UptimeView};

use nephos_model::Timestamp;
use serde::Serialize;

/// The JSON text of a view.
pub fn json(view: &impl Serialize) -> String {
    // Views hold only texts, numbers and maps with text keys, which always serialize.
    serde_json::to_string(view).unwrap_or_default()
}

fn time(at: Timestamp) -> String {
    at.to_string()
}
