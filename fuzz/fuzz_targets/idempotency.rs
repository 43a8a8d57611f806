//! Hostile bytes for idempotency keys of both surfaces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::idempotency(data));
