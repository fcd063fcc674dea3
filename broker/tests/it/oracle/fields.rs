//! The fields of generated records: one for each kind of column.

use chrono::{DateTime, FixedOffset, SecondsFormat};
use stratalog_storage::simulation::Dice;

use super::json::Json;
use super::records::{NOON_NS, scalar};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

/// Words that hit, nearly hit and miss each other.
pub(super) const WORDS: [&str; 24] = [
    "disk",
    "Disk",
    "DISK-FULL",
    "full",
    "fullness",
    "timeout",
    "time-out",
    "10.0.0.1",
    "110.0.0.1",
    "user_id=5",
    "user-id",
    "/api/v1/users",
    "error",
    "errors",
    "连接",
    "连接错误",
    "größe",
    "GRÖSSE",
    "e\u{301}té",
    "été",
    "エラー",
    "a",
    "b",
    "50%",
];
const GAPS: [&str; 7] = [" ", " ", " ", ", ", " - ", ": ", "\t"];
pub(super) const LEVELS: [&str; 5] = ["info", "warn", "ERROR", "error", "debug"];
pub(super) const HOSTS: [&str; 6] = ["web-1", "web-2", "Web-1", "10.0.0.1", "db", "größe.example"];
/// At the edges of 64-bit integers and of doubles, and beyond.
const EDGE_NUMBERS: [&str; 18] = [
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "9007199254740993",
    "1152921504606846976",
    "1e400",
    "-1e400",
    "1e300",
    "1E+2",
    "2.0",
    "-0",
    "-0.0",
    "0.1",
    "5e-324",
    "123456789012345678901234567890",
    "1e22",
];
/// Numbers that are all doubles by their spelling.
const DOUBLES: [&str; 12] = [
    "0.1",
    "-2.5",
    "1e300",
    "-1.7976931348623157e308",
    "5e-324",
    "1e-7",
    "1e21",
    "3.0",
    "1E2",
    "123456.789",
    "0.0",
    "-0.0",
];
const INTEGERS: [i64; 9] = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1 << 53, (1 << 53) + 1, i64::MAX - 1, i64::MAX];

/// An event time: mostly within hours, now and then any day of a century.
pub(super) fn time_ns(dice: &mut Dice) -> i64 {
    match dice.below(20) {
        0 => dice.below(365 * 100) as i64 * DAY + dice.below(DAY as u64) as i64,
        1 => NOON_NS,
        2 => NOON_NS - dice.below(400) as i64 * DAY,
        3 => NOON_NS + dice.below(10 * HOUR as u64) as i64,
        _ => NOON_NS + dice.below(36_000_000) as i64 * 1_000_000 - 5 * HOUR,
    }
}

/// The time in one of the forms that it can be written in.
pub(super) fn spelled_time(ns: i64, dice: &mut Dice) -> Json {
    let utc = DateTime::from_timestamp_nanos(ns);
    let whole = |unit: i64, least: i64| (ns % unit == 0 && ns / unit >= least).then_some(ns / unit);
    let millis = whole(1_000_000, 100_000_000_000).map(Json::int);
    let form = match dice.below(8) {
        0 => millis,
        1 => whole(SECOND, 0).map(Json::int),
        2 => whole(1_000, 100_000_000_000_000).map(|micros| Json::text(micros.to_string())),
        3 => whole(1, 100_000_000_000_000_000).map(Json::int),
        4 => {
            let east = FixedOffset::east_opt(5 * 3_600 + 30 * 60).expect("it is less than a day");
            Some(Json::text(utc.with_timezone(&east).to_rfc3339_opts(SecondsFormat::Nanos, false)))
        }
        5 => (ns % 1_000_000 == 0).then(|| Json::text(utc.format("%Y-%m-%d %H:%M:%S,%3f").to_string())),
        6 => (ns % SECOND == 0).then(|| Json::text(utc.format("%d/%b/%Y:%H:%M:%S +0000").to_string())),
        _ => None,
    };
    form.unwrap_or_else(|| Json::text(utc.to_rfc3339_opts(SecondsFormat::Nanos, true)))
}

/// A number at an edge, as it is spelled.
pub(super) fn edge_number(dice: &mut Dice) -> &'static str {
    pick(dice, &EDGE_NUMBERS)
}

/// A few words.
pub(super) fn message(dice: &mut Dice) -> String {
    let mut text = String::new();
    for n in 0..dice.below(7) {
        if n > 0 {
            text.push_str(pick(dice, &GAPS));
        }
        text.push_str(pick(dice, &WORDS));
    }
    text
}

