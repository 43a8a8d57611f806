//! Hostile bytes for API keys and the header that carries them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::key(data));
