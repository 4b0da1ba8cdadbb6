//! Connects by TCP and answers what comes from there: `/02/HOST:PORT` with `std::net` and so by WASI 0.2,
//! `/03/HOST:PORT` by WASI 0.3. `/listen` waits for connections itself, `/datagrams/02` and `/datagrams/03` open a UDP
//! socket by each version, and `/lookup/NAME` looks up a name by 0.3.

use plugind_test_guests::{fine, wasip3};
use std::{
    io::{self, Read},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket as UdpSocket02},
};
use wasip3::sockets::{
    ip_name_lookup::resolve_addresses,
    types::{
        ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket,
        UdpSocket as UdpSocket03,
    },
};

fn dial_02(to: &str) -> io::Result<String> {
    let mut said = String::new();
    TcpStream::connect(to)?.read_to_string(&mut said)?;
    Ok(said)
}

async fn dial_03(to: &str) -> Result<String, String> {
    let reported = |error: ErrorCode| format!("{error:?}");
    let (host, port) = to.split_once(':').unwrap_or((to, "0"));
    let port = port.parse().unwrap_or_default();
    let addresses = resolve_addresses(host.to_owned()).await;
    let addresses = addresses.map_err(|error| format!("{error:?}"))?;
    let v4 = addresses.into_iter().find_map(|address| match address {
        IpAddress::Ipv4(address) => Some(address),
        IpAddress::Ipv6(_) => None,
    });
    let address = v4.ok_or("it has no address")?;
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(reported)?;
    let remote = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address });
    socket.connect(remote).await.map_err(reported)?;
    let (received, _ended) = socket.receive();
    Ok(String::from_utf8_lossy(&received.collect().await).into_owned())
}

fn listen() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn shown<T>(outcome: Result<T, String>) -> String {
    outcome.map_or_else(|error| format!("error: {error}"), |_| "a socket".to_owned())
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["02", to] => dial_02(to).unwrap_or_else(|error| format!("error: {:?}", error.kind())),
        ["03", to] => dial_03(to).await.unwrap_or_else(|error| format!("error: {error}")),
        ["listen"] => match listen() {
            Ok(address) => address.to_string(),
            Err(error) => format!("error: {:?}", error.kind()),
        },
        ["datagrams", "02"] => {
            let socket = UdpSocket02::bind("127.0.0.1:0");
            shown(socket.map_err(|error| format!("{:?}", error.kind())))
        }
        ["datagrams", "03"] => {
            let socket = UdpSocket03::create(IpAddressFamily::Ipv4);
            shown(socket.map_err(|error| format!("{error:?}")))
        }
        ["lookup", name] => match resolve_addresses((*name).to_owned()).await {
            Ok(addresses) => format!("{} addresses", addresses.len()),
            Err(error) => format!("error: {error:?}"),
        },
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
