//! A whole game in a few lines, on the public API alone: beads that players push along a wire.

use bevy_ecs::prelude::*;
use tickwire_shared::{
    Audience, CellKey, Clock, Definition, EventField, Field, Game, GameEvent, InputField, InputId, Inputs, NetId,
    NetIds, Outbox, Owner, Place, Quantity, ScoreId, Scores, Seats, Settings, Systems,
};

pub(crate) struct Beads;

const PUSH: InputId = InputId(0);
const RING: InputId = InputId(1);
const RINGS: ScoreId = ScoreId(0);

#[derive(Component)]
struct Bead;

#[derive(Component)]
struct Along(f32);

struct Rang(f32);

impl GameEvent for Rang {
    const NAME: &'static str = "rang";

    fn fields() -> Vec<EventField> {
        vec![EventField::new("at", along())]
    }

    fn values(&self) -> Vec<f64> {
        vec![self.0.into()]
    }
}

fn along() -> Quantity {
    Quantity::new("m", 1.0 / 64.0, -100.0..=100.0)
}

fn cell(metres: f32) -> CellKey {
    CellKey((metres / 10.0).floor() as i64 as u64)
}

impl Game for Beads {
    fn name(&self) -> &'static str {
        "beads"
    }

    fn define(&self, game: &mut Definition) {
        game.kind::<Bead>("bead")
            .field(Field::linear("along", along()).owner_shift(4), |along: &Along| along.0)
            .place(|along: &Along, _| cell(along.0));
        game.input(InputField::hold("push", Quantity::new("", 1.0 / 127.0, -1.0..=1.0)));
        game.input(InputField::edge("ring", Quantity::count(0..=1)));
        game.event::<Rang>();
        game.setting("speed", Quantity::new("m/s", 0.5, 0.5..=20.0), 5.0);
        game.score("rings");
    }

    fn systems(&self, systems: &mut Systems) {
        systems.add(come_and_go).add(push).add(ring);
    }

    fn cells_in_view(&self, from: CellKey, radius: f64, cells: &mut Vec<CellKey>) {
        let reach = (radius / 10.0).ceil() as i64;
        cells.extend((-reach..=reach).map(|distance| CellKey(from.0.wrapping_add(distance as u64))));
        cells.sort_unstable_by_key(|cell| (cell.0.wrapping_sub(from.0) as i64).abs());
    }
}

fn come_and_go(mut commands: Commands, seats: Res<Seats>, mut ids: ResMut<NetIds>, beads: Query<(Entity, &Owner)>) {
    for &player in &seats.joined {
        commands.spawn((ids.allocate(), Owner(player), Bead, Along(player.0 as f32 % 20.0)));
    }
    for (bead, _) in beads.iter().filter(|(_, owner)| seats.left.contains(&owner.0)) {
        commands.entity(bead).despawn();
    }
}

fn push(clock: Res<Clock>, settings: Res<Settings>, inputs: Res<Inputs>, mut beads: Query<(&Owner, &mut Along)>) {
    for (owner, mut along) in &mut beads {
        let metres = inputs.quantity(owner.0, PUSH) * settings.get("speed") as f32 * clock.dt();
        along.0 = self::along().snap(f64::from(along.0 + metres).clamp(-100.0, 100.0), 4) as f32;
    }
}

fn ring(
    inputs: Res<Inputs>,
    mut out: ResMut<Outbox>,
    mut scores: ResMut<Scores>,
    beads: Query<(&NetId, &Owner, &Along)>,
) {
    let mut ringing: Vec<_> = beads.iter().filter(|(_, owner, _)| inputs.pressed(owner.0, RING)).collect();
    ringing.sort_unstable_by_key(|(id, ..)| **id);
    for (_, owner, along) in ringing {
        out.emit(Audience::At(Place::Cell(cell(along.0))), &Rang(along.0));
        scores.add(owner.0, RINGS, 1);
    }
}
