//! Objects in S3, from moto, which checks signatures with Amazon's own library; and from servers that are not where one asks.

use std::path::Path;

use cofferdam_tests::{
    Cloud, CloudAnswer, Moto, Program,
    fault_proxy::{Fault, FaultProxy},
};

use crate::scene::{Scene, check_everywhere, check_packed, packed, refused};

/// moto with the bucket `bucket` and users: one that may read it, one that may not; and a role.
struct Account {
    moto: Moto,
    id: String,
    secret: String,
    other_id: String,
    other_secret: String,
    role: String,
}

/// How many requests [`Account::new`] sends, without those for objects.
const SETUP: u32 = 9;

impl Account {
    /// The bucket has these files of a directory, under keys; `unchecked` more requests are not checked afterwards.
    fn new(files: &[(&str, &Path)], unchecked: u32) -> Option<Self> {
        let moto = Moto::start(SETUP + u32::try_from(files.len()).expect("few") + unchecked)?;
        let put = files.iter().map(|(key, file)| {
            format!("s3.put_object(Bucket='bucket', Key={key:?}, Body=open({file:?}, 'rb').read())\n")
        });
        let printed = moto.python(&format!(
            "s3, iam = client('s3'), client('iam')
s3.create_bucket(Bucket='bucket', CreateBucketConfiguration={{'LocationConstraint': 'eu-west-1'}})
{}may = json.dumps({{'Version': '2012-10-17', 'Statement': [{{'Effect': 'Allow', 'Action': ['s3:*'], 'Resource': '*'}}]}})
trust = json.dumps({{'Version': '2012-10-17', 'Statement': [{{'Effect': 'Allow', 'Principal': {{'Federated': 'x'}}, 'Action': 'sts:AssumeRoleWithWebIdentity'}}]}})
role = iam.create_role(RoleName='ci', AssumeRolePolicyDocument=trust)['Role']['Arn']
iam.put_role_policy(RoleName='ci', PolicyName='may', PolicyDocument=may)
iam.create_user(UserName='reader')
iam.put_user_policy(UserName='reader', PolicyName='may', PolicyDocument=may)
iam.create_user(UserName='stranger')
keys = [iam.create_access_key(UserName=name)['AccessKey'] for name in ('reader', 'stranger')]
print(*(word for key in keys for word in (key['AccessKeyId'], key['SecretAccessKey'])), role)",
            put.collect::<String>()
        ));
        let mut words = printed.split_whitespace().map(str::to_owned);
        let mut next = || words.next().expect("five words");
        let (id, secret, other_id, other_secret, role) = (next(), next(), next(), next(), next());
        Some(Self { moto, id, secret, other_id, other_secret, role })
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.moto.host())
    }

    /// Lets a program reach moto, with the reader's keys.
    fn seen_by(&self, program: Program) -> Program {
        let program = program.env("S3_ENDPOINT", self.endpoint()).env("S3_FORCE_PATH_STYLE", "true");
        let program = program.env("AWS_REGION", "eu-west-1").env("AWS_EC2_METADATA_DISABLED", "true");
        program.env("AWS_ACCESS_KEY_ID", &self.id).env("AWS_SECRET_ACCESS_KEY", &self.secret)
    }
}

#[test]
fn objects_are_contexts_at_both_doors() {
    let scene = Scene::new();
    packed(&scene, "--gzip");
    let file = scene.place.path().join("packed.tar");
    let keys = [("dir/a b+ü.tar.gz", &*file), ("context.tar.gz", &*file)];
    let Some(account) = Account::new(&keys, 0) else { return };
    let docker = |context: &str| account.seen_by(scene.docker(&[], context));
    for written in ["s3://bucket/dir/a b+ü.tar.gz", "s3://bucket/dir/a%20b%2B%C3%BC.tar.gz", "s3://bucket"] {
        check_packed(&scene.image(docker(written)));
    }
    check_everywhere(&scene, "s3://bucket/dir/a b+ü.tar.gz", |program| account.seen_by(program));
    check_packed(&scene.image(account.seen_by(scene.kaniko(&["--bucket", "s3://bucket/context.tar.gz"]))));
}

