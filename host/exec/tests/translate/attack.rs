//! The part of the attacker: tries to reach what is outside, by every way that goes round the translator.

use std::{
    arch::asm,
    fs,
    io::{Read, Write},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// What lies outside, and nobody may read.
pub const SECRET: &str = "planted-secret-71c4";

/// `KIND PATH PID [UNCHECKED]`: prints `found` if the attack of that kind reached the secret at the path, or the process. The
/// fourth word asks the translator to let everything through.
pub fn main(arguments: &[String]) -> ExitCode {
    let [kind, path, pid, rest @ ..] = arguments else { return ExitCode::from(2) };
    let ways = if rest.is_empty() { Ways::OF_IMAGE } else { Ways::without_checks() };
    let pid: i32 = pid.parse().expect("a number");
    let path = &ways.machine(path);
    let proc = |path: String| ways.machine(&format!("/proc/{path}"));
    let (out, hard, tmp, taken) =
        (ways.tree("tmp/out"), ways.tree("tmp/hard"), ways.tree("tmp"), ways.tree("tmp/taken"));
    let found = match kind.as_str() {
        "path" => holds(path),
        "climb" => {
            holds(&format!("{}{path}", ways.machine(&"/..".repeat(40))))
                || holds(&format!("{}{path}", "../".repeat(40)))
        }
        "root-of-one" => holds(&format!("{}/{path}", proc("1/root".into()))),
        "root-of-builder" => {
            holds(&format!("{}/{path}", proc(format!("{pid}/root")))) || holds(&proc(format!("{pid}/cwd/secret")))
        }
        "environment" => {
            fs::read(proc(format!("{pid}/environ"))).is_ok() || fs::read(proc(format!("self/../{pid}/environ"))).is_ok()
        }
        "memory" => fs::File::open(proc(format!("{pid}/mem"))).is_ok(),
        "symlink" => {
            std::os::unix::fs::symlink(arguments[1].as_str(), &out).expect("a link");
            holds(&out)
        }
        "hard-link" => fs::hard_link(path, &hard).is_ok(),
        "rename" => fs::rename(&tmp, format!("{path}-moved")).is_ok(),
        "take" => fs::rename(path, &taken).is_ok(),
        "directory" => {
            let above = std::path::Path::new(path).parent().expect("a file");
            let entered = std::env::set_current_dir(above).is_ok();
            entered && (holds("secret") || fs::read_dir(".").is_ok()) || fs::read_dir(above).is_ok()
        }
        "change" => change(path, &ways.tree("srv/base")),
        "attributes" => attributes(path),
        "execute" => execute(&format!("{path}-program")),
        "descriptors" => {
            // How many there are can be seen by the builder's user, what they are can't.
            let links = fs::read_dir(proc(format!("{pid}/fd"))).into_iter().flatten().flatten();
            links.map(|link| link.path()).any(|link| fs::read_link(&link).is_ok() || fs::File::open(&link).is_ok())
        }
        "tracer" => {
            // The process that looks into this one all the time, and its parents.
            let mut process = std::os::unix::process::parent_id() as i32;
            let mut reached = false;
            while process > 0 {
                for name in ["mem", "environ", "maps", "auxv", "fdinfo/0"] {
                    reached |= fs::File::open(proc(format!("{process}/{name}"))).is_ok();
                }
                for name in ["root", "cwd", "exe", "fd/0"] {
                    reached |= fs::read_link(proc(format!("{process}/{name}"))).is_ok();
                }
                // SAFETY: signal 0 only asks.
                reached |= unsafe { libc::kill(process, 0) } == 0;
                process = parent_of(&proc(format!("{process}/stat")));
            }
            reached
        }
        "terminal" => (0..64).any(|number| fs::File::open(ways.machine(&format!("/dev/pts/{number}"))).is_ok()),
        // SAFETY: attaching touches no memory of ours; signal 0 only asks.
        "ptrace" => unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0 },
        // SAFETY: signal 0 only asks.
        "signal" => unsafe { libc::kill(pid, 0) == 0 || libc::syscall(libc::SYS_tgkill, pid, pid, 0) == 0 },
        // SAFETY: a live buffer of that size.
        "process-memory" => unsafe {
            let mut buffer = [0_u8; 8];
            let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: 8 };
            let remote = libc::iovec { iov_base: 0x1000 as *mut libc::c_void, iov_len: 8 };
            libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) >= 0
                || std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
        },
        "io-uring" => {
            // SAFETY: a null pointer is refused by the kernel; the filter answers before that.
            unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
            errno() != libc::ENOSYS
        }
        "handle" => {
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, std::ptr::null::<u8>(), 0) };
            errno() != libc::EPERM
        }
        "new-call" => {
            // SAFETY: as above.
            unsafe { libc::syscall(999, 0) };
            errno() != libc::ENOSYS
        }
        "x32" => {
            // SAFETY: as above; open of x32 with a null path.
            unsafe { libc::syscall(0x4000_0002, 0, 0, 0) };
            errno() != libc::ENOSYS
        }
        "int80" => int80() != -libc::ENOSYS,
        "mount" => rustix::mount::mount("none", "/tmp", "tmpfs", rustix::mount::MountFlags::empty(), None).is_ok(),
        // SAFETY: the process ends right after.
        "namespace" => unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }.is_ok(),
        "door" => through_descriptors(&arguments[1]),
        "race" => race(&arguments[1], false),
        "race-to-write" => race(&arguments[1], true),
        _ => return ExitCode::from(2),
    };
    println!("{}", if found { "found" } else { "nothing" });
    ExitCode::SUCCESS
}

