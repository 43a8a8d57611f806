//! Hostile bytes for identifiers and UUIDs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::id(data));
