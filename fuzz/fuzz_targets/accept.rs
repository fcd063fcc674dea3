#![no_main]

stratalog_fuzz::target!(stratalog_transport::fuzzing::ACCEPT);
