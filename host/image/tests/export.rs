//! Exports, judged by skopeo and umoci, and read back by our own reader of layouts.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test starts other tools and makes files")]

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
};

use cofferdam_digest::Digest;
use cofferdam_image::{
    Compression, Descriptor, Document, Family, History, ImageConfig, ImageError, Index, LayerBlob, LayoutReference,
    LayoutSelector, Manifest, MediaType, OciLayout, Platform, Store, StoreError, export,
};

struct Fixture {
    place: tempfile::TempDir,
    store: Store,
    image: Descriptor,
    layers: Vec<Descriptor>,
}

fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

fn put_layer(store: &Store, name: &str, compression: Compression) -> LayerBlob {
    let tar = tar(name, name.as_bytes());
    let mut writer = store.blob_writer().unwrap();
    if compression == Compression::Gzip {
        let mut gzip = flate2::write::GzEncoder::new(&mut writer, flate2::Compression::default());
        gzip.write_all(&tar).unwrap();
        gzip.finish().unwrap();
    } else {
        writer.write_all(&tar).unwrap();
    }
    let blob = writer.commit(None).unwrap();
    LayerBlob { diff_id: Digest::of(&tar), digest: blob.digest, size: blob.size, compression }
}

fn put_image(store: &Store, family: Family, platform: &Platform) -> (Descriptor, Vec<Descriptor>) {
    let mut config = ImageConfig::new(platform);
    config.config.cmd = Some(vec!["/hello".to_owned()]);
    config.config.set_variable("NAME", "value");
    let layers: Vec<_> = [("hello", Compression::Gzip), ("other", Compression::None)]
        .map(|(name, compression)| {
            let layer = put_layer(store, name, compression);
            config.push_layer(
                layer.diff_id,
                History { created_by: Some(format!("COPY {name} /")), ..History::default() },
            );
            layer.descriptor(family)
        })
        .into();
    let config = store.put_document(MediaType::Config(family), &config.to_json()).unwrap();
    let manifest = Manifest::new(family, config, layers.clone());
    (store.put_document(manifest.media_type.clone(), &manifest.to_json()).unwrap(), layers)
}

fn fixture(family: Family) -> Fixture {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(&place.path().join("store")).unwrap();
    let (image, layers) = put_image(&store, family, &Platform::current());
    Fixture { place, store, image, layers }
}

