//! NATS as the engine: one core subject for each topic and one for each node.

mod reader;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, ServerAddr, ServerError,
    client::PublishErrorKind, connection::State,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use tokio::time::{Instant, Interval, interval, sleep, timeout};

use self::reader::{Backlog, Lagging, read};
use crate::{
    driver::{Engine, EngineSession, Failure, Lost},
    engine_link::{EngineLink, Outgoing, Unsent},
    envelope::MAX_ENVELOPE_BYTES,
    settings::{ConfigError, Settings, StartError},
    tasks::{self, Task},
};

/// Maximum number of messages of one topic in the client's buffer, which a task of its own empties. More than the client
/// reads before that task runs: it reads at most 128 times 64 KiB in a row. Messages that arrive while it is full are lost.
const SUBSCRIPTION_CAPACITY: usize = 64 * 1024;

/// Maximum number of commands that wait to be written to the socket. The queue bounded in bytes comes before this one.
const CLIENT_CAPACITY: usize = 32;

/// How often to check whether a silent server has sent something.
const SIGN_OF_LIFE_PAUSE: Duration = Duration::from_millis(10);

/// How to connect to NATS.
pub(crate) struct Nats {
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) settings: Settings,
    /// The content of the credentials file.
    pub(crate) credentials: Option<String>,
}

impl Nats {
    pub(crate) fn new(settings: Settings) -> Result<Self, StartError> {
        let servers = settings.servers.iter().map(|server| {
            server.parse::<ServerAddr>().map_err(|error| ConfigError::Address(error.to_string()))
        });
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        for server in &servers {
            if !matches!(server.scheme(), "nats" | "tls") {
                let scheme = server.scheme().to_owned();
                let instead = "give the address of a NATS server, nats:// or tls://";
                return Err(ConfigError::Scheme { scheme, instead }.into());
            }
            if server.host().is_empty() {
                return Err(ConfigError::Address("it names no host".to_owned()).into());
            }
        }
        // The client reads these files when it connects; a missing file would look like a bad server.
        let certificate =
            settings.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        for file in settings.ca_file.iter().chain(certificate) {
            Settings::read(file)?;
        }
        let credentials = settings.credentials_file.as_deref().map(Settings::read).transpose()?;
        let credentials = credentials.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Self { servers, settings, credentials })
    }

    fn options(&self, server: &ServerAddr, link: &EngineLink) -> Result<ConnectOptions, Failure> {
        let mut options = ConnectOptions::new()
            .name(link.node())
            .connection_timeout(self.settings.connect_timeout)
            .request_timeout(Some(self.settings.connect_timeout))
            .ping_interval(self.settings.ping_interval)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .client_capacity(CLIENT_CAPACITY)
            .custom_inbox_prefix(format!("{}.i", link.namespace))
            .no_echo()
            // A session has one connection: the driver decides when to make the next one.
            .max_reconnects(1)
            .reconnect_delay_callback(|_| Duration::ZERO)
            .ignore_discovered_servers();
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        options = match (&self.settings.user, server.username(), server.password()) {
            (Some((user, password)), ..) => options.user_and_password(user.clone(), password.clone()),
            (None, Some(user), Some(password)) => options.user_and_password(decoded(user), decoded(password)),
            (None, Some(token), None) => options.token(decoded(token)),
            (None, None, _) => options,
        };
        if let Some(credentials) = &self.credentials {
            options = options
                .credentials(credentials)
                .map_err(|error| Failure::Refused(format!("the credentials can't be read: {error}")))?;
        }
        if let Some(ca_file) = &self.settings.ca_file {
            options = options.add_root_certificates(ca_file.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.settings.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        Ok(options)
    }

    async fn dial_one(&self, server: &ServerAddr, link: &Arc<EngineLink>) -> Result<NatsSession, Failure> {
        let lost = Lost::default();
        let lagging = Lagging::new(link);
        let (told, lagged) = (lost.clone(), lagging.clone());
        let options = self.options(server, link)?.event_callback(move |event| {
            match event {
                Event::Disconnected | Event::Closed => told.tell(Failure::away("the connection has ended")),
                Event::LameDuckMode => told.tell(Failure::away("the server is about to shut down")),
                Event::SlowConsumer(_) => lagged.note(),
                // A node that may not subscribe, or not publish, can't take part in the cluster.
                Event::ServerError(ServerError::Other(error)) if forbids(&error) => {
                    told.tell(Failure::Refused(error));
                }
                Event::ServerError(error) => {
                    tracing::warn!(engine = "NATS", %error, "the server reported an error");
                }
                Event::Connected | Event::Draining | Event::ClientError(_) => {}
            }
            async {}
        });
        let named = |text: String| format!("{}:{}: {text}", server.host(), server.port());
        let client = options.connect(server).await.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication
            | ConnectErrorKind::AuthorizationViolation
            | ConnectErrorKind::ServerParse
            | ConnectErrorKind::Tls => Failure::Refused(named(error.to_string())),
            _ => Failure::Away(named(error.to_string())),
        })?;
        let max_payload = client.server_info().max_payload;
        if max_payload < MAX_ENVELOPE_BYTES {
            return Err(Failure::Refused(named(format!(
                "its max_payload is {max_payload} bytes, but messages need {MAX_ENVELOPE_BYTES}; raise it"
            ))));
        }
        let looks = interval(self.settings.ping_interval);
        let pinger = ping(client.clone(), link.clone(), self.settings.ping_interval);
        let pinger = tasks::spawn("NATS pinger", pinger);
        let backlog = Backlog::new(link.limits.bytes, lagging);
        Ok(NatsSession {
            client,
            link: link.clone(),
            readers: HashMap::new(),
            backlog,
            lost,
            looks,
            _pinger: pinger,
        })
    }
}

