//! Guests as users build them: `cargo build --release --target wasm32-wasip2` in the transforms' own workspace. Cargo is
//! the cache: a build that is fresh takes a fraction of a second.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The module of a transform under `transforms/`, built now if need be.
///
/// # Panics
/// When it cannot be built.
pub fn module(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        let workspace = crate::root().join("transforms");
        let target = workspace.join("target");
        let status = Command::new("cargo")
            .current_dir(&workspace)
            .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2"])
            // Settings that were meant for the host's build.
            .env_remove("RUSTFLAGS")
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the transforms do not build; is the target wasm32-wasip2 there? (./dev setup)");
        std::fs::canonicalize(target.join("wasm32-wasip2/release")).expect("cargo made its directory")
    });
    let path = directory.join(format!("{}.wasm", name.replace('-', "_")));
    assert!(path.exists(), "{} was not built", path.display());
    path
}
