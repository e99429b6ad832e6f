//! Typed metas on the tracker's owner.

use adsum_pubsub::Topic;
use adsum_tracker::{Key, RawOwner, Ref};

use crate::{
    encode::{decode_meta, encode_meta},
    errors::{TrackError, UpdateError},
    handler::PresenceHandler,
    layer::PresenceLayer,
};

/// Typed metas on the tracker's owner. The caller flushes the changes.
pub(crate) trait TypedOwner<H: PresenceHandler> {
    fn track_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Ref, TrackError>;

    fn set_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Option<Ref>, TrackError>;

    fn read_meta(&self, topic: &Topic, key: &Key) -> Option<H::Meta>;

    fn update_meta(
        &mut self,
        topic: &Topic,
        key: &Key,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError>;
}

impl<H: PresenceHandler> TypedOwner<H> for RawOwner<PresenceLayer<H>> {
    fn track_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Ref, TrackError> {
        Ok(self.track(topic, key, encode_meta(meta)?)?)
    }

    fn set_meta(&mut self, topic: &Topic, key: &Key, meta: &H::Meta) -> Result<Option<Ref>, TrackError> {
        Ok(self.set(topic, key, encode_meta(meta)?)?)
    }

    fn read_meta(&self, topic: &Topic, key: &Key) -> Option<H::Meta> {
        self.meta(topic, key).and_then(|meta| decode_meta(&meta))
    }

    fn update_meta(
        &mut self,
        topic: &Topic,
        key: &Key,
        change: impl FnOnce(H::Meta) -> H::Meta,
    ) -> Result<Ref, UpdateError> {
        Ok(self.update(topic, key, |old| encode_meta(&change(serde_json::from_str(old.as_str())?)))?)
    }
}
