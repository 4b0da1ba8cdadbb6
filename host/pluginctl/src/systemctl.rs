//! Asks systemd for the daemon's unit, where systemd runs this machine.

use crate::unit::{PROPERTIES, UNIT, Unit};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// A directory that exists where systemd runs the machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// Whether systemd runs this machine.
pub(crate) fn is_booted() -> bool {
    Path::new(BOOTED).is_dir()
}

/// The unit, if there is systemd and it has one.
///
/// # Errors
/// When systemd is there and does not answer: the reason, as text.
pub(crate) fn unit() -> Result<Option<Unit>, String> {
    if !is_booted() {
        return Ok(None);
    }
    let properties = format!("--property={}", PROPERTIES.join(","));
    let shown = ask(&["show", UNIT, &properties])
        .map_err(|why| format!("cannot compare the configuration with {UNIT}: {why}"))?;
    // Without its files, settings that only they contain are unknown.
    Ok(Unit::parse(&shown, ask(&["cat", UNIT]).ok().as_deref()))
}

/// Returns the output of `systemctl`.
///
/// # Errors
/// When it fails: the reason, as text.
pub(crate) fn ask(arguments: &[&str]) -> Result<String, String> {
    let failed = |why: &str| {
        let why = why.lines().map(str::trim).collect::<Vec<_>>().join("; ");
        format!("systemctl {} failed: {why}", arguments[0])
    };
    let asked = Command::new("systemctl")
        .arg("--no-pager")
        .args(arguments)
        .env("SYSTEMD_COLORS", "0")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&error.to_string()))?;
    match asked.status.success() {
        true => Ok(String::from_utf8_lossy(&asked.stdout).into_owned()),
        false => Err(failed(&String::from_utf8_lossy(&asked.stderr))),
    }
}
