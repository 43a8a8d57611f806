//! Hostile bytes for the heads of requests, as a connection brings them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::head(data));
