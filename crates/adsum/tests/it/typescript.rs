//! Types for pages in TypeScript.

use adsum::typescript::{Contract, TS};

mod lobby {
    use super::TS;

    #[derive(TS)]
    pub(super) struct Place {
        #[allow(dead_code, reason = "TypeScript reads it")]
        table: u32,
    }

    #[derive(TS)]
    pub(super) struct Meta {
        #[allow(dead_code, reason = "TypeScript reads it")]
        place: Place,
    }

    #[derive(TS)]
    pub(super) struct Said {
        #[allow(dead_code, reason = "TypeScript reads it")]
        text: String,
    }
}

mod game {
    use super::TS;

    #[derive(TS)]
    pub(super) struct Place {
        #[allow(dead_code, reason = "TypeScript reads it")]
        square: String,
    }

    #[derive(TS)]
    pub(super) struct Meta {
        #[allow(dead_code, reason = "TypeScript reads it")]
        place: Place,
    }

    #[derive(TS)]
    pub(super) struct Said {
        #[allow(dead_code, reason = "TypeScript reads it")]
        text: String,
    }
}

#[derive(TS)]
struct Page<T> {
    #[allow(dead_code, reason = "TypeScript reads it")]
    items: Vec<T>,
}

#[derive(TS)]
struct Tree {
    #[allow(dead_code, reason = "TypeScript reads it")]
    children: Vec<Tree>,
}

#[test]
#[should_panic(
    expected = "`it::typescript::lobby::Place` and `it::typescript::game::Place` would both be `Place`"
)]
fn two_types_of_one_name_in_a_channel_are_refused() {
    // The declarations of `Meta` are alike, but refer to different places.
    let _ = Contract::new()
        .channel("room:*", |room| room.presence::<lobby::Meta, ()>().push::<game::Meta>("moved"));
}

#[test]
#[should_panic(
    expected = "`it::typescript::game::Place` and `it::typescript::lobby::Place` would both be `Place`"
)]
fn two_types_of_one_name_in_two_channels_are_refused() {
    let _ = Contract::new()
        .channel("game:*", |game| game.push::<game::Place>("moved"))
        .channel("lobby", |lobby| lobby.presence::<lobby::Meta, ()>().push::<lobby::Said>("said"));
}

#[test]
fn two_types_of_one_name_and_one_shape_are_one_type() {
    let types = Contract::new()
        .channel("lobby", |lobby| lobby.push::<lobby::Said>("said"))
        .channel("game:*", |game| game.push::<game::Said>("said"))
        .types();
    assert_eq!(types.matches("export type Said = { text: string, };").count(), 1, "{types}");
}

#[test]
fn the_arguments_of_each_use_of_a_generic_type_are_declared() {
    let types = Contract::new()
        .channel("lobby", |lobby| {
            lobby.push::<Page<lobby::Said>>("said").push::<Page<lobby::Place>>("places").push::<Tree>("tree")
        })
        .types();
    for declared in
        ["export type Page<T> = ", "export type Said = ", "export type Place = ", "export type Tree = "]
    {
        assert_eq!(types.matches(declared).count(), 1, "{declared}: {types}");
    }
}
