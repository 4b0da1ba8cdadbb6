//! Many reloads in a row: no request is lost, and unchanged plugins are not touched.

use crate::count;
use plugind_tests::{Client, Load, Machine, Right, Tally, Versions, Way, another, guest};
use serde_json::Value;
use std::{
    fs,
    io::{self, Write},
    thread,
};

/// Number of reloads with good versions, and then again with bad ones among them.
const RELOADS: u64 = 50;
/// Every so often a version is bad.
const BAD: u64 = 3;
/// Every so often a version has a component that was never seen.
const NEW: u64 = 5;
/// The plugins that do not change: one of each mode, and a program.
const UNCHANGED: [&str; 4] = ["exclusive", "fresh", "shared", "ticker"];
const BODY: &str = "the first half of a body, and the second half of it";
/// Slow by the plugin, which takes more than a second.
const DRIPS: usize = 100 << 10;
/// Slow by the client: more than fits between it and the plugin.
const HELD: usize = 8 << 20;

fn clients(versions: &Versions) -> Vec<Client<'_>> {
    let changes = [
        ("/versions", Way::Get, Right::Version(versions)),
        ("/versions/echo", Way::Post(BODY), Right::Echo(BODY, versions)),
        ("/versions/echo", Way::PostHalves(BODY), Right::Echo(BODY, versions)),
        ("/versions/drip/102400", Way::GetPieces(512), Right::Stream(DRIPS, versions)),
        ("/versions/down/8388608", Way::GetHeld(HELD / 8), Right::Stream(HELD, versions)),
    ];
    let changes = changes.into_iter().flat_map(|(path, way, right)| {
        [false, true].map(|keeps| Client { path, way, keeps, right })
    });
    // One client for each: nobody else has it count.
    let stays = [
        ("/exclusive", Right::Counts),
        ("/shared", Right::Counts),
        ("/fresh", Right::CountsAfresh),
    ];
    let stays = stays.map(|(path, right)| Client { path, way: Way::Get, keeps: true, right });
    changes.chain(stays).collect()
}

/// Puts a version in the place of the one before, and says why it is bad, if it is. Its component is new as well every
/// now and then; compiling takes time.
fn put(machine: &Machine, version: u64, bad: bool) -> Option<&'static str> {
    let manifest = format!("[config]\nversion = \"{version}\"\n");
    let component = match version % NEW {
        0 => another("versions"),
        _ => fs::read(guest("versions")).unwrap(),
    };
    let (manifest, component, why) = match version / BAD % 3 {
        _ if !bad => (manifest, component, None),
        0 => (manifest, b"no component".to_vec(), Some("is not WebAssembly")),
        1 => (manifest + "start = \"trap\"\n", component, Some("trap")),
        _ => (format!("verison = 1\n{manifest}"), component, Some("unknown key \"verison\"")),
    };
    machine.put_component("versions", component);
    machine.put_manifest("versions", &manifest);
    why
}

