//! The daemon's view of the machine: its directories, with all that is put into them, and nothing from elsewhere.

use crate::{HELLO, installed, message};
use plugind_tests::{Machine, guest};
use std::fs;

#[test]
fn a_link_out_of_the_daemons_view_is_reported_with_a_remedy() {
    let machine = Machine::boot_with(&["hello"]);
    machine.put("/opt/greeter.wasm", fs::read(guest("hello")).unwrap());
    machine.put_manifest("greeter", "required = false\n");
    machine.succeed(&["ln", "-s", "/opt/greeter.wasm", "/etc/plugind/plugins/greeter.wasm"]);
    // One that stays within is as good as a file.
    machine.succeed(&["ln", "-s", "hello.wasm", "/etc/plugind/plugins/again.wasm"]);
    machine.start();
    assert_eq!(machine.get("/again").status(), 200);
    let entry = machine.wait_for_entry(&[&message("PLUGIN_FAILED"), "PLUGIN=greeter"]);
    for part in [
        "/etc/plugind/plugins/greeter.wasm",
        "a link to /opt/greeter.wasm",
        "sees only some directories",
        "put the file itself in place of the link",
    ] {
        assert!(entry.field("ERROR").contains(part), "{part}: {entry:?}");
    }
    machine.succeed(&["cp", "--remove-destination", "/opt/greeter.wasm", "/etc/plugind/plugins"]);
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/greeter").status_and_text(), (200, "Hello from greeter\n"));
}

#[test]
fn files_that_are_put_into_a_directory_later_are_seen_by_the_running_daemon() {
    let machine = Machine::boot();
    machine.start();
    let pid = machine.daemon("MainPID");
    let component = fs::read(guest("hello")).unwrap();
    for above in ["/usr/lib", "/run", "/etc"] {
        let file = format!("{above}/plugind/plugins/hello.wasm");
        machine.put(&file, &component);
        // A directory that was replaced is another one.
        let manifest = format!("{above}/plugind/plugins/hello.toml.d/new.toml");
        machine.put(&manifest, format!("[config]\ngreeting = \"{above}\"\n"));
        machine.succeed(&["systemctl", "reload", "plugind.service"]);
        assert_eq!(machine.get("/hello").text(), format!("{above} from hello\n"));
        machine.succeed(&["rm", "-r", &file, &manifest]);
    }
    machine.put("/etc/plugind/plugind.toml", "no toml");
    assert_ne!(machine.systemctl(&["reload", "plugind.service"]).status, 0);
    assert_eq!(machine.daemon("MainPID"), pid);
}

#[test]
fn a_file_that_only_root_may_read_is_reported_with_a_remedy() {
    let machine = Machine::boot_with(&["hello"]);
    machine.succeed(&["chmod", "0600", "/etc/plugind/plugins/hello.wasm"]);
    machine.put_drop_in("plugind.service", "[Service]\nRestart=no\n");
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    let status = machine.daemon("StatusText");
    assert!(status.contains("chmod a+r /etc/plugind/plugins/hello.wasm"), "{status}");
    machine.succeed(&["chmod", "0644", "/etc/plugind/plugins/hello.wasm"]);
    machine.start();
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
}

#[test]
fn a_credential_comes_from_the_machine_to_the_plugin_that_was_granted_it() {
    let machine = Machine::boot_with(&["secret"]);
    machine.put_manifest("secret", "[grants]\ncredentials = [\"token\"]\n");
    machine.put("/etc/credstore/plugind.secret.token", "hush");
    machine.succeed(&["chmod", "-R", "go=", "/etc/credstore"]);
    if installed::version(&machine) < 254 {
        // It does not know ImportCredential=.
        let load = "[Service]\nLoadCredential=plugind.secret.token\n";
        machine.put_drop_in("plugind.service", load);
    }
    machine.start();
    assert_eq!(machine.get("/secret/token").status_and_text(), (200, "hush"));
}

