use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Algorithm, Role, new_key};

const NOW: u64 = 1_800_000_000;

fn ring(kid: &str, algorithm: Algorithm) -> KeyRing {
    KeyRing::from_jwks(&new_key(kid, algorithm).expect("randomness")).expect("valid")
}

fn claims() -> Claims {
    let claims = Claims::new("tickwire", "player-81", Role::Player, NOW).expect("randomness");
    Claims { session: Some("sessions/arena-1".into()), ..claims }
}

fn verify(ring: &KeyRing, claims: &Claims) -> Result<Claims, TicketError> {
    ring.verify(ring.sign(claims).expect("it can be issued").reveal(), "tickwire", NOW)
}

/// A token with a header and claims of any sort, signed by a key of the ring's.
fn token(header: &Value, claims: &Value, sign: impl Fn(&str) -> String) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(&message);
    format!("{message}.{signature}")
}

fn hmac(secret: &[u8]) -> impl Fn(&str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    move |message| URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()))
}

const SECRET: [u8; 32] = [7; 32];

fn hmac_ring() -> KeyRing {
    let key = json!({ "kid": "h", "kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(SECRET) });
    KeyRing::from_jwks(&json!({ "keys": [key] }).to_string()).expect("valid")
}

fn verify_claims(change: impl FnOnce(&mut Value)) -> Result<Claims, TicketError> {
    let mut json = claims().to_json();
    change(&mut json);
    let ticket = token(&json!({ "alg": "HS256", "kid": "h", "typ": "JWT" }), &json, hmac(&SECRET));
    hmac_ring().verify(&ticket, "tickwire", NOW)
}

#[test]
fn what_was_signed_is_what_is_read() {
    let all = Claims {
        audience: vec!["elsewhere".into(), "tickwire".into()],
        not_before: Some(NOW),
        game: Some("arena".into()),
        name: Some("Ada".into()),
        reservation: Some("r-1".into()),
        ..claims()
    };
    for algorithm in [Algorithm::EdDsa, Algorithm::Hs256] {
        for claims in [claims(), all.clone()] {
            assert_eq!(verify(&ring("a", algorithm), &claims), Ok(claims));
        }
    }
}

#[test]
fn a_ticket_that_another_library_made_is_read() {
    // RFC 8037, appendix A: its key, and a signature of it by PyJWT 2 over fixed claims.
    let jwks = r#"{"keys":[{"kid":"rfc","kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let ticket = include_str!("golden-pyjwt.txt").trim();
    let read = KeyRing::from_jwks(jwks).expect("valid").verify(ticket, "tickwire", NOW).expect("good");
    assert_eq!(
        (read.subject.as_str(), read.role, read.session.as_deref()),
        ("player-81", Role::Player, Some("sessions/arena-1"))
    );
}

#[test]
fn times_hold_to_the_second_with_some_leeway() {
    let ring = ring("a", Algorithm::EdDsa);
    let ticket = ring.sign(&claims()).expect("issued");
    let at = |now| ring.verify(ticket.reveal(), "tickwire", now);
    let end = claims().expires_at;
    assert!(at(NOW - LEEWAY_SECONDS).is_ok() && at(end + LEEWAY_SECONDS - 1).is_ok());
    assert_eq!(at(NOW - LEEWAY_SECONDS - 1), Err(TicketError::NotYet));
    assert_eq!(at(end + LEEWAY_SECONDS), Err(TicketError::Expired));
    assert_eq!((at(0), at(u64::MAX)), (Err(TicketError::NotYet), Err(TicketError::Expired)));
}

#[test]
fn claims_that_are_missing_or_of_another_sort_are_named() {
    let refused = |claim: &'static str, value: Value| {
        let error = verify_claims(|claims| claims[claim] = value).expect_err("it is wrong");
        let TicketError::Claim { claim: named, .. } = error else { panic!("{claim}: {error}") };
        assert_eq!(named, claim);
    };
    assert!(verify_claims(|_| {}).is_ok());
    for claim in ["aud", "sub", "role", "jti", "iat", "exp", "session"] {
        refused(claim, Value::Null);
    }
    for claim in ["aud", "sub", "role", "jti", "session", "game", "name", "rsv"] {
        refused(claim, json!(7));
    }
    for claim in ["iat", "nbf", "exp"] {
        for wrong in [json!("soon"), json!(-1), json!(1.5), json!(1e300)] {
            refused(claim, wrong);
        }
    }
    refused("sub", json!(""));
    refused("jti", json!("j".repeat(129)));
    refused("role", json!("root"));
    refused("aud", json!(["tickwire", 7]));
}

#[test]
fn what_is_said_of_a_claim_is_a_sentence() {
    let said = |claim: &'static str, value: Value| {
        verify_claims(|claims| claims[claim] = value).expect_err("it is wrong").to_string()
    };
    assert_eq!(said("role", json!("root")), "its role is none: choose player, spectator or operator");
    assert_eq!(said("sub", Value::Null), "its sub is missing");
    assert!(said("session", Value::Null).starts_with("its session is missing, and so is game: "));
    assert!(said("aud", json!("elsewhere")).starts_with("its aud names other servers"));
}