/// Generation, time since it is ready, and failures of what does not change.
fn identities(machine: &Machine) -> Vec<(Value, Value, Value)> {
    let list = machine.succeed(&["pluginctl", "list", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let plugins = list["plugins"].as_array().unwrap();
    let unchanged = UNCHANGED.iter().map(|name| {
        let plugin = plugins.iter().find(|plugin| plugin["name"] == *name).unwrap();
        assert_eq!(plugin["activeState"], "active", "{plugin}");
        (plugin["generation"].clone(), plugin["since"].clone(), plugin["failures"].clone())
    });
    unchanged.collect()
}

/// Which worker of which generation answers, and how many requests it has had.
fn counted(machine: &Machine, path: &str) -> (String, u64) {
    let answer = machine.get(path);
    let (who, count) = answer.text().rsplit_once(" count=").unwrap();
    (who.to_owned(), count.parse().unwrap())
}

/// The numbers that the program counts, once a second.
fn ticks(machine: &Machine) -> Vec<u64> {
    let reported = machine.journal(&["PLUGIN=ticker"]);
    let ticks = reported.iter().filter_map(|entry| entry.get("MESSAGE")?.strip_prefix("tick "));
    ticks.map(|tick| tick.parse().unwrap()).collect()
}

/// Prints figures, even if the test passes.
fn notify(what: &str, each: &[(String, Tally)]) {
    let lines: String = each.iter().map(|(who, tally)| format!("  {who}: {tally}\n")).collect();
    io::stderr().write_all(format!("{what}\n{lines}").as_bytes()).unwrap();
}

fn all(each: Vec<(String, Tally)>) -> Tally {
    each.into_iter().map(|(_, tally)| tally).fold(Tally::default(), Tally::and)
}

#[test]
fn a_hundred_reloads_with_bad_versions_among_them_lose_no_request() {
    let machine = Machine::boot();
    for name in ["exclusive", "fresh", "shared"] {
        machine.put_guest(name, "counts");
        // A second instance, which comes when the first has not quite finished, would count apart.
        // Nor may one be replaced for the number of its requests.
        let recycle = if name == "fresh" { "" } else { "recycle-after = 4000000000\n" };
        let manifest = format!("[instances]\nmode = \"{name}\"\nmax = 1\n{recycle}");
        machine.put_manifest(name, &manifest);
    }
    machine.put_guest("ticker", "ticker");
    let versions = Versions::default();
    versions.may_answer(0);
    put(&machine, 0, false);
    machine.start();
    let workers = || ["/exclusive", "/shared"].map(|path| counted(&machine, path));
    let (pid, before, workers_before) =
        (machine.daemon("MainPID"), identities(&machine), workers());

    let mut causes = Vec::new();
    for (what, bad_every) in [("good versions", u64::MAX), ("bad versions among them", BAD)] {
        let each = thread::scope(|scope| {
            let load = Load::begin(scope, &machine, &clients(&versions));
            for nth in 1..=RELOADS {
                let version = if bad_every == BAD { RELOADS + nth } else { nth };
                let bad = nth % bad_every == 0;
                if !bad {
                    versions.may_answer(version);
                }
                let why = put(&machine, version, bad);
                let reload = machine.systemctl(&["reload", "plugind.service"]);
                assert_eq!(reload.status == 0, why.is_none(), "version {version}: {reload:?}");
                if let Some(why) = why {
                    // systemd reads notices after the end of the command.
                    let named = |status: &str| status.contains("versions") && status.contains(why);
                    machine.wait_for("StatusText", named);
                    causes.push(why);
                } else {
                    versions.answers(version);
                }
                load.turn();
                load.wait_for(20);
            }
            load.end_each()
        });
        notify(&format!("{RELOADS} reloads, {what}:"), &each);
        let least = each.iter().map(|(_, tally)| tally.answered).min();
        let all = all(each);
        assert_eq!(all.failures(), [""; 0], "{what}");
        assert_eq!(all.closed, 0, "connections are the listener's, whatever becomes of plugins");
        assert!(least >= Some(3), "somebody was hardly answered");
    }

    assert_eq!(machine.daemon("MainPID"), pid);
    assert_eq!(identities(&machine), before);
    for (before, after) in workers_before.iter().zip(workers()) {
        assert!(before.0 == after.0 && before.1 < after.1, "{before:?} became {after:?}");
    }
    for name in UNCHANGED {
        assert_eq!(count(&machine, "PLUGIN_READY", &format!("PLUGIN={name}")), 1);
    }
    let ticks = ticks(&machine);
    assert!(ticks.len() >= 5 && ticks.iter().copied().eq(1..=ticks.len() as u64), "{ticks:?}");
    // The messages of pluginctl about each reload that failed, in the same order.
    let reported = machine.journal(&["SYSLOG_IDENTIFIER=pluginctl"]);
    let reported: Vec<_> = reported.iter().map(|entry| entry.field("MESSAGE")).collect();
    let failed: Vec<_> =
        reported.iter().filter(|line| line.starts_with("versions: failed")).collect();
    assert_eq!(failed.len(), causes.len(), "{failed:?}");
    for (line, why) in failed.iter().zip(causes) {
        assert!(line.contains(why), "{why:?} is not in {line:?}");
    }
}
