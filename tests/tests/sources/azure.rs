//! Azure's blobs, from azurite over TLS.

use cofferdam_tests::{
    Azurite, Cloud, CloudAnswer, Program,
    fault_proxy::{Fault, FaultProxy},
};

use crate::scene::{Scene, check_everywhere, check_packed, packed, refused};

const HOST: &str = "cofferdam.blob.core.windows.net";

/// azurite behind the host of its account, with the blobs of a script.
fn azurite(script: &str) -> Option<(Azurite, Cloud)> {
    let cloud = Cloud::start(&[HOST, "localhost"], |_| CloudAnswer::new(500, ""))?;
    let azurite = Azurite::start(cloud.certificates())?;
    cloud.behind(HOST, azurite.host());
    azurite.javascript(script);
    Some((azurite, cloud))
}

#[test]
fn blobs_are_contexts_at_both_doors() {
    let scene = Scene::new();
    packed(&scene, "--gzip");
    let file = scene.place.path().join("packed.tar");
    let script = format!(
        "const container = service.getContainerClient('contexts'); await container.create();
for (const name of ['dir/a b+ü.tar.gz', 'k']) await container.getBlockBlobClient(name).uploadFile({file:?});
const whole = require('fs').readFileSync({file:?});
await container.getBlockBlobClient('cut').uploadData(whole.subarray(0, whole.length / 2));
await container.getBlockBlobClient('empty').uploadData(Buffer.alloc(0));
const open = service.getContainerClient('open'); await open.create({{ access: 'blob' }});
await open.getBlockBlobClient('k').uploadFile({file:?});"
    );
    let Some((azurite, cloud)) = azurite(&script) else { return };
    let key = |program: Program| cloud.seen_by(program).natively().env("AZURE_STORAGE_ACCESS_KEY", Azurite::KEY);
    let docker = |blob: &str| key(scene.docker(&[], &format!("https://{HOST}/{blob}")));
    for written in ["contexts/dir/a b+ü.tar.gz", "contexts/dir/a%20b%2B%C3%BC.tar.gz"] {
        check_packed(&scene.image(docker(written)));
    }
    check_everywhere(&scene, &format!("https://{HOST}/contexts/k"), key);

    for (blob, says) in [
        ("contexts/gone", ["/contexts/gone` can't be fetched: 404", "BlobNotFound", "check the object's name"]),
        ("elsewhere/k", ["/elsewhere/k` can't be fetched: 404", "ContainerNotFound", "check the container's name"]),
        ("contexts/cut", ["/contexts/cut`", "can't be unpacked", "too early"]),
        ("contexts/empty", ["/contexts/empty`", "can't be unpacked", "it is empty"]),
    ] {
        refused(docker(blob), &says);
    }
    let wrong = docker("contexts/k").env("AZURE_STORAGE_ACCESS_KEY", "d3Jvbmc=");
    let wrong = refused(wrong, &["403", "AuthorizationFailure", "check AZURE_STORAGE_ACCESS_KEY"]);
    assert!(!wrong.stderr.contains("d3Jvbmc"), "{}", wrong.stderr);
    let no_key =
        refused(docker("contexts/k").env("AZURE_STORAGE_ACCESS_KEY", "%s3cret%"), &["AZURE_STORAGE_ACCESS_KEY"]);
    assert!(!no_key.stderr.contains("s3cret"), "{}", no_key.stderr);

    // A signature in the URL is a credential of its own, and stays out of every message.
    let signed = azurite.javascript(
        "const permissions = storage.BlobSASPermissions.parse('r');
const url = await service.getContainerClient('contexts').getBlobClient('k').generateSasUrl({ permissions, expiresOn: new Date(Date.now() + 3600e3) });
console.log(new URL(url).search)",
    );
    let query = signed.trim();
    let secret = query.split("sig=").nth(1).and_then(|rest| rest.split('&').next()).expect("a signature");
    let with_query = |blob: &str| cloud.seen_by(scene.docker(&[], &format!("https://{HOST}/{blob}{query}"))).natively();
    check_packed(&scene.image(with_query("contexts/k")));
    let said = refused(with_query("contexts/cut"), &["403"]);
    assert!(!said.stderr.contains(secret), "{}", said.stderr);
    let token = docker("contexts/k").env("AZURE_STORAGE_ACCESS_KEY", "").env("AZURE_STORAGE_SAS_TOKEN", query);
    check_packed(&scene.image(token));
    // What anybody may read needs nothing; what not everybody may read says what it needs.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let nobody = |blob: &str| {
        let program = docker(blob).env("AZURE_STORAGE_ACCESS_KEY", "");
        program.env("IDENTITY_ENDPOINT", format!("http://{closed}/msi/token"))
    };
    check_packed(&scene.image(nobody("open/k")));
    refused(nobody("contexts/k"), &["there are no credentials", "AZURE_STORAGE_ACCESS_KEY", "SAS"]);
}

