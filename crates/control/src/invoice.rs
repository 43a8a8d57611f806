//! Invoices: each month of each workspace is closed once, an hour after its end, and what was written then never changes.
//!
//! A month is final by then: what is open at its end counts up to its end whatever becomes of it, and a change that was
//! decided before the end is written within seconds. Whoever closes a month moves the workspace's place in the same
//! transaction as the invoice, its event, its audit row and the letter, so of several processes one does it, once. Months
//! that ended while nobody ran are made up, the oldest first. A month in which nothing was metered has no invoice. The
//! sandbox has none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nephos_model::clock::Month;
use nephos_model::id::{InvoiceId, ProjectId};
use nephos_model::page::{Listed, Page};
use nephos_model::tenant::TenantId;
use nephos_model::{Fault, Timestamp};
use nephos_store as store;
use nephos_store::invoice::{Due, Invoice};
use nephos_store::sequence::OVERTAKEN;
use nephos_store::{Batch, StoreError};
use tracing::{info, warn};

use crate::caller::{Grant, InvoiceRead};
use crate::mail::letter::Letter;
use crate::plan::{After, Author, Change};
use crate::usage::metered::Metered;
use crate::view::{InvoiceLineView, InvoiceNoticeView, InvoiceView, InvoiceWithLinesView, json};
use crate::{Cloud, fault};

/// How long after its end a month is closed.
pub const SETTLED_AFTER: Duration = Duration::from_secs(3_600);
/// How often it is looked whether a month can be closed.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Workspaces that are read at a time.
const WORKSPACES_AT_ONCE: u32 = 64;

/// The second before which this process knows the months of all workspaces to be closed.
#[derive(Debug, Default)]
pub(crate) struct Closed(AtomicI64);

/// What the amounts of one line have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LineOf {
    project_id: ProjectId,
    item: String,
    size: String,
    region: String,
    microunits_per_hour: i64,
}

#[derive(Debug, Default)]
struct Sum {
    computes: BTreeSet<String>,
    seconds: i64,
    amount: i128,
}

impl Cloud {
    /// Closes months as they end, until the future is dropped.
    pub(crate) async fn keep_invoicing(self) {
        loop {
            if let Err(error) = self.close_months().await {
                warn!(%error, "months can't be closed now; it is tried again");
            }
            self.clock().sleep(LOOK_EVERY).await;
        }
    }

    /// Closes every month that is over.
    pub async fn close_months(&self) -> Result<(), StoreError> {
        let until = self.clock().now().minus(SETTLED_AFTER).month().start();
        if self.0.closed.0.load(Ordering::Relaxed) >= until.secs() {
            return Ok(());
        }
        let (mut after, mut is_all) = (TenantId(i64::MIN), true);
        loop {
            let due = self.store().invoices_due(after, until, WORKSPACES_AT_ONCE).await?;
            let Some(last) = due.last() else { break };
            after = last.tenant;
            for of in &due {
                // One workspace's trouble keeps no other from its invoice.
                if let Err(error) = self.close_months_of(of, until).await {
                    is_all = false;
                    // Unless another process closes them, or fails to.
                    if error.missed() != Some(OVERTAKEN) {
                        warn!(workspace = %of.workspace_id, %error, "its months can't be closed now; it is tried again");
                    }
                }
            }
        }
        if is_all {
            self.0.closed.0.store(until.secs(), Ordering::Relaxed);
        }
        Ok(())
    }

    async fn close_months_of(&self, of: &Due, until: Timestamp) -> Result<(), StoreError> {
        let mut closed_before_s = of.closed_before_s;
        let mut month =
            if closed_before_s == 0 { of.since.month() } else { Timestamp::from_secs(closed_before_s).month() };
        while month.start() < until {
            let next_s = month.end().secs();
            let mut batch: Batch = store::invoice::close(of.tenant, closed_before_s, next_s).into();
            let invoice = self.invoice_of(of, month).await?;
            let mut letter = None;
            if let Some((invoice, whole)) = &invoice {
                batch.extend(store::invoice::insert(of.tenant, invoice, json(whole)));
                let author = Author::system(of.tenant, self.id());
                let change = Change {
                    event: "invoice.created",
                    action: "invoice.create",
                    resource_id: invoice.id.to_string(),
                    project_id: None,
                    environment_id: None,
                    before: None,
                    after: Some(json(&InvoiceNoticeView::from(invoice))),
                    status: 201,
                };
                self.tell(&mut batch, &author, invoice.created_at, change);
                letter = self.mail_owners(
                    of.workspace_id,
                    None,
                    &Letter::Invoice {
                        workspace: of.workspace.clone(),
                        workspace_id: of.workspace_id,
                        id: invoice.id,
                        number: invoice.number,
                        month: invoice.month.clone(),
                        amount: decimal(invoice.amount_microunits),
                        currency: invoice.currency.clone(),
                    },
                );
            }
            let sends = letter.is_some();
            batch.extend(letter);
            self.store().write(batch).await?;
            if let Some((invoice, _)) = invoice {
                info!(workspace = %of.workspace_id, invoice = %invoice.id, month = invoice.month, "a month is closed");
                self.wake(&After { mail: sends, ..After::default() });
            }
            closed_before_s = next_s;
            month = month.next();
        }
        Ok(())
    }

