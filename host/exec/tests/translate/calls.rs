//! Calls beyond those that name files: sockets with names, locks, watches, programs in memory, tracing. The kernel is asked
//! first, the translator after it.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    process::ExitCode,
};

use crate::{behaviour::Test, same, world::World};

/// All.
pub const TESTS: &[Test] = &[("calls_about_more_than_files_give_the_same", calls_about_more_than_files_give_the_same)];

fn calls_about_more_than_files_give_the_same(world: &World) {
    let step = world.program_step(&["__calls"]);
    let Some(expected) = same::expected(world, &step, "calls", &|_| ()) else { return };
    assert!(expected.lines().count() > 10, "{expected}");
    assert_eq!(world.output_of(&step), expected);
}

/// The part inside.
pub fn main() -> ExitCode {
    sockets();
    locks();
    watches();
    memory_program();
    moved_files();
    terminals();
    // SAFETY: numbers only.
    let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, 1, 0, 0) };
    println!("ptrace of another: {}", traced != 0);
    ExitCode::SUCCESS
}

fn sockets() {
    let deep = format!("/tmp/{}", "deep/".repeat(12));
    std::fs::create_dir_all(&deep).expect("a directory");
    std::env::set_current_dir(&deep).expect("it exists");
    for name in ["here", "/tmp/absolute", &format!("{deep}there")] {
        let listener = UnixListener::bind(name).expect("a socket");
        println!("listener {:?}", listener.local_addr().expect("a name"));
        let client = UnixStream::connect(name).expect("a connection");
        println!("peer {:?}", client.peer_addr().expect("a name"));
        let (mut server, from) = listener.accept().expect("the client");
        println!("accepted {from:?} at {:?}", server.local_addr().expect("a name"));
        (&client).write_all(b"text").expect("sent");
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).expect("received");
        println!("{text}");
        println!("again {:?}", UnixListener::bind(name).map(drop).map_err(|error| error.raw_os_error()));
    }
    let receiver = UnixDatagram::bind("/tmp/datagrams").expect("a socket");
    let sender = UnixDatagram::bind("sender").expect("a socket");
    sender.send_to(b"one", "/tmp/datagrams").expect("sent");
    send_message(&sender, "/tmp/datagrams", b"second");
    for _ in 0..2 {
        let mut buffer = [0; 16];
        let length = receiver.recv(&mut buffer).expect("received");
        println!("{}", String::from_utf8_lossy(&buffer[..length]));
    }
    println!("nobody {:?}", sender.send_to(b"x", "/tmp/nobody").map_err(|error| error.raw_os_error()));
}

/// sendmsg(2) with an address.
fn send_message(socket: &UnixDatagram, name: &str, bytes: &[u8]) {
    // SAFETY: all pointers are to live variables of the sizes given with them.
    let sent = unsafe {
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as u16;
        for (into, from) in address.sun_path.iter_mut().zip(name.bytes()) {
            *into = from as libc::c_char;
        }
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size_of::<libc::sockaddr_un>() as u32;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        libc::sendmsg(socket.as_raw_fd(), &message, 0)
    };
    println!("sendmsg {sent}");
}

fn locks() {
    let open = || File::options().create(true).truncate(false).write(true).open("/tmp/lock").expect("a file");
    let (one, other) = (open(), open());
    // SAFETY: descriptors that are open.
    unsafe {
        println!("flock {}", libc::flock(one.as_raw_fd(), libc::LOCK_EX));
        println!("flock again {}", libc::flock(other.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB));
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = libc::F_WRLCK as i16;
        println!("fcntl {}", libc::fcntl(one.as_raw_fd(), libc::F_OFD_SETLK, &lock));
        println!("fcntl again {}", libc::fcntl(other.as_raw_fd(), libc::F_OFD_SETLK, &lock));
    }
}

fn watches() {
    std::fs::create_dir("/tmp/watched").expect("a directory");
    // SAFETY: the buffer is live; the descriptor belongs to the file that closes it.
    let mut events = unsafe { File::from_raw_fd(libc::inotify_init1(libc::IN_CLOEXEC)) };
    // SAFETY: a NUL-terminated string.
    let watch = unsafe {
        libc::inotify_add_watch(events.as_raw_fd(), c"/tmp/watched".as_ptr(), libc::IN_CREATE | libc::IN_DELETE)
    };
    std::fs::write("/tmp/watched/file", "").expect("a file");
    std::fs::remove_file("/tmp/watched/file").expect("it is there");
    let mut buffer = [0; 256];
    println!("watch {watch}: {} bytes of events", events.read(&mut buffer).expect("events"));
}

