//! The Debian package does what an administrator expects of one: installed, upgraded, removed and purged.

use crate::{CLIENTS, HELLO};
use plugind_tests::{Connection, Load, Machine, another, debian_package, guest};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

/// The revision of the engine in the programs, which decides what compiled code they can use, and that of a newer build.
const REVISIONS: [&str; 2] = ["plugind engine revision 005", "plugind engine revision 006"];

/// Changes the programs to those of a build whose engine cannot use the code that the previous ones compiled.
fn change_engine(directory: &Path) {
    for program in ["usr/bin/plugind", "usr/libexec/plugind/plugind-compile"] {
        let path = directory.join(program);
        let mut contents = fs::read(&path).unwrap();
        let [old, new] = REVISIONS.map(str::as_bytes);
        let found = |contents: &[u8]| contents.windows(old.len()).position(|text| text == old);
        let place = found(&contents).expect("the revision is a text in the program");
        contents[place..place + new.len()].copy_from_slice(new);
        assert_eq!(found(&contents), None, "{program} has it twice");
        fs::write(path, contents).unwrap();
    }
}

/// Makes a package of a newer build: with another version and another engine.
pub(crate) fn next_version(package: &Path) -> PathBuf {
    let directory = package.with_file_name("next");
    let succeed = |command: &mut Command| assert!(command.status().unwrap().success());
    succeed(Command::new("dpkg-deb").arg("--raw-extract").args([package, &directory]));
    let control = directory.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap().replace("0.0.1-1", "0.0.1-2");
    fs::write(control, text).unwrap();
    change_engine(&directory);
    let next = package.with_file_name("next.deb");
    succeed(Command::new("dpkg-deb").args(["-Znone", "--build"]).args([&directory, &next]));
    next
}

pub(crate) fn install(machine: &Machine, package: &Path) {
    machine.put("var/tmp/package.deb", fs::read(package).unwrap());
    machine.succeed(&["dpkg", "--install", "/var/tmp/package.deb"]);
    machine.succeed(&["rm", "/var/tmp/package.deb"]);
}

/// The files whose names contain that of the daemon, below the directories that a package writes to.
pub(crate) fn left(machine: &Machine) -> Vec<String> {
    let find = ["find", "/etc", "/usr", "/var", "-xdev", "-path", "*plugind*"];
    let logs = ["-not", "-path", "/var/log/*", "-not", "-path", "/var/cache/man/*"];
    let found = machine.succeed(&[find.as_slice(), &logs].concat());
    let mut found: Vec<_> = found.lines().map(str::to_owned).collect();
    found.sort();
    found
}

