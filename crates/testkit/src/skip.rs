/// Says why a test does not run here, or fails it when nothing may be left out (`OCIBUILD_TEST_REQUIRE_ALL=1`).
///
/// The caller returns from the test afterwards.
#[expect(clippy::print_stderr, reason = "a skipped test prints its reason")]
pub fn skip(reason: &str) {
    let required = std::env::var_os("OCIBUILD_TEST_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "this test may not be skipped: {reason}");
    eprintln!("skipped: {reason}");
}
