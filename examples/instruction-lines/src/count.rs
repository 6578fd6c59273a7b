//! Counting, apart from everything that belongs to WebAssembly: `cargo test` runs it on any machine.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// The regular files beneath a directory and their lines, sorted by path.
pub fn files(root: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    visit(root, "", &mut files)?;
    files.sort();
    Ok(files)
}

/// One line for each file, and their sum.
pub fn report(files: &[(String, u64)]) -> String {
    let mut report = String::new();
    for (path, lines) in files {
        report.push_str(&format!("{lines} {path}\n"));
    }
    report.push_str(&format!("{} total\n", files.iter().map(|(_, lines)| lines).sum::<u64>()));
    report
}

/// `path` beneath the working directory, unless it is absolute.
pub fn resolve(working_directory: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", working_directory.trim_end_matches('/')),
    }
}

fn visit(directory: &Path, prefix: &str, files: &mut Vec<(String, u64)>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        // Nothing matched: then there is no /context at all.
        Err(error) if prefix.is_empty() && error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            visit(&entry.path(), &format!("{name}/"), files)?;
        } else if kind.is_file() {
            files.push((name, lines(File::open(entry.path())?)?));
        }
    }
    Ok(())
}

/// Reads in pieces, so that a large file needs no more memory than a small one.
fn lines(mut file: File) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut lines = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(lines),
            length => lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_in_order() {
        let root = std::env::temp_dir().join(format!("count-lines-{}", std::process::id()));
        fs::create_dir_all(root.join("b")).unwrap();
        fs::write(root.join("b/x"), "1\n2\n3").unwrap();
        fs::write(root.join("a"), "1\n").unwrap();
        let files = files(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(report(&files), "1 a\n2 b/x\n3 total\n");
    }

    #[test]
    fn without_a_context_there_is_nothing() {
        assert_eq!(report(&files(Path::new("/no/such/directory")).unwrap()), "0 total\n");
    }

    #[test]
    fn destinations_are_beneath_the_working_directory() {
        assert_eq!(resolve("/", "x"), "/x");
        assert_eq!(resolve("/app", "x"), "/app/x");
        assert_eq!(resolve("/app", "/x"), "/x");
    }
}
