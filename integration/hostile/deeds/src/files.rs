//! Attacks on the file system. The host says in a value what the operating system answered: `refused: …`, or what was read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};

use crate::Deed;

pub(crate) fn said(result: io::Result<String>) -> Vec<u8> {
    match result {
        Ok(text) => text.into_bytes(),
        Err(error) => format!("refused: {}", error.kind()).into_bytes(),
    }
}

pub(crate) fn deed(verb: &str, argument: &str) -> Option<Deed> {
    let done = || "done".to_owned();
    let (first, second) = argument.split_once(' ').unwrap_or((argument, ""));
    let result = match verb {
        "read" => read(argument),
        "list" => fs::read_dir(argument).map(|all| all.count().to_string()),
        "metadata" => fs::symlink_metadata(argument).map(|data| data.len().to_string()),
        "write" => fs::write(argument, "x").map(|()| done()),
        "append" => OpenOptions::new().append(true).open(argument).map(|_| done()),
        "truncate" => OpenOptions::new().write(true).truncate(true).open(argument).map(|_| done()),
        "create-new" => File::create_new(argument).map(|_| done()),
        "make" => fs::create_dir(argument).map(|()| done()),
        "remove" => fs::remove_file(argument).map(|()| done()),
        "remove-directory" => fs::remove_dir(argument).map(|()| done()),
        "rename" => fs::rename(first, second).map(|()| done()),
        "hard-link" => fs::hard_link(first, second).map(|()| done()),
        "read-link" => fs::read_link(argument).map(|path| path.display().to_string()),
        // a path of the granted directory that leads nowhere for a long time
        "maze" => read(&format!("/granted/{}table", "sub/../".repeat(argument.parse().ok()?))),
        _ => raw(verb, argument)?,
    };
    Some(Deed::Emit(said(result)))
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(1000).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(not(target_family = "wasm"))]
fn raw(_: &str, _: &str) -> Option<io::Result<String>> {
    None
}

/// Through WASI's own functions, without what libc checks before.
#[cfg(target_family = "wasm")]
fn raw(verb: &str, argument: &str) -> Option<io::Result<String>> {
    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
    let directories = get_directories();
    let Some((root, _)) = directories.into_iter().next() else {
        return Some(Err(io::Error::other("there is no directory")));
    };
    let follow = PathFlags::SYMLINK_FOLLOW;
    let open = |root: &Descriptor, path: &str| root.open_at(follow, path, OpenFlags::empty(), DescriptorFlags::READ);
    let result = match verb {
        "raw-read" => open(&root, argument)
            .and_then(|file| file.read(1000, 0))
            .map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned()),
        "raw-open-write" => root
            .open_at(follow, argument, OpenFlags::CREATE | OpenFlags::TRUNCATE, DescriptorFlags::WRITE)
            .map(|_| "done".into()),
        "raw-mutate" => root
            .open_at(follow, argument, OpenFlags::DIRECTORY, DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY)
            .and_then(|directory| directory.create_directory_at("made"))
            .map(|()| "done".into()),
        "raw-write" => open(&root, argument).and_then(|file| file.write(b"x", 0)).map(|_| "done".into()),
        "raw-resize" => open(&root, argument).and_then(|file| file.set_size(0)).map(|()| "done".into()),
        "raw-symlink" => root.symlink_at("/etc/passwd", argument).map(|()| "done".into()),
        "raw-times" => {
            root.set_times_at(follow, argument, NewTimestamp::Now, NewTimestamp::Now).map(|()| "done".into())
        }
        "raw-read-large" => open(&root, argument)
            .and_then(|file| file.read(u64::MAX, 0))
            .map(|(bytes, _)| format!("{} bytes", bytes.len())),
        // as many streams as there are handles, each with what it has read ahead
        "raw-hoard-streams" => {
            let mut streams = Vec::new();
            loop {
                let stream = match open(&root, argument).and_then(|file| file.read_via_stream(0)) {
                    Ok(stream) => stream,
                    Err(code) => break Err(code),
                };
                stream.subscribe().block();
                let _ = stream.read(1);
                let _ = stream.blocking_read(1 << 20).map(|bytes| bytes.len());
                let _ = stream.read(1 << 20);
                stream.subscribe().block();
                streams.push(stream);
            }
        }
        // as many listings of a directory as there are handles
        "raw-hoard-listings" => {
            let mut listings = Vec::new();
            loop {
                match root.read_directory() {
                    Ok(listing) => listings.push(listing),
                    Err(code) => break Err(code),
                }
            }
        }
        "raw-stat-storm" => loop {
            let _ = root.stat_at(follow, argument);
        },
        "raw-path" => open(&root, &"sub/../".repeat(argument.parse().ok()?)).map(|_| "done".into()),
        _ => return None,
    };
    Some(result.map_err(|code: ErrorCode| io::Error::other(code.name().to_owned())))
}
