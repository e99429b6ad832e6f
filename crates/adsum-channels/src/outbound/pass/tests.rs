//! Tests of the order of write passes.

use super::*;
use crate::outbound::tests::{arrived, connected, frame};

#[tokio::test]
async fn a_reply_is_written_before_a_broadcast_to_others() {
    let mut listening = Vec::new();
    for _ in 0..100 {
        listening.push(connected().await);
    }
    let (answered, mut client) = connected().await;
    for (outbound, _) in &listening {
        outbound.locked_for(Urgency::Many, |queue| queue.push(frame("all")));
    }
    // Waits until the broadcast is being written.
    while arrived(&mut listening[0].1).is_empty() {
        tokio::task::yield_now().await;
    }
    answered.push(frame("reply"));
    let (last, heard) = listening.last_mut().unwrap();
    last.push(frame("reply"));
    let mut turns = 0;
    while arrived(&mut client) != "reply" {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert_eq!(arrived(heard), "allreply", "what waits already stands before it");
    assert_eq!(arrived(&mut listening[98].1), "", "{turns}");
    while arrived(&mut listening[98].1).is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_broadcast_to_few_is_written_before_one_to_many() {
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(connected().await);
    }
    let (player, mut client) = connected().await;
    for (outbound, _) in &crowd {
        outbound.locked_for(Urgency::of_broadcast(129), |queue| queue.push(frame("all")));
    }
    // In one turn with the broadcast to many, and after it; the last of the crowd is in the game too.
    for outbound in [&player, &crowd[199].0] {
        outbound.locked_for(Urgency::of_broadcast(128), |queue| queue.push(frame("few")));
    }
    while arrived(&mut client) != "few" {
        tokio::task::yield_now().await;
    }
    assert_eq!(arrived(&mut crowd[199].1), "allfew", "what waits already stands before it");
    assert_eq!(arrived(&mut crowd[198].1), "");
    while arrived(&mut crowd[198].1).is_empty() {
        tokio::task::yield_now().await;
    }
}
