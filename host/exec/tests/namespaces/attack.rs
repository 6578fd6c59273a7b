//! The part of the attacker: tries to reach what is outside, and says what it found. And the part of the victim.

use std::{
    fs,
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    process::ExitCode,
    time::Duration,
};

/// What the victim has in its environment and its memory, and lets nobody have.
pub const SECRET: &str = "planted-secret-5ae1";

/// Waits with the secret in the environment, and listens on an abstract socket named after its process id.
pub fn victim() -> ExitCode {
    let name = format!("cofferdam-victim-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).expect("a name")).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.expect("a stream").write_all(SECRET.as_bytes());
        }
    });
    println!("ready");
    let mut byte = [0];
    let _ = std::io::stdin().read(&mut byte);
    std::thread::sleep(Duration::from_millis(1));
    ExitCode::SUCCESS
}

/// `KIND PID PATH`: prints `found` if the attack of that kind on the process, or on the secret at the path, succeeds.
pub fn main(arguments: &[String]) -> ExitCode {
    let [kind, pid, path] = arguments else { return ExitCode::from(2) };
    let pid: i32 = pid.parse().expect("a process id");
    let found = match kind.as_str() {
        "environ" => each_process(|process| contains(&format!("{process}/environ"))),
        "memory" => each_process(memory),
        "descriptors" => each_process(|process| {
            let open = fs::read_dir(format!("{process}/fd")).into_iter().flatten().filter_map(Result::ok);
            open.into_iter().any(|fd| {
                fd.file_name().to_str().is_some_and(|fd| fd.parse::<u32>().is_ok_and(|fd| fd > 2))
                    && contains_now(&fd.path())
            })
        }),
        "root" => each_process(|process| contains(&format!("{process}/root{path}"))),
        "cwd" => each_process(|process| contains(&format!("{process}/cwd/secret"))),
        "executable" => each_process(|process| fs::read_link(format!("{process}/exe")).is_ok()),
        "path" => contains(path),
        // SAFETY: attaching and detaching touch no memory of ours.
        "ptrace" => every_id(pid).any(|pid| unsafe {
            let attached = libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0;
            libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0);
            attached
        }),
        // SAFETY: signal 0 only asks whether one could be sent.
        "signal" => every_id(pid).any(|pid| unsafe { libc::kill(pid, 0) == 0 }),
        "abstract-socket" => abstract_socket(pid),
        "device" => device(),
        "mount" => rustix::mount::mount("none", "/tmp", "tmpfs", rustix::mount::MountFlags::empty(), None).is_ok(),
        // SAFETY: the process ends right after.
        "namespace" => unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }.is_ok(),
        "clone3-namespace" => clone3_namespace(),
        "keyring" => keyring(),
        // SAFETY: numbers only; the descriptor ends with the process.
        "raw-socket" => unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) >= 0 },
        "bpf" => {
            // SAFETY: BPF_MAP_CREATE with a null attribute fails in any case; the filter answers before that.
            let result = unsafe { libc::syscall(libc::SYS_bpf, 0, std::ptr::null::<u8>(), 0) };
            result >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
        }
        "handle" => {
            // SAFETY: the handle pointer is null; the filter, or the capability check, answers before it is read.
            unsafe { libc::syscall(libc::SYS_open_by_handle_at, libc::AT_FDCWD, std::ptr::null::<u8>(), 0) };
            std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
        }
        _ => return ExitCode::from(2),
    };
    println!("{}", if found { "found" } else { "nothing" });
    ExitCode::SUCCESS
}

/// Whether any process but this one gives in.
fn each_process(mut attack: impl FnMut(&str) -> bool) -> bool {
    let own = std::process::id();
    let processes =
        fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes
        .filter(|name| name.parse::<u32>().is_ok_and(|pid| pid != own))
        .any(|name| attack(&format!("/proc/{name}")))
}

/// The process id of the victim as it is outside, and process 1, which is the builder's inside.
fn every_id(victim: i32) -> impl Iterator<Item = i32> {
    [victim, 1].into_iter().filter(|&pid| pid > 1 || std::process::id() < 1000)
}

fn contains(path: &str) -> bool {
    contains_now(std::path::Path::new(path))
}

fn contains_now(path: &std::path::Path) -> bool {
    // Never block on a pipe or a terminal.
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path).map(|file| file.take(1 << 20).read_to_end(&mut bytes));
    read.is_ok() && find(&bytes)
}

fn find(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

fn memory(process: &str) -> bool {
    use std::os::unix::fs::FileExt;
    let (Ok(maps), Ok(memory)) =
        (fs::read_to_string(format!("{process}/maps")), fs::File::open(format!("{process}/mem")))
    else {
        return false;
    };
    maps.lines().filter(|line| line.contains("[stack]")).any(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let Some((start, end)) = range else { return false };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let mut bytes = vec![0; usize::try_from(number(end) - number(start)).unwrap_or(0)];
        memory.read_exact_at(&mut bytes, number(start)).is_ok() && find(&bytes)
    })
}

fn abstract_socket(pid: i32) -> bool {
    let address = SocketAddr::from_abstract_name(format!("cofferdam-victim-{pid}")).expect("a name");
    let Ok(mut stream) = UnixStream::connect_addr(&address) else { return false };
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).is_ok() && find(&bytes)
}

/// Makes the device of the machine's memory-backed null and opens it.
fn device() -> bool {
    use rustix::fs::{CWD, FileType, Mode};
    ["/tmp", "/dev", "/dev/shm", "/mnt"].into_iter().any(|directory| {
        let path = format!("{directory}/device-{}", std::process::id());
        let made = rustix::fs::mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, 5),
        );
        let opened = made.is_ok() && fs::File::open(&path).is_ok();
        let _ = fs::remove_file(&path);
        opened
    })
}

fn clone3_namespace() -> bool {
    let mut arguments = [0_u64; 11];
    arguments[0] = libc::CLONE_NEWUSER as u64;
    arguments[4] = libc::SIGCHLD as u64;
    // SAFETY: without a stack it behaves like fork; the child ends at once.
    unsafe {
        match libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) {
            0 => libc::_exit(0),
            -1 => false,
            pid => {
                libc::waitpid(pid as i32, std::ptr::null_mut(), 0);
                true
            }
        }
    }
}

fn keyring() -> bool {
    // SAFETY: KEYCTL_GET_KEYRING_ID of the session keyring takes numbers only.
    unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) > 0 }
}
