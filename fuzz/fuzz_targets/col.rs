#![no_main]

stratalog_fuzz::target!(stratalog_storage::fuzzing::COL);
