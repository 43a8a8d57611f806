//! What a running machine used: processor time and memory from the process table, the disk from the monitor, and frames
//! from QEMU's own packet filter.
//!
//! Nothing in QEMU counts frames, but a filter on a card can write one record a frame with no more than its first byte
//! (`filter-dump`, the pcap format). Those records are read and added up here; the file is begun anew before it gets large.
//! While no server runs it grows by 17 bytes a frame; the next server begins with a new one, and with new counts.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use nephos_model::Clock;
use nephos_model::telemetry::{Counters, Traffic};
use serde_json::{Value, json};

use super::home::{Home, remove_file};
use super::process::Process;
use super::qmp::{Qmp, QmpError};

/// Bytes before the first record of a file.
const HEAD_BYTES: u64 = 24;
/// Bytes of a record: time, two lengths, and one byte of the frame.
const RECORD_BYTES: usize = 17;
/// Where in a record the length of the whole frame is: 32 bits in this machine's order.
const LENGTH_AT: usize = 12;
/// Bytes from which a file is begun anew: about 60,000 frames.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that are read at once, a whole number of records.
const CHUNK_BYTES: usize = RECORD_BYTES * 4_096;
/// Bytes of a unit in which the kernel tells what a file takes on the disk.
const BLOCK_BYTES: u64 = 512;

/// The cards of a machine whose frames are counted.
#[derive(Debug)]
pub struct Cards {
    outside: Option<Card>,
    private: Option<Card>,
}

#[derive(Debug)]
struct Card {
    received: Count,
    sent: Count,
}

/// The frames of one card in one direction.
#[derive(Debug)]
struct Count {
    /// The filter's name and, with an ending, its file's.
    name: String,
    netdev: &'static str,
    /// As QEMU calls it: `rx` is what a network device takes from its guest.
    queue: &'static str,
    read_bytes: u64,
    frames: i64,
    bytes: i64,
}

impl Cards {
    /// Begins to count the frames of a machine's cards. A card that can't be counted is left out, and the log says why.
    pub async fn attach(qmp: &mut Qmp, clock: &dyn Clock, home: &Home, owner: Option<u32>, has_private: bool) -> Self {
        let outside = Card::attach(qmp, clock, home, owner, "outside").await;
        let private = if has_private { Card::attach(qmp, clock, home, owner, "private").await } else { None };
        Self { outside, private }
    }

    /// Adds what was written since the last time.
    pub fn read(&mut self, home: &Home) {
        for card in [&mut self.outside, &mut self.private] {
            let Some(counting) = card else { continue };
            let read = counting.counts().into_iter().try_for_each(|count| count.read(home));
            if let Err(e) = read {
                lost(home, &e.into());
                *card = None;
            }
        }
    }

    /// Begins files anew that are large, and counts what was in them.
    pub async fn keep_small(&mut self, qmp: &mut Qmp, clock: &dyn Clock, home: &Home, owner: Option<u32>) {
        for card in [&mut self.outside, &mut self.private] {
            let Some(counting) = card else { continue };
            if let Err(e) = counting.keep_small(qmp, clock, home, owner).await {
                lost(home, &e);
                *card = None;
            }
        }
    }
}

fn lost(home: &Home, error: &QmpError) {
    tracing::warn!(dir = %home.path().display(), %error, "the frames of a machine can't be counted any more");
}

impl Card {
    async fn attach(
        qmp: &mut Qmp,
        clock: &dyn Clock,
        home: &Home,
        owner: Option<u32>,
        netdev: &'static str,
    ) -> Option<Self> {
        let count = |queue| Count {
            name: format!("count-{netdev}-{queue}"),
            netdev,
            queue,
            read_bytes: HEAD_BYTES,
            frames: 0,
            bytes: 0,
        };
        let mut card = Self { received: count("tx"), sent: count("rx") };
        for count in card.counts() {
            if let Err(e) = count.begin(qmp, clock, home, owner).await {
                tracing::warn!(dir = %home.path().display(), error = %e, netdev, "the frames of a card can't be counted");
                return None;
            }
        }
        Some(card)
    }

    fn counts(&mut self) -> [&mut Count; 2] {
        [&mut self.received, &mut self.sent]
    }

    async fn keep_small(
        &mut self,
        qmp: &mut Qmp,
        clock: &dyn Clock,
        home: &Home,
        owner: Option<u32>,
    ) -> Result<(), QmpError> {
        for count in self.counts() {
            if fs::metadata(home.file(&count.file()))?.len() > FILE_BYTES_MAX {
                count.detach(qmp, clock).await;
                count.read(home)?;
                count.begin(qmp, clock, home, owner).await?;
            }
        }
        Ok(())
    }

    fn traffic(&self) -> Traffic {
        Traffic {
            received_bytes: self.received.bytes,
            sent_bytes: self.sent.bytes,
            received_packets: self.received.frames,
            sent_packets: self.sent.frames,
        }
    }
}

impl Count {
    fn file(&self) -> String {
        format!("{}.pcap", self.name)
    }

    /// Counts from now on into an empty file; the numbers go on.
    async fn begin(
        &mut self,
        qmp: &mut Qmp,
        clock: &dyn Clock,
        home: &Home,
        owner: Option<u32>,
    ) -> Result<(), QmpError> {
        self.detach(qmp, clock).await;
        home.make_writable(&self.file(), owner)?;
        let filter = json!({
            "qom-type": "filter-dump", "id": self.name, "netdev": self.netdev, "queue": self.queue,
            "file": self.file(), "maxlen": 1,
        });
        qmp.execute("object-add", Some(filter), clock).await?;
        self.read_bytes = HEAD_BYTES;
        Ok(())
    }

