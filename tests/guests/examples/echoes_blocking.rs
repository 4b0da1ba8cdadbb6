//! Sends back what it gets by connections whose functions block, as a language without async functions does.
#![expect(missing_docs, unsafe_code, reason = "wit-bindgen writes it here, in this crate")]
#![expect(clippy::print_stdout, reason = "how a connection ended is for the log")]

use exports::plugind::plugin::blocking_connection_handler::Guest;
use plugind::plugin::{
    blocking_connections::{Connection, ConnectionError},
    types::Peer,
};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package plugind:tests;

        world echoes {
            export plugind:plugin/blocking-connection-handler@0.1.0;
        }
    ",
    generate_all,
    sync: true,
});

struct Echoes;

impl Guest for Echoes {
    fn handle(connection: Connection) -> Result<(), String> {
        let ended = |error: ConnectionError| println!("connection ended: {error:?}");
        loop {
            let bytes = match connection.read(65536) {
                Ok(bytes) => bytes,
                Err(error) => {
                    ended(error);
                    return Ok(());
                }
            };
            let answer = match bytes.as_slice() {
                b"" => return Ok(()),
                b"trap\n" => panic!("asked to trap"),
                b"fail\n" => return Err("asked to fail".to_owned()),
                b"who\n" => match connection.peer() {
                    Peer::Ip(ip) => {
                        format!("{} {} {}\n", connection.socket(), ip.address, ip.port).into_bytes()
                    }
                    Peer::Unix(_) => format!("{} a process\n", connection.socket()).into_bytes(),
                },
                b"finish\n" => {
                    connection.finish().map_err(|error| error.to_string())?;
                    println!("write after finish: {:?}", connection.write(b"x"));
                    continue;
                }
                _ => bytes,
            };
            if let Err(error) = connection.write(&answer) {
                ended(error);
                return Ok(());
            }
        }
    }
}

export!(Echoes);
