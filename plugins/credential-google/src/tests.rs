use std::fmt::Write as _;

use super::*;
use cofferdam_plugin_sdk::{
    base64,
    testing::{MOMENT, MemorySources, Servers, push_to},
};
use rsa::{
    RsaPrivateKey,
    pkcs1v15::{Signature, VerifyingKey},
    pkcs8::DecodePrivateKey,
    sha2::Sha256,
    signature::Verifier,
};

/// Made for these tests by `openssl genpkey -algorithm RSA`.
const KEY: &str = include_str!("tests/key.pem");
const IMPERSONATION: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/ci@p.iam.gserviceaccount.com:generateAccessToken";

fn sources(credentials: &str) -> MemorySources {
    let files = [("google-credentials".to_owned(), credentials.as_bytes().to_vec())].into();
    MemorySources { files, ..MemorySources::default() }
}

fn get(sources: &MemorySources, servers: &Servers) -> Result<Option<Answer>, Error> {
    Google::get(&push_to("europe-docker.pkg.dev"), sources, servers)
}

/// The token, and how many seconds it holds.
#[track_caller]
fn token(sources: &MemorySources, servers: &Servers) -> (String, Option<i64>) {
    let answer = get(sources, servers).unwrap().expect("a credential");
    let Credential::Basic(basic) = answer.credential else { panic!("not a password") };
    assert_eq!(basic.username, "oauth2accesstoken");
    (basic.password, answer.expires_at.map(|end| end.seconds - MOMENT.seconds))
}

fn refused(found: Result<Option<Answer>, Error>) -> String {
    match found {
        Err(Error::Invalid(found) | Error::Unsupported(found)) => found.message,
        _ => panic!("not refused"),
    }
}

