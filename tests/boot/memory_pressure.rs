//! systemd reports memory pressure to the daemon, whose sandbox lets it ask for that.

use plugind_tests::Machine;

/// The first version that reports it.
const REPORTS: u32 = 254;

#[test]
fn the_daemon_watches_the_file_that_systemd_gives_it() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    let process = format!("/proc/{}", machine.daemon("MainPID"));
    let environment = machine.succeed(&["cat", &format!("{process}/environ")]);
    let watch = environment.split('\0').find_map(|it| it.strip_prefix("MEMORY_PRESSURE_WATCH="));
    let open = machine.succeed(&["ls", "-l", &format!("{process}/fd")]);
    let version = machine.succeed(&["systemctl", "--version"]);
    let version: u32 = version.split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(watch.is_some(), version >= REPORTS, "{version}: {environment}");
    if let Some(watch) = watch {
        assert!(watch.ends_with("/plugind.service/memory.pressure"), "{watch}");
        assert!(open.lines().any(|line| line.ends_with("memory.pressure")), "{open}");
    }
    let entries = machine.journal(&["--unit=plugind.service"]);
    let is_about_it = |text: &str| text.contains("memory pressure");
    assert!(!entries.iter().any(|entry| entry.get("MESSAGE").is_some_and(is_about_it)));
    assert_eq!(machine.get("/hello").status(), 200);
}