#[test]
fn a_refusal_says_what_to_do_and_no_secret() {
    let scene = Scene::new();
    packed(&scene, "--gzip");
    let file = scene.place.path().join("packed.tar");
    std::fs::write(scene.place.path().join("empty"), "").expect("writable");
    std::fs::write(scene.place.path().join("noise"), cofferdam_tests::noise(5000, 3)).expect("writable");
    let whole = std::fs::read(&file).expect("readable");
    std::fs::write(scene.place.path().join("cut"), &whole[..whole.len() / 2]).expect("writable");
    let place = |name: &str| scene.place.path().join(name);
    let (empty, noise, cut) = (place("empty"), place("noise"), place("cut"));
    let keys = [("k.tar.gz", &*file), ("empty", &*empty), ("noise", &*noise), ("cut.tar.gz", &*cut)];
    let Some(account) = Account::new(&keys, 0) else { return };
    let docker = |context: &str| account.seen_by(scene.docker(&[], context));
    for (context, says) in [
        (
            "s3://bucket/gone.tar.gz",
            ["`s3://bucket/gone.tar.gz` can't be fetched", "404 Not Found (NoSuchKey", "check the object's name"],
        ),
        ("s3://no-bucket/k", ["404 Not Found (NoSuchBucket", "check the bucket's name", "the server's address"]),
        ("s3://bucket/empty", ["`s3://bucket/empty`", "can't be unpacked", "it is empty"]),
        ("s3://bucket/noise", ["`s3://bucket/noise`", "neither a tar archive", "nor a Dockerfile"]),
        ("s3://bucket/cut.tar.gz", ["`s3://bucket/cut.tar.gz`", "can't be unpacked", "too early"]),
        ("s3://bucket/a//b", ["`s3://bucket/a//b`", "can't be asked for", "another name"]),
        ("s3://Bucket Name/k", ["`s3://Bucket Name/k`", "names no bucket", "s3://BUCKET/KEY"]),
    ] {
        refused(docker(context), &says);
    }
    let context = "s3://bucket/k.tar.gz";
    let wrong = refused(
        docker(context).env("AWS_SECRET_ACCESS_KEY", "wr0ng-s3cret"),
        &["403 Forbidden (SignatureDoesNotMatch", "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"],
    );
    assert!(!wrong.stderr.contains("s3cret"), "{}", wrong.stderr);
    let stranger = docker(context).env("AWS_ACCESS_KEY_ID", &account.other_id);
    let stranger = stranger.env("AWS_SECRET_ACCESS_KEY", &account.other_secret);
    refused(stranger, &["403 Forbidden (AccessDenied", "that they may read the object"]);
    let nobody = docker(context).env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    refused(nobody, &["there are no credentials", "AWS_WEB_IDENTITY_TOKEN_FILE"]);
    refused(
        docker(context).env("S3_ENDPOINT", "ftp://x"),
        &["`ftp://x` is not the address of an S3 server (S3_ENDPOINT)"],
    );
    refused(docker(context).env("AWS_REGION", "eu west"), &["`eu west` is not a region"]);
    refused(docker(context).env("AWS_PROFILE", "gone"), &["no file of AWS's has keys for the profile `gone`"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    refused(docker(context).env("S3_ENDPOINT", format!("http://{closed}")), &[&format!("can't connect to `{closed}`")]);
    let limited = account.seen_by(scene.docker(&["--layer-limit", "10"], context));
    refused(limited, &["`s3://bucket/k.tar.gz` has more than 10 bytes, unpacked"]);
}

#[test]
fn every_source_of_credentials_opens_a_bucket() {
    let scene = Scene::new();
    packed(&scene, "--zstd");
    let file = scene.place.path().join("packed.tar");
    // The token service is asked once without a signature.
    let Some(account) = Account::new(&[("k", &*file)], 1) else { return };
    let program = || account.seen_by(scene.docker(&[], "s3://bucket/k"));
    let without_keys = || program().env("AWS_ACCESS_KEY_ID", "").env("AWS_SECRET_ACCESS_KEY", "");
    let at = |name: &str| scene.place.path().join(name);
    std::fs::write(at("token"), "a.web.token\n").expect("writable");
    let role = || without_keys().env("AWS_ROLE_ARN", &account.role).env("AWS_ENDPOINT_URL_STS", account.endpoint());
    check_packed(&scene.image(role().env("AWS_WEB_IDENTITY_TOKEN_FILE", at("token"))));
    refused(role().env("AWS_WEB_IDENTITY_TOKEN_FILE", at("gone")), &["gone", "check AWS_ROLE_ARN"]);

    let keys = format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", account.id, account.secret);
    std::fs::create_dir(at(".aws")).expect("writable");
    std::fs::write(at(".aws/credentials"), format!("[default]\n{keys}[ci]\n{keys}")).expect("writable");
    std::fs::write(at(".aws/config"), "[default]\nregion = eu-west-1\n[profile sso]\nsso_session = x\n")
        .expect("writable");
    let home = || without_keys().env("HOME", scene.place.path()).env("AWS_REGION", "");
    check_packed(&scene.image(home()));
    check_packed(&scene.image(home().env("AWS_PROFILE", "ci")));
    refused(
        home().env("AWS_PROFILE", "sso"),
        &["the profile `sso` gets them by `sso_session`, which is not done here"],
    );

    // A pod's agent, and the metadata service of a machine, version 2.
    let document = format!("{{\"AccessKeyId\":\"{}\",\"SecretAccessKey\":\"{}\"}}", account.id, account.secret);
    let agent = FaultProxy::start(None, move |request, _| {
        let json = |text: &str| Fault::with_header(200, "content-type", "application/json", text);
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/credentials") if request.header("authorization") == Some("a.web.token") => json(&document),
            ("PUT", "/latest/api/token") => Fault::status(200, "session\n"),
            ("GET", path) if request.header("x-aws-ec2-metadata-token") == Some("session") => match path {
                "/latest/meta-data/iam/security-credentials/" => Fault::status(200, "ci\n"),
                "/latest/meta-data/iam/security-credentials/ci" => json(&document),
                _ => Fault::status(404, ""),
            },
            ("GET", "/nonsense") => Fault::status(200, "<html>"),
            _ => Fault::status(401, "{\"message\": \"no\"}"),
        }
    });
    let pod =
        |path: &str| without_keys().env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}{path}", agent.host()));
    let with_file = |file: &str| pod("/v1/credentials").env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", at(file));
    check_packed(&scene.image(with_file("token")));
    check_packed(&scene.image(pod("/v1/credentials").env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a.web.token")));
    refused(with_file("gone"), &["there is no file", "gone", "check AWS_CONTAINER_CREDENTIALS_FULL_URI"]);
    std::fs::write(at("two"), "a\nb").expect("writable");
    refused(with_file("two"), &["a token has characters that none has"]);
    refused(pod("/v1/credentials"), &["/v1/credentials` answers 401", "there are no credentials"]);
    refused(pod("/nonsense"), &["the answer has no keys"]);
    let machine = |host: &str| {
        let program = without_keys().env("AWS_EC2_METADATA_DISABLED", "");
        program.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://{host}"))
    };
    check_packed(&scene.image(machine(&agent.host())));
    let none = FaultProxy::start(None, |_, _| Fault::status(404, ""));
    refused(machine(&none.host()), &["403 Forbidden", "there are no credentials, and not everybody may read it"]);
    // What no key, token or address can be ends in a message.
    refused(program().env("AWS_ACCESS_KEY_ID", "a\u{7}b"), &["has characters that none has"]);
    refused(program().env("AWS_SESSION_TOKEN", "a b"), &["has characters that none has"]);
    for name in ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL_STS"] {
        let program = without_keys().env("AWS_EC2_METADATA_DISABLED", "").env(name, "not an address");
        let program = match name {
            "AWS_ENDPOINT_URL_STS" => program.env("AWS_ROLE_ARN", "x").env("AWS_WEB_IDENTITY_TOKEN_FILE", at("token")),
            _ => program,
        };
        refused(program, &[&format!("`not an address` is not the address of a server ({name})")]);
    }
    refused(
        pod("/x").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.org/x"),
        &["`http://example.org/x` is not asked for credentials: use https://"],
    );
}

#[test]
fn a_bucket_elsewhere_is_found() {
    let scene = Scene::new();
    let archive = packed(&scene, "--gzip");
    let hosts =
        ["bucket.s3.us-east-1.amazonaws.com", "bucket.s3.eu-north-1.amazonaws.com", "loop.s3.us-east-1.amazonaws.com"];
    let cloud = Cloud::start(&hosts, |request| {
        let elsewhere = |region: &str| CloudAnswer {
            status: 301,
            headers: vec![format!("x-amz-bucket-region: {region}")],
            body: "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>".to_owned(),
        };
        match request.host.split('.').nth(2) {
            Some("eu-north-1") => {
                let signed = request.headers["authorization"].contains("/eu-north-1/s3/aws4_request");
                CloudAnswer::new(if signed { 200 } else { 400 }, "FROM scratch\nCOPY <<E /there\nE\n")
            }
            _ if request.host.starts_with("loop.") => elsewhere("us-east-1"),
            _ => elsewhere("eu-north-1"),
        }
    });
    let Some(cloud) = cloud else { return };
    let program = |context: &str| {
        let program = cloud.seen_by(scene.docker(&[], context)).natively();
        program.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret")
    };
    assert!(scene.image(program("s3://bucket/k")).has("/there"));
    assert_eq!(cloud.asked().len(), 2);
    refused(program("s3://loop/k"), &["`s3://loop/k` can't be fetched", "301"]);
    drop(archive);
}

#[test]
fn servers_that_fail_are_asked_again_and_a_download_goes_on_where_it_broke() {
    let scene = Scene::new();
    std::fs::create_dir_all(scene.place.path().join("tree/service")).expect("writable");
    let noise = cofferdam_tests::noise(3_000_000, 7);
    std::fs::write(scene.place.path().join("tree/noise"), &noise).expect("writable");
    std::fs::write(scene.place.path().join("tree/Dockerfile"), "FROM scratch\nCOPY noise /\n").expect("writable");
    packed(&scene, "--no-auto-compress");
    let file = scene.place.path().join("packed.tar");
    let Some(account) = Account::new(&[("k", &*file)], 0) else { return };
    let build = |server: &FaultProxy| {
        account
            .seen_by(scene.docker(&["--registry-timeout", "3"], "s3://bucket/k"))
            .env("S3_ENDPOINT", format!("http://{}", server.host()))
    };
    let behind =
        |decide: fn(usize) -> Fault| FaultProxy::start(Some(account.moto.port()), move |_, number| decide(number));
    let check = |server: &FaultProxy, ranges: usize| {
        let image = scene.image(build(server));
        assert_eq!(std::fs::read(image.root().join("noise")).expect("there"), noise);
        let requests = server.requests();
        let found =
            requests.iter().filter(|request| request.header("range").is_some() && request.header("if-match").is_some());
        assert_eq!(found.count(), ranges, "{requests:?}");
    };
    check(&behind(|number| if number < 2 { Fault::CutAnswer(1_000_000) } else { Fault::None }), 2);
    check(&behind(|number| if number == 0 { Fault::StallAnswer(1_000_000) } else { Fault::None }), 1);
    check(&behind(|number| if number == 0 { Fault::status(503, "<Code>SlowDown</Code>") } else { Fault::None }), 0);
    check(&behind(|number| if number == 0 { Fault::Reset } else { Fault::None }), 0);
    let always = behind(|_| Fault::CutAnswer(1000));
    refused(build(&always), &["`s3://bucket/k` was not received whole"]);
    let down = behind(|_| Fault::status(500, "<Error><Code>InternalError</Code></Error>"));
    refused(build(&down), &["500 Internal Server Error (InternalError)", "build again later"]);
    assert_eq!(down.requests().len(), 4);
    // Another object took the place of the first one meanwhile.
    let changed = behind(|number| match number {
        0 => Fault::CutAnswer(1_000_000),
        _ => Fault::Answer(412, Vec::new(), b"<Error><Code>PreconditionFailed</Code></Error>".to_vec()),
    });
    refused(build(&changed), &["changed meanwhile"]);
}

#[test]
fn an_object_beyond_the_limit_is_not_begun_and_redirects_are_not_followed() {
    let scene = Scene::new();
    let program = |server: &FaultProxy| {
        let program = scene.docker(&[], "s3://bucket/k").env("S3_ENDPOINT", format!("http://{}", server.host()));
        program.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret")
    };
    let huge = FaultProxy::start(None, |_, _| Fault::with_header(200, "content-length", "99999999999999", ""));
    refused(program(&huge), &["`s3://bucket/k` has more than 68719476736 bytes"]);
    let away =
        FaultProxy::start(None, |_, _| Fault::with_header(302, "location", "http://169.254.169.254/x?sig=s3cret", ""));
    let said = refused(program(&away), &["redirects to `http://169.254.169.254/x?sig=…`"]);
    assert!(!said.stderr.contains("s3cret"));
    let own = scene.docker(&[], "s3://bucket/k").env("S3_ENDPOINT", "http://169.254.169.254");
    refused(own.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "secret"), &["link-local"]);
    let odd = FaultProxy::start(None, |_, _| Fault::with_header(200, "last-modified", "yesterday", "hello"));
    refused(program(&odd), &["`s3://bucket/k` can't be fetched: the store's answer makes no sense"]);
    // The operator's policy counts for stores, too.
    let policy = scene.place.path().join("policy.toml");
    std::fs::write(&policy, "[sources]\nfetch = [\"*.corp.example\"]\n").expect("writable");
    let before = huge.requests().len();
    let program = program(&huge).args(["--policy", policy.to_str().expect("UTF-8")]);
    refused(program, &["the policy does not let", &huge.host()]);
    assert_eq!(huge.requests().len(), before);
}
