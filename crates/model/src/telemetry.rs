//! Telemetry: what machines used. A driver counts ([`Counters`]); the difference of two counts is a [`Reading`], and
//! readings add up over time and over machines.

/// What went through a network card, as its machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes that came in, with their Ethernet headers.
    pub received_bytes: i64,
    /// Bytes that went out, with their Ethernet headers.
    pub sent_bytes: i64,
    /// Frames that came in.
    pub received_packets: i64,
    /// Frames that went out.
    pub sent_packets: i64,
}

impl Traffic {
    /// What was added since `before`; `None` when the counts began again in between.
    fn since(&self, before: &Self) -> Option<Self> {
        let grown = Self {
            received_bytes: self.received_bytes - before.received_bytes,
            sent_bytes: self.sent_bytes - before.sent_bytes,
            received_packets: self.received_packets - before.received_packets,
            sent_packets: self.sent_packets - before.sent_packets,
        };
        let Self { received_bytes, sent_bytes, received_packets, sent_packets } = grown;
        (received_bytes.min(sent_bytes).min(received_packets).min(sent_packets) >= 0).then_some(grown)
    }
}

/// What a machine has used since its counters began at zero, and what it holds now. Nothing in it is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Stays the same while the counters go on, and is another once they began again.
    pub life: i64,
    /// Milliseconds since they began at zero.
    pub age_ms: i64,
    /// Milliseconds of processor time, of the host's processors and what emulates the guest on them.
    pub cpu_ms: i64,
    /// Bytes of the host's memory that it holds now.
    pub memory_bytes: i64,
    /// Bytes of the host's disk that its disk takes now.
    pub disk_bytes: i64,
    /// Bytes that it read from its disk.
    pub disk_read_bytes: i64,
    /// Bytes that it wrote to its disk.
    pub disk_written_bytes: i64,
    /// Reads from its disk.
    pub disk_reads: i64,
    /// Writes to its disk.
    pub disk_writes: i64,
    /// What went through its card to the outside; `None` when nobody counts that.
    pub network: Option<Traffic>,
    /// What went through its card to the private network of its environment; `None` when nobody counts that.
    pub private: Option<Traffic>,
}

