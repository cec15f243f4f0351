//! Runs [`drachma_fuzz::log_recovery`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::log_recovery(data));
