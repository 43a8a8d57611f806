//! What each way of configuring gives, and what is refused.

use super::*;

fn sources() -> Sources {
    Sources { data_dir_default: PathBuf::from("/nonexistent/nephos"), ..Sources::default() }
}

fn with_file(dir: &Path, text: &str) -> Sources {
    let path = dir.join("some.toml");
    std::fs::write(&path, text).unwrap();
    Sources { file: Some(path), ..sources() }
}

fn problems(sources: &Sources) -> Vec<String> {
    let dir = sources.file.as_ref().and_then(|f| f.parent()).map(|p| format!("{}/", p.display())).unwrap_or_default();
    Loaded::read(sources).unwrap_err().0.into_iter().map(|p| p.replace(&dir, "")).collect()
}

#[test]
fn defaults_need_no_source() {
    let loaded = Loaded::read(&sources()).unwrap();
    assert_eq!(loaded.config.listen.to_string(), "127.0.0.1:7600");
    assert_eq!(loaded.config.regions.0[0].driver, "qemu");
    assert_eq!(loaded.config.sizes.0[0].name, "nano");
}

#[test]
fn later_sources_win_and_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = with_file(dir.path(), "listen = '127.0.0.1:1'\nadmin_listen = 'off'\nlog = 'json'\n");
    sources.variables = vec![("NEPHOS_LISTEN".into(), "127.0.0.1:2".into()), ("NEPHOS_LOG".into(), "text".into())];
    sources.flags = vec![("listen", "127.0.0.1:3".into())];
    let loaded = Loaded::read(&sources).unwrap();
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.admin_listen, AdminListen::Off);
    assert_eq!(loaded.config.log, LogFormat::Text);
    let shown = loaded.to_toml();
    assert!(shown.contains("listen = \"127.0.0.1:3\" # the flag --listen\n"), "{shown}");
    assert!(shown.contains("log = \"text\" # the variable NEPHOS_LOG\n"), "{shown}");
    assert!(shown.contains("some.toml, line 2\n"), "{shown}");
}

#[test]
fn every_problem_names_the_key_the_line_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\nlistn = '127.0.0.1:1'\nlog = 'xml'\nstop_deadline_s = 0\nzzzzzzzzzzzzzzzz = 1\ncurrency = 7\n";
    assert_eq!(
        problems(&with_file(dir.path(), text)),
        [
            "some.toml, line 2: there is no key `listn`; did you mean `listen`?",
            "some.toml, line 3: `log` expects text or json",
            "some.toml, line 4: `stop_deadline_s`: 0 is out of range: it goes from 1 to 3600",
            "some.toml, line 5: there is no key `zzzzzzzzzzzzzzzz`; `nephos config keys` lists those there are",
            "some.toml, line 6: `currency` expects a currency code of three capital letters, such as USD",
        ]
    );
}

#[test]
fn broken_toml_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let found = problems(&with_file(dir.path(), "log = 'json'\nlisten = \n"));
    assert!(found.len() == 1 && found[0].starts_with("some.toml, line 2: "), "{found:?}");
    let found = problems(&with_file(dir.path(), "log = 'json'\nlog = 'json'\n"));
    assert!(found.len() == 1 && found[0].starts_with("some.toml, line 2: "), "{found:?}");
    let missing = Sources { file: Some(dir.path().join("none.toml")), ..sources() };
    assert!(problems(&missing)[0].starts_with("none.toml: can't be read: "));
}

#[test]
fn variables_that_are_slips_are_refused_and_foreign_ones_are_not() {
    let with = |name: &str| Sources { variables: vec![(name.into(), "x".into())], ..sources() };
    assert_eq!(
        problems(&with("NEPHOS_DATABSE")),
        ["the variable NEPHOS_DATABSE: there is no key `databse`; did you mean NEPHOS_DATABASE?"]
    );
    for name in ["NEPHOS_SERVICE_HOST", "NEPHOS_PORT_7600_TCP", "NEPHOS_URL"] {
        assert!(Loaded::read(&with(name)).is_ok(), "{name}");
    }
}

