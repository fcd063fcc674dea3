//! Well-known patterns, by the names that users of grok know them by. None of them looks around or back: they are in
//! the syntax of the `regex` crate. Columns have the names that grok gave them before the Elastic Common Schema, and a
//! lone `-` for a value that is not there is null.

/// The pattern of this name.
pub(super) fn known(name: &str) -> Option<&'static str> {
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, pattern)| *pattern)
}

/// The names of all.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|(name, _)| *name)
}

const KNOWN: &[(&str, &str)] = &[
    ("INT", r"[+-]?[0-9]+"),
    ("POSINT", r"[1-9][0-9]*"),
    ("NONNEGINT", r"[0-9]+"),
    ("BASE10NUM", r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"),
    ("NUMBER", r"%{BASE10NUM}"),
    ("BASE16NUM", r"[+-]?(?:0x)?[0-9A-Fa-f]+"),
    ("WORD", r"\w+"),
    ("NOTSPACE", r"\S+"),
    ("SPACE", r"\s*"),
    ("DATA", r"(?s:.*?)"),
    ("GREEDYDATA", r"(?s:.*)"),
    ("LINE", r"[^\r\n]*"),
    ("QUOTEDSTRING", r#""(?s:\\.|[^\\"])*"|'(?s:\\.|[^\\'])*'"#),
    ("QS", r"%{QUOTEDSTRING}"),
    ("QUOTEDBODY", r#"(?s:\\.|[^\\"])*"#),
    ("UUID", r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
    // Who and where.
    ("USERNAME", r"[0-9A-Za-z._-]+"),
    ("USER", r"%{USERNAME}"),
    ("EMAILLOCALPART", r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~.-]+"),
    ("EMAILADDRESS", r"%{EMAILLOCALPART}@%{HOSTNAME}"),
    ("MAC", r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}"),
    ("IPV4PART", r"25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]"),
    ("IPV4", r"(?:%{IPV4PART}\.){3}%{IPV4PART}"),
    ("IPV6", r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:%{IPV4}|[0-9A-Fa-f]{0,4})(?:%[0-9A-Za-z]+)?"),
    ("IP", r"%{IPV6}|%{IPV4}"),
    ("HOSTNAME", r"[0-9A-Za-z][0-9A-Za-z_-]*(?:\.[0-9A-Za-z][0-9A-Za-z_-]*)*\.?"),
    ("IPORHOST", r"%{IP}|%{HOSTNAME}"),
    ("HOSTPORT", r"%{IPORHOST}:%{POSINT}"),
    // Paths and addresses.
    ("UNIXPATH", r"/[^\s]*"),
    ("WINPATH", r"(?:[A-Za-z]:|\\)(?:\\[^\\?*\r\n]*)+"),
    ("PATH", r"%{UNIXPATH}|%{WINPATH}"),
    ("URIPROTO", r"[A-Za-z][0-9A-Za-z+.-]*"),
    ("URIHOST", r"%{IPORHOST}(?::%{POSINT})?"),
    ("URIPATH", r"/[^\s?#]*"),
    ("URIQUERY", r"[^\s#]*"),
    ("URIPARAM", r"\?%{URIQUERY}"),
    ("URIPATHPARAM", r"%{URIPATH}(?:%{URIPARAM})?"),
    ("URI", r"%{URIPROTO}://(?:%{USER}(?::[^@\s]*)?@)?%{URIHOST}?%{URIPATHPARAM}?"),
    // Times.
    (
        "MONTH",
        "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?|\
         Nov(?:ember)?|Dec(?:ember)?",
    ),
    ("MONTHNUM", r"0[1-9]|1[0-2]|[1-9]"),
    ("MONTHDAY", r"0[1-9]|[12][0-9]|3[01]|[1-9]"),
    ("DAY", "Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?"),
    ("YEAR", r"[0-9]{4}|[0-9]{2}"),
    ("HOUR", r"2[0-3]|[01]?[0-9]"),
    ("MINUTE", r"[0-5][0-9]"),
    ("SECOND", r"(?:60|[0-5]?[0-9])(?:[:.,][0-9]+)?"),
    ("TIME", r"%{HOUR}:%{MINUTE}(?::%{SECOND})?"),
    ("DATE_US", r"%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}"),
    ("DATE_EU", r"%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}"),
    ("DATE", r"%{DATE_US}|%{DATE_EU}"),
    ("DATESTAMP", r"%{DATE}[- ]%{TIME}"),
    ("TZ", r"[A-Z]{3,4}"),
    ("ISO8601_TIMEZONE", r"Z|[+-]%{HOUR}(?::?%{MINUTE})?"),
    (
        "TIMESTAMP_ISO8601",
        r"%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?(?: ?%{ISO8601_TIMEZONE})?",
    ),
    ("DATESTAMP_RFC822", r"%{DAY} %{MONTH} %{MONTHDAY} %{YEAR} %{TIME} %{TZ}"),
    ("DATESTAMP_RFC2822", r"%{DAY}, %{MONTHDAY} %{MONTH} %{YEAR} %{TIME} %{ISO8601_TIMEZONE}"),
    ("HTTPDATE", r"%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}"),
    ("SYSLOGTIMESTAMP", r"%{MONTH} +%{MONTHDAY} %{TIME}"),
    // Whole lines.
    (
        "LOGLEVEL",
        "(?i:trace|debug|notice|info(?:rmation)?|warn(?:ing)?|error|err|severe|fatal|critical|crit|alert|emergency|emerg|\
         panic)",
    ),
    ("PROG", r"[\x21-\x5a\x5c\x5e-\x7e]+"),
    ("SYSLOGPROG", r"%{PROG:program}(?:\[%{POSINT:pid:int}\])?"),
    ("SYSLOGHOST", r"%{IPORHOST}"),
    ("SYSLOGFACILITY", r"<%{NONNEGINT:facility:int}.%{NONNEGINT:priority:int}>"),
    ("SYSLOGBASE", r"%{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource} %{SYSLOGPROG}:"),
    ("SYSLOGLINE", r"^(?:<%{NONNEGINT:priority:int}>)?%{SYSLOGBASE} %{GREEDYDATA:text}"),
    (
        "COMMONAPACHELOG",
        concat!(
            r"%{IPORHOST:clientip} (?:-|%{NOTSPACE:ident}) (?:-|%{NOTSPACE:auth}) \[%{HTTPDATE:timestamp}\] ",
            r#""(?:%{WORD:verb} %{NOTSPACE:request}(?: HTTP/%{NUMBER:httpversion})?|-|%{QUOTEDBODY:rawrequest})" "#,
            r"(?:-|%{INT:response:int}) (?:-|%{INT:bytes:int})",
        ),
    ),
    ("COMBINEDAPACHELOG", r#"%{COMMONAPACHELOG} "(?:-|%{QUOTEDBODY:referrer})" "(?:-|%{QUOTEDBODY:agent})""#),
    ("NGINXACCESS", r#"%{COMBINEDAPACHELOG}(?: "(?:-|%{QUOTEDBODY:forwarded})")?"#),
    ("JAVACLASS", r"(?:[0-9A-Za-z_$-]+\.)*[0-9A-Za-z_$]+"),
    ("JAVATHREAD", r"[^\]\r\n]*"),
    ("JAVAMETHOD", r"<(?:cl)?init>|[A-Za-z_$][0-9A-Za-z_$]*"),
    ("JAVAFILE", r"[0-9A-Za-z_$. -]+"),
    ("JAVASTACKTRACEPART", r"\s*at %{JAVACLASS:class}\.%{JAVAMETHOD:method}\(%{JAVAFILE:file}(?::%{INT:line:int})?\)"),
    ("STACKTRACE", r"(?:\r?\n%{GREEDYDATA:stacktrace})?"),
    // Logback and Spring Boot, with the thread before the level or behind it.
    (
        "JAVALOG",
        concat!(
            r"^(?:%{TIMESTAMP_ISO8601:timestamp}|%{TIME:timestamp}) +",
            r"(?:%{LOGLEVEL:level} +(?:%{INT:pid:int} +--- +)?\[ *%{JAVATHREAD:thread}\]|",
            r"\[ *%{JAVATHREAD:thread}\] +%{LOGLEVEL:level}) +",
            r"%{NOTSPACE:logger} +[:-] +%{LINE:text}%{STACKTRACE}",
        ),
    ),
    // `[%d] %p %m (%c)%n`, as Kafka and ZooKeeper log.
    (
        "LOG4J",
        r"^\[%{TIMESTAMP_ISO8601:timestamp}\] +%{LOGLEVEL:level} +%{LINE:text} \(%{JAVACLASS:logger}\)%{STACKTRACE}",
    ),
];