/// Does what README.md says about the first service, with a component in the place of that of its project.
fn follow_readme(machine: &Machine, package: &Path) {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("\n## Your first service\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let (before, details) = section.split_once("\n<details>\n").unwrap();
    let (_, after) = details.split_once("\n</details>\n").unwrap();
    let blocks = [before, after].into_iter().flat_map(|part| part.split("\n```sh\n").skip(1));
    let commands: Vec<_> = blocks.map(|block| block.split_once("\n```").unwrap().0).collect();
    let commands = commands.join("\n");
    for part in ["make deb", "sudo apt install ", "sudo pluginctl install ", "curl "] {
        assert!(commands.contains(part), "{part}: {commands}");
    }

    // The page says to which directory each command belongs; here one directory stands for both.
    let name = package.file_name().unwrap().to_str().unwrap();
    machine.put(&format!("var/tmp/hi/target/deb/{name}"), fs::read(package).unwrap());
    let component = fs::read(guest("hello")).unwrap();
    machine.put("var/tmp/hi/target/wasm32-wasip2/release/hi.wasm", component);
    // The package was made already, root needs no sudo, and not every machine has curl.
    let instead = "make() { :; }\nsudo() { \"$@\"; }\ncurl() { echo \"$1\" >/var/tmp/url; }\n";
    let script = format!("{instead}cd /var/tmp/hi\n{commands}\n");
    let output = machine.succeed(&["sh", "-euc", &script]);
    assert!(output.contains("/hi"), "{output}");
    let url = fs::read_to_string(machine.path("var/tmp/url")).unwrap();
    let path = url.trim().strip_prefix("http://127.0.0.1:8080").unwrap();
    assert_eq!(machine.get(path).status_and_text(), (200, "Hello from hi\n"));
    machine.succeed(&["rm", "-r", "/var/tmp/hi", "/var/tmp/url"]);
}

/// Whether the daemon compiled the version of `hello` that serves.
fn compiled(machine: &Machine) -> bool {
    let stream = machine.within(|| TcpStream::connect("127.0.0.1:9464")).unwrap();
    let response = Connection::over(stream).get("/metrics");
    let (metrics, hello) = (response.text(), "{plugin=\"hello\"} ");
    assert!(metrics.contains(&format!("plugind_plugin_ready{hello}1\n")), "{metrics}");
    metrics.contains(&format!("plugind_plugin_compile_time_seconds{hello}"))
}

/// The files in the cache of compiled code.
fn compiled_files(machine: &Machine) -> Vec<String> {
    let find = ["find", "/var/cache/private/plugind", "-name", "*.cwasm"];
    machine.succeed(&find).lines().map(str::to_owned).collect()
}

#[test]
fn a_package_is_installed_as_the_readme_says_upgraded_under_load_and_purged() {
    let directory = tempfile::tempdir().unwrap();
    let first = debian_package(directory.path(), "0.0.1-1");
    let second = next_version(&first);
    let machine = Machine::boot_without();
    assert_eq!(left(&machine), [""; 0]);

    follow_readme(&machine, &first);
    for unit in ["plugind-http.socket", "plugind-control.socket", "plugind-compile.socket"] {
        assert_eq!(machine.property(unit, "ActiveState"), "active", "{unit}");
        assert_eq!(machine.property(unit, "UnitFileState"), "enabled", "{unit}");
    }
    assert_eq!(machine.daemon("ActiveState"), "active");
    assert_eq!(machine.daemon("UnitFileState"), "enabled");
    for unit in ["plugind-reload.path", "plugind-metrics.socket"] {
        assert_eq!(machine.property(unit, "UnitFileState"), "disabled", "{unit}");
    }
    machine.succeed(&["pluginctl", "remove", "hi"]);
    machine.put_guest("hello", "hello");
    // systemd starts no socket of a service that runs.
    machine.succeed(&["systemctl", "stop", "plugind.service"]);
    machine.succeed(&["systemctl", "start", "plugind-metrics.socket", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    let reported = machine.succeed(&["journalctl", "--catalog", "--no-pager", "PLUGIN=hello"]);
    assert!(reported.contains("Subject: Plugin hello is ready"), "{reported}");
    machine.put_component("hello", another("hello"));
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert!(compiled(&machine));
    let files = compiled_files(&machine);

    let before = machine.daemon("MainPID");
    let tally = thread::scope(|scope| {
        let load = Load::begin(scope, &machine, &CLIENTS);
        load.wait_for(200);
        install(&machine, &second);
        load.wait_for(200);
        load.end()
    });
    assert_eq!(tally.failures(), [""; 0], "{} were answered", tally.answered);
    assert_ne!(machine.daemon("MainPID"), before, "the daemon is the previous version");
    // The new compiler filled the cache before the new daemon started, which compiled nothing.
    assert!(!compiled(&machine));
    assert!(compiled_files(&machine).iter().any(|file| !files.contains(file)), "{files:?}");

    machine.succeed(&["dpkg", "--remove", "plugind"]);
    assert_eq!(machine.run(&["systemctl", "cat", "plugind.service"]).status, 1);
    let listening = machine.succeed(&["systemctl", "list-sockets", "--no-legend"]);
    assert!(!listening.contains("plugind"), "{listening}");
    // A removal keeps the state, for the package may come back.
    assert!(machine.path("var/lib/private/plugind").exists());

    machine.succeed(&["dpkg", "--purge", "plugind"]);
    let written = ["/etc/plugind", "/etc/plugind/plugins", "/etc/plugind/plugins/hello.wasm"];
    assert_eq!(left(&machine), written);

    // An administrator can decide that nothing is enabled and started.
    machine.put("etc/systemd/system-preset/00-local.preset", "disable plugind*\n");
    install(&machine, &first);
    for unit in ["plugind.service", "plugind-http.socket", "plugind-control.socket"] {
        assert_eq!(machine.property(unit, "UnitFileState"), "disabled", "{unit}");
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
    }
}
