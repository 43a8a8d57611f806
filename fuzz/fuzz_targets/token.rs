//! Hostile bytes for tokens, whoever signed them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::token(data));
