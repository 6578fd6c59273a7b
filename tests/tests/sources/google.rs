//! Objects in Google Cloud Storage, from its emulator; and who asks for them, from a server that looks at tokens.

use std::process::Command;

use cofferdam_tests::{
    Cloud, CloudAnswer, GoogleStorage,
    fault_proxy::{Fault, FaultProxy},
    run, tool,
};

use crate::scene::{Scene, check_everywhere, check_packed, packed, refused};

#[test]
fn objects_are_contexts_at_both_doors() {
    let scene = Scene::new();
    packed(&scene, "--gzip");
    let Some(storage) = GoogleStorage::start() else { return };
    let file = scene.place.path().join("packed.tar");
    for key in ["dir/a%20b%2B%C3%BC.tar.gz", "context.tar.gz"] {
        storage.put(key, &file);
    }
    let whole = std::fs::read(&file).expect("readable");
    std::fs::write(scene.place.path().join("cut"), &whole[..whole.len() / 2]).expect("writable");
    storage.put("cut", &scene.place.path().join("cut"));
    let docker = |arguments: &[&str], context: &str| {
        scene.docker(arguments, context).env("STORAGE_EMULATOR_HOST", storage.host())
    };
    let kaniko = |arguments: &[&str]| {
        scene.kaniko(arguments).env("STORAGE_EMULATOR_HOST", format!("http://{}/", storage.host()))
    };
    for written in ["gs://bucket/dir/a b+ü.tar.gz", "gs://bucket/dir/a%20b%2B%C3%BC.tar.gz", "gs://bucket"] {
        check_packed(&scene.image(docker(&[], written)));
    }
    check_everywhere(&scene, "gs://bucket", |program| program.env("STORAGE_EMULATOR_HOST", storage.host()));
    check_packed(&scene.image(kaniko(&["--bucket=bucket"])));
    check_packed(&scene.image(kaniko(&["-b", "bucket/dir/a b+ü.tar.gz"])));
    refused(
        docker(&[], "gs://bucket/gone"),
        &["`gs://bucket/gone` can't be fetched: 404 Not Found", "check the object's name"],
    );
    refused(docker(&[], "gs://bucket/cut"), &["`gs://bucket/cut` can't be unpacked", "too early"]);
}

/// A server that is Google Cloud Storage but for those who have no token that begins so.
fn storage(token: &'static str) -> Option<Cloud> {
    Cloud::start(&["storage.googleapis.com", "accounts.google.com"], move |request| {
        let bearer = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match (request.host.as_str(), bearer) {
            ("accounts.google.com", _) if request.body.contains("refresh_token=r3fresh") => {
                CloudAnswer::new(200, "{\"access_token\": \"user-token\", \"expires_in\": 3600}")
            }
            ("accounts.google.com", _) => CloudAnswer::new(400, "{\"error\": \"invalid_grant\"}"),
            (_, Some(bearer)) if bearer.starts_with(token) => CloudAnswer {
                status: 200,
                headers: vec!["etag: \"1\"".to_owned(), "last-modified: Tue, 14 Nov 2023 22:13:20 GMT".to_owned()],
                body: "FROM scratch\nCOPY <<E /there\nE\n".to_owned(),
            },
            (_, Some(_)) => {
                CloudAnswer::new(403, "<Error><Code>AccessDenied</Code><Message>Access denied.</Message></Error>")
            }
            (_, None) => CloudAnswer::new(401, "<Error><Code>AuthenticationRequired</Code></Error>"),
        }
    })
}