/// Every field but the time, each missing now and then, in any order.
pub(super) fn fields(dice: &mut Dice) -> Vec<(String, Json)> {
    let mut fields: Vec<(String, Json)> = Vec::new();
    let mut add = |dice: &mut Dice, name: &str, of_ten: u64, value: fn(&mut Dice) -> Json| {
        if dice.chance(of_ten, 10) {
            let value = if dice.chance(1, 20) { Json::Null } else { value(dice) };
            let at = dice.below(fields.len() as u64 + 1) as usize;
            fields.insert(at, (name.to_owned(), value));
        }
    };
    add(dice, "flag", 7, |dice| Json::Bool(dice.chance(1, 3)));
    add(dice, "n", 8, |dice| Json::int(dice.below(46) as i64 - 5));
    add(dice, "edge", 6, |dice| Json::int(*dice.pick(&INTEGERS).expect("there are some")));
    add(dice, "x", 8, |dice| match dice.below(3) {
        0 => Json::int(dice.below(100) as i64 - 50),
        _ => Json::Number(format!("{:?}", dice.below(2_000) as f64 / 8.0 - 100.0)),
    });
    add(dice, "double", 6, |dice| Json::Number(pick(dice, &DOUBLES).to_owned()));
    add(dice, "level", 9, |dice| Json::text(pick(dice, &LEVELS)));
    add(dice, "message", 9, |dice| Json::text(message(dice)));
    add(dice, "host", 8, |dice| Json::text(pick(dice, &HOSTS)));
    add(dice, "mixed", 8, scalar);
    add(dice, "tags", 4, |dice| Json::Array((0..dice.below(4)).map(|_| scalar(dice)).collect()));
    add(dice, "user-id", 5, |dice| Json::text(format!("u{}", dice.below(30))));
    add(dice, "größe \"q\"", 4, |dice| Json::int(dice.below(10) as i64));
    add(dice, "", 2, |dice| Json::text(pick(dice, &LEVELS)));
    add(dice, "_time", 2, |dice| Json::int(dice.below(9) as i64));
    add(dice, "_other", 2, |_| Json::Bool(true));
    add(dice, "rare", 1, |dice| if dice.chance(1, 3) { scalar(dice) } else { Json::text("rare") });
    add_nested(dice, &mut fields);
    repeat_a_key(dice, &mut fields);
    fields
}

/// `http` as an object, or as dotted keys; now and then an object in many objects.
fn add_nested(dice: &mut Dice, fields: &mut Vec<(String, Json)>) {
    let status = Json::int(*dice.pick(&[200, 200, 404, 500]).expect("there are some"));
    let path = Json::text(format!("/api/v{}/users", dice.below(3)));
    let user = Json::Object(vec![("name".to_owned(), Json::text(message(dice)))]);
    match dice.below(4) {
        0 => fields.extend([("http.status".to_owned(), status), ("http.path".to_owned(), path)]),
        1 => {}
        _ => {
            let members = [("status", status), ("path", path), ("user", user), ("none", Json::Object(Vec::new()))];
            let members = members.map(|(name, value)| (name.to_owned(), value));
            fields.push((
                "http".to_owned(),
                Json::Object(members.into_iter().take(1 + dice.below(4) as usize).collect()),
            ));
        }
    }
    if dice.chance(1, 60) {
        let bottom = Json::Object(vec![("bottom".to_owned(), Json::text("deep disk"))]);
        let deep = (0..40).fold(bottom, |inner, _| Json::Object(vec![("d".to_owned(), inner)]));
        fields.push(("d".to_owned(), deep));
    }
}

/// A key that comes twice: the first value is another one.
fn repeat_a_key(dice: &mut Dice, fields: &mut Vec<(String, Json)>) {
    if fields.is_empty() || !dice.chance(1, 15) {
        return;
    }
    let (key, _) = fields[dice.below(fields.len() as u64) as usize].clone();
    let first = fields.iter().position(|(name, _)| *name == key).expect("it is there");
    let object = Json::Object(vec![("lost".to_owned(), Json::int(1))]);
    let other = if dice.chance(1, 3) { object } else { Json::text("lost") };
    // A key that is written before the other's place is the one that loses.
    fields.insert(dice.below(first as u64 + 1) as usize, (key, other));
}

fn pick(dice: &mut Dice, from: &[&'static str]) -> &'static str {
    dice.pick(from).expect("there are some")
}