#[test]
fn a_ticket_for_others_or_for_too_long_is_refused() {
    assert_eq!(verify_claims(|claims| claims["aud"] = json!("elsewhere")), Err(TicketError::Audience));
    assert_eq!(verify_claims(|claims| claims["aud"] = json!([])), Err(TicketError::Audience));
    assert_eq!(verify_claims(|claims| claims["exp"] = json!(NOW + 301)), Err(TicketError::Lifetime));
    assert!(verify_claims(|claims| claims["exp"] = json!(NOW + 300)).is_ok());
    assert_eq!(verify_claims(|claims| claims["nbf"] = json!(NOW + 11)), Err(TicketError::NotYet));
    assert_eq!(verify_claims(|claims| claims["exp"] = json!(NOW - 10)), Err(TicketError::Expired));
}

#[test]
fn an_operators_ticket_need_not_name_a_session() {
    let operator = verify_claims(|claims| {
        claims["role"] = json!("operator");
        claims["session"] = Value::Null;
    });
    assert_eq!(operator.map(|claims| (claims.role, claims.session)), Ok((Role::Operator, None)));
}

#[test]
fn what_a_server_would_refuse_is_not_signed() {
    let ring = ring("a", Algorithm::EdDsa);
    let refused = |claims: Claims| ring.sign(&claims).expect_err("no server takes it");
    assert_eq!(refused(Claims { expires_at: NOW + 3600, ..claims() }), MintError::Refused(TicketError::Lifetime));
    assert_eq!(refused(Claims { audience: vec![], ..claims() }), MintError::Refused(TicketError::Audience));
    assert!(matches!(refused(Claims { session: None, ..claims() }), MintError::Refused(TicketError::Claim { .. })));
    let public = r#"{"keys":[{"kid":"p","kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let public = KeyRing::from_jwks(public).expect("valid");
    assert_eq!(public.sign(&claims()).expect_err("it has no private part"), MintError::NoSigningKey);
}

#[test]
fn no_ticket_goes_without_a_signature_whatever_it_calls_that() {
    let ring = hmac_ring();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for kid in [json!("h"), Value::Null] {
            let ticket = token(&json!({ "alg": alg, "kid": kid }), &claims().to_json(), |_| String::new());
            let error = ring.verify(&ticket, "tickwire", NOW).expect_err("it is not signed");
            assert!(matches!(error, TicketError::Algorithm | TicketError::UnknownKey), "{error}");
        }
    }
    let unsigned = token(&json!({ "alg": "HS256", "kid": "h" }), &claims().to_json(), |_| String::new());
    assert_eq!(ring.verify(&unsigned, "tickwire", NOW), Err(TicketError::Signature));
}

#[test]
fn a_public_key_is_no_secret_of_an_hmac() {
    let text = new_key("a", Algorithm::EdDsa).expect("randomness");
    let set: Value = serde_json::from_str(&text).expect("JSON");
    let public = set["keys"][0]["x"].as_str().expect("a public key");
    let ring = KeyRing::from_jwks(&text).expect("valid");
    for secret in [URL_SAFE_NO_PAD.decode(public).expect("base64"), public.as_bytes().to_vec(), text.into_bytes()] {
        let forged = token(&json!({ "alg": "HS256", "kid": "a" }), &claims().to_json(), hmac(&secret));
        assert_eq!(ring.verify(&forged, "tickwire", NOW), Err(TicketError::Algorithm));
        let forged = token(&json!({ "alg": "EdDSA", "kid": "a" }), &claims().to_json(), hmac(&secret));
        assert_eq!(ring.verify(&forged, "tickwire", NOW), Err(TicketError::Signature));
    }
}

#[test]
fn a_key_signs_under_its_own_name_alone() {
    let [a, b] = ["a", "b"].map(|kid| new_key(kid, Algorithm::EdDsa).expect("randomness"));
    let [a, b]: [Value; 2] = [a, b].map(|text| serde_json::from_str(&text).expect("JSON"));
    let both = json!({ "keys": [a["keys"][0], b["keys"][0]] }).to_string();
    let both = KeyRing::from_jwks(&both).expect("valid");
    let signing = both.signing().expect("it signs");
    let sign = |kid: Option<&str>| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(jsonwebtoken::Algorithm::EdDSA) };
        encode(&header, &claims().to_json(), &signing.key).expect("signed")
    };
    let verified = |kid| both.verify(&sign(kid), "tickwire", NOW).map(drop);
    assert_eq!(verified(Some("a")), Ok(()));
    assert_eq!(verified(Some("b")), Err(TicketError::Signature));
    assert_eq!((verified(Some("c")), verified(None)), (Err(TicketError::UnknownKey), Err(TicketError::UnknownKey)));
    // A key of another set with the same name.
    let other = ring("a", Algorithm::EdDsa).sign(&claims()).expect("issued");
    assert_eq!(both.verify(other.reveal(), "tickwire", NOW), Err(TicketError::Signature));
}