#[test]
fn an_encrypted_credential_is_decrypted_for_the_plugin_that_was_granted_it() {
    let machine = Machine::boot_with(&["secret"]);
    machine.put_manifest("secret", "[grants]\ncredentials = [\"token\", \"file\", \"line\"]\n");
    // The key of the machine, since it has no TPM.
    machine.succeed(&["systemd-creds", "setup"]);
    let encrypt = |name: &str, options: &[&str]| {
        let mut command = vec!["systemd-creds", "encrypt", "--with-key=host"];
        let name = format!("--name=plugind.secret.{name}");
        command.push(&name);
        command.extend(options);
        machine.succeed(&command)
    };
    machine.put("etc/plain", "hush");
    machine.succeed(&["mkdir", "-p", "-m", "0700", "/etc/credstore.encrypted"]);
    encrypt("token", &["/etc/plain", "/etc/credstore.encrypted/plugind.secret.token"]);
    encrypt("file", &["/etc/plain", "/etc/secret.cred"]);
    let line = encrypt("line", &["--pretty", "/etc/plain", "-"]);
    machine.succeed(&["rm", "/etc/plain"]);
    let mut drop_in =
        "[Service]\nLoadCredentialEncrypted=plugind.secret.file:/etc/secret.cred\n".to_owned();
    drop_in += &line;
    if installed::version(&machine) < 254 {
        // It does not know ImportCredential=.
        drop_in += "\nLoadCredentialEncrypted=plugind.secret.token\n";
    }
    machine.put_drop_in("plugind.service", &drop_in);
    machine.start();
    for name in ["token", "file", "line"] {
        let answer = machine.get(&format!("/secret/{name}"));
        assert_eq!(answer.status_and_text(), (200, "hush"), "{name}");
    }
    // It is nowhere on the disk.
    let found = machine.run(&["grep", "-r", "-l", "-x", "hush", "/etc", "/var/lib/plugind"]);
    assert_eq!((found.status, &*found.output), (1, ""), "{found:?}");
}

#[test]
fn a_key_value_store_survives_a_kill_of_the_daemon_under_its_unit() {
    let machine = Machine::boot_with(&["stores"]);
    machine.put_manifest("stores", "[grants]\nkeyvalue = {}\n");
    machine.start();
    assert_eq!(machine.get("/stores/set/key/value").status_and_text(), (200, "done"));
    let pid = machine.daemon("MainPID");
    machine.signal("plugind.service", "KILL");
    machine.wait_for("MainPID", |now| now != pid && now != "0");
    assert_eq!(machine.get("/stores/get/key").status_and_text(), (200, "value"));
}

#[test]
fn a_plugin_calls_another_one_although_the_daemon_has_no_network() {
    let machine = Machine::boot_with(&["calls", "hello"]);
    machine.put_manifest("calls", "[grants]\ncall = [\"hello\"]\n");
    machine.start();
    assert_eq!(machine.daemon("PrivateNetwork"), "yes");
    assert_eq!(machine.daemon("RestrictAddressFamilies"), "AF_UNIX");
    for version in ["02", "03"] {
        let answer = machine.get(&format!("/calls/{version}/hello"));
        assert_eq!(answer.status_and_text(), (200, &*format!("200 {HELLO}")), "{version}");
    }
}

#[test]
fn a_changed_credential_reaches_the_plugin_by_a_reload_or_a_restart() {
    let machine = Machine::boot_with(&["secret"]);
    machine.put_manifest("secret", "[grants]\ncredentials = [\"token\"]\n");
    let drop_in = "etc/systemd/system/plugind.service.d/credential.conf";
    machine.put(drop_in, "[Service]\nLoadCredential=plugind.secret.token:/etc/token\n");
    machine.reload_units();
    machine.put("etc/token", "old");
    machine.start();
    assert_eq!(machine.get("/secret/token").status_and_text(), (200, "old"));
    let reload = || machine.run(&["pluginctl", "reload"]);
    assert_eq!(reload().errors, "");
    machine.put("etc/token", "new");
    let errors = reload().errors;
    assert!(
        errors.contains("has older credentials than the machine: plugind.secret.token;"),
        "{errors}"
    );
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    // Older versions of systemd keep the credentials of the start.
    if installed::version(&machine) < 260 {
        assert_eq!(machine.get("/secret/token").status_and_text(), (200, "old"));
        machine.succeed(&["systemctl", "restart", "plugind.service"]);
    }
    assert_eq!(machine.get("/secret/token").status_and_text(), (200, "new"));
    assert_eq!(reload().errors, "");
}

