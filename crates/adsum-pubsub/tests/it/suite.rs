use std::panic::{AssertUnwindSafe, catch_unwind};

use adsum_pubsub::{LocalNetwork, suite};
use tokio::runtime::{Builder, Runtime};

use crate::network::{Fault, Network};

#[tokio::test]
async fn the_local_network_passes() {
    suite::run(suite::DEADLINE, async |names| {
        let network = LocalNetwork::new();
        names.iter().map(|name| network.node(name)).collect()
    })
    .await;
}

/// Paused time, so a slow machine changes nothing.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

async fn run(fault: Fault) {
    suite::run(suite::DEADLINE, async |names| {
        let network = Network::start(fault);
        names.iter().map(|name| network.node(name)).collect()
    })
    .await;
}

#[test]
fn a_slow_network_passes() {
    runtime().block_on(run(Fault::None));
}

#[test]
fn every_fault_is_found_by_its_check() {
    for (fault, check) in [
        (Fault::SameName, "subscribe and receive"),
        (Fault::Deaf, "subscribe and receive"),
        (Fault::Double, "subscribe and receive"),
        (Fault::Prefix, "topics are kept apart"),
        (Fault::LeftForGood, "a topic that was left can be joined again"),
        (Fault::Echo, "broadcast reaches every node once"),
        (Fault::DirectToAll, "direct_broadcast reaches one node"),
        (Fault::UnknownNode, "direct_broadcast reaches one node"),
        (Fault::Overtaken, "messages of one sender keep their order"),
        (Fault::Reencoded, "payloads arrive unchanged"),
        (Fault::NoBinary, "payloads arrive unchanged"),
    ] {
        let panic = catch_unwind(AssertUnwindSafe(|| runtime().block_on(run(fault))))
            .expect_err(&format!("{fault:?} was not found"));
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.starts_with(&format!("{check}: ")), "{fault:?} was found by another check: {text}");
    }
}
