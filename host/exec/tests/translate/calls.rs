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
    if let Some(difference) = same::difference(&expected, &world.output_of(&step)) {
        panic!("{difference}");
    }
}

/// The part inside.
pub fn main() -> ExitCode {
    sockets();
    peers();
    locks();
    locks_for_reading();
    links_of_proc();
    watches();
    memory_program();
    moved_files();
    terminals();
    openings();
    attributes();
    access_lists();
    running_programs();
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

    // Names of both ends in every call that tells them; two directories have a socket of the same name.
    std::fs::create_dir("other").expect("a directory");
    std::env::set_current_dir("other").expect("it exists");
    let namesake = UnixDatagram::bind("sender").expect("a socket");
    namesake.connect("/tmp/datagrams").expect("connected");
    println!("peer {:?} of {:?}", namesake.peer_addr(), namesake.local_addr());
    sender.send_to(b"three", "/tmp/datagrams").expect("sent");
    namesake.send(b"four").expect("sent");
    send_two(&sender, ["/tmp/datagrams", "/tmp/datagrams"]);
    for _ in 0..2 {
        let mut buffer = [0; 16];
        let (length, from) = receiver.recv_from(&mut buffer).expect("received");
        println!("{} from {from:?}", String::from_utf8_lossy(&buffer[..length]));
    }
    receive_message(&receiver);
    receive_message(&receiver);
}

/// sendmmsg(2), again as long as something is left.
fn send_two(socket: &UnixDatagram, names: [&str; 2]) {
    // SAFETY: all pointers are to live variables of the sizes given with them.
    unsafe {
        let mut addresses: [libc::sockaddr_un; 2] = std::mem::zeroed();
        let mut parts: [libc::iovec; 2] = std::mem::zeroed();
        let mut messages: [libc::mmsghdr; 2] = std::mem::zeroed();
        for (number, name) in names.iter().enumerate() {
            addresses[number].sun_family = libc::AF_UNIX as u16;
            for (into, from) in addresses[number].sun_path.iter_mut().zip(name.bytes()) {
                *into = from as libc::c_char;
            }
            parts[number] = libc::iovec { iov_base: c"many".as_ptr().cast_mut().cast(), iov_len: 3 + number };
            let header = &mut messages[number].msg_hdr;
            header.msg_name = (&raw mut addresses[number]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_un>() as u32;
            header.msg_iov = &raw mut parts[number];
            header.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < 2 {
            let more = libc::sendmmsg(socket.as_raw_fd(), &raw mut messages[sent], 2 - sent as u32, 0);
            assert!(more > 0, "{}", std::io::Error::last_os_error());
            sent += more as usize;
        }
        println!("sendmmsg {:?}", messages.map(|message| message.msg_len));
    }
}

/// recvmsg(2) with the name and the ids of the sender.
fn receive_message(socket: &UnixDatagram) {
    // SAFETY: all pointers are to live variables of the sizes given with them; the control data is as long as it says.
    unsafe {
        let on: libc::c_int = 1;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const on).cast(), 4);
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        let (mut buffer, mut control) = ([0_u8; 16], [0_u64; 8]);
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = size_of::<libc::sockaddr_un>() as u32;
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control));
        let length = libc::recvmsg(socket.as_raw_fd(), &mut message, 0);
        let name = std::ffi::CStr::from_ptr(address.sun_path.as_ptr());
        let header = libc::CMSG_FIRSTHDR(&message);
        let sender = (!header.is_null()).then(|| libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned());
        let ids = sender.map(|sender| (sender.pid == libc::getpid(), sender.uid, sender.gid));
        println!("recvmsg {length} from {name:?} of {} bytes, {ids:?}", message.msg_namelen);
    }
}