/// The failure of `pluginctl reload`, which the status of the daemon has as well, while `/hello` is served.
fn reload_in_vain(machine: &Machine) -> String {
    let reload = machine.run(&["pluginctl", "reload"]);
    assert_eq!(reload.status, 1, "{reload:?}");
    assert!(reload.errors.starts_with("reload failed, nothing changed: "), "{reload:?}");
    assert_ne!(machine.systemctl(&["reload", "plugind.service"]).status, 0);
    let why = reload.errors.trim_end().trim_start_matches("reload failed, nothing changed: ");
    let status = machine.daemon("StatusText");
    assert!(status.ends_with(&format!("; not reloaded: {why}")), "{status}");
    let shown = machine.run(&["pluginctl", "status"]);
    assert!(shown.status == 3 && shown.output.contains(why), "{shown:?}");
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    why.to_owned()
}

#[test]
fn a_directory_that_was_replaced_as_a_whole_is_reported_until_a_restart() {
    let machine = Machine::boot_with(&["hello"]);
    machine.start();
    machine.succeed(&["cp", "-a", "/etc/plugind", "/etc/plugind.new"]);
    machine.succeed(&[
        "cp",
        "/etc/plugind/plugins/hello.wasm",
        "/etc/plugind.new/plugins/new.wasm",
    ]);
    machine.succeed(&["mv", "/etc/plugind", "/etc/plugind.old"]);
    let replaced = "/etc/plugind was replaced or removed";
    assert!(reload_in_vain(&machine).contains(replaced));
    machine.succeed(&["mv", "/etc/plugind.new", "/etc/plugind"]);
    assert!(reload_in_vain(&machine).contains(replaced));
    machine.succeed(&["rm", "-r", "/etc/plugind.old"]);
    let why = reload_in_vain(&machine);
    assert!(why.contains(replaced) && why.contains("until its unit, or its container"), "{why}");
    machine.succeed(&["systemctl", "restart", "plugind.service"]);
    assert_eq!(machine.get("/new").status(), 200);
    assert_eq!(machine.daemon("StatusText"), "2 of 2 plugins ready");
    machine.succeed(&["pluginctl", "reload"]);

    // A directory above it was replaced, which the daemon cannot know.
    machine.succeed(&["mount", "-t", "tmpfs", "tmpfs", "/etc"]);
    machine.put_guest("newest", "hello");
    let reload = machine.run(&["pluginctl", "reload"]);
    assert_eq!(reload.status, 1, "{reload:?}");
    let reported = "plugind.service sees an older directory than the machine: /etc/plugind; `systemctl restart";
    assert!(reload.errors.contains(reported), "{reload:?}");
    machine.succeed(&["umount", "/etc"]);
    machine.succeed(&["pluginctl", "reload"]);
}

#[test]
fn a_directory_that_was_unmounted_takes_no_plugin_with_it() {
    let machine = Machine::boot();
    let plugins = "/etc/plugind/plugins";
    machine.succeed(&["mkdir", "-p", plugins]);
    machine.succeed(&["mount", "-t", "tmpfs", "tmpfs", plugins]);
    machine.put_guest("hello", "hello");
    machine.succeed(&["cp", "/etc/plugind/plugins/hello.wasm", "/root"]);
    machine.start();
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    // The daemon does not keep it busy.
    machine.succeed(&["umount", plugins]);
    let why = reload_in_vain(&machine);
    for part in [plugins, "has no component and is on another file system", "mount it again"] {
        assert!(why.contains(part), "{why}");
    }
    machine.succeed(&["mount", "-t", "tmpfs", "tmpfs", plugins]);
    machine.succeed(&["cp", "/root/hello.wasm", plugins]);
    machine.succeed(&["pluginctl", "reload"]);
    assert_eq!(machine.daemon("StatusText"), "1 of 1 plugins ready");
    // Emptied where it is, it takes them.
    machine.succeed(&["rm", "/etc/plugind/plugins/hello.wasm"]);
    machine.succeed(&["pluginctl", "reload"]);
    assert_eq!(machine.get("/hello").status(), 404);
}

