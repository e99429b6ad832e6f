//! Redis as the engine: publish and subscribe over one connection, with a channel for each topic and one for each node.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ErrorKind, IntoConnectionInfo, Pipeline, ProtocolVersion,
    PushInfo, PushKind, RedisError, ServerErrorKind, TlsCertificates, Value, aio::MultiplexedConnection,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    driver::{Engine, EngineSession, Failure, Lost},
    engine_link::{EngineLink, Outgoing, QueueShare, Unsent},
    metrics::Histogram,
    settings::{ConfigError, Settings, StartError},
    tasks::{self, Task, noticed},
};

/// Maximum number of batches in flight to Redis without a response.
const MAX_UNANSWERED: usize = 8;

/// How to connect to Redis.
pub(crate) struct Redis {
    client: Client,
    connect_timeout: Duration,
    ping_interval: Duration,
}

impl Redis {
    pub(crate) fn new(settings: Settings) -> Result<Self, StartError> {
        let wrong = |error: RedisError| ConfigError::Address(error.to_string());
        let [server] = &settings.servers[..] else {
            return Err(ConfigError::SeveralServers.into());
        };
        if let Some((scheme, _)) = server.split_once("://")
            && scheme.to_ascii_lowercase().contains("sentinel")
        {
            let scheme = scheme.to_owned();
            let instead = "adsum doesn't support Sentinel: give the address of one server, redis:// or rediss://, such \
                           as a proxy that follows the primary";
            return Err(ConfigError::Scheme { scheme, instead }.into());
        }
        if settings.credentials_file.is_some() {
            return Err(ConfigError::NatsOnly("a credentials file").into());
        }
        let info = server.as_str().into_connection_info().map_err(wrong)?;
        let mut login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some((user, password)) = &settings.user {
            login = login.set_username(user).set_password(password);
        }
        // Sends a small message without waiting to fill its packet.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_redis_settings(login).set_tcp_settings(tcp);
        let is_tls = matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. });
        let certificates = certificates(&settings)?;
        let client = match certificates {
            Some(_) if !is_tls => {
                return Err(ConfigError::WithoutTls.into());
            }
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        };
        Ok(Self {
            client: client.map_err(wrong)?,
            connect_timeout: settings.connect_timeout,
            ping_interval: settings.ping_interval,
        })
    }
}

fn certificates(settings: &Settings) -> Result<Option<TlsCertificates>, StartError> {
    if settings.ca_file.is_none() && settings.client_certificate.is_none() {
        return Ok(None);
    }
    let client_tls = settings.client_certificate.as_ref().map(|(certificate, key)| {
        Ok::<_, StartError>(ClientTlsConfig {
            client_cert: Settings::read(certificate)?,
            client_key: Settings::read(key)?,
        })
    });
    let root_cert = settings.ca_file.as_deref().map(Settings::read);
    Ok(Some(TlsCertificates { client_tls: client_tls.transpose()?, root_cert: root_cert.transpose()? }))
}

impl Engine for Redis {
    type Session = RedisSession;

    async fn dial(&self, link: &Arc<EngineLink>) -> Result<RedisSession, Failure> {
        let lost = Lost::default();
        let heard = Arc::new(AtomicBool::new(false));
        let (inbound, disconnected, pushed) = (link.clone(), lost.clone(), heard.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            // The pinger detects a silent Redis.
            .set_response_timeout(None)
            // Called in the connection's own task, which doesn't read meanwhile: nothing piles up here.
            .set_push_sender(move |push: PushInfo| {
                pushed.store(true, Ordering::Relaxed);
                match push {
                    PushInfo { kind: PushKind::Message, data } => {
                        if let [_, Value::BulkString(envelope)] = &data[..] {
                            inbound.receive(envelope);
                        }
                    }
                    PushInfo { kind: PushKind::Disconnection, .. } => {
                        disconnected.tell(Failure::away("the connection has ended"));
                    }
                    _ => {}
                }
                Ok::<(), std::convert::Infallible>(())
            });
        let connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(failure)?;
        let checked = timeout(self.connect_timeout, refuse_mute(connection.clone(), &link.namespace));
        checked.await.map_err(Failure::away)??;
        let ping = ping(connection.clone(), self.ping_interval, heard.clone(), lost.clone());
        let failed = lost.clone();
        let pinger = tasks::spawn("Redis pinger", async move {
            if noticed("Redis pinger", ping).await.is_err() {
                failed.tell(Failure::away("the pinger panicked"));
            }
        });
        Ok(RedisSession {
            connection,
            unanswered: FuturesUnordered::new(),
            heard,
            lost,
            round_trip: link.round_trip.clone(),
            _pinger: pinger,
        })
    }
}

/// Fails if the server refuses messages: it is a Sentinel, or the user may not publish. Both would take subscriptions.
async fn refuse_mute(mut connection: MultiplexedConnection, namespace: &str) -> Result<(), Failure> {
    let about = redis::cmd("HELLO").query_async::<HashMap<String, Value>>(&mut connection).await;
    // Ignore an error: an old proxy may not know it.
    if about.is_ok_and(|about| about.get("mode") == Some(&Value::BulkString(b"sentinel".to_vec()))) {
        let reason = "it is a Sentinel, which carries no messages; give the address of one server, such as a proxy \
                      that follows the primary";
        return Err(Failure::Refused(reason.to_owned()));
    }
    // Nobody listens to this channel.
    let nobody = format!("{namespace}.p");
    redis::cmd("PUBLISH").arg(nobody).arg("").exec_async(&mut connection).await.map_err(failure)
}

fn failure(error: RedisError) -> Failure {
    match error.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::RESP3NotSupported
        | ErrorKind::InvalidClientConfig
        | ErrorKind::Extension
        | ErrorKind::Server(ServerErrorKind::NoPerm) => Failure::Refused(error.to_string()),
        _ => Failure::Away(error.to_string()),
    }
}