/// Who is at the other end of a socket: an ordinary user, and whoever asks.
fn peers() {
    let listener = UnixListener::bind("/tmp/peers").expect("a socket");
    // SAFETY: a child that makes calls and ends; live variables of the sizes given with them.
    unsafe {
        libc::chmod(c"/tmp/peers".as_ptr(), 0o777);
        let child = libc::fork();
        if child == 0 {
            libc::setgid(1000);
            libc::setuid(33);
            let stream = UnixStream::connect("/tmp/peers").expect("it may");
            (&stream).read_exact(&mut [0]).expect("the end");
            libc::_exit(0);
        }
        let tell = |socket: i32, process: i32| {
            let mut peer: libc::ucred = std::mem::zeroed();
            let mut length = size_of::<libc::ucred>() as u32;
            let asked =
                libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &mut length);
            println!("peer {asked} {length} {} {} {}", peer.pid == process, peer.uid, peer.gid);
        };
        let (stream, _) = listener.accept().expect("the client");
        tell(stream.as_raw_fd(), child);
        (&stream).write_all(b"!").expect("sent");
        libc::waitpid(child, std::ptr::null_mut(), 0);
        tell(stream.as_raw_fd(), child);
        tell(UnixStream::pair().expect("a pair").0.as_raw_fd(), libc::getpid());
        tell(UnixDatagram::unbound().expect("a socket").as_raw_fd(), 0);
    }
    // Who says who it is; and who says that it is somebody else.
    let (one, other) = UnixDatagram::pair().expect("a pair");
    send_as(&one, (0, 0));
    receive_message(&other);
    as_user(33, || {
        send_as(&one, (33, 33));
        send_as(&one, (0, 0));
        send_as(&one, (33, 0));
    });
    receive_message(&other);
}

/// sendmsg(2) with the ids of the sender.
fn send_as(socket: &UnixDatagram, (uid, gid): (u32, u32)) {
    // SAFETY: all pointers are to live variables of the sizes given with them, and the control data has room for what is
    // written there.
    unsafe {
        let mut part = libc::iovec { iov_base: c"text".as_ptr().cast_mut().cast(), iov_len: 4 };
        let mut control = [0_u64; 8];
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<libc::ucred>() as u32) as usize;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<libc::ucred>() as u32) as usize;
        ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_CREDENTIALS);
        let ids = libc::ucred { pid: libc::getpid(), uid, gid };
        libc::CMSG_DATA(header).cast::<libc::ucred>().write_unaligned(ids);
        let sent = libc::sendmsg(socket.as_raw_fd(), &message, 0);
        let error = std::io::Error::last_os_error().raw_os_error().filter(|_| sent < 0);
        println!("sent {sent} {error:?} as {uid}:{gid}");
    }
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

/// Locks by descriptors that are open for reading, on a file of the base.
fn locks_for_reading() {
    let open = || File::open("/srv/locked").expect("of the base");
    let lock = |file: &File, operation: i32| -> i32 {
        // SAFETY: a descriptor that is open.
        unsafe { libc::flock(file.as_raw_fd(), operation) }
    };
    let (one, other) = (open(), open());
    let (exclusive, shared) = (libc::LOCK_EX | libc::LOCK_NB, libc::LOCK_SH | libc::LOCK_NB);
    println!("unlock {} bad {}", lock(&one, libc::LOCK_UN), lock(&one, 77));
    println!("shared {} {}, exclusive {}", lock(&one, shared), lock(&other, shared), lock(&one, exclusive));
    println!("unlock {}, exclusive {}", lock(&other, libc::LOCK_UN), lock(&one, exclusive));
    println!("other {}", lock(&other, shared));
    let writer = File::options().read(true).write(true).open("/srv/locked").expect("ours");
    println!("writer {}", lock(&writer, shared));
    println!("unlock {}, writer {}", lock(&one, libc::LOCK_UN), lock(&writer, exclusive));
    println!("one {}, unlock {}", lock(&one, shared), lock(&writer, libc::LOCK_UN));
    // A lock belongs to the open file, whoever took it.
    let same = one.try_clone().expect("a descriptor");
    in_child(|| lock(&same, exclusive));
    println!("of the child: other {}, again {}", lock(&other, exclusive), lock(&one, exclusive));
    drop(one);
    println!("one of two closed: {}", lock(&other, exclusive));
    drop(same);
    println!("both closed: {}", lock(&other, exclusive));
    // Waiting.
    let begun = std::time::Instant::now();
    // SAFETY: the child makes calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = lock(&open(), libc::LOCK_SH);
        let waited = begun.elapsed() >= std::time::Duration::from_millis(150);
        // SAFETY: as above.
        unsafe { libc::_exit(if result == 0 && waited { 7 } else { 8 }) };
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    println!("unlock {}", lock(&other, libc::LOCK_UN));
    let mut status = 0;
    // SAFETY: a live variable.
    unsafe { libc::waitpid(child, &mut status, 0) };
    println!("waited {}", libc::WEXITSTATUS(status));
}

