//! ACR: Entra and the registry are servers here that look at every field; lookalikes and redirects get nothing.

use cofferdam_tests::{Cloud, CloudAnswer, CloudRequest, Site};

use crate::{fields, helper, pairs};

const HOST: &str = "team.azurecr.io";
const ENTRA: &str = "login.microsoftonline.com";
const PRINCIPAL: [(&str, &str); 3] =
    [("AZURE_CLIENT_ID", "client"), ("AZURE_TENANT_ID", "tenant"), ("AZURE_CLIENT_SECRET", "planted&secret")];

/// Entra, and a registry with Bearer tokens.
fn answers(request: &CloudRequest) -> CloudAnswer {
    let challenge = CloudAnswer {
        headers: vec![format!("www-authenticate: Bearer realm=\"https://{HOST}/oauth2/token\",service=\"{HOST}\"")],
        ..CloudAnswer::new(401, "")
    };
    match (request.host.as_str(), request.path.as_str()) {
        (ENTRA, "/tenant/oauth2/v2.0/token") => CloudAnswer::new(200, r#"{"access_token":"entra","expires_in":3599}"#),
        // Ends in the year 2100.
        (HOST, "/oauth2/exchange") => CloudAnswer::new(200, r#"{"refresh_token":"h.eyJleHAiOjQxMDI0NDQ4MDB9.s"}"#),
        (HOST, "/oauth2/token") => CloudAnswer::new(200, r#"{"access_token":"access"}"#),
        (HOST, _) if request.headers.get("authorization").map(String::as_str) == Some("Bearer access") => {
            CloudAnswer::new(404, "")
        }
        (HOST, _) => challenge,
        _ => CloudAnswer::new(404, ""),
    }
}

#[test]
fn a_secret_becomes_a_token_of_entra_then_of_the_registry_then_of_the_repository() {
    let Some(cloud) = Cloud::start(&[HOST, ENTRA], answers) else { return };
    let site = Site::new();
    site.dockerfile(&format!("FROM {HOST}/team/base\n"));
    let program = cloud.seen_by(site.program(&["--no-cache"]).natively());
    let built = PRINCIPAL.iter().fold(program, |program, (name, value)| program.env(name, value)).run();
    assert!(built.code == 1 && built.stderr.contains("404"), "{}", built.stderr);
    let asked = cloud.asked();
    let one = |host: &str, path: &str| {
        let found: Vec<&CloudRequest> =
            asked.iter().filter(|request| request.host == host && request.path == path).collect();
        assert_eq!(found.len(), 1, "{host}{path}: {found:?}");
        fields(&found[0].body)
    };
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", "client"),
        ("scope", "https://containerregistry.azure.net/.default"),
        ("client_secret", "planted&secret"),
    ];
    assert_eq!(one(ENTRA, "/tenant/oauth2/v2.0/token"), pairs(&expected));
    let expected = [("grant_type", "access_token"), ("service", HOST), ("tenant", "tenant"), ("access_token", "entra")];
    assert_eq!(one(HOST, "/oauth2/exchange"), pairs(&expected));
    let token = one(HOST, "/oauth2/token");
    for field in [("grant_type", "refresh_token"), ("service", HOST), ("refresh_token", "h.eyJleHAiOjQxMDI0NDQ4MDB9.s")]
    {
        assert!(token.contains(&(field.0.to_owned(), field.1.to_owned())), "{token:?}");
    }
    assert!(asked.iter().all(|request| request.host == ENTRA || !request.body.contains("planted")));
    assert!(!built.stderr.contains("planted") && cloud.unknown().is_empty(), "{:?}", cloud.unknown());
}

#[test]
fn a_federated_token_is_shown_to_entra() {
    let Some(cloud) = Cloud::start(&[HOST, ENTRA], answers) else { return };
    let site = Site::new();
    let file = site.path().join("token");
    std::fs::write(&file, "a.b.c\n").expect("writable");
    let variables = [PRINCIPAL[0], PRINCIPAL[1], ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().expect("UTF-8"))];
    let arguments = ["credential-acr", "--host", HOST, "--push", "--show-secret"];
    let printed = helper(&site, &cloud, &arguments, &variables).success().stdout;
    let expected = "kind     identity-token\nexpires  2100-01-01T00:00:00Z\nsecret   h.eyJleHAiOjQxMDI0NDQ4MDB9.s\n";
    assert_eq!(printed, expected);
    let assertion = fields(&cloud.asked()[0].body);
    assert_eq!(
        assertion[3..],
        pairs(&[
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", "a.b.c"),
        ])
    );
}

#[test]
fn a_lookalike_registry_gets_no_token() {
    let lookalikes = ["team.azurecr.io.evil.example", "teamazurecr.io", "team.xn--zurecr-2nf.io"];
    let answers = |request: &CloudRequest| match request.host.as_str() {
        ENTRA => panic!("nobody is to be asked for a token"),
        _ => {
            CloudAnswer { headers: vec!["www-authenticate: Basic realm=\"x\"".to_owned()], ..CloudAnswer::new(401, "") }
        }
    };
    let Some(cloud) = Cloud::start(&[&lookalikes[..], &[ENTRA]].concat(), answers) else { return };
    let site = Site::new();
    for lookalike in lookalikes {
        site.dockerfile(&format!("FROM {lookalike}/team/base\n"));
        let program = cloud.seen_by(site.program(&["--no-cache"]).natively());
        let built = PRINCIPAL.iter().fold(program, |program, (name, value)| program.env(name, value)).run();
        assert!(built.code == 1 && built.stderr.contains("401"), "{lookalike}: {}", built.stderr);
        let refused = helper(&site, &cloud, &["credential-acr", "--host", lookalike], &PRINCIPAL);
        assert!(refused.code == 1 && refused.stderr.contains("does not name this host"), "{}", refused.stderr);
    }
    let asked = cloud.asked();
    assert!(lookalikes.iter().all(|lookalike| asked.iter().any(|request| request.host == *lookalike)), "{asked:?}");
    assert!(asked.iter().all(|request| request.host != ENTRA && !request.headers.contains_key("authorization")));
}

#[test]
fn a_redirect_leads_nowhere() {
    let answers = |request: &CloudRequest| {
        let to = |place: &str| CloudAnswer { headers: vec![format!("location: {place}")], ..CloudAnswer::new(307, "") };
        match request.host.as_str() {
            ENTRA => to("https://evil.example/tenant/oauth2/v2.0/token"),
            other => panic!("{other} was asked"),
        }
    };
    let Some(cloud) = Cloud::start(&[HOST, ENTRA, "evil.example"], answers) else { return };
    let site = Site::new();
    let refused = helper(&site, &cloud, &["credential-acr", "--host", HOST, "--push"], &PRINCIPAL);
    assert!(refused.code == 1 && refused.stderr.contains("answered 307"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("planted"), "{}", refused.stderr);
    assert_eq!(cloud.asked().len(), 1);
}

#[test]
fn an_authority_of_the_environment_is_asked_only_if_it_is_granted() {
    let Some(cloud) = Cloud::start(&[HOST, ENTRA, "evil.example"], answers) else { return };
    let site = Site::new();
    for authority in [
        "https://evil.example",
        "https://login.microsoftonline.com@evil.example",
        "https://login.microsoftonline.com.evil.example",
        "http://login.microsoftonline.com",
        "https://login.microsoftonline.com:8443",
        "https://login.microsoftonline.com\\@evil.example",
    ] {
        let variables = [&PRINCIPAL[..], &[("AZURE_AUTHORITY_HOST", authority)]].concat();
        let refused = helper(&site, &cloud, &["credential-acr", "--host", HOST], &variables);
        assert!(refused.code == 1 && !refused.stderr.contains("planted"), "{authority}: {}", refused.stderr);
        assert!(cloud.asked().is_empty(), "{authority}: {:?}", cloud.asked());
    }
    let variables = [&PRINCIPAL[..], &[("AZURE_AUTHORITY_HOST", "https://evil.example")]].concat();
    let grant = ["credential-acr", "--host", HOST, "--allow-plugin", "credential-acr:http:evil.example"];
    let answered = helper(&site, &cloud, &grant, &variables);
    assert!(answered.stderr.contains("answered 404"), "{}", answered.stderr);
    assert_eq!(cloud.asked()[0].host, "evil.example");
}
