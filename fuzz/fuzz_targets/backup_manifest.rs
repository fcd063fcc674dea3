#![no_main]

stratalog_fuzz::target!(stratalog_backup::fuzzing::MANIFEST);
