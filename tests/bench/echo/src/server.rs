//! Sends back what it receives, natively: `echo-tokio ADDRESS:PORT PATH`, by TCP and UDP and at a path.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UdpSocket, UnixListener},
};

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(socket: UdpSocket) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok((length, sender)) = socket.recv_from(&mut buffer).await {
        socket.send_to(&buffer[..length], sender).await.ok();
    }
}

#[tokio::main]
async fn main() {
    let usage = "usage: echo-tokio ADDRESS:PORT PATH";
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().expect(usage);
    let path = arguments.next().expect(usage);
    let tcp = TcpListener::bind(&address).await.expect("the address is free");
    let unix = UnixListener::bind(&path).expect("the path is free");
    let udp = UdpSocket::bind(&address).await.expect("the address is free");
    tokio::spawn(answer(udp));
    tokio::spawn(async move {
        while let Ok((stream, _)) = unix.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    while let Ok((stream, _)) = tcp.accept().await {
        stream.set_nodelay(true).expect("a TCP connection takes TCP_NODELAY");
        tokio::spawn(echo(stream));
    }
}
