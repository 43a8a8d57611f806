//! The direction of dependencies between crates, and what each layer must not know, by the `Cargo.toml` files.

use super::{Finding, Tree};

/// A crate's place in the house.
struct Layer {
    name: &'static str,
    /// The crates of the workspace it may depend on.
    below: &'static [&'static str],
    /// Crates from outside that it must not know, and why.
    never: &'static [&'static str],
    why: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        name: "model",
        below: &[],
        never: &[
            "tokio",
            "serde",
            "serde_json",
            "schemars",
            "rusqlite",
            "tokio-postgres",
            "hyper",
            "hyper-util",
            "http",
            "axum",
            "async-trait",
        ],
        why: "the nouns know no runtime, no database, no wire and no serialization",
    },
    Layer {
        name: "store",
        below: &["model"],
        never: &["hyper", "hyper-util", "http", "axum", "schemars"],
        why: "the store does not know HTTP",
    },
    Layer {
        name: "driver",
        below: &["model"],
        never: &["rusqlite", "tokio-postgres", "axum", "schemars"],
        why: "a driver knows machines, not tenants or tables",
    },
    Layer {
        name: "control",
        below: &["model", "store", "driver"],
        // The views that events, replays and both surfaces share have schemas: schemars is welcome here.
        never: &["rusqlite", "tokio-postgres", "axum"],
        why: "use-cases reach tables only through the store, and know no surface",
    },
    Layer {
        name: "docs",
        below: &["model"],
        never: &["tokio", "rusqlite", "tokio-postgres", "hyper", "http"],
        why: "the documentation is text and what is made of it",
    },
    Layer {
        name: "console",
        below: &["docs"],
        never: &["tokio", "rusqlite", "tokio-postgres", "hyper", "http"],
        why: "the console is a client of the API: it knows pages and answers",
    },
    Layer {
        name: "http",
        below: &["model", "control", "docs", "console"],
        never: &["rusqlite", "tokio-postgres"],
        why: "surfaces translate; they reach tables only through use-cases",
    },
    Layer {
        name: "server",
        below: &["model", "store", "driver", "control", "http"],
        never: &["rusqlite", "tokio-postgres"],
        why: "the composition root puts parts together; it does not query",
    },
    Layer {
        name: "testkit",
        below: &["model", "store", "driver", "control", "http"],
        never: &["rusqlite", "tokio-postgres"],
        why: "tests reach tables through the store",
    },
    Layer {
        name: "xtask",
        below: &["model", "store", "driver", "control", "docs", "http"],
        never: &["rusqlite", "tokio-postgres"],
        why: "chores reach tables through the store",
    },
];

/// The crates that only tests may depend on.
const ONLY_FOR_TESTS: &[&str] = &["testkit"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        let Some(folder) = path.strip_suffix("/Cargo.toml") else { continue };
        let name = folder.strip_prefix("crates/").unwrap_or(folder);
        let Some(layer) = LAYERS.iter().find(|layer| layer.name == name) else {
            if folder.starts_with("crates/") {
                findings.push(Finding::error(path, 0, format!("the crate {name} has no place in xtask's layers")));
            }
            continue;
        };
        let manifest: toml::Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::error(path, 0, format!("is not TOML: {error}")));
                continue;
            }
        };
        for (table, dependency) in dependencies(&manifest) {
            findings.extend(judge(layer, path, table, dependency));
        }
    }
    findings
}

fn judge(layer: &Layer, path: &str, table: &str, dependency: &str) -> Option<Finding> {
    let for_tests = table == "dev-dependencies";
    let Some(inner) = dependency.strip_prefix("nephos-") else {
        let banned = layer.never.contains(&dependency) && !for_tests;
        return banned.then(|| Finding::error(path, 0, format!("must not depend on {dependency}: {}", layer.why)));
    };
    // A crate's tests may turn on its own features, and may use the test kit.
    if for_tests && (inner == layer.name || ONLY_FOR_TESTS.contains(&inner)) {
        return None;
    }
    if layer.below.contains(&inner) {
        return None;
    }
    let text = if layer.below.is_empty() {
        format!("must not depend on {dependency}: nothing lies below {}", layer.name)
    } else {
        format!("must not depend on {dependency}: below {} lie only {}", layer.name, layer.below.join(", "))
    };
    Some(Finding::error(path, 0, text))
}

/// Every dependency with the table that names it, those of one platform too.
fn dependencies(manifest: &toml::Table) -> Vec<(&'static str, &str)> {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let places = std::iter::once(manifest)
        .chain(targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table));
    let mut found = Vec::new();
    for place in places {
        for table in TABLES {
            let Some(entries) = place.get(table).and_then(toml::Value::as_table) else { continue };
            for (key, value) in entries {
                // A renamed dependency hides behind its key.
                found.push((table, value.get("package").and_then(toml::Value::as_str).unwrap_or(key)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(manifests: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(manifests)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_direction_is_downwards() {
        let good = [
            ("crates/model/Cargo.toml", "[dependencies]\njiff = \"1\""),
            (
                "crates/store/Cargo.toml",
                "[dependencies]\nnephos-model.workspace = true\nrusqlite = \"1\"\n[dev-dependencies]\nnephos-store = { path = \".\" }",
            ),
            (
                "crates/control/Cargo.toml",
                "[dependencies]\nnephos-store.workspace = true\n[dev-dependencies]\nnephos-testkit.workspace = true",
            ),
        ];
        assert_eq!(texts(&good), <[String; 0]>::default());
        assert_eq!(
            texts(&[("crates/store/Cargo.toml", "[dependencies]\nnephos-control.workspace = true")]),
            ["error: crates/store/Cargo.toml: must not depend on nephos-control: below store lie only model"]
        );
        assert_eq!(
            texts(&[("crates/control/Cargo.toml", "[dependencies]\nnephos-testkit.workspace = true")]),
            [
                "error: crates/control/Cargo.toml: must not depend on nephos-testkit: below control lie only model, store, driver"
            ]
        );
    }

    #[test]
    fn bans_see_renamed_and_platform_dependencies() {
        let renamed = "[dependencies]\nruntime = { package = \"tokio\", version = \"1\" }";
        let platform = "[target.'cfg(unix)'.dependencies]\nserde = \"1\"";
        let text = |name| {
            format!(
                "error: crates/model/Cargo.toml: must not depend on {name}: \
                 the nouns know no runtime, no database, no wire and no serialization"
            )
        };
        assert_eq!(texts(&[("crates/model/Cargo.toml", renamed)]), [text("tokio")]);
        assert_eq!(texts(&[("crates/model/Cargo.toml", platform)]), [text("serde")]);
        assert_eq!(
            texts(&[("crates/model/Cargo.toml", "[dev-dependencies]\ntokio = \"1\"")]),
            <[String; 0]>::default()
        );
    }

    #[test]
    fn a_new_crate_needs_a_place() {
        assert_eq!(
            texts(&[("crates/common/Cargo.toml", "")]),
            ["error: crates/common/Cargo.toml: the crate common has no place in xtask's layers"]
        );
        assert_eq!(texts(&[("Cargo.toml", "[workspace]"), ("bench/tool/Cargo.toml", "")]), <[String; 0]>::default());
    }
}
