//! The orders in which requests, the results of work and the events of a plugin arrive. Nothing is read, compiled or run:
//! each result is a message of the test.

use super::*;
use crate::{
    base::{budget::Budget, figures::Figures, limits::ComponentLimits},
    config::{SearchPath, settings::PoolSettings},
    journal::stalled,
    plugin::{
        compiler::Compiler, core_dumps::CoreDumps, credentials::CredentialsSeen,
        directories::ScanReport, inspection::Inspection, manifest::Manifest, release::Release,
        verify::Verified,
    },
    pool::{
        commons::Commons, failure::Failure, post_mortem::PostMortem, shares::InstancePool,
        worker_event::InstanceStage,
    },
    route::{
        sockets::{SocketKinds, SocketPlan},
        table,
    },
    runtime::{cache::Cache, engine::EngineKind, executors::Executors},
    supervisor::{
        change_requests::ChangeReply,
        problem::{PinError, RestartError},
        published_plan::PublishedPlan,
        reload::{ReloadOptions, ReloadState},
        report::Condition,
        versions::Versions,
    },
    systemd::store::Store,
    world::{
        broker::Broker, calls::tests::Silent, granted::GrantDirectories,
        host_runtime::PendingHostRuntime,
    },
};
use oneshot::{Receiver, error::TryRecvError};
use std::{path::Path, time::Duration};

const READY: WorkerEvent = WorkerEvent::Ready { worker: 0 };
const PLAIN: ReloadOptions = ReloadOptions { again: true, all_or_nothing: false };
const TOGETHER: ReloadOptions = ReloadOptions { again: true, all_or_nothing: true };

fn deps(directory: &Path) -> Deps {
    let pool = PoolSettings {
        instances: 1,
        core_instances: 1,
        memories: 1,
        tables: 1,
        component: ComponentLimits::DEFAULT,
    };
    let state = directory.join("state");
    Deps {
        search_path: SearchPath::below(directory),
        host: PendingHostRuntime::failed(),
        cache: Cache::of_service(None, EngineKind::Native),
        compiler: Compiler::new(directory.as_os_str().to_owned().into(), Duration::ZERO, 0),
        reload_concurrency: 1,
        component_limits: ComponentLimits::DEFAULT,
        commons: Commons {
            executors: Executors::of_this_runtime(),
            journal: stalled().0,
            memory: Arc::new(Budget::new(0)),
            places: InstancePool::new(pool),
            figures: Figures::new(1),
            dispatch: Arc::new(Silent),
            core_dumps: Arc::new(CoreDumps::new(&state)),
            clock: None,
            file_threads: Default::default(),
        },
        places: GrantDirectories {
            state,
            state_usages: Default::default(),
            credentials: None,
            stores: Arc::default(),
            broker: Broker::default(),
            has_broker: false,
        },
        store: Store::none(),
        versions: Versions::none(),
        serve_previous: false,
        sockets: SocketKinds::default(),
        plan: PublishedPlan::new(SocketPlan::default(), |_| ()),
    }
}

/// A version of the plugin `a`, distinguished by its component alone.
pub(super) fn release(digest: u8) -> Arc<Release> {
    Arc::new(Release {
        name: "a".parse().unwrap(),
        path: "/a.wasm".into(),
        digest: [digest; 32],
        manifest: Manifest::default(),
        texts: Vec::new(),
        inspection: Inspection::default(),
        credentials: CredentialsSeen::default(),
    })
}

type Contents = Result<(ScanReport, SocketPlan), prepare::DirectoriesError>;

/// The directories with this version of the plugin, or without any.
fn contents(version: Option<u8>) -> Contents {
    let plugins = version.map(|digest| Ok(Verified::assumed(release(digest))));
    let report = ScanReport {
        plugins: plugins.into_iter().collect(),
        masked: Vec::new(),
        ignored: Vec::new(),
        missing_directory: None,
        held: BTreeSet::new(),
    };
    Ok((report, SocketPlan::default()))
}

/// A supervisor with the plugin `a`, of which nothing is run.
struct Supervised {
    supervisor: Supervisor,
    name: PluginName,
    /// The number of the last request for a change of the plugin.
    asked: u64,
    /// The messages of work that a test replaces by its own.
    _ignored: mpsc::UnboundedReceiver<Message>,
    _directory: tempfile::TempDir,
}