    /// Stops counting; that there was nothing to stop is no error.
    async fn detach(&self, qmp: &mut Qmp, clock: &dyn Clock) {
        if let Err(e) = qmp.execute("object-del", Some(json!({"id": self.name})), clock).await {
            tracing::trace!(error = %e, "there was no filter to be removed");
        }
    }

    /// Adds the records that are there by now. One that is written in part is read the next time.
    fn read(&mut self, home: &Home) -> io::Result<()> {
        let mut file = File::open(home.file(&self.file()))?;
        file.seek(SeekFrom::Start(self.read_bytes))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let filled = fill(&mut file, &mut chunk)?;
            let records = chunk[..filled].chunks_exact(RECORD_BYTES);
            self.read_bytes += (records.len() * RECORD_BYTES) as u64;
            for length in records.filter_map(|record| record.get(LENGTH_AT..)?.first_chunk::<4>()) {
                self.frames += 1;
                self.bytes += i64::from(u32::from_ne_bytes(*length));
            }
            if filled < CHUNK_BYTES {
                return Ok(());
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Removes the files of counts.
pub fn remove_files(home: &Home) -> io::Result<()> {
    for card in ["outside", "private"] {
        for queue in ["rx", "tx"] {
            remove_file(&home.file(&format!("count-{card}-{queue}.pcap")))?;
        }
    }
    Ok(())
}

/// What a running machine used until now.
pub async fn counters(
    qmp: &mut Qmp,
    clock: &dyn Clock,
    process: Process,
    home: &Home,
    cards: Option<&Cards>,
) -> Result<Counters, QmpError> {
    let stats = qmp.execute("query-blockstats", Some(json!({"query-nodes": false})), clock).await?;
    let disk = disk_stats(&stats).ok_or(QmpError::Garbled)?;
    let used = process.used()?;
    let traffic = |card: Option<&Card>| card.map(Card::traffic);
    Ok(Counters {
        life: i64::try_from(process.start).unwrap_or(i64::MAX),
        age_ms: used.age_ms,
        cpu_ms: used.cpu_ms,
        memory_bytes: used.memory_bytes,
        disk_bytes: signed(fs::metadata(home.file("disk.qcow2"))?.blocks().saturating_mul(BLOCK_BYTES)),
        network: traffic(cards.and_then(|cards| cards.outside.as_ref())),
        private: traffic(cards.and_then(|cards| cards.private.as_ref())),
        ..disk
    })
}

/// What QEMU counted of the disk that is the machine's own: the seed, from which it reads who it is, is not.
fn disk_stats(answer: &Value) -> Option<Counters> {
    let devices = answer.as_array()?;
    let stats = &devices.iter().find(|device| device["node-name"] == "disk")?["stats"];
    let number = |name: &str| stats[name].as_u64().map(signed);
    Some(Counters {
        disk_read_bytes: number("rd_bytes")?,
        disk_written_bytes: number("wr_bytes")?,
        disk_reads: number("rd_operations")?,
        disk_writes: number("wr_operations")?,
        ..Counters::default()
    })
}

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn record(length: u32) -> Vec<u8> {
        [&[0; LENGTH_AT][..], &length.to_ne_bytes(), &[0xff]].concat()
    }

    #[test]
    fn records_are_added_up_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), "cmp_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap());
        home.make(None).unwrap();
        let name = "count-outside-rx".to_owned();
        let mut count = Count { name, netdev: "outside", queue: "rx", read_bytes: HEAD_BYTES, frames: 0, bytes: 0 };
        let mut file = File::create(home.file("count-outside-rx.pcap")).unwrap();
        count.read(&home).unwrap();
        assert_eq!((count.frames, count.bytes), (0, 0), "an empty file");
        file.write_all(&[0; 24]).unwrap();
        file.write_all(&record(1_500)).unwrap();
        file.write_all(&record(60)[..5]).unwrap();
        count.read(&home).unwrap();
        assert_eq!((count.frames, count.bytes), (1, 1_500), "a part of a record");
        file.write_all(&record(60)[5..]).unwrap();
        for _ in 0..10_000 {
            file.write_all(&record(100)).unwrap();
        }
        count.read(&home).unwrap();
        count.read(&home).unwrap();
        assert_eq!((count.frames, count.bytes), (10_002, 1_001_560));
        remove_files(&home).unwrap();
        remove_files(&home).unwrap();
        assert!(count.read(&home).is_err());
    }

    #[test]
    fn the_disk_is_told_from_the_seed() {
        let stats =
            |reads: u64| json!({"rd_bytes": 512 * reads, "wr_bytes": 1, "rd_operations": reads, "wr_operations": 1});
        let answer = json!([
            {"node-name": "seed", "stats": stats(9)}, {"node-name": "disk", "stats": stats(3), "parent": {"stats": {}}},
        ]);
        assert_eq!(disk_stats(&answer).map(|c| (c.disk_reads, c.disk_read_bytes)), Some((3, 1_536)));
        for bad in [
            json!([]),
            json!({}),
            json!([{"node-name": "disk"}]),
            json!([{"node-name": "disk", "stats": {"rd_bytes": -1}}]),
        ] {
            assert_eq!(disk_stats(&bad), None, "{bad}");
        }
    }
}
