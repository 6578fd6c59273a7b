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

/// `KIND PATH PID`: prints `found` if the attack of that kind reached the secret at the path, or the process.
pub fn main(arguments: &[String]) -> ExitCode {
    let [kind, path, pid] = arguments else { return ExitCode::from(2) };
    let pid: i32 = pid.parse().expect("a number");
    let found = match kind.as_str() {
        "path" => holds(path),
        "climb" => holds(&format!("{}{path}", "/..".repeat(40))),
        "root-of-one" => holds(&format!("/proc/1/root{path}")),
        "root-of-builder" => holds(&format!("/proc/{pid}/root{path}")) || holds(&format!("/proc/{pid}/cwd/secret")),
        "environment" => {
            fs::read(format!("/proc/{pid}/environ")).is_ok() || fs::read(format!("/proc/self/../{pid}/environ")).is_ok()
        }
        "memory" => fs::File::open(format!("/proc/{pid}/mem")).is_ok(),
        "symlink" => {
            std::os::unix::fs::symlink(path, "/tmp/out").expect("a link");
            holds("/tmp/out")
        }
        "hard-link" => fs::hard_link(path, "/tmp/hard").is_ok(),
        "rename" => fs::rename("/tmp", format!("{path}-moved")).is_ok(),
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
        "door" => through_descriptors(path),
        "race" => race(path, false),
        "race-to-write" => race(path, true),
        _ => return ExitCode::from(2),
    };
    println!("{}", if found { "found" } else { "nothing" });
    ExitCode::SUCCESS
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn holds(path: &str) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()))
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