/// Takes a lock by a descriptor for reading, and says whether it is had.
pub fn lock(path: &str) {
    let file = File::open(path).expect("a file");
    let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    println!("{}", if locked.is_ok() { "locked" } else { "held" });
}

fn in_child(act: impl FnOnce() -> i32) {
    // SAFETY: the child makes calls and ends.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(act());
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        println!("child {}", libc::WEXITSTATUS(status));
    }
}

/// What is done to a descriptor's link is done to its file, here one of the base that is open for reading.
fn links_of_proc() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let file = File::open("/srv/by-link").expect("of the base");
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let tell = |what: &str| {
        let seen = std::fs::metadata("/srv/by-link").expect("it is there");
        println!("{what} {:o} {} {} {}", seen.mode(), seen.mtime(), seen.nlink(), seen.len());
    };
    let path = std::ffi::CString::new(link.as_str()).expect("no NUL");
    let times = [libc::timespec { tv_sec: 77, tv_nsec: 0 }; 2];
    // SAFETY: NUL-terminated strings and two live times.
    unsafe {
        println!("utimensat {}", libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0));
        tell("time");
        std::fs::set_permissions(&link, PermissionsExt::from_mode(0o640)).expect("ours");
        tell("mode");
        let to = c"/srv/second-link";
        let follow = libc::AT_SYMLINK_FOLLOW;
        println!("linkat {}", libc::linkat(libc::AT_FDCWD, path.as_ptr(), libc::AT_FDCWD, to.as_ptr(), follow));
        tell("link");
        println!("truncate {}", libc::truncate(path.as_ptr(), 3));
    }
    println!("{:?} {:?}", std::fs::read_to_string("/srv/second-link"), std::fs::read_to_string("/srv/by-link"));
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

/// What is told of a file by its path is told by its descriptor, in each of the calls for that; ldconfig(8) relies on it.
fn same_in_every_way(file: &File, path: &str) {
    let all = |stat: &libc::stat| {
        let times = [stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec];
        (stat.st_dev, stat.st_ino, stat.st_nlink, stat.st_size, stat.st_blocks, times)
    };
    let path = std::ffi::CString::new(path).expect("no NUL");
    let of_descriptor = file.as_raw_fd();
    // SAFETY: NUL-terminated strings, a descriptor that is open, and live variables.
    unsafe {
        let [mut by_path, mut old, mut new]: [libc::stat; 3] = std::mem::zeroed();
        let results = [
            libc::syscall(libc::SYS_stat, path.as_ptr(), &mut by_path),
            libc::syscall(libc::SYS_fstat, of_descriptor, &mut old),
            libc::syscall(libc::SYS_newfstatat, of_descriptor, c"".as_ptr(), &mut new, libc::AT_EMPTY_PATH),
        ];
        println!("the same {results:?} {} {}", all(&by_path) == all(&old), all(&by_path) == all(&new));
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
        same_in_every_way(&file, when);
        let at = when.len() as u32 % 8;
        println!("changed {} {}", change(at, true), change(at, false));
        let seen = file.metadata().expect("it is open");
        println!("then {:o} {}:{} {} {}", seen.mode(), seen.uid(), seen.gid(), seen.nlink(), seen.mtime());
    };
    same_in_every_way(&file, "/srv/base");
    std::fs::rename("/srv/base", "/srv/moved").expect("ours");
    tell("/srv/moved");
    std::fs::hard_link("/srv/moved", "/srv/linked").expect("a name");
    std::fs::remove_file("/srv/moved").expect("ours");
    tell("/srv/linked");
    std::fs::rename("/srv/linked", "/tmp/elsewhere").expect("ours");
    tell("/tmp/elsewhere");
    std::fs::write("/tmp/other", "other").expect("a file");
    std::fs::rename("/tmp/other", "/tmp/elsewhere").expect("ours");
    tell("replaced");
    let mut text = String::new();
    (&file).read_to_string(&mut text).expect("it is open");
    println!("still {text:?}");
}