impl Engine for Nats {
    type Session = NatsSession;

    async fn dial(&self, link: &Arc<EngineLink>) -> Result<NatsSession, Failure> {
        let mut failed = Vec::new();
        let mut refused = false;
        // Starts at a random server, so that nodes are spread over them.
        let first = getrandom::u32().map_or(0, |random| random as usize % self.servers.len());
        for server in self.servers.iter().cycle().skip(first).take(self.servers.len()) {
            match self.dial_one(server, link).await {
                Ok(session) => return Ok(session),
                Err(Failure::Away(reason)) => failed.push(reason),
                Err(Failure::Refused(reason)) => {
                    refused = true;
                    failed.push(reason);
                }
            }
        }
        let reasons = failed.join("; ");
        Err(if refused { Failure::Refused(reasons) } else { Failure::Away(reasons) })
    }
}

pub(crate) struct NatsSession {
    client: Client,
    link: Arc<EngineLink>,
    /// The tasks of each subscription. Dropping them ends it.
    readers: HashMap<String, [Task; 2]>,
    backlog: Arc<Backlog>,
    lost: Lost,
    /// When to check the connection's state. Its end is also an event, but a flood of events can hide it.
    looks: Interval,
    _pinger: Task,
}

/// Whether an error says that a subscription or a message isn't allowed, or that there are too many subscriptions.
fn forbids(error: &str) -> bool {
    let error = error.to_lowercase();
    error.contains("permissions violation") || error.contains("subscription")
}

/// Measures from time to time how long the server takes to answer.
async fn ping(client: Client, link: Arc<EngineLink>, interval: Duration) {
    let nobody = format!("{}.p", link.namespace);
    loop {
        sleep(interval).await;
        let asked = Instant::now();
        // The answer is that nobody listens to this subject.
        let answer = client.request(nobody.clone(), Bytes::new()).await;
        if answer.map_or_else(|error| error.kind() == RequestErrorKind::NoResponders, |_| true) {
            link.round_trip.record(asked.elapsed().as_secs_f64());
        }
    }
}

impl EngineSession for NatsSession {
    fn lost(&self) -> &Lost {
        &self.lost
    }

    async fn subscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        for subject in subjects {
            let messages = self.client.subscribe(subject.clone()).await.map_err(Failure::away)?;
            let reader = read(messages, self.link.clone(), self.backlog.clone(), &self.lost);
            self.readers.insert(subject, reader);
        }
        Ok(())
    }

    async fn unsubscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        for subject in subjects {
            self.readers.remove(&subject);
        }
        Ok(())
    }

    /// A server processes what a client sends in order. So once it responds that this subject has no subscribers, it
    /// has processed everything sent before.
    ///
    /// If something does subscribe to it, for example to `>`, there is no such response. Then the next bytes from the
    /// server count: the client pings a silent server in each ping interval.
    async fn settle(&mut self) -> Result<(), Failure> {
        self.client.flush().await.map_err(Failure::away)?;
        let read = || self.client.statistics().in_bytes.load(Ordering::Relaxed);
        let before = read();
        let nobody = format!("{}.p", self.link.namespace);
        match timeout(self.looks.period(), self.client.request(nobody, Bytes::new())).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => return Ok(()),
            Ok(Err(error)) if error.kind() != RequestErrorKind::TimedOut => {
                return Err(Failure::away(error));
            }
            Ok(Err(_)) | Err(_) => {}
        }
        // The client detects a server that stays silent, and signals it through `lost`.
        while read() == before {
            sleep(SIGN_OF_LIFE_PAUSE).await;
        }
        Ok(())
    }

    async fn publish(&mut self, outgoing: &mut Vec<Outgoing>) -> Result<(), Failure> {
        for Outgoing { subject, envelope, room } in outgoing.drain(..) {
            match self.client.publish(subject, envelope).await {
                Ok(()) => room.sent(),
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    room.unsent(Unsent::TooLarge);
                }
                Err(error) => return Err(Failure::away(error)),
            }
        }
        Ok(())
    }

    async fn proceed(&mut self) -> Failure {
        loop {
            self.looks.tick().await;
            if self.client.connection_state() != State::Connected {
                return Failure::away("the connection has ended");
            }
        }
    }
}
