//! The distribution of a plugin's work among its instances.

use plugind_tests::{Connection, Daemon, Tree};

/// A manifest for one call at a time in each of so many instances.
fn one_each(max: u32) -> String {
    format!("[instances]\nmax = {max}\nconcurrency = 1\n[limits]\nrequest-timeout = \"1s\"\n")
}

/// Brings a call so far that the response has begun and the guest waits for more of the request. No deadline
/// applies to that.
fn begin(daemon: &Daemon, plugin: &str) -> Connection {
    let mut client = daemon.connect();
    client.request("POST", &format!("/{plugin}/echo"), &["Transfer-Encoding: chunked"]);
    client.write_chunk(b"in");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunks_of(2), b"in");
    client
}

fn end(mut client: Connection) {
    client.write_chunk(b"out");
    assert_eq!(client.chunks_of(3), b"out");
    client.write_chunk(b"");
    assert_eq!(client.chunks_of(1), b"");
}

#[test]
fn two_workers_of_one_plugin_are_at_work_at_the_same_moment() {
    for guest in ["streams", "streams_02"] {
        let daemon = Daemon::start(&Tree::new().with_named("two", guest, &one_each(2)));
        // When the guest reads the body, the client gets `100 Continue`. Each worker has one call at a time, so two
        // calls that have reached this point are in two workers.
        let clients = [(); 2].map(|()| {
            let mut client = daemon.connect();
            client.request("POST", "/two/up", &["Expect: 100-continue", "Content-Length: 4"]);
            assert_eq!(client.head().status, 100);
            client
        });
        for mut client in clients {
            client.write("body");
            assert_eq!(client.response().status_and_text(), (200, "4"));
        }
        assert_eq!(daemon.log.count(&["instance failed"]), 0);
    }
}

#[test]
fn a_call_lasts_until_its_response_is_complete() {
    for guest in ["streams", "streams_02"] {
        let daemon = Daemon::start(&Tree::new().with_named("one", guest, &one_each(1)));
        let first = begin(&daemon, "one");
        // The handler may have returned, but not what it left behind to write the response.
        let answer = daemon.get("/one");
        assert_eq!(answer.status_and_text(), (503, "plugin one is busy\n"), "{guest}");
        assert_eq!(answer.head.field("retry-after"), Some("1"));
        end(first);
        assert_eq!(daemon.get("/one").status_and_text(), (200, "fine"));
    }
}

#[test]
fn one_worker_is_shared_by_as_many_calls_as_its_manifest_says() {
    let shared = "[instances]\nmax = 1\nconcurrency = 3\n[limits]\nrequest-timeout = \"1s\"\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("streams", shared));
    let clients = [(); 3].map(|()| begin(&daemon, "streams"));
    assert_eq!(daemon.get("/streams").status(), 503);
    for client in clients {
        end(client);
    }
    assert_eq!(daemon.get("/streams").status(), 200);
}

#[test]
fn a_guest_that_computes_or_blocks_after_it_has_waited_keeps_no_request_waiting() {
    let manifest = "[service]\nwatchdog-sec = \"1h\"\n[limits]\nrequest-timeout = \"1h\"\n\
                    [instances]\nmode = \"shared\"\nmax = 2\n";
    for work in ["compute", "block"] {
        let daemon = Daemon::start(&Tree::new().with_manifest("occupies", manifest));
        // It is not answered.
        let mut first = daemon.connect();
        let path = format!("/occupies/{work}");
        first.request("POST", &path, &["Transfer-Encoding: chunked"]);
        daemon.log.wait_for(&["waits"]);
        assert_eq!(daemon.get("/occupies").status(), 200, "{work}");
        first.write_chunk(b"go");
        daemon.log.wait_for(&["begins"]);
        assert_eq!(daemon.get("/occupies").status_and_text(), (200, "1"), "{work}");
    }
}

#[test]
fn an_instance_knows_its_name_generation_and_number() {
    let daemon = Daemon::start(&Tree::new().with_manifest("counts", "[instances]\nmax = 1\n"));
    let ready = daemon.log.wait_for(&["plugin ready", "plugin=counts"]);
    let (_, rest) = ready.split_once("generation=").unwrap();
    let generation = rest.split(' ').next().unwrap();
    for count in 1..=3 {
        let reported = format!("worker=0 generation={generation} count={count}");
        assert_eq!(daemon.get("/counts").status_and_text(), (200, &*reported));
    }
}

#[test]
fn the_manifest_says_how_long_an_instance_is_used() {
    let mode = |mode: &str| format!("[instances]\nmode = \"{mode}\"\nmax = 1\n");
    let recycled = "[instances]\nmax = 1\nrecycle-after = 2\n";
    let mut tree = Tree::new();
    tree = tree.with_named("fresh", "counts", &mode("fresh"));
    tree = tree.with_named("shared", "counts", &mode("shared"));
    tree = tree.with_named("exclusive", "counts", &mode("exclusive"));
    tree = tree.with_named("recycled", "counts", recycled);
    let daemon = Daemon::start(&tree);
    for (plugin, counts) in [
        ("fresh", [1, 1, 1, 1, 1]),
        ("shared", [1, 2, 3, 4, 5]),
        ("exclusive", [1, 2, 3, 4, 5]),
        ("recycled", [1, 2, 1, 2, 1]),
    ] {
        let counted = counts.map(|_| {
            let answer = daemon.get(&format!("/{plugin}"));
            let (_, count) = answer.text().split_once("count=").unwrap();
            count.parse::<u32>().unwrap()
        });
        assert_eq!(counted, counts, "{plugin}");
    }
}

#[test]
fn a_component_of_wasi_http_0_2_may_be_shared_if_its_manifest_says_so() {
    let shared = "[instances]\nmode = \"shared\"\nmax = 1\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("greeter_02", shared));
    for _ in 0..20 {
        let answer = daemon.get("/greeter-02");
        assert_eq!(answer.status_and_text(), (200, "Hello from a wasi:http 0.2 component\n"));
    }
    assert_eq!(daemon.log.count(&["instance failed"]), 0);
}

#[test]
fn a_plugin_with_memory_for_one_instance_serves_with_one() {
    // Each takes 80 MiB, and a second one would be of use.
    let manifest = "[service]\nrestart-sec = \"1ms\"\nrestart-max-delay-sec = \"1ms\"\n\
                    [instances]\nmax = 2\nconcurrency = 1\n\
                    [limits]\nmemory-max = \"128M\"\ninstance-memory-max = \"128M\"\n";
    let daemon = Daemon::start(&Tree::new().with_manifest("big_memory", manifest));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = daemon.connect();
                for _ in 0..200 {
                    assert_eq!(client.get("/big-memory/1").status(), 200);
                }
            });
        }
    });
}
