#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    caracal_crypto::fuzz::fuzz_mandate(data);
});