    /// The invoice of a month, unless nothing was metered in it.
    async fn invoice_of(&self, of: &Due, month: Month) -> Result<Option<(Invoice, InvoiceWithLinesView)>, StoreError> {
        let book = self.store().price_book().await?;
        let mut meter = Metered::new(month.start().secs(), month.end().secs(), &book);
        self.meter_all(of.tenant, &mut meter, |_| true).await?;
        let mut sums: BTreeMap<LineOf, Sum> = BTreeMap::new();
        let mut compute_seconds = 0;
        meter.each(|line| {
            compute_seconds += line.compute_seconds();
            let kind = line.kind;
            let of = LineOf {
                project_id: kind.project_id,
                item: kind.item.clone(),
                size: kind.size.clone(),
                region: kind.region.clone(),
                microunits_per_hour: line.microunits_per_hour,
            };
            let sum = sums.entry(of).or_default();
            if !sum.computes.contains(line.resource) {
                sum.computes.insert(line.resource.to_owned());
            }
            sum.seconds += line.seconds;
            sum.amount += line.amount;
        });
        if sums.is_empty() {
            return Ok(None);
        }
        let ids: Vec<ProjectId> = sums.keys().map(|of| of.project_id).collect::<BTreeSet<_>>().into_iter().collect();
        let names = self.store().project_names(of.tenant, &ids).await?;
        let names: BTreeMap<ProjectId, Option<String>> = ids.into_iter().zip(names).collect();
        let amount_microunits = whole(sums.values().map(|sum| sum.amount).sum());
        let lines = sums.into_iter().map(|(of, sum)| InvoiceLineView {
            item: of.item,
            project_id: of.project_id.to_string(),
            project_name: names.get(&of.project_id).cloned().flatten(),
            size: of.size,
            region: of.region,
            computes: i64::try_from(sum.computes.len()).unwrap_or(i64::MAX),
            seconds: sum.seconds,
            microunits_per_hour: of.microunits_per_hour,
            amount_microunits: whole(sum.amount),
        });
        let lines: Vec<InvoiceLineView> = lines.collect();
        let invoice = Invoice {
            id: self.id::<InvoiceId>(),
            number: self.store().invoice_count(of.tenant).await? + 1,
            month: month.to_string(),
            currency: self.settings().currency.clone(),
            compute_seconds,
            amount_microunits,
            created_at: self.clock().now(),
        };
        let view = InvoiceWithLinesView {
            invoice: InvoiceView::from(&invoice),
            workspace_id: of.workspace_id.to_string(),
            workspace_name: of.workspace.clone(),
            period_from: month.start().to_string(),
            period_to: month.end().to_string(),
            lines,
        };
        Ok(Some((invoice, view)))
    }

    /// Invoices, the newest first; of one month when it is named.
    pub async fn invoices(
        &self,
        grant: &Grant<InvoiceRead>,
        month: Option<Month>,
        page: &Page,
    ) -> Result<Listed<Invoice>, Fault> {
        let month = month.map(|month| month.to_string());
        self.store().invoices(grant.tenant(), month.as_deref(), page).await.map_err(fault::store)
    }

    /// One invoice, as it was written.
    pub async fn invoice(&self, grant: &Grant<InvoiceRead>, id: InvoiceId) -> Result<InvoiceWithLinesView, Fault> {
        let body = self.store().invoice(grant.tenant(), id).await.map_err(fault::store)?;
        let body = body.ok_or_else(|| Fault::not_found("invoice"))?;
        serde_json::from_str(&body).map_err(Fault::internal)
    }
}

/// A sum of amounts as it is stored. It fits: a year of a million of the dearest computes does.
fn whole(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Millionths as a decimal number with two places, or as many as it needs.
pub(crate) fn decimal(microunits: i64) -> String {
    let all = microunits.unsigned_abs();
    let mut fraction = format!("{:06}", all % 1_000_000);
    while fraction.len() > 2 && fraction.ends_with('0') {
        fraction.pop();
    }
    format!("{}{}.{fraction}", if microunits < 0 { "-" } else { "" }, all / 1_000_000)
}
