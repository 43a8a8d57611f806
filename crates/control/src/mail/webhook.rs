//! Letters to the Owners about webhooks that do not work: one that is disabled, and one that lost an event.

use nephos_model::tenant::TenantId;
use nephos_model::webhook::{Delivery, Reason, Webhook};
use nephos_store::{Statement, StoreError};

use super::letter::Letter;
use crate::Cloud;

impl Cloud {
    /// The letter about a webhook, as it is now, to which nothing is sent any more.
    pub(crate) async fn mail_webhook_disabled(
        &self,
        tenant: TenantId,
        webhook: &Webhook,
        reason: Reason,
    ) -> Result<Option<Statement>, StoreError> {
        let about = format!("webhook disabled {} {}", webhook.id, webhook.version);
        let letter = |workspace| Letter::WebhookDisabled {
            workspace,
            id: webhook.id,
            url: webhook.url.clone(),
            reason,
            at: webhook.updated_at,
        };
        self.mail_owners_of(tenant, about, letter).await
    }

    /// The letter about a delivery that was tried to the end: one a day for each webhook, so that one that is dead fills
    /// nobody's mailbox.
    pub(crate) async fn mail_delivery_exhausted(
        &self,
        tenant: TenantId,
        webhook: &Webhook,
        delivery: &Delivery,
    ) -> Result<Option<Statement>, StoreError> {
        let about = format!("delivery exhausted {} {}", webhook.id, self.clock().now().day());
        let letter = |workspace| Letter::DeliveryExhausted {
            workspace,
            id: webhook.id,
            url: webhook.url.clone(),
            delivery: delivery.id,
            event_type: delivery.event_type.clone(),
            error: delivery.last.as_ref().and_then(|last| last.error.clone()),
        };
        self.mail_owners_of(tenant, about, letter).await
    }

    /// A letter to the Owners of a tenant's workspace; `None` when there is none any more.
    async fn mail_owners_of(
        &self,
        tenant: TenantId,
        about: String,
        letter: impl FnOnce(String) -> Letter,
    ) -> Result<Option<Statement>, StoreError> {
        let Some(tenant) = self.store().tenant(tenant).await? else { return Ok(None) };
        let Some(workspace) = self.store().workspace(tenant.workspace_id).await? else { return Ok(None) };
        Ok(self.mail_owners(workspace.id, Some(about), &letter(workspace.name)))
    }
}
