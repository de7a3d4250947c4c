//! The targets on a stable toolchain: the corpus as it is, then mutations of it, always the same ones. A panic names the
//! input, written to the corpus's own directory once it has been understood.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fastrand::Rng;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "there is a corpus for {target}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to four changes of the kinds that parsers fall over.
fn mutate(random: &mut Rng, of: &[u8], other: &[u8]) -> Vec<u8> {
    const EDGES: [u32; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    let mut bytes = of.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => {
                let piece: Vec<u8> = (0..random.usize(0..16)).map(|_| random.u8(..)).collect();
                bytes.splice(at..at, piece);
            }
            4 if at + 4 <= bytes.len() => {
                bytes[at..at + 4].copy_from_slice(&EDGES[random.usize(0..8)].to_le_bytes());
            }
            5 if !other.is_empty() => {
                let from = random.usize(0..other.len());
                let to = random.usize(from..=other.len()).min(from + 64);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let end = (at + random.usize(0..32)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

fn survives(target: &str, run: fn(&[u8]), input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
        let path = std::env::temp_dir().join(format!("pelton-fuzz-{target}"));
        let _ = fs::write(&path, input);
        panic!("{target} panics; the input is in {}", path.display());
    }
}

fn fuzz(target: &str, run: fn(&[u8]), mut seeds: Vec<Vec<u8>>, mutations: usize) {
    seeds.extend(corpus(target));
    seeds.iter().for_each(|seed| survives(target, run, seed));
    let mut random = Rng::with_seed(0x7065_6c74_6f6e);
    for _ in 0..mutations {
        let (of, other) = (random.usize(0..seeds.len()), random.usize(0..seeds.len()));
        let input = mutate(&mut random, &seeds[of], &seeds[other]);
        survives(target, run, &input);
    }
}

#[test]
fn outcomes() {
    fuzz("outcomes", pelton_fuzz::outcomes, Vec::new(), 200_000);
}

#[test]
fn config() {
    let full = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/full.yaml")).unwrap();
    fuzz("config", pelton_fuzz::config, vec![[b"\0".as_slice(), &full].concat()], 2_000);
}

#[test]
fn module() {
    // Real ones are too large for the repository: they are built.
    let real = ["identity", "route"].map(|name| fs::read(pelton_integration::guest::module(name)).unwrap());
    fuzz("module", pelton_fuzz::module, real.to_vec(), 60);
}
