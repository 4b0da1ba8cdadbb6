//! Sends back what it gets by connections and datagrams, and does what a first word asks of it.
#![expect(clippy::print_stdout, reason = "how a connection ended is for the log")]

use plugind_sdk::connections::{Connection, ConnectionHandler, Peer, READ_MAX};
use plugind_sdk::datagrams::{self, DatagramHandler};
use plugind_test_guests::{forever, pause};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The connections and datagrams that this instance was given.
static GIVEN: AtomicU64 = AtomicU64::new(0);

struct Echoes;

/// The number of a connection or datagram within its instance, from 1.
fn next_number() -> u64 {
    GIVEN.fetch_add(1, Relaxed) + 1
}

fn name(peer: Peer) -> String {
    match peer {
        Peer::Ip(ip) => format!("{} {}", ip.address, ip.port),
        Peer::Unix(Some(process)) => {
            format!("process {} user {} group {}", process.pid, process.uid, process.gid)
        }
        Peer::Unix(None) => "a process".to_owned(),
    }
}

impl ConnectionHandler for Echoes {
    async fn handle(connection: Connection) -> Result<(), String> {
        let number = next_number();
        loop {
            let bytes = match connection.read(READ_MAX).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    println!("connection ended: {error:?}");
                    return Ok(());
                }
            };
            let answer = match bytes.as_slice() {
                b"" => return Ok(()),
                b"trap\n" => panic!("asked to trap"),
                b"number\n" => format!("{number}\n").into_bytes(),
                b"fail\n" => return Err("asked to fail".to_owned()),
                b"close\n" => {
                    return connection.write(b"bye\n".to_vec()).await.map_err(|it| it.to_string());
                }
                b"who\n" => {
                    format!("{} {}\n", connection.socket(), name(connection.peer())).into_bytes()
                }
                b"finish\n" => {
                    connection.finish().map_err(|error| error.to_string())?;
                    let late = connection.write(b"x".to_vec()).await;
                    println!("write after finish: {late:?}");
                    continue;
                }
                _ => bytes,
            };
            if let Err(error) = connection.write(answer).await {
                println!("connection ended: {error:?}");
                return Ok(());
            }
        }
    }
}

impl DatagramHandler for Echoes {
    async fn handle(socket: String, peer: datagrams::Peer, datagram: Vec<u8>) -> Option<Vec<u8>> {
        let number = next_number();
        match datagram.as_slice() {
            b"trap" => panic!("asked to trap"),
            b"none" => None,
            b"number" => Some(number.to_string()),
            b"never" => forever().await,
            b"who" => Some(match peer {
                datagrams::Peer::Ip(ip) => format!("{socket} {} {}", ip.address, ip.port),
                datagrams::Peer::Unix(Some(process)) => {
                    format!(
                        "{socket} process {} user {} group {}",
                        process.pid, process.uid, process.gid
                    )
                }
                datagrams::Peer::Unix(None) => format!("{socket} a process"),
            }),
            b"slow" => {
                pause(300).await;
                Some("slow".to_owned())
            }
            _ => return Some(datagram),
        }
        .map(String::into_bytes)
    }
}

plugind_sdk::export_connections!(Echoes);
plugind_sdk::export_datagrams!(Echoes);
