//! Random sequences of file system calls, and what they give: the same under the translator as for root of a namespace.

use std::{ffi::CString, fmt::Write as _, mem::MaybeUninit};

/// A small generator (xorshift), so that a seed names a sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "long-name"];
const MODES: [u32; 14] =
    [0, 0o111, 0o400, 0o444, 0o555, 0o600, 0o644, 0o664, 0o700, 0o755, 0o777, 0o1777, 0o2755, 0o4755];
const IDS: [u32; 5] = [0, 1, 33, 1000, u32::MAX];

/// A path that may or may not exist, in all the ways in which paths are written.
fn path(random: &mut Random) -> String {
    let mut path = String::new();
    match random.below(12) {
        0 => path.push_str("/w/"),
        1 => path.push_str("../w/"),
        2 => path.push_str("./"),
        3 => path.push_str("/proc/self/cwd/"),
        _ => {}
    }
    for depth in 0..=random.below(3) {
        if depth > 0 {
            path.push_str(random.pick(&["/", "/", "/", "//", "/./", "/../"]));
        }
        path.push_str(random.pick(&NAMES));
    }
    match random.below(24) {
        0 => path.push('/'),
        1 => path.push_str("/."),
        2 => path.push_str("/.."),
        3 => return String::new(),
        4 => return ".".into(),
        5 => return "/".into(),
        6 => path.push_str("//"),
        _ => {}
    }
    path
}

fn c(path: &str) -> CString {
    CString::new(path).expect("no NUL")
}

