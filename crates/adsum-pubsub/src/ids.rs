//! Ids that are unique in the process.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Identifies a subscriber, which may be attached to several topics, or several times to one.
///
/// `broadcast_from` skips the subscriber of this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(u64);

impl SubscriberId {
    /// Returns a new id, different from all others of this process.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Identifies a way to encode messages, such as one serializer's frames for one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodingId(u32);

impl EncodingId {
    /// Returns a new id, different from all others of this process.
    ///
    /// Make one for each kind of encoding, for example in a static, and not one for each socket: sockets with different
    /// ids share no encoding.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
