use super::*;
use cofferdam_plugin_sdk::{
    testing::{MemorySources, Servers, push_to},
    web,
};

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const API: &str = "POST https://api.ecr.eu-west-1.amazonaws.com/";

/// The API's answer with the password `pw`.
fn granted(servers: Servers, api: &str) -> Servers {
    let token = base64::encode(b"AWS:pw");
    servers.answering(
        api,
        200,
        &format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":1.5786594E9}}]}}"#),
    )
}

fn header<'a>(request: &'a web::Request, name: &str) -> &'a str {
    let found = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    found.map_or("", |header| &header.value)
}

fn sources(variables: &[(&str, &str)], files: &[(&str, &str)]) -> MemorySources {
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect();
    MemorySources { files, ..MemorySources::of(variables) }
}

fn get(host: &str, sources: &MemorySources, servers: &Servers) -> Result<Option<Answer>, Error> {
    Ecr::get(&push_to(host), sources, servers)
}

const STATIC: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "secret")];

#[test]
fn static_keys_sign_the_question_for_a_password() {
    let servers = granted(Servers::default(), API);
    let answer = get(HOST, &sources(&STATIC, &[]), &servers).unwrap().unwrap();
    let Credential::Basic(basic) = answer.credential else { panic!("not a password") };
    assert_eq!((basic.username.as_str(), basic.password.as_str()), ("AWS", "pw"));
    assert_eq!(answer.expires_at.unwrap().seconds, 1_578_659_400);
    let asked = servers.asked();
    assert_eq!(asked.len(), 1, "nothing else is asked");
    assert_eq!(asked[0].body, b"{}");
    assert_eq!(header(&asked[0], "content-type"), "application/x-amz-json-1.1");
    assert_eq!(header(&asked[0], "x-amz-target"), "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken");
    assert_eq!(header(&asked[0], "x-amz-date"), "20200110T003000Z");
    let signed = header(&asked[0], "authorization");
    let start = "AWS4-HMAC-SHA256 Credential=AKID/20200110/eu-west-1/ecr/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=";
    assert!(signed.starts_with(start), "{signed}");
    assert!(asked.iter().all(|request| !request.headers.iter().any(|header| header.value.contains("secret"))));
}

#[test]
fn each_registry_has_its_api() {
    for (host, api, region) in [
        (HOST, Some("api.ecr.eu-west-1.amazonaws.com"), "eu-west-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("api.ecr.cn-north-1.amazonaws.com.cn"), "cn-north-1"),
        (
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            Some("ecr-fips.us-gov-west-1.amazonaws.com"),
            "us-gov-west-1",
        ),
        ("123456789012.dkr-ecr.us-west-2.on.aws", Some("ecr.us-west-2.api.aws"), "us-west-2"),
        (
            "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
            Some("api.ecr.eusc-de-east-1.amazonaws.eu"),
            "eusc-de-east-1",
        ),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:443", Some("api.ecr.eu-west-1.amazonaws.com"), "eu-west-1"),
        ("12345.dkr.ecr.eu-west-1.amazonaws.com", None, ""),
        ("x.123456789012.dkr.ecr.eu-west-1.amazonaws.com", None, ""),
        ("123456789012.dkr.ecr.a.b.amazonaws.com", None, ""),
        ("123456789012.dkr.ecr.amazonaws.com", None, ""),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example", None, ""),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com:5000", None, ""),
    ] {
        let found = Registry::of(host);
        let endpoint = found.as_ref().map(|found| found.endpoint(&MemorySources::default()).unwrap());
        assert_eq!(endpoint, api.map(|api| format!("https://{api}/")), "{host}");
        assert_eq!(found.as_ref().map_or("", |found| found.region()), region, "{host}");
    }
}

