//! Images for several platforms: what they share, what they are written and pushed as, and what a base must have.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_tests::{
    Registry, Site,
    fault_proxy::{Fault, FaultProxy},
    run,
};
use serde_json::Value;

const BOTH: &str = "linux/amd64,linux/arm64";

/// A stage for this machine that differs only in its last step, and an image on a base that has both platforms.
const SHARED: &str = "FROM --platform=$BUILDPLATFORM base AS build
RUN cat /proc/sys/kernel/random/uuid >/unique
ARG TARGETARCH
RUN echo $TARGETARCH >/architecture
FROM base
COPY --from=build /unique /architecture /
";

fn site() -> Option<Site> {
    let site = Site::with_base("platforms")?;
    site.dockerfile(SHARED);
    Some(site)
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn json(file: &Path) -> Value {
    serde_json::from_str(&read(file)).expect("JSON")
}

fn blob(layout: &Path, digest: &Value) -> PathBuf {
    layout.join("blobs").join(digest.as_str().expect("a digest").replace(':', "/"))
}

/// Platforms of an index's entries, in its order.
fn platforms(index: &Value) -> Vec<String> {
    let entries = index["manifests"].as_array().expect("an index");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|entry| text(&entry["platform"]["os"]) + "/" + &text(&entry["platform"]["architecture"]))
        .collect()
}

#[test]
fn what_platforms_share_is_done_once_and_each_has_its_files() {
    let Some(site) = site() else { return };
    let files = site.path().join("files");
    site.build(&["--platform", "linux/arm64", "--platform", BOTH, "-o", "files", "-o", "type=tar,dest=files.tar"])
        .success();
    let read = |name: &str| read(&files.join(name));
    assert_eq!(read("linux_amd64/unique"), read("linux_arm64/unique"));
    assert_eq!([read("linux_amd64/architecture"), read("linux_arm64/architecture")], ["amd64\n", "arm64\n"]);
    let busybox = |platform: &str| fs::read(files.join(platform).join("bin/busybox")).expect("a base's file");
    // e_machine of elf.h.
    assert_eq!([busybox("linux_amd64")[18], busybox("linux_arm64")[18]], [62, 183]);
    let listed = run(Command::new("tar").arg("-tf").arg(site.path().join("files.tar"))).success().stdout;
    for name in ["linux_amd64/architecture", "linux_arm64/architecture", "linux_arm64/bin/busybox"] {
        assert!(listed.lines().any(|line| line == name), "{name} in\n{listed}");
    }
    // Nothing is left to do, for either alone too.
    for (platform, said) in
        [(BOTH, "4 steps, 2 cached"), ("linux/amd64", "2 steps, 1 cached"), ("linux/arm64", "2 steps, 1 cached")]
    {
        let again = site.build(&["--platform", platform]).success();
        assert!(again.stderr.contains(said), "{}", again.stderr);
    }
}

#[test]
fn an_index_is_written_as_a_layout_with_its_digest_in_every_record() {
    let Some(site) = site() else { return };
    let place = site.path().to_path_buf();
    let arguments = "--platform linux/arm64,linux/amd64 -t reg.example/app:1 -o type=oci,dest=layout,tar=false \
                     -o type=oci,dest=archive.tar --iidfile id --metadata-file metadata --digest-file digest";
    let built = site.build(&arguments.split_whitespace().collect::<Vec<_>>()).success();
    let layout = place.join("layout");
    let entry = json(&layout.join("index.json"))["manifests"][0].clone();
    assert_eq!(entry["mediaType"], "application/vnd.oci.image.index.v1+json");
    let digest = built.digest();
    assert_eq!([&entry["digest"], &json(&place.join("metadata"))["containerimage.digest"]], [&digest, &digest]);
    assert_eq!([read(&place.join("id")), read(&place.join("digest"))], [digest.clone(), digest]);
    assert_eq!(json(&place.join("metadata"))["containerimage.config.digest"], Value::Null);
    let index = json(&blob(&layout, &entry["digest"]));
    assert_eq!(platforms(&index), ["linux/arm64", "linux/amd64"]);
    for (entry, architecture) in index["manifests"].as_array().expect("two").iter().zip(["arm64", "amd64"]) {
        let manifest = json(&blob(&layout, &entry["digest"]));
        let config = json(&blob(&layout, &manifest["config"]["digest"]));
        assert_eq!(config["architecture"], architecture);
        for layer in manifest["layers"].as_array().expect("layers") {
            assert!(blob(&layout, &layer["digest"]).exists());
        }
    }
    let unpacked = place.join("unpacked");
    fs::create_dir(&unpacked).expect("writable");
    run(Command::new("tar").arg("-xf").arg(place.join("archive.tar")).arg("-C").arg(&unpacked)).success();
    run(Command::new("diff").arg("-r").args([&layout, &unpacked])).success();
}

