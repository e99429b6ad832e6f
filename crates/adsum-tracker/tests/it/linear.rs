//! The cost of a change doesn't depend on the number of presences: four times as many changes take about four times as
//! long.

use std::{
    fs,
    time::{Duration, Instant},
};

use adsum_tracker::{Bare, LeaveReason, OwnerExit, RawOwner, Windows};

use crate::{
    key, meta, tracker,
    world::{MOMENT, World},
};

/// The CPU time of this thread, which other programs don't stretch.
fn cpu_time() -> Duration {
    let since_start = || {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    };
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = schedstat.and_then(|text| text.split(' ').next()?.parse().ok());
    nanos.map_or_else(since_start, Duration::from_nanos)
}

/// Checks that the time grows with the number, and not with its square. `work` returns the time that it measured.
fn assert_linear(work: impl Fn(usize) -> Duration) {
    const FEW: usize = 6_000;
    let mut ratios = Vec::new();
    // Sixteen times as long if it were quadratic. Caches and trees make it more than four; the rest is noise, which
    // doesn't come each time.
    for _ in 0..4 {
        let ratio = work(4 * FEW).as_secs_f64() / work(FEW).as_secs_f64().max(1e-6);
        if ratio < 9.0 {
            return;
        }
        ratios.push(ratio);
    }
    panic!("four times as many take {ratios:?} times as long");
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = cpu_time();
    work();
    cpu_time().saturating_sub(begun)
}

fn crowd(count: usize, mut owner: impl FnMut() -> RawOwner<Bare>) -> Vec<RawOwner<Bare>> {
    let enter = |_| {
        let mut owner = owner();
        owner.track(&"room".into(), &key("guest"), meta()).unwrap();
        owner
    };
    (0..count).map(enter).collect()
}

#[test]
fn presences_of_one_key_come_change_and_go() {
    assert_linear(|count| {
        let tracker = tracker(Windows::Net);
        timed(|| {
            let mut owners = crowd(count, || tracker.owner());
            for owner in &mut owners {
                owner.update(&"room".into(), &key("guest"), |_| Ok::<_, ()>(meta())).unwrap();
            }
            assert_eq!(tracker.count("room"), count);
            drop(owners);
            assert_eq!(tracker.count("room"), 0);
        })
    });
}

#[test]
fn presences_of_one_key_come_and_go_on_another_node() {
    assert_linear(|count| {
        let (mut world, [a, b]) = World::of(["a", "b"]);
        timed(|| {
            let owners = crowd(count, || world.owner(a));
            world.pass(MOMENT);
            assert_eq!(world.node(b).tracker.count("room"), count);
            drop(owners);
            world.pass(MOMENT);
            assert_eq!(world.node(b).tracker.count("room"), 0);
        })
    });
}

#[test]
fn presences_of_one_key_are_replaced_while_they_linger() {
    assert_linear(|count| {
        let tracker = tracker(Windows::Net);
        // Those that stay come first: none of them is looked at for each that is replaced.
        let _stay = crowd(count, || tracker.owner());
        let mut owners = crowd(count, || tracker.owner());
        timed(|| {
            for owner in &mut owners {
                owner.end(OwnerExit::Depart(LeaveReason::Gone, Duration::from_mins(1)));
            }
            let _back = crowd(count, || tracker.owner());
            assert_eq!(tracker.count("room"), 2 * count);
        })
    });
}

#[test]
fn rows_go_and_come_back_within_one_window() {
    assert_linear(|count| {
        let (mut world, [a, b]) = World::of(["a", "b"]);
        let mut owner = world.owner(a);
        for number in 0..count {
            owner.track(&"room".into(), &key(&format!("{number:06}")), meta()).unwrap();
        }
        world.pass(MOMENT);
        world.flush(b, "room");
        world.isolate(a);
        world.pass(Duration::from_millis(3200));
        assert_eq!(world.node(b).tracker.count("room"), 0);
        world.mend();
        timed(|| {
            world.pass(Duration::from_millis(1100));
            assert_eq!(world.node(b).tracker.count("room"), count);
            assert_eq!(world.flush(b, "room").1, 0, "they were told, and are there");
        })
    });
}
