//! The WIT packages, as Rust. Types are generated once, in [`instruction`], and shared by the other worlds.

#![allow(missing_docs, reason = "generated; the documentation stands in the WIT packages")]

pub(crate) mod instruction {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/fs", "../../wit/instruction"],
        world: "cofferdam:instruction/instruction",
        imports: { default: trappable },
        with: {
            "cofferdam:fs/trees.tree": crate::instruction::handles::TreeHandle,
            "cofferdam:fs/trees.reader": crate::instruction::handles::ReaderHandle,
            "cofferdam:fs/root.rootfs": crate::instruction::handles::RootHandle,
            "cofferdam:fs/root.writer": crate::instruction::handles::WriterHandle,
            "cofferdam:fs/execution.executor": crate::instruction::handles::ExecutorHandle,
        },
    });
}

pub(crate) mod credentials {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/credentials"],
        world: "cofferdam:credentials/credentials",
        imports: { default: trappable },
        with: {
            "cofferdam:types": super::instruction::cofferdam::types,
            "cofferdam:credentials/sources.sources": crate::credentials::SourcesHandle,
            "cofferdam:credentials/web.web": crate::web::WebHandle,
        },
    });
}

pub(crate) mod sbom {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/fs", "../../wit/sbom"],
        world: "cofferdam:sbom/sbom",
        imports: { default: trappable },
        with: {
            "cofferdam:types": super::instruction::cofferdam::types,
            "cofferdam:fs": super::instruction::cofferdam::fs,
        },
    });
}

pub(crate) mod tags {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/tags"],
        world: "cofferdam:tags/tags",
        imports: { default: trappable },
        with: {
            "cofferdam:types": super::instruction::cofferdam::types,
        },
    });
}
