//! Unsecured tokens (RFC 7515, appendix A.5), as Kafka takes them without a validator of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

/// One that ends so many seconds from now.
pub(crate) fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let now = i64::try_from(now).expect("below 2^63");
    let claims = json!({"sub": "exfilwatch", "iat": now, "exp": now + seconds});
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()))
}
