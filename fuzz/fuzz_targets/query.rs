//! Hostile bytes for query strings against a table.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::query(data));
