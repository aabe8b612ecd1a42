//! One test again, alone in a process of its own: for what belongs to a process (an environment, a PKCS#11 module, all of its output).

use std::process::{Command, Stdio};

const INNER: &str = "TENANTRY_TEST_INNER";

/// Whether this is the process of its own.
#[expect(clippy::disallowed_methods, reason = "the suite talks to itself")]
pub fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Runs the test of this name (`module::name`) in a process of its own, with more in its environment; fails with it, and answers all
/// that it printed.
pub fn alone(test: &str, environment: &[(&str, String)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INNER, "1")
        .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "there is no test {test}: {text}");
    text
}

/// Says that a server is missing. CI has them all.
#[expect(clippy::disallowed_methods, reason = "CI is told by its environment")]
pub fn missing(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI has to have it");
    println!("skipped: {what} is missing");
}
