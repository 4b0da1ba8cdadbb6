//! Plugins that extend systemd: the users of a plugin are users of the machine.

use plugind_tests::{Connection, Machine, WAIT_MAX, eventually};
use std::{
    fs,
    io::{BufRead, BufReader, Write, stderr},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// The link by which systemd finds the plugin.
const LINK: &str = "/run/systemd/userdb/io.plugind.Users";
/// Number of reloads during which users are looked up.
const RELOADS: u32 = 50;
/// Number of look-ups of one program, one after the other: of a user of the plugin, and of another one.
const LOOK_UPS: usize = 200;
const OTHER_LOOK_UPS: usize = 5000;

/// An example of the plugin `userdb` that is beside its component.
fn example(file: &str) -> String {
    fs::read_to_string(format!("{}/../plugins/userdb/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Installs a guest as the plugin `userdb`, as its README says.
fn boot(guest: &str, manifest: &str) -> Machine {
    let machine = Machine::boot();
    machine.put_guest("userdb", guest);
    machine.put_manifest("userdb", manifest);
    for unit in ["userdb.socket", "userdb.service"] {
        machine.put(&format!("/etc/systemd/system/{unit}"), example(unit));
    }
    machine.reload_units();
    machine.succeed(&["systemctl", "enable", "userdb.socket"]);
    machine.start();
    machine.succeed(&["systemctl", "enable", "--now", "userdb.service"]);
    machine
}

fn ada(machine: &Machine) -> String {
    machine.succeed(&["getent", "passwd", "ada"])
}

/// A program that looks up a user, again and again. It fails if one look-up does.
fn look_up(machine: &Machine, user: &str, times: usize) {
    let mut command = vec!["getent", "passwd"];
    command.resize(command.len() + times, user);
    let ran = machine.run(&command);
    let found = ran.output.lines().filter(|line| line.starts_with(user)).count();
    assert_eq!((ran.status, found), (0, times), "look-ups of {user}: {}", ran.errors);
}

/// Prints figures also if the test passes, which eprintln! does not.
fn print(figures: &str) {
    writeln!(stderr(), "{figures}").expect("standard error is open");
}

/// Looks up a user on a connection of its own, as programs do.
fn call(machine: &Machine) {
    let mut stream = UnixStream::connect(machine.path("/run/plugind-userdb/socket")).unwrap();
    stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let method = "io.systemd.UserDatabase.GetUserRecord";
    let parameters = r#"{"userName":"ada","service":"io.plugind.Users"}"#;
    write!(stream, r#"{{"method":"{method}","parameters":{parameters}}}{}"#, '\0').unwrap();
    let mut reply = Vec::new();
    BufReader::new(stream).read_until(0, &mut reply).unwrap();
    assert!(String::from_utf8(reply).unwrap().contains("\"uid\":60001"));
}

/// It comes after the daemon is ready.
fn wait_for_link(machine: &Machine) {
    eventually("the link", || machine.path(LINK).is_symlink().then_some(()));
}

/// Ends the look-ups of other threads, also when the test fails.
struct EndsLoops<'a>(&'a AtomicBool);

impl Drop for EndsLoops<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

const ADA: &str = "ada:x:60001:60001:Ada Lovelace:/home/ada:/bin/bash\n";

#[test]
fn users_of_a_plugin_are_users_of_the_machine_during_reloads_and_restarts() {
    // Here the machine may stand still for longer than a look-up should take.
    let manifest =
        ["\"2s\"", "\"1s\""].into_iter().fold(example("userdb.toml"), |manifest, time| {
            assert!(manifest.contains(time), "{manifest}");
            manifest.replace(time, "\"1min\"")
        });
    let machine = boot("userdb", &manifest);
    assert_eq!(ada(&machine), ADA);
    assert_eq!(machine.succeed(&["id", "-un", "60001"]), "ada\n");
    assert_eq!(machine.succeed(&["id", "-Gn", "grace"]), "grace navy\n");
    assert_eq!(machine.succeed(&["getent", "group", "navy"]), "navy:x:60100:grace\n");
    assert_eq!(machine.run(&["getent", "passwd", "nobody-of-this-name"]).status, 2);

    let (is_reloading, begun) = (AtomicBool::new(true), Instant::now());
    thread::scope(|scope| {
        let while_reloading = |look_up: fn(&Machine)| {
            let (machine, is_reloading) = (&machine, &is_reloading);
            move || {
                let mut count = 0;
                while is_reloading.load(Relaxed) {
                    look_up(machine);
                    count += 1;
                }
                count
            }
        };
        let programs = scope.spawn(while_reloading(|machine| look_up(machine, "ada", LOOK_UPS)));
        let calls = scope.spawn(while_reloading(call));
        let end = EndsLoops(&is_reloading);
        for reload in 0..RELOADS {
            let config = format!("[config]\neve = \"{}\"", 61000 + reload);
            machine.put_manifest("userdb", &manifest.replace("[config]", &config));
            machine.succeed(&["systemctl", "reload", "plugind.service"]);
            let id = machine.succeed(&["id", "-u", "eve"]);
            assert_eq!(id, format!("{}\n", 61000 + reload));
        }
        drop(end);
        let (programs, calls) = (programs.join().unwrap() * LOOK_UPS, calls.join().unwrap());
        assert!(programs > 0 && calls > 0);
        let took = begun.elapsed();
        let rate = (programs + calls) as f64 / took.as_secs_f64();
        print(&format!(
            "{programs} look-ups by getent and {calls} by varlink in {RELOADS} reloads, none failed: {rate:.0} a second"
        ));
    });

    // systemd looks for the user of the daemon while it starts the daemon, and must not ask the plugin.
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    wait_for_link(&machine);
    assert_eq!(ada(&machine), ADA);
    machine.signal("plugind.service", "KILL");
    machine.wait_for("NRestarts", |restarts| restarts == "1");
    machine.wait_for("ActiveState", |state| state == "active");
    wait_for_link(&machine);
    assert_eq!(ada(&machine), ADA);
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    assert!(!machine.path(LINK).is_symlink());
    assert_eq!(machine.run(&["getent", "passwd", "ada"]).status, 2);
}

/// The time in which a program looks up a user of the machine: the shortest of several.
fn time_of_other_user(machine: &Machine) -> Duration {
    let times = (0..10).map(|_| {
        let begun = Instant::now();
        look_up(machine, "daemon", OTHER_LOOK_UPS);
        begun.elapsed()
    });
    times.min().unwrap_or_default()
}

/// The number of connections to the plugin so far.
fn accepted(machine: &Machine) -> String {
    let stream = machine.within(|| TcpStream::connect("127.0.0.1:9464")).unwrap();
    let metrics = Connection::over(stream).get("/metrics");
    let count = "plugind_socket_connections_accepted_total{socket=\"userdb\"}";
    let line = metrics.text().lines().find(|line| line.starts_with(count));
    line.unwrap_or_else(|| panic!("{}", metrics.text())).to_owned()
}

#[test]
fn other_users_are_found_while_the_plugin_traps_spins_or_waits_for_ever() {
    let example = example("userdb.toml");
    let limits = example.split_once("[limits]").unwrap().1;
    let machine = boot("userdb", &example);
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    machine.succeed(&["systemctl", "start", "plugind-metrics.socket"]);
    machine.start();
    wait_for_link(&machine);
    for how in ["trap", "spin", "wait"] {
        machine.put_guest("userdb", "userdb");
        machine.put_manifest("userdb", &example);
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        let before = accepted(&machine);
        assert_eq!(ada(&machine), ADA);
        assert_ne!(accepted(&machine), before, "{how}");
        let healthy = time_of_other_user(&machine);
        machine.put_guest("userdb", "fails_connections");
        let manifest = format!("[config]\nhow = \"{how}\"\n[limits]{limits}");
        machine.put_manifest("userdb", &manifest);
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        // `id` asks every service for the groups of a user.
        assert_eq!(machine.succeed(&["id", "-un", "0"]), "root\n", "{how}");
        assert!(machine.succeed(&["id", "daemon"]).contains("gid=1(daemon)"), "{how}");
        assert_eq!(machine.run(&["getent", "passwd", "ada"]).status, 2, "{how}");
        let failing = time_of_other_user(&machine);
        let ratio = failing.as_secs_f64() / healthy.as_secs_f64();
        // Those look-ups cost the same because they do not reach the plugin.
        eventually("look-ups without a connection to the plugin", || {
            let before = accepted(&machine);
            look_up(&machine, "daemon", OTHER_LOOK_UPS);
            (accepted(&machine) == before).then_some(())
        });
        print(&format!(
            "look-ups of another user with the plugin that fails ({how}): {ratio:.2} of the time with one that works"
        ));
    }
}
