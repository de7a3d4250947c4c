//! What is refused before anything runs.

use std::time::Duration;

use pelton_sandbox::{
    Ceiling, CompilerProcess, Demand, Digest, Engine, EngineConfig, EngineError, Generation, Inspection, LoadError,
    PrepareError, PrivateKey, Signed, World,
};

use crate::support::{config, engine, guest_path, spec};

#[test]
fn a_pin_is_held() {
    let path = guest_path("packed");
    let digest = Digest::of(&std::fs::read(&path).unwrap());
    let module = engine().load(&path, Some(&digest)).unwrap();
    assert_eq!(module.digest(), digest);
    let other = Digest::of(b"something else");
    let error = engine().load(&path, Some(&other)).unwrap_err();
    assert!(matches!(error, LoadError::Pin { expected, found } if (expected, found) == (other, digest)), "{error}");
}

#[test]
fn what_is_not_a_component_is_named_for_what_it_is() {
    let core = [0, b'a', b's', b'm', 1, 0, 0, 0];
    let empty = [0, b'a', b's', b'm', 13, 0, 1, 0];
    let load = |bytes: &[u8]| engine().load_bytes(bytes, None).unwrap_err();
    assert!(load(&core).to_string().contains("core module"));
    assert!(matches!(load(b"(component)"), LoadError::NotAComponent(_)), "text is not a module");
    assert!(matches!(load(b""), LoadError::NotAComponent(_)));
    assert!(matches!(load(&empty), LoadError::World { exports } if exports.is_empty()));
    let truncated = &std::fs::read(guest_path("packed")).unwrap()[..5000];
    assert!(matches!(load(truncated), LoadError::Compile(_)));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = engine().load("/no/such/module.wasm".as_ref(), None).unwrap_err();
    assert!(error.to_string().contains("/no/such/module.wasm"), "{error}");
}

#[test]
fn a_compiler_that_is_not_there_or_fails_is_an_error() {
    let bytes = std::fs::read(guest_path("packed")).unwrap();
    let load = |program: &str| {
        let compiler = CompilerProcess {
            program: program.into(),
            arguments: Vec::new(),
            memory: 1 << 30,
            time: Duration::from_secs(60),
        };
        Engine::new(EngineConfig { compiler: Some(compiler), ..config() })
            .unwrap()
            .load_bytes(&bytes, None)
            .unwrap_err()
    };
    assert!(matches!(load("/no/such/compiler"), LoadError::CompilerProcess(_)));
    for program in ["/bin/false", "/bin/true"] {
        assert!(matches!(load(program), LoadError::TooComplex { memory: 1024, seconds: 60, .. }), "{program}");
    }
}

#[test]
fn imports_are_listed() {
    let module = engine().load(&guest_path("packed"), None).unwrap();
    assert!(module.imports().iter().any(|import| import == "pelton:transform/packed-sink@0.1.0"));
}

#[test]
fn a_transform_without_output_topics_is_refused() {
    let module = engine().load(&guest_path("packed"), None).unwrap();
    let mut spec = spec();
    spec.outputs.clear();
    assert!(matches!(Generation::prepare(&module, spec, 1), Err(PrepareError::NoOutput)));
}

#[test]
fn a_ceiling_must_make_sense() {
    for (memory, instances) in [(0, 1), (16 << 20, 0), (8 << 30, 1)] {
        let ceiling = Ceiling { memory, instances };
        let error = Engine::new(EngineConfig { ceiling, ..config() }).unwrap_err();
        assert!(matches!(error, EngineError::Ceiling(_)), "{error}");
    }
}

#[test]
fn a_generation_keeps_its_number() {
    let module = engine().load(&guest_path("packed"), None).unwrap();
    let generation = Generation::prepare(&module, spec(), 17).unwrap();
    assert_eq!((generation.number(), generation.digest()), (17, module.digest()));
    assert_eq!(pelton_sandbox::Instance::new(&generation).unwrap().generation(), 17);
}

#[test]
fn a_signature_is_demanded_of_the_bytes_that_are_compiled() {
    let place = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(guest_path("packed")).unwrap();
    let (key, stranger) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
    let trusted = [stranger.public(), key.public()];
    let file = place.path().join("packed.wasm.sig");
    let load = |bytes: &[u8], by| {
        engine().load_bytes(bytes, Demand { signed: Some(Signed { by, file: &file }), ..Demand::default() })
    };
    assert!(matches!(load(&bytes, &trusted).unwrap_err(), LoadError::Signature(_)), "there is none");
    std::fs::write(&file, key.sign(&bytes).to_string()).unwrap();
    assert!(load(&bytes, &trusted).is_ok());
    assert!(matches!(load(&bytes, &trusted[..1]).unwrap_err(), LoadError::Signature(_)), "somebody else's");
    assert!(matches!(load(&bytes, &[]).unwrap_err(), LoadError::Signature(_)), "nobody is trusted");
    let mut other = bytes.clone();
    other.extend_from_slice(&[0, 3, 1, b'n', 0]);
    assert!(engine().load_bytes(&other, None).is_ok());
    assert!(matches!(load(&other, &trusted).unwrap_err(), LoadError::Signature(_)), "another module");
}

#[test]
fn an_inspection_says_what_a_module_is() {
    let bytes = std::fs::read(guest_path("packed")).unwrap();
    let module = engine().load_bytes(&bytes, None).unwrap();
    let inspection = Inspection::of(&bytes, &module).unwrap();
    assert_eq!((inspection.world, inspection.bytes), (World::Packed, bytes.len()));
    assert_eq!(inspection.sdk.as_deref(), Some(concat!("rust ", env!("CARGO_PKG_VERSION"))));
    assert!(inspection.exports.iter().any(|export| export == "process-packed"));
    assert_eq!(inspection.imports["pelton:transform/packed-sink@0.1.0"], ["window", "flush", "commit"]);
    assert!(inspection.initial_memory >= 1 << 20 && inspection.code_bytes > 10_000, "{inspection:?}");
    assert!(inspection.refusal.is_none());
    let sockets = std::fs::read(guest_path("sockets")).unwrap();
    let module = engine().load_bytes(&sockets, None).unwrap();
    let inspection = Inspection::of(&sockets, &module).unwrap();
    assert!(inspection.refusal.unwrap().import.starts_with("wasi:sockets/"));
}