/// Both ends of a terminal, and a session that runs on it.
pub fn terminals() {
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

/// openat2(2): every limit on every kind of path, and what it refuses.
fn openings() {
    use std::os::unix::fs::symlink;
    let path = std::path::Path::new("/srv/openings");
    std::fs::create_dir_all(path.join("deep/deeper")).expect("a directory");
    std::fs::write(path.join("deep/file"), "text").expect("a file");
    let links = [
        ("up", "../.."),
        ("absolute", "/srv/base"),
        ("inside", "deep/file"),
        ("rooted", "/deep/file"),
        ("proc", "/proc"),
    ];
    for (name, target) in
        links.into_iter().chain([("self", "/proc/self/cwd"), ("loop", "loop"), ("back", "deep/../deep")])
    {
        symlink(target, path.join(name)).expect("a link");
    }
    let directory = File::open(path).expect("it exists");
    std::env::set_current_dir("/srv").expect("it exists");
    let open = |name: &str, how: [u64; 3], size: usize| {
        let name = std::ffi::CString::new(name).expect("no NUL");
        // SAFETY: a NUL-terminated string and a structure of at least the size that is told.
        unsafe {
            let how = [how[0], how[1], how[2], 0, 0];
            let opened = libc::syscall(libc::SYS_openat2, directory.as_raw_fd(), name.as_ptr(), how.as_ptr(), size);
            if opened < 0 {
                return format!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
            }
            let seen = std::fs::read_link(format!("/proc/self/fd/{opened}")).expect("it is open");
            libc::close(opened as i32);
            seen.display().to_string().replace(&format!("/proc/{}/", std::process::id()), "/proc/PID/")
        }
    };
    let names = [
        "deep/file",
        "deep",
        "../base",
        "/srv/base",
        "/deep/file",
        "up",
        "up/srv",
        "absolute",
        "inside",
        "rooted",
        "proc",
        "proc/version",
        "self",
        "self/base",
        "loop",
        "back/file",
        "deep/../..",
        "deep/../deep/file",
        ".",
        "..",
        "/",
        "/../deep",
        "/proc/self/stat",
        "/proc/self/root/srv/base",
        "/dev/null",
        "missing",
        "deep/file/",
        "",
    ];
    let limits = [
        0,
        libc::RESOLVE_NO_XDEV,
        libc::RESOLVE_NO_MAGICLINKS,
        libc::RESOLVE_NO_SYMLINKS,
        libc::RESOLVE_BENEATH,
        libc::RESOLVE_IN_ROOT,
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_XDEV,
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS,
        libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT,
        1 << 20,
    ];
    for name in names {
        for resolve in limits {
            println!("openat2 {name} {resolve:x}: {}", open(name, [libc::O_RDONLY as u64, 0, resolve], 24));
        }
    }
    let link = (libc::O_PATH | libc::O_NOFOLLOW) as u64;
    println!("the link itself: {}", open("inside", [link, 0, libc::RESOLVE_NO_SYMLINKS], 24));
    println!("over it: {}", open("back/file", [link, 0, libc::RESOLVE_NO_SYMLINKS], 24));
    let creating = (libc::O_CREAT | libc::O_RDWR) as u64;
    for (name, how, size) in [
        ("new", [creating, 0o640, libc::RESOLVE_IN_ROOT], 24),
        ("/deep/new", [creating, 0o640, libc::RESOLVE_IN_ROOT], 24),
        ("../new", [creating, 0o640, libc::RESOLVE_BENEATH], 24),
        ("deep/file", [0, 0o640, 0], 24),
        ("deep/file", [creating, 0o10000, 0], 24),
        ("deep/file", [1 << 40, 0, 0], 24),
        ("deep/file", [(libc::O_PATH | libc::O_APPEND) as u64, 0, 0], 24),
        ("deep/file", [0, 0, 0], 16),
        ("deep/file", [0, 0, 0], 40),
        ("deep", [(libc::O_TMPFILE | libc::O_RDONLY) as u64, 0, 0], 24),
        ("deep", [(libc::O_TMPFILE | libc::O_RDWR) as u64 & !(libc::O_DIRECTORY as u64), 0o600, 0], 24),
    ] {
        println!("openat2 {name} {how:x?} {size}: {}", open(name, how, size));
    }
    println!(
        "made {:?}",
        std::fs::metadata("/srv/openings/deep/new").map(|seen| seen.len()).map_err(|error| error.kind())
    );
}

fn attribute(path: &str, name: &str, value: Option<&[u8]>) -> String {
    let names = [path, name].map(|text| std::ffi::CString::new(text).expect("no NUL"));
    let mut buffer = [0_u8; 128];
    // SAFETY: NUL-terminated strings and live buffers of the sizes given with them.
    let result = unsafe {
        match value {
            Some([]) => libc::lremovexattr(names[0].as_ptr(), names[1].as_ptr()) as isize,
            Some(value) => {
                let (place, size) = (value.as_ptr().cast(), value.len());
                libc::lsetxattr(names[0].as_ptr(), names[1].as_ptr(), place, size, 0) as isize
            }
            None => {
                let place = buffer.as_mut_ptr().cast();
                libc::lgetxattr(names[0].as_ptr(), names[1].as_ptr(), place, buffer.len())
            }
        }
    };
    match result {
        0.. => format!("{result} {:?}", &buffer[..if value.is_none() { result as usize } else { 0 }]),
        _ => format!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
    }
}

fn attribute_names(path: &str) -> String {
    let path = std::ffi::CString::new(path).expect("no NUL");
    let mut buffer = [0 as libc::c_char; 256];
    // SAFETY: a NUL-terminated string and a live buffer.
    let length = unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };
    let bytes: Vec<u8> = buffer[..length.max(0) as usize].iter().map(|&byte| byte as u8).collect();
    let mut names: Vec<_> = bytes.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    names.sort();
    format!("{length} {names:?}")
}