fn outcome(result: i64) -> String {
    if result >= 0 {
        return result.to_string();
    }
    format!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn described(result: i32, stat: &libc::stat) -> String {
    if result != 0 {
        return outcome(result.into());
    }
    let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    // What a file system says of its directories' links and sizes is its own affair.
    let (links, size) = if directory { (0, 0) } else { (stat.st_nlink, stat.st_size) };
    format!("{:o} {}:{} {links} {size} {:x}", stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev)
}

/// Makes `count` calls in the directory `/w`, and prints what each gave; then what is there.
pub fn main(arguments: &[String]) -> std::process::ExitCode {
    let [seed, count] = arguments else { return std::process::ExitCode::from(2) };
    let mut random = Random(seed.parse::<u64>().expect("a number").wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    if !std::path::Path::new("/w").exists() {
        std::fs::create_dir("/w").expect("a directory");
    }
    std::env::set_current_dir("/w").expect("it exists");
    let (mut said, mut held) = (String::new(), [-1; 4]);
    for number in 0..count.parse::<usize>().expect("a number") {
        let line = operation(&mut random, &mut held);
        let _ = writeln!(said, "{number} {line}");
    }
    // SAFETY: numbers only.
    unsafe {
        libc::seteuid(0);
        libc::setegid(0);
    }
    list("/w", &mut said);
    print!("{said}");
    std::process::ExitCode::SUCCESS
}

fn operation(random: &mut Random, held: &mut [i32; 4]) -> String {
    let (one, two) = (path(random), path(random));
    let (first, second) = (c(&one), c(&two));
    let mode = random.pick(&MODES);
    let (uid, gid) = (random.pick(&IDS), random.pick(&IDS));
    let here = libc::AT_FDCWD;
    let follow = random.pick(&[0, libc::AT_SYMLINK_NOFOLLOW]);
    // SAFETY: every pointer is to a NUL-terminated string or to a live variable of the size that the call expects.
    unsafe {
        let mut stat: libc::stat = MaybeUninit::zeroed().assume_init();
        match random.below(42) {
            0 | 1 => format!("mkdir {one} {mode:o} = {}", outcome(libc::mkdir(first.as_ptr(), mode).into())),
            2 => format!("rmdir {one} = {}", outcome(libc::rmdir(first.as_ptr()).into())),
            3 => format!("unlink {one} = {}", outcome(libc::unlink(first.as_ptr()).into())),
            4..=8 => {
                let mut flags = random.pick(&[libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR]);
                for flag in [libc::O_CREAT, libc::O_CREAT, libc::O_EXCL, libc::O_TRUNC, libc::O_NOFOLLOW] {
                    flags |= if random.below(3) == 0 { flag } else { 0 };
                }
                flags |= if random.below(8) == 0 { libc::O_DIRECTORY } else { 0 };
                flags |= if random.below(8) == 0 { libc::O_PATH } else { 0 };
                let file = libc::open(first.as_ptr(), flags | libc::O_NONBLOCK | libc::O_CLOEXEC, mode);
                let mut line = format!("open {one} {flags:x} {mode:o} = {}", outcome(i64::from(file).min(0)));
                if file >= 0 {
                    let result = libc::fstat(file, &mut stat);
                    let _ = write!(line, " {}", described(result, &stat));
                    match random.below(5) {
                        0 => {
                            let result = outcome(libc::fchmod(file, mode).into());
                            let _ = write!(line, " fchmod {result}");
                        }
                        1 => {
                            let result = outcome(libc::fchown(file, uid, gid).into());
                            let _ = write!(line, " fchown {result}");
                        }
                        2 => {
                            let result = outcome(libc::write(file, c"text".as_ptr().cast(), 4) as i64);
                            let _ = write!(line, " write {result}");
                        }
                        3 => {
                            let result = libc::fstatat(file, second.as_ptr(), &mut stat, follow);
                            let _ = write!(line, " fstatat {two} {}", described(result, &stat));
                        }
                        _ => {}
                    }
                    libc::close(file);
                }
                line
            }
            9 | 10 => format!("rename {one} {two} = {}", outcome(libc::rename(first.as_ptr(), second.as_ptr()).into())),
            11 => {
                let flags = random.pick(&[libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]);
                let result = libc::renameat2(here, first.as_ptr(), here, second.as_ptr(), flags);
                format!("renameat2 {one} {two} {flags} = {}", outcome(result.into()))
            }
            12 => format!("link {one} {two} = {}", outcome(libc::link(first.as_ptr(), second.as_ptr()).into())),
            13 => {
                let result = libc::linkat(here, first.as_ptr(), here, second.as_ptr(), libc::AT_SYMLINK_FOLLOW);
                format!("linkat {one} {two} = {}", outcome(result.into()))
            }
            14..=16 => {
                format!("symlink {one} {two} = {}", outcome(libc::symlink(first.as_ptr(), second.as_ptr()).into()))
            }
            17 | 18 => format!("chmod {one} {mode:o} = {}", outcome(libc::chmod(first.as_ptr(), mode).into())),
            19 | 20 => {
                let result = libc::fchownat(here, first.as_ptr(), uid, gid, follow);
                format!("chown {one} {uid} {gid} {follow} = {}", outcome(result.into()))
            }
            21 => {
                let time = libc::timespec { tv_sec: 1000 + random.below(1000) as i64, tv_nsec: 0 };
                let times = [time, time];
                let result = libc::utimensat(here, first.as_ptr(), times.as_ptr(), follow);
                format!("utimensat {one} {follow} = {}", outcome(result.into()))
            }
            22 => {
                let kind = random.pick(&[libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK, libc::S_IFCHR, libc::S_IFBLK]);
                let result = libc::mknod(first.as_ptr(), kind | mode, libc::makedev(7, 3));
                format!("mknod {one} {:o} = {}", kind | mode, outcome(result.into()))
            }
            23 => {
                let wanted = random.below(8) as i32;
                let flags = random.pick(&[0, libc::AT_EACCESS]);
                let result = libc::faccessat(here, first.as_ptr(), wanted, flags);
                format!("access {one} {wanted} {flags} = {}", outcome(result.into()))
            }
            24 => {
                let mut buffer = [0_u8; 64];
                let length = libc::readlink(first.as_ptr(), buffer.as_mut_ptr().cast(), 64);
                let target = String::from_utf8_lossy(&buffer[..length.max(0) as usize]).into_owned();
                format!("readlink {one} = {} {target}", outcome(length as i64))
            }
            25 | 26 => {
                let result = libc::fstatat(here, first.as_ptr(), &mut stat, follow);
                format!("stat {one} {follow} = {}", described(result, &stat))
            }
            27 => {
                let result = libc::chdir(first.as_ptr());
                let line = format!("chdir {one} = {}", outcome(result.into()));
                let mut buffer = [0_u8; 256];
                let got = libc::getcwd(buffer.as_mut_ptr().cast(), 256);
                let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(0);
                let told = if got.is_null() { outcome(-1) } else { String::from_utf8_lossy(&buffer[..end]).into() };
                if random.below(2) == 0 || !told.starts_with("/w") {
                    libc::chdir(c"/w".as_ptr());
                }
                format!("{line} cwd {told}")
            }
            28 => format!("truncate {one} = {}", outcome(libc::truncate(first.as_ptr(), 3).into())),
            29 => {
                let result = libc::setxattr(first.as_ptr(), c"user.x".as_ptr(), c"v".as_ptr().cast(), 1, 0);
                format!("setxattr {one} = {}", outcome(result.into()))
            }
            30 => {
                let mut buffer = [0_u8; 64];
                let result = libc::lgetxattr(first.as_ptr(), c"user.x".as_ptr(), buffer.as_mut_ptr().cast(), 64);
                format!("lgetxattr {one} = {}", outcome(result as i64))
            }
            31 => {
                let mask = random.pick(&[0, 0o22, 0o77, 0o27]);
                format!("umask {mask:o} = {}", outcome(libc::umask(mask).into()))
            }
            32 => {
                // To somebody else, or back.
                let back = libc::geteuid() != 0;
                let (uid, gid) = if back { (0, 0) } else { (random.pick(&[33, 1000]), random.pick(&[33, 1])) };
                let results = match back {
                    true => [libc::seteuid(uid), libc::setegid(gid)],
                    false => [libc::setegid(gid), libc::seteuid(uid)],
                };
                format!("become {uid} {gid} = {results:?} {} {}", libc::geteuid(), libc::getegid())
            }
            33 | 34 => {
                // Kept, whatever becomes of the name.
                let slot = random.below(held.len());
                libc::close(held[slot]);
                let flags = random.pick(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_RDWR, libc::O_PATH]);
                held[slot] = libc::open(first.as_ptr(), flags | libc::O_NONBLOCK | libc::O_CLOEXEC);
                format!("hold {slot} {one} {flags:x} = {}", outcome(i64::from(held[slot]).min(0)))
            }
            35..=37 => {
                let slot = random.below(held.len());
                on_held(random, held[slot], mode, [uid, gid]).replacen("held", &format!("held {slot}"), 1)
            }
            38 => {
                let list = access_list(random);
                let name = random.pick(&[c"system.posix_acl_access", c"system.posix_acl_default"]);
                let result = libc::setxattr(first.as_ptr(), name.as_ptr(), list.as_ptr().cast(), list.len(), 0);
                format!("setxattr {one} {name:?} {} = {}", list.len(), outcome(result.into()))
            }
            39 => {
                let name = random.pick(&[c"system.posix_acl_access", c"system.posix_acl_default"]);
                let mut value = [0_u8; 128];
                let length = libc::getxattr(first.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len());
                format!("getxattr {one} {name:?} = {} {:?}", outcome(length as i64), &value[..length.max(0) as usize])
            }
            40 => {
                let limits = [
                    libc::RESOLVE_NO_XDEV,
                    libc::RESOLVE_NO_MAGICLINKS,
                    libc::RESOLVE_NO_SYMLINKS,
                    libc::RESOLVE_BENEATH,
                    libc::RESOLVE_IN_ROOT,
                ];
                let resolve = random.pick(&limits) | if random.below(3) == 0 { random.pick(&limits) } else { 0 };
                let flags =
                    random.pick(&[libc::O_RDONLY, libc::O_PATH, libc::O_CREAT | libc::O_RDWR]) | libc::O_CLOEXEC;
                let flags = flags | if flags & libc::O_PATH == 0 { libc::O_NONBLOCK } else { 0 };
                let creates = flags & libc::O_CREAT != 0;
                let how = [flags as u64, if creates { mode.into() } else { 0 }, resolve];
                let from = if random.below(2) == 0 { here } else { random.pick(held) };
                let opened = libc::syscall(libc::SYS_openat2, from, first.as_ptr(), how.as_ptr(), size_of_val(&how));
                let line = format!("openat2 {one} {flags:x} {mode:o} {resolve:x} = {}", outcome(opened.min(0)));
                if opened < 0 {
                    return line;
                }
                let result = libc::fstat(opened as i32, &mut stat);
                libc::close(opened as i32);
                format!("{line} {}", described(result, &stat))
            }
            _ => {
                let result = libc::open(first.as_ptr(), libc::O_TMPFILE | libc::O_RDWR, mode);
                let line = format!("tmpfile {one} = {}", outcome(i64::from(result).min(0)));
                if result < 0 {
                    return line;
                }
                let link = c(&format!("/proc/self/fd/{result}"));
                let linked = libc::linkat(here, link.as_ptr(), here, second.as_ptr(), libc::AT_SYMLINK_FOLLOW);
                let line = format!("{line} linkat {two} = {}", outcome(linked.into()));
                libc::close(result);
                line
            }
        }
    }
}

/// Fills a directory with entries of the names that the calls use, of all kinds and modes and, if `owned`, owners.
pub fn fill(directory: &std::path::Path, seed: u64, depth: usize, owned: bool) {
    use std::os::unix::fs::symlink;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for name in NAMES {
        let path = directory.join(name);
        let text = c(path.to_str().expect("text"));
        match random.below(8) {
            0 => continue,
            1 => symlink(random.pick(&NAMES), &path).expect("a link"),
            2..=4 if depth > 0 => {
                std::fs::create_dir(&path).expect("a directory");
                fill(&path, random.next(), depth - 1, owned);
            }
            // SAFETY: a NUL-terminated string.
            5 => assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0),
            _ => std::fs::write(&path, "from the base".repeat(random.below(4))).expect("writable"),
        }
        let (uid, gid) = (random.pick(&[0, 0, 33]), random.pick(&[0, 0, 1000]));
        if owned {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).expect("root may");
        }
        if !path.is_symlink() {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(random.pick(&MODES));
            std::fs::set_permissions(&path, mode).expect("ours");
        }
        let time = libc::timespec { tv_sec: 2000 + random.below(900) as i64, tv_nsec: 0 };
        // SAFETY: a NUL-terminated string and two live values.
        let timed =
            unsafe { libc::utimensat(libc::AT_FDCWD, text.as_ptr(), [time; 2].as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
        assert_eq!(timed, 0);
    }
}

/// One call on a descriptor that was opened some time ago, or on none.
fn on_held(random: &mut Random, file: i32, mode: u32, [uid, gid]: [u32; 2]) -> String {
    // SAFETY: live variables and buffers of the sizes given with them, and NUL-terminated strings.
    unsafe {
        let mut stat: libc::stat = MaybeUninit::zeroed().assume_init();
        match random.below(8) {
            0 | 1 => {
                let result = libc::fstat(file, &mut stat);
                format!("held fstat {}", described(result, &stat))
            }
            2 => format!("held fchmod {mode:o} = {}", outcome(libc::fchmod(file, mode).into())),
            3 => format!("held fchown {uid} {gid} = {}", outcome(libc::fchown(file, uid, gid).into())),
            4 => {
                let time = libc::timespec { tv_sec: 1000 + random.below(1000) as i64, tv_nsec: 0 };
                format!("held futimens = {}", outcome(libc::futimens(file, [time; 2].as_ptr()).into()))
            }
            5 => {
                let result = libc::fsetxattr(file, c"user.x".as_ptr(), c"v".as_ptr().cast(), 1, 0);
                format!("held fsetxattr = {}", outcome(result.into()))
            }
            6 => {
                let mut buffer = [0_u8; 64];
                let result = libc::fgetxattr(file, c"user.x".as_ptr(), buffer.as_mut_ptr().cast(), 64);
                format!("held fgetxattr = {}", outcome(result as i64))
            }
            _ => {
                let result = libc::fstatat(file, c"".as_ptr(), &mut stat, libc::AT_EMPTY_PATH);
                format!("held fstatat {}", described(result, &stat))
            }
        }
    }
}

/// An access control list in the form of its attribute; now and then one that the kernel refuses.
fn access_list(random: &mut Random) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut entries: Vec<(u16, u32)> = vec![(1, NOBODY), (4, NOBODY), (0x20, NOBODY)];
    if random.below(2) == 0 {
        entries.insert(1, (2, random.pick(&[33, 1000])));
    }
    if random.below(3) == 0 {
        entries.insert(entries.len() - 1, (8, random.pick(&[33, 1])));
    }
    if entries.len() > 3 && random.below(8) != 0 {
        entries.insert(entries.len() - 1, (0x10, NOBODY));
    }
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&(random.below(8) as u16).to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Everything beneath a directory.
fn list(directory: &str, said: &mut String) {
    let mut names: Vec<String> = match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect(),
        Err(error) => {
            let _ = writeln!(said, "{directory}: {error}");
            return;
        }
    };
    names.sort();
    for name in names {
        let path = format!("{directory}/{name}");
        // SAFETY: a NUL-terminated string and a live variable.
        let (result, stat) = unsafe {
            let mut stat: libc::stat = MaybeUninit::zeroed().assume_init();
            (libc::lstat(c(&path).as_ptr(), &mut stat), stat)
        };
        let target = std::fs::read_link(&path).unwrap_or_default();
        let content = if stat.st_mode & libc::S_IFMT == libc::S_IFREG {
            std::fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        } else {
            Ok(String::new())
        };
        // A fifo's time is that of the last write through it, or not, on overlayfs.
        let fifo = stat.st_mode & libc::S_IFMT == libc::S_IFIFO;
        let old = if stat.st_mtime < 3000 && !fifo { stat.st_mtime } else { 0 };
        let _ = writeln!(said, "{path} {} {old} {} {content:?}", described(result, &stat), target.display());
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            list(&path, said);
        }
    }
}
