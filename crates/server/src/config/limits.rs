//! What a configuration can hold about who may do how much: networks, and the operator's plans.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use nephos_control::address::Range;
use nephos_control::plan_limits::Limits;
use nephos_model::name::Hostname;
use toml::Value;

use super::field::Field;
use super::nearest;

/// Plans in a configuration at most.
pub const PLANS_MAX: usize = 100;
/// A budget or quota at most: a thousand million.
pub const LIMIT_MAX: u32 = 1_000_000_000;
/// The word for a budget or quota that there is not.
const NONE: &str = "none";

/// An address or a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network(pub Range);

impl Field for Network {
    const EXPECTS: &'static str = "addresses or networks (CIDR) such as 10.0.0.0/8 or 2001:db8::1";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        let text = value.as_str().ok_or(None)?;
        text.parse().map(Self).map_err(|why| Some(format!("{text:?} {why}")))
    }
    fn shown(&self) -> Option<Value> {
        Some(Value::String(self.0.to_string()))
    }
}

/// The operator's own plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans(pub Vec<Limits>);

/// What a plan's table can hold beside its name.
fn limits_of(plan: &mut Limits) -> [(&'static str, &mut Option<u32>); 13] {
    [
        ("key_per_60_s", &mut plan.key_per_60_s),
        ("workspace_per_600_s", &mut plan.workspace_per_600_s),
        ("reads_per_second", &mut plan.reads_per_second),
        ("writes_per_second", &mut plan.writes_per_second),
        ("projects", &mut plan.projects),
        ("computes", &mut plan.computes),
        ("vcpus", &mut plan.vcpus),
        ("memory_mib", &mut plan.memory_mib),
        ("disk_gib", &mut plan.disk_gib),
        ("api_keys", &mut plan.api_keys),
        ("webhooks", &mut plan.webhooks),
        ("members", &mut plan.members),
        ("ssh_keys", &mut plan.ssh_keys),
    ]
}

/// A plan's budgets and quotas by their names, as tables of the configuration and commands show them.
pub fn named_limits(plan: &Limits) -> Vec<(&'static str, Option<u32>)> {
    let mut plan = plan.clone();
    limits_of(&mut plan).map(|(name, limit)| (name, *limit)).into()
}

fn read_plan(mut table: BTreeMap<String, Value>) -> Result<Limits, String> {
    let name = table.remove("name").and_then(|name| name.as_str().map(str::to_owned));
    let name = name.ok_or("a plan has no name")?;
    Hostname::from_str(&name).map_err(|e| format!("the plan's name {name:?} {e}"))?;
    // What is left out is as in the plan that is replaced, or as in `standard`.
    let base = Limits::built_in(&name).unwrap_or_else(Limits::standard);
    let mut plan = Limits { plan: name.clone(), ..base };
    for (key, value) in table {
        let mut known = limits_of(&mut plan);
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let Some((_, limit)) = known.iter_mut().find(|(name, _)| *name == key) else {
            let hint = nearest(&key, names.iter().copied())
                .map_or_else(|| format!("there are {}", names.join(", ")), |near| format!("did you mean {near}?"));
            return Err(format!("the plan {name:?}: there is no {key:?}; {hint}"));
        };
        **limit = match &value {
            Value::String(text) if text == NONE => None,
            Value::Integer(number) => match u32::try_from(*number) {
                Ok(number) if number <= LIMIT_MAX => Some(number),
                _ => {
                    return Err(format!(
                        "the plan {name:?}: {key} = {number} is out of range: it goes from 0 to {LIMIT_MAX}"
                    ));
                }
            },
            _ => return Err(format!("the plan {name:?}: {key} takes a whole number, or {NONE:?}")),
        };
    }
    Ok(plan)
}

impl Field for Plans {
    const EXPECTS: &'static str = "tables [[plans]] in the file, each with a name and budgets and quotas";
    fn from_value(value: Value) -> Result<Self, Option<String>> {
        if value.is_str() {
            return Err(Some("plans can only be set in the file, as tables [[plans]]".to_owned()));
        }
        let tables: Vec<BTreeMap<String, Value>> =
            value.try_into().map_err(|e: toml::de::Error| Some(e.message().to_owned()))?;
        if tables.len() > PLANS_MAX {
            return Err(Some(format!("there are {}, and at most {PLANS_MAX} fit", tables.len())));
        }
        let mut plans: Vec<Limits> = Vec::new();
        for table in tables {
            let plan = read_plan(table).map_err(Some)?;
            if plans.iter().any(|other| other.plan == plan.plan) {
                return Err(Some(format!("the plan {:?} is there twice", plan.plan)));
            }
            plans.push(plan);
        }
        Ok(Self(plans))
    }
    fn shown(&self) -> Option<Value> {
        let table = |plan: &Limits| {
            let limit = |limit: Option<u32>| limit.map_or_else(|| Value::from(NONE), Value::from);
            let limits = named_limits(plan).into_iter().map(|(name, of)| (name.to_owned(), limit(of)));
            Value::Table(std::iter::once(("name".to_owned(), Value::from(plan.plan.as_str()))).chain(limits).collect())
        };
        Some(Value::Array(self.0.iter().map(table).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Plans, String> {
        let mut table: toml::Table = toml::from_str(text).unwrap();
        Plans::from_value(table.remove("plans").unwrap()).map_err(Option::unwrap_or_default)
    }

    #[test]
    fn a_plan_is_as_standard_where_it_says_nothing() {
        let plans = read("[[plans]]\nname = 'team'\ncomputes = 3\nkey_per_60_s = 'none'\n").unwrap();
        let team = Limits { plan: "team".into(), computes: Some(3), key_per_60_s: None, ..Limits::standard() };
        assert_eq!(plans.0, [team]);
        let plans = read("[[plans]]\nname = 'partner'\nmembers = 7\n").unwrap();
        assert_eq!(plans.0, [Limits { members: Some(7), ..Limits::partner() }]);
        assert_eq!(Plans::from_value(plans.shown().unwrap()).unwrap(), plans, "what is shown can be read again");
    }

    #[test]
    fn a_wrong_plan_says_what_is_wrong() {
        for (text, why) in [
            ("[[plans]]\ncomputes = 3\n", "a plan has no name"),
            ("[[plans]]\nname = 'a'\ncomputs = 3\n", "the plan \"a\": there is no \"computs\"; did you mean computes?"),
            (
                "[[plans]]\nname = 'a'\ncomputes = -1\n",
                "the plan \"a\": computes = -1 is out of range: it goes from 0 to 1000000000",
            ),
            ("[[plans]]\nname = 'a'\ncomputes = 'all'\n", "the plan \"a\": computes takes a whole number, or \"none\""),
            ("[[plans]]\nname = 'a'\n[[plans]]\nname = 'a'\n", "the plan \"a\" is there twice"),
        ] {
            assert_eq!(read(text).unwrap_err(), why);
        }
        assert!(read("plans = 3").is_err());
    }
}
