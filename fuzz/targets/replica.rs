//! Runs [`drachma_fuzz::replica`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::replica(data));