/// The fields of a form, decoded.
fn fields(body: &[u8]) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'%' => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
                }
                _ => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    let text = std::str::from_utf8(body).unwrap();
    text.split('&')
        .map(|field| field.split_once('=').map(|(name, value)| (decode(name), decode(value))).unwrap())
        .collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn account() -> String {
    let mut text = String::from(
        r#"{"type":"service_account","client_email":"ci@p.iam.gserviceaccount.com","private_key_id":"k1","#,
    );
    write!(text, r#""private_key":{},"token_uri":"https://oauth2.googleapis.com/token"}}"#, json::quoted(KEY)).unwrap();
    text
}

#[test]
fn a_key_signs_a_statement_that_its_public_half_verifies() {
    let servers = Servers::default().answering(
        "POST https://oauth2.googleapis.com/token",
        200,
        r#"{"access_token":"ya29","expires_in":3599}"#,
    );
    assert_eq!(token(&sources(&account()), &servers), ("ya29".to_owned(), Some(3599)));
    let asked = servers.asked();
    assert_eq!(asked.len(), 1);
    let form = fields(&asked[0].body);
    assert_eq!(form[0], ("grant_type".to_owned(), "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()));
    assert_eq!(form[1].0, "assertion");
    let (text, signature) = form[1].1.rsplit_once('.').unwrap();
    let (header, claims) = text.split_once('.').unwrap();
    assert_eq!(base64::decode(header).unwrap(), br#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#);
    assert_eq!(
        String::from_utf8(base64::decode(claims).unwrap()).unwrap(),
        r#"{"iss":"ci@p.iam.gserviceaccount.com","scope":"https://www.googleapis.com/auth/cloud-platform","aud":"https://oauth2.googleapis.com/token","iat":1578616200,"exp":1578619800}"#
    );
    let public = RsaPrivateKey::from_pkcs8_pem(KEY).unwrap().to_public_key();
    let signature = Signature::try_from(base64::decode(signature).unwrap().as_slice()).unwrap();
    VerifyingKey::<Sha256>::new(public).verify(text.as_bytes(), &signature).unwrap();
}

#[test]
fn a_refused_key_says_why_and_a_broken_one_does_not_show() {
    let body = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    let servers = Servers::default().answering("POST https://oauth2.googleapis.com/token", 400, body);
    let message = refused(get(&sources(&account()), &servers));
    assert!(message.contains("invalid_grant: Invalid JWT Signature."), "{message}");
    let broken = account().replace("BEGIN PRIVATE KEY", "BEGIN SECRET");
    let message = refused(get(&sources(&broken), &servers));
    assert!(message.contains("`private_key`") && !message.contains("SECRET"), "{message}");
    assert!(refused(get(&sources("{"), &servers)).contains("not JSON"));
    let other = r#"{"type":"impersonated_service_account"}"#;
    assert!(refused(get(&sources(other), &servers)).contains("`impersonated_service_account`"));
    let missing = MemorySources::of(&[("GOOGLE_APPLICATION_CREDENTIALS", "/no/file")]);
    assert!(refused(get(&missing, &servers)).contains("/no/file"));
}

#[test]
fn a_user_is_known_by_a_refresh_token() {
    let file = r#"{"type":"authorized_user","client_id":"i","client_secret":"s","refresh_token":"1//r"}"#;
    let servers = Servers::default().answering(
        "POST https://oauth2.googleapis.com/token",
        200,
        r#"{"access_token":"t","expires_in":"60"}"#,
    );
    assert_eq!(token(&sources(file), &servers), ("t".to_owned(), Some(60)));
    let expected =
        [("grant_type", "refresh_token"), ("client_id", "i"), ("client_secret", "s"), ("refresh_token", "1//r")];
    assert_eq!(fields(&servers.asked()[0].body), pairs(&expected));
}

fn federated(source: &str, impersonation: &str) -> String {
    format!(
        r#"{{"type":"external_account","audience":"//iam.googleapis.com/projects/1/x","subject_token_type":"urn:ietf:params:oauth:token-type:jwt","token_url":"https://sts.googleapis.com/v1/token"{impersonation},"credential_source":{source}}}"#
    )
}

#[test]
fn anothers_token_is_exchanged() {
    let sts = r#"{"access_token":"federated","issued_token_type":"x","token_type":"Bearer","expires_in":3600}"#;
    let servers = || Servers::default().answering("POST https://sts.googleapis.com/v1/token", 200, sts);
    let mut file = sources(&federated(r#"{"file":"/var/run/token"}"#, ""));
    assert!(refused(get(&file, &servers())).contains("/var/run/token"));
    file.files.insert("google-subject-token".to_owned(), b"a.b.c\n".to_vec());
    let asked = servers();
    assert_eq!(token(&file, &asked), ("federated".to_owned(), Some(3600)));
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", "//iam.googleapis.com/projects/1/x"),
        ("scope", "https://www.googleapis.com/auth/cloud-platform"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", "a.b.c"),
    ];
    assert_eq!(fields(&asked.asked()[0].body), pairs(&expected));
    assert!(asked.asked()[0].headers.iter().all(|header| !header.name.eq_ignore_ascii_case("authorization")));

    for source in [r#"{"executable":{"command":"/bin/evil"}}"#, r#"{"environment_id":"aws1"}"#] {
        let message = refused(get(&sources(&federated(source, "")), &servers()));
        assert!(message.contains("neither `file` nor `url`"), "{message}");
    }
}

#[test]
fn a_jobs_token_comes_from_a_url_and_becomes_a_service_accounts() {
    let source = r#"{"url":"https://run-1.actions.githubusercontent.com/token?audience=x","headers":{"Authorization":"Bearer job"},"format":{"type":"json","subject_token_field_name":"value"}}"#;
    let file = sources(&federated(source, &format!(r#","service_account_impersonation_url":"{IMPERSONATION}""#)));
    let servers = Servers::default()
        .answering("GET https://run-1.actions.githubusercontent.com/token", 200, r#"{"count":1,"value":"oidc"}"#)
        .answering("POST https://sts.googleapis.com/v1/token", 200, r#"{"access_token":"federated","expires_in":3600}"#)
        .answering(
            &format!("POST {IMPERSONATION}"),
            200,
            r#"{"accessToken":"account","expireTime":"2020-01-10T01:00:00Z"}"#,
        );
    assert_eq!(token(&file, &servers), ("account".to_owned(), Some(1800)));
    let asked = servers.asked();
    let authorization = |request: &web::Request| {
        let found = request.headers.iter().find(|header| header.name == "Authorization");
        found.map(|header| header.value.clone())
    };
    assert!(asked[0].url.ends_with("/token?audience=x"));
    assert_eq!(authorization(&asked[0]).as_deref(), Some("Bearer job"));
    assert_eq!(authorization(&asked[1]), None);
    assert!(fields(&asked[1].body).contains(&("subject_token".to_owned(), "oidc".to_owned())));
    assert_eq!(authorization(&asked[2]).as_deref(), Some("Bearer federated"));
    assert_eq!(asked[2].body, br#"{"scope":["https://www.googleapis.com/auth/cloud-platform"]}"#);
}

#[test]
fn a_machine_of_googles_has_a_token_and_another_has_none() {
    let at = "GET http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token";
    let body = r#"{"access_token":"machine","expires_in":300,"token_type":"Bearer"}"#;
    let none = MemorySources::default();
    let servers = Servers::default().answering(at, 200, body).with_header("metadata-flavor", "Google");
    assert_eq!(token(&none, &servers), ("machine".to_owned(), Some(300)));
    let sent = &servers.asked()[0].headers[0];
    assert_eq!((sent.name.as_str(), sent.value.as_str()), ("Metadata-Flavor", "Google"));
    assert!(get(&none, &Servers::default()).unwrap().is_none());
    assert!(get(&none, &Servers::default().answering(at, 200, body)).unwrap().is_none(), "somebody else's");
    let no_account = Servers::default().answering(at, 404, "").with_header("metadata-flavor", "Google");
    assert!(get(&none, &no_account).unwrap().is_none());
}
