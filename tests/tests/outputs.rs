//! What `--output` and its kin write: images, their file systems, and records of what was built.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use cofferdam_tests::{Finished, Image, Site, is_root, run, skip};

/// Kind, mode, size and target of everything in a directory, and the owners if `owners`.
fn listed(directory: &Path, owners: bool) -> String {
    let owner = if owners { "%U %G " } else { "" };
    let format = format!("%y {owner}%m %l %n %P\\n");
    let found = run(Command::new("find").arg(directory).args(["-not", "-type", "d", "-printf", &format])).success();
    let format = format!("%y {owner}%m %P\\n");
    let directories = run(Command::new("find").arg(directory).args(["-type", "d", "-printf", &format])).success();
    let mut lines: Vec<&str> = found.stdout.lines().chain(directories.stdout.lines()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Layers that add, replace and remove, and what not every copy keeps.
fn layered() -> Option<Site> {
    let site = Site::with_base("alpine")?;
    site.file("file", "one").file("directory/inner", "two").link("directory/link", "inner").dockerfile(
        "FROM base
COPY --chown=5:6 --chmod=4755 file /file
COPY --chown=7:8 directory /directory
RUN ln /file /other-name && echo three >/replaced && echo four >/removed && mkfifo /directory/pipe
RUN echo five >/replaced && rm -r /removed /etc/passwd && chmod 0711 /directory
",
    );
    Some(site)
}

#[test]
fn the_file_system_is_that_of_the_image_in_every_form() {
    let Some(site) = layered() else { return };
    let place = site.path().to_path_buf();
    site.build(&["-t", "image", "-o", "type=oci,dest=image,tar=false", "-o", "type=tar,dest=files.tar", "-o", "files"])
        .success();
    let image = Image::open(&place.join("image"));
    let root = image.root();
    assert_eq!(listed(&place.join("files"), false), listed(&root, false));
    assert_eq!(fs::read_to_string(place.join("files/replaced")).expect("there"), "five\n");
    let unpacked = place.join("unpacked");
    fs::create_dir(&unpacked).expect("writable");
    run(Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(place.join("files.tar")).arg("-C").arg(&unpacked))
        .success();
    assert_eq!(listed(&unpacked, is_root()), listed(&root, is_root()));
    // The same bytes whenever it is written.
    let archive = fs::read(place.join("files.tar")).expect("there");
    let mut command = site.program(&["-o", "-"]).into_command();
    let piped = command.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("starts");
    assert!(piped.stdout == archive, "{} bytes, and {} in the file", piped.stdout.len(), archive.len());
}

#[test]
fn a_directory_that_is_there_keeps_what_the_image_does_not_have() {
    let Some(site) = layered() else { return };
    let files = site.path().join("files");
    fs::create_dir_all(files.join("directory/inner")).expect("writable");
    fs::create_dir_all(site.path().join("outside")).expect("writable");
    fs::write(files.join("mine"), "mine").expect("writable");
    fs::write(files.join("directory/mine"), "mine").expect("writable");
    // A link in the way is replaced, not followed.
    std::os::unix::fs::symlink("../outside", files.join("etc")).expect("writable");
    site.build(&["-o", "type=local,dest=files"]).success();
    for kept in ["mine", "directory/mine"] {
        assert_eq!(fs::read_to_string(files.join(kept)).expect("kept"), "mine");
    }
    assert_eq!(fs::read_to_string(files.join("directory/inner")).expect("replaced"), "two");
    assert!(files.join("etc").symlink_metadata().expect("there").is_dir());
    assert_eq!(fs::read_dir(site.path().join("outside")).expect("there").count(), 0);
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    if !is_root() {
        return skip("a read-only file system needs root");
    }
    let Some(site) = layered() else { return };
    let built = site.build(&["-o", "/proc/files"]);
    assert_eq!(built.code, 1, "{}", built.stderr);
    assert!(built.stderr.contains("/proc/files"), "{}", built.stderr);
}

#[test]
fn records_have_what_buildkits_have() {
    let Some(site) = layered() else { return };
    let place = site.path().to_path_buf();
    let built = site
        .build(&[
            "-o",
            "type=oci,dest=image,tar=false",
            "-o",
            "type=image,name=reg.example/a:1",
            "--iidfile",
            "id",
            "--metadata-file",
            "metadata.json",
        ])
        .success();
    let image = Image::open(&place.join("image"));
    let id = fs::read_to_string(place.join("id")).expect("written");
    assert_eq!(image.manifest()["config"]["digest"], id.as_str());
    let metadata: serde_json::Value =
        serde_json::from_slice(&fs::read(place.join("metadata.json")).expect("written")).expect("JSON");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(place.join("image/index.json")).expect("written")).expect("JSON");
    let descriptor = &index["manifests"][0];
    assert_eq!(metadata["containerimage.digest"], built.digest().as_str());
    assert_eq!(metadata["containerimage.config.digest"], id.as_str());
    assert_eq!(metadata["image.name"], "reg.example/a:1");
    for key in ["mediaType", "digest", "size"] {
        assert_eq!(metadata["containerimage.descriptor"][key], descriptor[key], "{key}");
    }
}

#[test]
fn an_archive_can_go_to_standard_output() {
    let site = Site::new();
    site.file("file", "content").dockerfile("FROM scratch\nCOPY file /\n");
    let file = site.path().join("image.tar");
    let mut command = site.program(&["-t", "app:1", "--output", "type=oci,dest=-"]).into_command();
    let output =
        command.stdin(Stdio::null()).stdout(fs::File::create(&file).expect("writable")).output().expect("starts");
    let done: Finished = output.into();
    assert_eq!(done.code, 0, "{}", done.stderr);
    let listed = run(Command::new("tar").arg("-tf").arg(&file)).success().stdout;
    assert!(["index.json", "oci-layout"].iter().all(|name| listed.lines().any(|line| line == *name)), "{listed}");
    assert!(
        done.stderr.lines().any(|line| line.starts_with("sha256:")),
        "the digest is told elsewhere: {}",
        done.stderr
    );
    // Docker's form names the image.
    site.build(&["-t", "app:1", "-t", "reg.example:5000/team/app:2", "--output", "type=docker,dest=docker.tar"])
        .success();
    let text =
        run(Command::new("tar").args(["-xOf", "docker.tar", "manifest.json"]).current_dir(site.path())).success();
    let manifest: serde_json::Value = serde_json::from_str(&text.stdout).expect("JSON");
    let names: Vec<&str> =
        manifest[0]["RepoTags"].as_array().expect("names").iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(names, ["app:1", "reg.example:5000/team/app:2"]);
}
