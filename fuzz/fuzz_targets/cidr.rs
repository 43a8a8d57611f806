//! Hostile bytes for addresses and networks.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::cidr(data));
