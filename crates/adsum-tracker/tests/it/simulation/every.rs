//! Two writers and a reader: every order in which a few changes and their messages may come, be lost and come
//! twice.

use std::{sync::Arc, time::Duration};

use adsum_tracker::{ClusterMessage, ClusterOptions, Incarnation, Replica, Time, Windows};

use super::{
    known::Known,
    node::{Node, key},
    schedule::{Config, Schedule, TOPICS},
};

/// Maximum number of messages of a run that are lost or duplicated.
const TROUBLES: usize = 1;
/// The next message is one of this many that have been under way longest.
const REORDERED: usize = 2;
const READER: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Act {
    Track,
    Update,
    Untrack,
    /// The owner ends, and its presences stay for a while.
    Depart,
    Flush,
}

/// Choices, first always the first option, then every other.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn pick(&mut self, options: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, options));
        }
        let (choice, of) = self.taken[self.at];
        assert_eq!(of, options, "the same choices have led elsewhere");
        self.at += 1;
        choice
    }

    /// Moves on to the choices of the next run. Returns whether there is one.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, options)) = self.taken.pop() {
            if choice + 1 < options {
                self.taken.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

struct World {
    now: Time,
    nodes: Vec<Node>,
    known: Known,
    scripts: [Vec<Act>; 3],
    /// The messages under way to the reader.
    under_way: Vec<ClusterMessage>,
    troubles: usize,
}

enum Event {
    Act(usize),
    Come(usize),
    ComeTwice(usize),
    Lose(usize),
}

impl World {
    fn new(windows: Windows, scripts: &[&[Act]; 3]) -> Self {
        let mut config: Config = Schedule::generate(0, 4, 1).config;
        config.windows = [windows; TOPICS];
        config.options = ClusterOptions::default().batch_interval(Duration::ZERO);
        let node = |name: usize| {
            let incarnation = Incarnation { started: 1, random: (name as u64) << 32 };
            let replica = Replica { name: format!("n{name}").into(), incarnation };
            Node::start(Time::ZERO, replica, None, &config, name as u64)
        };
        let mut world = Self {
            now: Time::ZERO,
            nodes: (0..3).map(node).collect(),
            known: Known::default(),
            scripts: scripts.map(|script| script.iter().rev().copied().collect()),
            under_way: Vec::new(),
            troubles: 0,
        };
        world.rest(3);
        world
    }

    /// Lets some seconds pass, in which no message is lost.
    fn rest(&mut self, seconds: u64) {
        for _ in 0..4 * seconds {
            self.now += Duration::from_millis(250);
            (0..3).for_each(|node| self.tick(node));
            while !self.under_way.is_empty() {
                let message = self.under_way.remove(0);
                self.come(message);
            }
        }
    }

    fn tick(&mut self, node: usize) {
        self.nodes[node].tick(self.now);
        self.send(node);
    }

    /// Puts messages to the reader under way; other messages arrive at once.
    fn send(&mut self, from: usize) {
        let (messages, _) = self.nodes[from].take_effects();
        for (to, message) in messages {
            for other in (0..3).filter(|other| *other != from) {
                let name: Arc<str> = format!("n{other}").into();
                if to.as_ref().is_some_and(|to| *to != name) {
                    continue;
                }
                if other == READER {
                    self.under_way.push(message.clone());
                } else {
                    self.nodes[other].cluster.handle(self.now, message.clone());
                    self.send(other);
                }
            }
        }
    }

    fn come(&mut self, message: ClusterMessage) {
        self.nodes[READER].cluster.handle(self.now, message);
        self.send(READER);
        self.nodes[READER].check(&self.known);
    }

    fn options(&self) -> Vec<Event> {
        let mut options = Vec::new();
        options.extend((0..3).filter(|node| !self.scripts[*node].is_empty()).map(Event::Act));
        for index in 0..self.under_way.len().min(REORDERED) {
            options.push(Event::Come(index));
            if self.troubles < TROUBLES {
                options.extend([Event::ComeTwice(index), Event::Lose(index)]);
            }
        }
        options
    }

    fn run(mut self, choices: &mut Choices) {
        loop {
            let options = self.options();
            if options.is_empty() {
                break;
            }
            match options[choices.pick(options.len())] {
                Event::Act(node) => self.act(node),
                Event::Come(index) => {
                    let message = self.under_way.remove(index);
                    self.come(message);
                }
                Event::ComeTwice(index) => {
                    self.troubles += 1;
                    let message = self.under_way[index].clone();
                    self.come(message);
                }
                Event::Lose(index) => {
                    self.troubles += 1;
                    self.under_way.remove(index);
                }
            }
            // Long enough for a pull, if one is wanted.
            self.now += Duration::from_millis(12);
            self.tick(READER);
        }
        self.rest(7);
        for topic in 0..TOPICS {
            for node in 0..3 {
                self.nodes[node].flush(topic, &self.known);
            }
        }
        let held: usize = self.nodes.iter().map(|node| node.held().count()).sum();
        for node in &self.nodes {
            let listed: usize = node.view(0).values().map(Vec::len).sum();
            assert_eq!(listed, held, "as many are listed as there are");
            let view = node.view(0);
            let is_listed = |(_, key, reference)| view.get(key).is_some_and(|refs| refs.contains(&reference));
            assert!(self.nodes.iter().flat_map(Node::held).all(is_listed));
        }
    }

    fn act(&mut self, index: usize) {
        let Some(act) = self.scripts[index].pop() else { return };
        let text = format!(r#"{{"n":{}}}"#, self.known.len());
        let node = &mut self.nodes[index];
        match act {
            Act::Track => node.track(0, 0, &key(0), text, &mut self.known),
            Act::Update => node.update(0, 0, &key(0), text, &mut self.known),
            Act::Untrack => node.untrack(0, 0, &key(0), &mut self.known),
            Act::Depart => {
                node.linger(Some(Duration::from_secs(5)));
                node.end(0, &mut self.known);
            }
            Act::Flush => node.flush(0, &self.known),
        }
        self.tick(index);
    }
}

fn every(scripts: [&[Act]; 3]) {
    for windows in [Windows::Net, Windows::Each] {
        let mut choices = Choices::default();
        let mut runs = 0;
        loop {
            let world = World::new(windows, &scripts);
            world.run(&mut choices);
            runs += 1;
            if !choices.next() {
                break;
            }
        }
        assert!(runs > 100, "only {runs} runs");
        println!("{runs} runs");
    }
}

#[test]
fn in_every_order_a_reader_arrives_at_what_two_writers_have() {
    every([&[Act::Track, Act::Update, Act::Untrack], &[Act::Track], &[]]);
}

#[test]
fn in_every_order_a_presence_that_left_is_gone() {
    every([&[Act::Track, Act::Untrack], &[Act::Track], &[]]);
}

#[test]
fn in_every_order_a_presence_that_replaces_a_departing_one_is_seen_in_its_place() {
    every([&[Act::Track, Act::Depart], &[Act::Track], &[Act::Flush]]);
}