/// Attributes of every kind on files of every kind, for root and for others.
fn attributes() {
    std::fs::create_dir("/srv/attributes").expect("a directory");
    std::env::set_current_dir("/srv/attributes").expect("it exists");
    std::fs::write("file", "text").expect("a file");
    std::fs::create_dir("directory").expect("a directory");
    std::os::unix::fs::symlink("file", "link").expect("a link");
    // SAFETY: NUL-terminated strings.
    unsafe {
        libc::mkfifo(c"pipe".as_ptr(), 0o600);
        libc::mknod(c"device".as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(5, 1));
        libc::chmod(c"file".as_ptr(), 0o644);
    }
    let names = ["user.x", "user.", "trusted.x", "security.x", "system.x", "other.x", "x", "security.capability"];
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let all = || {
        for path in ["file", "directory", "link", "pipe", "device", "missing"] {
            for name in names {
                let value: &[u8] = if name.ends_with("capability") { &capability } else { b"value" };
                println!(
                    "{path} {name}: {} {} {} {}",
                    attribute(path, name, Some(value)),
                    attribute(path, name, None),
                    attribute_names(path),
                    attribute(path, name, Some(&[])),
                );
            }
        }
    };
    all();
    println!("{}", attribute("file", "user.kept", Some(b"kept")));
    as_user(33, all);
}

/// Runs something in a child with the ids of an ordinary user.
fn as_user(user: u32, act: impl Fn()) {
    use std::io::Write;
    std::io::stdout().flush().expect("written");
    // SAFETY: the child acts and ends; there is one thread.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::setgroups(0, std::ptr::null());
            libc::setgid(user);
            libc::setuid(user);
            act();
            std::io::stdout().flush().expect("written");
            libc::_exit(0);
        }
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

