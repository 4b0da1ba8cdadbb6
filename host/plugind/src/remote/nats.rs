//! A connection to a NATS server.

use crate::{
    base::error_chain::ErrorChain,
    config::{
        Origin,
        settings::{CredentialFile, NatsUrl, ServerSetting},
    },
    remote::{
        availability::{Availability, Unreachable, pause},
        certificate,
        dropped_messages::DroppedMessages,
        error::{RemoteError, check_network},
        refusals::Refusals,
    },
    systemd::credential_file,
};
use async_nats::{
    Client, ClientError, ConnectOptions, Event, ServerAddr, ServerError,
    jetstream::{Context, context::ContextBuilder},
};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, broadcast},
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

/// Time that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Time in which the server must answer a request, unless the caller has a limit of its own.
pub const ANSWER: Duration = Duration::from_secs(5);
/// Interval of pings; a server that leaves two unanswered counts as unreachable.
const PING: Duration = Duration::from_secs(5);
/// Interval of attempts to find the cause of an outage.
const EXPLAIN_PAUSE: Duration = Duration::from_secs(5);
/// Commands that wait for the connection. Each may have a value of the largest size.
const COMMANDS_MAX: usize = 64;
/// Messages of a subscription that wait for its reader.
const WAITING_MAX: usize = 1024;

/// A connection to a NATS server, which is made in the background, and again after each outage.
#[derive(Debug)]
pub struct NatsConnection {
    client: Arc<OnceLock<Client>>,
    jetstream: OnceLock<Context>,
    availability: Availability,
    refusals: Arc<Refusals>,
    runtime: Handle,
    _connecting: AbortOnDropHandle<()>,
}

impl NatsConnection {
    /// Starts to connect to the server of `[section]`, which shows the connection under this `name`. The tasks run in
    /// `runtime`. Blocks for a moment, to read files.
    ///
    /// # Errors
    /// When it cannot be used as it is configured. That the server is unreachable at present is no error.
    pub fn start(
        section: &str,
        setting: &ServerSetting<NatsUrl>,
        credentials: Option<&Path>,
        name: &str,
        runtime: &Handle,
    ) -> Result<Self, RemoteError> {
        check_network(&format!("{section}.url"), &setting.url.endpoint, &setting.origin)?;
        let options = options(section, setting, credentials)?.name(name);
        let availability = Availability::new(&setting.url);
        let refusals = Arc::new(Refusals::new());
        let (dropped, reported) = (DroppedMessages::default(), availability.clone());
        let (vague, probe) = (Arc::new(Notify::new()), options.clone());
        let events = NatsEvents {
            availability: reported,
            refusals: refusals.clone(),
            dropped,
            vague: vague.clone(),
        };
        let options = options.event_callback(move |event| {
            events.report(&event);
            std::future::ready(())
        });
        let address = format!("nats://{}", setting.url.endpoint).parse::<ServerAddr>();
        let address = address.map_err(|error| {
            let message = format!("{section}.url: {error}");
            RemoteError::from(credential_file::mistake(&setting.origin, message))
        })?;
        let client = Arc::new(OnceLock::new());
        let (connected, reported) = (client.clone(), availability.clone());
        let connecting = AbortOnDropHandle::new(runtime.spawn(async move {
            connect(&address, options, connected, &reported).await;
            explain(&address, probe, &vague, &reported).await;
        }));
        let (jetstream, runtime) = (OnceLock::new(), runtime.clone());
        Ok(Self { client, jetstream, availability, refusals, runtime, _connecting: connecting })
    }

    /// The client, while the server can be reached. Waits a moment if an outage has just begun.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn client(&self) -> Result<&Client, Unreachable> {
        self.availability.wait().await?;
        let missing = || Unreachable::from(&self.availability);
        self.client.get().ok_or_else(missing)
    }

    /// JetStream, while the server can be reached, as [`client`](Self::client).
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn jetstream(&self) -> Result<&Context, Unreachable> {
        let client = self.client().await?.clone();
        Ok(self.jetstream.get_or_init(|| {
            // Building the context spawns a task, which needs a runtime.
            let _runtime = self.runtime.enter();
            ContextBuilder::new().timeout(ANSWER).ack_timeout(ANSWER).build(client)
        }))
    }

    /// The errors that the server reports from now on, such as a subject that it does not allow.
    #[must_use]
    pub fn errors(&self) -> broadcast::Receiver<Arc<str>> {
        self.refusals.errors()
    }

    /// Waits until the server has had the opportunity to refuse a message to this subject that was sent before. A
    /// refusal is one of its [`errors`](Self::errors).
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn await_refusal_window(
        &self,
        client: &Client,
        subject: &str,
    ) -> Result<(), async_nats::Error> {
        self.refusals.await_refusal_window(client, subject).await
    }

    /// Waits until the server has processed everything that was sent before. A refusal is one of its
    /// [`errors`](Self::errors).
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn round_trip(&self, client: &Client) -> Result<(), async_nats::Error> {
        self.refusals.round_trip(client).await
    }

    /// Whether the server can be reached.
    #[must_use]
    pub fn availability(&self) -> &Availability {
        &self.availability
    }
}

/// Connects for the first time. Afterwards the client connects again by itself.
async fn connect(
    address: &ServerAddr,
    options: ConnectOptions,
    client: Arc<OnceLock<Client>>,
    availability: &Availability,
) {
    for attempt in 1.. {
        match attempt_with(address, &options).await {
            Ok(connected) => {
                client.set(connected).ok();
                return availability.report_reachable();
            }
            Err(error) => availability.report_unreachable(&error),
        }
        sleep(pause(attempt)).await;
    }
}

