//! Who may do what: tokens, and the roles that they stand for.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use http::{HeaderMap, header::AUTHORIZATION};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use tonic::Code;

use super::AdminError;
use crate::{reload::Staged, status::Refusal};

/// Bytes of a token that the server makes.
const TOKEN_BYTES: usize = 32;
/// The shortest token that somebody may choose: 16 random bytes in base64.
const TOKEN_CHARS_MIN: usize = 22;
const TOKEN_CHARS_MAX: usize = 1024;
const TOKENS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;
/// Failed attempts in a row of which each is told of; then one per [`FAILURE_INTERVAL`].
const FAILURES_TOLD_MAX: u32 = 10;
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);
const SCHEME: &str = "bearer ";

/// What somebody may do: each role may do what those before it may, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// Reads.
    Observer = 0,
    /// Also kicks, bans, mutes and broadcasts.
    Moderator = 1,
    /// All.
    Operator = 2,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observer => "an observer",
            Self::Moderator => "a moderator",
            Self::Operator => "an operator",
        })
    }
}

/// The tokens that are good.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Where they come from; none: the server has made the only one.
    path: Option<PathBuf>,
    /// They may be replaced while the server runs.
    known: ArcSwap<Vec<Known>>,
    failures: Failures,
    denials: Rate,
}

/// A token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    name: String,
    role: Role,
    hash: TokenHash,
}

/// A token's hash: a comparison says nothing of how much of a wrong one was right.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TokenHash([u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The token's.
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) from: Option<SocketAddr>,
    /// None: nobody with a token.
    token: Option<TokenHash>,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Whether a token came at all.
    pub(super) has_token: bool,
    /// Whether the tokens that are good stand in a file of the operator's.
    pub(super) is_file: bool,
    /// It is one of so many that nobody is told of it any more.
    pub(super) is_flood: bool,
}

/// So many at once, and one per [`FAILURE_INTERVAL`].
#[derive(Debug)]
struct Rate {
    /// Room for more, and as of when.
    room: Mutex<(u32, Instant)>,
}

/// How often somebody came with a wrong token. Whoever has a right one is let in all the same: where tokens cannot be guessed,
/// shutting addresses out would only help whoever wants to shut out the operator. What is limited is what attempts can cost:
/// lines of logs, and files.
#[derive(Debug)]
struct Failures {
    count: AtomicU64,
    told: Rate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    #[serde(default)]
    token: Vec<TokenEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    role: Role,
    token: String,
}

