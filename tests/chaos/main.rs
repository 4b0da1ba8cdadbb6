//! Chaos: reloads, broken versions, hostile plugins and hostile clients at once, in an order that a number decides.
//! Clients of plugins that are in order lose no request, and the daemon keeps no descriptor, thread or mapping.
//!
//! `PLUGIND_CHAOS_ROUNDS` is the number of acts of the operator. `PLUGIND_CHAOS_SEED` repeats a run, as far as its order.
//! `PLUGIND_CHAOS_PARTS` divides the second half; after each part, the figures of the daemon at rest are printed.
//! `PLUGIND_CHAOS_REQUESTS` and `PLUGIND_CHAOS_RELOADS` are numbers of answered requests and of reloads that a run must reach.

mod clients;
mod operator;

use clients::{Clients, Stop};
use operator::Operator;
use plugind_tests::{Daemon, Figures, Random, Tree, number, wait_long};
use std::{
    io::{Write, stdout},
    thread::scope,
};

/// Acts of the operator in each half if nothing else is asked for: enough for each kind to come about.
const ROUNDS: u64 = 12;
/// Requests of each client of a plugin in order between two acts.
const REQUESTS: u64 = 20;

/// Limits under which a hostile plugin does its worst and is replaced soon.
const HOSTILE: &str = "required = false\n\
    [limits]\nmemory-max = \"64M\"\nrequest-timeout = \"2s\"\nlog-rate = \"100/1s\"\n\
    [service]\nwatchdog-sec = \"1s\"\nrestart-sec = \"100ms\"\n";

/// Limits under which a plugin that works answers each request, however busy the machine is.
pub(crate) const GOOD: &str = "[limits]\nrequest-timeout = \"10min\"\n";

/// Twelve plugins: five in order, seven hostile.
fn tree() -> Tree {
    let mut tree = Tree::new()
        .with_manifest("hello", GOOD)
        .with_manifest("greeter_02", GOOD)
        .with_manifest("streams", GOOD)
        .with("ticker")
        .with_manifest(
            "counts",
            &format!("{GOOD}[instances]\nmax = 1\nrecycle-after = 1000000000\n"),
        );
    for guest in operator::HOSTILE_GUESTS {
        tree = tree.with_manifest(guest, HOSTILE);
    }
    tree
}

/// Works for `count` rounds with all clients, then lets them end. Each client of a plugin that behaves well gets
/// `requests` responses in each round.
fn rounds(
    daemon: &Daemon,
    operator: &mut Operator,
    random: &mut Random,
    count: u64,
    requests: u64,
) -> u64 {
    let stop = Stop::default();
    scope(|scope| {
        let clients = Clients::begin(scope, daemon, &stop, random);
        for _ in 0..count {
            operator.act(daemon, random);
            clients.wait_for(requests);
        }
        clients.end()
    })
}

#[test]
fn chaos_loses_no_request_of_a_good_plugin_and_leaves_nothing_behind() {
    wait_long();
    let seed = number("PLUGIND_CHAOS_SEED").unwrap_or_else(|| std::process::id().into());
    let count = number("PLUGIND_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let wanted = ["REQUESTS", "RELOADS"].map(|it| number(&format!("PLUGIND_CHAOS_{it}")));
    let [wanted_requests, wanted_reloads] = wanted.map(Option::unwrap_or_default);
    let requests = wanted_requests.div_ceil(2 * count * clients::GOOD_CLIENTS as u64).max(REQUESTS);
    let mut random = Random::new(seed);
    let tree = tree();
    let daemon = Daemon::start(&tree);
    let mut operator = Operator::new(&tree);

    // Caches, pools and the allocator have what they need after the first half.
    let mut answered = rounds(&daemon, &mut operator, &mut random, count, requests);
    operator.tidy(&daemon);
    let first = Figures::at_rest(&daemon);
    let parts = number("PLUGIND_CHAOS_PARTS").unwrap_or(1).max(1);
    for part in 1..=parts {
        let count = count.div_ceil(parts);
        answered += rounds(&daemon, &mut operator, &mut random, count, requests);
        operator.tidy(&daemon);
        if part < parts {
            let reloads = operator.reloads();
            let now = Figures::at_rest(&daemon);
            writeln!(stdout(), "{answered} requests, {reloads} reloads: {now}").unwrap();
        }
    }
    let last = Figures::not_above(&daemon, &first);

    let summary = format!(
        "seed {seed}: {answered} requests answered, {} reloads\nfirst: {first}\nlast:  {last}\n",
        operator.reloads()
    );
    // Also of a test that passes.
    stdout().write_all(summary.as_bytes()).unwrap();
    assert!(answered >= wanted_requests && operator.reloads() >= wanted_reloads, "{summary}");
    assert_eq!(daemon.log.count(&["instance failed", "plugin=counts"]), 0, "{summary}");
    assert_eq!(daemon.log.count(&["err     plugind: instance failed", "plugin=hello"]), 0);
}
