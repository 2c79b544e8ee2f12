#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    caracal_evidence::log::fuzz_segment(data);
});
