//! Which shard a topic belongs to.

/// The number of shards, a constant of the protocol: all nodes must agree on a topic's shard.
pub const SHARDS: usize = 64;

/// Returns the shard of a topic.
///
/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>) in 64 bits, folded. A standard hasher promises nothing across
/// builds, and all nodes must agree. A topic chosen to hit one shard costs only that shard: the maps inside have random
/// seeds.
pub fn shard_of(topic: &str) -> usize {
    let hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % SHARDS as u64) as usize
}
