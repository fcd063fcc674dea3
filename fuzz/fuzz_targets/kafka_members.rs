#![no_main]

stratalog_fuzz::target!(stratalog_fuzz::groups::lies::MEMBERS);
