//! All nodes must agree on a topic's shard, whatever they were built with.

use adsum_tracker::{SHARDS, shard_of};

#[test]
fn a_topic_s_shard_never_changes() {
    // Computed independently, by the definition of FNV-1a.
    let longest = "x".repeat(255);
    let known = [
        ("", 1),
        ("a", 0),
        ("lobby", 5),
        ("room:1", 7),
        ("room:2", 50),
        ("game:42", 31),
        ("user:7", 55),
        ("chat:é", 45),
        (&longest, 13),
    ];
    for (topic, shard) in known {
        assert_eq!(shard_of(topic), shard, "{topic}");
    }
}

#[test]
fn numbered_topics_spread_over_all_shards() {
    for kind in ["room", "game", "user"] {
        let mut topics = [0; SHARDS];
        for number in 0..6400 {
            topics[shard_of(&format!("{kind}:{number}"))] += 1;
        }
        assert!(topics.iter().all(|&topics| (50..200).contains(&topics)), "{kind}: {topics:?}");
    }
}
