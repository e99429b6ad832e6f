//! `realtime:*`: a channel of Supabase Realtime.

use std::{collections::HashMap, error::Error};

use adsum::{Channel, JoinError, Joined, Payload, Presence, Reply, Socket, Stop, Topic};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{authorize, is_private, serializer::BYTES};

/// The parameters of a join.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Join {
    config: Config,
    access_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    broadcast: Value,
    presence: Value,
    private: bool,
}

pub(crate) struct Room {
    presence: Presence,
    /// Whether its client is shown who is there.
    is_shown: bool,
    /// Whether broadcasts are acknowledged, and whether they come back.
    broadcast: Value,
    key: String,
}

impl Channel for Room {
    type App = Presence;
    type Params = Join;
    type Info = ();

    fn invalid_params(_: serde_json::Error) -> Result<Join, JoinError> {
        Ok(Join::default())
    }

    async fn join(
        app: &Presence,
        topic: &Topic,
        Join { config: Config { broadcast, presence, private }, access_token }: Join,
        _: &mut Socket,
    ) -> Result<Joined<Self>, JoinError> {
        authorize(topic, private, access_token.as_deref()).map_err(JoinError::reason)?;
        let named = presence["key"].as_str().filter(|key| !key.is_empty());
        let key = named.map_or(format!("{:016x}", getrandom::u64()?), ToOwned::to_owned);
        app.check_key(&key).map_err(JoinError::reason)?;
        let is_shown = presence["enabled"] == true;
        let room = Self { presence: app.clone(), is_shown, broadcast, key };
        let joined = Joined::new(room).reply(json!({"postgres_changes": []}));
        Ok(if is_shown { joined } else { joined.without("presence_diff") })
    }

    async fn joined(&mut self, socket: &mut Socket) -> Result<(), Stop> {
        if self.is_shown {
            self.presence.push_state(socket).await?;
        }
        Ok(())
    }

    async fn handle_in(&mut self, event: &str, payload: Payload, socket: &mut Socket) -> Result<Reply, Stop> {
        match event {
            "presence" => Ok(match self.change(&payload, socket) {
                Ok(()) => Reply::ok(json!({})),
                Err(error) => Reply::error(json!({"reason": error.to_string()})),
            }),
            "access_token" => {
                let token = payload.decode::<HashMap<String, String>>()?.remove("access_token");
                let topic = socket.topic().clone();
                let Err(why) = authorize(&topic, is_private(&topic), token.as_deref()) else {
                    return Ok(Reply::none());
                };
                let channel = &topic["realtime:".len()..];
                let end =
                    json!({"extension": "system", "status": "error", "message": why, "channel": channel});
                socket.push("system", end)?;
                Err(Stop::shutdown())
            }
            _ if event == "broadcast" || event.starts_with(BYTES) => {
                if self.broadcast["self"] == true {
                    socket.broadcast(event, payload)?;
                } else {
                    socket.broadcast_from(event, payload)?;
                }
                Ok(if self.broadcast["ack"] == true { Reply::ok(json!({})) } else { Reply::none() })
            }
            _ => Err(Stop::unhandled(event)),
        }
    }
}

impl Room {
    fn change(&self, payload: &Payload, socket: &mut Socket) -> Result<(), Box<dyn Error>> {
        #[derive(Deserialize)]
        struct Request {
            event: String,
            #[serde(default)]
            payload: Map<String, Value>,
        }
        let Request { event, payload: meta } = payload.decode()?;
        let (presence, key) = (&self.presence, &*self.key);
        match &*event {
            "track" => drop(presence.set(socket, key, meta)?),
            "untrack" => drop(presence.untrack(socket, key)),
            _ => return Err("no event of presence: track or untrack".into()),
        }
        Ok(())
    }
}
