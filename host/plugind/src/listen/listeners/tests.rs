//! Sockets are served, paused and drained as plans and operators ask for.

use super::*;
use crate::{
    config::{Document, settings::Settings},
    listen::{socket_service::Accepted, sockets::Listen, stream::Stream},
    systemd::sockets::PassedSockets,
};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tokio_util::sync::CancellationToken;

fn plan(sockets: &ListenSockets, settings: &str) -> SocketPlan {
    let document = Document::new(Path::new("plugind.toml"), settings);
    let settings = Settings::parse(&document).unwrap();
    SocketPlan::new(&sockets.kinds(), &settings.sockets).unwrap()
}

/// Answers with the socket's name, and waits until no more is wanted.
fn names_itself() -> Server {
    Arc::new(|accepted: Accepted| {
        Box::pin(async move {
            let Stream::Unix(mut stream) = accepted.stream else { return };
            stream.write_all(accepted.socket.as_str().as_bytes()).await.unwrap();
            accepted.place.closing().cancelled().await;
        })
    })
}

/// A socket `web`, and what is served without and with a setting for it.
struct Web {
    path: PathBuf,
    sockets: ListenSockets,
    without: SocketPlan,
    with: SocketPlan,
    _directory: tempfile::TempDir,
}

fn web() -> Web {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web");
    let address = path.to_str().unwrap().parse().unwrap();
    let listen = Listen { name: "web".parse().unwrap(), address };
    let sockets = ListenSockets::collect(PassedSockets::default(), &[listen]).unwrap();
    let without = plan(&sockets, "");
    let with = plan(&sockets, "[sockets.web]\nprotocol = \"http\"\n");
    Web { path, sockets, without, with, _directory: directory }
}

#[tokio::test]
async fn a_socket_of_no_use_is_served_as_soon_as_a_setting_wants_it_and_no_longer() {
    let Web { path, sockets, without, with, _directory } = web();
    assert_eq!(Vec::from_iter(&without.unused), ["web"]);

    let listeners = Listeners::new(sockets, Executors::of_this_runtime());
    listeners.follow(&without).unwrap();
    listeners.serve(Protocol::Http, names_itself()).unwrap();
    // The kernel takes it, and it waits there.
    let mut client = UnixStream::connect(&path).await.unwrap();
    listeners.follow(&with).unwrap();
    let mut name = [0; 3];
    client.read_exact(&mut name).await.unwrap();
    assert_eq!(&name, b"web");

    listeners.follow(&without).unwrap();
    assert_eq!(client.read(&mut name).await.unwrap(), 0, "its connections end");
    listeners.follow(&with).unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    client.read_exact(&mut name).await.unwrap();
    assert!(listeners.drain(Protocol::Http, Duration::from_secs(30)).await);
    let refused = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn paused_sockets_stay_open_and_their_clients_wait() {
    let Web { path, sockets, with, _directory, .. } = web();
    let listeners = Listeners::new(sockets, Executors::of_this_runtime());
    listeners.follow(&with).unwrap();
    listeners.serve(Protocol::Http, names_itself()).unwrap();
    let mut client = UnixStream::connect(&path).await.unwrap();
    let mut name = [0; 3];
    client.read_exact(&mut name).await.unwrap();
    listeners.pause();
    listeners.paused_drained().await;
    assert_eq!((client.read(&mut name).await.unwrap(), listeners.paused_connections()), (0, 0));
    // A reload does not change that.
    listeners.follow(&with).unwrap();
    assert!(listeners.usage().is_empty());
    let mut waits = UnixStream::connect(&path).await.unwrap();
    listeners.resume().unwrap();
    waits.read_exact(&mut name).await.unwrap();
    assert_eq!(&name, b"web");
}

#[tokio::test]
async fn connections_of_a_socket_that_a_reload_closed_are_waited_for() {
    let Web { path, sockets, without, with, _directory } = web();
    let (finish, served) = (CancellationToken::new(), Arc::new(tokio::sync::Notify::new()));
    let server: Server = {
        let (finish, served) = (finish.clone(), served.clone());
        Arc::new(move |accepted: Accepted| {
            let (finish, served) = (finish.clone(), served.clone());
            Box::pin(async move {
                served.notify_one();
                finish.cancelled().await;
                drop(accepted);
            })
        })
    };
    let listeners = Listeners::new(sockets, Executors::of_this_runtime());
    listeners.follow(&with).unwrap();
    listeners.serve(Protocol::Http, server).unwrap();
    let _client = UnixStream::connect(&path).await.unwrap();
    served.notified().await;
    listeners.follow(&without).unwrap();
    let drain = listeners.drain(Protocol::Http, Duration::from_secs(30));
    let mut drain = std::pin::pin!(drain);
    assert!(futures::poll!(drain.as_mut()).is_pending(), "a connection is left");
    finish.cancel();
    assert!(drain.await);
}