/// A client that waits for a change of the plugin.
struct Client {
    nth: u64,
    answer: Receiver<Result<u64, RestartError>>,
}

impl Client {
    /// The answer, if there is one.
    fn answer(&mut self) -> Option<Result<u64, RestartError>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => panic!("it was dropped, or answered before"),
        }
    }
}

impl Supervised {
    /// One whose start has ended, with this version serving.
    fn serving(version: u8) -> (Self, u64) {
        let directory = tempfile::tempdir().unwrap();
        let (publisher, _) = table::channel();
        let (inbox, ignored) = mpsc::unbounded_channel();
        let (reload_events, _) = mpsc::unbounded_channel();
        let deps = deps(directory.path());
        let supervisor = Supervisor::new(deps, publisher, inbox, reload_events);
        let mut supervised = Self {
            supervisor,
            name: "a".parse().unwrap(),
            asked: 0,
            _ignored: ignored,
            _directory: directory,
        };
        supervised.send(Message::Reload { options: ReloadOptions::default(), reply: None });
        supervised.send(Message::Read(contents(Some(version))));
        let generation = supervised.prepared();
        supervised.worker(generation, READY);
        assert_eq!(supervised.condition(), Some(Condition::Running));
        (supervised, generation)
    }

    fn send(&mut self, message: Message) {
        self.supervisor.handle(message);
        self.supervisor.finish_turn();
    }

    fn plugin(&self) -> Option<&ManagedPlugin> {
        self.supervisor.plugins.get(&self.name)
    }

    fn condition(&self) -> Option<Condition> {
        self.plugin().map(ManagedPlugin::condition)
    }

    fn event(&mut self, event: PluginEvent) {
        self.send(Message::Plugin { name: self.name.clone(), event });
    }

    /// The version that was found last is prepared; returns the number of its generation.
    fn prepared(&mut self) -> u64 {
        self.supervisor.generations += 1;
        let (ticket, generation) = (self.supervisor.tickets, self.supervisor.generations);
        let prepared = Prepared { generation, after_start: self.supervisor.settled, saved: None };
        self.event(PluginEvent::Prepared { ticket, outcome: Ok(prepared) });
        generation
    }

    fn worker(&mut self, generation: u64, event: WorkerEvent) {
        self.send(Message::Worker { name: self.name.clone(), generation, event });
    }

    fn traps(&mut self, generation: u64, stage: InstanceStage) {
        let (failure, post_mortem) = (Failure::Trap("why".to_owned()), PostMortem::default());
        self.worker(generation, WorkerEvent::Failed { worker: 0, failure, stage, post_mortem });
    }

    fn ask(&mut self, message: impl FnOnce(PluginName, ChangeReply) -> Message) -> Client {
        let (reply, answer) = oneshot::channel();
        self.asked += 1;
        self.send(message(self.name.clone(), reply));
        Client { nth: self.asked, answer }
    }

    fn reload_one(&mut self) -> Client {
        self.ask(|name, reply| Message::ReloadPlugin { name, reply })
    }

    fn start_one(&mut self) -> Client {
        self.ask(|name, reply| Message::StartPlugin { name, reply })
    }

    fn rollback(&mut self) -> Client {
        self.ask(|name, reply| Message::Rollback { name, reply })
    }

    fn stop_one(&mut self) -> Receiver<Result<(), StopError>> {
        let (reply, stopped) = oneshot::channel();
        self.send(Message::StopPlugin { name: self.name.clone(), reply });
        stopped
    }

    /// The directories were read for this client.
    fn read_one(&mut self, client: &Client, starts: bool, version: Option<u8>) {
        let (name, nth, outcome) = (self.name.clone(), client.nth, contents(version));
        self.send(Message::ReadOne { name, nth, starts, outcome });
    }

    /// The previous version was read for this client, while this one serves.
    fn read_previous(&mut self, client: &Client, serving: u8, previous: u8) {
        let (name, nth) = (self.name.clone(), client.nth);
        let serving = release(serving).digests();
        let outcome = Ok(Verified::assumed(release(previous)));
        self.send(Message::Previous { name, nth, serving, outcome });
    }

    /// A reload that has found this version.
    fn reload(
        &mut self,
        options: ReloadOptions,
        version: Option<u8>,
    ) -> watch::Receiver<ReloadState> {
        let (reply, mut state) = oneshot::channel();
        self.send(Message::Reload { options, reply: Some(reply) });
        self.send(Message::Read(contents(version)));
        state.try_recv().unwrap()
    }
}