#[test]
fn other_algorithms_of_a_keys_family_are_refused() {
    let key = EncodingKey::from_secret(&SECRET);
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        let ticket = token(&json!({ "alg": alg, "kid": "h" }), &claims().to_json(), hmac(key.as_bytes()));
        assert_eq!(hmac_ring().verify(&ticket, "tickwire", NOW), Err(TicketError::Algorithm));
    }
}

#[test]
fn what_is_longer_than_a_ticket_is_none() {
    let header = |pad: usize| json!({ "alg": "HS256", "kid": "h", "pad": "x".repeat(pad) });
    let ticket = |pad| token(&header(pad), &claims().to_json(), hmac(&SECRET));
    let longest = (0..TICKET_BYTES_MAX).rev().find(|pad| ticket(*pad).len() <= TICKET_BYTES_MAX).expect("one fits");
    assert!(hmac_ring().verify(&ticket(longest), "tickwire", NOW).is_ok());
    assert_eq!(hmac_ring().verify(&ticket(longest + 3), "tickwire", NOW), Err(TicketError::Malformed));
}

#[test]
fn what_is_critical_to_others_is_refused() {
    let header = json!({ "alg": "HS256", "kid": "h", "crit": ["b64"], "b64": false });
    let ticket = token(&header, &claims().to_json(), hmac(&SECRET));
    assert_eq!(hmac_ring().verify(&ticket, "tickwire", NOW), Err(TicketError::Critical));
}

#[test]
fn both_keys_verify_while_they_are_rotated() {
    let [old, new] = ["old", "new"].map(|kid| new_key(kid, Algorithm::EdDsa).expect("randomness"));
    let key = |text: &str| serde_json::from_str::<Value>(text).expect("JSON")["keys"][0].clone();
    let before = KeyRing::from_jwks(&old).expect("valid");
    let during = KeyRing::from_jwks(&json!({ "keys": [key(&new), key(&old)] }).to_string()).expect("valid");
    let after = KeyRing::from_jwks(&new).expect("valid");
    let [first, second] = [&before, &during].map(|ring| ring.sign(&claims()).expect("issued"));
    assert!([&before, &during].map(|ring| ring.verify(first.reveal(), "tickwire", NOW).is_ok()) == [true, true]);
    assert!([&during, &after].map(|ring| ring.verify(second.reveal(), "tickwire", NOW).is_ok()) == [true, true]);
    assert_eq!(after.verify(first.reveal(), "tickwire", NOW), Err(TicketError::UnknownKey));
}

proptest! {
    #[test]
    fn a_ticket_with_any_byte_changed_added_or_taken_does_not_verify(
        is_ed in any::<bool>(), place in any::<prop::sample::Index>(), byte in 0u8..128, how in 0..3,
    ) {
        let ring = ring("a", if is_ed { Algorithm::EdDsa } else { Algorithm::Hs256 });
        let good = ring.sign(&claims()).expect("issued").reveal().to_owned();
        let mut bytes = good.clone().into_bytes();
        let place = place.index(bytes.len());
        match how {
            0 => bytes[place] = byte,
            1 => bytes.insert(place, byte),
            _ => drop(bytes.remove(place)),
        }
        let changed = String::from_utf8(bytes).expect("ASCII");
        prop_assume!(changed != good);
        prop_assert!(ring.verify(&changed, "tickwire", NOW).is_err());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,200}", dots in "[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,40}\\.[A-Za-z0-9_-]{0,90}") {
        let ring = hmac_ring();
        prop_assert!(ring.verify(&text, "tickwire", NOW).is_err());
        prop_assert!(ring.verify(&dots, "tickwire", NOW).is_err());
    }

    #[test]
    fn any_json_as_header_and_claims_is_refused_or_read_without_a_panic(claim in "[a-z]{2,7}", number in any::<f64>(), text in ".{0,40}") {
        for value in [json!(number), json!(text), json!([text]), json!({ "a": number })] {
            // It says what it is; that it says so is all.
            let _ = verify_claims(|claims| claims[claim.as_str()] = value.clone());
            let ticket = token(&json!({ claim.as_str(): value }), &claims().to_json(), hmac(&SECRET));
            prop_assert!(hmac_ring().verify(&ticket, "tickwire", NOW).is_err());
        }
    }
}
