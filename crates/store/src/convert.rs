//! Between the model's types and what a row holds.

use nephos_model::Timestamp;
use nephos_model::id::{
    AuditId, BudgetAlertId, ComputeId, DeliveryId, EnvironmentId, EventId, Id, ImageId, IncidentId, InvitationId,
    InvoiceId, KeyId, MemberId, OperationId, ProjectId, SessionId, SshKeyId, UserId, WebhookId, WorkspaceId,
};
use nephos_model::tenant::TenantId;

use crate::error::StoreError;
use crate::value::{Row, Value};

macro_rules! ids {
    ($($id:ty),*) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self { Value::Text(id.text()) }
        }
    )*};
}
ids!(
    AuditId,
    BudgetAlertId,
    InvoiceId,
    ComputeId,
    DeliveryId,
    EnvironmentId,
    EventId,
    ImageId,
    IncidentId,
    InvitationId,
    KeyId,
    MemberId,
    OperationId,
    ProjectId,
    SessionId,
    SshKeyId,
    UserId,
    WebhookId,
    WorkspaceId
);

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Value::Int(time.micros())
    }
}

impl From<TenantId> for Value {
    fn from(tenant: TenantId) -> Self {
        Value::Int(tenant.0)
    }
}

/// Reading the model's types out of a [`Row`].
pub(crate) trait Model {
    /// A value with a text form.
    fn parse<T: std::str::FromStr>(&self, column: usize, wanted: &'static str) -> Result<T, StoreError>;
    /// An identifier.
    fn id<T: Id>(&self, column: usize) -> Result<T, StoreError>;
    /// An identifier or `NULL`.
    fn opt_id<T: Id>(&self, column: usize) -> Result<Option<T>, StoreError>;
    /// A time.
    fn time(&self, column: usize) -> Result<Timestamp, StoreError>;
    /// A time or `NULL`.
    fn opt_time(&self, column: usize) -> Result<Option<Timestamp>, StoreError>;
    /// A text, owned.
    fn string(&self, column: usize) -> Result<String, StoreError>;
    /// A text or `NULL`, owned.
    fn opt_string(&self, column: usize) -> Result<Option<String>, StoreError>;
    /// A number that fits 32 bits.
    fn u32(&self, column: usize) -> Result<u32, StoreError>;
}

impl Model for Row {
    fn parse<T: std::str::FromStr>(&self, column: usize, wanted: &'static str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|_| self.unexpected(column, wanted))
    }

    fn id<T: Id>(&self, column: usize) -> Result<T, StoreError> {
        self.parse(column, T::PREFIX)
    }

    fn opt_id<T: Id>(&self, column: usize) -> Result<Option<T>, StoreError> {
        self.opt_text(column)?.map(|t| t.parse().map_err(|_| self.unexpected(column, T::PREFIX))).transpose()
    }

    fn time(&self, column: usize) -> Result<Timestamp, StoreError> {
        self.int(column).map(Timestamp::from_micros)
    }

    fn opt_time(&self, column: usize) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.opt_int(column)?.map(Timestamp::from_micros))
    }

    fn string(&self, column: usize) -> Result<String, StoreError> {
        self.text(column).map(ToOwned::to_owned)
    }

    fn opt_string(&self, column: usize) -> Result<Option<String>, StoreError> {
        Ok(self.opt_text(column)?.map(ToOwned::to_owned))
    }

    fn u32(&self, column: usize) -> Result<u32, StoreError> {
        u32::try_from(self.int(column)?).map_err(|_| self.unexpected(column, "a 32-bit number"))
    }
}
