//! NATS as the engine: core subjects, one for each topic and one for each node.

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
use tokio::time::{Interval, interval, sleep, timeout};

use self::reader::{Backlog, Lagging, read};
use crate::{
    ConfigError, StartError,
    driver::{self, Engine, Failure, Lost},
    envelope::MAX_ENVELOPE_BYTES,
    link::{Link, Outgoing},
    node::Settings,
    tasks::{self, Task, noticed},
};

/// How many messages of one topic may wait in the client, which a reader empties before each delivery; those that come
/// while they do are lost.
const SUBSCRIPTION_CAPACITY: usize = 4096;

/// How many commands may wait to be written to the socket. The queue that has a bound in bytes is before this one.
const CLIENT_CAPACITY: usize = 32;

/// How often a server that owes a sign of life is looked at.
const SIGN_OF_LIFE_PAUSE: Duration = Duration::from_millis(10);

/// How to connect to NATS.
pub(crate) struct Nats {
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) settings: Settings,
    /// What the file of credentials has in it.
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
        // The client reads these when it connects, and a file that isn't there would look like a bad server.
        let certificate =
            settings.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        for file in settings.ca_file.iter().chain(certificate) {
            Settings::read(file)?;
        }
        let credentials = settings.credentials_file.as_deref().map(Settings::read).transpose()?;
        let credentials = credentials.map(|text| String::from_utf8_lossy(&text).into_owned());
        Ok(Self { servers, settings, credentials })
    }

    fn options(&self, server: &ServerAddr, link: &Link) -> Result<ConnectOptions, Failure> {
        let mut options = ConnectOptions::new()
            .name(link.node())
            .connection_timeout(self.settings.connect_timeout)
            .request_timeout(Some(self.settings.connect_timeout))
            .ping_interval(self.settings.ping_interval)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .client_capacity(CLIENT_CAPACITY)
            .custom_inbox_prefix(format!("{}.i", link.namespace))
            .no_echo()
            // A session has one connection: the driver knows best when to make the next, and what to tell it.
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

    async fn dial_one(&self, server: &ServerAddr, link: &Arc<Link>) -> Result<Session, Failure> {
        let lost = Lost::default();
        let lagging = Arc::<Lagging>::default();
        let (told, lagged) = (lost.clone(), lagging.clone());
        let options = self.options(server, link)?.event_callback(move |event| {
            match event {
                Event::Disconnected | Event::Closed => told.tell(Failure::away("the connection has ended")),
                Event::LameDuckMode => told.tell(Failure::away("the server is about to shut down")),
                Event::SlowConsumer(_) => lagged.note(),
                // A node that may not listen where it must is of no use to others.
                Event::ServerError(ServerError::Other(error))
                    if error.to_lowercase().contains("subscription") =>
                {
                    told.tell(Failure::Refused(error));
                }
                Event::ServerError(error) => {
                    tracing::warn!(engine = "NATS", %error, "the server reports an error");
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
                "its max_payload is {max_payload} bytes, and messages need {MAX_ENVELOPE_BYTES}"
            ))));
        }
        let looks = interval(self.settings.ping_interval);
        let backlog = Backlog::new(link.max_queued_bytes, lagging);
        Ok(Session { client, link: link.clone(), readers: HashMap::new(), backlog, lost, looks })
    }
}

impl Engine for Nats {
    type Session = Session;

    async fn dial(&self, link: &Arc<Link>) -> Result<Session, Failure> {
        let mut failed = Vec::new();
        let mut refused = false;
        // From a server at random, so that nodes share them.
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

pub(crate) struct Session {
    client: Client,
    link: Arc<Link>,
    /// A task for each subscription. One that is dropped ends it.
    readers: HashMap<String, Task>,
    backlog: Backlog,
    lost: Lost,
    /// When to look at the connection's state. Its end is told as an event, but a flood of events can hide one.
    looks: Interval,
}

impl driver::Session for Session {
    fn lost(&self) -> &Lost {
        &self.lost
    }

    async fn subscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        for subject in subjects {
            let messages = self.client.subscribe(subject.clone()).await.map_err(Failure::away)?;
            let read = read(messages, self.link.clone(), self.backlog.clone());
            let lost = self.lost.clone();
            let reader = tasks::spawn("NATS reader", async move {
                if noticed("NATS reader", read).await.is_err() {
                    lost.tell(Failure::away("a reader has panicked"));
                }
            });
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

    /// A server takes what a client sends in its order. So when it answers that nobody listens to this subject,
    /// it has taken all that was sent before.
    ///
    /// If somebody does listen, to `>` say, there is no such answer. Then the next sign of life does: the client asks a
    /// silent server for one in each ping interval.
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
        // A server that stays silent is found out by the client, and told through `lost`.
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
                    room.unsent("too_large");
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