#[test]
fn check_reports_files_that_the_unit_keeps_from_the_daemon() {
    let machine = Machine::boot_with(&["hello", "sleeps"]);
    machine.put_guest("third", "hello");
    machine.put("/opt/greeter.wasm", fs::read(guest("hello")).unwrap());
    machine.succeed(&["ln", "-s", "/opt/greeter.wasm", "/etc/plugind/plugins/greeter.wasm"]);
    machine.succeed(&["ln", "-s", "hello.wasm", "/etc/plugind/plugins/again.wasm"]);
    machine.succeed(&["chmod", "0600", "/etc/plugind/plugins/sleeps.wasm"]);
    machine.put("/etc/plugind/plugins/third.toml.d/10-log.toml", "required = false\n");
    machine.succeed(&["chmod", "0700", "/etc/plugind/plugins/third.toml.d"]);
    let check = |options: &[&str]| {
        machine.run(&[&["pluginctl", "check", "--no-compile"], options].concat())
    };
    let found = check(&[]);
    assert_eq!(found.status, 1, "{found:?}");
    for part in [
        "greeter.wasm: it leads to /opt/greeter.wasm, which plugind.service hides from the daemon: \
         RootDirectory=/usr/lib/plugind/root",
        "sleeps.wasm: the user of plugind.service cannot read it; `chmod a+r ",
        "third.toml.d: the user of plugind.service cannot read it; `chmod a+rx ",
    ] {
        assert!(found.errors.contains(part), "{part}: {found:?}");
    }
    assert_eq!(found.output.matches("fails at verify").count(), 3, "{found:?}");
    assert_eq!(found.output.matches(" ok ").count(), 2, "{found:?}");
    assert_eq!(check(&["--no-unit"]).status, 0);

    // The daemon says the same.
    machine.put_drop_in("plugind.service", "[Service]\nRestart=no\n");
    assert_ne!(machine.systemctl(&["start", "plugind.service"]).status, 0);
    let status = machine.daemon("StatusText");
    for plugin in ["greeter", "sleeps", "third"] {
        assert!(status.contains(&format!("plugin {plugin} failed")), "{status}");
    }

    // After its remedies, the daemon starts.
    machine.succeed(&["cp", "--remove-destination", "/opt/greeter.wasm", "/etc/plugind/plugins"]);
    machine.succeed(&["chmod", "a+r", "/etc/plugind/plugins/sleeps.wasm"]);
    machine.succeed(&["chmod", "a+rx", "/etc/plugind/plugins/third.toml.d"]);
    let found = check(&[]);
    assert_eq!((found.status, found.output.matches(" ok ").count()), (0, 5), "{found:?}");
    machine.start();

    machine.put("/etc/plugind/plugind.toml", "log-level = \"info\"\n");
    machine.succeed(&["chmod", "0600", "/etc/plugind/plugind.toml"]);
    let found = check(&[]);
    assert_eq!(found.status, 78, "{found:?}");
    assert!(found.errors.contains("plugind.toml: the user of plugind.service cannot read it"));
}

/// As on Arch, where all libraries are in /usr/lib, which has the root directory of the daemon as well.
#[test]
fn libraries_are_bound_from_a_directory_that_contains_the_root_directory() {
    let machine = Machine::boot_with(&["hello"]);
    let binds = "BindReadOnlyPaths=/usr/lib:/usr/lib:norbind\nExecPaths=+/usr/lib\n";
    machine.put_drop_in("plugind.service", &format!("[Service]\n{binds}"));
    machine.start();
    machine.succeed(&["systemctl", "reload", "plugind.service"]);
    assert_eq!(machine.get("/hello").status_and_text(), (200, HELLO));
    let root = format!("/proc/{}/root/usr/lib", machine.daemon("MainPID"));
    machine.succeed(&["test", "-d", &format!("{root}/systemd/system")]);
    // The root directory is there without the mounts in it.
    assert_eq!(machine.succeed(&["ls", &format!("{root}/plugind/root/usr/lib/plugind")]), "");
}
