//! ECR: signatures are verified by moto, which computes them with Amazon's own library; the registry behind the host is real.

use std::fs;

use cofferdam_tests::{Cloud, CloudAnswer, Moto, Program, Registry, Site};

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// moto with a user and a role that may get tokens; keys and the role's name.
struct Account {
    moto: Moto,
    id: String,
    secret: String,
    role: String,
}

/// How many requests [`Account::new`] sends.
const SETUP: u32 = 5;

impl Account {
    /// moto checks everything after the first `unchecked` requests.
    fn new(unchecked: u32) -> Option<Self> {
        let moto = Moto::start(SETUP + unchecked)?;
        let printed = moto.python(
            "iam = client('iam')
may = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 'ecr:GetAuthorizationToken', 'Resource': '*'}]})
trust = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Principal': {'Federated': 'x'}, 'Action': 'sts:AssumeRoleWithWebIdentity'}]})
role = iam.create_role(RoleName='ci', AssumeRolePolicyDocument=trust)['Role']['Arn']
iam.put_role_policy(RoleName='ci', PolicyName='may', PolicyDocument=may)
iam.create_user(UserName='ci')
iam.put_user_policy(UserName='ci', PolicyName='may', PolicyDocument=may)
key = iam.create_access_key(UserName='ci')['AccessKey']
print(key['AccessKeyId'], key['SecretAccessKey'], role)",
        );
        let mut words = printed.split_whitespace().map(str::to_owned);
        let mut next = || words.next().expect("three words");
        let (id, secret, role) = (next(), next(), next());
        Some(Self { moto, id, secret, role })
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.moto.host())
    }

    fn grant(&self) -> String {
        format!("credential-ecr:http:{}", self.moto.host())
    }
}

/// A push of a small image to the registry behind ECR's name.
fn push(
    site: &Site,
    cloud: &Cloud,
    account: &Account,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> cofferdam_tests::Finished {
    site.dockerfile("FROM scratch\nCOPY file /\n").file("file", "x");
    let name = format!("{HOST}/team/app:1");
    let program = cloud.seen_by(site.program(&["--push", "-t", &name]).args(arguments).natively());
    let program = program.env("AWS_ENDPOINT_URL", account.endpoint()).env("AWS_EC2_METADATA_DISABLED", "true");
    variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
}

/// The name of the registry, with a registry behind it that knows moto's password.
fn registry(cloud: &Cloud) -> Option<Registry> {
    let registry = Registry::with_certificates("AWS", "123456789012-auth-token", cloud.certificates())?;
    cloud.behind(HOST, registry.host());
    Some(registry)
}

fn nobody(_: &cofferdam_tests::CloudRequest) -> CloudAnswer {
    CloudAnswer::new(404, "")
}

#[test]
fn static_keys_sign_a_push() {
    let (Some(account), Some(cloud)) = (Account::new(0), Cloud::start(&[HOST], nobody)) else { return };
    let Some(registry) = registry(&cloud) else { return };
    let site = Site::new();
    let keys = [("AWS_ACCESS_KEY_ID", account.id.as_str()), ("AWS_SECRET_ACCESS_KEY", account.secret.as_str())];
    // The endpoint is no host of the manifest's.
    let refused = push(&site, &cloud, &account, &[], &keys);
    assert_eq!(refused.code, 1);
    let line = format!("also = [\"http:{}\"]", account.moto.host());
    assert!(
        refused.stderr.contains(&line) && refused.stderr.contains("[plugins.credential-ecr]"),
        "{}",
        refused.stderr
    );

    let grant = account.grant();
    let arguments = ["--allow-plugin", &grant, "--audit-log", "audit.jsonl"];
    let wrong = [keys[0], ("AWS_SECRET_ACCESS_KEY", "wrong")];
    let refused = push(&site, &cloud, &account, &arguments, &wrong);
    assert!(refused.code == 1 && refused.stderr.contains("answered 403"), "{}", refused.stderr);
    assert_eq!(registry.tags("team/app"), Some(Vec::new()), "nothing was pushed");

    let pushed = push(&site, &cloud, &account, &arguments, &keys).success();
    assert_eq!(registry.digest("team/app:1").as_deref(), Some(pushed.digest().as_str()));
    let log = fs::read_to_string(site.path().join("audit.jsonl")).expect("written");
    let server = format!("\"capability\":\"http:{}\",\"detail\":\"POST {}/\"", account.moto.host(), account.endpoint());
    assert!(log.contains(&server) && log.contains("env:AWS_SECRET_ACCESS_KEY"), "{log}");
    for secret in [&account.secret, "123456789012-auth-token"] {
        assert!(![&log, &pushed.stderr, &refused.stderr].iter().any(|text| text.contains(secret)), "{log}");
    }
    assert!(cloud.unknown().is_empty(), "{:?}", cloud.unknown());
}

#[test]
fn a_web_identity_and_a_profile_are_taken_too() {
    // The question for a role is the one that is not signed, which moto does not expect where it checks.
    let (Some(account), Some(cloud)) = (Account::new(1), Cloud::start(&[HOST], nobody)) else { return };
    let Some(registry) = registry(&cloud) else { return };
    let site = Site::new();
    let grant = account.grant();
    let token = site.path().join("token");
    fs::write(&token, "a.b.c\n").expect("writable");
    let identity =
        [("AWS_ROLE_ARN", account.role.as_str()), ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("UTF-8"))];
    let endpoint = account.endpoint();
    let variables = [&identity[..], &[("AWS_ENDPOINT_URL", endpoint.as_str())]].concat();
    let arguments = ["credential-ecr", "--host", HOST, "--push", "--show-secret", "--allow-plugin", &grant];
    let printed = super::helper(&site, &cloud, &arguments, &variables).success().stdout;
    assert!(printed.ends_with("secret   123456789012-auth-token\n"), "{printed}");

    let file = site.path().join("credentials");
    let text = format!("[ci]\naws_access_key_id = {}\naws_secret_access_key = {}\n", account.id, account.secret);
    fs::write(&file, text).expect("writable");
    let profile = [("AWS_PROFILE", "ci"), ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().expect("UTF-8"))];
    let pushed = push(&site, &cloud, &account, &["--allow-plugin", &grant], &profile).success();
    assert_eq!(registry.digest("team/app:1").as_deref(), Some(pushed.digest().as_str()));
    let other = [("AWS_PROFILE", "none"), profile[1]];
    let refused = push(&site, &cloud, &account, &["--allow-plugin", &grant], &other);
    assert!(refused.code == 1 && refused.stderr.contains("`none`"), "{}", refused.stderr);
}