macro_rules! readings {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What was used in a stretch of time. All of it adds up, over stretches and over machines.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Reading { $($(#[$doc])* pub $name: i64,)* }

        impl Reading {
            /// Names of the numbers, in their order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The numbers, in the order of [`Reading::NAMES`].
            pub fn numbers(&self) -> Vec<i64> {
                vec![$(self.$name),*]
            }

            /// From its numbers; those that are missing are 0.
            pub fn from_numbers(numbers: &[i64]) -> Self {
                let mut numbers = numbers.iter().copied();
                Self { $($name: numbers.next().unwrap_or(0)),* }
            }

            /// Adds another stretch, or another machine.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }
    };
}

readings! {
    /// Milliseconds for which the machine was measured.
    measured_ms,
    /// Milliseconds that its virtual processors had meanwhile, all together.
    vcpu_ms,
    /// Milliseconds of processor time.
    cpu_ms,
    /// Memory times time, in KiB · s.
    memory_kib_s,
    /// Disk space times time, in KiB · s.
    disk_kib_s,
    /// Bytes read from the disk.
    disk_read_bytes,
    /// Bytes written to the disk.
    disk_written_bytes,
    /// Reads from the disk.
    disk_reads,
    /// Writes to the disk.
    disk_writes,
    /// Milliseconds for which the card to the outside was measured.
    network_ms,
    /// Bytes in from the outside.
    received_bytes,
    /// Bytes out to the outside.
    sent_bytes,
    /// Frames in from the outside.
    received_packets,
    /// Frames out to the outside.
    sent_packets,
    /// Milliseconds for which the card to the private network was measured.
    private_ms,
    /// Bytes in from the private network.
    private_received_bytes,
    /// Bytes out to the private network.
    private_sent_bytes,
    /// Frames in from the private network.
    private_received_packets,
    /// Frames out to the private network.
    private_sent_packets,
}

impl Reading {
    /// What a machine with `vcpus` virtual processors used between two counts that are `elapsed_ms` apart. `before` is
    /// `None` where the counters began at zero. `None` when they began again in between: what was used until then is lost.
    pub fn between(before: Option<&Counters>, after: &Counters, elapsed_ms: i64, vcpus: u32) -> Option<Self> {
        let zero = Counters { network: Some(Traffic::default()), private: Some(Traffic::default()), ..*after };
        let zero =
            Counters { cpu_ms: 0, disk_read_bytes: 0, disk_written_bytes: 0, disk_reads: 0, disk_writes: 0, ..zero };
        let before = before.unwrap_or(&zero);
        if before.life != after.life || elapsed_ms <= 0 {
            return None;
        }
        let held = |bytes: i64| (bytes / 1_024).saturating_mul(elapsed_ms) / 1_000;
        let grown =
            |now: Option<Traffic>, then: Option<Traffic>| now.zip(then).and_then(|(now, then)| now.since(&then));
        let (network, private) = (grown(after.network, before.network), grown(after.private, before.private));
        let measured = |traffic: Option<Traffic>| if traffic.is_some() { elapsed_ms } else { 0 };
        let (outside, inside) = (network.unwrap_or_default(), private.unwrap_or_default());
        let reading = Self {
            measured_ms: elapsed_ms,
            vcpu_ms: elapsed_ms.saturating_mul(i64::from(vcpus)),
            cpu_ms: after.cpu_ms - before.cpu_ms,
            memory_kib_s: held(after.memory_bytes),
            disk_kib_s: held(after.disk_bytes),
            disk_read_bytes: after.disk_read_bytes - before.disk_read_bytes,
            disk_written_bytes: after.disk_written_bytes - before.disk_written_bytes,
            disk_reads: after.disk_reads - before.disk_reads,
            disk_writes: after.disk_writes - before.disk_writes,
            network_ms: measured(network),
            received_bytes: outside.received_bytes,
            sent_bytes: outside.sent_bytes,
            received_packets: outside.received_packets,
            sent_packets: outside.sent_packets,
            private_ms: measured(private),
            private_received_bytes: inside.received_bytes,
            private_sent_bytes: inside.sent_bytes,
            private_received_packets: inside.received_packets,
            private_sent_packets: inside.sent_packets,
        };
        // A counter that stepped back makes the whole stretch unknown.
        reading.numbers().iter().all(|number| *number >= 0).then_some(reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counters(life: i64, n: i64, has_network: bool) -> Counters {
        let traffic = Traffic { received_bytes: n, sent_bytes: 2 * n, received_packets: n / 9, sent_packets: n / 8 };
        Counters {
            life,
            age_ms: n,
            cpu_ms: n,
            memory_bytes: 1_024 * n,
            disk_bytes: 2_048 * n,
            disk_read_bytes: 3 * n,
            disk_written_bytes: 5 * n,
            disk_reads: n / 2,
            disk_writes: n / 3,
            network: has_network.then_some(traffic),
            private: None,
        }
    }

    proptest! {
        /// Whatever the moments at which a machine is looked at, the parts sum to the whole, but for what is held.
        #[test]
        fn readings_add_up(mut at in proptest::collection::vec(0_i64..1_000_000, 2..20)) {
            at.sort_unstable();
            at.dedup();
            prop_assume!(at.len() > 1);
            let counted: Vec<Counters> = at.iter().map(|n| counters(7, *n, true)).collect();
            let mut sum = Reading::default();
            for pair in counted.windows(2) {
                sum.add(&Reading::between(Some(&pair[0]), &pair[1], pair[1].age_ms - pair[0].age_ms, 2).unwrap());
            }
            let (first, last) = (&counted[0], &counted[counted.len() - 1]);
            let whole = Reading::between(Some(first), last, last.age_ms - first.age_ms, 2).unwrap();
            sum.memory_kib_s = whole.memory_kib_s;
            sum.disk_kib_s = whole.disk_kib_s;
            prop_assert_eq!(sum, whole);
            prop_assert_eq!(Reading::from_numbers(&whole.numbers()), whole);
        }
    }

    #[test]
    fn counters_that_began_again_are_no_reading() {
        let (early, late) = (counters(1, 1_000, true), counters(1, 61_000, true));
        assert_eq!(Reading::between(Some(&late), &early, 60_000, 1), None, "they stepped back");
        assert_eq!(Reading::between(Some(&early), &counters(2, 61_000, true), 60_000, 1), None);
        assert_eq!(Reading::between(Some(&early), &late, 0, 1), None);
        let first = Reading::between(None, &early, 1_000, 4).unwrap();
        assert_eq!((first.cpu_ms, first.vcpu_ms, first.network_ms, first.sent_bytes), (1_000, 4_000, 1_000, 2_000));
        let unknown = Reading::between(Some(&early), &counters(1, 61_000, false), 60_000, 1).unwrap();
        assert_eq!((unknown.cpu_ms, unknown.network_ms, unknown.sent_bytes), (60_000, 0, 0));
        assert_eq!(Reading::NAMES.len(), unknown.numbers().len());
    }
}