/// Pings Redis whenever it has been silent, until it doesn't respond.
///
/// A response comes after everything that Redis has sent before, so under load it may be late. Anything that arrives
/// meanwhile counts as well.
async fn ping(mut connection: MultiplexedConnection, interval: Duration, heard: Arc<AtomicBool>, lost: Lost) {
    connection.set_response_timeout(interval * 2);
    loop {
        heard.store(false, Ordering::Relaxed);
        sleep(interval).await;
        if heard.load(Ordering::Relaxed) {
            continue;
        }
        if let Err(error) = redis::cmd("PING").query_async::<()>(&mut connection).await
            && !heard.load(Ordering::Relaxed)
        {
            lost.tell(Failure::away(error));
            return;
        }
    }
}

type Response = Result<(), Failure>;

pub(crate) struct RedisSession {
    connection: MultiplexedConnection,
    /// Requests without a response. They are first polled in the order in which they came, and the first poll puts a
    /// request into the connection's queue.
    unanswered: FuturesUnordered<BoxFuture<'static, Response>>,
    /// Set whenever Redis sends anything, for the pinger.
    heard: Arc<AtomicBool>,
    lost: Lost,
    round_trip: Arc<Histogram>,
    _pinger: Task,
}

impl RedisSession {
    async fn request(&mut self, request: BoxFuture<'static, Response>) -> Response {
        while self.unanswered.len() >= MAX_UNANSWERED
            && let Some(response) = self.unanswered.next().await
        {
            response?;
        }
        self.unanswered.push(request);
        Ok(())
    }
}

impl EngineSession for RedisSession {
    fn lost(&self) -> &Lost {
        &self.lost
    }

    async fn subscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        let mut connection = self.connection.clone();
        self.request(Box::pin(async move { connection.subscribe(subjects).await.map_err(failure) })).await
    }

    async fn unsubscribe(&mut self, subjects: Vec<String>) -> Result<(), Failure> {
        let mut connection = self.connection.clone();
        self.request(Box::pin(async move { connection.unsubscribe(subjects).await.map_err(failure) })).await
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        while let Some(response) = self.unanswered.next().await {
            response?;
        }
        Ok(())
    }

    async fn publish(&mut self, outgoing: &mut Vec<Outgoing>) -> Result<(), Failure> {
        let mut pipeline = Pipeline::with_capacity(outgoing.len());
        let mut rooms: Vec<QueueShare> = Vec::with_capacity(outgoing.len());
        for Outgoing { subject, envelope, room } in outgoing.drain(..) {
            pipeline.cmd("PUBLISH").arg(subject).arg(&envelope[..]).ignore();
            rooms.push(room);
        }
        let (mut connection, heard) = (self.connection.clone(), self.heard.clone());
        let round_trip = self.round_trip.clone();
        self.request(Box::pin(async move {
            let asked = Instant::now();
            let response = pipeline.exec_async(&mut connection).await;
            round_trip.record(asked.elapsed().as_secs_f64());
            heard.store(true, Ordering::Relaxed);
            match response {
                // Redis is up and rejects the messages: the user may not publish, for example.
                Err(error) if !error.is_unrecoverable_error() && !error.is_timeout() => {
                    for room in rooms {
                        room.unsent(Unsent::Refused);
                    }
                    tracing::debug!(engine = "Redis", %error, "Redis refused messages; they are dropped");
                    Ok(())
                }
                // Without a response they may or may not be sent; they count as unsent.
                Err(error) => Err(failure(error)),
                Ok(()) => {
                    for room in rooms {
                        room.sent();
                    }
                    Ok(())
                }
            }
        }))
        .await
    }

    async fn proceed(&mut self) -> Failure {
        loop {
            match self.unanswered.next().await {
                Some(Ok(())) => {}
                Some(Err(failure)) => return failure,
                None => std::future::pending().await,
            }
        }
    }
}
