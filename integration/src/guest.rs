//! Guests as users build them: `cargo build --release --target wasm32-wasip2` in a workspace of their own. Cargo is the
//! cache: a build that is fresh takes a fraction of a second.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The module of a transform under `transforms/`, built now if need be.
///
/// # Panics
/// When it cannot be built.
pub fn module(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    artifact(BUILT.get_or_init(|| build(&crate::root().join("transforms"))), name)
}

/// The module of a guest under `integration/guests/`, which only tests want.
///
/// # Panics
/// When it cannot be built.
pub fn test_module(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    artifact(BUILT.get_or_init(|| build(&crate::root().join("integration/guests"))), name)
}

/// The module of a guest under `integration/hostile/`, which attacks.
///
/// # Panics
/// When it cannot be built.
pub fn hostile_module(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    artifact(BUILT.get_or_init(|| build(&crate::root().join("integration/hostile"))), name)
}

fn build(workspace: &Path) -> PathBuf {
    let target = workspace.join("target");
    let status = Command::new("cargo")
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2"])
        // Settings that were meant for the host's build.
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{} does not build; is wasm32-wasip2 there? (./dev setup)", workspace.display());
    std::fs::canonicalize(target.join("wasm32-wasip2/release")).expect("cargo made its directory")
}

fn artifact(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(format!("{}.wasm", name.replace('-', "_")));
    assert!(path.exists(), "{} was not built", path.display());
    path
}