impl Tokens {
    /// One token for an operator, made now; and the token itself.
    pub(super) fn generate() -> Result<(Self, String), AdminError> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(AdminError::Randomness)?;
        let mut token = String::with_capacity(2 * TOKEN_BYTES);
        bytes.iter().for_each(|byte| write!(token, "{byte:02x}").expect("a string takes all that there is room for"));
        let known = Known { name: "operator".into(), role: Role::Operator, hash: hash(&token) };
        Ok((Self::new(None, vec![known]), token))
    }

    /// Those of a file.
    pub(super) fn read(path: &Path) -> Result<Self, AdminError> {
        Ok(Self::new(Some(path.to_owned()), read(path)?))
    }

    fn new(path: Option<PathBuf>, known: Vec<Known>) -> Self {
        Self { path, known: ArcSwap::from_pointee(known), failures: Failures::new(), denials: Rate::new() }
    }

    /// Reads the file again, where there is one. Nothing changes by it.
    pub(super) fn prepare(self: &Arc<Self>) -> Result<Staged, AdminError> {
        let Some(path) = &self.path else { return Ok(Staged::new(Vec::new(), || {})) };
        let (known, tokens) = (read(path)?, Arc::clone(self));
        let is_new = known != **self.known.load();
        let changed = is_new.then(|| format!("{} has {} other tokens of admins now", path.display(), known.len()));
        Ok(Staged::new(changed.into_iter().collect(), move || tokens.known.store(Arc::new(known))))
    }

    fn parse(text: &str) -> Result<Vec<Known>, String> {
        const FORM: &str = "write for each: [[token]], name = \"…\", role = \"observer\", \"moderator\" or \"operator\", \
                            token = \"…\"";
        let TokensFile { token: entries } = toml::from_str(text).map_err(|error| {
            // Not the library's words: they may hold a token.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or_else(String::new, |before| format!("line {}: ", 1 + before.matches('\n').count()));
            format!("{line}this does not belong into a file of tokens: {FORM}")
        })?;
        if entries.is_empty() || entries.len() > TOKENS_MAX {
            return Err(format!("it has {} tokens: give it 1 to {TOKENS_MAX}; {FORM}", entries.len()));
        }
        let mut names = BTreeSet::new();
        let mut known: Vec<Known> = Vec::with_capacity(entries.len());
        for TokenEntry { name, role, token } in entries {
            let is_name = (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
            if !is_name || !names.insert(name.clone()) {
                return Err(format!(
                    "the name {name:?} does not do: each token needs another, of 1 to {NAME_CHARS_MAX} characters"
                ));
            }
            let is_token = token.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_token || !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) {
                return Err(format!(
                    "the token of {name:?} can be guessed, or not sent: make it {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} \
                     random letters and digits, such as `openssl rand -hex 32` gives"
                ));
            }
            let hash = hash(&token);
            if let Some(other) = known.iter().find(|other| other.hash == hash) {
                return Err(format!("{:?} and {name:?} have the same token: give each their own", other.name));
            }
            known.push(Known { name, role, hash });
        }
        Ok(known)
    }

    /// Who asks, by `authorization: Bearer`.
    pub(super) fn identify(&self, headers: &HeaderMap, from: Option<SocketAddr>) -> Result<Caller, Unknown> {
        let token = bearer(headers);
        match token.and_then(|token| self.find(token)) {
            Some(Known { name, role, hash }) => Ok(Caller { name, role, from, token: Some(hash) }),
            None => Err(Unknown {
                has_token: token.is_some(),
                is_file: self.path.is_some(),
                is_flood: self.failures.note(Instant::now()),
            }),
        }
    }

    /// Failed attempts so far.
    pub(super) fn failures(&self) -> u64 {
        self.failures.count.load(Ordering::Relaxed)
    }

    /// Whether the token by which somebody has come is as good as it was then.
    pub(super) fn is_good(&self, caller: &Caller) -> bool {
        self.known.load().iter().any(|known| Some(known.hash) == caller.token && known.role == caller.role)
    }

    /// Whether one more attempt at what a role may not is to be told of: whoever has any token could fill the audit log else.
    pub(super) fn tells_of_denial(&self) -> bool {
        self.denials.allows(Instant::now())
    }

    fn find(&self, token: &str) -> Option<Known> {
        let (TokenHash(hash), all) = (hash(token), self.known.load());
        // All are compared, and wholly, so that time says nothing.
        let found = all.iter().zip(1_u64..).fold(0, |found, (known, number)| {
            let is_it: Choice = known.hash.0.ct_eq(&hash);
            u64::conditional_select(&found, &number, is_it)
        });
        all.get(usize::try_from(found).ok()?.checked_sub(1)?).cloned()
    }
}

impl Failures {
    fn new() -> Self {
        Self { count: AtomicU64::new(0), told: Rate::new() }
    }

    /// Counts one: whether it is one too many to tell of.
    fn note(&self, now: Instant) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        !self.told.allows(now)
    }
}

impl Rate {
    fn new() -> Self {
        Self { room: Mutex::new((FAILURES_TOLD_MAX, Instant::now())) }
    }