#[test]
fn a_service_account_s_key_and_a_user_s_token_open_a_bucket() {
    let scene = Scene::new();
    // A token that the account's key signed: a JSON object in base64 begins so.
    let (Some(signed), Some(user)) = (storage("eyJ"), storage("user-token")) else { return };
    let Some(openssl) = tool("openssl") else { return };
    let key = run(Command::new(openssl).args(["genpkey", "-algorithm", "RSA"])).success().stdout;
    let at = |name: &str| scene.place.path().join(name);
    let account = serde_json::json!({
        "type": "service_account", "private_key": key, "private_key_id": "id", "client_email": "ci@project.example",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    let of_user = |refresh: &str| serde_json::json!({"type": "authorized_user", "client_id": "c", "client_secret": "s3cret", "refresh_token": refresh});
    std::fs::write(at("account.json"), account.to_string()).expect("writable");
    std::fs::create_dir_all(at(".config/gcloud")).expect("writable");
    std::fs::write(at("wrong.json"), of_user("0ther").to_string()).expect("writable");
    std::fs::write(at(".config/gcloud/application_default_credentials.json"), of_user("r3fresh").to_string())
        .expect("writable");
    std::fs::write(at("federation.json"), "{\"type\": \"external_account\"}").expect("writable");
    std::fs::write(at("broken.json"), "{\"type\": \"service_account\", \"private_key\": \"s3cret\"}")
        .expect("writable");
    let program = |cloud: &Cloud| cloud.seen_by(scene.docker(&[], "gs://bucket/k")).natively();
    let with = |cloud: &Cloud, file: &str| program(cloud).env("GOOGLE_APPLICATION_CREDENTIALS", at(file));
    assert!(scene.image(with(&signed, "account.json")).has("/there"));
    assert!(scene.image(program(&user).env("HOME", scene.place.path())).has("/there"));
    refused(
        with(&user, "account.json"),
        &["403 Forbidden (AccessDenied: Access denied.)", "check GOOGLE_APPLICATION_CREDENTIALS"],
    );
    refused(
        with(&user, "wrong.json"),
        &["accounts.google.com", "answers 400 Bad Request (invalid_grant)", "GOOGLE_APPLICATION_CREDENTIALS"],
    );
    refused(with(&user, "gone.json"), &["there is no file", "gone.json", "GOOGLE_APPLICATION_CREDENTIALS"]);
    refused(with(&user, "federation.json"), &["federation.json", "neither the key of a service account"]);
    let broken = refused(with(&user, "broken.json"), &["is damaged"]);
    assert!(!broken.stderr.contains("s3cret"), "{}", broken.stderr);
}

#[test]
fn a_machine_s_account_opens_a_bucket_and_nobody_s_what_is_everybody_s() {
    let scene = Scene::new();
    let Some(cloud) = storage("machine-token") else { return };
    let metadata = FaultProxy::start(None, |request, _| match request.header("metadata-flavor") {
        Some("Google") if request.path.ends_with("/service-accounts/default/token") => {
            let body = "{\"access_token\":\"machine-token\",\"expires_in\":3600,\"token_type\":\"Bearer\"}";
            Fault::with_header(200, "content-type", "application/json", body)
        }
        _ => Fault::status(404, ""),
    });
    let program = |host: &str| {
        let program = cloud.seen_by(scene.docker(&[], "gs://bucket/k")).natively();
        program.env("GCE_METADATA_HOST", host).env("GCE_METADATA_IP", host)
    };
    assert!(scene.image(program(&metadata.host())).has("/there"));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    refused(
        program(&nobody.to_string()),
        &["401 Unauthorized", "there are no credentials", "GOOGLE_APPLICATION_CREDENTIALS"],
    );
    let Some(open) = Cloud::start(&["storage.googleapis.com"], |request| {
        assert!(!request.headers.contains_key("authorization"));
        CloudAnswer::new(200, "FROM scratch\nCOPY <<E /there\nE\n")
    }) else {
        return;
    };
    let program = open.seen_by(scene.docker(&[], "gs://bucket/k")).natively();
    let host = nobody.to_string();
    assert!(scene.image(program.env("GCE_METADATA_HOST", &host).env("GCE_METADATA_IP", &host)).has("/there"));
}

#[test]
fn workload_identity_federation_opens_a_bucket() {
    let scene = Scene::new();
    let hosts = ["storage.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com"];
    let cloud = Cloud::start(&hosts, |request| {
        let header = |name: &str| request.headers.get(name).map(String::as_str).unwrap_or_default();
        match request.host.as_str() {
            "sts.googleapis.com"
                if request.body.contains("subject_token=subj3ct&")
                    || request.body.ends_with("subject_token=subj3ct") =>
            {
                CloudAnswer::new(200, "{\"access_token\": \"federated\", \"expires_in\": 3600}")
            }
            "sts.googleapis.com" => {
                CloudAnswer::new(400, "{\"error\": \"invalid_grant\", \"error_description\": \"bad subject\"}")
            }
            "iamcredentials.googleapis.com" if header("authorization") == "Bearer federated" => {
                CloudAnswer::new(200, "{\"accessToken\": \"impersonated\", \"expireTime\": \"2099-01-01T00:00:00Z\"}")
            }
            "storage.googleapis.com"
                if ["Bearer impersonated", "Bearer federated"].contains(&header("authorization")) =>
            {
                CloudAnswer::new(200, format!("FROM scratch\nLABEL by=\"{}\"\n", header("authorization")))
            }
            _ => CloudAnswer::new(403, "{\"error\": {\"message\": \"no permission\"}}"),
        }
    });
    let Some(cloud) = cloud else { return };
    let at = |name: &str| scene.place.path().join(name);
    let write = |name: &str, source: serde_json::Value, impersonates: bool| {
        let mut file = serde_json::json!({
            "type": "external_account",
            "audience": "//iam.googleapis.com/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": "https://sts.googleapis.com/v1/token",
            "credential_source": source,
        });
        if impersonates {
            file["service_account_impersonation_url"] =
                "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/ci@x:generateAccessToken".into();
        }
        std::fs::write(at(name), file.to_string()).expect("writable");
        cloud.seen_by(scene.docker(&[], "gs://bucket/k")).natively().env("GOOGLE_APPLICATION_CREDENTIALS", at(name))
    };
    std::fs::write(at("token"), "subj3ct\n").expect("writable");
    std::fs::write(at("token.json"), "{\"id\": \"subj3ct\"}").expect("writable");
    let file = serde_json::json!({ "file": at("token") });
    assert_eq!(scene.image(write("plain", file.clone(), false)).config("Labels")["by"], "Bearer federated");
    assert_eq!(scene.image(write("as", file, true)).config("Labels")["by"], "Bearer impersonated");
    let format = serde_json::json!({ "type": "json", "subject_token_field_name": "id" });
    let json = serde_json::json!({ "file": at("token.json"), "format": format });
    assert_eq!(scene.image(write("json", json, true)).config("Labels")["by"], "Bearer impersonated");
    let provider = FaultProxy::start(None, |request, _| match request.header("x-key") {
        Some("v") => Fault::status(200, "subj3ct"),
        _ => Fault::status(401, ""),
    });
    let url = serde_json::json!({ "url": format!("http://{}/t", provider.host()), "headers": { "X-Key": "v" } });
    assert_eq!(scene.image(write("url", url, true)).config("Labels")["by"], "Bearer impersonated");
    let gone = serde_json::json!({ "file": at("missing") });
    refused(write("gone", gone, true), &["there is no file", "credential_source"]);
    std::fs::write(at("wrong"), "0ther-s3cret").expect("writable");
    let wrong = refused(
        write("wrong.json", serde_json::json!({ "file": at("wrong") }), true),
        &["`https://sts.googleapis.com/v1/token` answers 400 Bad Request (invalid_grant: bad subject)"],
    );
    assert!(!wrong.stderr.contains("s3cret"), "{}", wrong.stderr);
    let environment = serde_json::json!({ "environment_id": "aws1" });
    refused(write("aws", environment, true), &["nor a file of workload identity federation with a `file` or `url`"]);
}
