//! Where a request comes from, when proxies that the operator trusts stand before the server.
//!
//! The rule: the client is the other end of the connection. Only when that is a trusted proxy is the header of the
//! configuration read (one of the two, never the other), from the right, for as long as it names trusted proxies; the first
//! address that is none is the client. What stands left of it came from the client and proves nothing. An entry that is no
//! address ends the search at the proxy that sent it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use nephos_control::address::Range;

/// The header in which trusted proxies tell the client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: addresses separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the `for` of each element.
    Forwarded,
}

impl ForwardedHeader {
    /// Its name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// The client's address by that rule.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Range], header: ForwardedHeader) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |address| trusted.iter().any(|range| range.holds(address));
    if !is_trusted(client) {
        return client;
    }
    let name = header.name();
    for value in headers.get_all(name).iter().rev() {
        let Ok(text) = value.to_str() else { return client };
        for hop in text.rsplit(',') {
            let node = match header {
                ForwardedHeader::XForwardedFor => Some(hop.trim()),
                ForwardedHeader::Forwarded => forwarded_for(hop),
            };
            match node.and_then(address) {
                Some(address) => client = address,
                None => return client,
            }
            if !is_trusted(client) {
                return client;
            }
        }
    }
    client
}

/// The value of `for` in an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

/// An address, with or without a port; IPv6 also in brackets.
fn address(node: &str) -> Option<IpAddr> {
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let plain = node.parse::<IpAddr>().ok();
    let address = plain.or_else(bracketed).or_else(|| node.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn from(peer: &str, header: ForwardedHeader, values: &[(&'static str, &str)]) -> String {
        let trusted: Vec<Range> = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap()).into();
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted, header).to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        for (peer, sent, client) in [
            ("192.0.2.9", vec!["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", vec!["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.7, 198.51.100.1,10.2.3.4"], "198.51.100.1"),
            ("10.0.0.1", vec!["203.0.113.7", "198.51.100.1", " 10.2.3.4 "], "198.51.100.1"),
            ("10.0.0.1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("2001:db8::1", vec!["[2a00::1]:4711"], "2a00::1"),
            ("10.0.0.1", vec!["2a00::1"], "2a00::1"),
            ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", vec!["198.51.100.1, unknown, 10.2.3.4"], "10.2.3.4"),
            ("10.0.0.1", vec!["198.51.100.1,"], "10.0.0.1"),
            ("10.0.0.1", vec!["203.0.113.7", "é"], "10.0.0.1"),
        ] {
            let values: Vec<_> = sent.iter().map(|value| ("x-forwarded-for", *value)).collect();
            assert_eq!(from(peer, ForwardedHeader::XForwardedFor, &values), client, "{peer} {sent:?}");
        }
    }

    #[test]
    fn forwarded_is_read_where_it_is_configured_and_never_both() {
        let read = |value: &str| from("10.0.0.1", ForwardedHeader::Forwarded, &[("forwarded", value)]);
        assert_eq!(read("for=203.0.113.7, for=198.51.100.1;proto=https;by=10.0.0.1"), "198.51.100.1");
        assert_eq!(read("proto=https;For=\"[2a00::1]:4711\", for=10.0.0.2"), "2a00::1");
        for hidden in ["for=unknown", "for=_hidden", "proto=https", "for=\"198.51.100.1", "for=\"a, b\""] {
            assert_eq!(read(hidden), "10.0.0.1", "{hidden}");
        }
        let both = [("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(from("10.0.0.1", ForwardedHeader::XForwardedFor, &both), "198.51.100.1");
        assert_eq!(from("10.0.0.1", ForwardedHeader::Forwarded, &both), "203.0.113.7");
    }
}