/// Finds the cause of an outage that the client reports without it, by an attempt of its own to connect.
async fn explain(
    address: &ServerAddr,
    probe: ConnectOptions,
    vague: &Notify,
    availability: &Availability,
) {
    loop {
        vague.notified().await;
        // The client may have connected meanwhile.
        if availability.failure().is_some() {
            // If the attempt succeeds, its connection is dropped: the client makes one of its own.
            if let Err(error) = attempt_with(address, &probe).await {
                availability.still_unreachable(&error);
            }
        }
        sleep(EXPLAIN_PAUSE).await;
    }
}

async fn attempt_with(address: &ServerAddr, options: &ConnectOptions) -> Result<Client, String> {
    match timeout(CONNECT, options.clone().connect(address.clone())).await {
        Ok(connected) => connected.map_err(|error| ErrorChain(&error).to_string()),
        Err(_) => Err("it does not answer in time".to_owned()),
    }
}

/// Whether the client reports a failed attempt to connect by its kind alone, without the cause.
fn is_vague(error: &str) -> bool {
    use async_nats::ConnectErrorKind::{Dns, Io, Tls};
    [Dns, Io, Tls].iter().any(|kind| kind.to_string() == error)
}

/// Takes note of the events of a connection.
struct NatsEvents {
    availability: Availability,
    refusals: Arc<Refusals>,
    dropped: DroppedMessages,
    /// Notified when the cause of an outage has to be found.
    vague: Arc<Notify>,
}

impl NatsEvents {
    fn report(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.refusals.reset();
                self.availability.report_reachable();
            }
            Event::Disconnected => self.availability.report_unreachable("the connection has ended"),
            Event::ServerError(error) => {
                self.refusals.report(&error.to_string());
                if *error == ServerError::AuthorizationViolation {
                    self.availability.report_unreachable(
                        "it refuses the login; correct the credential in plugind.toml and restart the daemon",
                    );
                }
            }
            // The client tries again.
            Event::ClientError(ClientError::Other(error)) if is_vague(error) => {
                if self.availability.failure().is_none() {
                    self.availability.report_unreachable(error);
                }
                self.vague.notify_one();
            }
            Event::ClientError(ClientError::Other(error)) => {
                self.availability.report_unreachable(error)
            }
            Event::SlowConsumer(_) => {
                if let Some(messages) = self.dropped.add(Instant::now()) {
                    let server = self.availability.server();
                    warn!(server, messages, "messages dropped");
                }
            }
            // The connection exists, or was closed by the daemon.
            Event::Closed
            | Event::LameDuckMode
            | Event::Draining
            | Event::ClientError(ClientError::MaxReconnects | ClientError::ServerNotInPool) => (),
        }
    }
}

fn options(
    section: &str,
    setting: &ServerSetting<NatsUrl>,
    credentials: Option<&Path>,
) -> Result<ConnectOptions, RemoteError> {
    let mut options = ConnectOptions::new()
        .connection_timeout(CONNECT)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .client_capacity(COMMANDS_MAX)
        .subscription_capacity(WAITING_MAX)
        .require_tls(setting.url.tls)
        .reconnect_delay_callback(
            |attempt| if attempt <= 1 { Duration::ZERO } else { pause(attempt) },
        );
    if let Some((file, origin)) = &setting.ca {
        let label = format!("{section}.ca");
        // It is read now to report a mistake, and by the client whenever it connects.
        certificate::read_authorities(&label, file, origin, credentials)?;
        options = options.add_root_certificates(credential_file::path(
            &label,
            file,
            origin,
            credentials,
        )?);
    }
    if let Some((file, origin)) = &setting.credential {
        options = log_in(options, &format!("{section}.credential"), file, origin, credentials)?;
    }
    Ok(options)
}

/// Adds the login that a file has: a user and a password, or a token.
fn log_in(
    options: ConnectOptions,
    label: &str,
    file: &CredentialFile,
    origin: &Origin,
    credentials: Option<&Path>,
) -> Result<ConnectOptions, RemoteError> {
    let text = credential_file::read_line(label, file, origin, credentials)?;
    Ok(match text.split_once(':') {
        Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
        None => options.token(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn an_outage_has_the_reason_of_the_last_attempt_to_connect() {
        let availability = Availability::new(&"nats://a:1");
        let (refusals, dropped) = (Arc::new(Refusals::new()), DroppedMessages::default());
        let vague = Arc::new(Notify::new());
        let events = NatsEvents {
            availability: availability.clone(),
            refusals,
            dropped,
            vague: vague.clone(),
        };
        let reason = || availability.failure().map(|failure| failure.to_string());
        events.report(&Event::Connected);
        assert_eq!(reason(), None);
        for (event, why) in [
            (Event::Disconnected, "the connection has ended"),
            (Event::ClientError(ClientError::Other("timed out".to_owned())), "timed out"),
            (
                Event::ServerError(ServerError::AuthorizationViolation),
                "it refuses the login; correct the credential in plugind.toml and restart the daemon",
            ),
        ] {
            events.report(&event);
            assert_eq!(reason(), Some(format!("nats://a:1 cannot be reached: {why}")));
        }
        assert_eq!(vague.notified().now_or_never(), None);
        events.report(&Event::ClientError(ClientError::Other("IO error".to_owned())));
        assert!(reason().is_some_and(|reason| reason.ends_with("restart the daemon")));
        assert_eq!(vague.notified().now_or_never(), Some(()), "the cause is looked for");
        events.report(&Event::Connected);
        events.report(&Event::ServerError(ServerError::Other("Permissions Violation".to_owned())));
        assert_eq!(reason(), None);
    }
}