#[test]
fn a_docker_archive_takes_one_platform() {
    let site = Site::new();
    site.dockerfile("FROM scratch\nCOPY Dockerfile /\n");
    let built = site.build(&["--platform", BOTH, "-o", "type=docker,dest=image.tar"]);
    assert_eq!(built.code, 2, "{}", built.stderr);
    assert!(built.stderr.contains("type=oci"), "{}", built.stderr);
    assert!(!site.path().join("image.tar").exists());
}

#[test]
fn a_base_without_a_platform_says_which_it_has() {
    let Some(site) = site() else { return };
    let built = site.build(&["--platform", "linux/amd64,linux/s390x"]);
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert!(built.stderr.contains("no image for linux/s390x; there is linux/amd64, linux/arm64"), "{}", built.stderr);
    // An image without an index is for one platform.
    let Some(site) = Site::with_base("alpine") else { return };
    site.dockerfile("FROM base\n");
    let built = site.build(&["--platform", BOTH]);
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert!(built.stderr.contains("no image for linux/arm64; there is linux/amd64"), "{}", built.stderr);
}

#[test]
fn manifests_are_sent_first_then_the_index_and_the_tags_last() {
    let (Some(site), Some(registry)) = (site(), Registry::open()) else { return };
    let proxy = FaultProxy::start(Some(registry.port()), |_, _| Fault::None);
    let (one, two) = (format!("{}/app:1", proxy.host()), format!("{}/app:2", proxy.host()));
    let built = site
        .build(&["--platform", BOTH, "--push", "-t", &one, "-t", &two, "--insecure-registry", &proxy.host()])
        .success();
    let put = |request: &&cofferdam_tests::fault_proxy::Request| {
        request.method == "PUT" && request.path.contains("/manifests/")
    };
    let puts: Vec<String> = proxy.requests().iter().filter(put).map(|request| request.path.clone()).collect();
    let index = registry.manifest("app:1").expect("an index");
    assert_eq!(platforms(&index), ["linux/amd64", "linux/arm64"]);
    let manifests = index["manifests"].as_array().expect("two").iter();
    let mut expected: Vec<String> =
        manifests.map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect();
    expected.extend([built.digest(), "1".to_owned(), "2".to_owned()]);
    let expected: Vec<String> = expected.iter().map(|name| format!("/v2/app/manifests/{name}")).collect();
    assert_eq!(puts, expected);
}

#[test]
fn no_tag_moves_when_an_index_is_refused() {
    let (Some(site), Some(registry)) = (site(), Registry::open()) else { return };
    let proxy = FaultProxy::start(Some(registry.port()), |request, _| {
        let is_index = request.header("content-type").is_some_and(|kind| kind.contains("index"));
        if request.method == "PUT" && is_index { Fault::status(400, "no") } else { Fault::None }
    });
    let name = format!("{}/app:1", proxy.host());
    let built = site.build(&["--platform", BOTH, "--push", "-t", &name, "--insecure-registry", &proxy.host()]);
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert_eq!(registry.tags("app").expect("skopeo"), Vec::<String>::new());
}