#[test]
fn amazons_own_hosts_are_asked_over_tls_through_the_proxy() {
    let hosts = ["api.ecr.eu-west-1.amazonaws.com", "api.ecr-public.us-east-1.amazonaws.com"];
    let answers = |request: &cofferdam_tests::CloudRequest| match request.headers["x-amz-target"].as_str() {
        "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken" => CloudAnswer::new(
            200,
            r#"{"authorizationData":[{"authorizationToken":"QVdTOnB3","expiresAt":4102444800.5}]}"#,
        ),
        "SpencerFrontendService.GetAuthorizationToken" => CloudAnswer::new(
            200,
            r#"{"authorizationData":{"authorizationToken":"QVdTOnB1YmxpYw==","expiresAt":4102444800}}"#,
        ),
        other => panic!("{other}"),
    };
    let Some(cloud) = Cloud::start(&hosts, answers) else { return };
    let site = Site::new();
    let keys = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "planted"), ("AWS_SESSION_TOKEN", "session")];
    for (host, secret) in [(HOST, "pw"), ("public.ecr.aws", "public")] {
        let arguments = ["credential-ecr", "--host", host, "--push", "--show-secret"];
        let printed = super::helper(&site, &cloud, &arguments, &keys).success().stdout;
        let expected = format!("kind     basic\nuser     AWS\nexpires  2100-01-01T00:00:00Z\nsecret   {secret}\n");
        assert_eq!(printed, expected);
    }
    let asked = cloud.asked();
    assert_eq!(asked.iter().map(|request| request.host.as_str()).collect::<Vec<_>>(), hosts);
    for request in &asked {
        assert_eq!((request.method.as_str(), request.path.as_str(), request.body.as_str()), ("POST", "/", "{}"));
        assert_eq!(request.headers["content-type"], "application/x-amz-json-1.1");
        assert_eq!(request.headers["x-amz-security-token"], "session");
        assert_eq!(request.headers["host"], request.host);
        assert!(!format!("{request:?}").contains("planted"), "{request:?}");
    }
    // Without the flag the secret does not show.
    let printed = super::helper(&site, &cloud, &["credential-ecr", "--host", HOST], &keys).success().stdout;
    assert!(!printed.contains("pw"), "{printed}");
}

#[test]
fn a_certificate_of_nobodys_gets_nothing() {
    let Some(cloud) = Cloud::start(&["api.ecr.eu-west-1.amazonaws.com"], nobody) else { return };
    let site = Site::new();
    let program = cloud
        .seen_by(Program::new(&site.store()).natively())
        .env("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    let program = program.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", "planted");
    let refused = program.args(["plugin", "run", "credential-ecr", "--host", HOST]).run();
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("certificate"), "{}", refused.stderr);
    assert!(cloud.asked().is_empty());
}
