//! `keys`: makes keys, and tickets by them.

use std::{path::PathBuf, time::Duration};

use tickwire_ticket::{Algorithm, Claims, KeyRing, MintError, NoRandomness, Role, new_key, random_id};

use super::{CliError, output};
use crate::{
    identity::{self, ApiKeyName, IdentityError, new_api_key},
    session::{GAME_NAME_BYTES_MAX, SessionName, is_game_name},
};

/// Of 6 bits each.
const KID_RANDOM_CHARS: usize = 8;

#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// Print a new API key, and its line for the file of --api-keys
    NewApiKey {
        /// Whose key it is, 1 to 64 letters, digits, '-', '_' and '.'
        #[arg(value_name = "NAME")]
        name: ApiKeyName,
    },
    /// Print a new key of tickets, as a JSON Web Key Set for the file of --ticket-keys; it is secret
    NewTicketKey {
        /// What tickets call it [default: key-, the time in seconds, and random characters]
        #[arg(long, value_name = "NAME")]
        kid: Option<String>,
        /// How it signs: EdDSA, whose public half can be given to servers; or HS256, one secret for all
        #[arg(long, value_name = "ALGORITHM", default_value = "EdDSA")]
        algorithm: AlgorithmOption,
    },
    /// Print the public halves of a file of ticket keys, for servers that issue no tickets
    PublicTicketKeys {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a ticket, for tests and small back ends
    Ticket(TicketArgs),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum AlgorithmOption {
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "HS256")]
    Hs256,
}

#[derive(Debug, clap::Args)]
pub(super) struct TicketArgs {
    /// The file of keys: the first that has a private half signs
    #[arg(long, value_name = "FILE")]
    ticket_keys: PathBuf,
    /// The server's --ticket-audience
    #[arg(long, value_name = "NAME", default_value = "tickwire")]
    audience: String,
    /// What it lets its bearer do: player, spectator, operator
    #[arg(long, value_name = "ROLE", default_value = "player", value_parser = role)]
    role: Role,
    /// Who its bearer is to the game's own accounts
    #[arg(long, value_name = "ID")]
    subject: String,
    /// The session that it is for, such as arena-1 or sessions/arena-1
    #[arg(long, value_name = "NAME", value_parser = SessionName::typed)]
    session: Option<SessionName>,
    /// The game of whose sessions it is for any
    #[arg(long, value_name = "NAME", value_parser = game_name)]
    game: Option<String>,
    /// The name that other players see [default: the player chooses]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// For how long it is good, 1s to 5m
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = lifetime)]
    valid: Duration,
}

/// A key or a ticket that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("ticket: {0}")]
    Ticket(#[from] MintError),
    #[error("kid: {0:?} is no name: choose 1 to 64 visible ASCII characters")]
    Kid(String),
    #[error("{}: there is no public half: an HS256 key is one secret for all", .0.display())]
    NothingPublic(PathBuf),
}

fn role(word: &str) -> Result<Role, String> {
    word.parse().map_err(|error: &str| error.to_owned())
}

fn game_name(word: &str) -> Result<String, String> {
    if is_game_name(word) {
        return Ok(word.to_owned());
    }
    Err(format!("no game has this name: write 1 to {GAME_NAME_BYTES_MAX} lower-case letters, digits, '_' and '-'"))
}

fn lifetime(word: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(word).map_err(|error| format!("{error}; write it as 60s or 5m"))?;
    match time.as_secs() {
        1..=tickwire_ticket::LIFETIME_SECONDS_MAX => Ok(time),
        _ => Err("choose 1s to 5m".to_owned()),
    }
}

pub(super) fn run(command: &KeysCommand) -> Result<(), CliError> {
    match command {
        KeysCommand::NewApiKey { name } => {
            let (key, line) = new_api_key(name).map_err(KeysError::from)?;
            output::line(key.reveal())?;
            output::note("This is the only time that the key is shown. Its line for the file of --api-keys:");
            Ok(output::line(line)?)
        }
        KeysCommand::NewTicketKey { kid, algorithm } => {
            let kid = kid.clone().map_or_else(new_kid, Ok).map_err(KeysError::from)?;
            let algorithm = match algorithm {
                AlgorithmOption::EdDsa => Algorithm::EdDsa,
                AlgorithmOption::Hs256 => Algorithm::Hs256,
            };
            let set = new_key(&kid, algorithm).map_err(KeysError::from)?;
            if KeyRing::from_jwks(&set).is_err() {
                return Err(KeysError::Kid(kid).into());
            }
            Ok(output::line(set.trim_end())?)
        }
        KeysCommand::PublicTicketKeys { file } => {
            let keys = identity::read_ticket_keys(file).map_err(KeysError::from)?;
            let public = keys.public_jwks().ok_or_else(|| KeysError::NothingPublic(file.clone()))?;
            Ok(output::line(public.trim_end())?)
        }
        KeysCommand::Ticket(arguments) => Ok(output::line(ticket(arguments)?)?),
    }
}

/// A name that no other key of a set has: the older of two sorts before the newer.
fn new_kid() -> Result<String, NoRandomness> {
    let random = random_id()?;
    let (random, _) = random.split_at_checked(KID_RANDOM_CHARS).expect("an id is longer, and ASCII");
    Ok(format!("key-{}-{random}", identity::unix_now()))
}

fn ticket(arguments: &TicketArgs) -> Result<String, KeysError> {
    let keys = identity::read_ticket_keys(&arguments.ticket_keys)?;
    let now = identity::unix_now();
    let claims = Claims::new(&arguments.audience, &arguments.subject, arguments.role, now)?;
    let claims = Claims {
        expires_at: now + arguments.valid.as_secs(),
        session: arguments.session.as_ref().map(SessionName::to_string),
        game: arguments.game.clone(),
        name: arguments.name.clone(),
        ..claims
    };
    Ok(keys.sign(&claims)?.reveal().to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_that_are_made_in_one_moment_have_names_of_their_own() {
        let kids: BTreeSet<String> = (0..100).map(|_| new_kid().expect("randomness")).collect();
        assert_eq!(kids.len(), 100);
        for kid in kids {
            let set = new_key(&kid, Algorithm::EdDsa).expect("randomness");
            assert!(KeyRing::from_jwks(&set).is_ok(), "{kid} is no name");
        }
    }
}