/// The plugins that a reload changed, removed, and could not take over, if it has ended.
fn outcome(reload: &watch::Receiver<ReloadState>) -> Option<[usize; 3]> {
    let state = reload.borrow();
    let numbers = [state.changed.len(), state.removed.len(), state.failed.len()];
    state.has_ended().then_some(numbers)
}

#[tokio::test]
async fn a_reload_ends_when_the_files_of_the_version_that_serves_are_put_back() {
    let (mut supervised, first) = Supervised::serving(1);
    let reload = supervised.reload(PLAIN, Some(2));
    let mut earlier = supervised.reload_one();
    supervised.read_one(&earlier, false, Some(2));
    assert_eq!((outcome(&reload), earlier.answer()), (None, None));
    let mut client = supervised.reload_one();
    supervised.read_one(&client, false, Some(1));
    assert_eq!(client.answer(), Some(Ok(first)));
    assert_eq!(earlier.answer(), Some(Err(RestartError::TakenBack)), "it waited for version 2");
    assert_eq!(outcome(&reload), Some([0, 0, 1]));
    assert!(!supervised.supervisor.summary.borrow().reloading);
}

#[tokio::test]
async fn a_reload_ends_when_another_request_removes_its_plugin() {
    let (mut supervised, _) = Supervised::serving(1);
    let reload = supervised.reload(PLAIN, Some(2));
    let mut client = supervised.reload_one();
    supervised.read_one(&client, false, None);
    assert_eq!(client.answer(), Some(Err(RestartError::NoSuchPlugin)));
    assert_eq!(outcome(&reload), Some([0, 1, 0]));
    assert!(!supervised.supervisor.summary.borrow().reloading);
}

#[tokio::test]
async fn no_request_waits_for_a_plugin_that_was_removed() {
    let (mut supervised, first) = Supervised::serving(1);
    assert_eq!(outcome(&supervised.reload(PLAIN, None)), Some([0, 1, 0]));
    // It finishes its requests.
    assert_eq!(supervised.condition(), Some(Condition::Stopping));
    for starts in [false, true] {
        let mut client = if starts { supervised.start_one() } else { supervised.reload_one() };
        supervised.read_one(&client, starts, None);
        assert_eq!(client.answer(), Some(Err(RestartError::NoSuchPlugin)), "{starts}");
    }
    let mut client = supervised.start_one();
    supervised.worker(first, WorkerEvent::Gone);
    assert!(supervised.plugin().is_none());
    supervised.read_one(&client, true, Some(2));
    let second = supervised.prepared();
    supervised.worker(second, READY);
    assert_eq!(client.answer(), Some(Ok(second)));
}

#[tokio::test]
async fn a_plugin_stays_stopped_whatever_was_asked_before() {
    let (mut supervised, first) = Supervised::serving(1);
    let (mut reload, mut rollback) = (supervised.reload_one(), supervised.rollback());
    let mut stopped = supervised.stop_one();
    supervised.worker(first, WorkerEvent::Gone);
    assert_eq!(stopped.try_recv(), Ok(Ok(())));
    supervised.read_one(&reload, false, Some(2));
    supervised.read_previous(&rollback, 1, 2);
    assert_eq!(supervised.condition(), Some(Condition::Stopped));
    for client in [&mut reload, &mut rollback] {
        assert_eq!(client.answer(), Some(Err(RestartError::Stopped)));
    }

    let mut start = supervised.start_one();
    assert_eq!(supervised.stop_one().try_recv(), Ok(Ok(())));
    assert_eq!(start.answer(), Some(Err(RestartError::Stopped)));
    let mut again = supervised.start_one();
    supervised.read_one(&start, true, Some(1));
    assert_eq!(supervised.condition(), Some(Condition::Stopped));
    supervised.read_one(&again, true, Some(1));
    let second = supervised.prepared();
    supervised.worker(second, READY);
    assert_eq!(again.answer(), Some(Ok(second)));
    supervised.read_previous(&rollback, 1, 2);
    assert_eq!(supervised.condition(), Some(Condition::Running), "it was answered before");
}