    /// Whether there is room for one more.
    fn allows(&self, now: Instant) -> bool {
        let mut room = self.room.lock().expect("no holder of this lock panics");
        let (left, since) = &mut *room;
        let intervals = now.saturating_duration_since(*since).as_millis() / FAILURE_INTERVAL.as_millis();
        let intervals = u32::try_from(intervals).unwrap_or(u32::MAX);
        if intervals > 0 {
            *left = left.saturating_add(intervals).min(FAILURES_TOLD_MAX);
            *since = now;
        }
        match left.checked_sub(1) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

impl Caller {
    /// Somebody without a token that is good.
    pub(super) fn nobody(from: Option<SocketAddr>) -> Self {
        Self { name: String::new(), role: Role::Observer, from, token: None }
    }

    /// Whether somebody may do what takes `role`.
    pub(super) fn needs(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!("this takes {role}, and the token {:?} is that of {}", self.name, self.role);
        Err(Refusal::new(Code::PermissionDenied, "ROLE", message))
    }
}

impl From<Unknown> for Refusal {
    fn from(Unknown { has_token, is_file, is_flood }: Unknown) -> Self {
        if is_flood {
            let message = "too many attempts with a wrong token, or none";
            return Self::new(Code::ResourceExhausted, "TOO_MANY_ATTEMPTS", message).retry_after(FAILURE_INTERVAL);
        }
        let message = match (has_token, is_file) {
            (false, _) => "send the token of an admin: authorization: Bearer TOKEN",
            (true, false) => {
                "the token is not one of this server's: that of a running server is in admin.token in its data directory"
            }
            (true, true) => "the token is not one of this server's: those are in the file of its --admin-tokens",
        };
        Self::new(Code::Unauthenticated, "UNKNOWN_ADMIN_TOKEN", message)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    (scheme.eq_ignore_ascii_case(SCHEME) && token.len() <= TOKEN_CHARS_MAX).then_some(token)
}

fn read(path: &Path) -> Result<Vec<Known>, AdminError> {
    let text = std::fs::read_to_string(path).map_err(|source| AdminError::File { path: path.to_owned(), source })?;
    Tokens::parse(&text).map_err(|problem| AdminError::Tokens { path: path.to_owned(), problem })
}

fn hash(token: &str) -> TokenHash {
    TokenHash(Sha256::digest(token).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [[token]]
        name = "grafana"
        role = "observer"
        token = "0123456789abcdef0123456789abcdef"
        [[token]]
        name = "ada"
        role = "operator"
        token = "fedcba9876543210fedcba9876543210"
    "#;

    fn tokens() -> Tokens {
        Tokens::new(None, Tokens::parse(FILE).expect("valid"))
    }

    fn headers(authorization: Option<&str>) -> HeaderMap {
        authorization.map(|value| (AUTHORIZATION, value.parse().expect("ASCII"))).into_iter().collect()
    }

    #[test]
    fn a_token_says_who_asks_and_what_they_may() {
        let tokens = tokens();
        let caller = tokens.identify(&headers(Some("Bearer fedcba9876543210fedcba9876543210")), None).expect("known");
        assert_eq!((caller.name.as_str(), caller.role), ("ada", Role::Operator));
        let caller = tokens.identify(&headers(Some("bearer 0123456789abcdef0123456789abcdef")), None).expect("known");
        assert_eq!(caller.needs(Role::Observer).map_err(|refusal| refusal.code), Ok(()));
        let refusal = caller.needs(Role::Moderator).expect_err("an observer only reads");
        assert_eq!((refusal.code, refusal.reason), (Code::PermissionDenied, "ROLE"));
        assert_eq!(tokens.failures(), 0);
    }

    #[test]
    fn who_has_no_token_or_a_wrong_one_is_counted() {
        let tokens = tokens();
        let unknown = |has_token| Err(Unknown { has_token, is_file: false, is_flood: false });
        assert_eq!(tokens.identify(&headers(None), None), unknown(false));
        assert_eq!(tokens.identify(&headers(Some("Basic YWRhOg==")), None), unknown(false));
        assert_eq!(tokens.identify(&headers(Some("Bearer ")), None), unknown(true));
        assert_eq!(tokens.identify(&headers(Some("Bearer fedcba9876543210fedcba987654321")), None), unknown(true));
        assert_eq!(tokens.failures(), 4);
    }

    #[test]
    fn who_comes_with_a_wrong_token_is_told_where_the_right_ones_are() {
        let of_file = Tokens { path: Some("tokens.toml".into()), ..tokens() };
        for (tokens, place) in [(tokens(), "admin.token"), (of_file, "--admin-tokens")] {
            let unknown = tokens.identify(&headers(Some("Bearer fedcba9876543210fedcba987654321")), None);
            let refusal = Refusal::from(unknown.expect_err("it is none"));
            assert!(refusal.message.contains(place), "{}", refusal.message);
        }
    }

    #[test]
    fn of_a_flood_of_attempts_few_are_told_of_and_a_right_token_still_is_good() {
        let tokens = tokens();
        let told = (0..100).filter(|_| !tokens.identify(&headers(None), None).expect_err("unknown").is_flood).count();
        assert!((FAILURES_TOLD_MAX as usize..100).contains(&told), "{told}");
        tokens.identify(&headers(Some("Bearer fedcba9876543210fedcba9876543210")), None).expect("known");
        // They leave who may less than they try their own.
        let told = (0..100).filter(|_| tokens.tells_of_denial()).count();
        assert!((FAILURES_TOLD_MAX as usize..100).contains(&told), "{told}");
        let failures = Failures::new();
        let start = Instant::now();
        (0..FAILURES_TOLD_MAX).for_each(|_| assert!(!failures.note(start)));
        assert!(failures.note(start));
        assert!(!failures.note(start + FAILURE_INTERVAL));
        assert!(failures.note(start + FAILURE_INTERVAL));
    }

    #[test]
    fn tokens_are_replaced_while_the_server_runs_and_those_of_before_are_not_good_any_more() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens.toml");
        std::fs::write(&path, FILE).expect("there is room");
        let tokens = Arc::new(Tokens::read(&path).expect("valid"));
        let identify = |token: &str| tokens.identify(&headers(Some(&format!("Bearer {token}"))), None);
        let [old, new] = ["fedcba9876543210fedcba9876543210", "another-one-0123456789"];
        let ada = identify(old).expect("it is hers");
        let grafana = identify("0123456789abcdef0123456789abcdef").expect("it is its");
        assert!(tokens.prepare().expect("valid").apply().changed.is_empty());

        std::fs::write(&path, "no tokens").expect("there is room");
        assert!(matches!(tokens.prepare(), Err(AdminError::Tokens { .. })));
        assert!(tokens.is_good(&ada), "nothing has changed");

        std::fs::write(&path, FILE.replace(old, new)).expect("there is room");
        let staged = tokens.prepare().expect("valid");
        assert!(tokens.is_good(&ada), "nothing has changed yet");
        assert_eq!(staged.apply().changed.len(), 1);
        assert!(identify(old).is_err() && !tokens.is_good(&ada) && tokens.is_good(&grafana));
        assert_eq!(identify(new).expect("it is hers now").name, "ada");

        std::fs::write(&path, FILE.replace("observer", "operator")).expect("there is room");
        tokens.prepare().expect("valid").apply();
        assert!(!tokens.is_good(&grafana), "it has another role now");
    }

    #[test]
    fn each_made_token_is_another_and_long() {
        let [(tokens, first), (_, second)] = [(); 2].map(|()| Tokens::generate().expect("random bytes"));
        assert_eq!((first.len(), first == second), (64, false));
        tokens.identify(&headers(Some(&format!("Bearer {first}"))), None).expect("it is good");
        tokens.identify(&headers(Some(&format!("Bearer {second}"))), None).expect_err("it is another server's");
    }

    #[test]
    fn a_wrong_file_is_refused_without_its_tokens_in_the_words() {
        let refused = |text: &str| Tokens::parse(text).expect_err("it is wrong");
        assert!(refused("").contains("0 tokens") && refused("").contains("[[token]]"));
        assert!(refused("token = []").contains("0 tokens"));
        let said = refused(&FILE.replace("\"operator\"", "\"king\""));
        assert!(said.starts_with("line 8: ") && said.contains("role") && !said.contains("king"), "{said}");
        let said = refused(&FILE.replace("token = \"fedcba", "token = fedcba"));
        assert!(said.starts_with("line 9: ") && !said.contains("fedcba"), "{said}");
        let said = refused(&format!("{FILE}\ncolour = \"hunter2\"\n"));
        assert!(said.starts_with("line 11: ") && !said.contains("hunter2"), "{said}");
        assert!(refused(&FILE.replace("\"ada\"", "\"grafana\"")).contains("\"grafana\""));
        let said = refused(&FILE.replace("fedcba9876543210fedcba9876543210", "hunter2"));
        assert!(said.contains("\"ada\" can be guessed") && !said.contains("hunter2"), "{said}");
        let same = FILE.replace("fedcba9876543210fedcba9876543210", "0123456789abcdef0123456789abcdef");
        assert!(refused(&same).contains("the same token"));
    }
}
