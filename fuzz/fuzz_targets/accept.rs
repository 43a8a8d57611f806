//! Hostile bytes for Accept, Content-Type and Content-Encoding.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::accept(data));
