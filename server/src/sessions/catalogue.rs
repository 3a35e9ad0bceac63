//! The games that sessions can be of.

use std::sync::Arc;

use tickwire_proto::v1 as pb;
use tickwire_shared::{Game, Schema, Settings, TickRate, schema_of};
use tonic::Code;

use crate::{config::ServerConfig, status::Refusal};

/// The games of a server, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Catalogue {
    games: Vec<Arc<dyn Game>>,
    described: Vec<pb::Game>,
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.described.iter().map(|game| &game.name)).finish()
    }
}

impl Catalogue {
    /// Of these games; those that break a rule of schemas have no session, and are left out.
    pub(super) fn new(games: Vec<Arc<dyn Game>>, config: &ServerConfig) -> Self {
        let described = |game: Arc<dyn Game>| {
            let schema = schema_of(&*game).ok()?;
            Some((describe(&schema, config), game))
        };
        let (described, games) = games.into_iter().filter_map(described).unzip();
        Self { games, described }
    }

    /// What is told of them.
    pub(super) fn described(&self) -> Vec<pb::Game> {
        self.described.clone()
    }

    /// A game by its name; the first, for those who name none.
    pub(super) fn find(&self, name: &str, field: &'static str) -> Result<&Arc<dyn Game>, Refusal> {
        let mut games = self.games.iter();
        let found = if name.is_empty() { games.next() } else { games.find(|game| game.name() == name) };
        found.ok_or_else(|| {
            let known: Vec<&str> = self.described.iter().map(|game| game.name.as_str()).collect();
            let name: String = name.chars().take(80).collect();
            let message = format!("this server hosts no game {name:?}; it hosts {}", known.join(", "));
            Refusal::new(Code::NotFound, "UNKNOWN_GAME", message).field(field)
        })
    }
}

fn describe(schema: &Schema, config: &ServerConfig) -> pb::Game {
    let mut settings = Settings::defaults(schema);
    for (name, value) in &config.settings {
        // Where the game does not take it, no session starts, and the server says so.
        let _ = settings.set(name, *value);
    }
    let setting = |(setting, value): (&tickwire_shared::Setting, &i32)| pb::GameSetting {
        name: setting.name.clone(),
        unit: setting.quantity.unit.clone(),
        min: setting.quantity.dequantize(setting.quantity.min),
        max: setting.quantity.dequantize(setting.quantity.max),
        step: setting.quantity.quantum,
        default: setting.quantity.dequantize(*value),
    };
    pb::Game {
        name: schema.game.clone(),
        version: schema.version,
        schema_hash: schema.hash().0.to_vec(),
        settings: schema.settings.iter().zip(settings.values()).map(setting).collect(),
        default_tick_rate: config.tick_rate.hz(),
        default_max_players: config.max_players.get(),
        min_tick_rate: TickRate::LOWEST.hz(),
        max_tick_rate: TickRate::HIGHEST.hz(),
        max_players: config.max_players.get(),
    }
}