/// How the files of this machine are named, and those of the tree.
struct Ways {
    /// Before a path of the machine, in place of its slash.
    machine: &'static str,
    /// Before a path in the tree.
    tree: &'static str,
}

impl Ways {
    /// The translator answers. The working directory is `/`.
    const OF_IMAGE: Self = Self { machine: "/", tree: "" };

    /// The translator lets everything through: paths are the kernel's from now on.
    fn without_checks() -> Self {
        // What nobody has asked for is not there.
        for path in ["/srv/base", "/tmp"] {
            fs::metadata(path).expect("of the base");
        }
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::prctl(cofferdam_exec::NO_MORE_CHECKS, 0, 0, 0, 0) }, 0, "the translator lets go");
        let exists = |path: &str| fs::exists(path).unwrap_or(false);
        if !exists("/srv/base") {
            // Here is where this machine has the tree.
            assert!(exists("srv/base"));
            return Self::OF_IMAGE;
        }
        // The tree is the real root, out of which a descriptor leads.
        // SAFETY: numbers only.
        let door =
            (3..4096).find(|&number| unsafe { libc::fchdir(number) } == 0 && !exists("srv/base") && exists("proc"));
        assert!(door.is_some());
        Self { machine: "", tree: "/" }
    }

    fn machine(&self, path: &str) -> String {
        format!("{}{}", self.machine, &path[1..])
    }

    fn tree(&self, path: &str) -> String {
        format!("{}{path}", self.tree)
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn holds(path: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
}

/// Everything that would change what is at a path, or beside it.
fn change(path: &str, own: &str) -> bool {
    let own = std::ffi::CString::new(own).expect("no NUL");
    let name = std::ffi::CString::new(path).expect("no NUL");
    let beside = std::ffi::CString::new(format!("{path}-beside")).expect("no NUL");
    // SAFETY: NUL-terminated strings.
    unsafe {
        [
            libc::open(name.as_ptr(), libc::O_WRONLY | libc::O_APPEND),
            libc::open(name.as_ptr(), libc::O_RDWR),
            libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_TRUNC),
            libc::open(beside.as_ptr(), libc::O_CREAT | libc::O_WRONLY, 0o600),
            libc::truncate(name.as_ptr(), 0),
            libc::mkdir(beside.as_ptr(), 0o700),
            libc::mkfifo(beside.as_ptr(), 0o600),
            libc::symlink(c"secret".as_ptr(), beside.as_ptr()),
            libc::link(own.as_ptr(), beside.as_ptr()),
            libc::rename(own.as_ptr(), name.as_ptr()),
            libc::renameat2(libc::AT_FDCWD, own.as_ptr(), libc::AT_FDCWD, name.as_ptr(), libc::RENAME_EXCHANGE),
            libc::unlink(name.as_ptr()),
        ]
        .iter()
        .any(|result| *result >= 0)
    }
}