#[test]
fn identities_of_entra_open_a_container() {
    let scene = Scene::new();
    let hosts = [HOST, "login.microsoftonline.com"];
    let cloud = Cloud::start(&hosts, |request| {
        let bearer = request.headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match (request.host.as_str(), bearer) {
            ("login.microsoftonline.com", _) if request.path == "/tenant/oauth2/v2.0/token" => {
                let body = &request.body;
                let is_known = body.contains("client_secret=s3cret") || body.contains("client_assertion=federated");
                match is_known && body.contains("client_id=client") && body.contains("storage.azure.com") {
                    true => CloudAnswer::new(200, "{\"access_token\": \"good\", \"expires_in\": 3600}"),
                    false => CloudAnswer::new(
                        401,
                        "{\"error\": \"invalid_client\", \"error_description\": \"AADSTS7000215: no\"}",
                    ),
                }
            }
            (HOST, Some("good" | "machine")) => CloudAnswer {
                status: 200,
                headers: vec!["etag: \"1\"".to_owned(), "last-modified: Tue, 14 Nov 2023 22:13:20 GMT".to_owned()],
                body: "FROM scratch\nCOPY <<E /there\nE\n".to_owned(),
            },
            _ => CloudAnswer::new(403, "<Error><Code>AuthorizationPermissionMismatch</Code></Error>"),
        }
    });
    let Some(cloud) = cloud else { return };
    let program = || cloud.seen_by(scene.docker(&[], &format!("https://{HOST}/contexts/k"))).natively();
    let principal = || program().env("AZURE_CLIENT_ID", "client").env("AZURE_TENANT_ID", "tenant");
    assert!(scene.image(principal().env("AZURE_CLIENT_SECRET", "s3cret")).has("/there"));
    let wrong = refused(
        principal().env("AZURE_CLIENT_SECRET", "wr0ng"),
        &["login.microsoftonline.com", "401 Unauthorized (invalid_client: AADSTS7000215: no)"],
    );
    assert!(!wrong.stderr.contains("wr0ng"), "{}", wrong.stderr);
    let token = scene.place.path().join("token");
    std::fs::write(&token, "federated").expect("writable");
    assert!(scene.image(principal().env("AZURE_FEDERATED_TOKEN_FILE", &token)).has("/there"));
    let identity = FaultProxy::start(None, |request, _| match request.header("metadata") {
        Some("true") if request.query.contains("storage.azure.com") => {
            let body = "{\"access_token\":\"machine\",\"expires_on\":\"4102444800\",\"token_type\":\"Bearer\",\"resource\":\"x\"}";
            Fault::with_header(200, "content-type", "application/json", body)
        }
        _ => Fault::status(400, ""),
    });
    let managed = program().env("IDENTITY_ENDPOINT", format!("http://{}/msi/token", identity.host()));
    assert!(scene.image(managed).has("/there"));
}
