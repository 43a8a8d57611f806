//! Computes as the API shows them, kept as text so that a list of what did not change is not rendered again.
//!
//! A text belongs to one edition of a compute, which every change of its row ends: it is never out of date, and nobody
//! has to throw it away. What is kept is a bounded number of texts.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use nephos_model::compute::Compute;
use nephos_model::id::{ComputeId, Id};
use nephos_store::compute::Edition;

use crate::view::{ComputeView, json};

/// Locks over the texts.
const SHARDS: usize = 16;
/// Texts in one shard at most.
const TEXTS_PER_SHARD_MAX: usize = 256;
/// Bytes of a text that is kept, at most: all of them together are at most 8 MiB.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// A compute in its neutral form.
#[derive(Debug, Clone)]
pub struct ShownCompute {
    /// Its id.
    pub id: ComputeId,
    /// Its view as JSON text.
    pub text: Arc<str>,
}

/// Texts by compute, each with its edition.
#[derive(Default)]
pub(crate) struct Shown {
    shards: [Mutex<HashMap<ComputeId, (Edition, Arc<str>)>>; SHARDS],
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl Shown {
    fn shard(&self, id: ComputeId) -> &Mutex<HashMap<ComputeId, (Edition, Arc<str>)>> {
        // The last bits of an id are random.
        &self.shards[usize::from(id.raw().to_bytes()[15]) % SHARDS]
    }

    /// The texts of all these editions, unless one is missing.
    pub(crate) fn all(&self, editions: &[Edition]) -> Option<Vec<ShownCompute>> {
        let text = |edition: &Edition| {
            let shard = self.shard(edition.id).lock().unwrap_or_else(PoisonError::into_inner);
            let (kept, text) = shard.get(&edition.id)?;
            (kept == edition).then(|| ShownCompute { id: edition.id, text: text.clone() })
        };
        editions.iter().map(text).collect()
    }

    /// Renders a compute, and keeps the text.
    pub(crate) fn show(&self, compute: &Compute) -> ShownCompute {
        let text: Arc<str> = json(&ComputeView::from(compute)).into();
        if text.len() <= TEXT_BYTES_MAX {
            let mut shard = self.shard(compute.id).lock().unwrap_or_else(PoisonError::into_inner);
            if shard.len() >= TEXTS_PER_SHARD_MAX
                && !shard.contains_key(&compute.id)
                && let Some(any) = shard.keys().next().copied()
            {
                shard.remove(&any);
            }
            shard.insert(compute.id, (Edition::from(compute), text.clone()));
        }
        ShownCompute { id: compute.id, text }
    }
}

#[cfg(test)]
mod tests {
    use nephos_model::Timestamp;
    use nephos_model::compute::{RestartPolicy, Status, Wish};
    use nephos_model::id::Raw;

    use super::*;

    fn compute(number: u16) -> Compute {
        let mut bytes = [0; 16];
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        let raw = Raw::from_bytes(bytes);
        Compute {
            id: Id::from_raw(raw),
            name: format!("web-{number}"),
            project_id: Id::from_raw(raw),
            environment_id: Id::from_raw(raw),
            region: "local".to_owned(),
            size: "nano".to_owned(),
            vcpus: 1,
            memory_mib: 128,
            disk_gib: 1,
            image_id: Id::from_raw(raw),
            image: "small".to_owned(),
            status: Status::Running,
            reason: None,
            wish: Wish::Running,
            restart_policy: RestartPolicy::Never,
            restarts: 0,
            protected: false,
            labels: "{}".to_owned(),
            ssh_keys: "[]".to_owned(),
            user_data: None,
            address: None,
            ssh_host_key: None,
            boots: 1,
            operation_id: None,
            notes: None,
            version: 1,
            created_at: Timestamp::from_secs(0),
            updated_at: Timestamp::from_secs(0),
            started_at: None,
        }
    }

    #[test]
    fn a_text_is_shown_for_its_own_edition_only() {
        let shown = Shown::default();
        let mut one = compute(1);
        let first = Edition::from(&one);
        assert!(shown.all(&[first]).is_none());
        shown.show(&one);
        assert!(shown.all(&[first]).is_some_and(|texts| texts[0].text.contains("web-1")));
        one.name = "db-1".to_owned();
        one.version = 2;
        let second = Edition::from(&one);
        assert!(shown.all(&[second]).is_none(), "the row changed");
        shown.show(&one);
        assert!(shown.all(&[second]).is_some_and(|texts| texts[0].text.contains("db-1")));
        assert!(shown.all(&[first]).is_none());
        assert!(shown.all(&[second, Edition::from(&compute(2))]).is_none(), "one of two is missing");
        assert!(shown.all(&[]).is_some_and(|texts| texts.is_empty()));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let shown = Shown::default();
        for number in 0..10_000 {
            shown.show(&compute(number));
        }
        for shard in &shown.shards {
            assert!(shard.lock().unwrap().len() <= TEXTS_PER_SHARD_MAX);
        }
        let large = Compute { labels: format!("{{\"a\":\"{}\"}}", "x".repeat(TEXT_BYTES_MAX)), ..compute(1) };
        let large = Compute { version: 9, ..large };
        assert!(shown.show(&large).text.len() > TEXT_BYTES_MAX);
        assert!(shown.all(&[Edition::from(&large)]).is_none());
    }
}
