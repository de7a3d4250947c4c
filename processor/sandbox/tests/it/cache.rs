//! Compiled modules on disk: used again, never trusted blindly.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pelton_sandbox::{Engine, EngineConfig, Generation, Instance};

use crate::support::{Out, acts, config, guest_path, spec};

fn engine(dir: &Path) -> Engine {
    Engine::new(EngineConfig { cache_dir: Some(dir.into()), ..config() }).unwrap()
}

/// Loads the packed guest and checks that it works.
fn works(engine: &Engine) {
    let module = engine.load(&guest_path("packed"), None).unwrap();
    let generation = Generation::prepare(&module, spec(), 1).unwrap();
    assert_eq!(acts(&mut Instance::new(&generation).unwrap(), &["keep"]), [Out::Keep]);
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[test]
fn an_entry_is_written_once_and_used_by_the_next_process() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache");
    let first = engine(&dir);
    works(&first);
    assert_eq!(first.loads(), (0, 1), "compiled");
    works(&first);
    let [entry] = &entries(&dir)[..] else { panic!("one entry, not {:?}", entries(&dir)) };
    let written = fs::metadata(entry).unwrap();
    // another engine of the same settings, as after a restart
    let next = engine(&dir);
    works(&next);
    assert_eq!(next.loads(), (1, 0), "from the cache");
    let used = fs::metadata(entry).unwrap();
    assert_eq!(used.ino(), written.ino(), "it was not compiled again");
    assert!(used.modified().unwrap() > written.modified().unwrap(), "it is known to have been used");
    assert_eq!(fs::metadata(dir.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "no litter");
}

#[test]
fn a_corrupted_entry_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache");
    works(&engine(&dir));
    let entry = entries(&dir).remove(0);
    let good = fs::read(&entry).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [&flipped[..], &good[..good.len() - 1], &good[..10], b""] {
        fs::write(&entry, bad).unwrap();
        works(&engine(&dir));
        assert!(fs::read(&entry).unwrap() != bad, "replaced");
    }
}

#[test]
fn an_entry_of_another_installation_is_not_loaded() {
    let place = tempfile::tempdir().unwrap();
    let (ours, theirs) = (place.path().join("ours"), place.path().join("theirs"));
    works(&engine(&ours));
    works(&engine(&theirs));
    let (entry, foreign) = (entries(&ours).remove(0), entries(&theirs).remove(0));
    let foreign = fs::read(foreign).unwrap();
    fs::write(&entry, &foreign).unwrap();
    works(&engine(&ours));
    assert!(fs::read(&entry).unwrap()[..32] != foreign[..32], "sealed with our key again");
}

#[test]
fn an_entry_under_another_modules_name_is_not_loaded() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache");
    let engine = engine(&dir);
    engine.load(&guest_path("typed"), None).unwrap();
    let typed = fs::read(entries(&dir).remove(0)).unwrap();
    works(&engine);
    let packed = entries(&dir).into_iter().find(|path| fs::read(path).unwrap() != typed).unwrap();
    fs::write(&packed, &typed).unwrap();
    works(&engine);
}

#[test]
fn a_directory_that_others_can_write_to_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702] {
        let dir = place.path().join(format!("{mode:o}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
        works(&engine(&dir));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{mode:o}");
    }
}

#[test]
fn a_directory_that_is_a_link_or_a_file_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let (real, link, file) = (place.path().join("real"), place.path().join("link"), place.path().join("file"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    fs::write(&file, "").unwrap();
    works(&engine(&link));
    works(&engine(&file));
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache");
    drop(engine(&dir));
    fs::set_permissions(dir.join("key"), fs::Permissions::from_mode(0o644)).unwrap();
    works(&engine(&dir));
    assert!(entries(&dir).is_empty());
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache");
    let module = |n: u8| {
        // an empty component, told from others by a custom section
        let mut bytes = fs::read(guest_path("packed")).unwrap();
        bytes.extend_from_slice(&[0, 3, 1, b'n', n]);
        bytes
    };
    let roomy = engine(&dir);
    for n in [1, 2, 3] {
        roomy.load_bytes(&module(n), None).unwrap();
    }
    let all = entries(&dir);
    assert_eq!(all.len(), 3);
    let size = fs::metadata(&all[0]).unwrap().len();
    // 1 is used again, so that 2 is the oldest
    roomy.load_bytes(&module(1), None).unwrap();
    let narrow =
        Engine::new(EngineConfig { cache_dir: Some(dir.clone()), cache_bytes: size * 3 + 100, ..config() }).unwrap();
    narrow.load_bytes(&module(4), None).unwrap();
    let left = entries(&dir);
    assert_eq!(left.len(), 3);
    let has = |n: u8| {
        let digest = pelton_sandbox::Digest::of(&module(n)).to_string();
        left.iter().any(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&digest))
    };
    assert_eq!([1, 2, 3, 4].map(has), [true, false, true, true]);
    let tiny = Engine::new(EngineConfig { cache_dir: Some(dir.clone()), cache_bytes: 1, ..config() }).unwrap();
    tiny.load_bytes(&module(5), None).unwrap();
    assert_eq!(entries(&dir).len(), 1, "the newest stays, however large");
}
