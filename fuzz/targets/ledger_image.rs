//! Runs [`drachma_fuzz::ledger_image`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::ledger_image(data));
