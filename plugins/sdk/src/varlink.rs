//! Services that speak varlink on the connections of a unix socket, as systemd and its tools do.
//!
//! ```no_run
//! use plugind_sdk::{
//!     ConnectionHandler,
//!     connections::Connection,
//!     varlink::{self, Call, Error, Info, Interface, Reply, Service, json},
//! };
//!
//! struct Ping;
//!
//! impl Service for Ping {
//!     const INFO: Info = Info { vendor: "Example", product: "ping", version: "1", url: "https://example.org" };
//!     const INTERFACES: &'static [Interface] = &[Interface {
//!         name: "org.example.ping",
//!         description: "interface org.example.ping\nmethod Ping() -> (pong: string)\n",
//!     }];
//!
//!     async fn call(call: &Call<'_>) -> Reply {
//!         match call.method() {
//!             "org.example.ping.Ping" => Ok(json!({ "pong": "here" })),
//!             _ => Err(call.method_not_found()),
//!         }
//!     }
//! }
//!
//! impl ConnectionHandler for Ping {
//!     async fn handle(connection: Connection) -> Result<(), String> {
//!         varlink::serve::<Self>(&connection).await
//!     }
//! }
//!
//! plugind_sdk::export_connections!(Ping);
//! # fn main() {}
//! ```
//!
//! The interface `org.varlink.service` is served for every service, so that `varlinkctl introspect` shows its interfaces.

use crate::connections::{Connection, Peer, READ_MAX};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Map;

pub use serde_json::{Value, json};

/// The longest call, in bytes. A connection on which a longer one arrives is reset.
pub const CALL_MAX: usize = 64 << 10;

/// Bytes of a reply that one `write` passes on.
const WRITE_MAX: usize = 1 << 20;

/// The definition of the interface that every service has.
const SERVICE: Interface = Interface {
    name: "org.varlink.service",
    description: include_str!("org.varlink.service.varlink"),
};

/// The description of a service, in the reply to `org.varlink.service.GetInfo`.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Its provider.
    pub vendor: &'static str,
    /// Its name.
    pub product: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The URL of its documentation.
    pub url: &'static str,
}

/// An interface of a service.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Its name, such as `io.systemd.UserDatabase`.
    pub name: &'static str,
    /// Its definition, in the language of varlink.
    pub description: &'static str,
}

/// The last or only reply to a call: its parameters, which are a JSON object, or an error.
pub type Reply = Result<Value, Error>;

/// A service. Serve it with [`serve`].
#[expect(async_fn_in_trait, reason = "a component has one thread, so no future need be Send")]
pub trait Service {
    /// Its description.
    const INFO: Info;
    /// Its interfaces, without `org.varlink.service`.
    const INTERFACES: &'static [Interface];

    /// Answers one call of a method of its interfaces. The calls of a connection come one after the other.
    async fn call(call: &Call<'_>) -> Reply;
}

/// The reason that a call has no reply, or no further reply.
#[derive(Debug)]
pub enum Error {
    /// The client receives an error.
    Named {
        /// The error, with its interface.
        name: &'static str,
        /// Its parameters.
        parameters: Value,
    },
    /// The connection has ended.
    Disconnected,
}

impl Error {
    /// An error of one of the interfaces, such as `io.systemd.UserDatabase.NoRecordFound`, without parameters.
    #[must_use]
    pub fn named(name: &'static str) -> Self {
        Self::Named { name, parameters: json!({}) }
    }

    /// A parameter is missing, or has a value that the method cannot take.
    #[must_use]
    pub fn invalid_parameter(parameter: &str) -> Self {
        let parameters = json!({ "parameter": parameter });
        Self::Named { name: "org.varlink.service.InvalidParameter", parameters }
    }

    /// The method has several replies, for which the client did not ask.
    #[must_use]
    pub fn expected_more() -> Self {
        Self::named("org.varlink.service.ExpectedMore")
    }
}

/// A call, as it is received.
#[derive(Deserialize)]
struct Message {
    method: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    oneway: bool,
    #[serde(default)]
    upgrade: bool,
}

/// A call of a client.
pub struct Call<'a> {
    message: Message,
    connection: &'a Connection,
}

