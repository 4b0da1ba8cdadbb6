//! A connection to a server that speaks the protocol of Redis, such as Valkey.

use crate::{
    base::endpoint::Host,
    config::{
        Origin,
        settings::{CredentialFile, ServerSetting, ValkeyUrl},
    },
    remote::{
        availability::{Availability, Unreachable, pause},
        certificate,
        error::{RemoteError, check_network},
    },
    systemd::credential_file,
};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, aio::MultiplexedConnection,
};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

/// Time that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Time in which the server must answer a command.
const ANSWER: Duration = Duration::from_secs(5);
/// Interval of pings while the server can be reached.
const PING: Duration = Duration::from_secs(5);
/// Commands that wait for the connection. Each may have a value of the largest size.
const COMMANDS_MAX: usize = 64;

/// A connection, which is made in the background, and again after each outage.
pub struct ValkeyConnection {
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
    availability: Availability,
    _connecting: AbortOnDropHandle<()>,
}

impl ValkeyConnection {
    /// Starts to connect to the server of `[section]`. Its tasks run in `runtime`. Blocks for a moment, to read files.
    ///
    /// # Errors
    /// When it cannot be used as it is configured. That the server is unreachable at present is no error.
    pub fn start(
        section: &str,
        setting: &ServerSetting<ValkeyUrl>,
        credentials: Option<&Path>,
        runtime: &Handle,
    ) -> Result<Self, RemoteError> {
        if let Some(endpoint) = setting.url.endpoint() {
            check_network(&format!("{section}.url"), endpoint, &setting.origin)?;
        }
        let mistake = |error: &RedisError| {
            let message = format!("{section}.url: {error}");
            RemoteError::from(credential_file::mistake(&setting.origin, message))
        };
        let client = client(section, setting, credentials, &mistake)?;
        let availability = Availability::new(&setting.url);
        let connection = Arc::new(Mutex::new(None));
        let connecting = keep_connected(client, connection.clone(), availability.clone());
        let connecting = AbortOnDropHandle::new(runtime.spawn(connecting));
        Ok(Self { connection, availability, _connecting: connecting })
    }

    /// The connection for commands, while the server can be reached. Waits a moment if an outage has just begun.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn commands(&self) -> Result<MultiplexedConnection, Unreachable> {
        self.availability.wait().await?;
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.clone().ok_or_else(|| Unreachable::from(&self.availability))
    }

    /// Whether the server can be reached.
    #[must_use]
    pub fn availability(&self) -> &Availability {
        &self.availability
    }

    /// Notes the failure of a command. Returns the outage, if the failure shows that the server cannot be reached.
    pub fn note(&self, error: &RedisError) -> Option<Unreachable> {
        if !is_outage(error) {
            return None;
        }
        self.availability.report_unreachable(&error.to_string());
        self.availability.failure()
    }
}

fn is_outage(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
        || matches!(error.kind(), redis::ErrorKind::AuthenticationFailed)
        || error.code() == Some("NOAUTH")
}

/// Connects, and does so again after each outage.
async fn keep_connected(
    client: Client,
    current: Arc<Mutex<Option<MultiplexedConnection>>>,
    availability: Availability,
) {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(ANSWER))
        .set_pipeline_buffer_size(COMMANDS_MAX);
    let replace = |connection| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        drop(std::mem::replace(&mut *current, connection));
    };
    let mut attempt = 0;
    loop {
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        match timeout(CONNECT, connecting).await {
            Ok(Ok(mut connection)) => {
                // A server that is just starting accepts connections, and refuses commands.
                if let Err(error) = ping(&mut connection).await {
                    availability.report_unreachable(&error);
                } else {
                    attempt = 0;
                    replace(Some(connection.clone()));
                    availability.report_reachable();
                    watch(&mut connection, &availability).await;
                    replace(None);
                }
            }
            Ok(Err(error)) => availability.report_unreachable(&error.to_string()),
            Err(_) => availability.report_unreachable("it does not answer in time"),
        }
        attempt += 1;
        sleep(pause(attempt)).await;
    }
}

/// Returns when the server cannot be reached by this connection any more.
async fn watch(connection: &mut MultiplexedConnection, availability: &Availability) {
    // A command that fails is noticed before the next ping.
    while timeout(PING, availability.until_unreachable()).await.is_err() {
        if let Err(error) = ping(connection).await {
            availability.report_unreachable(&error);
        }
    }
}

async fn ping(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let ping = redis::cmd("PING");
    match timeout(ANSWER, ping.query_async::<()>(connection)).await {
        Ok(pong) => pong.map_err(|error| error.to_string()),
        Err(_) => Err("it does not answer in time".to_owned()),
    }
}

fn client(
    section: &str,
    setting: &ServerSetting<ValkeyUrl>,
    credentials: Option<&Path>,
    mistake: &impl Fn(&RedisError) -> RemoteError,
) -> Result<Client, RemoteError> {
    let address = match &setting.url {
        ValkeyUrl::Unix(path) => ConnectionAddr::Unix(path.clone()),
        ValkeyUrl::Tcp { endpoint, tls } => {
            // An address of IPv6 has no brackets here.
            let host = match &endpoint.host {
                Host::Address(address) => address.to_string(),
                Host::Name(name) => name.clone(),
            };
            let port = endpoint.port;
            match tls {
                true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
                false => ConnectionAddr::Tcp(host, port),
            }
        }
    };
    let mut login =
        RedisConnectionInfo::default().set_lib_name("plugind", env!("CARGO_PKG_VERSION"));
    if let Some((file, origin)) = &setting.credential {
        login = log_in(login, &format!("{section}.credential"), file, origin, credentials)?;
    }
    let info: ConnectionInfo = address.into_connection_info().map_err(|error| mistake(&error))?;
    let info = info.set_redis_settings(login);
    let root_cert = match &setting.ca {
        Some((file, origin)) => Some(certificate::read_authorities(
            &format!("{section}.ca"),
            file,
            origin,
            credentials,
        )?),
        None => None,
    };
    let is_tls = matches!(setting.url, ValkeyUrl::Tcp { tls: true, .. });
    let client = match is_tls {
        true => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert }),
        false => Client::open(info),
    };
    client.map_err(|error| mistake(&error))
}

/// Adds the login that a file has: a user and a password, or a password alone.
fn log_in(
    login: RedisConnectionInfo,
    label: &str,
    file: &CredentialFile,
    origin: &Origin,
    credentials: Option<&Path>,
) -> Result<RedisConnectionInfo, RemoteError> {
    let text = credential_file::read_line(label, file, origin, credentials)?;
    Ok(match text.split_once(':') {
        Some((user, password)) => login.set_username(user).set_password(password),
        None => login.set_password(text),
    })
}
