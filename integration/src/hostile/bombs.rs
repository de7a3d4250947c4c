//! Modules that attack whoever loads them: small or large files that are hard to check, to compile or to make ready.
//! Generated, because what they are is their number of things.

use std::iter::repeat_n;

use wasm_encoder::{
    BlockType, CodeSection, Component, CustomSection, ElementSection, Elements, ExportKind, ExportSection, Function,
    FunctionSection, Instruction as I, MemorySection, MemoryType, Module, ModuleSection, NestedComponentSection,
    RefType, TableSection, TableType, TypeSection, ValType,
};

/// A component around one core module.
fn component(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    component.finish()
}

/// A module of functions without parameters and results.
fn functions(bodies: impl IntoIterator<Item = Function>) -> Module {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for body in bodies {
        functions.function(0);
        code.function(&body);
    }
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&code);
    module
}

fn function(locals: u32, write: impl FnOnce(&mut Function)) -> Function {
    let mut function = Function::new([(locals, ValType::I64)]);
    write(&mut function);
    function.instruction(&I::End);
    function
}

/// So many functions that do nothing.
pub fn many_functions(count: usize) -> Vec<u8> {
    component(&functions(repeat_n(function(0, |_| {}), count)))
}

/// One function of blocks within blocks.
pub fn nested_blocks(depth: usize) -> Vec<u8> {
    component(&functions([function(1, |f| {
        for _ in 0..depth {
            f.instruction(&I::Block(BlockType::Empty));
        }
        for level in 0..depth {
            f.instruction(&I::LocalGet(0)).instruction(&I::I32WrapI64).instruction(&I::BrIf(if level + 7 < depth {
                7
            } else {
                0
            }));
            f.instruction(&I::End);
        }
    })]))
}

/// One function of loops within loops, each with a variable of its own.
pub fn nested_loops(depth: usize, locals: u32) -> Vec<u8> {
    component(&functions([function(locals, |f| {
        for level in 0..depth {
            f.instruction(&I::Loop(BlockType::Empty));
            let local = level as u32 % locals;
            f.instruction(&I::LocalGet(local)).instruction(&I::I64Const(1)).instruction(&I::I64Add);
            f.instruction(&I::LocalSet(local));
        }
        for level in 0..depth {
            let local = level as u32 % locals;
            f.instruction(&I::LocalGet(local))
                .instruction(&I::I32WrapI64)
                .instruction(&I::BrIf(0))
                .instruction(&I::End);
        }
    })]))
}

/// What a switch looks like: blocks within blocks, each setting so many variables after it.
pub fn switch(cases: usize, locals: u32, set: u32) -> Vec<u8> {
    component(&functions([function(locals, |f| {
        f.instruction(&I::Loop(BlockType::Empty));
        for _ in 0..cases {
            f.instruction(&I::Block(BlockType::Empty));
        }
        let targets: Vec<u32> = (0..cases as u32).collect();
        f.instruction(&I::LocalGet(0)).instruction(&I::I32WrapI64).instruction(&I::BrTable((&targets).into(), 0));
        for case in 0..cases {
            f.instruction(&I::End);
            for i in 0..set {
                let local = (case as u32 * 7 + i * 13) % locals;
                f.instruction(&I::LocalGet((local + 1) % locals)).instruction(&I::I64Const(1)).instruction(&I::I64Add);
                f.instruction(&I::LocalSet(local));
            }
            f.instruction(&I::LocalGet(0)).instruction(&I::I32WrapI64);
            f.instruction(&I::BrIf((cases - case - 1) as u32));
        }
        f.instruction(&I::End);
    })]))
}

/// Indirect calls, each of which is a look-up, checks and a call.
pub fn indirect(functions_: usize, count: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 10,
        maximum: None,
        shared: false,
    });
    let (mut list, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..functions_ {
        list.function(0);
        code.function(&function(0, |f| {
            for i in 0..count {
                f.instruction(&I::I32Const(i as i32 % 60));
                f.instruction(&I::CallIndirect { type_index: 0, table_index: 0 });
            }
        }));
    }
    let mut module = Module::new();
    module.section(&types).section(&list).section(&tables).section(&code);
    component(&module)
}

/// A table of so many branches, to so many places.
pub fn branch_table(entries: usize, depth: usize) -> Vec<u8> {
    let targets: Vec<u32> = (0..entries).map(|i| (i % depth) as u32).collect();
    component(&functions([function(1, |f| {
        for _ in 0..depth {
            f.instruction(&I::Block(BlockType::Empty));
        }
        f.instruction(&I::LocalGet(0)).instruction(&I::I32WrapI64);
        f.instruction(&I::BrTable((&targets).into(), 0));
        for _ in 0..depth {
            f.instruction(&I::End);
        }
    })]))
}

