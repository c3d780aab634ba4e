//! A token for an admin client. rust-rdkafka polls only the queue of its answers, so that such a
//! client's own question for a token is never heard; it gets one handed over before each call.
//!
//! Never here: where the token comes from (`token`). `tests/it/tokens.rs` holds it.
#![expect(unsafe_code, reason = "rust-rdkafka does not wrap rd_kafka_oauthbearer_set_token")]

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
};

use rdkafka::{
    bindings as sys,
    client::{Client, ClientContext, OAuthToken},
    error::RDKafkaErrorCode,
};

/// Room for what librdkafka says.
const SAID_BYTES: usize = 512;

/// Gives `client` a token that it uses from now on.
///
/// # Errors
/// What librdkafka says against it.
pub(super) fn hand_over<C: ClientContext>(
    client: &Client<C>,
    token: &OAuthToken,
) -> Result<(), String> {
    let nul = |_| "it holds a NUL character".to_owned();
    let value = CString::new(token.token.as_str()).map_err(nul)?;
    let owner = CString::new(token.principal_name.as_str()).map_err(nul)?;
    let mut said: [c_char; SAID_BYTES] = [0; SAID_BYTES];
    // SAFETY: `client` is alive; both texts are C strings that librdkafka copies; there are no
    // extensions, so their list may be null; `said` has the length that is told, and what is
    // written there ends with a NUL.
    let (code, said) = unsafe {
        let code = sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            owner.as_ptr(),
            ptr::null_mut(),
            0,
            said.as_mut_ptr(),
            said.len(),
        );
        (RDKafkaErrorCode::from(code), CStr::from_ptr(said.as_ptr()).to_string_lossy())
    };
    if code == RDKafkaErrorCode::NoError { Ok(()) } else { Err(said.into_owned()) }
}
