#![no_main]

stratalog_fuzz::target!(stratalog_proto::fuzzing::HEADS);
