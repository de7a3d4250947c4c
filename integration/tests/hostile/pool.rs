//! One transform cannot take the pool's memories, tables and core instances from the others.

use pelton_integration::hostile::attack::Guest;
use pelton_integration::hostile::{guests, measure};
use pelton_sandbox::{Ceiling, Engine, EngineConfig, Generation, Grants, Instance, Limits, Spec, World};

fn spec(transform: &str) -> Spec {
    Spec {
        transform: transform.into(),
        settings: Vec::new(),
        secrets: Vec::new(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        limits: Limits { configure_deadline: std::time::Duration::from_secs(60), ..Limits::default() },
        grants: Grants::default(),
        observe_guest_text: false,
    }
}

#[test]
fn as_many_parts_as_a_component_may_have_leave_enough_for_the_others() {
    let _alone = measure::alone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ceiling = Ceiling { memory: 16 << 20, instances: 4 };
    let engine = Engine::new(EngineConfig {
        cache_dir: None,
        cache_bytes: 0,
        ceiling,
        compiler: None,
        runtime: runtime.handle().clone(),
    })
    .unwrap();
    // with the two of the text around it: 32 core instances, 2 memories, 15 tables
    let parts = [
        "(core module $x (table 1 funcref))(core module $y (memory 1))(core module $z)",
        "(core instance (instantiate $y))",
        &"(core instance (instantiate $x))".repeat(15),
        &"(core instance (instantiate $z))".repeat(14),
    ];
    let hog = guests::splice(World::Packed, &format!(";; @component\n{}", parts.concat()));
    let hog = Generation::prepare(&engine.load_bytes(&hog, None).unwrap(), spec("hog"), 1).unwrap();
    let honest = engine.load_bytes(&guests::bytes(&Guest::Deeds, World::Packed), None).unwrap();
    let honest = Generation::prepare(&honest, spec("honest"), 1).unwrap();
    let hogs: Vec<Instance> = (0..3).map(|_| Instance::new(&hog).unwrap()).collect();
    let innocent = Instance::new(&honest);
    assert!(innocent.is_ok(), "{:?}", innocent.err());
    assert_eq!(hogs.len(), 3);
}
