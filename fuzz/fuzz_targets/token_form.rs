#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    caracal_sts::fuzz_form(data);
});