#[tokio::test]
async fn an_outcome_before_the_files_are_read_is_not_that_of_the_request() {
    for fails in [false, true] {
        let (mut supervised, _) = Supervised::serving(1);
        let reload = supervised.reload(PLAIN, Some(2));
        let second = supervised.prepared();
        let mut client = supervised.reload_one();
        if fails {
            supervised.traps(second, InstanceStage::Starting);
        } else {
            supervised.worker(second, READY);
        }
        assert_eq!(outcome(&reload), Some([usize::from(!fails), 0, usize::from(fails)]));
        assert_eq!(client.answer(), None, "it may be for version 3");
        supervised.read_one(&client, false, Some(3));
        let third = supervised.prepared();
        supervised.worker(third, READY);
        assert_eq!(client.answer(), Some(Ok(third)));
    }
}

#[tokio::test]
async fn a_reload_without_changes_does_not_answer_a_request_that_has_not_begun() {
    let (mut supervised, _) = Supervised::serving(1);
    let mut client = supervised.reload_one();
    assert_eq!(outcome(&supervised.reload(PLAIN, Some(1))), Some([0, 0, 0]));
    assert_eq!(client.answer(), None);
    supervised.read_one(&client, false, Some(2));
    let second = supervised.prepared();
    supervised.worker(second, READY);
    assert_eq!(client.answer(), Some(Ok(second)));
}

#[tokio::test]
async fn a_version_that_serves_meanwhile_is_not_the_outcome_of_a_rollback() {
    let (mut supervised, _) = Supervised::serving(2);
    let mut rollback = supervised.rollback();
    let reload = supervised.reload(PLAIN, Some(3));
    let third = supervised.prepared();
    supervised.worker(third, READY);
    assert_eq!((outcome(&reload), rollback.answer()), (Some([1, 0, 0]), None));
    supervised.read_previous(&rollback, 2, 1);
    assert_eq!(rollback.answer(), Some(Err(RestartError::InProgress)));
}

#[tokio::test]
async fn a_plugin_that_is_pinned_meanwhile_is_not_rolled_back() {
    let (mut supervised, _) = Supervised::serving(2);
    let mut rollback = supervised.rollback();
    let (reply, mut pinned) = oneshot::channel::<Result<(), PinError>>();
    supervised.send(Message::Pin { name: supervised.name.clone(), reply });
    assert_eq!(pinned.try_recv(), Err(TryRecvError::Empty), "it is being written");
    supervised.read_previous(&rollback, 2, 1);
    assert_eq!(rollback.answer(), Some(Err(RestartError::Pinned)));
    assert_eq!(supervised.condition(), Some(Condition::Running));
}

#[tokio::test]
async fn files_that_were_read_for_one_plugin_change_nothing_at_a_hold_point() {
    let (mut supervised, _) = Supervised::serving(1);
    let mut client = supervised.reload_one();
    let reload = supervised.reload(TOGETHER, Some(2));
    supervised.read_one(&client, false, Some(3));
    let second = supervised.prepared();
    supervised.worker(second, READY);
    assert_eq!(outcome(&reload), Some([1, 0, 0]));
    assert_eq!(client.answer(), Some(Ok(second)), "it belongs to that reload");
}

#[tokio::test]
async fn a_version_that_fails_for_good_leaves_the_one_that_follows_alone() {
    for options in [PLAIN, TOGETHER] {
        let (mut supervised, first) = Supervised::serving(1);
        let reload = supervised.reload(options, Some(2));
        let mut client = supervised.reload_one();
        if !options.all_or_nothing {
            supervised.read_one(&client, false, Some(2));
        }
        let ready = InstanceStage::Ready { uptime: Duration::ZERO, served: false };
        for _ in 0..10 {
            supervised.traps(first, ready);
            supervised.event(PluginEvent::Due { generation: first });
        }
        let state = supervised.plugin().and_then(|plugin| plugin.generations.current());
        let state = state.map(|current| current.lifecycle.state());
        assert_eq!(state, Some(lifecycle::LifecycleState::Failed));
        assert_eq!((outcome(&reload), client.answer()), (None, None));
        let second = supervised.prepared();
        supervised.worker(second, READY);
        assert_eq!(outcome(&reload), Some([1, 0, 0]));
        assert_eq!(client.answer(), Some(Ok(second)));
        assert_eq!(supervised.condition(), Some(Condition::Running));
    }
}