/// fexecve(3) of a program that has no name, and is closed on the way.
fn memory_program() {
    let program = std::fs::read("/bin/busybox").expect("a program");
    // SAFETY: NUL-terminated strings and null-terminated lists of them; the child does nothing but exec or exit.
    unsafe {
        let memory = libc::memfd_create(c"program".as_ptr(), libc::MFD_CLOEXEC);
        File::from_raw_fd(libc::dup(memory)).write_all(&program).expect("written");
        let child = libc::fork();
        if child == 0 {
            let words = [c"echo".as_ptr(), c"from memory".as_ptr(), std::ptr::null()];
            libc::fexecve(memory, words.as_ptr(), [std::ptr::null()].as_ptr());
            libc::_exit(1);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        println!("memory {status}");
    }
}

/// What is open for reading stays the file that it was when that gets another name, and when it has none any more.
fn moved_files() {
    let file = File::open("/srv/base").expect("of the base");
    let tell = |when: &str| {
        use std::os::unix::fs::MetadataExt;
        let seen = file.metadata().expect("it is open");
        let change = |at: u32, set: bool| -> i32 {
            let time = libc::timespec { tv_sec: 5000 + i64::from(at), tv_nsec: 0 };
            // SAFETY: a descriptor that is open, and two live times.
            unsafe {
                match set {
                    true => libc::fchmod(file.as_raw_fd(), 0o600 + at) + libc::fchown(file.as_raw_fd(), at, at),
                    false => libc::futimens(file.as_raw_fd(), [time; 2].as_ptr()),
                }
            }
        };
        println!("{when} {:o} {} {} {}", seen.mode(), seen.uid(), seen.nlink(), seen.size());
        let at = when.len() as u32 % 8;
        println!("changed {} {}", change(at, true), change(at, false));
        let seen = file.metadata().expect("it is open");
        println!("then {:o} {}:{} {} {}", seen.mode(), seen.uid(), seen.gid(), seen.nlink(), seen.mtime());
    };
    std::fs::rename("/srv/base", "/srv/moved").expect("ours");
    tell("moved");
    std::fs::hard_link("/srv/moved", "/srv/linked").expect("a name");
    std::fs::remove_file("/srv/moved").expect("ours");
    tell("linked");
    std::fs::rename("/srv/linked", "/tmp/elsewhere").expect("ours");
    tell("elsewhere");
    std::fs::write("/tmp/other", "other").expect("a file");
    std::fs::rename("/tmp/other", "/tmp/elsewhere").expect("ours");
    tell("replaced");
    let mut text = String::new();
    (&file).read_to_string(&mut text).expect("it is open");
    println!("still {text:?}");
}

/// Both ends of a terminal, and a session that runs on it.
fn terminals() {
    use std::{ffi::CStr, os::unix::fs::MetadataExt};
    // SAFETY: descriptors that are open, NUL-terminated strings, live buffers of the sizes given with them. The child makes
    // calls and ends.
    unsafe {
        let master = libc::open(c"/dev/ptmx".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        println!("master {} {}", master >= 0, libc::fcntl(master, libc::F_GETFD));
        println!("locked {}", libc::unlockpt(master));
        let mut name = [0 as libc::c_char; 64];
        println!("granted {} {}", libc::grantpt(master), libc::ptsname_r(master, name.as_mut_ptr(), name.len()));
        let path = CStr::from_ptr(name.as_ptr()).to_str().expect("text").to_owned();
        println!("in {:?}", std::path::Path::new(&path).parent());
        let seen = std::fs::metadata(&path).expect("it has a name");
        println!("{:o} {}:{} major {}", seen.mode(), seen.uid(), seen.gid(), libc::major(seen.rdev()));
        let slave = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY);
        println!("slave {} {} {}", slave == master + 1, libc::fcntl(slave, libc::F_GETFD), libc::isatty(slave));
        println!("named {}", CStr::from_ptr(libc::ttyname(slave)).to_str() == Ok(path.as_str()));
        println!("no session {}", File::open("/dev/tty").map_err(|error| error.raw_os_error()).is_err());
        println!("chown {} chmod {}", libc::fchown(slave, 33, 5), libc::chmod(name.as_ptr(), 0o600));
        let seen = std::fs::metadata(&path).expect("it has a name");
        println!("then {:o} {}:{}", seen.mode(), seen.uid(), seen.gid());
        println!("listed {}", std::fs::read_dir("/dev/pts").expect("a directory").count() >= 2);
        let child = libc::fork();
        if child == 0 {
            libc::setsid();
            let own = libc::open(name.as_ptr(), libc::O_RDWR);
            let tty = libc::open(c"/dev/tty".as_ptr(), libc::O_RDWR);
            let again = libc::open(c"/proc/self/fd/0".as_ptr(), libc::O_WRONLY);
            libc::dup2(own, 0);
            let opened = libc::open(c"/dev/stdin".as_ptr(), libc::O_WRONLY);
            let said = format!("{} {} {}", tty >= 0, libc::tcgetsid(0) == libc::getpid(), opened >= 0);
            libc::close(again);
            libc::write(tty, said.as_ptr().cast(), said.len());
            libc::_exit(0);
        }
        let mut buffer = [0_u8; 64];
        let length = libc::read(master, buffer.as_mut_ptr().cast(), buffer.len());
        println!("on it: {}", String::from_utf8_lossy(&buffer[..length.max(0) as usize]));
        libc::waitpid(child, std::ptr::null_mut(), 0);
        libc::close(slave);
        println!("nobody {}", libc::read(master, buffer.as_mut_ptr().cast(), buffer.len()));
        libc::close(master);
        println!("gone {:?}", File::open(&path).map_err(|error| error.kind()));
    }
}
