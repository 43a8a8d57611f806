//! Address ranges in CIDR notation, IPv4 and IPv6.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: those that share the first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    first: IpAddr,
    bits: u8,
}

/// Why a text is not a range; the sentence says the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeError(pub &'static str);

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RangeError {}

/// The address as a number whose first bit is the network's, and how many bits it has.
fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// Whether two numbers share their first `bits`.
fn shares(a: u128, b: u128, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (128 - u32::from(bits)) == 0
}

impl Range {
    /// Whether an address is in the range. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn holds(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ((first, _), (other, _)) = (number(self.first), number(address));
        self.first.is_ipv4() == address.is_ipv4() && shares(first, other, self.bits)
    }

    /// Whether every address of another range is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.holds(other.first)
    }
}

impl FromStr for Range {
    type Err = RangeError;
    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let first: IpAddr = address.parse().map_err(|_| {
            RangeError("must be an IPv4 or IPv6 address or range, such as 203.0.113.0/24 or 2001:db8::/32")
        })?;
        if first != first.to_canonical() {
            return Err(RangeError("must not be an IPv4 address mapped into IPv6: write the IPv4 address"));
        }
        let (value, bits_max) = number(first);
        let bits = match bits {
            None => bits_max,
            Some(text) if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(RangeError("must have a number of bits after the slash"));
            }
            Some(text) => text
                .parse()
                .ok()
                .filter(|bits| *bits <= bits_max)
                .ok_or(RangeError("must have at most 32 bits after the slash for IPv4, at most 128 for IPv6"))?,
        };
        let host = if bits == 128 { 0 } else { value << bits };
        if host != 0 {
            return Err(RangeError("must not have bits set beyond the length after the slash"));
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_in_their_ranges_only() {
        let holds = |text: &str, address: &str| range(text).holds(address.parse().unwrap());
        for (text, address) in [
            ("203.0.113.0/24", "203.0.113.255"),
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7", "::ffff:203.0.113.7"),
            ("0.0.0.0/0", "255.255.255.255"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
            ("::/0", "2001:db8::1"),
            ("::1/128", "::1"),
        ] {
            assert!(holds(text, address), "{text} {address}");
        }
        for (text, address) in [
            ("203.0.113.0/24", "203.0.114.0"),
            ("203.0.113.7", "203.0.113.6"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "1.2.3.4"),
            ("2001:db8::/33", "2001:db8:8000::"),
        ] {
            assert!(!holds(text, address), "{text} {address}");
        }
    }

    #[test]
    fn wider_ranges_cover_narrower_ones() {
        assert!(range("10.0.0.0/8").covers(&range("10.2.0.0/16")));
        assert!(range("10.0.0.0/8").covers(&range("10.0.0.0/8")));
        assert!(!range("10.2.0.0/16").covers(&range("10.0.0.0/8")));
        assert!(!range("10.0.0.0/8").covers(&range("11.0.0.0/16")));
        assert!(!range("0.0.0.0/0").covers(&range("::/0")));
        assert!(!range("::/0").covers(&range("10.0.0.0/8")));
    }

    #[test]
    fn texts_round_trip_and_wrong_ones_are_refused() {
        for text in ["203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32", "::1/128"] {
            assert_eq!(range(text).to_string(), text);
        }
        for bad in [
            "",
            "a",
            "1.2.3",
            "1.2.3.4/33",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3.4/8",
            "::1/64",
            "::/129",
            "1.2.3.4/8/8",
            "::ffff:1.2.3.4",
        ] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
