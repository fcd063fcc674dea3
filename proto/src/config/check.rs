//! Which settings of a topic go together, and which of them may change.

use super::{Format, TopicConfig};
use crate::{Code, Error};

impl TopicConfig {
    /// Whether the settings go together: one that would have no effect is a mistake of whoever sets it.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`], naming the settings and what to do.
    pub fn check(&self) -> Result<(), Error> {
        let format = self.format.name();
        if self.pattern.is_some() && self.format != Format::Text {
            return invalid(format!(
                "`pattern` takes values of format text apart, and the format is {format}; set format=text as well, or \
                 leave `pattern` empty"
            ));
        }
        if self.time_field.is_some() && !self.has_fields() {
            let instead = if self.format == Format::Text { "set a `pattern` that names it, or " } else { "" };
            return invalid(format!(
                "`time.field` names a field of a record, and a record of format {format} has none; {instead}leave \
                 `time.field` empty, so that a row has the time of its record"
            ));
        }
        if !self.columns.is_empty() && self.format == Format::Raw {
            return invalid("`columns` declares columns of rows, and a topic of format raw has no rows".to_owned());
        }
        Ok(())
    }

    /// Whether a topic with rows of these settings may have those of `new` from now on.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`], naming the setting and what to do.
    pub fn check_change(&self, new: &Self) -> Result<(), Error> {
        if new.bucket_ns != self.bucket_ns {
            return invalid(
                "`bucket` is fixed: segments were made with it; create another topic with the other width".to_owned(),
            );
        }
        if new.format != self.format && [new.format, self.format].contains(&Format::Raw) {
            let (from, to) = (self.format.name(), new.format.name());
            return invalid(format!(
                "`format` cannot change from {from} to {to}: records of a raw topic are no rows, and those of any other \
                 are; create another topic"
            ));
        }
        new.check()
    }

    /// Whether a value has fields that a setting can name.
    fn has_fields(&self) -> bool {
        match self.format {
            Format::Json | Format::Logfmt => true,
            Format::Text => self.pattern.is_some(),
            Format::Raw => false,
        }
    }
}

fn invalid(message: String) -> Result<(), Error> {
    Err(Error::new(Code::InvalidConfig, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> TopicConfig {
        let mut config = TopicConfig::default();
        settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
        config
    }

    #[test]
    fn settings_without_effect_are_refused() {
        for (settings, what) in [
            (&[("pattern", "(?<a>x)")][..], "set format=text as well"),
            (&[("format", "text"), ("time.field", "ts")], "set a `pattern`"),
            (&[("format", "raw"), ("time.field", "ts")], "leave `time.field` empty"),
            (&[("format", "raw"), ("columns", "a text")], "has no rows"),
        ] {
            let error = config(settings).check().unwrap_err();
            assert!(error.code == Code::InvalidConfig && error.message.contains(what), "{settings:?}: {error}");
        }
        for settings in [
            &[("format", "text"), ("pattern", "(?<ts>.*)"), ("time.field", "ts")][..],
            &[("format", "logfmt"), ("time.field", "ts")],
            &[("format", "raw"), ("retention", "1d"), ("multiline", "^x")],
            &[("format", "text"), ("columns", "message text not null")],
        ] {
            config(settings).check().unwrap();
        }
    }

    #[test]
    fn a_format_changes_to_another_that_has_rows() {
        let formats = ["json", "text", "logfmt", "raw"].map(|format| config(&[("format", format)]));
        for from in &formats {
            for to in &formats {
                let raw = [from, to].map(|config| config.format == Format::Raw);
                assert_eq!(from.check_change(to).is_ok(), raw[0] == raw[1], "{:?} to {:?}", from.format, to.format);
            }
        }
        let error = formats[0].check_change(&config(&[("bucket", "1d")])).unwrap_err();
        assert!(error.message.contains("`bucket` is fixed"), "{error}");
        let error = config(&[("time.field", "ts")]).check_change(&config(&[("format", "text"), ("time.field", "ts")]));
        assert!(error.unwrap_err().message.contains("time.field"));
    }
}
