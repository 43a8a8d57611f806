//! Hostile bytes for traceparent and tracestate.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::traceparent(data));