/// Whether a tool can be used; says so where it can't, and fails where all tests are demanded.
fn have(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok();
    if !found {
        let demanded = std::env::var_os("COFFERDAM_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!demanded, "{tool} is missing: run scripts/install-test-tools.sh");
        eprintln!("SKIPPED: {tool} is missing; scripts/install-test-tools.sh installs it");
    }
    found
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn skopeo_and_umoci_read_the_layout() {
    let Fixture { place, store, image, layers } = &fixture(Family::Oci);
    let layout = place.path().join("layout");
    export::oci_directory(store, image, &names(&["registry.example:5000/app:1.0"]), &layout, &|_| ()).unwrap();
    let at_tag = format!("{}:1.0", layout.display());
    if have("skopeo") {
        let inspected: serde_json::Value =
            serde_json::from_str(&run("skopeo", &["inspect", &format!("oci:{at_tag}")])).unwrap();
        assert_eq!(inspected["Digest"], image.digest.to_string());
        assert_eq!(inspected["Layers"][0], layers[0].digest.to_string());
        assert_eq!(inspected["Env"][0], "NAME=value");
        let store_image = format!("oci:{}:app:1.0", store.root().display());
        store.record_image(image, &names(&["app:1.0"])).unwrap();
        run("skopeo", &["inspect", &store_image]);
    }
    if have("umoci") {
        let bundle = place.path().join("bundle");
        let rootless: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--rootless"] };
        run("umoci", &[&["unpack", "--image", &at_tag], rootless, &[bundle.to_str().unwrap()]].concat());
        assert_eq!(fs::read_to_string(bundle.join("rootfs/hello")).unwrap(), "hello");
        assert_eq!(fs::read_to_string(bundle.join("rootfs/other")).unwrap(), "other");
    }
}

#[test]
fn skopeo_reads_both_archives_of_both_families() {
    for family in [Family::Oci, Family::Docker] {
        let Fixture { place, store, image, .. } = &fixture(family);
        let (oci, docker) = (place.path().join("oci.tar"), place.path().join("docker.tar"));
        export::oci_archive(store, image, &names(&["app:2"]), fs::File::create(&oci).unwrap(), &|_| ()).unwrap();
        export::docker_archive(
            store,
            image,
            &names(&["docker.io/library/app:2"]),
            fs::File::create(&docker).unwrap(),
            &|_| (),
        )
        .unwrap();
        // skopeo sees no manifest of Docker's type in an OCI archive.
        if family == Family::Oci && have("skopeo") {
            let inspected: serde_json::Value =
                serde_json::from_str(&run("skopeo", &["inspect", &format!("oci-archive:{}:2", oci.display())]))
                    .unwrap();
            assert_eq!(inspected["Digest"], image.digest.to_string());
        }
        if have("skopeo") {
            let config: serde_json::Value = serde_json::from_str(&run(
                "skopeo",
                &["inspect", "--config", &format!("docker-archive:{}", docker.display())],
            ))
            .unwrap();
            assert_eq!(config["config"]["Cmd"][0], "/hello");
            // Copying reads every layer and compares it with its DiffID.
            let copied = format!("dir:{}", place.path().join("copied").display());
            run("skopeo", &["copy", "--insecure-policy", &format!("docker-archive:{}", docker.display()), &copied]);
        }
        if have("python3") {
            let listed = run(
                "python3",
                &["-c", "import sys,tarfile; print(*tarfile.open(sys.argv[1]).getnames())", docker.to_str().unwrap()],
            );
            assert!(listed.contains("manifest.json") && listed.contains("oci-layout"), "{listed}");
        }
    }
}

#[test]
fn the_same_image_gives_the_same_archive_from_any_store() {
    let archives = || {
        let Fixture { store, image, .. } = &fixture(Family::Oci);
        let (mut oci, mut docker) = (Vec::new(), Vec::new());
        export::oci_archive(store, image, &names(&["a:1", "b:1"]), &mut oci, &|_| ()).unwrap();
        export::docker_archive(store, image, &names(&["a:1", "b:1"]), &mut docker, &|_| ()).unwrap();
        (oci, docker)
    };
    let (oci, docker) = archives();
    assert!((oci, docker.clone()) == archives());
    assert_eq!(docker.len() % 512, 0);
}

#[test]
fn a_damaged_or_missing_layer_stops_every_export() {
    let Fixture { place, store, image, layers } = &fixture(Family::Oci);
    let path = store.blob_path(&layers[0].digest);
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let layout = place.path().join("layout");
    let exports: [&dyn Fn() -> Result<(), StoreError>; 3] = [
        &|| export::oci_directory(store, image, &[], &layout, &|_| ()),
        &|| export::oci_archive(store, image, &[], std::io::sink(), &|_| ()),
        &|| export::docker_archive(store, image, &[], std::io::sink(), &|_| ()),
    ];
    for content in [&bad[..], &good[1..]] {
        for export in exports {
            fs::write(&path, content).unwrap();
            let error = export().unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            // It is in nobody's way any more: the next build makes or fetches it.
            assert!(matches!(export().unwrap_err(), StoreError::Missing { .. }));
        }
    }
    assert!(!layout.join("index.json").exists(), "no name without its blobs");
}

#[test]
fn a_layout_that_was_written_is_read_back_and_gains_images() {
    let Fixture { place, store, image, layers } = &fixture(Family::Oci);
    let layout = place.path().join("layout");
    export::oci_directory(store, image, &names(&["app:1"]), &layout, &|_| ()).unwrap();
    let (arm, _) = put_image(store, Family::Oci, &"linux/arm64/v9".parse().unwrap());
    export::oci_directory(store, &arm, &names(&["app:latest", "app:2"]), &layout, &|_| ()).unwrap();
    export::oci_directory(store, &arm, &names(&["app:2"]), &layout, &|_| ()).unwrap();

    let reference: LayoutReference = format!("oci-layout://{}:1", layout.display()).parse().unwrap();
    let read = OciLayout::open(&reference.directory).unwrap();
    assert_eq!(read.index().manifests.len(), 3);
    let found = read.resolve(&reference.selector).unwrap();
    assert_eq!(found.digest, image.digest);
    assert_eq!(read.resolve(&LayoutSelector::Default).unwrap().digest, arm.digest);
    assert_eq!(read.resolve(&LayoutSelector::Digest(image.digest)).unwrap().digest, image.digest);
    let error = read.resolve(&LayoutSelector::Tag("3".to_owned())).unwrap_err();
    assert!(matches!(error, ImageError::NotInLayout { .. }) && error.to_string().contains("1, latest, 2"), "{error}");

    let Document::Manifest(manifest) =
        Document::parse(&read.read_document(found).unwrap(), Some(&found.media_type)).unwrap()
    else {
        panic!()
    };
    assert_eq!(&manifest.layers, layers);
    let mut bytes = Vec::new();
    read.open_blob(&layers[1]).unwrap().read_to_end(&mut bytes).unwrap();
    fs::write(layout.join("blobs/sha256").join(layers[1].digest.hex()), &bytes[1..]).unwrap();
    assert!(read.open_blob(&layers[1]).unwrap().read_to_end(&mut Vec::new()).is_err());
}

#[test]
fn an_index_is_exported_whole_but_not_to_docker() {
    let Fixture { place, store, .. } = &fixture(Family::Oci);
    let entry = |name: &str| {
        let platform: Platform = name.parse().unwrap();
        let (image, _) = put_image(store, Family::Oci, &platform);
        Descriptor { platform: Some(platform), ..image }
    };
    let index = Index::new(Family::Oci, vec![entry("linux/amd64"), entry("linux/arm/v6")]);
    let image = store.put_document(index.media_type.clone(), &index.to_json()).unwrap();
    let error = export::docker_archive(store, &image, &[], std::io::sink(), &|_| ()).unwrap_err();
    assert!(matches!(error, StoreError::SeveralPlatforms(2)), "{error}");
    let layout = place.path().join("layout");
    export::oci_directory(store, &image, &names(&["app:1"]), &layout, &|_| ()).unwrap();
    if have("skopeo") {
        let source = format!("oci:{}:1", layout.display());
        let inspected = run("skopeo", &["--override-arch", "arm", "--override-variant", "v6", "inspect", &source]);
        assert!(inspected.contains(r#""Architecture": "arm""#), "{inspected}");
    }
}

#[test]
fn hostile_layouts_are_refused_without_waiting() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    assert!(OciLayout::open(place.path()).unwrap_err().to_string().contains("oci-layout"));
    fs::write(path("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(OciLayout::open(place.path()).unwrap_err().to_string().contains("2.0.0"));
    fs::write(path("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path("index.json"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(OciLayout::open(place.path()).is_err(), "a fifo");
    fs::remove_file(path("index.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("index.json")).unwrap();
    assert!(OciLayout::open(place.path()).is_err(), "a device");
    fs::remove_file(path("index.json")).unwrap();
    let file = fs::File::create(path("index.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(matches!(OciLayout::open(place.path()), Err(StoreError::Image(ImageError::TooLarge { .. }))));
    assert!(Path::new(&path("index.json")).exists());
}
