//! What is said about an image beside it: where it is stored, what it says, and that others can read it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cofferdam_tests::{
    GitDaemon, Program, Registry, Repositories, Site, binary, cargo,
    fault_proxy::{Fault, FaultProxy},
    run, skip,
};
use serde_json::{Value, json};

const DOCKERFILE: &str = "FROM base AS build
ARG VERSION=0
RUN echo $VERSION >/version
FROM base
COPY --from=build /version /
COPY package.json /srv/node_modules/left/
";

fn site() -> Option<Site> {
    let site = Site::with_base("alpine")?;
    site.dockerfile(DOCKERFILE);
    site.file("package.json", r#"{"name":"left","version":"1.2.3","license":"MIT"}"#);
    Some(site)
}

/// A build that says so much, into an OCI layout: the digest of the index, and the layout.
#[track_caller]
fn layout(site: &Site, name: &str, arguments: &[&str]) -> (String, PathBuf) {
    let output = format!("type=oci,tar=false,dest={name}");
    let built = site.build(&[arguments, &["-o", &output]].concat()).success();
    (built.digest(), site.path().join(name))
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let digest = digest.as_str().expect("a digest");
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    serde_json::from_slice(&fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        .expect("JSON")
}

/// The image's descriptor, and its statements by type, of an index with one image.
#[track_caller]
fn statements(layout: &Path, index: &str) -> (Value, Vec<(String, Value)>) {
    let index = blob(layout, &json!(index));
    let [image, attestation] = &index["manifests"].as_array().expect("an index")[..] else { panic!("{index}") };
    assert_eq!(attestation["platform"], json!({"architecture": "unknown", "os": "unknown"}));
    assert_eq!(attestation["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
    assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], image["digest"]);
    let manifest = blob(layout, &attestation["digest"]);
    let statement = |layer: &Value| {
        assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
        let kind = layer["annotations"]["in-toto.io/predicate-type"].as_str().expect("a type").to_owned();
        let statement = blob(layout, &layer["digest"]);
        assert_eq!(statement["predicateType"], kind.as_str());
        assert_eq!(
            format!("sha256:{}", statement["subject"][0]["digest"]["sha256"].as_str().unwrap()),
            image["digest"]
        );
        (kind, statement)
    };
    (image.clone(), manifest["layers"].as_array().expect("layers").iter().map(statement).collect())
}

const SLSA: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";

#[test]
fn least_provenance_names_base_and_plugins_and_no_values() {
    let Some(site) = site() else { return };
    let secret = ["--build-arg", "VERSION=hunter2", "--label", "l=hunter3", "--secret", "id=s,src=context/Dockerfile"];
    let (digest, layout) = layout(&site, "out", &[&secret[..], &["--provenance=true"]].concat());
    let (_, found) = statements(&layout, &digest);
    let [(kind, statement)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(kind, SLSA);
    let text = statement.to_string();
    for hidden in ["hunter2", "hunter3", "context/Dockerfile", site.path().to_str().unwrap(), "RUN echo"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    let definition = &statement["predicate"]["buildDefinition"];
    let [base] = &definition["resolvedDependencies"].as_array().unwrap()[..] else { panic!("{definition}") };
    assert!(base["uri"].as_str().unwrap().starts_with("pkg:oci/base?platform=linux%2F"), "{base}");
    assert_eq!(base["digest"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(definition["externalParameters"]["configSource"], json!({"path": "Dockerfile"}));
    let details = &statement["predicate"]["runDetails"];
    let plugins = details["builder"]["builderDependencies"].as_array().unwrap();
    let names: Vec<&str> = plugins.iter().map(|plugin| plugin["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["instruction-copy", "instruction-run"]);
    let sums = fs::read_to_string(cofferdam_tests::repository_root().join("plugins/prebuilt/SHA256SUMS")).unwrap();
    for plugin in plugins {
        let line =
            format!("{}  {}.wasm", plugin["digest"]["sha256"].as_str().unwrap(), plugin["name"].as_str().unwrap());
        assert!(sums.contains(&line), "{line}");
    }
    assert_eq!(details["metadata"]["buildkit_completeness"]["request"], false);
    assert!(details["metadata"].get("startedOn").is_none());
}

#[test]
fn most_provenance_has_arguments_steps_and_the_dockerfile() {
    let Some(site) = site() else { return };
    let arguments = [
        "--build-arg=VERSION=7",
        "--build-arg=HTTP_PROXY=http://u:hunter2@x.example",
        "--secret=id=s,src=context/Dockerfile",
        "--attest=type=provenance,mode=max,builder-id=https://ci.example/run/1,reproducible=true",
    ];
    let (digest, layout) = layout(&site, "out", &arguments);
    let (_, found) = statements(&layout, &digest);
    let predicate = &found[0].1["predicate"];
    assert!(!predicate.to_string().contains("hunter2"));
    let definition = &predicate["buildDefinition"];
    let request = &definition["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:VERSION"], "7");
    assert_eq!(request["secrets"], json!([{"id": "s", "optional": true}]));
    let stages = definition["internalParameters"]["buildConfig"]["stages"].as_array().unwrap();
    assert_eq!(stages[0]["name"], "build");
    assert_eq!(stages[1]["steps"][1], json!({"instruction": "COPY --from=build /version /", "line": 5}));
    let details = &predicate["runDetails"];
    assert_eq!(details["builder"]["id"], "https://ci.example/run/1");
    assert_eq!(details["metadata"]["buildkit_reproducible"], true);
    let source = &details["metadata"]["buildkit_metadata"]["source"]["infos"][0];
    assert_eq!(
        (&source["filename"], source["data"].as_str().map(str::len)),
        (&json!("Dockerfile"), Some(DOCKERFILE.len().div_ceil(3) * 4))
    );
}

#[test]
fn what_was_fetched_is_named_with_commit_and_checksum_and_without_passwords() {
    let (Some(site), Some(repositories)) = (site(), Repositories::new()) else { return };
    let daemon = GitDaemon::start(&repositories);
    let server = FaultProxy::start(None, |_, _| Fault::with_header(200, "ETag", "\"v\"", "content"));
    let (git, http) = (format!("git://{}/app", daemon.host()), server.host());
    let dockerfile = format!("FROM scratch\nADD http://u:hunter2@{http}/f?signature=hunter3 /f\nADD {git}#main:d /d\n");
    let commit = repositories.commit("app", &[("d/Dockerfile", dockerfile.as_str())]);
    let context = format!("{git}#main:d");
    let output = ["--provenance=true", "-o", "type=oci,tar=false,dest=out", &context];
    let build = Program::called(binary(), &site.store()).args(["build"]).args(output).current_dir(site.path());
    let digest = build.run().success().digest();
    let (_, found) = statements(&site.path().join("out"), &digest);
    let text = found[0].1.to_string();
    assert!(!text.contains("hunter"), "{text}");
    let definition = &found[0].1["predicate"]["buildDefinition"];
    let sum = cofferdam_digest::Digest::of(b"content").hex();
    assert_eq!(
        definition["resolvedDependencies"],
        json!([
            { "uri": context, "digest": { "sha1": commit } },
            { "uri": format!("http://{http}/f"), "digest": { "sha256": sum } },
        ])
    );
    let source = &definition["externalParameters"]["configSource"];
    assert_eq!((&source["uri"], &source["digest"]["sha1"]), (&json!(context), &json!(commit)));
    assert_eq!(definition["externalParameters"]["request"]["locals"], json!([]));
}

#[test]
fn the_image_and_what_is_said_of_it_do_not_change_from_build_to_build() {
    let Some(site) = site() else { return };
    let (plain, _) = layout(&site, "plain", &["--provenance=false"]);
    let arguments = ["--provenance=mode=max", "--sbom=true"];
    let (first, out) = layout(&site, "first", &arguments);
    let (image, found) = statements(&out, &first);
    assert_eq!(image["digest"], plain.as_str(), "the image itself is the same");
    assert_eq!(found.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), [SPDX, SLSA]);
    // With the cache, without it, in another store, at another time and under another name.
    let again = site.build(&[&arguments[..], &["-t", "reg.example/app:2"]].concat()).success();
    // What an earlier build found of an image counts only if it is whole.
    let kept = fs::read_dir(site.store().join("cache")).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("sbom-"));
    for path in kept.collect::<Vec<_>>() {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("1.2.3", "6.6.6")).unwrap();
    }
    assert_eq!(site.build(&arguments).success().digest(), first);
    let uncached = site.build(&[&arguments[..], &["--no-cache"]].concat()).success();
    let elsewhere = site.program_of(binary(), &site.path().join("other"), &arguments).run().success();
    assert_eq!(uncached.digest(), first);
    assert_eq!(elsewhere.digest(), first);
    assert!(again.stderr.contains("cached"), "{}", again.stderr);
    let real = site.build(&[&arguments[..], &["--timestamps=real", "-o", "type=oci,tar=false,dest=real"]].concat());
    let (_, found) = statements(&site.path().join("real"), &real.success().digest());
    assert!(found[1].1["predicate"]["runDetails"]["metadata"]["startedOn"].is_string());
}

#[test]
fn a_bill_of_materials_has_what_the_layers_have() {
    let Some(site) = site() else { return };
    site.file("status", "not a database");
    site.dockerfile(&format!("{DOCKERFILE}COPY status /var/lib/dpkg/\n"));
    let built = site.build(&["--sbom=true", "-o", "type=oci,tar=false,dest=out"]).success();
    assert!(
        built.stderr.contains("nothing of `/var/lib/dpkg/status`: it is not a database of packages"),
        "{}",
        built.stderr
    );
    let (_, found) = statements(&site.path().join("out"), &built.digest());
    let packages = found[0].1["predicate"]["packages"].as_array().unwrap();
    let left = packages.iter().find(|package| package["name"] == "left").expect("the package");
    assert_eq!(left["sourceInfo"], "found in /srv/node_modules/left/package.json");
    assert_eq!(left["externalRefs"][0]["referenceLocator"], "pkg:npm/left@1.2.3");
    let error = site.build(&["--sbom=generator=docker/scout"]);
    assert_eq!(error.code, 1);
    assert!(error.stderr.contains("no scanner `docker/scout`; there are sbom-spdx"), "{}", error.stderr);
}

/// Python with the modules that scripts/install-test-tools.sh installs; `None` (reported as a skip) without them.
fn judged(script: &str, file: &Path) -> Option<String> {
    let modules = cargo().1.join("tools/attestations");
    if !modules.join("complete").is_file() {
        skip("the validators are not installed (scripts/install-test-tools.sh)");
        return None;
    }
    Some(run(Command::new("python3").args(["-c", script]).arg(file).env("PYTHONPATH", modules)).success().stdout)
}

/// Every field that is not an extension must be one that the format has.
const SLSA_JUDGE: &str = "
import json, sys
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
text = json.load(open(sys.argv[1]))
parsed = json_format.ParseDict(text, statement_pb2.Statement())
Statement.copy_from_pb(parsed).validate()
predicate = text['predicate']
metadata = predicate['runDetails']['metadata']
for key in [key for key in metadata if key.startswith('buildkit_')]:
    del metadata[key]
provenance = json_format.ParseDict(predicate, provenance_pb2.Provenance())
assert provenance.build_definition.build_type and provenance.run_details.builder.id
print('valid', len(provenance.build_definition.resolved_dependencies))
";

const SPDX_JUDGE: &str = "
import sys
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
document = parse_file(sys.argv[1])
for finding in validate_full_spdx_document(document, 'SPDX-2.3'):
    print(finding.validation_message)
print('valid', len(document.packages))
";

#[test]
fn the_documents_are_what_their_specifications_say() {
    let Some(site) = site() else { return };
    site.dockerfile(&format!("{DOCKERFILE}COPY status /var/lib/dpkg/\nCOPY METADATA /x-1.dist-info/\n"));
    site.file(
        "status",
        "Package: a\nStatus: install ok installed\nMaintainer: \"A (B)\" <a@b.example>\nArchitecture: all\nVersion: 1:2~3+x\n\
         Homepage: nowhere\nSource: b (9)\n",
    );
    site.file("METADATA", "Name: Odd_Näme\nVersion: 1\nLicense: Some words, see \"x\"\n");
    let (digest, layout) = layout(&site, "out", &["--provenance=mode=max", "--sbom=true", "--build-arg=VERSION=7"]);
    let (_, found) = statements(&layout, &digest);
    let [(_, sbom), (_, provenance)] = &found[..] else { panic!("{found:?}") };
    let (sbom_file, file) = (site.path().join("sbom.spdx.json"), site.path().join("provenance.json"));
    fs::write(&sbom_file, sbom["predicate"].to_string()).unwrap();
    fs::write(&file, provenance.to_string()).unwrap();
    let Some(said) = judged(SLSA_JUDGE, &file) else { return };
    assert_eq!(said, "valid 1\n");
    let packages = sbom["predicate"]["packages"].as_array().unwrap().len();
    assert_eq!(judged(SPDX_JUDGE, &sbom_file).unwrap(), format!("valid {packages}\n"));
}

#[test]
fn a_push_has_provenance_unless_it_is_turned_off() {
    let (Some(site), Some(registry)) = (site(), Registry::open()) else { return };
    let push = |tag: &str, arguments: &[&str]| {
        let reference = format!("{}/app:{tag}", registry.host());
        let insecure = ["--insecure-registry", &registry.host(), "-t", &reference, "--push"].map(str::to_owned);
        let arguments: Vec<&str> = insecure.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let command = site.program(&arguments).env("BUILDX_NO_DEFAULT_ATTESTATIONS", "0");
        (command.run().success().digest(), registry.manifest(&format!("app:{tag}")))
    };
    let (digest, Some(index)) = push("default", &[]) else { return };
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    // skopeo takes the image from the index, and everything with --all.
    let place = site.path().join("pulled");
    let source = format!("docker://{}/app:default", registry.host());
    for (flags, count) in [(&["copy"][..], 1), (&["copy", "--all"], 2)] {
        let _ = fs::remove_dir_all(&place);
        let target = format!("oci:{}:x", place.display());
        let arguments = [flags, &[&source, &target]].concat();
        if registry.skopeo(&arguments).is_none() {
            return;
        }
        let entry = cofferdam_tests::read_json(&place.join("index.json"))["manifests"][0].clone();
        match count {
            1 => assert_eq!(entry["digest"], index["manifests"][0]["digest"]),
            _ => {
                assert_eq!(entry["digest"], digest.as_str());
                assert_eq!(statements(&place, &digest).1[0].0, SLSA);
            }
        }
    }
    // As an artifact it names its subject, and nothing else changes.
    let (digest, Some(other)) = push("artifact", &["-o", "type=registry,oci-artifact=true"]) else { return };
    assert_eq!(other["manifests"][0], index["manifests"][0]);
    let attestation = &other["manifests"][1];
    assert_eq!(attestation["artifactType"], "application/vnd.docker.attestation.manifest.v1+json");
    let manifest: Value =
        serde_json::from_slice(&fs::read(registry.blob_file(attestation["digest"].as_str().unwrap())).unwrap())
            .unwrap();
    assert_eq!(manifest["subject"]["digest"], index["manifests"][0]["digest"]);
    assert!(digest.starts_with("sha256:"));
    // Nothing of it: the tag leads to the image itself.
    for (tag, off) in [("off", "--provenance=false"), ("off2", "--attest=type=provenance,disabled=true")] {
        let (digest, Some(manifest)) = push(tag, &[off]) else { return };
        assert_eq!(digest, index["manifests"][0]["digest"].as_str().unwrap());
        assert!(manifest["layers"].is_array());
    }
}

#[test]
fn each_platform_has_its_own_behind_all_images() {
    let Some(site) = Site::with_base("platforms") else { return };
    site.dockerfile("FROM base\nCOPY Dockerfile /\n");
    let (digest, layout) =
        layout(&site, "out", &["--platform=linux/amd64,linux/arm64", "--provenance=true", "--sbom=true"]);
    let index = blob(&layout, &json!(digest));
    let [first, second, of_first, of_second] = &index["manifests"].as_array().unwrap()[..] else { panic!("{index}") };
    let mut bases = Vec::new();
    for (image, attestation) in [(first, of_first), (second, of_second)] {
        assert_eq!(attestation["annotations"]["vnd.docker.reference.digest"], image["digest"]);
        let statement = blob(&layout, &blob(&layout, &attestation["digest"])["layers"][1]["digest"]);
        let definition = &statement["predicate"]["buildDefinition"];
        let platform = format!("linux/{}", image["platform"]["architecture"].as_str().unwrap());
        assert_eq!(definition["externalParameters"]["request"]["args"]["platform"], platform.as_str());
        bases.push(definition["resolvedDependencies"][0]["digest"].clone());
    }
    assert_ne!(bases[0], bases[1]);
}

#[test]
fn archives_and_trees_for_others_have_the_image_alone() {
    let Some(site) = site() else { return };
    let outputs = ["-o", "type=docker,dest=docker.tar", "-o", "files", "--provenance=true", "-t", "app:1"];
    site.build(&outputs).success();
    assert!(site.path().join("files/version").is_file());
    let listed = run(Command::new("tar").args(["-xOf", "docker.tar", "manifest.json"]).current_dir(site.path()));
    let manifest: Value = serde_json::from_str(&listed.success().stdout).unwrap();
    assert_eq!(manifest.as_array().map(Vec::len), Some(1));
    assert!(manifest[0]["Layers"].as_array().is_some_and(|layers| layers.len() >= 3), "{manifest}");
    let error = site.build(&["--provenance=true", "--image-format=docker"]);
    assert_eq!(error.code, 2);
    assert!(error.stderr.contains("--image-format docker"), "{}", error.stderr);
}
