//! `plugind:plugin/connections` and `plugind:plugin/blocking-connections`: the connections of stream sockets, as a guest
//! reads and writes them.

use crate::world::{
    bindings::plugind::plugin::{
        blocking_connections,
        connections::{ConnectionError, Host, HostConnection, HostConnectionWithStore},
        types,
    },
    client_address::{ClientAddress, Process},
    client_connection::{ClientConnection, TransferError},
};
use wasmtime::component::{Accessor, HasData, Resource, ResourceTable, ResourceTableError};

impl From<ClientAddress> for types::Peer {
    fn from(client: ClientAddress) -> Self {
        match client {
            ClientAddress::Ip(address) => Self::Ip(types::IpAddress {
                address: address.ip().to_canonical().to_string(),
                port: address.port(),
            }),
            ClientAddress::Unix(process) => {
                Self::Unix(process.map(|Process { pid, uid, gid }| types::Process {
                    pid,
                    uid,
                    gid,
                }))
            }
        }
    }
}

impl From<TransferError> for ConnectionError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Busy => Self::Busy,
            TransferError::Closed => Self::Closed,
            TransferError::Reset => Self::Reset,
            TransferError::TimedOut => Self::TimedOut,
        }
    }
}

impl From<TransferError> for blocking_connections::ConnectionError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Busy => Self::Busy,
            TransferError::Closed => Self::Closed,
            TransferError::Reset => Self::Reset,
            TransferError::TimedOut => Self::TimedOut,
        }
    }
}

/// Connections have nothing in common.
pub(super) struct Shared;

impl HasData for Shared {
    type Data<'a> = Guest<'a>;
}

/// The connections of one guest.
pub struct Guest<'a> {
    pub(super) table: &'a mut ResourceTable,
}

impl Guest<'_> {
    fn get(
        &self,
        connection: &Resource<ClientConnection>,
    ) -> Result<ClientConnection, ResourceTableError> {
        self.table.get(connection).cloned()
    }

    fn peer_of(&self, connection: &Resource<ClientConnection>) -> types::Peer {
        let client = self.get(connection).map(|connection| connection.client());
        client.unwrap_or(ClientAddress::Unix(None)).into()
    }

    fn socket_of(&self, connection: &Resource<ClientConnection>) -> String {
        self.get(connection).map(|it| it.socket().to_string()).unwrap_or_default()
    }
}

impl Host for Guest<'_> {}

impl HostConnection for Guest<'_> {
    fn peer(&mut self, connection: Resource<ClientConnection>) -> types::Peer {
        self.peer_of(&connection)
    }

    fn socket(&mut self, connection: Resource<ClientConnection>) -> String {
        self.socket_of(&connection)
    }

    fn finish(&mut self, connection: Resource<ClientConnection>) -> Result<(), ConnectionError> {
        self.get(&connection).map_err(|_| ConnectionError::Closed)?.finish();
        Ok(())
    }

    fn drop(&mut self, connection: Resource<ClientConnection>) -> wasmtime::Result<()> {
        // The host closes it when the call ends: properly after `Ok`, and by a reset after `Err`.
        self.table.delete(connection)?;
        Ok(())
    }
}

impl<T: 'static> HostConnectionWithStore<T> for Shared {
    async fn read(
        accessor: &Accessor<T, Self>,
        connection: Resource<ClientConnection>,
        max: u32,
    ) -> Result<Vec<u8>, ConnectionError> {
        let found = accessor.with(|mut store| store.get().get(&connection));
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        found.map_err(|_| ConnectionError::Closed)?.read(max).await.map_err(Into::into)
    }

    async fn write(
        accessor: &Accessor<T, Self>,
        connection: Resource<ClientConnection>,
        bytes: Vec<u8>,
    ) -> Result<(), ConnectionError> {
        let found = accessor.with(|mut store| store.get().get(&connection));
        found.map_err(|_| ConnectionError::Closed)?.write(&bytes).await.map_err(Into::into)
    }
}

impl blocking_connections::Host for Guest<'_> {}

impl blocking_connections::HostConnection for Guest<'_> {
    fn peer(&mut self, connection: Resource<ClientConnection>) -> types::Peer {
        self.peer_of(&connection)
    }

    fn socket(&mut self, connection: Resource<ClientConnection>) -> String {
        self.socket_of(&connection)
    }

    async fn read(
        &mut self,
        connection: Resource<ClientConnection>,
        max: u32,
    ) -> Result<Vec<u8>, blocking_connections::ConnectionError> {
        let found = self.get(&connection);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let found = found.map_err(|_| blocking_connections::ConnectionError::Closed)?;
        found.read(max).await.map_err(Into::into)
    }

    async fn write(
        &mut self,
        connection: Resource<ClientConnection>,
        bytes: Vec<u8>,
    ) -> Result<(), blocking_connections::ConnectionError> {
        let found = self.get(&connection);
        let found = found.map_err(|_| blocking_connections::ConnectionError::Closed)?;
        found.write(&bytes).await.map_err(Into::into)
    }

    fn finish(
        &mut self,
        connection: Resource<ClientConnection>,
    ) -> Result<(), blocking_connections::ConnectionError> {
        let found = self.get(&connection);
        found.map_err(|_| blocking_connections::ConnectionError::Closed)?.finish();
        Ok(())
    }

    fn drop(&mut self, connection: Resource<ClientConnection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
