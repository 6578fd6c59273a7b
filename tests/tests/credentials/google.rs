//! Google: its servers are here, look at every field, and verify the signature with openssl.

use std::{fs, path::PathBuf, process::Command};

use cofferdam_tests::{Cloud, CloudAnswer, CloudRequest, Site, run, tool};

use crate::{fields, helper, pairs};

const HOST: &str = "europe-docker.pkg.dev";
const TOKENS: &str = "oauth2.googleapis.com";
const STS: &str = "sts.googleapis.com";
const IAM: &str = "iamcredentials.googleapis.com";
const JOB: &str = "run-1.actions.githubusercontent.com";

fn answers(request: &CloudRequest) -> CloudAnswer {
    match request.host.as_str() {
        TOKENS => CloudAnswer::new(200, r#"{"access_token":"ya29","expires_in":3599}"#),
        STS => CloudAnswer::new(200, r#"{"access_token":"federated","expires_in":3600}"#),
        IAM => CloudAnswer::new(200, r#"{"accessToken":"account","expireTime":"2100-01-01T00:00:00Z"}"#),
        JOB => CloudAnswer::new(200, r#"{"value":"oidc"}"#),
        other => panic!("{other} was asked"),
    }
}

fn credentials(site: &Site, value: &serde_json::Value) -> PathBuf {
    let file = site.path().join("google.json");
    fs::write(&file, value.to_string()).expect("writable");
    file
}

/// Asks for a push; what is printed.
#[track_caller]
fn ask(site: &Site, cloud: &Cloud, value: &serde_json::Value) -> String {
    let file = credentials(site, value);
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().expect("UTF-8"))];
    let arguments = ["credential-google", "--host", HOST, "--push", "--show-secret"];
    helper(site, cloud, &arguments, &variables).success().stdout
}

#[test]
fn a_key_signs_a_statement_that_openssl_verifies() {
    let (Some(openssl), Some(cloud)) = (tool("openssl"), Cloud::start(&[TOKENS], answers)) else { return };
    let site = Site::new();
    let openssl = |arguments: &[&str]| run(Command::new(&openssl).args(arguments).current_dir(site.path())).success();
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"]);
    openssl(&["pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    let key = fs::read_to_string(site.path().join("key.pem")).expect("made");
    let account = serde_json::json!({
        "type": "service_account", "client_email": "ci@p.iam.gserviceaccount.com", "private_key_id": "k1",
        "private_key": key, "token_uri": format!("https://{TOKENS}/token"),
    });
    let printed = ask(&site, &cloud, &account);
    assert!(printed.starts_with("kind     basic\nuser     oauth2accesstoken\nexpires  "), "{printed}");
    assert!(printed.ends_with("secret   ya29\n"), "{printed}");

    let asked = cloud.asked();
    assert_eq!((asked.len(), asked[0].method.as_str(), asked[0].path.as_str()), (1, "POST", "/token"));
    assert_eq!(asked[0].headers["content-type"], "application/x-www-form-urlencoded");
    let form = fields(&asked[0].body);
    assert_eq!(form[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (text, signature) = form[1].1.rsplit_once('.').expect("three parts");
    let decode = "import base64,sys; sys.stdout.buffer.write(base64.urlsafe_b64decode(sys.argv[1] + '==='))";
    let decoded = |part: &str| {
        let output = Command::new("python3").args(["-c", decode, part]).output().expect("python3 starts");
        assert!(output.status.success());
        output.stdout
    };
    fs::write(site.path().join("signature"), decoded(signature)).expect("writable");
    fs::write(site.path().join("text"), text).expect("writable");
    openssl(&["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "text"]);
    let (header, claims) = text.split_once('.').expect("two parts");
    let json = |part: &str| serde_json::from_slice::<serde_json::Value>(&decoded(part)).expect("JSON");
    assert_eq!(json(header), serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let mut claims = json(claims);
    let times: Vec<i64> = ["iat", "exp"].iter().filter_map(|name| claims[*name].as_i64()).collect();
    assert_eq!(times[1] - times[0], 3600);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(now.abs_diff(times[0] as u64) < 300, "{times:?}");
    claims.as_object_mut().expect("an object").retain(|name, _| name != "iat" && name != "exp");
    let expected = serde_json::json!({
        "iss": "ci@p.iam.gserviceaccount.com", "aud": format!("https://{TOKENS}/token"),
        "scope": "https://www.googleapis.com/auth/cloud-platform",
    });
    assert_eq!(claims, expected);

    // A file that leads elsewhere gets no statement.
    let mut evil = account;
    evil["token_uri"] = "https://oauth2.googleapis.com.evil.example/token".into();
    let file = credentials(&site, &evil);
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().expect("UTF-8"))];
    let refused = helper(&site, &cloud, &["credential-google", "--host", HOST], &variables);
    assert!(
        refused.code == 1 && refused.stderr.contains("http:oauth2.googleapis.com.evil.example"),
        "{}",
        refused.stderr
    );
    assert_eq!((cloud.asked().len(), cloud.unknown()), (1, Vec::new()));
}

#[test]
fn a_federated_identity_is_exchanged_and_impersonates() {
    let Some(cloud) = Cloud::start(&[STS, IAM, JOB], answers) else { return };
    let site = Site::new();
    let token = site.path().join("token.json");
    fs::write(&token, r#"{"access_token":"subject"}"#).expect("writable");
    let mut account = serde_json::json!({
        "type": "external_account", "audience": "//iam.googleapis.com/projects/1/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("https://{STS}/v1/token"),
        "credential_source": {"file": token, "format": {"type": "json", "subject_token_field_name": "access_token"}},
    });
    assert!(ask(&site, &cloud, &account).ends_with("secret   federated\n"));
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", "//iam.googleapis.com/projects/1/x"),
        ("scope", "https://www.googleapis.com/auth/cloud-platform"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", "subject"),
    ];
    assert_eq!(fields(&cloud.asked()[0].body), pairs(&expected));

    // As a job of GitHub's has it.
    account["credential_source"] = serde_json::json!({
        "url": format!("https://{JOB}/token?audience=x"), "headers": {"Authorization": "Bearer job"},
        "format": {"type": "json", "subject_token_field_name": "value"},
    });
    let path = "/v1/projects/-/serviceAccounts/ci@p.iam.gserviceaccount.com:generateAccessToken";
    account["service_account_impersonation_url"] = format!("https://{IAM}{path}").into();
    let printed = ask(&site, &cloud, &account);
    assert!(printed.contains("expires  2100-01-01T00:00:00Z") && printed.ends_with("secret   account\n"), "{printed}");
    let asked = &cloud.asked()[1..];
    let seen: Vec<(&str, &str, Option<&str>)> = asked
        .iter()
        .map(|request| {
            (request.host.as_str(), request.path.as_str(), request.headers.get("authorization").map(String::as_str))
        })
        .collect();
    assert_eq!(
        seen,
        [
            (JOB, "/token?audience=x", Some("Bearer job")),
            (STS, "/v1/token", None),
            (IAM, path, Some("Bearer federated")),
        ]
    );
    assert!(fields(&asked[1].body).contains(&("subject_token".to_owned(), "oidc".to_owned())));
    assert_eq!(asked[2].body, r#"{"scope":["https://www.googleapis.com/auth/cloud-platform"]}"#);
}
