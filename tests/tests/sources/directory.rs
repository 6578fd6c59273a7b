//! Directories of this machine.

use crate::scene::{Scene, check_everywhere, check_packed, packed, refused};

#[test]
fn a_directory_is_a_context_at_both_doors() {
    let scene = Scene::new();
    packed(&scene, "--no-auto-compress");
    let whole = scene.place.path().join("tree");
    let whole = whole.to_str().expect("UTF-8");
    for written in ["tree", "./tree", "dir://tree", whole, &format!("dir://{whole}")] {
        check_packed(&scene.image(scene.docker(&[], written)));
        check_packed(&scene.image(scene.kaniko(&[&format!("--context={written}")])));
    }
    // The directory of a directory is written as such: Kaniko's flag is for what is fetched.
    check_packed(&scene.image(scene.kaniko(&["--context=tree", "--context-sub-path=service"])));
    assert_eq!(scene.image(scene.docker(&["-f", "tree/service/Dockerfile"], "tree")).content("/page"), "page\n");
    let here = scene.place.path().join("here");
    std::fs::create_dir(&here).expect("writable");
    std::fs::write(here.join("Dockerfile"), "FROM scratch\nCOPY --from=code . /\n").expect("writable");
    let image = scene.image(scene.docker(&["--build-context", "code=tree"], "here"));
    assert_eq!(image.names("/"), ".dockerignore Dockerfile hard link service", "its own ignore file counts");
}

#[test]
fn what_is_no_directory_is_refused() {
    let scene = Scene::new();
    packed(&scene, "--no-auto-compress");
    for (written, says) in [
        ("gone", "gone` does not exist; give the path of a directory"),
        ("tree/service/page", "tree/service/page` is not a directory"),
        ("dir://", "`dir://` is not a path"),
    ] {
        refused(scene.docker(&[], written), &[says]);
        refused(scene.kaniko(&[&format!("--context={written}")]), &[says]);
        let named = format!("code={written}");
        refused(scene.docker(&["--build-context", &named], "tree"), &[says]);
    }
    std::fs::remove_file(scene.place.path().join("tree/Dockerfile")).expect("there");
    refused(scene.docker(&[], "tree"), &["no Dockerfile at", "tree", "name it with `-f`"]);
}

#[test]
fn an_archive_of_this_machine_is_a_context_at_both_doors() {
    let scene = Scene::new();
    packed(&scene, "--xz");
    for written in ["packed.tar", "tar://packed.tar"] {
        check_everywhere(&scene, written, |program| program);
    }
    std::fs::rename(scene.place.path().join("packed.tar"), scene.place.path().join("packed")).expect("there");
    check_everywhere(&scene, "tar://packed", |program| program);
}