#[test]
fn a_web_identity_gets_the_keys_of_its_role_unsigned() {
    let sts = "POST https://sts.us-east-2.amazonaws.com/";
    let body = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>temporary</SecretAccessKey>\
                <SessionToken>session/+=</SessionToken></Credentials></AssumeRoleWithWebIdentityResult>\
                </AssumeRoleWithWebIdentityResponse>";
    let servers = granted(Servers::default().answering(sts, 200, body), API);
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token"),
        ("AWS_REGION", "us-east-2"),
    ];
    get(HOST, &sources(&variables, &[("aws-web-identity-token", "a.b.c\n")]), &servers).unwrap().unwrap();
    let asked = servers.asked();
    let form = String::from_utf8(asked[0].body.clone()).unwrap();
    let expected = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fci&\
                    RoleSessionName=cofferdam-1578616200&WebIdentityToken=a.b.c";
    assert_eq!(form, expected);
    assert_eq!(header(&asked[0], "authorization"), "");
    assert_eq!(header(&asked[1], "x-amz-security-token"), "session/+=");
    assert!(header(&asked[1], "authorization").starts_with("AWS4-HMAC-SHA256 Credential=ASIA/"));
    // The token goes to STS alone.
    assert!(!String::from_utf8_lossy(&asked[1].body).contains("a.b.c"));

    let refused =
        Servers::default().answering(sts, 400, "<Error><Code>InvalidIdentityToken</Code><Message>No</Message></Error>");
    let Err(Error::Invalid(found)) = get(HOST, &sources(&variables, &[("aws-web-identity-token", "a")]), &refused)
    else {
        panic!("not an error")
    };
    assert!(found.message.contains("InvalidIdentityToken: No"), "{}", found.message);
    let Err(Error::Invalid(found)) = get(HOST, &sources(&variables, &[]), &refused) else { panic!("not an error") };
    assert!(found.message.contains("/var/run/token"), "{}", found.message);
    // A region that would be another host.
    let evil = [variables[0], variables[1], ("AWS_REGION", "evil.example/")];
    assert!(get(HOST, &sources(&evil, &[("aws-web-identity-token", "a")]), &refused).is_err());
}

const TEMPORARY: &str =
    r#"{"AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t","Expiration":"2020-01-10T06:00:00Z"}"#;

#[test]
fn a_pod_shows_its_token_to_its_agent() {
    let agent = "GET http://169.254.170.23/v1/credentials";
    let servers = granted(Servers::default().answering(agent, 200, TEMPORARY), API);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/var/run/secrets/pods.eks.amazonaws.com/token"),
    ];
    get(HOST, &sources(&variables, &[("aws-container-token", "pod-token\n")]), &servers).unwrap().unwrap();
    let asked = servers.asked();
    assert_eq!(header(&asked[0], "authorization"), "pod-token");
    assert_eq!(header(&asked[1], "x-amz-security-token"), "t");
    assert!(get(HOST, &sources(&variables, &[]), &servers).is_err(), "without its token nothing is asked");
}

#[test]
fn a_task_asks_its_agent_for_its_path_only() {
    let servers =
        granted(Servers::default().answering("GET http://169.254.170.2/v2/credentials/x", 200, TEMPORARY), API);
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/x")];
    get(HOST, &sources(&variables, &[]), &servers).unwrap().unwrap();
    let elsewhere = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/")];
    assert!(get(HOST, &sources(&elsewhere, &[]), &servers).is_err());
    assert_eq!(servers.asked().len(), 2);
}

/// A machine with a role, at this address.
fn machine(at: &str) -> Servers {
    let roles = format!("{at}/latest/meta-data/iam/security-credentials/");
    let servers = Servers::default().answering(&format!("PUT {at}/latest/api/token"), 200, "session");
    let servers = servers.answering(&format!("GET {roles}"), 200, "builder\n");
    granted(servers.answering(&format!("GET {roles}builder"), 200, TEMPORARY), API)
}

