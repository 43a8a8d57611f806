//! Hostile bytes for the headers in which proxies tell the client's address.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::forwarded(data));
