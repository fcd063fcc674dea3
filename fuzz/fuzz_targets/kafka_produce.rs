#![no_main]

stratalog_fuzz::target!(stratalog_fuzz::kafka::fuzzing::PRODUCE);
