//! What `wit-bindgen` makes of the packages under `wit/`: one module for each world, the shared interfaces once.
//!
//! The macro costs most of a cold guest build, so it stands here and nowhere else; each plugin only expands the small
//! export macro of its kind.

#![allow(missing_docs, reason = "generated; the words are in the WIT files")]

/// World `cofferdam:instruction/instruction`, and the shared packages `types` and `fs`.
pub mod instruction {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/fs", "../../wit/instruction"],
        world: "cofferdam:instruction/instruction",
        additional_derives: [PartialEq, Eq],
        generate_all,
        generate_unused_types: true,
        pub_export_macro: true,
        export_macro_name: "export_handler",
        default_bindings_module: "cofferdam_plugin_sdk::bindings::instruction",
    });
}

/// World `cofferdam:credentials/credentials`.
pub mod credentials {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/credentials"],
        world: "cofferdam:credentials/credentials",
        with: {
            "cofferdam:types/diagnostics@0.1.0": super::instruction::cofferdam::types::diagnostics,
            "cofferdam:types/values@0.1.0": super::instruction::cofferdam::types::values,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_helper",
        default_bindings_module: "cofferdam_plugin_sdk::bindings::credentials",
    });
}

/// World `cofferdam:tags/tags`.
pub mod tags {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/tags"],
        world: "cofferdam:tags/tags",
        additional_derives: [PartialEq, Eq],
        with: {
            "cofferdam:types/diagnostics@0.1.0": super::instruction::cofferdam::types::diagnostics,
            "cofferdam:types/values@0.1.0": super::instruction::cofferdam::types::values,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "cofferdam_plugin_sdk::bindings::tags",
    });
}

/// World `cofferdam:sbom/sbom`.
pub mod sbom {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/fs", "../../wit/sbom"],
        world: "cofferdam:sbom/sbom",
        additional_derives: [PartialEq, Eq],
        with: {
            "cofferdam:types/diagnostics@0.1.0": super::instruction::cofferdam::types::diagnostics,
            "cofferdam:types/values@0.1.0": super::instruction::cofferdam::types::values,
            "cofferdam:fs/model@0.1.0": super::instruction::cofferdam::fs::model,
            "cofferdam:fs/trees@0.1.0": super::instruction::cofferdam::fs::trees,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_scanner",
        default_bindings_module: "cofferdam_plugin_sdk::bindings::sbom",
    });
}
