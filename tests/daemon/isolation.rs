//! The mistakes of one plugin affect no other plugin, and its own clients get a response in time.

use crate::{RESTARTS, control};
use plugind_tests::{Daemon, Tree, eventually};
use rustix::net::sockopt::set_socket_linger;
use std::{
    io::Write as _,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

const IN_A_SECOND: &str = "[limits]\nrequest-timeout = \"1s\"\n";

fn late(plugin: &str) -> String {
    format!("plugin {plugin} did not answer in time\n")
}

fn failed(plugin: &str) -> String {
    format!("plugin {plugin} failed\n")
}

#[test]
fn one_that_loops_one_that_traps_and_one_that_sleeps_leave_their_neighbours_alone() {
    let troubled = format!("{IN_A_SECOND}{RESTARTS}");
    let mut tree = Tree::new().with("hello").with("greeter_02");
    tree = tree.with_manifest("loops_in_request", &troubled);
    tree = tree.with_manifest("traps_in_request", &troubled);
    tree = tree.with_manifest("sleeps", &troubled);
    let daemon = Daemon::start(&tree);

    let over = AtomicBool::new(false);
    let neighbour = |path: &str| {
        let (mut client, mut answers) = (daemon.connect(), 0);
        while !over.load(Relaxed) {
            assert_eq!(client.get(path).status(), 200, "{path}, answer {answers}");
            answers += 1;
        }
        answers
    };
    thread::scope(|scope| {
        let neighbours = ["/hello", "/greeter-02"].map(|path| scope.spawn(move || neighbour(path)));
        let failures = scope.spawn(|| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let answer = daemon.get("/loops-in-request/loop");
                        assert_eq!(answer.status_and_text(), (504, &*late("loops-in-request")));
                    }
                });
                scope.spawn(|| {
                    for _ in 0..3 {
                        let answer = daemon.get("/sleeps/sleep/60000");
                        assert_eq!(answer.status_and_text(), (504, &*late("sleeps")));
                    }
                });
                scope.spawn(|| {
                    for _ in 0..30 {
                        let answer = daemon.get("/traps-in-request/trap");
                        assert_eq!(answer.status_and_text(), (502, &*failed("traps-in-request")));
                        assert_eq!(
                            daemon.get("/traps-in-request").status_and_text(),
                            (200, "fine")
                        );
                    }
                });
            });
        });
        let troubled = failures.join();
        over.store(true, Relaxed);
        for neighbour in neighbours {
            assert!(neighbour.join().unwrap() > 0, "nobody was asked anything meanwhile");
        }
        troubled.unwrap();
    });
    for plugin in ["hello", "greeter-02"] {
        assert_eq!(daemon.log.count(&["instance failed", plugin]), 0);
    }
}

#[test]
fn a_plugin_that_traps_answers_the_next_request() {
    let tree =
        Tree::new().with_manifest("traps_in_request", RESTARTS).with("traps_02").with("hello");
    let daemon = Daemon::start(&tree);
    for plugin in ["traps-in-request", "traps-02"] {
        for _ in 0..10 {
            let answer = daemon.get(&format!("/{plugin}/trap"));
            assert_eq!(answer.status_and_text(), (502, &*failed(plugin)));
            assert_eq!(daemon.get(&format!("/{plugin}")).status_and_text(), (200, "fine"));
        }
        let named = format!("plugin={plugin} ");
        let line = daemon.log.wait_for(&["warning plugind: instance failed", &named]);
        assert!(line.contains(" generation=") && line.contains(" worker="), "{line}");
        assert!(line.contains(" result=trap ") && line.contains(" error="), "{line}");
    }
    assert_eq!(daemon.log.count(&["instance failed", "plugin=hello"]), 0);
}

#[test]
fn a_request_past_its_deadline_is_answered_for_the_plugin_whatever_it_is_doing() {
    let manifest = format!("{IN_A_SECOND}{RESTARTS}");
    let mut tree = Tree::new();
    tree = tree.with_manifest("sleeps", &manifest).with_manifest("sleeps_02", &manifest);
    tree = tree.with_manifest("blocks", &manifest).with_manifest("loops_02", &manifest);
    tree = tree.with_manifest("loops_in_request", &manifest);
    let daemon = Daemon::start(&tree);
    thread::scope(|scope| {
        for (plugin, what) in [
            ("sleeps", "sleep/60000"),
            ("sleeps-02", "sleep/60000"),
            ("blocks", "block/60000"),
            ("loops-02", "loop"),
            ("loops-in-request", "loop"),
        ] {
            let daemon = &daemon;
            scope.spawn(move || {
                let answer = daemon.get(&format!("/{plugin}/{what}"));
                assert_eq!(answer.status_and_text(), (504, &*late(plugin)));
                assert_eq!(daemon.get(&format!("/{plugin}")).status_and_text(), (200, "fine"));
            });
        }
    });
    for plugin in ["sleeps", "blocks", "loops-in-request"] {
        let named = format!("plugin={plugin} ");
        daemon.log.wait_for(&["instance failed", &named, "result=timeout"]);
    }
}

