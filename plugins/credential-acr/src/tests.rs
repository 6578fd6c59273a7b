use super::*;
use cofferdam_plugin_sdk::{
    testing::{MemorySources, Servers, push_to},
    web,
};

const HOST: &str = "team.azurecr.io";
const ENTRA: &str = "POST https://login.microsoftonline.com/tenant/oauth2/v2.0/token";
const EXCHANGE: &str = "POST https://team.azurecr.io/oauth2/exchange";
const METADATA: &str = "GET http://169.254.169.254/metadata/identity/oauth2/token";

/// A refresh token that ends at 2020-01-10T03:30:00Z.
fn refresh_token() -> String {
    format!("h.{}.s", base64::encode_for_url(br#"{"jti":"x","exp":1578627000}"#))
}

fn granting(request: &str) -> Servers {
    let servers = Servers::default().answering(request, 200, r#"{"access_token":"entra","expires_in":"3599"}"#);
    servers.answering(EXCHANGE, 200, &format!(r#"{{"refresh_token":"{}"}}"#, refresh_token()))
}

fn get(sources: &MemorySources, servers: &Servers) -> Result<Option<Answer>, Error> {
    Acr::get(&push_to(HOST), sources, servers)
}

#[track_caller]
fn granted(sources: &MemorySources, servers: &Servers) -> Vec<web::Request> {
    let answer = get(sources, servers).unwrap().expect("a credential");
    let Credential::IdentityToken(token) = answer.credential else { panic!("no identity token") };
    assert_eq!(token, refresh_token());
    assert_eq!(answer.expires_at.unwrap().seconds, 1_578_627_000);
    servers.asked()
}

fn body(request: &web::Request) -> String {
    String::from_utf8(request.body.clone()).unwrap()
}

const PRINCIPAL: [(&str, &str); 2] = [("AZURE_CLIENT_ID", "client"), ("AZURE_TENANT_ID", "tenant")];

#[test]
fn a_principals_secret_goes_to_entra_and_its_token_to_the_registry() {
    let sources = MemorySources::of(&[PRINCIPAL[0], PRINCIPAL[1], ("AZURE_CLIENT_SECRET", "s&s")]);
    let asked = granted(&sources, &granting(ENTRA));
    assert_eq!(asked.len(), 2);
    let expected = "grant_type=client_credentials&client_id=client&\
                    scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default&client_secret=s%26s";
    assert_eq!(body(&asked[0]), expected);
    let expected = "grant_type=access_token&service=team.azurecr.io&tenant=tenant&access_token=entra";
    assert_eq!(body(&asked[1]), expected);
}

#[test]
fn a_federated_identity_shows_the_token_of_its_file_or_variable() {
    let sources = MemorySources::of(&[PRINCIPAL[0], PRINCIPAL[1], ("AZURE_FEDERATED_TOKEN", "a.b.c")]);
    let asked = granted(&sources, &granting(ENTRA));
    let expected = "grant_type=client_credentials&client_id=client&\
                    scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default&\
                    client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&\
                    client_assertion=a.b.c";
    assert_eq!(body(&asked[0]), expected);

    let file = [
        PRINCIPAL[0],
        PRINCIPAL[1],
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/token"),
        ("AZURE_FEDERATED_TOKEN", "old"),
    ];
    let mut sources = MemorySources::of(&file);
    let Err(Error::Invalid(found)) = get(&sources, &granting(ENTRA)) else { panic!("no error") };
    assert!(found.message.contains("/var/run/token"), "{}", found.message);
    sources.files.insert("azure-federated-token".to_owned(), b"d.e.f\n".to_vec());
    assert!(body(&granted(&sources, &granting(ENTRA))[0]).ends_with("&client_assertion=d.e.f"));
}

#[test]
fn each_cloud_has_its_authority() {
    let secret = [PRINCIPAL[0], PRINCIPAL[1], ("AZURE_CLIENT_SECRET", "s")];
    for (host, variables, authority) in [
        ("team.azurecr.us", vec![], "https://login.microsoftonline.us"),
        ("team.azurecr.cn", vec![], "https://login.chinacloudapi.cn"),
        (
            HOST,
            vec![("AZURE_AUTHORITY_HOST", "https://login.partner.microsoftonline.cn/")],
            "https://login.partner.microsoftonline.cn",
        ),
        (HOST, vec![("AZURE_AUTHORITY_HOST", "login.microsoftonline.us")], "https://login.microsoftonline.us"),
    ] {
        let servers = Servers::default();
        let sources = MemorySources::of(&[&secret[..], &variables].concat());
        assert!(Acr::get(&push_to(host), &sources, &servers).is_err());
        assert_eq!(servers.asked()[0].url, format!("{authority}/tenant/oauth2/v2.0/token"));
    }
    // A tenant that would be another path.
    let evil = [PRINCIPAL[0], ("AZURE_TENANT_ID", "../x?y"), ("AZURE_CLIENT_SECRET", "s")];
    let servers = Servers::default();
    assert!(get(&MemorySources::of(&evil), &servers).is_err());
    assert_eq!(servers.asked()[0].url, "https://login.microsoftonline.com/..%2Fx%3Fy/oauth2/v2.0/token");
}

#[test]
fn a_machine_has_its_managed_identity_and_another_has_none() {
    let query = |asked: &[web::Request]| asked[0].url.split_once('?').unwrap().1.to_owned();
    let own = "api-version=2018-02-01&resource=https%3A%2F%2Fcontainerregistry.azure.net";
    let asked = granted(&MemorySources::default(), &granting(METADATA));
    assert_eq!(query(&asked), own);
    assert_eq!((asked[0].headers[0].name.as_str(), asked[0].headers[0].value.as_str()), ("Metadata", "true"));
    assert_eq!(body(&asked[1]), "grant_type=access_token&service=team.azurecr.io&access_token=entra");
    let asked = granted(&MemorySources::of(&[("AZURE_CLIENT_ID", "which")]), &granting(METADATA));
    assert_eq!(query(&asked), format!("{own}&client_id=which"));

    let none = |servers: Servers| get(&MemorySources::default(), &servers).unwrap().is_none();
    assert!(none(Servers::default()));
    assert!(none(Servers::default().answering(METADATA, 400, r#"{"error":"invalid_request"}"#)));
    assert!(none(Servers::default().answering(METADATA, 404, "<html>somebody else</html>")));
    assert!(none(Servers::default().answering(METADATA, 200, "somebody else")));
}

#[test]
fn the_registrys_refusal_is_told_without_the_token() {
    let sources = MemorySources::of(&[PRINCIPAL[0], PRINCIPAL[1], ("AZURE_CLIENT_SECRET", "s")]);
    let servers = granting(ENTRA).answering(EXCHANGE, 401, r#"{"error":"unauthorized","error_description":"no pull"}"#);
    let Err(Error::Invalid(found)) = get(&sources, &servers) else { panic!("no error") };
    assert!(
        found.message.contains("401: unauthorized: no pull") && !found.message.contains("entra"),
        "{}",
        found.message
    );
}