impl Call<'_> {
    /// The method, with its interface: `io.systemd.UserDatabase.GetUserRecord`.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.message.method
    }

    /// Returns whether the client accepts several replies.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.message.more
    }

    /// Returns the client.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.connection.peer()
    }

    /// Returns the parameters. Those that `T` does not have are ignored.
    ///
    /// # Errors
    /// When they do not have the shape of `T`.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let parameters = self.message.parameters.clone().unwrap_or_default();
        serde_json::from_value(Value::Object(parameters))
            .map_err(|error| Error::invalid_parameter(&error.to_string()))
    }

    /// The error for a method that its interface does not have.
    #[must_use]
    pub fn method_not_found(&self) -> Error {
        let parameters = json!({ "method": self.method() });
        Error::Named { name: "org.varlink.service.MethodNotFound", parameters }
    }

    /// Sends a reply that is not the last one.
    ///
    /// # Errors
    /// When the client takes one reply only, or has disconnected.
    pub async fn send(&self, parameters: Value) -> Result<(), Error> {
        if !self.wants_more() {
            return Err(Error::expected_more());
        }
        self.put(json!({ "parameters": parameters, "continues": true })).await
    }

    /// Replies with each of these, or with `none` if there are none.
    ///
    /// # Errors
    /// As [`send`](Self::send), if there are several.
    pub async fn send_all(&self, replies: impl IntoIterator<Item = Value>, none: Error) -> Reply {
        let mut last = None;
        for reply in replies {
            if let Some(earlier) = last.replace(reply) {
                self.send(earlier).await?;
            }
        }
        last.ok_or(none)
    }

    /// Waits until the client disconnects, in a method that has sent replies and has no last one yet. Further calls of the
    /// client are ignored.
    pub async fn disconnected(&self) -> Error {
        while self.connection.read(READ_MAX).await.is_ok_and(|bytes| !bytes.is_empty()) {}
        Error::Disconnected
    }

    /// Sends a message, unless the client wants no reply.
    async fn put(&self, message: Value) -> Result<(), Error> {
        if self.message.oneway {
            return Ok(());
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        for part in bytes.chunks(WRITE_MAX) {
            self.connection.write(part.to_vec()).await.map_err(|_| Error::Disconnected)?;
        }
        Ok(())
    }
}

/// Serves a connection to its end.
///
/// # Errors
/// When the client sends something that is not a call, or a call that is too long.
pub async fn serve<T: Service>(connection: &Connection) -> Result<(), String> {
    let mut received = Vec::new();
    while let Some(message) = next_message(connection, &mut received).await? {
        let message = serde_json::from_slice(&message)
            .map_err(|error| format!("a message of a client must be a call: {error}"))?;
        let call = Call { message, connection };
        let sent = match answer::<T>(&call).await {
            Ok(parameters) => call.put(json!({ "parameters": parameters })).await,
            Err(Error::Named { name, parameters }) => {
                call.put(json!({ "error": name, "parameters": parameters })).await
            }
            Err(Error::Disconnected) => Err(Error::Disconnected),
        };
        // A client that has left is no failure of the plugin.
        if sent.is_err() {
            break;
        }
    }
    Ok(())
}

async fn answer<T: Service>(call: &Call<'_>) -> Reply {
    if call.message.upgrade {
        return Err(Error::invalid_parameter("upgrade"));
    }
    let interface = call.method().rsplit_once('.').map_or("", |(interface, _)| interface);
    if interface == SERVICE.name {
        return own_method::<T>(call);
    }
    if !T::INTERFACES.iter().any(|known| known.name == interface) {
        return Err(interface_not_found(interface));
    }
    T::call(call).await
}

/// Answers a call of a method that every service has.
fn own_method<T: Service>(call: &Call<'_>) -> Reply {
    #[derive(Deserialize)]
    struct Described {
        interface: String,
    }

    let mut all = T::INTERFACES.iter().chain([&SERVICE]);
    match call.method() {
        "org.varlink.service.GetInfo" => {
            let Info { vendor, product, version, url } = T::INFO;
            let interfaces: Vec<_> = all.map(|interface| interface.name).collect();
            Ok(json!({
                "vendor": vendor, "product": product, "version": version, "url": url,
                "interfaces": interfaces,
            }))
        }
        "org.varlink.service.GetInterfaceDescription" => {
            let Described { interface } = call.parameters()?;
            let found = all.find(|known| known.name == interface);
            let found = found.ok_or_else(|| interface_not_found(&interface))?;
            Ok(json!({ "description": found.description }))
        }
        _ => Err(call.method_not_found()),
    }
}

fn interface_not_found(interface: &str) -> Error {
    let parameters = json!({ "interface": interface });
    Error::Named { name: "org.varlink.service.InterfaceNotFound", parameters }
}

/// Waits for a message, which ends with a NUL byte. None is the end of the connection.
async fn next_message(
    connection: &Connection,
    received: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, String> {
    let mut searched = 0;
    loop {
        let end = received.iter().skip(searched).position(|byte| *byte == 0);
        if let Some(end) = end.map(|end| searched + end) {
            let mut message: Vec<_> = received.drain(..=end).collect();
            message.pop();
            return Ok(Some(message));
        }
        searched = received.len();
        if searched > CALL_MAX {
            return Err(format!("a call must have at most {CALL_MAX} bytes"));
        }
        match connection.read(READ_MAX).await {
            Ok(bytes) if !bytes.is_empty() => received.extend(bytes),
            // An incomplete call of a client that has disconnected is ignored.
            Ok(_) | Err(_) => return Ok(None),
        }
    }
}
