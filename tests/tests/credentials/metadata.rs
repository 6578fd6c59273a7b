//! The metadata address, in a network of the test's own in which it belongs to moto.

use std::{fs, process::Command};

use cofferdam_tests::{Moto, Site, binary, run, tool};

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// Runs the lines of a shell in a network with nothing but the metadata address, port 80 of which is moto's.
fn within(site: &Site, script: &str) -> Option<cofferdam_tests::Finished> {
    let (unshare, _) = (tool("unshare")?, tool("ip")?);
    let modules = Moto::modules()?;
    let script = format!(
        "set -e
ip link set lo up
ip addr add 169.254.169.254/32 dev lo
PYTHONPATH={} python3 -m moto.server -H 0.0.0.0 -p 80 >moto.log 2>&1 &
moto=$!
trap 'kill $moto' EXIT
for attempt in $(seq 300); do python3 -c 'import socket; socket.create_connection((\"169.254.169.254\", 80))' 2>/dev/null && break; sleep 0.2; done
unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy
run() {{ env -i PATH=/usr/bin:/bin HOME=/nonexistent COFFERDAM_STORE={} AWS_ENDPOINT_URL_ECR=http://127.0.0.1 \"$@\"; }}
helper() {{ run {} plugin run credential-ecr --host {HOST} \"$@\"; }}
grant='--allow-plugin credential-ecr:http:127.0.0.1:80'
{script}",
        modules.display(),
        site.store().display(),
        binary().display(),
    );
    let file = site.path().join("script");
    fs::write(&file, script).expect("writable");
    let mut command = Command::new(unshare);
    Some(run(command.args(["--user", "--map-root-user", "--net", "sh"]).arg(file).current_dir(site.path())))
}

#[test]
fn a_machines_role_is_had_by_the_second_version_and_only_if_it_is_granted() {
    let site = Site::new();
    let wanted = {
        let manifest = cofferdam_tests::repository_root().join("plugins/credential-ecr/plugin.toml");
        let manifest = fs::read_to_string(manifest).expect("there");
        let (_, list) = manifest.split_once("capabilities = ").expect("a list");
        list.split_once(']').expect("its end").0.replace("    \"metadata\",\n", "")
    };
    fs::write(site.path().join("policy.toml"), format!("[plugins.credential-ecr]\nallow = {wanted}]\n"))
        .expect("writable");
    let script = "helper --push --show-secret $grant --audit-log audit
! helper --push $grant --policy policy.toml 2>push
! helper $grant --policy policy.toml 2>pull
# A proxy must not be asked for this address.
HTTP_PROXY=http://127.0.0.1:1 helper $grant >/dev/null";
    let Some(done) = within(&site, script) else { return };
    let done = done.success();
    assert!(
        done.stdout.contains("user     AWS\n") && done.stdout.contains("secret   123456789012-auth-token"),
        "{}",
        done.stdout
    );
    let read = |name: &str| fs::read_to_string(site.path().join(name)).expect("written");
    let log = read("audit");
    for (capability, detail) in [
        ("metadata", "PUT http://169.254.169.254/latest/api/token"),
        ("metadata", "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
        ("http:127.0.0.1:80", "POST http://127.0.0.1/"),
    ] {
        assert!(log.contains(&format!("\"capability\":\"{capability}\",\"detail\":\"{detail}\"")), "{detail}: {log}");
    }
    let push = read("push");
    assert!(push.contains("was denied `metadata`") && push.contains("also = [\"metadata\"]"), "{push}");
    let pull = read("pull");
    assert!(pull.contains("has no credential") && !pull.contains("denied"), "{pull}");
}