#[test]
fn a_deadline_is_for_the_beginning_of_a_response_and_not_for_its_end() {
    let tree = Tree::new().with_manifest("streams", IN_A_SECOND).with("sleeps");
    let daemon = Daemon::start(&tree);
    let mut client = daemon.connect();
    client.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    let head = client.head();
    assert_eq!(daemon.get("/sleeps/sleep/2000").text(), "slept");
    client.write_chunk(b"late");
    client.write_chunk(b"");
    let mut body = Vec::new();
    client.body(&head, |piece| body.extend_from_slice(piece));
    assert_eq!((head.status, &*body), (200, &b"late"[..]));
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_worker_with_a_request_past_its_deadline_finishes_the_others_and_takes_no_more() {
    let manifest = format!("{IN_A_SECOND}{RESTARTS}[instances]\nmax = 1\n");
    let daemon = Daemon::start(&Tree::new().with_manifest("streams", &manifest));

    let mut other = daemon.connect();
    other.request("POST", "/streams/echo", &["Transfer-Encoding: chunked"]);
    other.write_chunk(b"before");
    let head = other.head();
    assert_eq!(other.chunks_of(6), b"before");

    // It waits for a body that does not come, in the same worker, since there is but one.
    let mut late_one = daemon.connect();
    late_one.request("POST", "/streams/up", &["Content-Length: 10"]);
    assert_eq!(late_one.response().status_and_text(), (504, &*late("streams")));

    assert_eq!(
        daemon.get("/streams").status_and_text(),
        (200, "fine"),
        "another worker takes its place"
    );
    other.write_chunk(b"after");
    assert_eq!(other.chunks_of(5), b"after");
    assert_eq!(daemon.log.count(&["instance failed"]), 0, "it still has something to do");

    other.write_chunk(b"");
    assert_eq!(head.status, 200);
    assert_eq!(other.body(&head, |_| panic!("there was no more")), []);
    let words = ["instance failed", "plugin=streams", "worker=0 ", "result=timeout", " trace_id="];
    daemon.log.wait_for(&words);
}

#[test]
fn an_error_of_a_plugin_is_not_shown_to_its_clients() {
    let daemon = Daemon::start_with(&Tree::new().with("fails"), &["--log", "debug"]);
    let answer = daemon.get("/fails");
    assert_eq!(answer.status_and_text(), (502, &*failed("fails")));
    let fields = format!("{:?}", answer.head.fields);
    assert!(!fields.contains("secret"), "{fields}");
    daemon.log.wait_for(&["debug   plugind: request failed", "plugin=fails", "secret detail"]);
}

#[test]
fn one_that_says_it_is_unhealthy_is_replaced_and_one_that_is_degraded_is_not() {
    let manifest = format!("{RESTARTS}watchdog-sec = \"100ms\"\n[instances]\nmax = 1\n");
    let tree = Tree::new().with_manifest("unhealthy", &manifest);
    let daemon = control::start(&tree);
    assert_eq!(daemon.get("/unhealthy/weaken").status_and_text(), (200, "fine"));
    daemon.log.wait_for(&["warning plugind: plugin degraded", "plugin=unhealthy", "why=weak"]);
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
    for arguments in [&["list"][..], &["status", "unhealthy"]] {
        eventually(&format!("{arguments:?} to show the reason"), || {
            let shown = control::run(&tree, arguments).stdout;
            (shown.contains("degraded") && shown.contains("weak")).then_some(())
        });
    }
    eventually("the summary", || {
        let status = control::run(&tree, &["status"]).stdout;
        status.contains("; degraded: unhealthy (weak)").then_some(())
    });
    assert_eq!(daemon.log.count(&["plugin degraded"]), 1, "an entry for each change");

    assert_eq!(daemon.get("/unhealthy/sicken").status_and_text(), (200, "fine"));
    daemon.log.wait_for(&["instance failed", "worker=0 ", "result=unhealthy", "sick"]);
    assert_eq!(daemon.get("/unhealthy").status_and_text(), (200, "fine"));
    assert_eq!(daemon.get("/unhealthy/sicken").status_and_text(), (200, "fine"));
    daemon.log.wait_for(&["instance failed", "worker=1 ", "result=unhealthy", "sick"]);
}

#[test]
fn a_degraded_plugin_is_shown_with_its_reason() {
    let tree = Tree::new().with_manifest("unhealthy", "[service]\nwatchdog-sec = \"100ms\"\n");
    let daemon = control::start(&tree);
    assert_eq!(daemon.get("/unhealthy/weaken").status_and_text(), (200, "fine"));
    for (arguments, shown) in [
        (&["list"][..], "active (degraded)"),
        (&["list"], " weak\n"),
        (&["status", "unhealthy"], "   Degraded: weak\n"),
        (&["top", "--once"], " degraded "),
        (&["top", "--once"], " weak\n"),
    ] {
        eventually(&format!("{arguments:?} to show {shown:?}"), || {
            control::run(&tree, arguments).stdout.contains(shown).then_some(())
        });
    }
}

#[test]
fn one_that_does_not_answer_for_its_health_is_replaced_although_it_serves() {
    let manifest = format!("{RESTARTS}watchdog-sec = \"500ms\"\n[instances]\nmax = 1\n");
    let daemon = Daemon::start(&Tree::new().with_manifest("health_hangs", &manifest));
    assert_eq!(daemon.get("/health-hangs/hang").status_and_text(), (200, "fine"));
    daemon.log.wait_for(&["instance failed", "plugin=health-hangs", "result=watchdog"]);
    assert_eq!(daemon.get("/health-hangs").status_and_text(), (200, "fine"));
}

#[test]
fn a_call_that_occupies_its_instance_may_outlast_the_watchdog() {
    let manifest = "[service]\nwatchdog-sec = \"200ms\"\n[instances]\nmax = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("starts_02", manifest));
    assert_eq!(daemon.get("/starts-02/sleep/1500").status_and_text(), (200, "slept"));
    assert_eq!(daemon.get("/starts-02").status_and_text(), (200, "fine"));
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_request_that_yields_may_compute_for_longer_than_the_watchdog_allows() {
    let manifest = "[service]\nwatchdog-sec = \"200ms\"\n[instances]\nmax = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("sleeps", manifest));
    assert_eq!(daemon.get("/sleeps/compute/1000").status_and_text(), (200, "computed"));
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_client_that_leaves_does_not_occupy_a_synchronous_instance_for_good() {
    let manifest = "[limits]\nrequest-timeout = \"1h\"\n[instances]\nmax = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("starts_02", manifest));
    let mut client = TcpStream::connect(daemon.address()).unwrap();
    let request = "GET /starts-02/sleep/3600000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    daemon.log.wait_for(&["plugind[starts-02]: sleeping"]);
    set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(daemon.get("/starts-02").status_and_text(), (200, "fine"));
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn one_that_refuses_all_calls_is_replaced_while_calls_wait() {
    let manifest = format!(
        "{}watchdog-sec = \"1s\"\n[instances]\nmax = 1\nconcurrency = 4\n",
        crate::RESTARTS
    );
    let daemon = Daemon::start(&Tree::new().with_manifest("refuses", &manifest));
    assert_eq!(daemon.get("/refuses/refuse").text(), "from now on\n");
    assert_eq!(daemon.get("/refuses").text(), "fine");
    let failed = daemon.log.wait_for(&["instance failed", "plugin=refuses", "result=watchdog"]);
    assert!(failed.contains("refused all calls") && failed.contains("watchdog-sec"), "{failed}");
}

#[test]
fn one_that_spins_is_ended_by_the_watchdog_long_before_the_deadline_of_its_request() {
    let manifest =
        format!("{RESTARTS}watchdog-sec = \"300ms\"\n[limits]\nrequest-timeout = \"1h\"\n");
    let tree = Tree::new().with_manifest("loops_in_request", &manifest);
    let daemon = Daemon::start(&tree.with_manifest("loops_02", &manifest));
    for plugin in ["loops-in-request", "loops-02"] {
        let answer = daemon.get(&format!("/{plugin}/loop"));
        assert_eq!(answer.status_and_text(), (502, &*failed(plugin)));
        let named = format!("plugin={plugin} ");
        daemon.log.wait_for(&["instance failed", &named, "result=watchdog"]);
        assert_eq!(daemon.get(&format!("/{plugin}")).status_and_text(), (200, "fine"));
    }
}

#[test]
fn one_that_wants_more_memory_than_it_may_have_fails_alone() {
    let daemon = Daemon::start(&Tree::new().with_manifest("grows", RESTARTS).with("counts"));
    assert_eq!(daemon.get("/grows/grow/20").status_and_text(), (200, "grown by 20 MiB"));
    assert_eq!(daemon.get("/grows/grow/100").status_and_text(), (502, &*failed("grows")));
    daemon.log.wait_for(&["instance failed", "plugin=grows", "result=oom"]);
    assert_eq!(
        daemon.get("/grows/grow/20").status_and_text(),
        (200, "grown by 20 MiB"),
        "it has room again"
    );
    assert!(daemon.get("/counts").text().ends_with("count=1"));
    assert_eq!(daemon.log.count(&["instance failed", "plugin=counts"]), 0);
}

#[test]
fn an_instance_may_be_as_large_as_its_manifest_says() {
    let larger = "[limits]\ninstance-memory-max = \"100M\"\n";
    let small = "required = false\n";
    let tree = Tree::new().with_named("large", "big_memory", larger);
    let daemon = Daemon::start(&tree.with_named("small", "big_memory", small));
    assert_eq!(daemon.get("/large/5").status_and_text(), (200, "0"));
    // Its memory is larger from the beginning, so it is refused before anything is compiled.
    let parts = ["err     plugind: plugin failed", "plugin=small", "stage=verify"];
    assert!(daemon.log.wait_for(&parts).contains("instance-memory-max"));
    assert_eq!(daemon.get("/small").status_and_text(), (503, "plugin small is not ready\n"));
}

#[test]
fn one_that_fails_again_and_again_is_given_up() {
    let manifest = "[service]\nrestart-sec = \"1ms\"\nstart-limit-burst = 2\nwatchdog-sec = \"500ms\"\n\
                    [instances]\nmax = 1\n";
    let tree = Tree::new().with_manifest("unhealthy", manifest).with("hello");
    let daemon = Daemon::start(&tree);
    for times in 1..=3 {
        assert_eq!(daemon.get("/unhealthy/sicken").status_and_text(), (200, "fine"));
        daemon.log.wait_for_times(times, &["instance failed", "plugin=unhealthy", "sick"]);
    }
    let parts = ["err     plugind: plugin failed", "plugin=unhealthy", "stage=run"];
    assert!(daemon.log.wait_for(&parts).contains("start-limit-hit"));
    let gone = || Some(daemon.get("/unhealthy")).filter(|answer| answer.status() == 503);
    let answer = eventually("the route without a plugin", gone);
    assert_eq!(answer.text(), "plugin unhealthy is not ready\n");
    assert_eq!(answer.head.field("retry-after"), Some("1"));
    assert_eq!(daemon.get("/hello").status(), 200);
}

#[test]
fn requests_that_trap_do_not_take_the_route_away() {
    let manifest = "[service]\nrestart-sec = \"1ms\"\nstart-limit-burst = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("traps_in_request", manifest));
    for _ in 0..10 {
        let answer = daemon.get("/traps-in-request/trap");
        assert_eq!(answer.status_and_text(), (502, &*failed("traps-in-request")));
    }
    assert_eq!(daemon.get("/traps-in-request").status_and_text(), (200, "fine"));
    assert_eq!(daemon.log.count(&["plugin failed"]), 0);
}

/// Returns the processor time that the daemon has used, in hundredths of a second, which is the unit of Linux.
fn processor_time(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    // Behind the name, which may have anything in it, utime and stime are the 12th and the 13th.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_plugin_with_a_quota_that_spins_leaves_the_processor_alone() {
    let quota = "[service]\nwatchdog-sec = \"0\"\n[limits]\ncpu-quota = \"10%\"\nrequest-timeout = \"1h\"\n";
    let tree = Tree::new().with_manifest("loops_in_request", quota).with("sleeps");
    let daemon = Daemon::start(&tree);
    let mut spins = daemon.connect();
    spins.request("GET", "/loops-in-request/loop", &[]);
    let before = processor_time(&daemon);
    eventually("something to be charged", || (processor_time(&daemon) > before + 5).then_some(()));
    let before = processor_time(&daemon);
    assert_eq!(daemon.get("/sleeps/sleep/3000").text(), "slept");
    let used = processor_time(&daemon) - before;
    // It may be 30 and what the daemon itself needs. Where the machine is busy it is less in any case.
    assert!(used < 100, "{used} hundredths in 3 seconds or little more");
}
