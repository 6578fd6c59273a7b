//! The compiler alone, without a builder around it: what case c is compared with.

use std::{cell::RefCell, fs, path::Path, process::Command};

use cofferdam_tests::{Bundle, Registry, tool};

use crate::{
    Outcome,
    builder::{Builder, Job},
    case::Pass,
    measure::{Usage, measure},
};

/// How it is called in reports.
pub const NAME: &str = "go build alone";

/// What case c's Dockerfile runs, in the root of its base image, with an empty build cache.
const COMPILE: &str = "\
mount -t proc proc \"$0/proc\"
mount --rbind /dev \"$0/dev\"
exec chroot \"$0\" /usr/bin/env -i HOME=/root GOTOOLCHAIN=local GOPATH=/go GOFLAGS=-buildvcs=false CGO_ENABLED=0 \
PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
/bin/sh -c 'cd /src && go build -trimpath -o /out/server .'
";

/// `go build` in the unpacked base image.
#[derive(Default)]
pub struct GoAlone {
    /// What was unpacked: removed with everything else, at the end.
    roots: RefCell<Vec<Bundle>>,
}

impl Builder for GoAlone {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        format!(
            "{NAME} (case c): in the base image's root, unpacked by umoci, with `chroot`, in a mount namespace of its own"
        )
    }

    fn takes_part(&self, case: &str, pass: Pass) -> bool {
        case == "c" && pass == Pass::First
    }

    fn has_caches(&self) -> bool {
        false
    }

    fn build(&self, job: &Job<'_>) -> Outcome<Usage> {
        let bundle = unpack(job.registry)?;
        let root = bundle.rootfs();
        fs::create_dir_all(root.join("src"))?;
        for file in ["go.mod", "main.go"] {
            fs::copy(job.context.join(file), root.join("src").join(file))?;
        }
        rustix::fs::sync();
        let unshare = tool("unshare").ok_or("no unshare")?;
        self.roots.borrow_mut().push(bundle);
        measure(Command::new(unshare).args(["--mount", "--", "/bin/sh", "-ec", COMPILE]).arg(&root), job.log)
    }

    fn leave(&self, _: &Path) -> Outcome<()> {
        Ok(())
    }
}

fn unpack(registry: &Registry) -> Outcome<Bundle> {
    Bundle::pull(registry, "golang").ok_or_else(|| "no skopeo or umoci (scripts/install-test-tools.sh)".into())
}
