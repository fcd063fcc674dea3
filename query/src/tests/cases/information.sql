SELECT * FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name;

SELECT column_name, ordinal_position, is_nullable, data_type FROM information_schema.columns
WHERE table_name = 'orders.v1' ORDER BY ordinal_position;

SELECT columns.column_name FROM information_schema.columns WHERE information_schema.columns.table_name = 'logs' ORDER BY 1;

SELECT * FROM information_schema.tabels;

SELECT * FROM system.dead_letters;

SELECT count(*) FROM system.dead_letters d WHERE d.topic = 'orders.v1';

SELECT reason FROM system.dead_letters WHERE topic = 'logs' AND offset = 4;

SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' ORDER BY 1;

SELECT * FROM system.shards;

SELECT * FROM system.jobs;

SELECT * FROM system.groups ORDER BY 1, 4;

SELECT name FROM system.settings;

SELECT time, level FROM system.events;