/// What a domain has no rights for.
fn attributes(path: &str) -> bool {
    let name = std::ffi::CString::new(path).expect("no NUL");
    let times = [libc::timespec { tv_sec: 1, tv_nsec: 0 }; 2];
    // SAFETY: NUL-terminated strings, and two live times.
    unsafe {
        [
            libc::chmod(name.as_ptr(), 0),
            libc::chown(name.as_ptr(), 33, 33),
            libc::utimensat(libc::AT_FDCWD, name.as_ptr(), times.as_ptr(), 0),
            libc::setxattr(name.as_ptr(), c"user.x".as_ptr(), c"v".as_ptr().cast(), 1, 0),
            libc::removexattr(name.as_ptr(), c"user.x".as_ptr()),
        ]
        .iter()
        .any(|result| *result >= 0)
    }
}

fn execute(path: &str) -> bool {
    let name = std::ffi::CString::new(path).expect("no NUL");
    // SAFETY: NUL-terminated strings and a null-terminated list of them; the child does nothing but exec or exit.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::execv(name.as_ptr(), [c"true".as_ptr(), std::ptr::null()].as_ptr());
            libc::_exit(1);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        status == 0
    }
}

fn parent_of(stat: &str) -> i32 {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    fields.split(' ').nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0)
}

/// Opens the path from every descriptor that the process may have without knowing, with what of the path comes after its
/// slash, and takes each for the working directory and the root.
fn through_descriptors(path: &str) -> bool {
    let relative = std::ffi::CString::new(&path[1..]).expect("no NUL");
    (3..4096).any(|number| {
        // SAFETY: numbers and a string that is alive; what is opened is closed by the end of the process.
        unsafe {
            libc::openat(number, relative.as_ptr(), libc::O_RDONLY) >= 0
                || libc::fchdir(number) == 0 && (holds(&path[1..]) || libc::chroot(c".".as_ptr()) == 0 && holds(path))
        }
    })
}

/// getpid by the 32-bit entry: were it answered, open would be too.
fn int80() -> i32 {
    let mut result: i64 = 20;
    // SAFETY: the 32-bit getpid takes no argument and touches no memory.
    unsafe { asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    result as i32
}

/// Finds the memory in which the translator puts paths, and exchanges them between its check and the kernel's use: to read
/// the secret, or to write to the file.
fn race(path: &str, to_write: bool) -> bool {
    fs::write("/tmp/decoy", "nothing here").expect("writable");
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let ranges: Vec<(usize, usize)> = maps
        .lines()
        .filter(|line| line.contains(" rw-p ") && line.contains(" 00:00 0 ") && !line.contains('['))
        .filter_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
        })
        // The scratch memory is some megabytes.
        .filter(|(start, end)| end - start > 4 << 20)
        .collect();
    static STOP: AtomicBool = AtomicBool::new(false);
    let mut bytes = path.as_bytes().to_vec();
    bytes.push(0);
    let swapper = std::thread::spawn(move || {
        while !STOP.load(Ordering::Relaxed) {
            for (start, end) in &ranges {
                // The first slots, one per thread.
                for slot in 0..4 {
                    let at = start + 4096 + slot * 3 * 4096;
                    if at + 4096 < *end {
                        // SAFETY: the memory is mapped writable and nobody holds a reference into it.
                        unsafe {
                            match (at as *const u8).read_volatile() {
                                0 => {}
                                b'/' => std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()),
                                // From a descriptor of the machine's root.
                                _ => std::ptr::copy_nonoverlapping(bytes[1..].as_ptr(), at as *mut u8, bytes.len() - 1),
                            }
                        }
                    }
                }
            }
        }
    });
    let begun = Instant::now();
    let (mut found, mut refused) = (false, 0);
    let mut decoys = ["/tmp/decoy", "/etc/hosts"];
    while begun.elapsed() < Duration::from_secs(2) && !found {
        // The second one is not in the tree, and its path is always exchanged.
        decoys.rotate_left(1);
        match fs::OpenOptions::new().read(!to_write).append(to_write).open(decoys[0]) {
            // Whoever planted the file sees whether this came there.
            Ok(mut file) if to_write => file.write_all(b"attacked").expect("what is open can be written"),
            Ok(mut file) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                found = text.contains(SECRET);
            }
            Err(_) => refused += 1,
        }
    }
    STOP.store(true, Ordering::Relaxed);
    swapper.join().expect("it ends");
    eprintln!("{refused} openings were refused: the exchange happened");
    found
}