#[test]
fn a_listener_that_others_reach_needs_a_word() {
    let at = |flags: &[(&'static str, &str)]| Sources {
        flags: flags.iter().map(|(k, v)| (*k, (*v).to_owned())).collect(),
        ..sources()
    };
    assert!(problems(&at(&[("listen", "0.0.0.0:7600")]))[0].contains("--behind-proxy"));
    assert!(Loaded::read(&at(&[("listen", "0.0.0.0:7600"), ("behind_proxy", "true")])).is_ok());
    assert!(Loaded::read(&at(&[("listen", "[::]:7600"), ("insecure", "true")])).is_ok());
    assert!(Loaded::read(&at(&[("listen", "[::1]:7600")])).is_ok());
    assert!(problems(&at(&[("listen", "7600")]))[0].contains("an IP address and a port"));
}

#[test]
fn passwords_are_hidden() {
    for (url, shown) in [
        ("postgres://nephos:s3cr3t@db:5432/nephos", "postgres://nephos:***@db:5432/nephos"),
        (
            "postgres://nephos@db/nephos?sslmode=disable&password=s3cr3t",
            "postgres://nephos@db/nephos?sslmode=disable&password=***",
        ),
        ("postgresql://u:s3cr3t/@p@db/n", "postgresql://u:***@db/n"),
        ("postgres://db/n", "postgres://db/n"),
    ] {
        let loaded = Loaded::read(&Sources { flags: vec![("database", url.into())], ..sources() }).unwrap();
        let all = format!("{:?} {}", loaded, loaded.to_toml());
        assert!(all.contains(shown), "{all}");
        assert!(!all.contains("s3cr3t"), "{all}");
    }
    for bad in ["mysql://x", "nephos.db", "postgres://"] {
        let found = problems(&Sources { flags: vec![("database", bad.into())], ..sources() });
        assert!(found[0].starts_with("the flag --database: `database` expects a PostgreSQL address"), "{found:?}");
    }
}

#[test]
fn regions_and_sizes_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    for (text, expected) in [
        ("[[regions]]\nname = 'A'\n", "lower-case"),
        ("[[regions]]\nname = 'a'\n[[regions]]\nname = 'a'\n", "there twice"),
        ("[[regions]]\nname = 'a'\ndriver = 'vmware'\n", "qemu and simulator"),
        ("[[regions]]\nname = 'a'\ndrivr = 'qemu'\n", "drivr"),
        ("regions = []\n", "at least one region"),
        (
            "[[sizes]]\nname = 's'\nvcpus = 0\nmemory_mib = 128\ndisk_gib = 1\nrunning_microunits_per_hour = 1\n",
            "vcpus = 0",
        ),
        ("[[sizes]]\nname = 's'\nvcpus = 1\nmemory_mib = 128\n", "disk_gib"),
    ] {
        let found = problems(&with_file(dir.path(), text));
        assert!(
            found.len() == 1 && found[0].starts_with("some.toml, line ") && found[0].contains(expected),
            "{found:?}"
        );
    }
    let text = "driver = 'simulator'\n[[regions]]\nname = 'a'\n[[regions]]\nname = 'b'\ndriver = 'qemu'\n";
    let loaded = Loaded::read(&with_file(dir.path(), text)).unwrap();
    assert_eq!(loaded.config.regions.0.iter().map(|r| r.driver.as_str()).collect::<Vec<_>>(), ["simulator", "qemu"]);
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = Loaded::read(&sources()).unwrap();
    let again = Loaded::read(&with_file(dir.path(), &first.to_toml())).unwrap();
    assert_eq!(first.config, again.config);
}

#[test]
fn the_file_of_the_data_folder_is_found_and_can_not_move_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE_NAME), "log = 'json'\n").unwrap();
    let sources = Sources { flags: vec![("data_dir", dir.path().display().to_string())], ..sources() };
    assert_eq!(Loaded::read(&sources).unwrap().config.log, LogFormat::Json);
    std::fs::write(dir.path().join(FILE_NAME), "data_dir = '/elsewhere'\n").unwrap();
    assert!(Loaded::read(&sources).unwrap_err().0[0].contains("--data-dir"));
}
