//! `kafka.oauth_token_file`: the token of SASL OAUTHBEARER, read anew each time librdkafka asks.
//!
//! Something else keeps the file fresh, such as the kubelet. Whether a token is genuine is the
//! broker's to say: here only its end (`exp`) and its owner (`sub`) are read, no signature. Never
//! here: a token in a message.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rdkafka::client::OAuthToken;
use serde_json::Value;
use tracing::{info, warn};

/// Longest token, in bytes; brokers refuse far shorter ones.
pub const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// The end of the year 9999, in seconds: what is later was meant in another unit.
const EXP_MAX: f64 = 253_402_300_799.0;

/// Why each file gave no token the last time. Every client asks for itself, and there are many:
/// what all of them find is said once.
static FAILED: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());

/// The token in `path`, for librdkafka. A failure is logged when it is a new one, and so is its
/// end; librdkafka asks again ten seconds later.
///
/// # Errors
/// The file cannot be read, or holds no token that is good now.
pub fn read(path: &Path) -> Result<OAuthToken, String> {
    let found = load(path).map_err(|why| format!("{} {why}", path.display()));
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    match &found {
        Ok(_) if failed.remove(path).is_some() => {
            info!("kafka.oauth_token_file: {} holds a token again", path.display());
        }
        Err(why) if failed.get(path) != Some(why) => {
            warn!("kafka.oauth_token_file: {why}");
            failed.insert(path.to_owned(), why.clone());
        }
        _ => {}
    }
    found
}

fn load(path: &Path) -> Result<OAuthToken, String> {
    let unreadable = |cause: std::io::Error| format!("cannot be read: {cause}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > TOKEN_BYTES_MAX {
        return Err(format!("is longer than the {TOKEN_BYTES_MAX} bytes a token may have"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    parse(&bytes, now).map_err(str::to_owned)
}

/// A JWT: three parts of base64url, the second with `exp` and `sub`.
fn parse(bytes: &[u8], now: Duration) -> Result<OAuthToken, &'static str> {
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err("is empty");
    }
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let ([_, payload, _], true) = (&parts[..], token.iter().all(legal)) else {
        return Err("holds no JWT: expected three parts of base64url with dots between them");
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).ok();
    let claims = payload.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let claims = claims.ok_or("holds a JWT whose second part is no JSON in base64url")?;
    let exp = claims["exp"].as_f64().ok_or("holds a JWT without `exp`, the time it ends")?;
    if !(0.0..=EXP_MAX).contains(&exp) {
        return Err("holds a JWT whose `exp` is no time in seconds since 1970");
    }
    let ends = Duration::from_secs_f64(exp);
    if ends <= now {
        return Err("holds a token that has ended (`exp`)");
    }
    let owner = claims["sub"].as_str().filter(|sub| !sub.is_empty() && !sub.contains('\0'));
    Ok(OAuthToken {
        token: String::from_utf8_lossy(token).into_owned(),
        principal_name: owner.ok_or("holds a JWT without `sub`, whose it is")?.to_owned(),
        lifetime_ms: i64::try_from(ends.as_millis()).unwrap_or(i64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: Duration = Duration::from_hours(500_000);

    /// `{"sub":"exfilwatch","exp":1800000060}`, header and signature as a real one has them.
    const GOOD: &str = "eyJhbGciOiJub25lIn0.\
                        eyJzdWIiOiJleGZpbHdhdGNoIiwiZXhwIjoxODAwMDAwMDYwfQ.c2lnbmF0dXJl";

    fn refused(text: &str) -> &'static str {
        parse(text.as_bytes(), NOW).map(|_| ()).unwrap_err()
    }

    #[test]
    fn end_and_owner_come_from_the_payload_and_the_token_goes_out_as_it_is() {
        for text in [GOOD.to_owned(), format!("{GOOD}\n"), format!(" {GOOD}\r\n\n")] {
            let token = parse(text.as_bytes(), NOW).unwrap();
            assert_eq!((token.token.as_str(), token.principal_name.as_str()), (GOOD, "exfilwatch"));
            assert_eq!(token.lifetime_ms, 1_800_000_060_000);
        }
        // Unsigned: the third part is empty.
        let unsigned = GOOD.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert!(parse(unsigned.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn what_is_no_token_that_is_good_now_is_refused_without_being_shown() {
        assert_eq!(refused(" \n"), "is empty");
        for text in ["opaque", "a.b", "a.b.c.d", "a.b c.d", "a.\u{e9}.c", "a.b+/.c"] {
            assert!(refused(text).starts_with("holds no JWT"), "{text}");
        }
        // One character too many for base64, and text that is no JSON.
        for text in ["a.eyJhb.c", "a.Zm9vYmFy.c"] {
            assert!(refused(text).contains("no JSON"), "{text}");
        }
        // {"sub":"x"}, {"exp":1800000060}, {"sub":"","exp":1800000060}, {"sub":"x","exp":"soon"}
        assert!(refused("a.eyJzdWIiOiJ4In0.c").contains("without `exp`"));
        assert!(refused("a.eyJleHAiOjE4MDAwMDAwNjB9.c").contains("without `sub`"));
        assert!(refused("a.eyJzdWIiOiIiLCJleHAiOjE4MDAwMDAwNjB9.c").contains("without `sub`"));
        assert!(refused("a.eyJzdWIiOiJ4IiwiZXhwIjoic29vbiJ9.c").contains("without `exp`"));
        // {"sub":"x","exp":1800000000000}, in milliseconds, and {"sub":"x","exp":-1}
        let long = "a.eyJzdWIiOiJ4IiwiZXhwIjoxODAwMDAwMDAwMDAwfQ.c";
        assert!(refused(long).contains("seconds since 1970"));
        assert!(refused("a.eyJzdWIiOiJ4IiwiZXhwIjotMX0.c").contains("seconds since 1970"));
        let late = parse(GOOD.as_bytes(), Duration::from_mins(30_000_001)).map(|_| ());
        assert!(late.unwrap_err().contains("has ended"), "at the very second");
    }

    #[test]
    fn a_file_that_is_away_is_named_and_read_when_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let why = read(&path).map(|_| ()).unwrap_err();
        assert!(why.contains(&path.display().to_string()) && why.contains("cannot be read"));
        // {"sub":"x","exp":253402300000}
        let text = "a.eyJzdWIiOiJ4IiwiZXhwIjoyNTM0MDIzMDAwMDB9.c\n";
        fs::write(&path, text).unwrap();
        assert_eq!(read(&path).unwrap().principal_name, "x");
        fs::write(&path, vec![b'a'; 64 * 1024 + 1]).unwrap();
        assert!(read(&path).map(|_| ()).unwrap_err().contains("65536 bytes"));
    }
}