/// A list in the form of its attribute: tag, permissions, id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Access control lists: what they do to modes and modes to them, whom they let in, what new files get of them.
fn access_lists() {
    use std::os::unix::fs::PermissionsExt;
    const NONE: u32 = u32::MAX;
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    std::fs::create_dir("/srv/lists").expect("a directory");
    std::env::set_current_dir("/srv/lists").expect("it exists");
    let mode = |path: &str| format!("{:o}", std::fs::symlink_metadata(path).expect("it exists").permissions().mode());
    std::fs::write("file", "text").expect("a file");
    let named = [(1, 6, NONE), (2, 6, 33), (4, 4, NONE), (8, 7, 1000), (0x10, 5, NONE), (0x20, 0, NONE)];
    println!("none {} {}", attribute("file", access, None), attribute("file", access, Some(&[])));
    println!("set {} {}", attribute("file", access, Some(&list(&named))), mode("file"));
    println!("names {}", attribute_names("file"));
    let try_all = |path: &'static str| {
        move || {
            let path = std::ffi::CString::new(path).expect("no NUL");
            // SAFETY: a NUL-terminated string.
            let answers = [libc::R_OK, libc::W_OK, libc::X_OK].map(|way| unsafe { libc::access(path.as_ptr(), way) });
            let way = "/srv/lists";
            println!(
                "user: {answers:?} {:?}",
                File::open(format!("{way}/file")).map(drop).map_err(|error| error.kind())
            );
            println!(
                "{}",
                attribute(
                    "file",
                    "system.posix_acl_access",
                    Some(&list(&[(1, 7, NONE), (4, 7, NONE), (0x20, 7, NONE)]))
                )
            );
        }
    };
    for user in [33, 1000, 7] {
        as_user(user, try_all("file"));
    }
    for bits in [0o640, 0o777, 0o4700] {
        std::fs::set_permissions("file", PermissionsExt::from_mode(bits)).expect("ours");
        println!("chmod {bits:o}: {} {}", mode("file"), attribute("file", access, None));
        for user in [33, 1000, 7] {
            as_user(user, try_all("file"));
        }
    }
    for (what, entries) in [
        ("plain", vec![(1, 6, NONE), (4, 4, NONE), (0x20, 4, NONE)]),
        ("empty", vec![]),
        ("mask only", vec![(1, 6, NONE), (4, 6, NONE), (0x10, 1, NONE), (0x20, 4, NONE)]),
        ("no mask", vec![(1, 6, NONE), (2, 6, 33), (4, 4, NONE), (0x20, 0, NONE)]),
        ("out of order", vec![(4, 6, NONE), (1, 6, NONE), (0x20, 4, NONE)]),
        ("no others", vec![(1, 6, NONE), (4, 6, NONE)]),
        ("unknown", vec![(1, 6, NONE), (4, 6, NONE), (0x40, 4, NONE)]),
    ] {
        println!("{what}: {} {}", attribute("file", access, Some(&list(&entries))), mode("file"));
        println!("then {} {}", attribute("file", access, None), attribute_names("file"));
    }
    println!("default of a file {}", attribute("file", default, Some(&list(&named))));
    std::os::unix::fs::symlink("file", "link").expect("a link");
    println!("of a link {} {}", attribute("link", access, Some(&list(&named))), attribute("link", access, None));
    std::fs::create_dir("directory").expect("a directory");
    println!(
        "default {} {}",
        attribute("directory", default, Some(&list(&named))),
        attribute("directory", default, None)
    );
    std::fs::write("directory/new", "").expect("a file");
    std::fs::create_dir("directory/below").expect("a directory");
    std::os::unix::fs::symlink("new", "directory/link").expect("a link");
    // SAFETY: a NUL-terminated string.
    unsafe { libc::mkfifo(c"directory/pipe".as_ptr(), 0o600) };
    for path in ["directory", "directory/new", "directory/below", "directory/link", "directory/pipe"] {
        println!("{path} {} {} {}", mode(path), attribute(path, access, None), attribute(path, default, None));
    }
    println!("removed {} {}", attribute("directory", default, Some(&[])), attribute("directory", default, None));
}

/// Nobody writes to a program that runs: one of the base, one that was made, this one.
fn running_programs() {
    std::fs::copy("/bin/busybox", "/tmp/busybox").expect("a copy");
    std::fs::write("/tmp/script", "#!/tmp/busybox sh\nread line\n").expect("a script");
    std::fs::set_permissions("/tmp/script", std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let tell = |path: &str| {
        let name = std::ffi::CString::new(path).expect("no NUL");
        let mut answers = Vec::new();
        for flags in [Some(libc::O_RDONLY), Some(libc::O_WRONLY), Some(libc::O_RDWR), None] {
            // SAFETY: a NUL-terminated string.
            let result = unsafe {
                match flags {
                    Some(flags) => libc::open(name.as_ptr(), flags | libc::O_CLOEXEC),
                    // It becomes longer at most.
                    None => libc::truncate(name.as_ptr(), 16 << 20),
                }
            };
            answers.push(if result < 0 { std::io::Error::last_os_error().raw_os_error() } else { None });
            // SAFETY: nobody else has the descriptor.
            if flags.is_some() && result >= 0 {
                unsafe { libc::close(result) };
            }
        }
        println!("{path} {answers:?}");
    };
    let run = |words: &[&str], paths: &[&str]| {
        let mut command = std::process::Command::new(words[0]);
        let mut child = command.args(&words[1..]).stdin(std::process::Stdio::piped()).spawn().expect("it starts");
        paths.iter().for_each(|path| tell(path));
        drop(child.stdin.take());
        println!("ended {:?}", child.wait().expect("it ended").code());
        paths.iter().for_each(|path| tell(path));
    };
    run(&["/bin/busybox", "cat"], &["/bin/busybox", "/bin/test-program"]);
    run(&["/tmp/busybox", "cat"], &["/tmp/busybox"]);
    run(&["/tmp/script"], &["/tmp/busybox", "/tmp/script"]);
}
