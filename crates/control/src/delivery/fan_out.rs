//! From events to first tries: the events of a tenant, in the order of their numbers, to every endpoint that takes them.
//!
//! Events are read in chunks, several of which are under way. A chunk ends when each of its deliveries was tried, or was
//! found to wait; then all of it is written, with the cursor, in the order of the chunks. One process at a time does so
//! for a tenant: where several can run, by a lease.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use nephos_model::Timestamp;
use nephos_model::id::WebhookId;
use nephos_model::tenant::TenantId;
use nephos_model::webhook::{Delivery, DeliveryStatus, Reason, WEBHOOKS_MAX};
use nephos_store as store;
use nephos_store::sequence::OVERTAKEN;
use nephos_store::webhook::LEASED;
use nephos_store::{Batch, StoreError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::warn;

use super::{STALL, Sending, Target, Tried, UNDER_WAY, Verdict, new_delivery, payload};
use crate::{Cloud, webhook};

/// Events of one chunk at most.
const EVENTS_MAX: usize = 64;
/// Deliveries of one chunk at most, unless a single event has more.
const DELIVERIES_MAX: usize = 1_000;
/// Chunks of one tenant that are under way at most.
const CHUNKS_MAX: usize = 8;
/// Events that are passed over, because no endpoint takes them, before the cursor is written for them alone.
const PASSED_MAX: i64 = 256;
/// Tenants whose endpoints are kept in memory at most.
const TENANTS_MAX: usize = 4_096;
/// Tenants that are read at a time.
const TENANTS_AT_ONCE: u32 = 256;
/// Slow tries that wait to be taken over, at most.
const HANDED_OVER_MAX: usize = 1_024;
/// All tenants are looked at this often; where other processes give numbers too, more often.
const POLL: Duration = Duration::from_secs(5);
const POLL_OTHERS: Duration = Duration::from_millis(500);
/// How long after its last sign of life a process's tenants are taken over.
const LEASE: Duration = Duration::from_secs(4);

/// How far a tenant's events were given to its endpoints by this process.
#[derive(Default)]
struct Stream {
    /// Every event up to this number was read.
    position: Option<i64>,
    /// Up to this number the cursor says so.
    written: i64,
    /// The version of the endpoints that are known.
    version: i64,
    targets: Vec<Arc<Target>>,
    leased_until: Option<Timestamp>,
}

/// What is to be sent to one endpoint.
type Lane = (Arc<Target>, Vec<(Delivery, Arc<[u8]>)>);

/// How one delivery of a chunk went.
struct Outcome {
    target: Arc<Target>,
    delivery: Delivery,
    /// `None`: it waits, or is still under way.
    verdict: Option<Verdict>,
    /// It took something after it had failed.
    works_again: bool,
}

/// A chunk that is under way.
struct Chunk {
    last_seq: i64,
    outcomes: oneshot::Receiver<Vec<Outcome>>,
    /// Tells slow tries whether their rows are there.
    settled: watch::Sender<Option<bool>>,
}

/// A slow try, and what is to be done when it ends.
type Straggler = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a first try went as far as anybody waited for it.
enum First {
    Done(Delivery, Tried),
    Slow(Delivery, Sending, OwnedSemaphorePermit),
    /// There was no place for it.
    NotTried(Delivery),
}

impl Cloud {
    /// Gives events to endpoints until the future is dropped.
    pub(crate) async fn fan_out(self) {
        let (hand_over, mut handed_over) = mpsc::channel::<Straggler>(HANDED_OVER_MAX);
        let mut stragglers = JoinSet::new();
        let mut streams: HashMap<TenantId, Stream> = HashMap::new();
        let mut running: JoinSet<(TenantId, Stream)> = JoinSet::new();
        let mut busy: BTreeSet<TenantId> = BTreeSet::new();
        let mut wanted: BTreeSet<TenantId> = BTreeSet::new();
        let mut numbered = self.0.numbered.subscribe();
        let poll = if self.store().numbers_at_once() { POLL } else { POLL_OTHERS };
        let mut looks_everywhere = true;
        loop {
            numbered.borrow_and_update();
            match self.store().take_news() {
                Some(news) => wanted.extend(news),
                None => looks_everywhere = true,
            }
            if std::mem::take(&mut looks_everywhere) {
                match self.tenants_with_webhooks().await {
                    Ok(all) => wanted.extend(all),
                    Err(error) => warn!(%error, "which workspaces have webhooks can't be read now"),
                }
            }
            // Whoever is busy stays wanted: it may have looked just before the last news.
            for tenant in wanted.difference(&busy).copied().collect::<Vec<_>>() {
                wanted.remove(&tenant);
                busy.insert(tenant);
                let (cloud, hand_over) = (self.clone(), hand_over.clone());
                let mut stream = streams.remove(&tenant).unwrap_or_default();
                running.spawn(async move {
                    cloud.stream(tenant, &mut stream, &hand_over).await;
                    (tenant, stream)
                });
            }
            tokio::select! {
                _ = numbered.changed() => {}
                Some(ended) = running.join_next(), if !running.is_empty() => match ended {
                    Ok((tenant, stream)) => {
                        busy.remove(&tenant);
                        if !stream.targets.is_empty() && streams.len() < TENANTS_MAX {
                            streams.insert(tenant, stream);
                        }
                    }
                    // A defect; the process that supervises this ends, as with every other task.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                Some(straggler) = handed_over.recv() => { stragglers.spawn(straggler); }
                Some(_) = stragglers.join_next(), if !stragglers.is_empty() => {}
                () = self.clock().sleep(poll) => { looks_everywhere = true; }
            }
        }
    }

    async fn tenants_with_webhooks(&self) -> Result<Vec<TenantId>, StoreError> {
        let mut all: Vec<TenantId> = Vec::new();
        loop {
            let after = all.last().copied().unwrap_or(TenantId(i64::MIN));
            let some = self.store().tenants_with_webhooks(after, TENANTS_AT_ONCE).await?;
            let is_last = some.len() < TENANTS_AT_ONCE as usize;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Gives a tenant's events to its endpoints until there are no more now.
    async fn stream(&self, tenant: TenantId, stream: &mut Stream, hand_over: &mpsc::Sender<Straggler>) {
        if let Err(error) = self.stream_some(tenant, stream, hand_over).await {
            if !error.missed().is_some_and(|miss| [OVERTAKEN, LEASED].contains(&miss)) {
                warn!(%error, tenant = tenant.0, "events can't be given to webhooks now");
            }
            // What was tried meanwhile is tried again by whoever comes next.
            *stream = Stream::default();
        }
    }

    async fn stream_some(
        &self,
        tenant: TenantId,
        stream: &mut Stream,
        hand_over: &mpsc::Sender<Straggler>,
    ) -> Result<(), StoreError> {
        let mut sending: JoinSet<()> = JoinSet::new();
        let mut chunks: VecDeque<Chunk> = VecDeque::new();
        let mut numbered = self.0.numbered.subscribe();
        loop {
            let mut is_dry = false;
            while chunks.len() < CHUNKS_MAX && !is_dry {
                numbered.borrow_and_update();
                match self.next_chunk(tenant, stream, chunks.is_empty()).await? {
                    None => is_dry = true,
                    Some((last_seq, lanes)) => {
                        let (told, outcomes) = oneshot::channel();
                        let (settled, is_settled) = watch::channel(None);
                        let (cloud, hand_over) = (self.clone(), hand_over.clone());
                        sending.spawn(async move {
                            // Nobody listens any more when the tenant was given up.
                            _ = told.send(cloud.send_chunk(tenant, lanes, &is_settled, &hand_over).await);
                        });
                        chunks.push_back(Chunk { last_seq, outcomes, settled });
                    }
                }
            }
            while sending.try_join_next().is_some() {}
            let Some(first) = chunks.front_mut() else { return Ok(()) };
            tokio::select! {
                outcomes = &mut first.outcomes => {
                    let Some(chunk) = chunks.pop_front() else { return Ok(()) };
                    // The sender is there until it has sent, unless it panicked.
                    let Ok(outcomes) = outcomes else { return Err(StoreError::Missed { miss: OVERTAKEN, statement: "" }) };
                    let written = self.settle_chunk(tenant, stream, chunk.last_seq, outcomes).await;
                    chunk.settled.send_replace(Some(written.is_ok()));
                    written?;
                }
                _ = numbered.changed(), if is_dry => {}
            }
        }
    }

    /// Reads the next events that any endpoint takes; `None` when there are none now.
    async fn next_chunk(
        &self,
        tenant: TenantId,
        stream: &mut Stream,
        is_idle: bool,
    ) -> Result<Option<(i64, Vec<Lane>)>, StoreError> {
        loop {
            let Some(mut cursor) = self.store().webhook_cursor(tenant).await? else {
                *stream = Stream::default();
                return Ok(None);
            };
            if cursor.last_seq <= stream.position.unwrap_or(cursor.seq) {
                return Ok(None);
            }
            if !self.store().numbers_at_once() {
                let now = self.clock().now();
                let keeps = stream.leased_until.is_some_and(|until| until > now);
                if !keeps || stream.leased_until.is_some_and(|until| until < now.plus(LEASE / 2)) {
                    let until = now.plus(LEASE);
                    self.store().write(store::webhook::lease_cursor(tenant, self.owner(), until, now).into()).await?;
                    stream.leased_until = Some(until);
                }
                if !keeps {
                    // Somebody else may have gone on meanwhile.
                    stream.position = None;
                    let Some(fresh) = self.store().webhook_cursor(tenant).await? else { return Ok(None) };
                    cursor = fresh;
                }
            }
            if stream.version != cursor.version || stream.position.is_none() {
                let found = self.store().webhooks_enabled(tenant, WEBHOOKS_MAX).await?;
                stream.targets = found.into_iter().filter_map(|sealed| self.target(sealed)).collect();
                stream.version = cursor.version;
            }
            if stream.position.is_none() {
                stream.position = Some(cursor.seq);
                stream.written = cursor.seq;
            }
            let position = stream.position.unwrap_or(cursor.seq);
            if stream.targets.is_empty() {
                stream.position = Some(cursor.last_seq);
                self.pass(tenant, stream, is_idle).await?;
                return Ok(None);
            }
            let limit = (DELIVERIES_MAX / stream.targets.len()).clamp(1, EVENTS_MAX);
            let events = self.store().events_after(tenant, position, u32::try_from(limit).unwrap_or(1)).await?;
            let Some(last_seq) = events.last().map(|event| event.seq) else { return Ok(None) };
            stream.position = Some(last_seq);
            let now = self.clock().now();
            let mut lanes: Vec<Lane> = Vec::new();
            let mut bodies: Vec<Option<Arc<[u8]>>> = vec![None; events.len()];
            for target in &stream.targets {
                let mut lane = Vec::new();
                for (event, body) in events.iter().zip(&mut bodies) {
                    if target.webhook.takes(&webhook::told(event)) {
                        let body = body.get_or_insert_with(|| payload(event)).clone();
                        lane.push((new_delivery(event, target.webhook.id, now), body));
                    }
                }
                if !lane.is_empty() {
                    lanes.push((target.clone(), lane));
                }
            }
            if !lanes.is_empty() {
                return Ok(Some((last_seq, lanes)));
            }
            self.pass(tenant, stream, is_idle).await?;
        }
    }

    /// Events were passed over: now and then the cursor says so, when nothing is under way before them.
    async fn pass(&self, tenant: TenantId, stream: &mut Stream, is_idle: bool) -> Result<(), StoreError> {
        let position = stream.position.unwrap_or(stream.written);
        if is_idle && position - stream.written >= PASSED_MAX {
            self.store().write(store::webhook::move_cursor(tenant, stream.written, position).into()).await?;
            stream.written = position;
        }
        Ok(())
    }

    /// Sends a chunk to all endpoints at once.
    async fn send_chunk(
        &self,
        tenant: TenantId,
        lanes: Vec<Lane>,
        settled: &watch::Receiver<Option<bool>>,
        hand_over: &mpsc::Sender<Straggler>,
    ) -> Vec<Outcome> {
        let lanes: FuturesUnordered<_> =
            lanes.into_iter().map(|(target, lane)| self.send_lane(tenant, target, lane, settled, hand_over)).collect();
        lanes.concat().await
    }

    /// Sends to one endpoint, as many at a time as it bears. After the first that fails or is slow the rest waits.
    async fn send_lane(
        &self,
        tenant: TenantId,
        target: Arc<Target>,
        lane: Vec<(Delivery, Arc<[u8]>)>,
        settled: &watch::Receiver<Option<bool>>,
        hand_over: &mpsc::Sender<Straggler>,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(lane.len());
        let waits = |delivery: Delivery, due_at: Timestamp| Outcome {
            target: target.clone(),
            delivery: Delivery { due_at: Some(due_at), ..delivery },
            verdict: None,
            works_again: false,
        };
        let mut rest = lane.into_iter();
        // Held while it is sent to, and given up when an earlier chunk keeps it for too long.
        let turn = {
            let lock = std::pin::pin!(target.pace.turn.lock());
            match select(lock, self.clock().sleep(STALL)).await {
                Either::Left((turn, _)) => Some(turn),
                Either::Right(_) => None,
            }
        };
        let mut goes_on = turn.is_some();
        let mut running = FuturesUnordered::new();
        loop {
            while goes_on && running.len() < target.pace.window() {
                let Some((delivery, body)) = rest.next() else { break };
                running.push(self.first_try(&target, delivery, body));
            }
            let Some(first) = running.next().await else { break };
            match first {
                First::Done(mut delivery, tried) => {
                    let verdict = self.judge(&mut delivery, &tried);
                    let works_again = if verdict == Verdict::Taken {
                        target.pace.took()
                    } else {
                        target.pace.failed();
                        goes_on = false;
                        false
                    };
                    outcomes.push(Outcome { target: target.clone(), delivery, verdict: Some(verdict), works_again });
                }
                First::Slow(delivery, sending, permit) => {
                    goes_on = false;
                    outcomes.push(waits(delivery.clone(), self.clock().now().plus(UNDER_WAY)));
                    let straggler =
                        self.clone().straggle(tenant, target.clone(), delivery, sending, permit, settled.clone());
                    // Where nobody takes it over it is tried again when its row is due.
                    _ = hand_over.send(Box::pin(straggler)).await;
                }
                First::NotTried(delivery) => {
                    goes_on = false;
                    outcomes.push(waits(delivery, self.clock().now()));
                }
            }
        }
        drop(turn);
        let now = self.clock().now();
        outcomes.extend(rest.map(|(delivery, _)| waits(delivery, now)));
        outcomes
    }

    async fn first_try(&self, target: &Target, delivery: Delivery, body: Arc<[u8]>) -> First {
        let permit = if target.pace.is_failing() {
            self.0.sent.slow.clone().try_acquire_owned().ok()
        } else {
            // Closed never: it lives as long as the control plane.
            self.0.sent.sends.clone().acquire_owned().await.ok()
        };
        let Some(mut permit) = permit else { return First::NotTried(delivery) };
        match select(self.send(target, delivery.event_id, body), self.clock().sleep(STALL)).await {
            Either::Left((tried, _)) => First::Done(delivery, tried),
            Either::Right(((), sending)) => {
                self.make_way(&mut permit);
                First::Slow(delivery, sending, permit)
            }
        }
    }

    /// Waits for a slow try and writes how it went, once its row is there.
    async fn straggle(
        self,
        tenant: TenantId,
        target: Arc<Target>,
        mut delivery: Delivery,
        sending: Sending,
        permit: OwnedSemaphorePermit,
        mut settled: watch::Receiver<Option<bool>>,
    ) {
        let tried = sending.await;
        drop(permit);
        let is_there = settled.wait_for(Option::is_some).await.is_ok_and(|settled| *settled == Some(true));
        if !is_there {
            return;
        }
        let verdict = self.judge(&mut delivery, &tried);
        if let Err(error) = self.record(tenant, &target, vec![(delivery, verdict)]).await {
            warn!(%error, webhook = %target.webhook.id, "how a delivery went can't be written; it is tried again");
        }
    }

    /// Writes how a chunk went, and that its events are done with.
    async fn settle_chunk(
        &self,
        tenant: TenantId,
        stream: &mut Stream,
        last_seq: i64,
        outcomes: Vec<Outcome>,
    ) -> Result<(), StoreError> {
        let now = self.clock().now();
        let mut batch = Batch::from(store::webhook::move_cursor(tenant, stream.written, last_seq));
        let mut endpoints: HashMap<WebhookId, (i64, Option<Timestamp>, bool, bool)> = HashMap::new();
        let mut gone: Vec<Arc<Target>> = Vec::new();
        for Outcome { target, delivery, verdict, works_again } in &outcomes {
            batch.push(store::delivery::insert(tenant, delivery));
            let (count, due_at, failed, works) = endpoints.entry(target.webhook.id).or_insert((0, None, false, false));
            *count += 1;
            if delivery.status == DeliveryStatus::Pending {
                *due_at = due_at.map_or(delivery.due_at, |at| Some(at.min(delivery.due_at.unwrap_or(at))));
            }
            *failed |= verdict.is_some_and(|verdict| verdict != Verdict::Taken);
            *works |= works_again;
            if *verdict == Some(Verdict::Gone) {
                gone.push(target.clone());
            }
        }
        let mut is_due = false;
        for (id, (count, due_at, failed, works)) in endpoints {
            batch.push(store::delivery::count(tenant, id, count));
            if works {
                batch.push(store::webhook::works(tenant, id));
            }
            if let Some(due_at) = due_at {
                is_due = true;
                batch.push(if failed {
                    store::webhook::failed(tenant, id, due_at, now)
                } else {
                    store::webhook::want(tenant, id, due_at)
                });
            }
        }
        self.store().write(batch).await?;
        stream.written = last_seq;
        if is_due {
            self.0.deliveries.notify_one();
        }
        for target in gone {
            self.disable(tenant, &target.webhook, Reason::Gone).await?;
        }
        Ok(())
    }
}
