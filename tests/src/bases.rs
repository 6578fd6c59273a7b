//! Base images, made by the project's own script and kept between runs.

use std::{path::PathBuf, process::Command, sync::Mutex};

use crate::{is_root, repository_root, run, skip};

/// An OCI layout with one image of this kind (`debian`, `golang`, `alpine`, `busybox`, `nginx`), or with an
/// index of several (`platforms`), tagged `latest`; `None` (reported as
/// a skip) where it can't be made.
pub fn base(kind: &str) -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !is_root() {
        skip("base images are made as root");
        return None;
    }
    let place = directory().join(kind);
    let made = run(Command::new(repository_root().join("scripts/make-base.sh")).arg(kind).arg(&place));
    if made.code != 0 {
        skip(&format!("the base image {kind} can't be made: {}", made.stderr.lines().last().unwrap_or_default()));
        return None;
    }
    Some(place)
}

/// Where base images are kept.
pub(crate) fn directory() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(|| "/var/cache".into()).join("cofferdam/bases")
}
