//! Runs [`drachma_fuzz::leader`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::leader(data));
