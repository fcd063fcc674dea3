#![no_main]

stratalog_fuzz::target!(stratalog_index::fuzzing::SEARCH);
