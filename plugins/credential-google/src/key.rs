//! A service account's key: a signed statement, exchanged for a token (RFC 7523 §2.1).

use cofferdam_plugin_sdk::{
    base64,
    credentials::{Error, Web},
    diagnostics::Timestamp,
    json::{Value, quoted},
    web::post_form,
};
use rsa::{
    RsaPrivateKey,
    pkcs1v15::SigningKey,
    pkcs8::DecodePrivateKey,
    sha2::Sha256,
    signature::{SignatureEncoding, Signer},
};

use crate::{SCOPE, TOKEN_URI, Token, member, problem, token_of};

/// How long a statement holds, in seconds: the most that Google takes.
const LIFETIME_SECONDS: i64 = 3600;

pub fn token(credentials: &Value, now: Timestamp, web: &dyn Web) -> Result<Token, Error> {
    let url = credentials.get("token_uri").and_then(Value::as_str).unwrap_or(TOKEN_URI);
    let assertion = statement(credentials, url, now)?;
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.as_str())];
    token_of(&web.send(&post_form(url, &form))?, url, now)
}

/// The JSON Web Token (RFC 7519) of the account, for the server of tokens.
fn statement(credentials: &Value, audience: &str, now: Timestamp) -> Result<String, Error> {
    let unreadable =
        || Error::Invalid(problem("`private_key` of the file of Google's credentials is not a PKCS #8 RSA key"));
    let key = RsaPrivateKey::from_pkcs8_pem(member(credentials, "private_key")?).map_err(|_| unreadable())?;
    let kid = match credentials.get("private_key_id").and_then(Value::as_str) {
        Some(id) => format!(",\"kid\":{}", quoted(id)),
        None => String::new(),
    };
    let header = format!("{{\"alg\":\"RS256\",\"typ\":\"JWT\"{kid}}}");
    let (issued, ends) = (now.seconds, now.seconds.saturating_add(LIFETIME_SECONDS));
    let claims = format!(
        "{{\"iss\":{},\"scope\":{},\"aud\":{},\"iat\":{issued},\"exp\":{ends}}}",
        quoted(member(credentials, "client_email")?),
        quoted(SCOPE),
        quoted(audience),
    );
    let text = format!("{}.{}", base64::encode_for_url(header.as_bytes()), base64::encode_for_url(claims.as_bytes()));
    let signature = SigningKey::<Sha256>::new(key).try_sign(text.as_bytes()).map_err(|_| unreadable())?;
    Ok(format!("{text}.{}", base64::encode_for_url(&signature.to_vec())))
}
