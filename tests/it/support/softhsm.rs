//! An HSM in software, behind the same PKCS#11 as real ones.

use std::process::Command;

use super::folder;

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4711-of-the-suite";

/// Makes a token, and answers what the process that uses it has in its environment; `None` where there is no SoftHSM. The module reads
/// that when it is loaded, so whoever uses it is a process of its own.
pub fn token() -> Option<(&'static str, String)> {
    let folder = folder().join("softhsm");
    std::fs::create_dir_all(folder.join("tokens")).unwrap();
    let conf = folder.join("softhsm2.conf");
    std::fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", folder.join("tokens").display()))
        .unwrap();
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", "tenants", "--pin", PIN, "--so-pin", "5678"])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .ok()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::path::Path::new(MODULE).exists().then(|| ("SOFTHSM2_CONF", conf.display().to_string()))
}

/// The settings (TOML) of a server that uses it for premium tenants.
pub fn settings() -> String {
    let pin = folder().join("pin");
    std::fs::write(&pin, format!("{PIN}\n")).unwrap();
    format!(
        "[keys]\npremium = \"pkcs11\"\ntimeout = \"10s\"\n[keys.pkcs11]\nmodule = \"{MODULE}\"\ntoken_label = \"tenants\"\npin_file = \"{}\"\n",
        pin.display()
    )
}
