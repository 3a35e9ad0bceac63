//! What a ticket says.

use serde_json::{Map, Value, json};

use crate::{
    secret::{NoRandomness, random_id},
    ticket::{LIFETIME_SECONDS_DEFAULT, TicketError},
};

/// The most bytes of `sub`, and of `jti`.
pub const SUBJECT_BYTES_MAX: usize = 128;
/// Of any other text.
const TEXT_BYTES_MAX: usize = 256;
const AUDIENCES_MAX: usize = 16;

/// What a ticket lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Play, and watch.
    Player,
    /// Watch.
    Spectator,
    /// Watch whatever there is, and have recordings.
    Operator,
}

impl Role {
    /// As it stands in tickets.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Player => "player",
            Self::Spectator => "spectator",
            Self::Operator => "operator",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, &'static str> {
        [Self::Player, Self::Spectator, Self::Operator]
            .into_iter()
            .find(|role| role.name() == word)
            .ok_or("choose player, spectator or operator")
    }
}

/// What a ticket says. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `aud`: the servers that it is for.
    pub audience: Vec<String>,
    /// `sub`: who its bearer is to the game's own accounts; opaque to the server.
    pub subject: String,
    /// `role`: what it lets its bearer do.
    pub role: Role,
    /// `jti`: what it is known by. The server takes each one once.
    pub id: String,
    /// `iat`: when it was issued.
    pub issued_at: u64,
    /// `nbf`: from when on it is good.
    pub not_before: Option<u64>,
    /// `exp`: from when on it is good for nothing.
    pub expires_at: u64,
    /// `session`: the session's name. A player's and a spectator's has this, or the game.
    pub session: Option<String>,
    /// `game`: any session of this game.
    pub game: Option<String>,
    /// `name`: the name that other players see; none: the player chooses.
    pub name: Option<String>,
    /// `rsv`: the reservation that it stands for.
    pub reservation: Option<String>,
}

impl Claims {
    /// A ticket for nothing in particular yet, with an id of its own, good for a minute from `now` on.
    ///
    /// # Errors
    /// Where the operating system has no randomness.
    pub fn new(audience: &str, subject: &str, role: Role, now: u64) -> Result<Self, NoRandomness> {
        Ok(Self {
            audience: vec![audience.to_owned()],
            subject: subject.to_owned(),
            role,
            id: random_id()?,
            issued_at: now,
            not_before: None,
            expires_at: now.saturating_add(LIFETIME_SECONDS_DEFAULT),
            session: None,
            game: None,
            name: None,
            reservation: None,
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut claims = json!({
            "sub": self.subject,
            "role": self.role.name(),
            "jti": self.id,
            "iat": self.issued_at,
            "exp": self.expires_at,
        });
        claims["aud"] = match self.audience.as_slice() {
            [one] => json!(one),
            several => json!(several),
        };
        if let Some(time) = self.not_before {
            claims["nbf"] = json!(time);
        }
        let texts =
            [("session", &self.session), ("game", &self.game), ("name", &self.name), ("rsv", &self.reservation)];
        for (claim, text) in texts {
            if let Some(text) = text {
                claims[claim] = json!(text);
            }
        }
        claims
    }

    pub(crate) fn from_json(claims: &Map<String, Value>) -> Result<Self, TicketError> {
        let read = Reader(claims);
        let role = read.required("role", 16)?;
        let claims = Self {
            audience: read.audience()?,
            subject: read.required("sub", SUBJECT_BYTES_MAX)?,
            role: role.parse().map_err(|_| TicketError::Claim { claim: "role", problem: NO_ROLE })?,
            id: read.required("jti", SUBJECT_BYTES_MAX)?,
            issued_at: read.time("iat")?.ok_or(MISSING("iat"))?,
            not_before: read.time("nbf")?,
            expires_at: read.time("exp")?.ok_or(MISSING("exp"))?,
            session: read.text("session", TEXT_BYTES_MAX)?,
            game: read.text("game", TEXT_BYTES_MAX)?,
            name: read.text("name", TEXT_BYTES_MAX)?,
            reservation: read.text("rsv", TEXT_BYTES_MAX)?,
        };
        if claims.role != Role::Operator && claims.session.is_none() && claims.game.is_none() {
            let problem =
                "is missing, and so is game: a player's or a spectator's ticket is for a session, or for any of a game";
            return Err(TicketError::Claim { claim: "session", problem });
        }
        Ok(claims)
    }
}

const NO_ROLE: &str = "is none: choose player, spectator or operator";

const MISSING: fn(&'static str) -> TicketError = |claim| TicketError::Claim { claim, problem: "is missing" };

/// Says what is wrong with a claim without saying what it holds.
struct Reader<'a>(&'a Map<String, Value>);

impl Reader<'_> {
    fn text(&self, claim: &'static str, bytes_max: usize) -> Result<Option<String>, TicketError> {
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() && text.len() <= bytes_max => Ok(Some(text.clone())),
            Some(Value::String(_)) => Err(TicketError::Claim { claim, problem: "is empty, or too long" }),
            Some(_) => Err(TicketError::Claim { claim, problem: "is no text" }),
        }
    }

    fn required(&self, claim: &'static str, bytes_max: usize) -> Result<String, TicketError> {
        self.text(claim, bytes_max)?.ok_or(MISSING(claim))
    }

    fn time(&self, claim: &'static str) -> Result<Option<u64>, TicketError> {
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(None),
            Some(time) => match time.as_u64() {
                Some(time) => Ok(Some(time)),
                None => Err(TicketError::Claim { claim, problem: "is no whole number of seconds since 1970" }),
            },
        }
    }

    fn audience(&self) -> Result<Vec<String>, TicketError> {
        let problem = "is neither a text nor a list of up to 16";
        match self.0.get("aud") {
            None | Some(Value::Null) => Err(MISSING("aud")),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(Value::Array(several)) if several.len() <= AUDIENCES_MAX => several
                .iter()
                .map(|one| one.as_str().map(str::to_owned).ok_or(TicketError::Claim { claim: "aud", problem }))
                .collect(),
            Some(_) => Err(TicketError::Claim { claim: "aud", problem }),
        }
    }
}