/// Each function calls the next one so often: what a compiler that inlines without end would unfold.
pub fn inlined(levels: usize, calls: usize) -> Vec<u8> {
    let bodies = (0..=levels).map(|level| {
        function(0, |f| {
            for _ in 0..if level == levels { 0 } else { calls } {
                f.instruction(&I::Call(level as u32 + 1));
            }
        })
    });
    component(&functions(bodies))
}

/// Calls with so many parameters and results.
pub fn wide_calls(width: usize, calls: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function(repeat_n(ValType::I64, width), repeat_n(ValType::I64, width));
    let mut list = FunctionSection::new();
    list.function(0).function(0);
    let mut code = CodeSection::new();
    for callee in [1, 0] {
        let mut f = Function::new([]);
        for i in 0..width {
            f.instruction(&I::LocalGet(i as u32));
        }
        for _ in 0..calls {
            f.instruction(&I::Call(callee));
        }
        f.instruction(&I::End);
        code.function(&f);
    }
    let mut module = Module::new();
    module.section(&types).section(&list).section(&code);
    component(&module)
}

/// As many distinct types.
pub fn distinct_types(count: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    for i in 0..count {
        let params = (0..24).map(|bit| if i >> bit & 1 == 0 { ValType::I32 } else { ValType::I64 });
        types.ty().function(params, []);
    }
    let mut module = Module::new();
    module.section(&types);
    component(&module)
}

/// A custom section of so many bytes.
pub fn custom(name: &str, bytes: usize) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&CustomSection { name: name.into(), data: vec![0; bytes].into() });
    component.finish()
}

/// A table with so many entries given one by one.
pub fn elements(count: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut list = FunctionSection::new();
    list.function(0);
    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 20_000,
        maximum: None,
        shared: false,
    });
    let mut segments = ElementSection::new();
    for _ in 0..count {
        segments.active(None, &wasm_encoder::ConstExpr::i32_const(0), Elements::Functions((&[0u32][..]).into()));
    }
    let mut code = CodeSection::new();
    code.function(&function(0, |_| {}));
    let mut module = Module::new();
    module.section(&types).section(&list).section(&tables).section(&segments).section(&code);
    component(&module)
}

/// So many exports, each with a long name.
pub fn exports(count: usize, length: usize) -> Vec<u8> {
    let mut exports = ExportSection::new();
    for i in 0..count {
        exports.export(&format!("{i}{}", "x".repeat(length)), ExportKind::Func, 0);
    }
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut list = FunctionSection::new();
    list.function(0);
    let mut code = CodeSection::new();
    code.function(&function(0, |_| {}));
    let mut module = Module::new();
    module.section(&types).section(&list).section(&exports).section(&code);
    component(&module)
}

/// Components within components.
pub fn nested_components(depth: usize) -> Vec<u8> {
    let mut bytes = Component::new().finish();
    let leb = |mut n: usize| {
        let mut out = Vec::new();
        loop {
            let byte = (n & 0x7f) as u8;
            n >>= 7;
            if n == 0 {
                out.push(byte);
                return out;
            }
            out.push(byte | 0x80);
        }
    };
    // from the inside out, written back to front
    let mut reversed: Vec<u8> = bytes.drain(..).rev().collect();
    for _ in 0..depth {
        let mut head = Component::new().finish();
        head.push(4); // a component section
        head.extend(leb(reversed.len()));
        reversed.extend(head.iter().rev());
    }
    reversed.reverse();
    reversed
}

/// Each component instantiates the one within it twice.
pub fn doubled_components(levels: usize) -> Vec<u8> {
    let mut inner = Component::new();
    inner.section(&ModuleSection(&functions([function(0, |_| {})])));
    let mut instances = wasm_encoder::InstanceSection::new();
    instances.instantiate(0, std::iter::empty::<(&str, wasm_encoder::ModuleArg)>());
    inner.section(&instances);
    for _ in 0..levels {
        let mut outer = Component::new();
        outer.section(&NestedComponentSection(&inner));
        let mut instances = wasm_encoder::ComponentInstanceSection::new();
        for _ in 0..2 {
            instances.instantiate(0, std::iter::empty::<(&str, wasm_encoder::ComponentExportKind, u32)>());
        }
        outer.section(&instances);
        inner = outer;
    }
    inner.finish()
}

/// A mangled C++ name of some 250 bytes that stands for two to the power of `levels` letters: each type names the one
/// before it twice.
pub fn name_that_unfolds(levels: usize) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    (1..levels.min(DIGITS.len())).fold("_Z1f1A1BIS_S_E".to_owned(), |name, level| {
        let before = char::from(DIGITS[level]);
        format!("{name}S0_IS{before}_S{before}_E")
    })
}
