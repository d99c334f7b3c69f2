//! What `#[service]` says to those who use it wrongly, and that it is silent otherwise.
//!
//! The texts are in `ui/*.stderr`, written by rustc 1.95; `TRYBUILD=overwrite` renews them.

#![cfg(feature = "macros")]

/// A service compiles without a warning, or fails with the error that is on record.
#[test]
fn macros_explain_their_errors() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass_service.rs");
    cases.pass("tests/ui/pass_two_versions.rs");
    cases.compile_fail("tests/ui/fail_*.rs");
    if cfg!(feature = "testing") {
        cases.pass("tests/ui/mock/pass.rs");
        cases.compile_fail("tests/ui/mock/fail.rs");
    } else {
        cases.compile_fail("tests/ui/mock/off.rs");
    }
}
