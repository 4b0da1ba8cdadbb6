//! The memory of the daemon: the limits of its unit, and reports of memory pressure, for which its sandbox lets it ask.

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

#[test]
fn the_unit_limits_the_memory_of_the_daemon_and_of_all_plugins_together() {
    let machine = Machine::boot_with(&["grows"]);
    let [high, max] = ["MemoryHigh", "MemoryMax"].map(|name| {
        let limit = machine.daemon(name);
        limit.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {limit}"))
    });
    // 60 % and 75 % of the memory of the machine, rounded to pages.
    let (expected, page) = (max / 5 * 4, 1 << 16);
    assert!(high.abs_diff(expected) < page, "{high} {max}");

    // What the kernel says of a control group with 100 MiB, where the daemon looks for it in its sandbox.
    machine.put("/etc/control-groups/system.slice/plugind.service/memory.high", "104857600\n");
    let limit = "[Service]\nBindReadOnlyPaths=/etc/control-groups:/sys/fs/cgroup\n";
    machine.put_drop_in("plugind.service", limit);
    machine.put_manifest("grows", "[limits]\nmemory-max = \"1G\"\ninstance-memory-max = \"1G\"\n");
    machine.start();
    assert_eq!(machine.get("/grows/grow/50").status_and_text(), (200, "grown by 50 MiB"));
    assert_eq!(machine.get("/grows/grow/30").status(), 502);
    let entry = machine.wait_for_entry(&["PLUGIN=grows", "RESULT=oom"]);
    assert!(entry.field("ERROR").contains("memory-max of plugind.toml"), "{entry:?}");
}
