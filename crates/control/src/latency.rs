//! Ranges of durations: each doubling is cut into equal parts, so a duration is known to a share of itself.

/// The number of the range that a duration of `us` microseconds is in, where each doubling has `per_doubling` ranges, a power
/// of two.
pub(crate) fn range(us: u64, per_doubling: u64) -> u64 {
    if us < per_doubling {
        return us;
    }
    let doublings = u64::from(us.ilog2() - per_doubling.ilog2());
    per_doubling * (doublings + 1) + (us >> doublings) % per_doubling
}

/// The longest duration of a range, in microseconds.
pub(crate) fn longest_us(range: u64, per_doubling: u64) -> u64 {
    if range < per_doubling {
        return range;
    }
    let (doublings, within) = (range / per_doubling - 1, range % per_doubling);
    // A range beyond every duration is as long as there can be.
    let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(u64::BITS - per_doubling.ilog2() - 2);
    ((per_doubling + within + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_is_known_to_a_share_of_itself(us in 0_u64..1 << 50, per_doubling in prop_oneof![Just(4_u64), Just(8)]) {
            let longest = longest_us(range(us, per_doubling), per_doubling);
            prop_assert!(us <= longest && longest <= us + us / per_doubling, "{} in a range up to {}", us, longest);
            prop_assert!(range(us, per_doubling) <= range(us + 1, per_doubling));
        }
    }
}