#[test]
fn a_machine_is_asked_by_the_second_version_of_its_service() {
    for (at, variables) in [
        ("http://169.254.169.254", vec![]),
        ("http://[fd00:ec2::254]", vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")]),
        ("http://127.0.0.1:1", vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")]),
    ] {
        let servers = machine(at);
        get(HOST, &sources(&variables, &[]), &servers).unwrap().unwrap();
        let asked = servers.asked();
        assert_eq!(header(&asked[0], "x-aws-ec2-metadata-token-ttl-seconds"), "21600");
        assert!(asked[1..3].iter().all(|request| header(request, "x-aws-ec2-metadata-token") == "session"));
        assert!(header(&asked[3], "authorization").contains("Credential=ASIA/"));
    }
    let disabled = [("AWS_EC2_METADATA_DISABLED", "TRUE")];
    assert!(get(HOST, &sources(&disabled, &[]), &machine("http://169.254.169.254")).unwrap().is_none());
}

#[test]
fn a_machine_elsewhere_has_no_credential_and_that_is_no_error() {
    assert!(get(HOST, &sources(&[], &[]), &Servers::default()).unwrap().is_none());
    // Other clouds have something at the same address.
    let other = Servers::default().answering("PUT http://169.254.169.254/latest/api/token", 405, "");
    assert!(get(HOST, &sources(&[], &[]), &other).unwrap().is_none());
    let no_role = Servers::default().answering("PUT http://169.254.169.254/latest/api/token", 200, "t");
    let roles = "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/";
    assert!(get(HOST, &sources(&[], &[]), &no_role.answering(roles, 404, "")).unwrap().is_none());
}

#[test]
fn sources_are_asked_in_their_order() {
    let files = [(
        "aws-credentials",
        "[default]\naws_access_key_id=FILE\naws_secret_access_key=s\n\
                                      [ci]\naws_access_key_id=CI\naws_secret_access_key=s\n",
    )];
    for (variables, id) in [
        (vec![STATIC[0], STATIC[1], ("AWS_PROFILE", "ci")], "CI"),
        (vec![STATIC[0], STATIC[1]], "AKID"),
        (vec![("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")], "FILE"),
    ] {
        let servers = granted(Servers::default(), API);
        get(HOST, &sources(&variables, &files), &servers).unwrap().unwrap();
        assert!(header(&servers.asked()[0], "authorization").contains(&format!("Credential={id}/")), "{id}");
    }
}

#[test]
fn the_public_registry_is_read_without_credentials_where_they_give_none() {
    let api = "POST https://api.ecr-public.us-east-1.amazonaws.com/";
    let token = base64::encode(b"AWS:pw");
    let body = format!(r#"{{"authorizationData":{{"authorizationToken":"{token}","expiresAt":1}}}}"#);
    let servers = Servers::default().answering(api, 200, &body);
    get("public.ecr.aws", &sources(&STATIC, &[]), &servers).unwrap().unwrap();
    assert_eq!(header(&servers.asked()[0], "x-amz-target"), "SpencerFrontendService.GetAuthorizationToken");
    assert!(header(&servers.asked()[0], "authorization").contains("/us-east-1/ecr-public/aws4_request"));

    let refused = Servers::default().answering(api, 400, r#"{"__type":"AccessDenied","message":"no"}"#);
    let pull = Request { actions: vec!["pull".to_owned()], ..push_to("public.ecr.aws") };
    assert!(Ecr::get(&pull, &sources(&STATIC, &[]), &refused).unwrap().is_none());
    let Err(Error::Invalid(found)) = get("public.ecr.aws", &sources(&STATIC, &[]), &refused) else { panic!("pushed") };
    assert!(found.message.contains("AccessDenied: no"), "{}", found.message);
}

#[test]
fn endpoints_of_the_environment_take_the_place_of_amazons() {
    for (variables, api) in [
        (vec![("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")], "POST http://127.0.0.1:5000/"),
        (
            vec![("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:5000/")],
            "POST http://127.0.0.1:5000/",
        ),
        (vec![("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")], API),
    ] {
        let servers = granted(Servers::default(), api);
        get(HOST, &sources(&[&STATIC[..], &variables].concat(), &[]), &servers).unwrap().unwrap();
    }
}
